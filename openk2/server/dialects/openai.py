"""The Chat Completions dialect: what a request body asks for.

In: decoded JSON. Out: `ChatRequest`, and `ChatOptions` for the answer's form.
Must not know: tokens, the engine, sockets, or any other dialect. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from openk2.server.dialects.body import bad, is_object, without_images
from openk2.server.dialects.effort import thinking_of_effort
from openk2.server.dialects.openai_body import Body, ThinkingBody, Tool, Turn, read_body
from openk2.server.dialects.openai_tools import decode_tool_choice, decode_tools, left_out
from openk2.server.request import ChatRequest, JsonAnswer, Thinking
from openk2.types import HistoryError, Message, Sampling, ToolCall, validate_history


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How the client wants the answer written down."""

    stream: bool = False
    include_usage: bool = False
    """A last chunk with the usage alone."""
    n: int = 1
    """Choices that the answer has."""
    warnings: tuple[str, ...] = ()
    """What was left out of the request, in ASCII."""


def decode_request(body: object) -> tuple[ChatRequest, ChatOptions]:
    """Check a request body and say it in our own nouns.

    Raises:
        ApiError: 400, with `param` naming the field that is wrong.
    """
    warnings: list[str] = []
    request = read_body(_readable(body, warnings))
    _check_together(request)
    messages = _messages(request.messages)
    tools = decode_tools([("tools", request.tools), *_dynamic_tools(request.messages)])
    choice, tools = decode_tool_choice(request.tool_choice, tools)
    newer = request.max_completion_tokens is not None
    chat = ChatRequest(
        messages=messages,
        sampling=_sampling(request),
        default_temperature=request.temperature is None,
        model=request.model,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=request.parallel_tool_calls,
        answer_format=_answer_format(request),
        thinking=_thinking(request),
        partial=request.messages[-1].partial,
        n=request.n,
        whole=not request.stream,
        trajectories=request.heavy.trajectories if request.heavy else 1,
        limit_field="max_completion_tokens" if newer else "max_tokens",
    )
    options = ChatOptions(
        stream=request.stream,
        include_usage=request.stream_options.include_usage,
        n=request.n,
        warnings=(*left_out("tools", (tool.type for tool in request.tools)), *warnings),
    )
    return chat, options


def _check_together(request: Body) -> None:
    if request.n > 1 and request.temperature == 0:
        raise bad("n", "at temperature 0 all choices are the same; ask for one")
    if request.n > 1 and request.heavy:
        raise bad("n", "heavy mode makes one answer of its trajectories; ask for one")
    if request.top_logprobs and not request.logprobs:
        raise bad("top_logprobs", 'needs "logprobs": true')
    if request.messages[-1].partial and _answer_format(request):
        raise bad("response_format", 'JSON cannot be combined with "partial": true')


# Messages ---------------------------------------------------------------------------------------


def _readable(body: object, warnings: list[str]) -> object:
    """Return the body with words in the place of images that tools gave."""
    turns = body.get("messages") if is_object(body) else None
    if not is_object(body) or not isinstance(turns, list):
        return body
    messages = list(cast("list[object]", turns))
    for index, turn in enumerate(messages):
        if is_object(turn) and turn.get("role") == "tool":
            content = turn.get("content")
            if isinstance(content, list):
                parts = cast("list[object]", content)
                left = without_images(parts, f"messages[{index}].content", warnings)
                messages[index] = turn | {"content": left}
    return body | {"messages": messages} if warnings else body


def _messages(turns: Sequence[Turn]) -> tuple[Message, ...]:
    for index, turn in enumerate(turns):
        _check_turn(index, turn, is_last=index == len(turns) - 1)
    # A system message without words says nothing; those with dynamic tools have none.
    spoken = [index for index, turn in enumerate(turns) if turn.content or not _is_system(turn)]
    if not spoken:
        raise bad("messages", "no message has content")
    messages = tuple(_message(turns[index]) for index in spoken)
    _check_history(messages, spoken)
    return messages


def _is_system(turn: Turn) -> bool:
    return turn.role in ("system", "developer")


def _check_turn(index: int, turn: Turn, *, is_last: bool) -> None:
    if turn.partial and not (is_last and turn.role == "assistant"):
        problem = "only the last message can be continued, and only if it is the assistant's"
        raise bad(f"messages[{index}].partial", problem)
    if turn.tools and (turn.content or not _is_system(turn)):
        problem = "tools may only stand on a system message without content"
        raise bad(f"messages[{index}].tools", problem)


def _message(turn: Turn) -> Message:
    return Message(
        role="system" if turn.role == "developer" else turn.role,
        content=turn.content or (turn.refusal if turn.role == "assistant" else ""),
        reasoning=turn.reasoning_content or turn.reasoning,
        tool_calls=tuple(
            ToolCall(call.id, call.function.name, call.function.arguments)
            for call in turn.tool_calls
        ),
        tool_call_id=turn.tool_call_id,
        name=turn.name,
    )


def _check_history(messages: tuple[Message, ...], indices: Sequence[int]) -> None:
    try:
        validate_history(messages)
    except HistoryError as error:
        field = "reasoning_content" if error.field == "reasoning" else error.field
        raise bad(f"messages[{indices[error.index]}].{field}", error.problem) from None
    if messages[-1].tool_calls:
        problem = "answer each call with a tool message before the next turn"
        raise bad(f"messages[{indices[-1]}].tool_calls", problem)


def _dynamic_tools(turns: Sequence[Turn]) -> list[tuple[str, Sequence[Tool]]]:
    return [(f"messages[{index}].tools", turn.tools) for index, turn in enumerate(turns)]


# Settings ---------------------------------------------------------------------------------------


def _sampling(request: Body) -> Sampling:
    limit = request.max_completion_tokens
    return request.sampling(
        request.max_tokens if limit is None else limit,
        request.top_logprobs if request.logprobs else None,
    )


def _answer_format(request: Body) -> JsonAnswer | None:
    asked = request.response_format
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_object":
        return JsonAnswer(asked.schema_)
    if asked.json_schema is None:
        raise bad("response_format.json_schema", "is required")
    return JsonAnswer(asked.json_schema.schema_)


def _thinking(request: Body) -> Thinking:
    asked = request.thinking or _template_thinking(request)
    of_effort = thinking_of_effort(asked.effort or request.reasoning_effort)
    if asked.type == "disabled":
        return Thinking(enabled=False)
    wanted = asked.type == "enabled" or asked.budget_tokens is not None
    return Thinking(
        enabled=True if wanted else of_effort.enabled,
        budget=asked.budget_tokens or of_effort.budget,
    )


def _template_thinking(request: Body) -> ThinkingBody:
    told = request.chat_template_kwargs
    wanted = told.enable_thinking if told.thinking is None else told.thinking
    return ThinkingBody(type=None if wanted is None else "enabled" if wanted else "disabled")
