"""What servers that speak Chat Completions do differently: a table, and how to tell them apart.

In: a server's list of models and its host name. Out: `Kind`.
Must not know: requests, sockets.

The facts are from the servers' own documentation and source (vLLM, SGLang, llama.cpp's server,
llama-cpp-python, the Moonshot platform).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of server."""

    name: str
    partial: Literal["flag", "continue", "last", "never"] = "never"
    """How an assistant message is continued: `partial` on it, `continue_final_message` beside it,
    by being the last one, or not at all."""
    thinking: Literal["object", "template", "effort"] = "effort"
    """Whether it takes `thinking`, `chat_template_kwargs` or `reasoning_effort`."""
    budget: Literal["object", "field"] | None = None
    """Where it takes a budget of thinking: `thinking.budget_tokens`, `thinking_budget_tokens`."""
    strict: Literal["always", "if able"] = "if able"
    """Whether `strict` may stand on every schema, or only where OpenAI's subset allows it."""
    constrains: Literal["always", "forced", "never"] = "never"
    """Which tool calls a grammar holds to their schema: all, or those that `tool_choice` forces."""
    schema_field: Literal["json_schema", "schema"] = "json_schema"
    """Where `response_format` carries a schema; `schema` stands beside the type json_object."""
    repetition_field: str = "repetition_penalty"
    counter: Literal["tokenize", "estimate", "template"] | None = None
    """How it counts a prompt: vLLM's /tokenize, Moonshot's estimate, llama.cpp's template."""
    running_usage: bool = False
    """Whether it can put the usage so far into every chunk."""
    session_field: str | None = None
    """The field that keeps the requests of one session together."""


OPENAI = Kind("openai", session_field="prompt_cache_key")
_MOONSHOT = Kind(
    "moonshot",
    partial="flag",
    thinking="object",
    strict="always",
    constrains="always",
    counter="estimate",
    session_field="prompt_cache_key",
)
_VLLM = Kind(
    "vllm",
    partial="continue",
    thinking="template",
    strict="always",
    constrains="forced",
    counter="tokenize",
    running_usage=True,
)
_SGLANG = Kind(
    "sglang",
    partial="continue",
    thinking="template",
    strict="always",
    constrains="forced",
    counter="tokenize",
    running_usage=True,
)
_LLAMA_CPP = Kind(
    "llama.cpp",
    partial="last",
    thinking="template",
    budget="field",
    strict="always",
    constrains="always",
    schema_field="schema",
    repetition_field="repeat_penalty",
    counter="template",
)
_LLAMA_CPP_PYTHON = Kind(
    "llama-cpp-python",
    strict="always",
    constrains="forced",
    schema_field="schema",
    repetition_field="repeat_penalty",
)
KINDS: Mapping[str, Kind] = {
    kind.name: kind for kind in (OPENAI, _MOONSHOT, _VLLM, _SGLANG, _LLAMA_CPP, _LLAMA_CPP_PYTHON)
}

_OWNERS: Mapping[str, Kind] = {
    "vllm": _VLLM,
    "sglang": _SGLANG,
    "llamacpp": _LLAMA_CPP,
    "me": _LLAMA_CPP_PYTHON,
    "moonshot": _MOONSHOT,
    "openk2": replace(_MOONSHOT, budget="object"),
}
"""Whom a server names in `owned_by`."""

_HOSTS = ("moonshot.cn", "moonshot.ai", "kimi.com", "kimi.ai")


def detect_kind(host: str, models: object) -> Kind:
    """Tell a server's kind by its answer to `GET /v1/models`, else by its host name."""
    data = _get(models, "data")
    first = cast("list[object]", data)[0] if isinstance(data, list) and data else None
    owner = _get(first, "owned_by")
    if isinstance(owner, str) and owner in _OWNERS:
        return _OWNERS[owner]
    if any(host == name or host.endswith(f".{name}") for name in _HOSTS):
        return _MOONSHOT
    return OPENAI


def _get(value: object, key: str) -> object:
    return cast("dict[str, Any]", value).get(key) if isinstance(value, dict) else None
