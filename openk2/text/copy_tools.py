"""Invented and real tools for the copy tasks, with parameters that a user can state.

In: a word bank and a random generator. Out: tools with the request they serve.
Must not know: messages, sentence frames, tokens, files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from openk2.text.copy_phrases import Lang, Wording
from openk2.text.copy_values import JSON_TYPES, WordBank, words
from openk2.types import ToolSpec

TOOL_COUNTS = ((1, 2, 3, 4, 5), (3, 3, 2, 1, 1))
PARAMETER_COUNTS = ((1, 2, 3, 4), (4, 4, 2, 1))
ALIKE_SHARE = 0.4
"""Tools whose parameters are all of one kind: only their names tell which value is whose."""
ALIKE_KINDS = ("integer", "integer", "decimal", "word", "phrase", "person", "place", "date", "time")
ALIKE_COUNTS = ((2, 3, 4), (4, 3, 1))

Style = Callable[[Sequence[str]], str]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A declared parameter and how users state it."""

    name: str
    label: str
    """What users call it, in the language of the conversation."""
    kind: str
    """A key of `copy_values.VALUES`, or `enum`, or `flag`."""
    schema: Mapping[str, Any]
    says: tuple[str, ...]
    """Natural clauses with `{}` for the value; may be none."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A declared tool and the request that it serves."""

    spec: ToolSpec
    request: str
    """What a user asks for: verb and object."""
    parameters: tuple[Parameter, ...]
    required: frozenset[str]


@dataclass(frozen=True, slots=True)
class Draw:
    """What every step of one conversation shares."""

    rng: Random
    bank: WordBank
    lang: Lang

    def frame(self, part: str) -> str:
        """Draw a sentence frame of one part in the conversation's language."""
        return self.rng.choice(self.bank.said.texts[part, self.lang])


def draw_tools(draw: Draw) -> list[Tool]:
    """Draw tools with different names and requests; the first is the one that is called."""
    wanted = draw.rng.choices(*TOOL_COUNTS)[0]
    found: dict[str, Tool] = {}
    while len(found) < wanted:
        tool = draw_tool(draw)
        if all(tool.request != other.request for other in found.values()):
            found.setdefault(tool.spec.name, tool)
    return list(found.values())


def draw_tool(draw: Draw) -> Tool:
    """Draw one tool: an invented compound, or a real one from the catalogue."""
    style = draw.rng.choice((_snake, _snake, _camel, _pascal, _kebab))
    if draw.lang == "zh" or draw.rng.random() < 0.6:
        name, description, request = _invented(draw, style)
        return _declared(draw, name, description, request, _parameters(draw, style))
    row = draw.rng.choice(draw.bank.tools)
    description = _first_sentence(row["description"])
    request = description[:1].lower() + description[1:].rstrip(".")
    if len(request) < 8 or len(request) > 90 or draw.rng.random() < 0.2:
        request = f"use {row['name']}"
    own = _own_parameters(draw, row) if draw.rng.random() < 0.5 else []
    return _declared(draw, row["name"], description, request, own or _parameters(draw, style))


def _invented(draw: Draw, style: Style) -> tuple[str, str, str]:
    rng = draw.rng
    verb, zh_verb = rng.choice(draw.bank.said.pairs["verb", None])
    noun, zh_noun = rng.choice(draw.bank.said.pairs["noun", None])
    bare = noun.split(" ", 1)[1]
    if rng.random() < 0.3 and draw.lang == "en":
        # An invented word before the object: the tool's name cannot be known either.
        extra = rng.choice(draw.bank.words)
        bare, noun = f"{extra} {bare}", f"the {extra} {bare}"
    parts = [verb, *bare.split()]
    if rng.random() < 0.15:
        parts = [*bare.split(), verb]
    if rng.random() < 0.15:
        parts = [rng.choice(draw.bank.words), *parts]
    english = f"{verb.capitalize()} {noun}"
    description = rng.choice((english, f"{english}.", f"A tool to {verb} {noun}.", ""))
    if draw.lang == "zh":
        description = rng.choice((f"{zh_verb}{zh_noun}", f"用于{zh_verb}{zh_noun}", english))
        return style(parts), description, zh_verb + zh_noun
    return style(parts), description, f"{verb} {noun}"


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s|\n", text.strip(), maxsplit=1)[0][:150]


def _parameters(draw: Draw, style: Style) -> list[Parameter]:
    if draw.lang == "en" and draw.rng.random() < ALIKE_SHARE:
        return _alike(draw, style)
    count = draw.rng.choices(*PARAMETER_COUNTS)[0]
    found: dict[str, Parameter] = {}
    for wording in draw.rng.sample(draw.bank.said.parameters, count):
        plain = draw.rng.choice(wording.names)
        name = style(plain.split("_")) if style is not _kebab else plain
        found.setdefault(name, _worded(draw, name, plain.replace("_", " "), wording))
    return list(found.values())


def _alike(draw: Draw, style: Style) -> list[Parameter]:
    """Draw parameters of one kind under invented names of one or two words."""
    rng, kind = draw.rng, draw.rng.choice(ALIKE_KINDS)
    count = rng.choices(*ALIKE_COUNTS)[0]
    shared = rng.choice(draw.bank.words) if rng.random() < 0.25 else ""
    found: list[Parameter] = []
    for word in rng.sample(draw.bank.words, count):
        parts = [*([shared] if shared and rng.random() < 0.9 else []), word]
        label = " ".join(parts)
        schema: dict[str, Any] = dict(JSON_TYPES.get(kind, {"type": "string"}))
        if rng.random() < 0.6:
            schema["description"] = rng.choice((f"The {label}.", f"The {label}", label))
        found.append(Parameter(style(parts), label, kind, schema, ()))
    return found


def _worded(draw: Draw, name: str, plain: str, wording: Wording) -> Parameter:
    rng, kind = draw.rng, wording.kind
    schema: dict[str, Any] = dict(JSON_TYPES.get(kind, {"type": "string"}))
    if kind.startswith("enum:"):
        options = kind.removeprefix("enum:").split("|")
        if rng.random() < 0.4:
            options = words(rng, draw.bank, draw.lang, rng.randint(2, 5))
        rng.shuffle(options)
        schema["enum"], kind = options, "enum"
    if rng.random() < 0.8:
        chinese = draw.lang == "zh" and rng.random() < 0.6
        schema["description"] = wording.zh_name if chinese else wording.description
    label, says = (wording.zh_name, wording.zh_says) if draw.lang == "zh" else (plain, wording.says)
    return Parameter(name, label, kind, schema, says)


_SIMPLE_TYPES = {"string", "integer", "number", "boolean"}
_HINTS = (
    ("mail", "email"), ("date", "date"), ("time", "time"), ("url", "url"), ("link", "url"),
    ("path", "file"), ("file", "file"), ("phone", "phone"), ("city", "place"),
    ("location", "place"),
    ("country", "place"), ("address", "address"), ("author", "person"), ("user", "person"),
    ("owner", "person"), ("id", "identifier"), ("code", "identifier"), ("token", "identifier"),
)  # fmt: skip


def _own_parameters(draw: Draw, row: Mapping[str, Any]) -> list[Parameter]:
    """Take up to four of a real tool's own parameters, those with simple types."""
    simple: list[Parameter] = []
    for name, about in row["parameters"].get("properties", {}).items():
        if about.get("type") not in _SIMPLE_TYPES or not re.fullmatch(r"[A-Za-z]\w{0,30}", name):
            continue
        kind = {"integer": "integer", "number": "decimal", "boolean": "flag"}.get(about["type"], "")
        schema: dict[str, Any] = {"type": about["type"]}
        options = [o for o in about.get("enum", ()) if isinstance(o, str) and o][:6]
        if options and not kind:
            schema["enum"], kind = options, "enum"
        if not kind:
            kind = next((k for hint, k in _HINTS if hint in name.lower()), "phrase")
        if description := _first_sentence(about.get("description", "")):
            schema["description"] = description
        label = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").strip().lower()
        simple.append(Parameter(name, label, kind, schema, ()))
    draw.rng.shuffle(simple)
    return simple[: draw.rng.choices(*PARAMETER_COUNTS)[0]]


def _declared(
    draw: Draw, name: str, description: str, request: str, parameters: list[Parameter]
) -> Tool:
    count = draw.rng.randint(1, len(parameters))
    required = [p.name for p in draw.rng.sample(parameters, count)]
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {p.name: p.schema for p in parameters},
        "required": [p.name for p in parameters if p.name in required],
    }
    spec = ToolSpec(name, description, schema)
    return Tool(spec, request, tuple(parameters), frozenset(required))


def _snake(parts: Sequence[str]) -> str:
    return "_".join(parts)


def _kebab(parts: Sequence[str]) -> str:
    return "-".join(parts)


def _pascal(parts: Sequence[str]) -> str:
    return "".join(part[:1].upper() + part[1:] for part in parts)


def _camel(parts: Sequence[str]) -> str:
    joined = _pascal(parts)
    return joined[:1].lower() + joined[1:]
