"""A request in our nouns to a Chat Completions body that a given kind of server understands.

In: `ChatRequest`, `Kind`. Out: dictionaries ready for `json.dumps`.
Must not know: sockets, streams, what becomes of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from openk2.server.errors import ApiError
from openk2.server.request import ChatRequest, NamedTool, Thinking
from openk2.server.upstream.kinds import Kind
from openk2.text.template import call_id
from openk2.types import Message, Sampling, ToolSpec

Json = dict[str, Any]

SHORT_ANSWER = 512
"""Most tokens of an answer that is asked for in one piece. It comes within seconds; a longer one is
streamed even if the client waits for all of it, so that nobody between takes its silence for its
end."""

_DEFAULT = Sampling()
_STRICT_DEPTH = 32
_NOT_STRICT = frozenset(
    ("allOf", "oneOf", "not", "if", "dependentRequired", "dependentSchemas", "patternProperties")
)
"""Keywords that OpenAI refuses in a strict schema."""


_WHOLE: Json = {"stream": False}
_STREAMED: Json = {"stream": True, "stream_options": {"include_usage": True}}
_STREAMED_AND_COUNTED: Json = {
    "stream": True,
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
}


def encode_request(request: ChatRequest, kind: Kind, model: str | None) -> Json:
    """Write the body of `POST /chat/completions`; the tokens of the answer are counted.

    An answer that the client wants in one piece is asked for in one if it is short: neither server
    then writes and reads a chunk for every token.

    Raises:
        ApiError: 400, the server has no way to do what the request asks.
    """
    limit = request.sampling.max_tokens
    short = request.whole and limit is not None and limit <= SHORT_ANSWER
    body: Json = {
        "messages": encode_messages(request.messages),
        **(_WHOLE if short else _STREAMED_AND_COUNTED if kind.running_usage else _STREAMED),
        **_sampling(request, kind),
        **_tools(request, kind),
        **_thinking(request.thinking, kind),
    }
    if model is not None:
        body["model"] = model
    if request.n > 1:
        body["n"] = request.n
    if request.answer_format is not None:
        body["response_format"] = _answer_format(request.answer_format.schema, kind)
    if request.partial:
        _continue_last(body, kind)
    return body


def encode_messages(messages: Sequence[Message]) -> list[Json]:
    """Write a conversation, every tool call under the id that K2 was trained on.

    Other ids degrade K2's calls, and clients invent their own: `functions.NAME:IDX` is counted
    over the whole conversation.
    """
    written: list[Json] = []
    k2_ids: dict[str, str] = {}
    n_calls = 0
    for message in messages:
        turn: Json = {"role": message.role, "content": message.content}
        if message.name is not None:
            turn["name"] = message.name
        if message.reasoning:
            turn["reasoning_content"] = message.reasoning
        if message.tool_call_id is not None:
            turn["tool_call_id"] = k2_ids.get(message.tool_call_id, message.tool_call_id)
        if message.tool_calls:
            turn["tool_calls"] = calls = list[Json]()
            for call in message.tool_calls:
                k2_ids[call.id] = identity = call_id(call.name, n_calls)
                n_calls += 1
                function = {"name": call.name, "arguments": call.arguments}
                calls.append({"id": identity, "type": "function", "function": function})
        written.append(turn)
    return written


def encode_tools(tools: Sequence[ToolSpec], kind: Kind) -> list[Json]:
    """Declare tools, and ask for calls that hold to their schemas where the server can."""
    return [{"type": "function", "function": _function(tool, kind)} for tool in tools]


def _function(tool: ToolSpec, kind: Kind) -> Json:
    function: Json = {"name": tool.name, "parameters": dict(tool.parameters)}
    if tool.description:
        function["description"] = tool.description
    if kind.strict == "always" or _can_be_strict(tool.parameters):
        function["strict"] = True
    return function


def _can_be_strict(schema: object, depth: int = 0) -> bool:
    """Whether OpenAI takes a schema as strict: closed objects whose properties are all required."""
    if depth > _STRICT_DEPTH:
        return False
    if isinstance(schema, list):
        return all(_can_be_strict(part, depth + 1) for part in cast("list[object]", schema))
    if not isinstance(schema, Mapping):
        return True
    node = _mapping(cast("object", schema))
    if not _NOT_STRICT.isdisjoint(node):
        return False
    named = _mapping(node.get("properties"))
    if node.get("type") == "object" or named:
        required = node.get("required")
        listed = cast("list[object]", required) if isinstance(required, list) else []
        if node.get("additionalProperties") is not False or any(n not in listed for n in named):
            return False
    nested = _mapping(node.get("$defs")).values()
    inner = [node.get("items"), node.get("anyOf"), *named.values(), *nested]
    return all(_can_be_strict(part, depth + 1) for part in inner)


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


def _tools(request: ChatRequest, kind: Kind) -> Json:
    if not request.tools:
        return {}
    body: Json = {"tools": encode_tools(request.tools, kind)}
    if isinstance(request.tool_choice, NamedTool):
        name = request.tool_choice.name
        body["tool_choice"] = {"type": "function", "function": {"name": name}}
    elif request.tool_choice != "auto":
        body["tool_choice"] = request.tool_choice
    if not request.parallel_tool_calls:
        body["parallel_tool_calls"] = False
    return body


def _sampling(request: ChatRequest, kind: Kind) -> Json:
    sampling, default = request.sampling, _DEFAULT
    body: Json = {"top_p": sampling.top_p}
    if not request.default_temperature:
        body["temperature"] = sampling.temperature
    if sampling.max_tokens is not None:
        # The newer name only if the client uses it: few servers but OpenAI's know it.
        known = request.limit_field == "max_completion_tokens" and kind.name == "openai"
        body["max_completion_tokens" if known else "max_tokens"] = sampling.max_tokens
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias}
    if sampling.logprobs:
        body |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
    for name in ("seed", "presence_penalty", "frequency_penalty", "top_k", "min_p"):
        if getattr(sampling, name) != getattr(default, name):
            body[name] = getattr(sampling, name)
    if sampling.repetition_penalty != default.repetition_penalty:
        body[kind.repetition_field] = sampling.repetition_penalty
    if sampling.cache_key is not None and kind.session_field is not None:
        body[kind.session_field] = sampling.cache_key
    return body


def _thinking(thinking: Thinking, kind: Kind) -> Json:
    if thinking.enabled is None and thinking.budget is None:
        return {}
    enabled = thinking.enabled is not False
    budget = thinking.budget if enabled else None
    if kind.thinking == "object":
        wanted: Json = {"type": "enabled" if enabled else "disabled"}
        if kind.budget == "object" and budget is not None:
            wanted["budget_tokens"] = budget
        return {"thinking": wanted}
    if kind.thinking == "template":
        # K2.5's template reads the first, most others the second; neither minds the other.
        told: Json = {"chat_template_kwargs": {"thinking": enabled, "enable_thinking": enabled}}
        if kind.budget == "field" and budget is not None:
            told["thinking_budget_tokens"] = budget
        return told
    return {"reasoning_effort": _effort(thinking.budget) if enabled else "none"}


def _effort(budget: int | None) -> str:
    if budget is None:
        return "medium"
    return "low" if budget <= 2048 else "medium" if budget <= 8192 else "high"


def _answer_format(schema: Mapping[str, Any] | None, kind: Kind) -> Json:
    if schema is None:
        return {"type": "json_object"}
    if kind.schema_field == "schema":
        return {"type": "json_object", "schema": dict(schema)}
    named: Json = {"name": "answer", "schema": dict(schema)}
    if kind.strict == "always" or _can_be_strict(schema):
        named["strict"] = True
    return {"type": "json_schema", "json_schema": named}


def _continue_last(body: Json, kind: Kind) -> None:
    match kind.partial:
        case "flag":
            body["messages"][-1]["partial"] = True
        case "continue":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        case "last":
            pass
        case "never":
            path = f"messages[{len(body['messages']) - 1}].partial"
            raise ApiError(
                400,
                f"{path}: the server behind this one cannot continue an assistant message; end the "
                "conversation with another role, or have --upstream-kind say what it is.",
                param=path,
                code="unsupported_value",
            )
