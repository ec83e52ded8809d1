"""A body for each field of the Messages dialect, and what becomes of it."""

from __future__ import annotations

from tests.server.dialects import messages_bodies as claude
from tests.server.field_case import OTHER, SCHEMA, Case, Json, case

SAY: Json = claude.HI
SIGNED = claude.thinking("hm", claude.OURS.sign("hm"))
DOCUMENT = {"type": "document", "source": {"type": "text", "data": "words"}}
FOUND = {"type": "search_result", "source": "s", "title": "t", "content": [claude.text("c")]}
REFERENCE = {"type": "tool_reference", "tool_name": "search"}
BLOCKS: Json = claude.talk(
    claude.user(claude.text("hi"), DOCUMENT, FOUND, REFERENCE),
    claude.assistant(SIGNED, claude.use()),
    claude.user(claude.result(), claude.text("go on")),
)
CLAUDE_TOOLS: Json = SAY | {"tools": [claude.tool(), claude.tool("other")]}
CHOICE: Json = CLAUDE_TOOLS | {"tool_choice": {"type": "tool", "name": "search"}}
OUTPUT: Json = SAY | {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}
OLD_OUTPUT: Json = SAY | {"output_format": {"type": "json_schema", "schema": SCHEMA}}
UNCALLED = ("refused", "messages[2].content[0].tool_use_id")


def _read(*paragraphs: str) -> str:
    return "\n\n".join(("hi", *paragraphs))


MESSAGES: dict[str, Case] = {
    "messages": case(SAY, "messages", [claude.user("ho")], "messages.0.content", "ho"),
    "messages[].role": case(
        claude.talk(claude.user("hi"), claude.user("x")),
        "messages.1.role",
        "system",
        "messages.1.role",
        "system",
    ),
    "messages[].content": case(SAY, "messages.0.content", "ho", "messages.0.content", "ho"),
    "messages[].content[text].text": case(
        BLOCKS, "messages.2.content.1.text", "stop", "messages.3.content", "stop"
    ),
    "messages[].content[tool_use].id": case(BLOCKS, "messages.1.content.1.id", "c", *UNCALLED),
    "messages[].content[tool_use].name": case(
        BLOCKS, "messages.1.content.1.name", "f", "messages.1.tool_calls.0.name", "f"
    ),
    "messages[].content[tool_use].input": case(
        BLOCKS,
        "messages.1.content.1.input",
        {"a": 1},
        "messages.1.tool_calls.0.arguments",
        '{"a": 1}',
    ),
    "messages[].content[tool_result].tool_use_id": case(
        BLOCKS, "messages.2.content.0.tool_use_id", "c", *UNCALLED
    ),
    "messages[].content[tool_result].content": case(
        BLOCKS, "messages.2.content.0.content", "42", "messages.2.content", "42"
    ),
    "messages[].content[tool_result].is_error": case(
        BLOCKS, "messages.2.content.0.is_error", True, "messages.2.content", "Error: done"
    ),
    "messages[].content[thinking].thinking": case(
        BLOCKS, "messages.1.content.0.thinking", "ha", "messages.1.reasoning", ""
    ),
    "messages[].content[thinking].signature": case(
        BLOCKS, "messages.1.content.0.signature", "EqoB", "messages.1.reasoning", ""
    ),
    "messages[].content[document].source.data": case(
        BLOCKS,
        "messages.0.content.1.source.data",
        "other",
        "messages.0.content",
        _read("other", "t\ns\nc", "search"),
    ),
    "messages[].content[document].source.content": case(
        claude.talk(
            claude.user({"type": "document", "source": {"type": "content", "content": "x"}})
        ),
        "messages.0.content.0.source.content",
        [claude.text("y")],
        "messages.0.content",
        "y",
    ),
    "messages[].content[document].title": case(
        BLOCKS,
        "messages.0.content.1.title",
        "T",
        "messages.0.content",
        _read("T\nwords", "t\ns\nc", "search"),
    ),
    "messages[].content[document].context": case(
        BLOCKS,
        "messages.0.content.1.context",
        "C",
        "messages.0.content",
        _read("C\nwords", "t\ns\nc", "search"),
    ),
    "messages[].content[search_result].content": case(
        BLOCKS,
        "messages.0.content.2.content",
        [claude.text("d")],
        "messages.0.content",
        _read("words", "t\ns\nd", "search"),
    ),
    "messages[].content[search_result].source": case(
        BLOCKS,
        "messages.0.content.2.source",
        "S",
        "messages.0.content",
        _read("words", "t\nS\nc", "search"),
    ),
    "messages[].content[search_result].title": case(
        BLOCKS,
        "messages.0.content.2.title",
        "T",
        "messages.0.content",
        _read("words", "T\ns\nc", "search"),
    ),
    "messages[].content[tool_reference].tool_name": case(
        BLOCKS,
        "messages.0.content.3.tool_name",
        "other",
        "messages.0.content",
        _read("words", "t\ns\nc", "other"),
    ),
    "system": case(SAY, "system", "be brief", "messages.0.content", "be brief"),
    "max_tokens": case(SAY, "max_tokens", 9, "sampling.max_tokens", 9),
    "model": case(SAY, "model", "m", "model", "m"),
    "stream": case(SAY, "stream", True, "options.stream", True),
    "stop_sequences": case(SAY, "stop_sequences", ["END"], "sampling.stop", ("END",)),
    "temperature": case(SAY, "temperature", 0.25, "sampling.temperature", 0.25),
    "top_p": case(SAY, "top_p", 0.5, "sampling.top_p", 0.5),
    "top_k": case(SAY, "top_k", 7, "sampling.top_k", 7),
    "tools": case(SAY, "tools", [claude.tool()], "tools.0.name", "search"),
    "tools[].type": case(
        SAY | {"tools": [{"name": "web_search"}, claude.tool()]},
        "tools.0.type",
        "web_search_20260318",
        "options.warnings.0",
        "tools[0]: left out; 'web_search_20260318' is not known here",
    ),
    "tools[].name": case(CLAUDE_TOOLS, "tools.0.name", "f", "tools.0.name", "f"),
    "tools[].description": case(
        CLAUDE_TOOLS, "tools.0.description", "d", "tools.0.description", "d"
    ),
    "tools[].input_schema": case(
        CLAUDE_TOOLS, "tools.0.input_schema", OTHER, "tools.0.parameters", OTHER
    ),
    "tool_choice.type": case(CLAUDE_TOOLS, "tool_choice.type", "any", "tool_choice", "required"),
    "tool_choice.name": case(CHOICE, "tool_choice.name", "other", "tool_choice.name", "other"),
    "tool_choice.disable_parallel_tool_use": case(
        CHOICE, "tool_choice.disable_parallel_tool_use", True, "parallel_tool_calls", False
    ),
    "thinking.type": case(SAY, "thinking.type", "disabled", "thinking.enabled", False),
    "thinking.budget_tokens": case(
        SAY | {"thinking": {"type": "enabled"}}, "thinking.budget_tokens", 9, "thinking.budget", 9
    ),
    "output_config.effort": case(SAY, "output_config.effort", "low", "thinking.budget", 2048),
    "output_config.format.type": case(
        OUTPUT, "output_config.format.type", "xml", "refused", "output_config.format.type"
    ),
    "output_config.format.schema": case(
        OUTPUT, "output_config.format.schema", OTHER, "answer_format.schema", OTHER
    ),
    "output_format.type": case(
        OLD_OUTPUT, "output_format.type", "xml", "refused", "output_format.type"
    ),
    "output_format.schema": case(
        OLD_OUTPUT, "output_format.schema", OTHER, "answer_format.schema", OTHER
    ),
}
MESSAGES_REFUSED: dict[str, Json] = {
    "messages[].content[image]": claude.talk(claude.user(claude.image())),
    "thread": SAY | {"thread": {"type": "create"}},
    "compaction": SAY | {"compaction": {"type": "summarize"}},
}
MESSAGES_WHOLE: Json = (
    BLOCKS
    | CHOICE
    | OUTPUT
    | {
        "messages": BLOCKS["messages"],
        "thinking": {"type": "enabled"},
    }
)
