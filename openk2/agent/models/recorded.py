"""A model that says again what was recorded, and only to the same questions.

In: hashes of requests with the replies they got; requests. Out: those replies' events.
Must not know: where the record is from.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from openk2.agent.canonical import digest
from openk2.agent.model import ModelError, ModelRequest, Price, Reply
from openk2.agent.models.estimate import estimate
from openk2.agent.models.wire.replies import reply_events
from openk2.types import Event


def request_hash(request: ModelRequest) -> str:
    """Return what equal requests share on every machine."""
    return digest(request)


class Recorded:
    """Says recorded replies in order; `ChatModel`."""

    def __init__(
        self,
        replies: Sequence[tuple[str, Reply]],
        *,
        name: str = "recorded",
        context_window: int = 131_072,
        price: Price | None = None,
    ) -> None:
        """Say `replies`, each under the `request_hash` that it once answered."""
        self._replies = replies
        self._said = 0
        self.name = name
        """Of the model that was recorded."""
        self.context_window = context_window
        """Its window."""
        self.price = price or Price()
        """What its tokens cost."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Event, None]:
        """Say the next reply.

        Raises:
            ModelError: The record is over, or its next reply answered something else.
        """
        number = self._said
        if number >= len(self._replies):
            raise ModelError(f"the record of {self.name} has {number} replies, not more", "refused")
        expected, reply = self._replies[number]
        asked = request_hash(request)
        if asked != expected:
            raise ModelError(
                f"reply {number + 1} of the record of {self.name} answered request "
                f"{expected[:12]}, but {asked[:12]} is asked: the run has taken another way",
                "refused",
            )
        self._said += 1
        for event in reply_events(reply):
            yield event

    async def count_tokens(self, request: ModelRequest) -> int:
        """Estimate the prompt's tokens."""
        return estimate(request)

    async def close(self) -> None:
        """Do nothing: there are no connections."""
