"""Models as both vendors' clients list them: one object that carries the keys of both.

In: `Model`s. Out: dictionaries ready for `json.dumps`.
Must not know: requests, or who serves the models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openk2.server.dialects import anthropic_events, openai_events
from openk2.server.request import Model

Json = dict[str, Any]


def encode_model(model: Model) -> Json:
    """Return one entry of `GET /v1/models`."""
    return openai_events.encode_model(model) | anthropic_events.model_keys(model)


def encode_models(models: Sequence[Model]) -> Json:
    """Return the list of all models; it has one page."""
    return {
        "object": "list",
        "data": [encode_model(model) for model in models],
        "has_more": False,
        "first_id": models[0].id if models else None,
        "last_id": models[-1].id if models else None,
    }
