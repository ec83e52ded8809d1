"""The Messages dialect's requests: bodies in, `ChatRequest`s out.

In: decoded JSON. Out: what is asked for, and how the answer should be sent.
Must not know: answers, tokens, the engine, sockets, or any other dialect. Nothing here does I/O.

What is knowingly ignored is listed in docs/reference/http-api.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from openk2.server.dialects.anthropic_turns import MAX_ENTRIES, Blocks, Turn, read_conversation
from openk2.server.dialects.body import (
    In,
    Refusals,
    bad,
    is_object,
    read,
    refuse_unsupported,
    shown,
)
from openk2.server.dialects.effort import Effort, thinking_of_effort
from openk2.server.dialects.signer import Signer
from openk2.server.request import ChatRequest, JsonAnswer, NamedTool, Thinking, ToolChoice
from openk2.types import Message, Sampling, ToolSpec

MAX_TOOLS = 1024
"""Agents with many MCP servers have more than the 128 where other dialects stop."""

DEFAULT_TEMPERATURE = 1.0
"""Of the Messages API, before `temperature_scale`."""

_INT32 = 2**31

REFUSED: Refusals = {
    "thread": ((), "nothing is stored here; send the whole conversation in messages"),
    "compaction": ((), "this server makes no summaries; ask for one in a user turn"),
}
"""Fields without which the answer would be one to something else."""

_EXAMPLE_TOOL = (
    '{"name": "search", "description": "...", "input_schema": {"type": "object", "properties": {}}}'
)


@dataclass(frozen=True, slots=True)
class MessagesOptions:
    """What a body of `POST /v1/messages` says about the sending of the answer."""

    stream: bool = False
    warnings: tuple[str, ...] = ()
    """What was left out of the request, in ASCII."""


# Shapes -----------------------------------------------------------------------------------------


class _Tool(In):
    type: str | None = None
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")
    description: str | None = None
    input_schema: dict[str, Any]


class _ToolChoice(In):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Thinking(In):
    # Any word: clients are ahead of servers with new ways of thinking.
    type: str
    budget_tokens: int | None = Field(None, ge=1)


class _JsonFormat(In):
    type: Literal["json_schema"]
    json_schema: dict[str, Any] = Field(alias="schema")


class _Output(In):
    effort: str | None = None
    format: _JsonFormat | None = None


class Body(In):
    """A body of `POST /v1/messages`."""

    model: str | None = None
    messages: list[Turn] = Field(min_length=1, max_length=MAX_ENTRIES)
    system: Blocks | None = None
    max_tokens: int | None = Field(None, ge=0)
    stop_sequences: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(max_length=64)]
        | None
    ) = None
    stream: bool | None = None
    temperature: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(None, ge=0, lt=_INT32)
    tools: list[Any] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: _ToolChoice | None = None
    thinking: _Thinking | None = None
    output_config: _Output | None = None
    output_format: _JsonFormat | None = None


# Requests ---------------------------------------------------------------------------------------


def decode_request(
    body: object, *, signer: Signer, temperature_scale: float = 1.0, count_only: bool = False
) -> tuple[ChatRequest, MessagesOptions]:
    """Check a request body and say it in our own nouns.

    A `max_tokens` of 0 stays 0 in the sampling: read the prompt into the cache, answer nothing.

    Args:
        body: What the client sent.
        signer: Knows which thinking that comes back is ours.
        temperature_scale: 0.6 for K2 Instruct: its README puts the dialect's default of 1.0 at 0.6.
        count_only: The tokens are to be counted, so no limit of the answer is needed.

    Raises:
        ApiError: 400, with `param` naming the field that is wrong.
    """
    asked = read(Body, body)
    if asked.max_tokens is None and not count_only:
        raise bad("max_tokens", "is required; say how many tokens the answer may have")
    # Counted is a conversation as it was sent, whatever is to become of it.
    if is_object(body) and not count_only:
        refuse_unsupported(body, REFUSED)
    tools, warnings = _tools(asked.tools or ())
    messages, partial = _messages(asked, signer, warnings)
    if is_object(body) and body.get("mcp_servers"):
        warnings.append("mcp_servers: left out; this server connects to no other")
    choice = asked.tool_choice
    answer_format, schema_field = _answer_format(asked, partial)
    request = ChatRequest(
        messages=messages,
        sampling=_sampling(asked, temperature_scale),
        default_temperature=asked.temperature is None,
        model=asked.model,
        tools=tools,
        tool_choice=_tool_choice(choice, tools),
        parallel_tool_calls=not (choice and choice.disable_parallel_tool_use),
        answer_format=answer_format,
        thinking=_thinking(asked),
        partial=partial,
        whole=not asked.stream,
        schema_field=schema_field,
    )
    return request, MessagesOptions(bool(asked.stream), tuple(warnings))


def _messages(asked: Body, signer: Signer, warnings: list[str]) -> tuple[tuple[Message, ...], bool]:
    messages = read_conversation(asked.system or (), asked.messages, signer, warnings)
    if messages and messages[-1].role == "assistant":
        # The model writes a space with the word after it: behind a space it goes astray.
        prefill = replace(messages[-1], content=messages[-1].content.rstrip())
        messages = messages[:-1]
        if prefill.content or prefill.reasoning:
            return (*messages, prefill), True
    if not messages:
        raise bad("messages", "hold nothing to answer; add a user turn")
    return messages, False


def _sampling(asked: Body, temperature_scale: float) -> Sampling:
    temperature = DEFAULT_TEMPERATURE if asked.temperature is None else asked.temperature
    return Sampling(
        temperature=temperature * temperature_scale,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        top_k=asked.top_k or 0,
        max_tokens=asked.max_tokens,
        stop=tuple(asked.stop_sequences or ()),
    )


def _thinking(asked: Body) -> Thinking:
    word = asked.output_config.effort if asked.output_config else None
    effort = next((effort for effort in get_args(Effort) if effort == word), None)
    thinking, config = thinking_of_effort(effort), asked.thinking
    if config is None or config.type not in ("enabled", "disabled"):
        return thinking
    if config.type == "disabled":
        return Thinking(enabled=False)
    return Thinking(enabled=True, budget=config.budget_tokens or thinking.budget)


def _answer_format(asked: Body, partial: bool) -> tuple[JsonAnswer | None, str]:
    """Return the form of the answer, and the name of the field that asks for it."""
    field, form = "output_config.format", asked.output_config and asked.output_config.format
    if form is None and asked.output_format is not None:
        field, form = "output_format", asked.output_format
    if form is not None and partial:
        raise bad(field, "cannot go together with an assistant turn at the end; leave one out")
    return JsonAnswer(form.json_schema) if form else None, field


# Tools ------------------------------------------------------------------------------------------


def _tools(values: Sequence[object]) -> tuple[tuple[ToolSpec, ...], list[str]]:
    """Return the tools, and what is to be said of those that only Anthropic's platform has."""
    specs: dict[str, ToolSpec] = {}
    warnings: list[str] = []
    for index, value in enumerate(values):
        path = f"tools[{index}]"
        if (kind := _foreign_kind(value)) is not None:
            warnings.append(f"{path}: left out; {ascii(kind)[:80]} is not known here")
            continue
        spec = _tool_spec(value, path)
        if spec.name in specs:
            raise bad(f"{path}.name", f"{spec.name!r} is the name of an earlier tool")
        specs[spec.name] = spec
    return tuple(specs.values()), warnings


def _foreign_kind(value: object) -> str | None:
    # A tool without a schema is one that the platform's own servers or models know.
    if not is_object(value) or value.get("input_schema") is not None or "function" in value:
        return None
    kind = value.get("type")
    return kind if isinstance(kind, str) and kind != "custom" else None


def _tool_spec(value: object, path: str) -> ToolSpec:
    if not is_object(value) or "function" in value:
        raise bad(path, f"must be an object such as {_EXAMPLE_TOOL}")
    tool = read(_Tool, value, path)
    schema = tool.input_schema
    if "type" not in schema:
        schema = {"type": "object"} | schema
    if schema["type"] != "object":
        raise bad(f"{path}.input_schema", 'the root must have "type": "object"')
    return ToolSpec(tool.name, tool.description or "", schema)


def _tool_choice(choice: _ToolChoice | None, tools: Sequence[ToolSpec]) -> ToolChoice:
    if choice is None or choice.type == "auto":
        return "auto"
    if choice.type == "none":
        return "none"
    if not tools:
        raise bad("tool_choice", "demands a call, but there is no tool to call; add one to tools")
    if choice.type == "any":
        return "required"
    if choice.name is None:
        raise bad("tool_choice.name", "is required")
    if choice.name not in {tool.name for tool in tools}:
        raise bad("tool_choice.name", f"{shown(choice.name)} is not among the tools known here")
    return NamedTool(choice.name)
