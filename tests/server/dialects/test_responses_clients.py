from __future__ import annotations

from openk2.server.dialects.openai import ChatOptions
from openk2.server.dialects.openai_events import ChunkEncoder, Head
from openk2.server.dialects.openai_events import encode_response as encode_chat_response
from openk2.server.dialects.responses import decode_request, is_responses_body
from openk2.server.dialects.sealed import seal
from tests.server.dialects.responses_items import (
    EVENTS,
    HEAD,
    output,
    sign,
    tool,
)

# Clients ----------------------------------------------------------------------------------------


CODEX = {
    "model": "kimi-k2",
    "input": [
        {
            "type": "message",
            "id": "msg_a",
            "role": "developer",
            "content": [{"type": "input_text", "text": "You are a coding agent."}],
        },
        {
            "type": "message",
            "id": "msg_b",
            "role": "developer",
            "content": [{"type": "input_text", "text": "<skills_instructions/>"}],
        },
        {
            "type": "message",
            "id": "msg_c",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "<environment_context/>"},
                {"type": "input_text", "text": "List the files."},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1_0",
            "summary": [{"type": "summary_text", "text": "**Listing**"}],
            "content": None,
            "encrypted_content": seal("I should list.", sign),
        },
        {
            "type": "function_call",
            "status": "completed",
            "id": "fc_1_1",
            "name": "exec_command",
            "arguments": '{"cmd": "ls"}',
            "call_id": "call_1_0",
        },
        {
            "type": "function_call_output",
            "id": "fco_1",
            "call_id": "call_1_0",
            "output": "README.md\n",
        },
    ],
    "tools": [
        {
            "type": "function",
            "name": "exec_command",
            "description": "Runs a command.",
            "strict": False,
            "parameters": {
                "type": "object",
                "properties": {"cmd": {"type": "string"}},
                "required": ["cmd"],
                "additionalProperties": False,
            },
        },
        {"type": "namespace", "name": "agents", "description": "", "tools": [tool("inner")]},
        {"type": "web_search", "external_web_access": False},
        {"type": "custom", "name": "apply_patch", "format": {"type": "grammar"}},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "01a2-session",
    "client_metadata": {"session_id": "01a2-session", "turn_id": "01a2"},
}


def test_a_body_as_codex_sends_it():
    request, options = decode_request(CODEX, sign)
    names = ["exec_command", "agents__inner", "apply_patch"]
    assert [tool.name for tool in request.tools] == names
    assert [message.role for message in request.messages] == [
        "system", "system", "user", "assistant", "tool",
    ]  # fmt: skip
    assert request.messages[3].reasoning == "I should list."
    assert request.messages[3].tool_calls[0].arguments == '{"cmd": "ls"}'
    assert request.sampling.cache_key == "01a2-session"
    assert options.stream and options.summarize and options.sign is sign


CURSOR = {
    "model": "kimi-k2",
    "user": "google-oauth2|1",
    "input": [
        {"role": "system", "content": "You are an assistant in an editor."},
        {"role": "user", "content": [{"type": "input_text", "text": "Fix it."}]},
    ],
    "tools": [
        tool("read_file", parameters={"type": "object", "properties": {}}),
        {"type": "custom", "name": "ApplyPatch", "format": {"type": "grammar"}},
    ],
    "tool_choice": "auto",
    "reasoning": {"effort": "medium"},
    "stream": True,
    "stream_options": {"include_usage": True},
}


def test_a_body_that_cursor_sends_to_the_chat_endpoint():
    assert is_responses_body(CURSOR) and is_responses_body(CURSOR | {"messages": None})
    assert not any(map(is_responses_body, ([], {}, CURSOR | {"messages": []}, {"messages": []})))
    request, options = decode_request(CURSOR)
    assert [message.role for message in request.messages] == ["system", "user"]
    assert [tool.name for tool in request.tools] == ["read_file", "ApplyPatch"]
    chunks = ChunkEncoder(
        Head("chatcmpl-1", 7, "nano"), ChatOptions(options.stream, options.include_usage, request.n)
    )
    told = [chunk for event in EVENTS for chunk in chunks.encode(0, event)]
    assert told[-1]["usage"]["total_tokens"] == 15
    calls = encode_chat_response(HEAD, [(0, event) for event in EVENTS])["choices"][0]["message"]
    again = CURSOR["input"] + [
        {"type": "function_call", "call_id": c["id"], **c["function"]} for c in calls["tool_calls"]
    ]
    again += [output(c["id"]) for c in calls["tool_calls"]]
    history = decode_request(CURSOR | {"input": again})[0].messages
    assert [call.id for call in history[2].tool_calls] == ["functions.search:0", "functions.now:1"]
