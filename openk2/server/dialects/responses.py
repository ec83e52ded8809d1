"""The Responses dialect, its requests: bodies in, `ChatRequest` out.

In: decoded JSON. Out: what is asked, and what the answer has to repeat.
Must not know: tokens, the engine or sockets. Nothing here does I/O; `responses_events` has the
answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from openk2.server.dialects.body import Json, bad, is_object, not_an_object, read
from openk2.server.dialects.effort import Effort, thinking_of_effort
from openk2.server.dialects.openai_body import MAX_TOOLS, Shape, StreamOptions
from openk2.server.dialects.openai_tools import decode_tool_choice
from openk2.server.dialects.responses_input import read_conversation
from openk2.server.dialects.responses_tools import (
    Declared,
    Origin,
    decode_tools,
    named,
    plain_choice,
)
from openk2.server.dialects.sealed import Sign
from openk2.server.request import ChatRequest, JsonAnswer, NamedTool
from openk2.types import Sampling

_STORED: Mapping[str, str] = {
    "previous_response_id": "responses are not stored here; send the whole conversation in input",
    "conversation": "conversations are not stored here; send the whole conversation in input",
    "prompt": "prompts are not stored here; send its text in instructions or input",
    "background": "answers are not stored here; ask without background and stream instead",
    "moderation": "nothing is moderated here; leave it out",
}
"""Fields that need a store or a moderator: refused when set, for the answer would not be the one
that was asked for."""


@dataclass(frozen=True, slots=True)
class ResponsesOptions:
    """What the dialect's answer needs to know of its request."""

    stream: bool = False
    include_usage: bool = False
    """`stream_options.include_usage`: only for answers in Chat Completions chunks."""
    summarize: bool = False
    """Whether reasoning is shown as its summary, where clients look that asked for one."""
    sign: Sign | None = None
    """Signs `encrypted_content`; set if the client asked to keep the reasoning for us."""
    echo: Mapping[str, Any] = field(default_factory=lambda: {})
    """Fields of the response that repeat the request."""
    origins: Mapping[str, Origin] = field(default_factory=lambda: {})
    """Of tools that the model knows by another name or in another form."""
    warnings: tuple[str, ...] = ()
    """What was left out of the request, in ASCII."""


def is_responses_body(body: object) -> bool:
    """Tell whether a body is of this dialect, whichever endpoint it came to.

    Cursor posts such bodies to the Chat Completions endpoint and wants chunks for an answer.
    """
    return is_object(body) and "input" in body and body.get("messages") is None


def decode_request(body: object, sign: Sign | None = None) -> tuple[ChatRequest, ResponsesOptions]:
    """Check a request body and say it in our own nouns.

    Args:
        body: The decoded JSON.
        sign: Signs reasoning that the client keeps; None drops all that comes back sealed.

    Raises:
        ApiError: 400, with `param` naming the field that is wrong.
    """
    if not is_object(body):
        raise not_an_object()
    request = read(Body, body)
    _refuse_stored(request)
    declared = decode_tools(request.tools)
    warnings = declared.warnings
    messages = read_conversation(request.instructions, body.get("input"), sign, warnings)
    choice, tools = decode_tool_choice(
        plain_choice(request.tool_choice), tuple(declared.specs.values())
    )
    sampling = _sampling(request)
    chat = ChatRequest(
        messages=messages,
        sampling=sampling,
        default_temperature=request.temperature is None,
        model=request.model,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=request.parallel_tool_calls,
        answer_format=_answer_format(request.text.format),
        thinking=thinking_of_effort(request.reasoning.effort),
        whole=not request.stream,
        limit_field="max_output_tokens",
        prompt_field="input",
        schema_field="text.format",
    )
    options = ResponsesOptions(
        stream=request.stream,
        include_usage=request.stream_options.include_usage,
        summarize=request.reasoning.shown is not None,
        sign=sign if "reasoning.encrypted_content" in request.include else None,
        echo=_echo(request, chat, declared),
        origins=declared.origins,
        warnings=tuple(warnings),
    )
    return chat, options


# The shape of a body ----------------------------------------------------------------------------


def _small_map(value: object) -> object:
    pairs = value.items() if is_object(value) else ()
    fits = all(len(k) <= 64 and isinstance(v, str) and len(v) <= 512 for k, v in pairs)
    if not is_object(value) or len(value) > 16 or not fits:
        raise ValueError("must be an object of at most 16 short texts with short names")
    return value


_SummaryLength = Literal["auto", "concise", "detailed"]


class _Reasoning(Shape):
    effort: Effort | None = None
    summary: _SummaryLength | None = None
    generate_summary: _SummaryLength | None = None
    """The older name of `summary`."""

    @property
    def shown(self) -> _SummaryLength | None:
        return self.summary or self.generate_summary


class _Format(Shape):
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None
    """The answer follows its schema whatever this says."""


class _Text(Shape):
    format: _Format = Field(default_factory=lambda: _Format.model_validate({}))
    verbosity: Literal["low", "medium", "high"] = "medium"


class Body(Shape):
    """A whole body, but for `input`, whose items are read one by one."""

    model: str | None = None
    instructions: str | None = None
    previous_response_id: str = ""
    conversation: Any = None
    prompt: Any = None
    background: bool = False
    moderation: Any = None
    store: bool = False
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=StreamOptions)
    include: list[str] = Field(default_factory=lambda: [], max_length=100)
    metadata: Annotated[dict[str, str], BeforeValidator(_small_map)] = Field(default_factory=dict)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    top_logprobs: int = Field(0, ge=0, le=20)
    max_output_tokens: int | None = Field(None, ge=1)
    parallel_tool_calls: bool = True
    tools: list[Any] = Field(default_factory=lambda: [], max_length=MAX_TOOLS)
    tool_choice: Any = None
    text: _Text = Field(default_factory=_Text)
    reasoning: _Reasoning = Field(default_factory=_Reasoning)
    truncation: Literal["auto", "disabled"] = "disabled"
    prompt_cache_key: str | None = Field(None, max_length=1000)


# Fields -----------------------------------------------------------------------------------------


def _refuse_stored(request: Body) -> None:
    for name, problem in _STORED.items():
        if getattr(request, name):
            raise bad(name, problem, code="unsupported_value")


def _answer_format(wanted: _Format) -> JsonAnswer | None:
    if wanted.type == "json_schema" and wanted.schema_ is None:
        raise bad("text.format.schema", "is required")
    schema = wanted.schema_ if wanted.type == "json_schema" else None
    return None if wanted.type == "text" else JsonAnswer(schema)


def _sampling(request: Body) -> Sampling:
    default = Sampling()
    included = "message.output_text.logprobs" in request.include
    return Sampling(
        temperature=default.temperature if request.temperature is None else request.temperature,
        top_p=default.top_p if request.top_p is None else request.top_p,
        max_tokens=request.max_output_tokens,
        logprobs=included or request.top_logprobs > 0,
        top_logprobs=request.top_logprobs,
        cache_key=request.prompt_cache_key or None,
    )


def _echo(request: Body, chat: ChatRequest, declared: Declared) -> Json:
    text = request.text.model_dump(by_alias=True, exclude_none=True)
    if request.text.format.type == "json_schema":
        # Clients need not name their schema, but they read a name.
        text["format"] = {"name": "answer"} | text["format"]
    sampling = chat.sampling
    return {
        "instructions": request.instructions,
        "metadata": request.metadata,
        "temperature": None if chat.default_temperature else sampling.temperature,
        "top_p": sampling.top_p,
        "top_logprobs": sampling.top_logprobs,
        "max_output_tokens": sampling.max_tokens,
        "parallel_tool_calls": request.parallel_tool_calls,
        "tools": declared.echo,
        "tool_choice": _encode_choice(request.tool_choice, chat, declared.origins),
        "text": text,
        "reasoning": {"effort": request.reasoning.effort, "summary": request.reasoning.shown},
        "prompt_cache_key": request.prompt_cache_key,
    }


def _encode_choice(asked: object, chat: ChatRequest, origins: Mapping[str, Origin]) -> object:
    """Say a choice as this dialect does: clients may have said it as Chat Completions does."""
    if isinstance(chat.tool_choice, NamedTool):
        return named(chat.tool_choice.name, origins)
    if not is_object(asked):
        return chat.tool_choice
    allowed = [named(tool.name, origins) for tool in chat.tools]
    return {"type": "allowed_tools", "mode": chat.tool_choice, "tools": allowed}
