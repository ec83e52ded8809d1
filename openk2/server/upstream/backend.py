"""Another server as a backend: requests are passed on, answers come back as events.

In: an address, `ChatRequest`s. Out: `Generation`s.
Must not know: which dialect asked, or how the other server is reached.

The other server may be anything that speaks Chat Completions: vLLM, SGLang, llama.cpp, the Kimi
platform, another openk2. Tool calls that it does not hold to their schemas are checked here:
valid ones pass as they are, some are repaired, and for the rest the model is asked once more.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from openk2.server.errors import ApiError
from openk2.server.request import ChatRequest, Model, NamedTool
from openk2.server.upstream.address import Address, TimeLimits
from openk2.server.upstream.choice import CallRules, ChoiceReader, ToolCallStats
from openk2.server.upstream.errors import UNREACHABLE
from openk2.server.upstream.http import UpstreamHttp
from openk2.server.upstream.kinds import KINDS, OPENAI, Kind, detect_kind
from openk2.server.upstream.request import encode_request
from openk2.server.upstream.stream import StreamDecoder
from openk2.server.upstream.tokens import count_prompt, count_text
from openk2.server.upstream.validation import CheckedCall, ToolValidator
from openk2.text.template import next_call_index
from openk2.types import (
    Event,
    Finish,
    Message,
    PromptRead,
    TextDelta,
    ToolCall,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)

Json = dict[str, Any]

UNKNOWN_CONTEXT = 131072
"""The window of a model whose server does not say it: Kimi K2's own."""

_UNKNOWN_NAME = "default"
_MOST_MODELS = 1000
_LONGEST_NAME = 500
_MOST_REASKED = 16


class UpstreamBackend:
    """Answers with another server."""

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        key: str | None = None,
        kind: str = "auto",
        limits: TimeLimits | None = None,
    ) -> None:
        """Know the server; nothing is sent yet.

        Args:
            url: Its address, with or without `/v1`.
            model: The model that answers every request; None leaves it to the client.
            key: Sent as a bearer token.
            kind: One of `KINDS`, or `auto`, which asks the server.
            limits: How long to wait for it.

        Raises:
            ValueError: The URL or the kind is none.
        """
        if kind != "auto" and kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of server; choose auto or {', '.join(KINDS)}")
        self._http = UpstreamHttp(Address.parse(url), key, limits or TimeLimits())
        self._only = model
        self._kind = KINDS.get(kind)
        self._models: tuple[Model, ...] = ()
        self.stats = ToolCallStats()
        """What became of all tool calls so far."""
        self.failure: ApiError | None = None
        """Why the server's models could not be read, when they were last asked for."""

    @property
    def alive(self) -> bool:
        """Whether it takes requests: always, the other server may come back at any time."""
        return True

    @property
    def kind(self) -> Kind:
        """What the server was taken for."""
        return self._kind or OPENAI

    @property
    def models(self) -> Sequence[Model]:
        """The models that the server had when it was asked, or the one that was chosen."""
        return self._models or (
            Model(self._only or _UNKNOWN_NAME, UNKNOWN_CONTEXT, int(time.time())),
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[UpstreamBackend, None]:
        """Ask the server what it is and has; close all connections in the end."""
        try:
            await self.refresh()
            yield self
        finally:
            await self._http.close()

    def stop(self) -> None:
        """End all answers, so that their clients hear why; for the loop that runs them."""
        self._http.stop()

    async def refresh(self) -> None:
        """Read the server's list of models; `failure` says why that failed, should it fail.

        Then what is known already stays: a server without such a list may still answer.
        """
        listed: object = None
        try:
            listed = await self._http.document(f"{self._http.address.base}/models")
        except ApiError as error:
            self.failure = error
        else:
            self.failure = None
            found = read_models(listed)
            if self._only is not None:
                found = tuple(model for model in found if model.id == self._only)
            self._models = found or self._models
        if self._kind is None and (self.failure is None or self.failure.code != UNREACHABLE):
            self._kind = detect_kind(self._http.address.host, listed)

    async def prepare(self, request: ChatRequest) -> UpstreamGeneration:
        """Write the request as the server understands it; it is sent when events are wanted.

        Raises:
            ApiError: The server has no way to do what the request asks.
        """
        if self._kind is None:
            await self.refresh()
        name = self._model_of(request)
        warnings: list[str] = []
        kept = self.kind.thinking == "effort" or self.kind.budget is not None
        if request.thinking.budget is not None and not kept:
            warnings.append("the server behind this one does not keep to a thinking budget")
        return UpstreamGeneration(
            model=name or self.models[0].id,
            request=request,
            kind=self.kind,
            http=self._http,
            body=encode_request(_at_least_one(request), self.kind, name),
            stats=self.stats,
            warnings=warnings,
        )

    async def count_tokens(self, request: ChatRequest) -> int:
        """Have the server count the tokens of the prompt.

        Raises:
            ApiError: 501, it has no way to count; or what it says against this request.
        """
        if self._kind is None:
            await self.refresh()
        return await count_prompt(self._http, self.kind, self._model_of(request), request)

    def _model_of(self, request: ChatRequest) -> str | None:
        """Return the name to send, None if nobody has said one."""
        asked = None if request.model == _UNKNOWN_NAME else request.model
        return self._only or asked or (self._models[0].id if self._models else None)


@dataclass(slots=True)
class UpstreamGeneration:
    """A request that is ready to be sent."""

    model: str
    request: ChatRequest
    kind: Kind
    http: UpstreamHttp
    body: Json
    stats: ToolCallStats
    warnings: list[str] = field(default_factory=lambda: [])
    """Grows while the answer is read: a whole response can say what a stream cannot any more."""

    async def events(self) -> AsyncGenerator[tuple[int, Event], None]:
        """Stream the answers; closing the stream closes the connection to the server.

        Raises:
            ApiError: The server refuses, fails, or goes away before its answer ends.
        """
        if self.request.sampling.max_tokens == 0:
            async for item in self._read_only():
                yield item
            return
        rules = self._rules()
        readers = [self._reader(rules) for _ in range(self.request.n)]
        decoder = StreamDecoder(readers, self.http.key)
        answer = await self.http.stream(self.body)
        try:
            while not decoder.done and (data := await answer.read()):
                for item in decoder.feed(data):
                    yield item
            for item in decoder.close():
                yield item
            for choice, reader in enumerate(readers):
                for event in reader.finish():
                    yield choice, event
            await answer.drain()
        finally:
            answer.close()
        for choice, reader in enumerate(readers):
            for event in await self._end(choice, reader, decoder, rules):
                yield choice, event

    async def _end(
        self, choice: int, reader: ChoiceReader, decoder: StreamDecoder, rules: CallRules
    ) -> list[Event]:
        """Return what a choice still lacks: calls that were written again, Finish, Usage."""
        usage = decoder.usage_of(choice)
        if usage is None:
            usage = await self._count(reader)
        self._note(reader, rules.validator)
        reason, stop = reader.reason, reader.stop_sequence
        events: list[Event] = []
        if reader.failed:
            again, events, more = await self._ask_again(reader, rules)
            usage = _sum(usage, more)
            reason, stop = again.reason, again.stop_sequence
        return [*events, Finish(reason, stop), usage]

    async def _ask_again(
        self, reader: ChoiceReader, rules: CallRules
    ) -> tuple[ChoiceReader, list[Event], Usage]:
        """Show the model its invalid calls and what is wrong with them, and read what it says now.

        Raises:
            ApiError: 502, its calls are still invalid.
        """
        failed = reader.failed[:_MOST_REASKED]
        self.stats.re_asked += len(reader.failed)
        self.warnings.append(f"{len(reader.failed)} invalid tool calls were asked for again")
        body = encode_request(_corrected(self.request, reader.text, failed), self.kind, None)
        if "model" in self.body:
            body["model"] = self.body["model"]
        again = self._reader(replace(rules, constrained=False), reader.n_calls)
        decoder = StreamDecoder([again], self.http.key)
        events: list[Event] = []
        answer = await self.http.stream(body)
        try:
            while not decoder.done and (data := await answer.read()):
                events += [event for _, event in decoder.feed(data)]
            events += [event for _, event in decoder.close()]
            events += again.finish()
            await answer.drain()
        finally:
            answer.close()
        if again.failed:
            self.stats.failed += len(again.failed)
            problem = again.failed[0].problem
            raise ApiError(
                502,
                f"The model behind this server wrote an invalid tool call twice: {problem}. Try "
                "again, or simplify the tool.",
                code="invalid_tool_call",
            )
        kept = [event for event in events if _of_second_answer(event, called=again.n_calls > 0)]
        return again, kept, decoder.usage_of(0) or Usage(0, 0)

    async def _read_only(self) -> AsyncGenerator[tuple[int, Event], None]:
        """Have the prompt read and nothing written, which fills the server's cache."""
        readers = [self._reader(self._rules()) for _ in range(self.request.n)]
        decoder = StreamDecoder(readers, self.http.key)
        answer = await self.http.stream(self.body)
        try:
            while data := await answer.read():
                for choice, event in decoder.feed(data):
                    if isinstance(event, PromptRead):
                        yield choice, event
            list(decoder.close())
        finally:
            answer.close()
        for choice in range(len(readers)):
            usage = decoder.usage_of(choice) or Usage(0, 0)
            yield choice, Finish("length")
            yield choice, replace(usage, completion_tokens=0, reasoning_tokens=0)

    def _rules(self) -> CallRules:
        request = self.request
        forced = request.tool_choice == "required" or isinstance(request.tool_choice, NamedTool)
        callable_ = bool(request.tools) and request.tool_choice != "none"
        return CallRules(
            ToolValidator(request.tools),
            next_call_index(request.messages),
            most=0 if not callable_ else None if request.parallel_tool_calls else 1,
            constrained=self.kind.constrains == "always"
            or (forced and self.kind.constrains == "forced"),
        )

    def _reader(self, rules: CallRules, n_calls: int = 0) -> ChoiceReader:
        return ChoiceReader(rules, self.stats, self.request.sampling, n_calls=n_calls)

    async def _count(self, reader: ChoiceReader) -> Usage:
        """Count what the server did not."""
        name = cast("str | None", self.body.get("model"))
        try:
            prompt = await count_prompt(self.http, self.kind, name, self.request)
            written = await count_text(self.http, self.kind, name, reader.text)
        except ApiError:
            prompt, written = 0, None
        if written is None:
            written = reader.n_logprobs
            self.warnings.append("the server behind this one did not count its tokens")
        return Usage(prompt, written)

    def _note(self, reader: ChoiceReader, validator: ToolValidator) -> None:
        if reader.repaired:
            self.warnings.append(f"{reader.repaired} tool calls were repaired")
        if reader.misformed:
            self.warnings.append(f"{reader.misformed} tool calls do not hold to their schema")
        if validator.unusable:
            names = ", ".join(validator.unusable)
            self.warnings.append(f"these tools' schemas cannot be checked: {names}")
        if reader.filtered:
            self.warnings.append("the server behind this one cut the answer for its content")


def read_models(document: object) -> tuple[Model, ...]:
    """Read what `GET /v1/models` of any server says."""
    data = cast("Json", document).get("data") if isinstance(document, dict) else None
    listed = cast("list[object]", data)[:_MOST_MODELS] if isinstance(data, list) else []
    entries = [cast("Json", entry) for entry in listed if isinstance(entry, dict)]
    return tuple(_model(entry) for entry in entries if _is_name(entry.get("id")))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and value.isprintable()


def _model(entry: Json) -> Model:
    meta = entry.get("meta")
    meta = cast("Json", meta) if isinstance(meta, dict) else {}
    # The Kimi platform and openk2, vLLM and SGLang, llama.cpp.
    sizes = (entry.get("context_length"), entry.get("max_model_len"), meta.get("n_ctx_train"))
    known = [size for size in sizes if isinstance(size, int) and size > 0]
    created = entry.get("created")
    return Model(
        entry["id"],
        known[0] if known else UNKNOWN_CONTEXT,
        created if isinstance(created, int) else int(time.time()),
        # Only the Kimi platform says it; others' names do.
        reasoning=entry.get("supports_reasoning") is True or "thinking" in entry["id"].lower(),
    )


def _at_least_one(request: ChatRequest) -> ChatRequest:
    """Ask for one token where none is wanted: few servers take a limit of none."""
    if request.sampling.max_tokens != 0:
        return request
    return replace(request, sampling=replace(request.sampling, max_tokens=1))


def _corrected(request: ChatRequest, text: str, failed: Sequence[CheckedCall]) -> ChatRequest:
    """Continue a conversation with invalid calls and what is wrong with each."""
    calls = [
        ToolCall(f"invalid:{number}", call.name or "unknown", call.arguments)
        for number, call in enumerate(failed)
    ]
    prompt = request.messages
    if request.partial:
        prompt, text = prompt[:-1], prompt[-1].content + text
    answers = [
        Message(
            "tool",
            f"Error: the tool was not run: {call.problem}. Call it again, correctly.",
            tool_call_id=f"invalid:{number}",
        )
        for number, call in enumerate(failed)
    ]
    return replace(
        request,
        messages=(*prompt, Message("assistant", text, tool_calls=tuple(calls)), *answers),
        sampling=replace(request.sampling, logprobs=False, top_logprobs=0),
        partial=False,
        n=1,
    )


def _of_second_answer(event: Event, *, called: bool) -> bool:
    """Whether a client gets this: calls, and text only where it stands in for them."""
    if isinstance(event, TextDelta):
        return not called
    return isinstance(event, ToolCallStart | ToolCallArguments)


def _sum(first: Usage, second: Usage) -> Usage:
    return Usage(
        first.prompt_tokens + second.prompt_tokens,
        first.completion_tokens + second.completion_tokens,
        first.cached_tokens + second.cached_tokens,
        first.reasoning_tokens + second.reasoning_tokens,
    )
