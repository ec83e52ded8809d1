"""Requests for tool calls and JSON answers, drawn by chance, in each dialect."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from tests.server.strict_schemas import draw_tools

DIALECTS = ("chat", "messages", "responses")


@dataclass(frozen=True)
class Case:
    """One request, in no dialect yet."""

    seed: int
    dialect: str
    tools: dict[str, Any]
    choice: str
    """`auto`, `required`, `none`, `json`, or `named:` and a tool."""
    parallel: bool
    temperature: float
    limit: int
    earlier: int
    """Calls that the conversation already has."""
    eager: float
    """Bias for a tool section, in the dialect that has biases."""
    settings: dict[str, Any]
    """Fields of the dialect that change what is drawn, never what may be drawn."""

    @property
    def named(self) -> str | None:
        return self.choice.removeprefix("named:") if self.choice.startswith("named:") else None


SETTINGS: dict[str, tuple[dict[str, Any], ...]] = {
    "chat": (
        {"top_p": 0.05},
        {"extra_body": {"top_k": 1}},
        {"extra_body": {"min_p": 0.9}},
        {"extra_body": {"repetition_penalty": 10}},
        {"extra_body": {"heavy": {"trajectories": 2}}},
        {"extra_body": {"thinking": {"type": "enabled", "budget_tokens": 5}}},
        {"presence_penalty": 2, "frequency_penalty": 2},
        {"presence_penalty": -2, "frequency_penalty": -2},
        {"logprobs": True, "top_logprobs": 3},
        {"reasoning_effort": "none"},
        {"stop": ["a", '"', " "]},
    ),
    "messages": (
        {"extra_body": {"top_k": 1}},
        {"extra_body": {"top_p": 0.1}},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"thinking": {"type": "disabled"}},
        {"stop_sequences": ["a", '"', " "]},
    ),
    "responses": (
        {"top_p": 0.05},
        {"top_logprobs": 2},
        {"reasoning": {"effort": "minimal", "summary": "auto"}},
        {"include": ["reasoning.encrypted_content", "message.output_text.logprobs"]},
    ),
}


def draw_settings(random: Random, dialect: str, choice: str) -> dict[str, Any]:
    chosen = random.choice(({}, {}, *SETTINGS[dialect]))
    # A stop string ends any text, JSON too.
    stops = "stop" in chosen or "stop_sequences" in chosen
    return {} if choice == "json" and stops else chosen


def draw_case(seed: int) -> Case:
    random = Random(seed)
    tools = draw_tools(random)
    dialect = random.choice(DIALECTS)
    choices = ("auto", "auto", "required", "required", "json", "none", "named", "named", "named")
    choice = random.choice(choices)
    if choice == "named":
        choice = f"named:{random.choice(list(tools))}"
    temperature = random.choice((0, 0.6, 1, 1.5))
    return Case(
        seed,
        dialect,
        tools,
        choice,
        parallel=random.random() < 0.6,
        temperature=min(temperature, 1) if dialect == "messages" else temperature,
        limit=random.choice((1, 20, 60, 60, 100, 100, 150, 250, 500)),
        earlier=random.choice((0, 0, 0, 2)),
        eager=random.choice((0, 8, 8, 100)),
        settings=draw_settings(random, dialect, choice),
    )


def chat_body(case: Case, begin: int) -> dict[str, Any]:
    calls = [
        {"id": f"c{i}", "type": "function", "function": {"name": "get", "arguments": "{}"}}
        for i in range(case.earlier)
    ]
    messages: list[Any] = [{"role": "user", "content": "Use a tool 工具"}]
    if calls:
        results = [{"role": "tool", "tool_call_id": c["id"], "content": "ok"} for c in calls]
        messages += [{"role": "assistant", "tool_calls": calls}, *results]
    tools = [
        {"type": "function", "function": {"name": name, "parameters": schema}}
        for name, schema in case.tools.items()
    ]
    body: dict[str, Any] = {
        "model": "nano",
        "messages": messages,
        "temperature": case.temperature,
        "seed": case.seed,
        **case.settings,
        "max_tokens": case.limit,
    }
    if case.choice == "json":
        (schema, *_) = case.tools.values()
        wanted = {"name": "answer", "schema": schema}
        return body | {"response_format": {"type": "json_schema", "json_schema": wanted}}
    choice: Any = case.choice
    if case.named:
        choice = {"type": "function", "function": {"name": case.named}}
    if case.eager:
        body["logit_bias"] = {str(begin): case.eager}
    return body | {"tools": tools, "tool_choice": choice, "parallel_tool_calls": case.parallel}


def messages_body(case: Case) -> dict[str, Any]:
    turns: list[Any] = [{"role": "user", "content": "Use a tool 工具"}]
    if case.earlier:
        ids = [f"toolu_{i}" for i in range(case.earlier)]
        uses = [{"type": "tool_use", "id": i, "name": "get", "input": {}} for i in ids]
        results = [{"type": "tool_result", "tool_use_id": i, "content": "ok"} for i in ids]
        turns += [{"role": "assistant", "content": uses}, {"role": "user", "content": results}]
    body: dict[str, Any] = {
        "model": "claude-any",
        "messages": turns,
        **case.settings,
        # The SDK has left this field behind; the API has not.
        "extra_body": {"temperature": case.temperature} | case.settings.get("extra_body", {}),
        "max_tokens": case.limit,
    }
    if case.choice == "json":
        (schema, *_) = case.tools.values()
        return body | {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    choice: dict[str, Any] = {"type": "any" if case.choice == "required" else case.choice}
    if case.named:
        choice = {"type": "tool", "name": case.named}
    if case.choice != "none":
        choice["disable_parallel_tool_use"] = not case.parallel
    tools = [{"name": name, "input_schema": schema} for name, schema in case.tools.items()]
    return body | {"tools": tools, "tool_choice": choice}


def responses_body(case: Case) -> dict[str, Any]:
    items: list[Any] = [{"role": "user", "content": "Use a tool 工具"}]
    ids = [f"call_{i}" for i in range(case.earlier)]
    items += [
        {"type": "function_call", "call_id": i, "name": "get", "arguments": "{}"} for i in ids
    ]
    items += [{"type": "function_call_output", "call_id": i, "output": "ok"} for i in ids]
    body: dict[str, Any] = {
        "model": "nano",
        "input": items,
        "temperature": case.temperature,
        "max_output_tokens": case.limit,
        **case.settings,
    }
    if case.choice == "json":
        (schema, *_) = case.tools.values()
        wanted = {"type": "json_schema", "name": "answer", "schema": schema}
        return body | {"text": {"format": wanted}}
    choice: Any = {"type": "function", "name": case.named} if case.named else case.choice
    tools = [
        {"type": "function", "name": name, "parameters": schema}
        for name, schema in case.tools.items()
    ]
    return body | {"tools": tools, "tool_choice": choice, "parallel_tool_calls": case.parallel}
