"""Bodies as real clients send them, to be broken: every route, every part that a field can have."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_SCHEMA: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "file_path": {"type": "string", "description": "The absolute path"},
        "limit": {"type": "integer", "minimum": 1, "maximum": 50},
        "mode": {"type": "string", "enum": ["fast", "slow", None]},
        "edits": {
            "type": "array",
            "items": {"$ref": "#/$defs/edit"},
            "minItems": 1,
            "maxItems": 2,
        },
        "pattern": {"anyOf": [{"type": "string", "pattern": "^[a-z]{1,4}$"}, {"type": "null"}]},
    },
    "required": ["file_path", "edits"],
    "additionalProperties": False,
    "$defs": {
        "edit": {
            "type": "object",
            "properties": {
                "old": {"type": "string", "minLength": 1, "maxLength": 8},
                "all": {"type": "boolean", "default": False},
                "next": {"$ref": "#/$defs/edit"},
            },
            "required": ["old"],
        }
    },
}
_ANSWER: Json = {
    "type": "object",
    "properties": {"title": {"type": "string", "maxLength": 9}, "score": {"type": "number"}},
    "required": ["title", "score"],
    "additionalProperties": False,
}

# Cline, and anything else on the `openai` package.
CHAT: Json = {
    "model": "nano",
    "messages": [
        {"role": "system", "content": "You are Cline.\n\nTOOL USE"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<task>fix it</task>"},
                {"type": "text", "text": "<environment_details>/src</environment_details>"},
            ],
        },
        {
            "role": "assistant",
            "content": "I will look.",
            "reasoning_content": "Which file?",
            "tool_calls": [
                {
                    "id": "call_a1",
                    "type": "function",
                    "function": {"name": "read", "arguments": '{"file_path": "/a"}'},
                },
                {
                    "id": "functions.read:7",
                    "type": "function",
                    "function": {"name": "read", "arguments": ""},
                },
            ],
        },
        {"role": "tool", "tool_call_id": "call_a1", "content": "print('你好 🙂')"},
        {
            "role": "tool",
            "tool_call_id": "functions.read:7",
            "content": [{"type": "text", "text": "nothing"}],
            "name": "read",
        },
        {"role": "user", "content": "<feedback>go on</feedback>", "name": "ann"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "read",
                "description": "Read a file",
                "parameters": _SCHEMA,
                "strict": True,
            },
        },
        {"type": "function", "function": {"name": "done"}},
    ],
    "tool_choice": {"type": "function", "function": {"name": "read"}},
    "parallel_tool_calls": False,
    "temperature": 0.7,
    "top_p": 0.9,
    "max_completion_tokens": 120,
    "stop": ["END", "\n\n"],
    "seed": 5,
    "logit_bias": {"50": -100, "7": 1.5},
    "logprobs": True,
    "top_logprobs": 2,
    "presence_penalty": 0.1,
    "frequency_penalty": -0.1,
    "n": 1,
    "stream": True,
    "stream_options": {"include_usage": True},
    "user": "u-1",
    "metadata": {"k": "v"},
    "store": False,
    "prompt_cache_key": "session-1",
    "reasoning_effort": "low",
    "service_tier": "auto",
}
CHAT_JSON: Json = {
    "model": "nano",
    "messages": [{"role": "developer", "content": "be short"}, {"role": "user", "content": "hi"}],
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "page", "strict": True, "schema": _ANSWER},
    },
    "max_tokens": 80,
    "temperature": 1.3,
    "min_p": 0.05,
    "top_k": 20,
    "repetition_penalty": 1.1,
    "thinking": {"type": "enabled", "keep": "all", "budget_tokens": 9},
    "chat_template_kwargs": {"thinking": False},
}
CHAT_PARTIAL: Json = {
    "messages": [
        {
            "role": "system",
            "content": None,
            "tools": [{"type": "function", "function": {"name": "f"}}],
        },
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "name": "Dr. Kelsier", "content": "I am", "partial": True},
    ],
    "max_tokens": 12,
    "n": 2,
    "heavy": None,
    "tool_choice": {
        "type": "allowed_tools",
        "allowed_tools": {
            "mode": "auto",
            "tools": [{"type": "function", "function": {"name": "f"}}],
        },
    },
}
CHAT_HEAVY: Json = {
    "messages": [{"role": "user", "content": "6*7?"}],
    "heavy": {"trajectories": 2},
    "max_tokens": 20,
    "stream": False,
}

# Codex.
RESPONSE: Json = {
    "model": "nano",
    "instructions": "You are a coding agent running in the Codex CLI.",
    "input": [
        {
            "type": "message",
            "role": "developer",
            "content": [{"type": "input_text", "text": "<permissions>read-only</permissions>"}],
        },
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "list the files"}],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "I should look"}],
            "content": None,
            "encrypted_content": "gAAAA",
        },
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "shell",
            "arguments": '{"command": ["ls"]}',
            "status": "completed",
        },
        {"type": "function_call_output", "call_id": "call_1", "output": "a.py\n"},
        {
            "type": "custom_tool_call",
            "call_id": "call_2",
            "name": "apply_patch",
            "input": "*** Begin Patch",
        },
        {
            "type": "custom_tool_call_output",
            "call_id": "call_2",
            "output": [{"type": "input_text", "text": "Done!"}],
        },
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "There is a.py", "annotations": []}],
        },
        {"role": "user", "content": "and now?"},
    ],
    "tools": [
        {
            "type": "function",
            "name": "shell",
            "description": "Run a command",
            "strict": False,
            "parameters": {
                "type": "object",
                "properties": {
                    "command": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
                    "timeout_ms": {"type": "number"},
                },
                "required": ["command"],
                "additionalProperties": False,
            },
        },
        {"type": "web_search"},
        {"type": "custom", "name": "apply_patch", "format": {"type": "grammar"}},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
    "prompt_cache_key": "0199-aa",
    "text": {"verbosity": "low"},
    "max_output_tokens": 150,
    "metadata": {"k": "v"},
    "truncation": "auto",
    "top_logprobs": 1,
}
RESPONSE_JSON: Json = {
    "input": "extract it",
    "text": {"format": {"type": "json_schema", "name": "page", "schema": _ANSWER, "strict": True}},
    "max_output_tokens": 90,
    "temperature": 0.2,
    "top_p": 0.5,
    "previous_response_id": None,
}

RESPONSE_ALLOWED: Json = {
    "type": "allowed_tools",
    "mode": "auto",
    "tools": [{"type": "function", "name": "shell"}],
}

# Claude Code.
MESSAGE: Json = {
    "model": "claude-sonnet-4-5-20250929",
    "max_tokens": 200,
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.197;"},
        {
            "type": "text",
            "text": "You are Claude Code.",
            "cache_control": {"type": "ephemeral", "ttl": "1h"},
        },
    ],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system-reminder>today</system-reminder>"},
                {"type": "text", "text": "fix it", "cache_control": {"type": "ephemeral"}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "EqoB"},
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"file_path": "/a"}},
                {"type": "tool_use", "id": "toolu_2", "name": "Bash", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "1\tprint()"},
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_2",
                    "is_error": True,
                    "content": [
                        {"type": "text", "text": "no"},
                        {"type": "tool_reference", "tool_name": "Grep"},
                    ],
                },
                {
                    "type": "document",
                    "source": {"type": "text", "media_type": "text/plain", "data": "words"},
                    "title": "t",
                    "citations": {"enabled": True},
                },
                {"type": "text", "text": "go on"},
            ],
        },
        {"role": "system", "content": "be quick"},
    ],
    "tools": [
        {"name": "Read", "description": "Read a file", "input_schema": _SCHEMA},
        {
            "name": "Bash",
            "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}},
            "cache_control": {"type": "ephemeral"},
        },
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
    ],
    "tool_choice": {"type": "tool", "name": "Read", "disable_parallel_tool_use": True},
    "metadata": {"user_id": "user_1_account__session_2"},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "medium"},
    "temperature": 1,
    "stream": True,
}
MESSAGE_JSON: Json = {
    "model": "nano",
    "max_tokens": 60,
    "system": "short",
    "messages": [{"role": "user", "content": "hi"}],
    "output_config": {"format": {"type": "json_schema", "schema": _ANSWER}},
    "stop_sequences": ["END"],
    "top_p": 0.9,
    "top_k": 40,
    "thinking": {"type": "disabled"},
}
MESSAGE_PREFILL: Json = {
    "model": "nano",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Well, "}],
    "mcp_servers": [{"type": "url", "url": "https://example.com", "name": "x"}],
}

COMPLETION: Json = {
    "model": "nano",
    "prompt": ["<|im_user|>user<|im_middle|>hi<|im_end|>", "Once"],
    "max_tokens": 9,
    "n": 2,
    "echo": True,
    "stop": ["\n"],
    "temperature": 0.5,
    "stream": True,
    "stream_options": {"include_usage": True},
    "suffix": None,
    "best_of": 2,
    "seed": 1,
    "logit_bias": {"1": 2},
}
COMPLETION_IDS: Json = {"prompt": [1, 2, 3], "max_tokens": 4, "top_k": 5, "logprobs": 2}

BODIES: list[tuple[str, Json]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", CHAT | {"tool_choice": "auto", "stream": False}),
    ("/v1/chat/completions", CHAT_JSON),
    ("/v1/chat/completions", CHAT_PARTIAL),
    ("/v1/chat/completions", CHAT_HEAVY),
    ("/v1/chat/completions", RESPONSE),
    ("/v1/responses", RESPONSE),
    ("/v1/responses", RESPONSE | {"stream": False, "tool_choice": "required"}),
    ("/v1/responses", RESPONSE | {"tool_choice": {"type": "function", "name": "shell"}}),
    ("/v1/responses", RESPONSE | {"tool_choice": RESPONSE_ALLOWED, "stream": False}),
    ("/v1/responses", RESPONSE_JSON),
    ("/v1/messages?beta=true", MESSAGE),
    ("/anthropic/v1/messages", MESSAGE | {"stream": False, "tool_choice": {"type": "auto"}}),
    ("/v1/messages", MESSAGE_JSON),
    ("/anthropic/v1/messages", MESSAGE_PREFILL),
    ("/v1/messages/count_tokens?beta=true", MESSAGE),
    ("/anthropic/v1/messages/count_tokens", MESSAGE_PREFILL),
    ("/v1/completions", COMPLETION),
    ("/v1/completions", COMPLETION_IDS),
    ("/v1/tokenizers/estimate-token-count", CHAT),
]
