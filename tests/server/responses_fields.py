"""A body for each field of the Responses dialect, and what becomes of it."""

from __future__ import annotations

import hmac

from openk2.server.dialects.sealed import seal
from openk2.server.request import JsonAnswer
from tests.server.field_case import OTHER, SCHEMA, Case, Json, case


def sign(data: bytes) -> bytes:
    return hmac.digest(b"key", data, "sha256")


ASK: Json = {"input": "hi"}
ITEMS: Json = {
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "s"}]},
        {"type": "function_call", "call_id": "c1", "name": "search", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "42"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "p"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "ok"},
    ]
}
FUNCTIONS: Json = ASK | {
    "tools": [{"type": "function", "name": "search"}, {"type": "function", "name": "other"}]
}
CUSTOM: Json = ASK | {"tools": [{"type": "custom", "name": "patch"}]}
SPACE: Json = ASK | {"tools": [{"type": "namespace", "name": "n", "tools": []}]}
TEXT_FORMAT: Json = ASK | {
    "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}
}

RESPONSES: dict[str, Case] = {
    "input": case(ASK, "input", "ho", "messages.0.content", "ho"),
    "input[message].role": case(ITEMS, "input.0.role", "developer", "messages.0.role", "system"),
    "input[message].content": case(ITEMS, "input.0.content", "ho", "messages.0.content", "ho"),
    "input[function_call].call_id": case(
        ITEMS, "input.2.call_id", "c", "refused", "input[3].call_id"
    ),
    "input[function_call].name": case(
        ITEMS, "input.2.name", "f", "messages.1.tool_calls.0.name", "f"
    ),
    "input[function_call].namespace": case(
        ITEMS, "input.2.namespace", "n", "messages.1.tool_calls.0.name", "n__search"
    ),
    "input[function_call].arguments": case(
        ITEMS, "input.2.arguments", {"a": 1}, "messages.1.tool_calls.0.arguments", '{"a": 1}'
    ),
    "input[function_call_output].call_id": case(
        ITEMS, "input.3.call_id", "c", "refused", "input[3].call_id"
    ),
    "input[function_call_output].output": case(
        ITEMS, "input.3.output", "43", "messages.2.content", "43"
    ),
    "input[custom_tool_call].call_id": case(
        ITEMS, "input.4.call_id", "c", "refused", "input[5].call_id"
    ),
    "input[custom_tool_call].name": case(
        ITEMS, "input.4.name", "f", "messages.3.tool_calls.0.name", "f"
    ),
    "input[custom_tool_call].input": case(
        ITEMS, "input.4.input", "q", "messages.3.tool_calls.0.arguments", '{"input": "q"}'
    ),
    "input[custom_tool_call_output].call_id": case(
        ITEMS, "input.5.call_id", "c", "refused", "input[5].call_id"
    ),
    "input[custom_tool_call_output].output": case(
        ITEMS, "input.5.output", "no", "messages.4.content", "no"
    ),
    "input[reasoning].encrypted_content": case(
        ITEMS, "input.1.encrypted_content", seal("ours", sign), "messages.1.reasoning", "ours"
    ),
    "input[reasoning].content": case(
        ITEMS, "input.1.content", "open", "messages.1.reasoning", "open"
    ),
    "input[reasoning].summary": case(
        ITEMS, "input.1.summary", "short", "messages.1.reasoning", "short"
    ),
    "instructions": case(ASK, "instructions", "be brief", "messages.0.content", "be brief"),
    "model": case(ASK, "model", "m", "model", "m"),
    "stream": case(ASK, "stream", True, "options.stream", True),
    "stream_options.include_usage": case(
        ASK, "stream_options.include_usage", True, "options.include_usage", True
    ),
    "temperature": case(ASK, "temperature", 0.25, "sampling.temperature", 0.25),
    "top_p": case(ASK, "top_p", 0.5, "sampling.top_p", 0.5),
    "max_output_tokens": case(ASK, "max_output_tokens", 9, "sampling.max_tokens", 9),
    "tools": case(ASK, "tools", FUNCTIONS["tools"], "tools.0.name", "search"),
    "tools[].type": case(FUNCTIONS, "tools.0.type", "web_search", "tools.0.name", "other"),
    "tools[].format": case(
        CUSTOM,
        "tools.0.format",
        {"type": "grammar", "definition": "G"},
        "tools.0.description",
        "The input has this grammar:\nG",
    ),
    "tools[].tools": case(
        SPACE, "tools.0.tools", [{"type": "function", "name": "g"}], "tools.0.name", "n__g"
    ),
    "tools[].name": case(FUNCTIONS, "tools.0.name", "f", "tools.0.name", "f"),
    "tools[].description": case(FUNCTIONS, "tools.0.description", "d", "tools.0.description", "d"),
    "tools[].parameters": case(FUNCTIONS, "tools.0.parameters", OTHER, "tools.0.parameters", OTHER),
    "tool_choice": case(FUNCTIONS, "tool_choice", "required", "tool_choice", "required"),
    "parallel_tool_calls": case(ASK, "parallel_tool_calls", False, "parallel_tool_calls", False),
    "text.format.type": case(
        ASK, "text.format.type", "json_object", "answer_format", JsonAnswer(None)
    ),
    "text.format.schema": case(
        TEXT_FORMAT, "text.format.schema", OTHER, "answer_format.schema", OTHER
    ),
    "reasoning.effort": case(ASK, "reasoning.effort", "none", "thinking.enabled", False),
    "reasoning.summary": case(ASK, "reasoning.summary", "auto", "options.summarize", True),
    "reasoning.generate_summary": case(
        ASK, "reasoning.generate_summary", "auto", "options.summarize", True
    ),
    "include": case(ASK, "include", ["message.output_text.logprobs"], "sampling.logprobs", True),
    "top_logprobs": case(ASK, "top_logprobs", 3, "sampling.top_logprobs", 3),
    "prompt_cache_key": case(ASK, "prompt_cache_key", "s", "sampling.cache_key", "s"),
    "metadata": case(ASK, "metadata", {"k": "v"}, "options.echo.metadata", {"k": "v"}),
}


def _input(kind: str) -> Json:
    return {"input": [{"role": "user", "content": [{"type": kind, "file_id": "file_1"}]}]}


RESPONSES_REFUSED: dict[str, Json] = {
    "input[message].content[input_image]": _input("input_image"),
    "input[message].content[input_file]": _input("input_file"),
    "input[item_reference]": {"input": [{"type": "item_reference", "id": "msg_1"}]},
    "input[compaction]": {"input": [{"type": "compaction", "encrypted_content": "x"}]},
    "input[compaction_trigger]": {"input": [{"type": "compaction_trigger"}]},
    "previous_response_id": ASK | {"previous_response_id": "resp_1"},
    "conversation": ASK | {"conversation": "conv_1"},
    "prompt": ASK | {"prompt": {"id": "pmpt_1"}},
    "background": ASK | {"background": True},
    "moderation": ASK | {"moderation": {"model": "omni-moderation-latest"}},
}
RESPONSES_WHOLE: Json = (
    FUNCTIONS
    | TEXT_FORMAT
    | ITEMS
    | {
        "reasoning": {"effort": "low"},
        "stream_options": {},
    }
)
