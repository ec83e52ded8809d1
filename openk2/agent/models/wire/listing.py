"""What an endpoint lists of its models.

In: an endpoint, perhaps a model's name. Out: a model's name and its window.
Must not know: what the model is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from openk2.agent.model import ModelError
from openk2.agent.models.wire.endpoint import Endpoint

Json = dict[str, Any]

_WINDOW_FIELDS = ("context_length", "max_model_len", "context_window", "max_input_tokens")
"""Kimi and this project, vLLM and SGLang, Groq, Anthropic."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One model."""

    id: str
    window: int | None = None
    """None: the endpoint does not say."""


async def find_model(endpoint: Endpoint, path: str, model: str | None) -> Listed:
    """Find a model, or the first, in the list at `path`.

    Raises:
        ModelError: The endpoint cannot be reached, or no model is named and it lists none.
    """
    try:
        document = await endpoint.document(path)
    except ModelError as error:
        # Not every vendor lists its models; whether the key is right will show.
        if model is None or error.fault == "network":
            raise
        return Listed(model)
    entries = _entries(document)
    for entry in entries:
        if model in (None, entry["id"]):
            return Listed(entry["id"], _window(entry))
    if model is None:
        raise ModelError(f"{endpoint.base}{path} lists no model; name one", "refused")
    return Listed(model)


def _entries(document: object) -> list[Json]:
    data = cast(Json, document).get("data") if isinstance(document, dict) else None
    listed = cast(list[object], data) if isinstance(data, list) else []
    entries = [cast(Json, entry) for entry in listed if isinstance(entry, dict)]
    return [entry for entry in entries if isinstance(entry.get("id"), str)]


def _window(entry: Json) -> int | None:
    found = (entry.get(name) for name in _WINDOW_FIELDS)
    return next((size for size in found if isinstance(size, int) and size > 0), None)
