"""One stranger's specification: checked, made plain, or refused with a reason.

What is refused is refused alone. Every check looks at a bounded part of a tool before it looks at
all of it, so a hostile tool costs no more than a large one.

In: a tool as some file has it. Out: a `ToolSpec` whose schema refers to nothing. Must not know:
files and their formats.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import jsonschema_rs

from openk2.types import ToolSpec

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
"""What model APIs take as the name of a function."""
_ARGUMENT = re.compile(r"[^\s\x00-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]{1,64}")
_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
    r"\ud800-\udfff\U000e0000-\U000e007f]"
)
_MARKUP = re.compile(r"<\|[^|<>]{1,40}\|>")
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_DATA = ("enum", "const", "default", "examples", "required", "dependentRequired", "example")
_DROPPED = ("$schema", "$id", "id", "$anchor", "$comment", "title", "$defs", "definitions")


@dataclass(frozen=True, slots=True)
class SpecLimits:
    """How large one tool may be."""

    description: int = 16_000
    """Characters of a description, the tool's or a parameter's."""
    schema: int = 128_000
    """Bytes of the schema of its arguments, references put in place."""
    depth: int = 40
    """Levels of nesting."""
    members: int = 2_000
    """Members of one enumeration."""
    properties: int = 200
    """Parameters, and properties of one object."""


class SpecError(ValueError):
    """A file cannot be used at all; the message says why and what would be right."""


class Bad(ValueError):
    """A tool is refused; the message says what is wrong with it and where."""


@dataclass(frozen=True, slots=True)
class Found:
    """A tool as a file has it."""

    where: str
    """Which entry it is."""
    name: Any
    description: Any
    parameters: Any
    output: Any = None
    """The schema of what it returns, where the file tells."""
    root: Any = None
    """Where references start, if that is not the schema."""
    problem: str = ""
    """Why it cannot be used, where that is known already."""
    notes: tuple[str, ...] = ()
    """What was left out of it."""


def checked(
    name: Any, description: Any, parameters: Any, limits: SpecLimits, *, root: Any = None
) -> ToolSpec:
    """Return a tool as this program uses it.

    Args:
        name: What its owner calls it.
        description: What its owner says about it; None is nothing.
        parameters: A JSON Schema of an object; None takes no arguments.
        limits: How large it may be.
        root: The document that references start at; the schema itself by default.

    Raises:
        Bad: It cannot be used.
    """
    if not isinstance(name, str) or not name:
        raise Bad("has no name")
    if not NAME.fullmatch(name):
        raise Bad("is not the name of a function: letters, digits, _ and -, at most 64 of them")
    if description is not None and not isinstance(description, str):
        raise Bad("description: is not a text")
    text = _plain(description or "", "description", limits)
    schema = object_schema(parameters, limits, root)
    return ToolSpec(name, text, schema)


def object_schema(parameters: Any, limits: SpecLimits, root: Any = None) -> dict[str, Any]:
    """Return a schema of arguments that stands for itself: no references, no other documents.

    Args:
        parameters: As in `checked`.
        limits: As in `checked`.
        root: As in `checked`.

    Raises:
        Bad: It is no JSON Schema of an object, refers to itself, or is too large.
    """
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, dict):
        raise Bad("parameters: is not an object")
    schema = cast("dict[str, Any]", parameters)
    plain = Inliner(limits, root if root is not None else schema).inlined(schema, "parameters")
    kind = plain.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise Bad(f"parameters: are not an object but {json.dumps(kind)[:60]}")
    plain["type"] = "object"
    if not isinstance(plain.setdefault("properties", {}), dict):
        raise Bad("parameters.properties: is not an object")
    for argument in plain["properties"]:
        if not _ARGUMENT.fullmatch(argument):
            raise Bad(f"parameters.properties: {argument[:40]!r} is not the name of an argument")
    compiled(plain, limits)
    return plain


def compiled(schema: Mapping[str, Any], limits: SpecLimits) -> jsonschema_rs.Validator:
    """Compile a schema: nothing is fetched, and patterns never backtrack.

    Raises:
        Bad: It is not JSON Schema, or too large.
    """
    size = len(json.dumps(schema, ensure_ascii=False))
    if size > limits.schema:
        raise Bad(f"parameters: are {size:,} characters long, more than {limits.schema:,}")
    try:
        return jsonschema_rs.validator_for(
            dict(schema),
            validate_formats=True,
            offline=True,
            pattern_options=jsonschema_rs.RegexOptions(),
        )
    except (ValueError, TypeError) as error:
        first = str(error).splitlines()[0][:160]
        raise Bad(f"parameters: are not valid JSON Schema: {first}") from error


def _plain(text: str, where: str, limits: SpecLimits) -> str:
    if len(text) > limits.description:
        raise Bad(f"{where}: is {len(text):,} characters long, more than {limits.description:,}")
    if found := _CONTROL.search(text):
        raise Bad(f"{where}: has the invisible character U+{ord(found[0]):04X}")
    if found := _MARKUP.search(text):
        raise Bad(f"{where}: has {found[0]!r}, which is written like a model's control token")
    return text.strip()


class Inliner:
    """Copies a schema, with what its references stand for in their place."""

    def __init__(self, limits: SpecLimits, root: Any, *, cut: bool = False) -> None:
        """Begin.

        Args:
            limits: How large the copy may be.
            root: The document that references start at.
            cut: Whether a reference that leads back to itself becomes an object of any kind; else
                it is an error.
        """
        self.cuts: list[str] = []
        """Where that happened."""
        self._limits = limits
        self._root = root
        self._cut = cut
        self._room = limits.schema

    def inlined(self, schema: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Copy a schema.

        Args:
            schema: What is copied.
            where: What it is called in messages.

        Raises:
            Bad: It cannot be used.
        """
        return self._schema(schema, where, 0, ())

    def _schema(
        self, schema: Mapping[str, Any], where: str, depth: int, open_: tuple[str, ...]
    ) -> dict[str, Any]:
        if depth > self._limits.depth:
            raise Bad(f"{where[:120]}: is nested more than {self._limits.depth} times")
        if "$ref" in schema:
            return self._referred(schema, where, depth, open_)
        plain: dict[str, Any] = {}
        for key, value in schema.items():
            if key in _DROPPED and not (key == "title" and not isinstance(value, str)):
                continue
            if key in ("$dynamicRef", "$recursiveRef"):
                raise Bad(f"{where}: {key} is not supported; write the schema out")
            self._spend(len(key) + 8)
            plain[key] = self._value(key, value, f"{where}.{key}", depth, open_)
        return plain

    def _value(self, key: str, value: Any, where: str, depth: int, open_: tuple[str, ...]) -> Any:
        if key == "description":
            if not isinstance(value, str):
                raise Bad(f"{where}: is not a text")
            self._spend(len(value))
            return _plain(value, where, self._limits)
        if key in _DATA:
            return self._data(value, where)
        if key in _MAPS and isinstance(value, dict):
            named = cast("dict[str, Any]", value)
            if len(named) > self._limits.properties:
                raise Bad(
                    f"{where}: has {len(named):,} members, more than {self._limits.properties}"
                )
            return {
                name: self._any(inner, f"{where}.{name[:40]}", depth, open_)
                for name, inner in named.items()
            }
        return self._any(value, where, depth, open_)

    def _any(self, value: Any, where: str, depth: int, open_: tuple[str, ...]) -> Any:
        if isinstance(value, dict):
            return self._schema(cast("dict[str, Any]", value), where, depth + 1, open_)
        if isinstance(value, list):
            if depth > self._limits.depth:
                raise Bad(f"{where[:120]}: is nested more than {self._limits.depth} times")
            some = cast("list[Any]", value)
            self._spend(len(some))
            return [
                self._any(item, f"{where}[{at}]", depth + 1, open_) for at, item in enumerate(some)
            ]
        if isinstance(value, str):
            self._spend(len(value))
            return _plain(value, where, self._limits)
        return value

    def _data(self, value: Any, where: str) -> Any:
        count = _members(value)
        if count > self._limits.members:
            raise Bad(f"{where}: has {count:,} members, more than {self._limits.members:,}")
        for text in _texts(value, self._limits.depth, where):
            self._spend(len(text) + 2)
            _plain(text, where, self._limits)
        return value

    def _referred(
        self, schema: Mapping[str, Any], where: str, depth: int, open_: tuple[str, ...]
    ) -> dict[str, Any]:
        reference = schema["$ref"]
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise Bad(f"{where}: refers to another document, {str(reference)[:80]!r}")
        if reference in open_:
            if not self._cut:
                raise Bad(f"{where}: $ref {reference[:80]!r} leads back to itself")
            self.cuts.append(f"{where}: $ref {reference[:80]!r} leads back to itself")
            return {"type": "object"}
        self._spend(8)
        found = follow(self._root, reference, where)
        more = {key: value for key, value in schema.items() if key != "$ref"}
        return self._schema({**found, **more}, where, depth + 1, (*open_, reference))

    def _spend(self, count: int) -> None:
        """Count what is written: references that multiply end here."""
        self._room -= count
        if self._room < 0:
            raise Bad(f"parameters: are longer than {self._limits.schema:,} characters")


def follow(root: Any, reference: str, where: str) -> Mapping[str, Any]:
    """Find what a local reference stands for.

    Args:
        root: The document.
        reference: `#/a/b`.
        where: What the place is called in messages.

    Raises:
        Bad: There is no such place, or no object.
    """
    found = root
    for part in reference.removeprefix("#").split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and key in found:
            found = cast("dict[str, Any]", found)[key]
        else:
            raise Bad(f"{where}: $ref {reference[:80]!r} leads nowhere")
    if not isinstance(found, dict):
        raise Bad(f"{where}: $ref {reference[:80]!r} leads to no schema")
    return cast("dict[str, Any]", found)


def _members(value: Any) -> int:
    return len(cast("list[Any]", value)) if isinstance(value, list) else 0


def _texts(value: Any, depth: int, where: str) -> Iterator[str]:
    if depth < 0:
        raise Bad(f"{where[:120]}: is nested too deep")
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in cast("dict[str, Any]", value).items():
            yield key
            yield from _texts(item, depth - 1, where)
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            yield from _texts(item, depth - 1, where)
