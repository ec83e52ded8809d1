"""Token ids to events, as the model writes them: reasoning, text, tool calls.

In: the ids of one assistant turn, in any chunking. Out: `openk2.types` events.
Must not know: the engine, stop strings, usage, which API will encode the events.

Nothing the model writes raises: a malformed call header still gives a call with a fresh id, a
call that names no tool is dropped, and a turn that is cut off gives what came.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from enum import Enum, auto

from openk2.text.template import (
    ARGUMENT_BEGIN,
    CALL_BEGIN,
    CALL_END,
    SECTION_BEGIN,
    SECTION_END,
    THINK,
    THINK_END,
    call_id,
)
from openk2.text.tokenizer import Tokenizer
from openk2.types import (
    Event,
    Finish,
    FinishReason,
    Message,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallArguments,
    ToolCallStart,
)


class _State(Enum):
    REASONING = auto()
    TEXT = auto()
    SECTION = auto()  # in a tool section, between calls it can use: what is written is dropped
    HEADER = auto()
    ARGUMENTS = auto()


class StreamParser:
    """Reads one assistant turn token by token."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        first_call_index: int = 0,
        thinking: bool = False,
        max_calls: int | None = None,
    ) -> None:
        """Start a turn.

        Args:
            tokenizer: The vocabulary the ids belong to.
            first_call_index: Tool calls in the conversation so far (`next_call_index`).
            thinking: The turn begins with reasoning even if `<think>` is missing.
            max_calls: Tool calls after the first so many are dropped.
        """
        self._tokenizer = tokenizer
        self._special_names = {token: name for name, token in tokenizer.specials.items()}
        self._first_call_index = first_call_index
        self._state = _State.REASONING if thinking else _State.TEXT
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._header = ""
        self._n_calls = 0
        self._max_calls = max_calls
        self._after_calls = False

    @property
    def reasoning(self) -> bool:
        """Whether the next ordinary token is a part of the thinking."""
        return self._state is _State.REASONING

    @property
    def speaking(self) -> bool:
        """Whether the next ordinary token is a part of the visible text."""
        return self._state is _State.TEXT

    @property
    def calls_complete(self) -> bool:
        """Whether the last of `max_calls` calls was written to its end."""
        between = self._state is not _State.ARGUMENTS
        return bool(self._max_calls) and self._n_calls == self._max_calls and between

    def feed(self, ids: Iterable[int]) -> list[Event]:
        """Return the events that `ids` complete; a half-received character waits."""
        events: list[Event] = []
        run = bytearray()
        for token in ids:
            name = self._special_names.get(token)
            if name is None:
                run += self._tokenizer.token_bytes(token)
                continue
            self._write(bytes(run), events, final=True)
            run.clear()
            self._special(name, events)
        self._write(bytes(run), events)
        return events

    def finish(self, reason: FinishReason) -> list[Event]:
        """End the turn: flush what waits; a stop after a tool call finishes as `tool_calls`."""
        events: list[Event] = []
        self._write(b"", events, final=True)
        if reason == "stop":
            self._start_call(events)
            if self._n_calls:
                reason = "tool_calls"
        events.append(Finish(reason))
        return events

    def _write(self, data: bytes, events: list[Event], *, final: bool = False) -> None:
        text = self._decoder.decode(data, final)
        if not text:
            return
        if self._state is _State.REASONING:
            events.append(ReasoningDelta(text))
        elif self._state is _State.TEXT:
            # A line break that only sets the calls off is no content.
            text = text.lstrip() if self._after_calls else text
            if text:
                self._after_calls = False
                events.append(TextDelta(text))
        elif self._state is _State.HEADER:
            self._header += text
        elif self._state is _State.ARGUMENTS:
            events.append(ToolCallArguments(self._n_calls - 1, text))

    def _special(self, name: str, events: list[Event]) -> None:
        """Move between states; a token that has no business here is dropped."""
        speaking = self._state in (_State.REASONING, _State.TEXT)
        if name == THINK and self._state is _State.TEXT:
            self._state = _State.REASONING
        elif name == THINK_END and self._state is _State.REASONING:
            self._state = _State.TEXT
        elif name == SECTION_BEGIN and speaking:
            self._state = _State.SECTION  # ends reasoning too, should `</think>` be missing
        elif name == CALL_BEGIN:
            self._start_call(events)
            self._state = _State.HEADER
        elif name == ARGUMENT_BEGIN and self._state is _State.HEADER:
            started = self._start_call(events)
            self._state = _State.ARGUMENTS if started else _State.SECTION
        elif name in (CALL_END, SECTION_END) and not speaking:
            self._start_call(events)
            self._state = _State.SECTION if name == CALL_END else _State.TEXT
            self._after_calls = self._n_calls > 0

    def _start_call(self, events: list[Event]) -> bool:
        """Announce the call whose header was read; false if there is none that can be used."""
        header, self._header = self._header, ""
        name = _called_name(header.strip()).strip()
        if self._state is not _State.HEADER or not name or self._n_calls == self._max_calls:
            return False
        # Regenerated, never the model's own: it stays unique whatever the model counts.
        identity = call_id(name, self._first_call_index + self._n_calls)
        events.append(ToolCallStart(self._n_calls, identity, name))
        self._n_calls += 1
        return True


def _called_name(header: str) -> str:
    """Read NAME of `functions.NAME:IDX`; it may hold anything, prefix and index may be missing."""
    header = header.removeprefix("functions.")
    name, colon, index = header.rpartition(":")
    return name if colon and (not index or index.isdecimal()) else header


def assemble(events: Iterable[Event]) -> Message:
    """Put a turn's events together into the assistant message they tell."""
    content: list[str] = []
    reasoning: list[str] = []
    starts: list[ToolCallStart] = []
    arguments: list[list[str]] = []
    for event in events:
        if isinstance(event, TextDelta):
            content.append(event.text)
        elif isinstance(event, ReasoningDelta):
            reasoning.append(event.text)
        elif isinstance(event, ToolCallStart):
            starts.append(event)
            arguments.append([])
        elif isinstance(event, ToolCallArguments):
            arguments[event.index].append(event.text)
    calls = zip(starts, arguments, strict=True)
    return Message(
        role="assistant",
        content="".join(content),
        reasoning="".join(reasoning),
        tool_calls=tuple(ToolCall(start.id, start.name, "".join(text)) for start, text in calls),
    )
