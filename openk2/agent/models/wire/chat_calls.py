"""The tool-call deltas of a Chat Completions answer, however an endpoint cuts them, as events.

In: the entries of `delta.tool_calls`. Out: a start and the arguments of every call, in order.
Must not know: other parts of an answer, or whether the arguments suit the tool.

Endpoints are known to leave out the index or the id, to give every call index 0 or the same id, to
repeat the name with every delta, to cut a name in two, to send a whole call at once, and to send
the arguments as an object.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from openk2.agent.model import ModelRequest
from openk2.types import Event, ToolCallArguments, ToolCallStart

Json = dict[str, Any]

MAX_CALLS = 256
"""More calls than an answer has; what comes beyond is added to the last and fails there."""


@dataclass(slots=True)
class _Call:
    index: int
    """Its number in this answer."""
    identity: str | None = None
    """As the endpoint wrote it."""
    place: int | None = None
    """The `index` that the endpoint wrote."""
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])
    announced: bool = False

    def complete(self) -> bool:
        """Whether the arguments are a whole object, so that no more can belong to them."""
        text = "".join(self.arguments)
        if not text.rstrip().endswith("}"):
            return False
        try:
            return isinstance(json.loads(text), dict)
        except (ValueError, RecursionError):
            return False


class CallReader:
    """Finds out to which call each delta belongs, and names the calls that come without an id."""

    def __init__(self, request: ModelRequest) -> None:
        """Start the answer to `request`: ids that it has are not given again."""
        calls = [call for message in request.messages for call in message.tool_calls]
        self._taken = {call.id for call in calls}
        self._next = len(calls)
        self._calls: list[_Call] = []

    def __len__(self) -> int:
        """Return how many calls there are so far."""
        return len(self._calls)

    def feed(self, delta: object) -> Iterator[Event]:
        """Yield the events of one delta."""
        if not isinstance(delta, dict):
            return
        fields = cast(Json, delta)
        value = fields.get("function")
        function = cast(Json, value) if isinstance(value, dict) else {}
        identity, name = _word(fields.get("id")), _word(function.get("name"))
        place = fields.get("index")
        known = len(self._calls)
        arguments = function.get("arguments")
        if isinstance(arguments, dict | list):
            arguments = json.dumps(arguments, ensure_ascii=False)
        text = _word(arguments)
        place = place if isinstance(place, int) else None
        call = self._known(place, identity)
        alone = place is None and text is not None
        if call is None or (name and _begins_another(call, identity, alone=alone)):
            call = self._begin(place)
        if len(self._calls) > known and known:
            yield from self._announce(self._calls[known - 1])
        call.identity = call.identity or identity
        if name and name != call.name and not call.announced:
            call.name += name
        if text is not None:
            yield from self._announce(call)
            call.arguments.append(text)
            yield ToolCallArguments(call.index, text)

    def close(self, *, cut: bool) -> Iterator[Event]:
        """Yield what is left; a call without arguments has none, unless the answer was cut."""
        for call in self._calls:
            yield from self._announce(call)
            if not cut and not "".join(call.arguments).strip():
                yield ToolCallArguments(call.index, "{}")

    def _announce(self, call: _Call) -> Iterator[Event]:
        """Begin a call: its name is whole once its arguments, or the next call, begin."""
        if not call.announced:
            call.announced = True
            yield ToolCallStart(call.index, self._identity(call), call.name)

    def _identity(self, call: _Call) -> str:
        identity = call.identity
        if identity is None or identity in self._taken:
            identity = f"functions.{call.name}:{self._next}"
            while identity in self._taken:
                self._next += 1
                identity = f"functions.{call.name}:{self._next}"
        self._next += 1
        self._taken.add(identity)
        return identity

    def _begin(self, place: int | None) -> _Call:
        if len(self._calls) >= MAX_CALLS:
            return self._calls[-1]
        call = _Call(len(self._calls), place=place)
        self._calls.append(call)
        return call

    def _known(self, place: int | None, identity: str | None) -> _Call | None:
        latest_first = self._calls[::-1]
        if place is not None:
            return next((call for call in latest_first if call.place == place), None)
        if identity is not None:
            # Without an index, an id that is new begins a call.
            return next((call for call in latest_first if call.identity == identity), None)
        return self._calls[-1] if self._calls else None


def _begins_another(known: _Call, identity: str | None, *, alone: bool) -> bool:
    """Tell whether a named delta that seems to belong to `known` begins another call.

    Args:
        known: The call with the same index, or without one with the same id, or the last.
        identity: The delta's id.
        alone: It has arguments and no index: it may be a whole call, under an id that others have.
    """
    if identity is not None and known.identity is not None:
        return identity != known.identity or (alone and known.complete())
    return known.identity is None and known.complete()


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
