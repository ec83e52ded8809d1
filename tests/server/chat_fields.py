"""A body for each field of Chat Completions and legacy completions, and what becomes of it."""

from __future__ import annotations

from openk2.server.request import JsonAnswer
from tests.server.dialects import chat_bodies as chat
from tests.server.field_case import OTHER, SCHEMA, Case, Json, case


def sampling(base: Json) -> dict[str, Case]:
    """What both dialects have in common."""
    given: list[tuple[str, object, str, object]] = [
        ("temperature", 0.25, "temperature", 0.25),
        ("top_p", 0.5, "top_p", 0.5),
        ("top_k", 7, "top_k", 7),
        ("min_p", 0.25, "min_p", 0.25),
        ("presence_penalty", 0.5, "presence_penalty", 0.5),
        ("frequency_penalty", -0.5, "frequency_penalty", -0.5),
        ("repetition_penalty", 1.5, "repetition_penalty", 1.5),
        ("logit_bias", {"5": -100}, "logit_bias", ((5, -100.0),)),
        ("seed", 11, "seed", 11),
        ("max_tokens", 9, "max_tokens", 9),
        ("stop", "END", "stop", ("END",)),
        ("prompt_cache_key", "s", "cache_key", "s"),
    ]
    return {name: case(base, name, value, f"sampling.{at}", new) for name, value, at, new in given}


# Chat Completions -------------------------------------------------------------------------------

HI: Json = chat.HI
TURNS: Json = {
    "messages": [
        {"role": "user", "content": [chat.text_part("hi")]},
        {"role": "assistant", "content": [chat.text_part("x")], "tool_calls": [chat.CALL]},
        chat.RESULT,
        {"role": "assistant", "content": ""},
    ]
}
TOOLS: Json = HI | {"tools": [chat.tool(), chat.tool("other")]}
FORMAT: Json = chat.with_format(type="json_schema", json_schema={"name": "n", "schema": SCHEMA})
UNANSWERED = ("refused", "messages[2].tool_call_id")

CHAT: dict[str, Case] = sampling(HI) | {
    "messages": case(HI, "messages", [chat.USER], "messages.0.content", "go on"),
    "messages[].role": case(HI, "messages.0.role", "system", "messages.0.role", "system"),
    "messages[].content": case(HI, "messages.0.content", "ho", "messages.0.content", "ho"),
    "messages[].content[text].text": case(
        TURNS, "messages.0.content.0.text", "ho", "messages.0.content", "ho"
    ),
    "messages[].content[refusal]": case(
        TURNS,
        "messages.1.content.1",
        {"type": "refusal", "refusal": "!"},
        "messages.1.content",
        "x!",
    ),
    "messages[].name": case(HI, "messages.0.name", "ann", "messages.0.name", "ann"),
    "messages[].refusal": case(TURNS, "messages.3.refusal", "no", "messages.3.content", "no"),
    "messages[].reasoning_content": case(
        TURNS, "messages.1.reasoning_content", "hm", "messages.1.reasoning", "hm"
    ),
    "messages[].reasoning": case(TURNS, "messages.1.reasoning", "hm", "messages.1.reasoning", "hm"),
    "messages[].tool_calls[].id": case(TURNS, "messages.1.tool_calls.0.id", "c", *UNANSWERED),
    "messages[].tool_calls[].function.name": case(
        TURNS, "messages.1.tool_calls.0.function.name", "f", "messages.1.tool_calls.0.name", "f"
    ),
    "messages[].tool_calls[].function.arguments": case(
        TURNS,
        "messages.1.tool_calls.0.function.arguments",
        {"a": 1},
        "messages.1.tool_calls.0.arguments",
        '{"a": 1}',
    ),
    "messages[].tool_call_id": case(TURNS, "messages.2.tool_call_id", "c", *UNANSWERED),
    "messages[].partial": case(TURNS, "messages.3.partial", True, "partial", True),
    "messages[].tools": case(
        chat.after_hi(chat.dynamic()), "messages.1.tools", [chat.tool()], "tools.0.name", "search"
    ),
    "model": case(HI, "model", "m", "model", "m"),
    "n": case(HI, "n", 2, "n", 2),
    "stream": case(HI, "stream", True, "options.stream", True),
    "stream_options.include_usage": case(
        HI, "stream_options.include_usage", True, "options.include_usage", True
    ),
    "logprobs": case(HI, "logprobs", True, "sampling.logprobs", True),
    "top_logprobs": case(HI | {"logprobs": True}, "top_logprobs", 3, "sampling.top_logprobs", 3),
    "max_completion_tokens": case(
        HI | {"max_tokens": 5}, "max_completion_tokens", 9, "sampling.max_tokens", 9
    ),
    "response_format.type": case(
        HI, "response_format.type", "json_object", "answer_format", JsonAnswer(None)
    ),
    "response_format.json_schema.schema": case(
        FORMAT, "response_format.json_schema.schema", OTHER, "answer_format.schema", OTHER
    ),
    "response_format.schema": case(
        chat.with_format(type="json_object"),
        "response_format.schema",
        OTHER,
        "answer_format.schema",
        OTHER,
    ),
    "tools": case(HI, "tools", [chat.tool()], "tools.0.name", "search"),
    "tools[].type": case(TOOLS, "tools.0.type", "web_search", "tools.0.name", "other"),
    "tools[].function.name": case(TOOLS, "tools.0.function.name", "f", "tools.0.name", "f"),
    "tools[].function.description": case(
        TOOLS, "tools.0.function.description", "d", "tools.0.description", "d"
    ),
    "tools[].function.parameters": case(
        TOOLS, "tools.0.function.parameters", OTHER, "tools.0.parameters", OTHER
    ),
    "tool_choice": case(TOOLS, "tool_choice", "required", "tool_choice", "required"),
    "parallel_tool_calls": case(HI, "parallel_tool_calls", False, "parallel_tool_calls", False),
    "thinking.type": case(HI, "thinking.type", "disabled", "thinking.enabled", False),
    "thinking.effort": case(
        HI | {"reasoning_effort": "high"}, "thinking.effort", "low", "thinking.budget", 2048
    ),
    "thinking.budget_tokens": case(HI, "thinking.budget_tokens", 9, "thinking.budget", 9),
    "reasoning_effort": case(HI, "reasoning_effort", "low", "thinking.budget", 2048),
    "chat_template_kwargs.thinking": case(
        HI, "chat_template_kwargs.thinking", False, "thinking.enabled", False
    ),
    "chat_template_kwargs.enable_thinking": case(
        HI, "chat_template_kwargs.enable_thinking", True, "thinking.enabled", True
    ),
    "heavy.trajectories": case(HI, "heavy.trajectories", 3, "trajectories", 3),
}

GUIDED: Json = {
    "structured_outputs": {"regex": "a+"},
    "guided_json": SCHEMA,
    "guided_regex": "a+",
    "guided_choice": ["a", "b"],
    "guided_grammar": 'root ::= "a"',
}


def _part(kind: str) -> Json:
    return {"messages": [{"role": "user", "content": [{"type": kind, kind: {"url": "data:,"}}]}]}


CUSTOM = {"id": "call_1", "type": "custom", "custom": {"name": "patch", "input": "x"}}
CHAT_REFUSED: dict[str, Json] = {
    **{f"messages[].content[{kind}]": _part(kind) for kind in ("image_url", "video_url")},
    **{f"messages[].content[{kind}]": _part(kind) for kind in ("input_audio", "file")},
    "messages[].function_call": chat.after_hi(
        {"role": "assistant", "function_call": {"name": "f"}}
    ),
    "messages[].audio": chat.after_hi({"role": "assistant", "audio": {"id": "audio_1"}}),
    "messages[].tool_calls[].type": chat.after_hi({"role": "assistant", "tool_calls": [CUSTOM]}),
    "modalities": HI | {"modalities": ["text", "audio"]},
    "functions": HI | {"functions": [{"name": "f"}]},
    "function_call": HI | {"function_call": {"name": "f"}},
    "web_search_options": HI | {"web_search_options": {}},
    "moderation": HI | {"moderation": {"model": "omni-moderation-latest"}},
    "continue_final_message": HI | {"continue_final_message": True},
    **{name: HI | {name: value} for name, value in GUIDED.items()},
}
CHAT_WHOLE: Json = (
    TURNS
    | FORMAT
    | {
        "messages": TURNS["messages"],
        "tools": TOOLS["tools"],
        "thinking": {"type": "enabled"},
        "stream_options": {"include_usage": True},
    }
)

# Legacy completions -----------------------------------------------------------------------------

ONCE: Json = {"prompt": "Once"}

COMPLETIONS: dict[str, Case] = sampling(ONCE) | {
    "prompt": case(ONCE, "prompt", [1, 2], "prompts", ((1, 2),)),
    "model": case(ONCE, "model", "m", "model", "m"),
    "n": case(ONCE, "n", 2, "n", 2),
    "stream": case(ONCE, "stream", True, "stream", True),
    "stream_options.include_usage": case(
        ONCE, "stream_options.include_usage", True, "include_usage", True
    ),
    "logprobs": case(ONCE, "logprobs", 2, "sampling.top_logprobs", 2),
    "echo": case(ONCE, "echo", True, "echo", True),
}
COMPLETIONS_REFUSED: dict[str, Json] = {
    "suffix": ONCE | {"suffix": "end"},
    "best_of": ONCE | {"best_of": 2},
    "response_format": ONCE | {"response_format": {"type": "json_object"}},
    **{name: ONCE | {name: value} for name, value in GUIDED.items()},
}
COMPLETIONS_WHOLE: Json = ONCE | {"stream_options": {"include_usage": True}}
