"""The shape of a Chat Completions body: what each field may hold.

In: decoded JSON. Out: `Body`, in which every field has its type and range.
Must not know: what the fields mean together. A `null` is a field that was left out, and unknown
fields are ignored, at every depth.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, model_validator

from openk2.server.dialects.body import (
    In,
    Refusals,
    is_object,
    not_an_object,
    read,
    refuse_unsupported,
    shown,
)
from openk2.server.dialects.effort import Effort
from openk2.types import Sampling

MAX_LIST = 4096
"""Messages of a conversation, text parts of one of them, tool calls of one of them."""

MAX_TOOLS = 1024
"""Both platforms stop at 128, which people with many MCP servers hit."""

MAX_CHOICES = 8
MAX_TRAJECTORIES = 16
MAX_BIASES = 1024

_INT64 = 2**63
_DEFAULT = Sampling()
_TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,8}")
_EXAMPLE_TOOL = (
    '{"type": "function", "function": {"name": "search", '
    '"parameters": {"type": "object", "properties": {}}}}'
)


def read_body(body: object) -> Body:
    """Check each field of a request body by itself.

    Raises:
        ApiError: 400, with `param` naming the first field that is wrong.
    """
    if not is_object(body):
        raise not_an_object()
    refuse_unsupported(body, REFUSED)
    return read(Body, body)


REFUSED: Refusals = {
    "modalities": ((["text"],), 'only ["text"] can be answered'),
    "functions": (([],), "use tools instead"),
    "function_call": (("auto", "none"), "use tool_choice instead"),
    "web_search_options": ((), "this server does not search the web; leave it out"),
    "moderation": ((), "nothing is moderated here; leave it out"),
    "continue_final_message": ((False,), 'set "partial": true on the last message instead'),
    "structured_outputs": ((), "use response_format instead"),
    "guided_json": ((), "use response_format instead"),
    "guided_regex": ((), "use response_format instead"),
    "guided_choice": ((), "use response_format instead"),
    "guided_grammar": ((), "use response_format instead"),
}
"""Fields whose other values would change the answer: refused, never silently ignored.

What is knowingly ignored is listed in docs/reference/http-api.md.
"""


# What clients write in more than one way --------------------------------------------------------


def _joined_text(value: object) -> object:
    if not isinstance(value, list):
        return value
    parts = cast("list[object]", value)
    if len(parts) > MAX_LIST:
        raise ValueError(f"has more than {MAX_LIST} parts")
    return "".join(_part_text(index, part) for index, part in enumerate(parts))


def _part_text(index: int, part: object) -> str:
    kind = part.get("type") if is_object(part) else None
    if not is_object(part) or kind not in ("text", "input_text", "output_text", "refusal"):
        found = f" but {shown(kind)}" if isinstance(kind, str) else ""
        raise ValueError(f"part {index} is not a text part{found}; only text is supported")
    text = part.get("refusal" if kind == "refusal" else "text")
    if not isinstance(text, str):
        raise ValueError(f"part {index} has no text")
    return text


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_arguments(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if is_object(value) else value


def _as_tool(value: object) -> object:
    if not is_object(value):
        raise ValueError(f"must be an object such as {_EXAMPLE_TOOL}, not {json.dumps(value)[:40]}")
    if value.get("function") is None and isinstance(value.get("name"), str):
        # As the Responses dialect has it, and some clients here too.
        return {"type": value.get("type"), "function": value}
    return value


def _refuse_legacy_call(value: object) -> object:
    raise ValueError("is not supported: use tool_calls instead")


def _refuse_audio(value: object) -> object:
    raise ValueError("is not supported: nothing is stored here; send its transcript as content")


def _as_biases(value: object) -> object:
    if not is_object(value):
        raise ValueError('must be an object such as {"1234": -100}')
    if len(value) > MAX_BIASES:
        raise ValueError(f"has more than {MAX_BIASES} tokens")
    return tuple(_bias(str(token), bias) for token, bias in value.items())


def _bias(token: str, bias: object) -> tuple[int, float]:
    if not _TOKEN_ID.fullmatch(token):
        raise ValueError(f"{shown(token)} is not a token id")
    if isinstance(bias, bool) or not isinstance(bias, int | float) or not -100 <= bias <= 100:
        raise ValueError(f"the bias of token {token} must be a number from -100 to 100")
    return int(token), float(bias)


# Shapes -----------------------------------------------------------------------------------------


class Shape(In):
    """An object in which a `null` is a field that was left out."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, value: object) -> object:
        if not is_object(value) or None not in value.values():
            return value
        return {name: item for name, item in value.items() if item is not None}


class CalledFunction(Shape):
    """What one tool call of the conversation called."""

    name: str = Field(min_length=1)
    arguments: Annotated[str, BeforeValidator(_as_arguments)] = "{}"


class Call(Shape):
    """One tool call of the conversation."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class Function(Shape):
    """A function that the model may call."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    strict: bool = True
    """Calls follow their schema whatever this says."""


class Tool(Shape):
    """One entry of `tools`."""

    type: str = "function"
    function: Function | None = None
    """None: a tool of another kind, which is ignored."""


Tools = Annotated[list[Annotated[Tool, BeforeValidator(_as_tool)]], Field(max_length=MAX_TOOLS)]


class Turn(Shape):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str, BeforeValidator(_joined_text)] = ""
    reasoning_content: str = ""
    reasoning: str = ""
    """What newer servers call `reasoning_content`."""
    tool_calls: list[Call] = Field(default_factory=lambda: [], max_length=MAX_LIST)
    function_call: Annotated[None, BeforeValidator(_refuse_legacy_call)] = None
    refusal: str = ""
    """What OpenAI's own models say in the place of content."""
    audio: Annotated[None, BeforeValidator(_refuse_audio)] = None
    tool_call_id: str | None = None
    name: str | None = None
    partial: bool = False
    tools: Tools = Field(default_factory=lambda: [])
    """Kimi's dynamic tools: on a system message without content."""


class StreamOptions(Shape):
    """`stream_options`."""

    include_usage: bool = False


class JsonSchema(Shape):
    """`response_format.json_schema`."""

    name: str = Field(min_length=1)
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool = True
    """The answer follows its schema whatever this says."""


class ResponseFormat(Shape):
    """`response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    """Beside `json_object`, as llama.cpp and others have it."""


class ThinkingBody(Shape):
    """`thinking`."""

    type: Literal["enabled", "disabled", "adaptive"] | None = None
    keep: Literal["all"] | None = None
    """Ignored: what earlier turns keep is the template's to say."""
    effort: Effort | None = None
    budget_tokens: int | None = Field(default=None, ge=1)


class TemplateBody(Shape):
    """`chat_template_kwargs`: how vLLM and SGLang have models told whether to think."""

    thinking: bool | None = None
    enable_thinking: bool | None = None


class Heavy(Shape):
    """`heavy`: our own switch for heavy mode."""

    trajectories: int = Field(ge=2, le=MAX_TRAJECTORIES)


class SamplingBody(Shape):
    """The part of a body that says how tokens are drawn."""

    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    top_k: int = Field(0, ge=-1, lt=2**31)
    """-1 is how vLLM writes 0."""
    min_p: float = Field(0.0, ge=0, le=1, allow_inf_nan=False)
    presence_penalty: float = Field(0.0, ge=-2, le=2, allow_inf_nan=False)
    frequency_penalty: float = Field(0.0, ge=-2, le=2, allow_inf_nan=False)
    repetition_penalty: float = Field(1.0, gt=0, le=10, allow_inf_nan=False)
    logit_bias: Annotated[tuple[tuple[int, float], ...], BeforeValidator(_as_biases)] = ()
    seed: int | None = Field(None, ge=-_INT64, lt=_INT64)
    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=1000)]],
        Field(max_length=5),
        BeforeValidator(_as_list),
    ] = Field(default_factory=lambda: [])
    prompt_cache_key: str | None = Field(None, max_length=1000)

    def sampling(self, max_tokens: int | None, top_logprobs: int | None) -> Sampling:
        """Return the settings; `top_logprobs` None reports no log-probabilities at all."""
        return Sampling(
            temperature=_DEFAULT.temperature if self.temperature is None else self.temperature,
            top_p=_DEFAULT.top_p if self.top_p is None else self.top_p,
            seed=self.seed,
            max_tokens=max_tokens,
            stop=tuple(self.stop),
            top_k=max(0, self.top_k),
            min_p=self.min_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            logit_bias=self.logit_bias,
            logprobs=top_logprobs is not None,
            top_logprobs=top_logprobs or 0,
            cache_key=self.prompt_cache_key or None,
        )


class Body(SamplingBody):
    """A whole body."""

    model: str | None = None
    messages: list[Turn] = Field(min_length=1, max_length=MAX_LIST)
    n: int = Field(1, ge=1, le=MAX_CHOICES)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=StreamOptions)
    response_format: ResponseFormat | None = None
    tools: Tools = Field(default_factory=lambda: [])
    tool_choice: Any = None
    parallel_tool_calls: bool = True
    thinking: ThinkingBody | None = None
    reasoning_effort: Effort | None = None
    chat_template_kwargs: TemplateBody = Field(default_factory=TemplateBody)
    heavy: Heavy | None = None
