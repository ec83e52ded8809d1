"""Tool-use packs: from rows of dialogues and function calls to conversations with tools.

In: the folder `data/`. Out: conversations, one converter per pack.
Must not know: tokens, the chat template, how much of each pack a training run uses.
"""

from __future__ import annotations

import ast
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from openk2.text.conversations import Conversation, as_json, trimmed
from openk2.text.corpus import held_out, normalised, read_rows
from openk2.text.sgd_variants import VARIANTS, renamed, schema_variants
from openk2.types import Message, ToolCall, ToolSpec

Row = Mapping[str, Any]

SGD_TODAY = "Today is Friday, 2019-03-01."
"""The day on which SGD plays: "tomorrow" is only a date to who knows it. Every dialogue says it,
for said only where a date follows it would tell that one does."""


def _rows(data: Path, name: str) -> Iterator[dict[str, Any]]:
    return read_rows(data / "instruct" / f"{name}.jsonl.zst")


def _tools(specs: Iterable[Row]) -> tuple[ToolSpec, ...]:
    return tuple(ToolSpec(s["name"], s["description"], s["parameters"]) for s in specs)


def _message(row: Row) -> Message:
    content = row["content"]
    if row["role"] == "tool":
        # Some packs hold the result as JSON text, others as a JSON value.
        text = content if isinstance(content, str) else as_json(content)
        return Message("tool", text, tool_call_id=row["id"])
    calls = tuple(
        ToolCall(call["id"], call["name"], as_json(call["arguments"]))
        for call in row.get("tool_calls", ())
    )
    return Message(row["role"], content.strip(), tool_calls=calls)


def _dialogue(source: str, key: str, row: Row, system: str = "") -> Conversation:
    head = [Message("system", system)] if system else []
    messages = trimmed([*head, *map(_message, row["messages"])])
    return Conversation(messages, _tools(row["tools"]), source, key)


def sgd_train(data: Path) -> Iterator[Conversation]:
    """Yield SGD's training dialogues, most of them under one of five paraphrased schemas."""
    return _sgd(data, "sgd_train", _rows(data, "sgd_tooluse_train"))


def sgd_dev(data: Path) -> Iterator[Conversation]:
    """Yield SGD's development dialogues, most of them under a paraphrased schema."""
    return _sgd(data, "sgd_dev", _rows(data, "sgd_tooluse_dev"))


def sgd_test(data: Path) -> Iterator[Conversation]:
    """Yield held-out SGD dialogues under their own schemas; never train on them."""
    for row in read_rows(data / "eval" / "sgd_test_dialogues.jsonl.zst"):
        yield _dialogue("sgd_test", f"sgd_test/{row['id']}", row, SGD_TODAY)


def _sgd(data: Path, source: str, rows: Iterator[dict[str, Any]]) -> Iterator[Conversation]:
    variants = schema_variants(data / "tools" / "sgd_schemas_and_sgdx.jsonl.zst")
    for row in rows:
        choice = random.Random(row["id"]).choice(("v0", *VARIANTS))
        # Both splits number their dialogues alike.
        key = f"{source}/{row['id']}"
        yield _dialogue(source, key, renamed(row, variants, choice), SGD_TODAY)


def tm4(data: Path) -> Iterator[Conversation]:
    """Yield coffee orders, chains of calls that pass ids on."""
    for row in _rows(data, "tm4_coffee_tooluse"):
        yield _dialogue("tm4", row["id"], row)


def crosswoz(data: Path) -> Iterator[Conversation]:
    """Yield Chinese travel dialogues with search calls."""
    for row in _rows(data, "crosswoz_zh_tooluse"):
        yield _dialogue("crosswoz", f"crosswoz/{row['id']}", row)


def glaive(data: Path) -> Iterator[Conversation]:
    """Yield English and Chinese chats with one or two tools each."""
    for row in _rows(data, "glaive_demo_tooluse"):
        yield _dialogue("glaive", row["messages"][0]["content"], row)


_JSON_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean",
               "list": "array", "dict": "object"}  # fmt: skip


def sealtools(data: Path) -> Iterator[Conversation]:
    """Yield one request and its parallel calls; requests that nest calls are left out."""
    for row in _rows(data, "sealtools_dev"):
        if "API_call_" in as_json([call["parameters"] for call in row["calling"]]):
            continue
        tools = _tools(map(_seal_spec, _seal_apis(row["prompt"])))
        declared = {tool.name: tool.parameters["properties"] for tool in tools}
        calls = [
            (call["api"], _typed(call["parameters"], declared.get(call["api"], {})))
            for call in row["calling"]
        ]
        yield _single_turn("sealtools", row["query"], calls, tools)


def _seal_apis(prompt: str) -> Sequence[Row]:
    start = prompt.index("api_list = ") + len("api_list = ")
    return ast.literal_eval(prompt[start : prompt.rindex("\ntask_instruction")])


def _seal_spec(api: Row) -> dict[str, Any]:
    properties = {
        name: {**about, "type": _JSON_TYPES.get(about["type"], "string")}
        for name, about in api["parameters"].items()
    }
    schema = {"type": "object", "properties": properties, "required": api["required"]}
    return {"name": api["api_name"], "description": api["api_description"], "parameters": schema}


_LITERALS = {
    "integer": re.compile(r"-?(0|[1-9]\d*)"),
    "number": re.compile(r"-?(0|[1-9]\d*)(\.\d+)?"),
    "boolean": re.compile(r"[Tt]rue|[Ff]alse"),
}


def _typed(arguments: Row, properties: Row) -> dict[str, Any]:
    return {name: _value(value, properties.get(name, {})) for name, value in arguments.items()}


def _value(value: Any, schema: Row) -> Any:
    # The source writes some numbers and truth values as strings.
    literal = _LITERALS.get(schema.get("type", ""))
    if isinstance(value, str) and literal and literal.fullmatch(value):
        return json.loads(value.lower())
    return value


def _single_turn(
    source: str,
    query: str,
    calls: Sequence[tuple[str, Mapping[str, Any]]],
    tools: tuple[ToolSpec, ...],
) -> Conversation:
    made = tuple(
        ToolCall(f"c{i}", name, as_json(arguments)) for i, (name, arguments) in enumerate(calls, 1)
    )
    messages = (Message("user", query.strip()), Message("assistant", tool_calls=made))
    return Conversation(messages, tools, source, f"{source}/{query}")


REFUSALS = (
    "I can't do that with the tools I have.",
    "Sorry, none of my tools can do that.",
    "I don't have a tool for that. Is there something else I can help with?",
    "That is outside what my tools can do.",
    "I'm sorry, I can't help with that here: no tool fits this request.",
    "Could you tell me more? None of the tools I have seems to fit this.",
)
MISSING_TOOL_SHARE = 0.08
"""How often the right tool is withheld, so that declining is learned beside calling."""


def nlu_calls(data: Path) -> Iterator[Conversation]:
    """Yield utterances and their one call among three to six tools, or a short refusal."""
    return _nlu(data, "nlu_calls", _rows(data, "nlu_function_calls_train"))


def nlu_calls_test(data: Path) -> Iterator[Conversation]:
    """Yield utterances and calls that training never saw; never train on them."""
    trained = {normalised(row["query"]) for row in _rows(data, "nlu_function_calls_train")}
    rows = read_rows(data / "eval" / "nlu_function_calls_test.jsonl.zst")
    # The sources repeat a few utterances across their parts.
    unseen = (row for row in rows if normalised(row["query"]) not in trained)
    return _nlu(data, "nlu_calls_test", unseen)


def _nlu(data: Path, source: str, rows: Iterator[dict[str, Any]]) -> Iterator[Conversation]:
    functions = list(read_rows(data / "tools" / "nlu_functions.jsonl.zst"))
    by_name = {(f["source"], f["name"]): f for f in functions}
    families: dict[str, list[dict[str, Any]]] = {}
    for function in functions:
        families.setdefault(function["source"], []).append(function)
    strangers = {name: [f for f in functions if f["source"] != name] for name in families}
    for row in rows:
        rng = random.Random(f"{row['source']}/{row['query']}")
        call = None if rng.random() < MISSING_TOOL_SHARE else row["call"]
        far = strangers[row["source"]]
        if call is None:
            # A withheld tool's relatives might do its work, so only strangers are offered.
            tools = _tools(_with_distractors(rng, None, (), far))
            messages = (Message("user", row["query"].strip()),
                        Message("assistant", rng.choice(REFUSALS)))  # fmt: skip
            yield Conversation(messages, tools, source, f"{source}/{row['query']}")
            continue
        right = by_name[row["source"], call["name"]]
        tools = _tools(_with_distractors(rng, right, families[row["source"]], far))
        yield _single_turn(source, row["query"], [(call["name"], call["arguments"])], tools)


def _with_distractors(
    rng: random.Random, right: Row | None, near: Sequence[Row], far: Sequence[Row]
) -> list[Row]:
    count = rng.randint(2, 5)
    chosen = {right["name"]: right} if right else {}
    while len(chosen) < count + (right is not None):
        pool = near if near and rng.random() < 0.5 else far
        other = rng.choice(pool)
        chosen.setdefault(other["name"], other)
    tools = list(chosen.values())
    rng.shuffle(tools)
    return tools


NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}}
ONE_QUERY: Mapping[str, Any] = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "The user's request, word for word"}},
    "required": ["query"],
}


def metatool(data: Path) -> Iterator[Conversation]:
    """Yield requests and the one tool that fits, half of them with the request as argument."""
    descriptions: dict[str, str] = {}
    for row in _rows(data, "metatool_tool_choice"):
        descriptions.setdefault(row["tool"], row["description"])
    names = sorted(descriptions)
    for row in _rows(data, "metatool_tool_choice"):
        query = row["query"].strip()
        verbatim = held_out(f"verbatim/{query}", 0.5)
        parameters = ONE_QUERY if verbatim else NO_ARGUMENTS
        specs = [{"name": name, "description": descriptions[name], "parameters": parameters}
                 for name in names]  # fmt: skip
        right = specs[names.index(row["tool"])]
        tools = _tools(_with_distractors(random.Random(query), right, (), specs))
        arguments = {"query": query} if verbatim else {}
        yield _single_turn("metatool", query, [(row["tool"], arguments)], tools)


TOOL_PACKS: Mapping[str, Callable[[Path], Iterator[Conversation]]] = {
    convert.__name__: convert
    for convert in (sgd_train, sgd_dev, tm4, crosswoz, glaive, sealtools, nlu_calls, metatool)
}
"""Pack name to converter; see `openk2.text.packs`."""
EVAL_PACKS: Mapping[str, Callable[[Path], Iterator[Conversation]]] = {
    convert.__name__: convert for convert in (sgd_test, nlu_calls_test)
}
"""Held-out packs: for measuring only."""
