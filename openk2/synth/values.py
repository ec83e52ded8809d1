"""Values for the parameters of tools: what the schema allows and the name suggests.

In: a JSON Schema, the name it goes by, a source of chance. Out: a value that satisfies the schema.
Must not know: tools, worlds, language.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, cast

import jsonschema_rs

from openk2.synth.meanings import TEXT, examples_in, meaning_of, range_of
from openk2.synth.pattern import TooHard, matching
from openk2.synth.pools import POOLS, POOLS_ZH, coined

Json = Any
Schema = Mapping[str, Json]

_FRACTION = re.compile(
    r"lat|lon|lng|price|amount|rate|ratio|weight|temperature|score|threshold|cost"
)
_DEEPEST = 8
_TRIES = 12
_LISTED = {TEXT: 0.8, "slug": 0.8, "file_type": 0.6, "sentence": 0.0, "title": 0.2}
"""How often a value is one that the description lists, by meaning; else 0.1."""
_FORMATS: Mapping[str, str] = {
    "date": "day", "date-time": "moment", "email": "email", "idn-email": "email", "uri": "url",
    "url": "url", "uri-reference": "url", "iri": "url", "uuid": "uuid", "ipv4": "ip",
    "ipv6": "ipv6", "hostname": "host", "idn-hostname": "host", "phone-number": "phone",
    "password": "secret", "path": "path",
}  # fmt: skip
_MADE: Mapping[str, Callable[[Random], str]] = {
    "time": lambda rng: f"{POOLS['clock'](rng)}:00Z",
    "duration": lambda rng: f"P{rng.randint(1, 90)}D",
    "regex": lambda rng: f"^{coined(rng)}$",
    "json-pointer": lambda rng: f"/{coined(rng)}",
    "relative-json-pointer": lambda rng: f"{rng.randint(0, 9)}/{coined(rng)}",
    "uri-template": lambda rng: POOLS["url"](rng),
}


class Undrawable(ValueError):
    """No value of this schema was found; the message says where."""


@dataclass(frozen=True, slots=True)
class ValueSettings:
    """How values are chosen."""

    chinese: float = 0.08
    """Share of names, places and texts that are Chinese."""
    optional: float = 0.35
    """Share of an object's optional properties that are given."""
    examples: float = 0.25
    """Share of values taken from the schema's own examples: they are few, so they teach little."""
    longest: int = 3
    """Most items of a list, where the schema does not ask for more."""


class Drawer:
    """Draws values of one schema."""

    def __init__(
        self,
        name: str,
        schema: Schema,
        settings: ValueSettings | None = None,
        root: Schema | None = None,
    ) -> None:
        """Compile the schema once.

        Args:
            name: What the value is called; it tells what fits.
            schema: Its schema.
            settings: How values are chosen.
            root: The schema that local references start at; without one, they start at `schema`.

        Raises:
            Undrawable: It is no schema.
        """
        self._name = name
        self._schema = dict(schema)
        self._settings = settings or ValueSettings()
        self._root = root if root is not None else schema
        whole = dict(schema)
        for key in ("$defs", "definitions"):
            if key in self._root:
                whole.setdefault(key, self._root[key])
        try:
            # Patterns are run by an engine without backtracking, references never leave.
            self._validator = jsonschema_rs.validator_for(
                whole,
                validate_formats=True,
                offline=True,
                pattern_options=jsonschema_rs.RegexOptions(),
            )
        except (ValueError, TypeError) as error:
            raise Undrawable(f"{name} has no valid schema: {str(error)[:200]}") from error

    def draw(self, rng: Random) -> Json:
        """Draw a value.

        Raises:
            Undrawable: None was found that satisfies the schema.
        """
        problem = "nothing fits"
        for _ in range(_TRIES):
            try:
                value = self._any(self._schema, self._name, rng, 0)
            except (TooHard, Undrawable) as error:
                problem = str(error)
                continue
            if self._validator.is_valid(value):
                return value
        raise Undrawable(f"{self._name} cannot be drawn: {problem[:200]}")

    def accepts(self, value: Json) -> bool:
        """Tell whether a value satisfies the schema."""
        return self._validator.is_valid(value)

    def _any(self, schema: Schema, name: str, rng: Random, depth: int) -> Json:
        if depth > _DEEPEST:
            raise Undrawable(f"{name} is nested more than {_DEEPEST} times")
        if "$ref" in schema:
            schema = self._resolved(str(schema["$ref"]))
            return self._any(schema, name, rng, depth + 1)
        if "const" in schema:
            return schema["const"]
        members = schema.get("enum")
        if isinstance(members, list) and members:
            some = cast("list[Json]", members)
            told = [member for member in some if member is not None]
            return rng.choice(told or some)
        for key in ("allOf", "anyOf", "oneOf"):
            if isinstance(schema.get(key), list) and schema[key]:
                return self._any(_joined(schema, key, rng), name, rng, depth + 1)
        if (given := _given(schema)) and rng.random() < self._settings.examples:
            return rng.choice(given)
        return self._of_type(schema, name, rng, depth)

    def _of_type(self, schema: Schema, name: str, rng: Random, depth: int) -> Json:
        match _type(schema, rng):
            case "object":
                return self._object(schema, name, rng, depth)
            case "array":
                return self._array(schema, name, rng, depth)
            case "integer" | "number" as kind:
                return _number(schema, name, rng, integer=kind == "integer")
            case "boolean":
                return rng.random() < 0.5
            case "null":
                return None
            case _:
                return self._text(schema, name, rng)

    def _resolved(self, reference: str) -> Schema:
        found: Json = self._root
        for part in reference.removeprefix("#").split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or key not in found:
                raise Undrawable(f"{self._name} refers to {reference!r}, which is not there")
            found = cast("dict[str, Json]", found)[key]
        return cast("Schema", found) if isinstance(found, dict) else {}

    def _object(self, schema: Schema, name: str, rng: Random, depth: int) -> dict[str, Json]:
        properties: Mapping[str, Schema] = schema.get("properties") or {}
        required: Sequence[str] = schema.get("required") or ()
        chosen = [key for key in properties if key not in required]
        chosen = [key for key in chosen if rng.random() < self._settings.optional]
        least = int(schema.get("minProperties", 0))
        value: dict[str, Json] = {}
        for key in (*required, *chosen):
            value[key] = self._any(_as_schema(properties.get(key)), key, rng, depth + 1)
        more = schema.get("additionalProperties", True)
        free = not properties and more is not False
        while len(value) < max(least, rng.choice((1, 2)) if free else bool(properties)):
            unused = [key for key in properties if key not in value]
            key = rng.choice(unused) if unused else coined(rng)
            inner: Json = properties.get(key) if unused else more
            value[key] = self._any(_as_schema(inner), key if unused else name, rng, depth + 1)
        return value

    def _array(self, schema: Schema, name: str, rng: Random, depth: int) -> list[Json]:
        first: Sequence[Schema] = schema.get("prefixItems") or ()
        least = max(int(schema.get("minItems", 1)), len(first))
        most = int(schema.get("maxItems", max(least, self._settings.longest)))
        if least > 4096:
            raise Undrawable(f"{name} needs {least} items")
        count = rng.randint(min(least, most), max(min(most, least + self._settings.longest), least))
        value = [self._any(_as_schema(item), name, rng, depth + 1) for item in first]
        items = _as_schema(schema.get("items"))
        singular = name.removesuffix("s")
        for _ in range(8 * count):
            if len(value) >= count:
                break
            item = self._any(items, singular, rng, depth + 1)
            if not (schema.get("uniqueItems") and item in value):
                value.append(item)
        return value

    def _text(self, schema: Schema, name: str, rng: Random) -> str:
        if isinstance(schema.get("pattern"), str):
            return matching(schema["pattern"], rng)
        form = schema.get("format")
        description = str(schema.get("description", ""))
        if str(form) in _MADE:
            return _MADE[str(form)](rng)
        meaning = _FORMATS.get(str(form)) or meaning_of(name, description)
        listed = examples_in(description)
        if listed and rng.random() < _LISTED.get(meaning, 0.1):
            text = rng.choice(listed)
        else:
            pool = POOLS.get(meaning, POOLS["word"])
            if meaning in POOLS_ZH and rng.random() < self._settings.chinese:
                pool = POOLS_ZH[meaning]
            text = pool(rng)
        return _fitted(text, schema, rng)


def _as_schema(found: Json) -> Schema:
    return cast("Schema", found) if isinstance(found, dict) else {"type": "string"}


def _given(schema: Schema) -> list[Json]:
    examples = schema.get("examples")
    found: list[Json] = [*cast("list[Json]", examples)] if isinstance(examples, list) else []
    more = (schema.get(key) for key in ("default", "example"))
    return [*found, *(value for value in more if value not in (None, "", [], {}))]


def _type(schema: Schema, rng: Random) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kinds = [one for one in cast("list[str]", kind) if one != "null"]
        return rng.choice(kinds) if kinds else "null"
    if isinstance(kind, str):
        return kind
    if "properties" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    return "number" if "minimum" in schema or "maximum" in schema else "string"


def _joined(schema: Schema, key: str, rng: Random) -> Schema:
    """Fold one branch of a choice, or all branches of a conjunction, into one schema."""
    branches: list[Schema] = [_as_schema(branch) for branch in schema[key]]
    if key != "allOf":
        told = [branch for branch in branches if branch.get("type") != "null"] or branches
        branches = [rng.choice(told)]
    folded: dict[str, Json] = {name: value for name, value in schema.items() if name != key}
    for branch in branches:
        for name, value in branch.items():
            if name == "properties" and isinstance(folded.get(name), dict):
                folded[name] = {**folded[name], **value}
            elif name == "required" and isinstance(folded.get(name), list):
                folded[name] = list(dict.fromkeys([*folded[name], *value]))
            else:
                folded[name] = value
    return folded


def _number(schema: Schema, name: str, rng: Random, *, integer: bool) -> int | float:
    usual = range_of(name) or (1, 500)
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    step = schema.get("multipleOf")
    whole = integer or (step is None and not _FRACTION.search(name.lower()) and rng.random() < 0.8)
    grain = 1 if whole else 0.01
    if isinstance(above, int | float) and not isinstance(above, bool):
        low = max(above + grain, low) if low is not None else above + grain
    if isinstance(below, int | float) and not isinstance(below, bool):
        high = min(below - grain, high) if high is not None else below - grain
    least, most = _between(low, high, usual)
    if step:
        first, last = math.ceil(least / step), math.floor(most / step)
        if first > last:
            raise Undrawable(f"{name} has no multiple of {step} between {least} and {most}")
        value = rng.randint(first, last) * step
        return round(value) if integer else value
    if whole and math.ceil(least) <= math.floor(most):
        return rng.randint(math.ceil(least), math.floor(most))
    if integer:
        raise Undrawable(f"{name} has no integer between its limits")
    value = round(rng.uniform(least, most), 2)
    value = value if least <= value <= most else rng.uniform(least, most)
    return int(value) if float(value).is_integer() else value


def _between(
    low: float | None, high: float | None, usual: tuple[float, float]
) -> tuple[float, float]:
    """Keep the usual range as far as the limits allow it."""
    if low is None and high is None:
        return usual
    least = usual[0] if low is None else max(low, usual[0])
    most = usual[1] if high is None else min(high, usual[1])
    if least <= most:
        return least, most
    if low is not None and high is not None:
        return low, high
    return (low, low + 500) if low is not None else (cast("float", high) - 500, cast("float", high))


def _fitted(text: str, schema: Schema, rng: Random) -> str:
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    if least > 100_000:
        raise Undrawable(f"a text of {least} characters is asked for")
    while len(text) < least:
        text += coined(rng)
    if most is not None and len(text) > int(most):
        text = text[: max(int(most), 0)].rstrip() or coined(rng)[: int(most)]
    return text
