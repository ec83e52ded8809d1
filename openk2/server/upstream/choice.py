"""One choice of another server's answer: its deltas in, events out, its tool calls checked.

In: the entries of a chunk's `choices`. Out: `types.Event`s, all but PromptRead, Finish and Usage,
and what these will say.
Must not know: sockets, SSE, how an answer is asked for again.

Text streams at once. A tool call waits for its end, unless the server is known to hold it to its
schema: then it streams, and is checked afterwards to be counted. Text that comes after a call has
begun waits for the end of the answer: calls and text never interleave.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from openk2.server.upstream.calls import CallAssembler, RawCall, whole_text
from openk2.server.upstream.validation import CheckedCall, ToolValidator
from openk2.text.template import call_id
from openk2.types import (
    Event,
    FinishReason,
    Logprobs,
    ReasoningDelta,
    Sampling,
    TextDelta,
    TokenLogprob,
    ToolCallArguments,
    ToolCallStart,
)

Json = dict[str, Any]

_HALF = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair: its other half may be in the next chunk."""


@dataclass(slots=True)
class ToolCallStats:
    """What became of the tool calls that other servers wrote."""

    validated: int = 0
    """Calls that were checked."""
    repaired: int = 0
    """Of them, those that could be repaired here."""
    re_asked: int = 0
    """Of them, those that the model was asked to write again."""
    failed: int = 0
    """Of them, those that no client could use: invalid when written again, or already streamed."""


@dataclass(frozen=True, slots=True)
class CallRules:
    """What a request says about tool calls."""

    validator: ToolValidator
    first_index: int
    """K2 numbers calls over the conversation; the answer's first call gets this number."""
    most: int | None = None
    """Further calls are dropped; None: any number."""
    constrained: bool = False
    """Whether the server holds calls to their schema, so that they need not wait."""


class ChoiceReader:
    """Reads one choice."""

    def __init__(
        self, rules: CallRules, stats: ToolCallStats, sampling: Sampling, *, n_calls: int = 0
    ) -> None:
        """Start a choice that has `n_calls` calls already."""
        self._rules = rules
        self._stats = stats
        self._logprobs, self._stops = sampling.logprobs, sampling.stop
        self._assembler = CallAssembler()
        self._waiting: list[RawCall] = []
        self._late: list[str] = []
        self._half = ""
        self._text: list[str] = []
        self._reason = ""
        self.n_calls = n_calls
        self.n_logprobs = 0
        self.stop_sequence: str | None = None
        self.failed: list[CheckedCall] = []
        """Calls that were not passed on because they cannot be used."""
        self.misformed = 0
        """Calls that were streamed and turned out wrong."""
        self.repaired = 0

    @property
    def finished(self) -> bool:
        """Whether the server has said why the answer ends."""
        return bool(self._reason)

    @property
    def aborted(self) -> bool:
        """Whether the server says that it did not end the answer as it should."""
        return self._reason in ("abort", "error")

    @property
    def filtered(self) -> bool:
        """Whether the server cut the answer because of what it says."""
        return self._reason == "content_filter"

    @property
    def text(self) -> str:
        """The visible answer so far."""
        return "".join(self._text)

    @property
    def reason(self) -> FinishReason:
        """Why the answer ended, in our words."""
        if self._reason in ("length", "max_tokens"):
            return "length"
        return "tool_calls" if self.n_calls and self.stop_sequence is None else "stop"

    def plain_text(self, choice: Json) -> str | None:
        """Return the text of an entry that says nothing else; None: `feed` has to look at it."""
        delta = choice.get("delta")
        if not isinstance(delta, dict) or choice.get("finish_reason") or "usage" in choice:
            return None
        fields = cast("Json", delta)
        content = fields.get("content") if len(fields) == 1 else None
        if not content or not isinstance(content, str) or not self._plain:
            return None
        if not content.isascii() and _HALF.search(content):
            return None
        self._text.append(content)
        return content

    def feed(self, choice: Json) -> list[Event]:
        """Return what one entry of `choices` says."""
        delta = choice.get("delta", choice.get("message"))
        events: list[Event] = []
        if isinstance(delta, dict):
            self._delta(cast("Json", delta), choice, events)
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self._reason = reason
            stop = choice.get("stop_reason", choice.get("matched_stop"))
            self.stop_sequence = stop if stop in self._stops else None
        return events

    def finish(self) -> Iterator[Event]:
        """Yield what waited for the end: calls, then text that came after them."""
        cut_off = self.reason == "length"
        for raw in self._assembler.calls:
            if raw.index is not None:
                self._count_streamed(raw, cut_off)
        while self._waiting:
            raw = self._waiting.pop(0)
            # Nothing is added to a call that the token limit cut: it would say something else.
            if cut_off and not self._waiting and not raw.complete:
                yield from self._emit(raw.name or "unknown", raw.arguments)
            else:
                yield from self._pass_on(self._check(raw))
        late = "".join(self._late)
        if late.strip():
            self._text.append(late)
            yield TextDelta(late)

    @property
    def _plain(self) -> bool:
        """Whether text goes out as it comes."""
        return not (self._half or self._logprobs or self._assembler.calls)

    def _delta(self, delta: Json, choice: Json, events: list[Event]) -> None:
        called = bool(self._assembler.calls)
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if reasoning and isinstance(reasoning, str) and not called:
            events.append(ReasoningDelta(whole_text(reasoning)))
        if self._logprobs and not called:
            tokens = read_logprobs(choice.get("logprobs"))
            self.n_logprobs += len(tokens)
            if tokens:
                events.append(Logprobs(tokens))
        content = delta.get("content")
        if content and isinstance(content, str):
            self._visible(content, called, events)
        calls = delta.get("tool_calls")
        if calls and isinstance(calls, list) and self._rules.most != 0:
            for call in cast("list[object]", calls):
                if isinstance(call, dict):
                    events += self._call(cast("Json", call))

    def _visible(self, content: str, called: bool, events: list[Event]) -> None:
        if called:
            self._late.append(whole_text(content))
            return
        if self._half or not content.isascii():
            # Some servers cut between the halves of a surrogate pair.
            content, self._half = self._half + content, ""
            if "\ud800" <= content[-1:] <= "\udbff":
                content, self._half = content[:-1], content[-1]
            content = whole_text(content)
        if content:
            self._text.append(content)
            events.append(TextDelta(content))

    def _call(self, delta: Json) -> Iterator[Event]:
        begun = len(self._assembler.calls)
        raw = self._assembler.add(delta)
        if len(self._assembler.calls) > begun:
            yield from self._flush_valid()
            self._waiting.append(raw)
        if self._rules.constrained and raw.pieces:
            yield from self._stream(raw)

    def _stream(self, raw: RawCall) -> Iterator[Event]:
        if raw.index is None and self._rules.validator.declares(raw.name) and not self._full:
            self._waiting.remove(raw)
            raw.index = self.n_calls
            self.n_calls += 1
            yield ToolCallStart(raw.index, self._identity(raw.name, raw.index), raw.name)
        if raw.index is not None:
            text = whole_text("".join(raw.pieces[raw.taken :]))
            raw.taken = len(raw.pieces)
            yield ToolCallArguments(raw.index, text)

    def _flush_valid(self) -> Iterator[Event]:
        """Pass on the calls before one that has just begun, as far as they are whole.

        A call that is not may be mixed with the next: it waits for the end.
        """
        while self._waiting and self._waiting[0].complete:
            checked = self._rules.validator.check(self._waiting[0].name, self._waiting[0].arguments)
            if checked.outcome != "valid":
                return
            self._waiting.pop(0)
            self._stats.validated += 1
            yield from self._pass_on(checked)

    def _check(self, raw: RawCall) -> CheckedCall:
        self._stats.validated += 1
        return self._rules.validator.check(raw.name, raw.arguments)

    def _pass_on(self, checked: CheckedCall) -> Iterator[Event]:
        if self._full:
            return
        if checked.outcome == "failed":
            self.failed.append(checked)
            return
        if checked.outcome == "repaired":
            self._stats.repaired += 1
            self.repaired += 1
        yield from self._emit(checked.name, checked.arguments)

    def _count_streamed(self, raw: RawCall, cut_off: bool) -> None:
        if self._check(raw).outcome != "valid" and not cut_off:
            self._stats.failed += 1
            self.misformed += 1

    def _emit(self, name: str, arguments: str) -> Iterator[Event]:
        if self._full:
            return
        index = self.n_calls
        self.n_calls += 1
        yield ToolCallStart(index, self._identity(name, index), name)
        if arguments:
            yield ToolCallArguments(index, whole_text(arguments))

    def _identity(self, name: str, index: int) -> str:
        return call_id(name, self._rules.first_index + index)

    @property
    def _full(self) -> bool:
        most = self._rules.most
        return most is not None and self.n_calls + len(self.failed) >= most


def read_logprobs(value: object) -> tuple[TokenLogprob, ...]:
    """Read `choices[].logprobs`; what is no token is passed over."""
    content = cast("Json", value).get("content") if isinstance(value, dict) else None
    if not isinstance(content, list):
        return ()
    tokens: list[TokenLogprob] = []
    for entry in cast("list[object]", content):
        token = _token(entry)
        if token is not None:
            rivals = cast("Json", entry).get("top_logprobs")
            listed = cast("list[object]", rivals) if isinstance(rivals, list) else []
            top = tuple(rival for rival in map(_token, listed[:20]) if rival is not None)
            tokens.append(TokenLogprob(*token, top))
    return tuple(tokens)


def _token(entry: object) -> tuple[bytes, float] | None:
    if not isinstance(entry, dict):
        return None
    fields = cast("Json", entry)
    text, logprob, codes = fields.get("token"), fields.get("logprob"), fields.get("bytes")
    if not isinstance(text, str) or not isinstance(logprob, int | float):
        return None
    try:
        if isinstance(codes, list):
            return bytes(cast("list[int]", codes)), float(logprob)
    except (ValueError, TypeError):
        pass
    return whole_text(text).encode(), float(logprob)
