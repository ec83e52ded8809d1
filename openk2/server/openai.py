"""The Chat Completions dialect: request bodies in, and events out as chunks or one response.

In: decoded JSON, or events. Out: `ChatRequest`, or dictionaries ready for `json.dumps`.
Must not know: tokens, the engine, sockets, or any other dialect. Nothing here does I/O.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeGuard, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from openk2.server.errors import ApiError
from openk2.types import (
    Event,
    Finish,
    HistoryError,
    Message,
    ReasoningDelta,
    Sampling,
    TextDelta,
    ToolCall,
    ToolCallArguments,
    ToolCallStart,
    ToolSpec,
    Usage,
    validate_history,
)

Json = dict[str, Any]

MAX_TOOLS = 128
"""Where both the Kimi and the OpenAI platform stop."""

MAX_LIST = 4096
"""Messages of a conversation, text parts of one of them, tool calls of one of them."""

_ONLY: Mapping[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "tool_choice": (None, "auto", "none"),
    "response_format": (None, {"type": "text"}),
    "logprobs": (None, False),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "top_logprobs": (None, 0),
    "modalities": (None, ["text"]),
    "functions": (None, []),
    "function_call": (None, "auto", "none"),
}
"""Fields whose other values would change the answer: refused, never silently ignored.

What is knowingly ignored is listed in docs/reference/http.md.
"""

_INT64 = 2**63

_EXAMPLE_TOOL = (
    '{"type": "function", "function": {"name": "search", '
    '"parameters": {"type": "object", "properties": {}}}}'
)


# Requests ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A valid body of `POST /v1/chat/completions`."""

    model: str | None
    """None: the client leaves the choice to the server."""
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    max_calls: int | None
    """How many tools the answer may call; None: any number."""
    sampling: Sampling
    limit_field: str
    """The name under which the client set `sampling.max_tokens`."""
    stream: bool
    include_usage: bool


def decode_request(body: object) -> ChatRequest:
    """Check a request body and say it in our own nouns.

    Raises:
        ApiError: 400, with `param` naming the field that is wrong.
    """
    if not _is_object(body):
        raise ApiError(400, "The request body must be a JSON object.")
    _refuse_unsupported(body)
    try:
        request = _Body.model_validate(body)
    except ValidationError as error:
        raise _invalid(error) from None
    messages = tuple(_message(message) for message in request.messages)
    _check_history(messages)
    tools = tuple(_tool_spec(index, tool) for index, tool in enumerate(request.tools or ()))
    _check_unique([tool.name for tool in tools])
    hidden = body.get("tool_choice") == "none"
    return ChatRequest(
        model=request.model,
        messages=messages,
        tools=() if hidden else tools,
        max_calls=0 if hidden else 1 if request.parallel_tool_calls is False else None,
        sampling=_sampling(request),
        limit_field=(
            "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
        ),
        stream=bool(request.stream),
        include_usage=bool(request.stream_options and request.stream_options.include_usage),
    )


def _refuse_unsupported(body: Mapping[str, Any]) -> None:
    for name, supported in _ONLY.items():
        if body.get(name) not in supported:
            allowed = " or ".join(json.dumps(value) for value in supported if value is not None)
            raise ApiError(
                400,
                f"{name}: this value is not supported yet; leave it out or send {allowed}.",
                param=name,
                code="unsupported_value",
            )


def _is_object(value: object) -> TypeGuard[Json]:
    return isinstance(value, dict)


def _joined_text(value: object) -> object:
    if not isinstance(value, list):
        return value
    if len(cast("list[object]", value)) > MAX_LIST:
        raise ValueError(f"has more than {MAX_LIST} parts")
    texts: list[str] = []
    for index, part in enumerate(cast("list[object]", value)):
        text = part.get("text") if _is_object(part) and part.get("type") == "text" else None
        if not isinstance(text, str):
            raise ValueError(f"part {index} is not a text part; only text is supported")
        texts.append(text)
    return "".join(texts)


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _refuse_partial(value: object) -> object:
    if value:
        raise ValueError("continuing an assistant message is not supported yet")
    return value


def _as_tool(value: object) -> object:
    if not _is_object(value):
        raise ValueError(f"must be an object such as {_EXAMPLE_TOOL}, not {json.dumps(value)[:40]}")
    return value


class _In(BaseModel):
    """Strict about types, silent about unknown fields."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _CalledFunction(_In):
    name: str = Field(min_length=1)
    arguments: str


class _Call(_In):
    id: str
    type: Literal["function"] = "function"
    function: _CalledFunction


class _Turn(_In):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str | None, BeforeValidator(_joined_text)] = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] | None = Field(None, max_length=MAX_LIST)
    tool_call_id: str | None = None
    name: str | None = None
    partial: Annotated[bool | None, BeforeValidator(_refuse_partial)] = None


class _Function(_In):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Tool(_In):
    type: Literal["function"]
    function: _Function


class _StreamOptions(_In):
    include_usage: bool | None = None


class _Body(_In):
    model: str | None = None
    messages: list[_Turn] = Field(min_length=1, max_length=MAX_LIST)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(None, ge=-_INT64, lt=_INT64)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=1000)]] | None,
        Field(max_length=5),
        BeforeValidator(_as_list),
    ] = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: list[Annotated[_Tool, BeforeValidator(_as_tool)]] | None = Field(
        None, max_length=MAX_TOOLS
    )
    parallel_tool_calls: bool | None = None


def _invalid(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False)[0]
    path = ""
    for step in first["loc"]:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    problem = {
        "missing": "is required",
        "model_type": "must be an object",
        "value_error": str(first.get("ctx", {}).get("error", "")),
    }.get(first["type"]) or re.sub(r"^\w+ should", "must", first["msg"])
    problem = problem.replace(" after validation", "")
    return ApiError(400, f"{path}: {problem}.", param=path)


def _message(turn: _Turn) -> Message:
    return Message(
        role="system" if turn.role == "developer" else turn.role,
        content=turn.content or "",
        reasoning=turn.reasoning_content or "",
        tool_calls=tuple(
            ToolCall(call.id, call.function.name, call.function.arguments)
            for call in turn.tool_calls or ()
        ),
        tool_call_id=turn.tool_call_id,
        name=turn.name,
    )


def _check_history(messages: tuple[Message, ...]) -> None:
    try:
        validate_history(messages)
    except HistoryError as error:
        field = "reasoning_content" if error.field == "reasoning" else error.field
        path = f"messages[{error.index}].{field}"
        raise ApiError(400, f"{path}: {error.problem}.", param=path) from None
    if messages[-1].tool_calls:
        path = f"messages[{len(messages) - 1}].tool_calls"
        raise ApiError(
            400, f"{path}: answer each call with a tool message before the next turn.", param=path
        )


def _tool_spec(index: int, tool: _Tool) -> ToolSpec:
    function = tool.function
    name, description = function.name, function.description or ""
    if not function.parameters:
        return ToolSpec(name, description)
    if function.parameters.get("type") != "object":
        path = f"tools[{index}].function.parameters"
        raise ApiError(400, f'{path}: the root must have "type": "object".', param=path)
    return ToolSpec(name, description, function.parameters)


def _check_unique(names: list[str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            path = f"tools[{index}].function.name"
            raise ApiError(400, f"{path}: {name!r} is the name of an earlier tool.", param=path)


def _sampling(request: _Body) -> Sampling:
    default = Sampling()
    limit = request.max_completion_tokens
    return Sampling(
        temperature=default.temperature if request.temperature is None else request.temperature,
        top_p=default.top_p if request.top_p is None else request.top_p,
        seed=request.seed,
        max_tokens=request.max_tokens if limit is None else limit,
        stop=tuple(request.stop or ()),
    )


# Answers ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Head:
    """What every chunk of one answer repeats."""

    id: str
    created: int
    """Seconds since 1970."""
    model: str


def encode_response(head: Head, events: Iterable[Event]) -> Json:
    """Fold a whole event stream into one `chat.completion` object."""
    text, reasoning, reason = "", "", "stop"
    calls: dict[int, Json] = {}
    usage: Json = {}
    for event in events:
        match event:
            case TextDelta(piece):
                text += piece
            case ReasoningDelta(piece):
                reasoning += piece
            case ToolCallStart(index, call_id, name):
                calls[index] = _call(call_id, name)
            case ToolCallArguments(index, piece):
                calls[index]["function"]["arguments"] += piece
            case Finish(reason):
                pass
            case Usage():
                usage = encode_usage(event)
    message: Json = {"role": "assistant", "content": text if text or not calls else None}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return _envelope(head, "chat.completion", choices=[choice], usage=usage)


class ChunkEncoder:
    """Turns the events of one answer into `chat.completion.chunk` objects."""

    def __init__(self, head: Head, *, include_usage: bool) -> None:
        """Start an answer; `include_usage` asks for a last chunk with the usage alone."""
        self._head = head
        self._include_usage = include_usage
        self._opened = False
        self._reason = "stop"

    def encode(self, event: Event) -> Iterator[Json]:
        """Yield the chunks that `event` causes: the role precedes the first, usage is last."""
        if not self._opened:
            self._opened = True
            yield self._chunk({"role": "assistant", "content": ""})
        match event:
            case Finish(reason):
                self._reason = reason
            case Usage():
                yield from self._close(encode_usage(event))
            case _:
                yield self._chunk(encode_delta(event))

    def _close(self, usage: Json) -> Iterator[Json]:
        last = self._chunk({}, self._reason)
        # The Kimi platform repeats the usage inside the choice, asked for or not.
        last["choices"][0]["usage"] = usage
        yield last
        if self._include_usage:
            yield _envelope(self._head, "chat.completion.chunk", choices=[], usage=usage)

    def _chunk(self, delta: Json, reason: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        chunk = _envelope(self._head, "chat.completion.chunk", choices=[choice])
        return chunk | {"usage": None} if self._include_usage else chunk


def encode_delta(event: Event) -> Json:
    """Return the `delta` that carries one piece of an answer.

    A tool-call delta always has its `index`: clients merge or lose calls without it.
    """
    match event:
        case TextDelta(piece):
            return {"content": piece}
        case ReasoningDelta(piece):
            return {"reasoning_content": piece}
        case ToolCallStart(index, call_id, name):
            return {"tool_calls": [{"index": index} | _call(call_id, name)]}
        case ToolCallArguments(index, piece):
            return {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
        case _:
            return {}


def encode_usage(usage: Usage) -> Json:
    """Return the `usage` object, the cached part both where Kimi and where OpenAI puts it."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def encode_error(error: ApiError) -> Json:
    """Return the OpenAI error envelope."""
    kind = {429: "engine_overloaded_error", 500: "server_error", 503: "server_error"}.get(
        error.status, "invalid_request_error"
    )
    return {
        "error": {
            "message": error.message,
            "type": kind,
            "param": error.param,
            "code": error.code,
        }
    }


def encode_model(model_id: str, created: int, context_length: int) -> Json:
    """Return one entry of `GET /v1/models`."""
    return {
        "id": model_id,
        "object": "model",
        "created": created,
        "owned_by": "openk2",
        "context_length": context_length,
    }


def _call(call_id: str, name: str) -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}


def _envelope(head: Head, kind: str, *, choices: list[Json], usage: Json | None = None) -> Json:
    body: Json = {
        "id": head.id,
        "object": kind,
        "created": head.created,
        "model": head.model,
        "choices": choices,
    }
    return body if usage is None else body | {"usage": usage}
