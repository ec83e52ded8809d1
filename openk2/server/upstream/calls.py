"""The tool-call deltas of one answer, however a server cuts them, to whole calls.

In: the entries of `delta.tool_calls`. Out: calls in the order they were begun.
Must not know: schemas, events, other parts of an answer.

Servers are known to leave out the index, to give every call index 0, to repeat id and name on
every delta, to send a whole call at once, to cut a name in two, to mix the deltas of two calls,
and to send arguments as an object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from openk2.server.upstream.lenient_json import read_json
from openk2.server.upstream.validation import write_json

Json = dict[str, Any]

MAX_CALLS = 1024
"""More calls than any answer has; further ones are added to the last and fail there."""


@dataclass(slots=True)
class RawCall:
    """One call as a server wrote it."""

    identity: str | None = None
    name: str = ""
    pieces: list[str] = field(default_factory=lambda: [])
    """Of the arguments."""
    taken: int = 0
    """How many of `pieces` the reader has passed on; its own mark."""
    index: int | None = None
    """The call's number in the answer once it was announced."""

    @property
    def arguments(self) -> str:
        """All of the arguments so far."""
        return whole_text("".join(self.pieces))

    @property
    def complete(self) -> bool:
        """Whether the arguments are a whole JSON object, so that no more can belong to them."""
        text = self.arguments
        if not text.rstrip().endswith("}"):
            return False
        try:
            return isinstance(read_json(text), dict)
        except ValueError:
            return False


class CallAssembler:
    """Finds out to which call each delta belongs."""

    def __init__(self) -> None:
        """Start an answer."""
        self.calls: list[RawCall] = []
        self._by_index: dict[int, RawCall] = {}

    def add(self, delta: Json) -> RawCall:
        """Add one delta to its call, and return that."""
        function = delta.get("function")
        function = cast("Json", function) if isinstance(function, dict) else {}
        identity, name = _word(delta.get("id")), _word(function.get("name"))
        call = self._find(delta.get("index"), identity, name)
        call.identity = call.identity or identity
        # A name may come in two pieces, or come again with every delta.
        if name and name != call.name and not call.pieces:
            call.name += name
        arguments = function.get("arguments")
        if isinstance(arguments, dict | list):
            arguments = write_json(arguments)
        if isinstance(arguments, str) and arguments:
            call.pieces.append(arguments)
        return call

    def _find(self, index: object, identity: str | None, name: str | None) -> RawCall:
        known = self._by_index.get(index) if isinstance(index, int) else self._last(identity)
        if known is not None:
            other = bool(identity and known.identity and identity != known.identity and name)
            again = name is not None and identity is None and known.complete
            if not other and not again:
                return known
        if len(self.calls) >= MAX_CALLS:
            return self.calls[-1]
        call = RawCall()
        self.calls.append(call)
        if isinstance(index, int):
            self._by_index[index] = call
        return call

    def _last(self, identity: str | None) -> RawCall | None:
        """Without an index, an id names a call, and the rest belongs to the one begun last."""
        if identity is not None:
            for call in self.calls:
                if call.identity == identity:
                    return call
        return self.calls[-1] if self.calls else None


def whole_text(text: str) -> str:
    """Replace halves of surrogate pairs, which no client could be sent."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _word(value: object) -> str | None:
    return whole_text(value) if isinstance(value, str) and value else None
