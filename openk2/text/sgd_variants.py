"""SGD dialogues under the paraphrased schemas of SGD-X.

With 26 services a model learns the tool and slot names by heart; SGD-X describes every service
in five other ways, so the names have to be read from the declared tools.

In: rows of the SGD packs and the schema file. Out: the same rows with names exchanged.
Must not know: messages as `openk2.types` has them, tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openk2.text.corpus import read_rows

VARIANTS = ("v1", "v2", "v3", "v4", "v5")


@dataclass(frozen=True, slots=True)
class Wording:
    """How one variant words one tool."""

    name: str
    description: str
    slots: Mapping[str, tuple[str, str]]
    """Original slot name to its name and description here; results included."""


def schema_variants(path: Path) -> dict[tuple[str, str, str], Wording]:
    """Read how each variant words each tool, by (variant, service, original tool name)."""
    rows = list(read_rows(path))
    originals = {row["service"]: row for row in rows if row["variant"] == "v0"}
    found: dict[tuple[str, str, str], Wording] = {}
    for row in rows:
        if row["variant"] == "v0":
            continue
        # SGD-X numbers Alarm_1's variants Alarm_11 ... Alarm_15 and keeps the order of intents.
        service = row["service"][:-1]
        original = originals[service]
        about = {slot["name"]: slot["description"] for slot in row["schema"]["slots"]}
        for function, intent in zip(original["functions"], row["schema"]["intents"], strict=True):
            slots = _paired(_slots_of_function(function), _slots_of_intent(intent), about)
            key = (row["variant"], service, function["name"])
            found[key] = Wording(intent["name"], intent["description"], slots)
    return found


def _slots_of_function(function: Mapping[str, Any]) -> list[str]:
    return [*function["parameters"]["properties"], *function["returns"]]


def _slots_of_intent(intent: Mapping[str, Any]) -> list[str]:
    return [*intent["required_slots"], *intent["optional_slots"], *intent["result_slots"]]


def _paired(
    original: Iterable[str], variant: Iterable[str], about: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    pairs = zip(original, variant, strict=True)
    return {old: (new, about[new]) for old, new in pairs}


def renamed(
    row: Mapping[str, Any], variants: Mapping[tuple[str, str, str], Wording], variant: str
) -> dict[str, Any]:
    """Copy a dialogue with its tools, calls and results worded as `variant` words them."""
    wordings: dict[str, Wording] = {}
    for tool in row["tools"]:
        for service in row["services"]:
            if wording := variants.get((variant, service, tool["name"])):
                wordings[tool["name"]] = wording
    changed = copy.deepcopy(dict(row))
    if len(wordings) < len(row["tools"]) or _ambiguous(wordings):
        return changed
    changed["tools"] = [_tool(tool, wordings[tool["name"]]) for tool in row["tools"]]
    names: dict[str, Wording] = {}
    for message in changed["messages"]:
        for call in message.get("tool_calls", ()):
            names[call["id"]] = wordings[call["name"]]
            call["name"] = names[call["id"]].name
            call["arguments"] = _keys(call["arguments"], names[call["id"]])
        if message["role"] == "tool":
            results = message["content"].get("results", [])
            message["content"]["results"] = [_keys(r, names[message["id"]]) for r in results]
    return changed


def _ambiguous(wordings: Mapping[str, Wording]) -> bool:
    return len({wording.name for wording in wordings.values()}) < len(wordings)


def _keys(values: Mapping[str, Any], wording: Wording) -> dict[str, Any]:
    return {wording.slots.get(key, (key,))[0]: value for key, value in values.items()}


def _tool(tool: Mapping[str, Any], wording: Wording) -> dict[str, Any]:
    schema = tool["parameters"]
    properties = {}
    for old, about in schema["properties"].items():
        new, description = wording.slots[old]
        properties[new] = {**about, "description": description}
    required = [wording.slots[old][0] for old in schema.get("required", ())]
    return {
        "name": wording.name,
        "description": wording.description,
        "parameters": {**schema, "properties": properties, "required": required},
    }
