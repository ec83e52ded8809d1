"""Tools of a world: typed functions from which specification and documentation are derived.

The signature is the source: parameter types give the JSON Schema, their slots the descriptions in
both languages and the edges of the dependency graph, the return annotation what rows come out.

In: a function over a `World`. Out: its specification, its documentation, its calls.
Must not know: any domain, tasks, models.
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, cast, get_args, get_origin

import jsonschema_rs

from openk2.envs.slots import Json, Lang, Slot
from openk2.envs.world import Refused, World, as_json
from openk2.types import ToolSpec

_JSON_TYPES: Mapping[Any, str] = {
    str: "string", int: "integer", float: "number", bool: "boolean"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a tool."""

    name: str
    slot: Slot
    schema: Mapping[str, Json]
    """JSON Schema without the description."""
    required: bool


@dataclass(frozen=True, slots=True, eq=False)
class WorldTool:
    """One tool of a domain; two are equal when they are one object."""

    name: str
    run: Callable[..., Any]
    """Takes the world and the arguments by name; raises `Refused`."""
    en: str
    """One sentence for the model: what it does, what comes back."""
    zh: str
    writes: bool
    errors: tuple[str, ...]
    """The codes with which it refuses."""
    params: tuple[Param, ...]
    row: type | None = None
    """The kind of row it returns, alone or in a list."""
    declared: ToolSpec | None = None
    """The specification as its owner wrote it, in place of the derived one."""

    def spec(self, lang: Lang = "en") -> ToolSpec:
        """Return what a model is told of it."""
        if self.declared is not None:
            return self.declared
        return ToolSpec(self.name, self.en if lang == "en" else self.zh, self.parameters(lang))

    def parameters(self, lang: Lang = "en") -> Mapping[str, Json]:
        """Return the JSON Schema of the arguments."""
        if self.declared is not None:
            return self.declared.parameters
        properties = {
            param.name: {**param.schema, "description": param.slot.description(lang)}
            for param in self.params
        }
        required = [param.name for param in self.params if param.required]
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }

    def param(self, name: str) -> Param:
        """Return the parameter of that name."""
        return next(param for param in self.params if param.name == name)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call brought."""

    text: str
    """JSON that the model reads."""
    value: Json
    """The same as a value."""
    error: str = ""
    """The code of a refusal; `invalid_arguments` and `unknown_tool` for a call that is none."""


def tool(
    en: str, zh: str, *, writes: bool = False, errors: tuple[str, ...] = ()
) -> Callable[[Callable[..., Any]], WorldTool]:
    """Make a tool of a function whose first parameter is the world.

    Args:
        en: One sentence for the model: what it does and what comes back.
        zh: The same in Chinese.
        writes: Whether it changes the world.
        errors: Every code with which it may refuse.
    """

    def wrap(function: Callable[..., Any]) -> WorldTool:
        hints = typing.get_type_hints(function, include_extras=True)
        signature = list(inspect.signature(function).parameters.values())[1:]
        params = tuple(_param(p, hints[p.name]) for p in signature)
        row = _row_kind(hints["return"])
        return WorldTool(function.__name__, function, en, zh, writes, errors, params, row)

    return wrap


def _param(parameter: inspect.Parameter, hint: Any) -> Param:
    hint, slot = _strip(hint)
    if slot is None:
        raise TypeError(f"parameter {parameter.name} has no Slot in its annotation")
    schema = {**_schema(hint), **slot.constraints()}
    return Param(parameter.name, slot, schema, parameter.default is inspect.Parameter.empty)


def _strip(hint: Any) -> tuple[Any, Slot | None]:
    """Take `| None` and `Annotated` off a type: an optional parameter is one with a default."""
    if get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is Annotated:
        base, *extras = get_args(hint)
        slots = [extra for extra in extras if isinstance(extra, Slot)]
        return _strip(base)[0], slots[0] if slots else None
    return hint, None


def _schema(hint: Any) -> dict[str, Json]:
    if get_origin(hint) is Literal:
        return {"type": "string", "enum": list(get_args(hint))}
    if get_origin(hint) is list:
        return {"type": "array", "items": _schema(_strip(get_args(hint)[0])[0])}
    return {"type": _JSON_TYPES[hint]}


def _row_kind(hint: Any) -> type | None:
    if get_origin(hint) is list:
        hint = get_args(hint)[0]
    return hint if isinstance(hint, type) and is_dataclass(hint) else None


def field_slots(row: type) -> dict[str, Slot]:
    """Return the slots of a row's fields; fields without one mean nothing to the planner."""
    hints = typing.get_type_hints(row, include_extras=True)
    stripped = {f.name: _strip(hints[f.name])[1] for f in fields(row)}
    return {name: slot for name, slot in stripped.items() if slot is not None}


@lru_cache(8192)
def validator(one: WorldTool) -> jsonschema_rs.Validator:
    """Compile the schema of a tool's arguments."""
    return jsonschema_rs.validator_for(dict(one.parameters()), validate_formats=True)


def refusal(code: str, message: str) -> Outcome:
    """Return what the model reads of a call that brought nothing."""
    value = {"error": code, "message": message}
    return Outcome(json.dumps(value, ensure_ascii=False), value, code)


def perform(one: WorldTool, world: World, arguments: Mapping[str, Json]) -> Outcome:
    """Carry out a call whose arguments satisfy the schema; a refusal changes nothing."""
    try:
        value = as_json(one.run(world, **arguments))
    except Refused as refused:
        return refusal(refused.code, str(refused))
    except (ValueError, OverflowError) as error:  # a date that is none, a count beyond all bounds
        return refusal("invalid_arguments", f"A value cannot be used: {error}.")
    return Outcome(json.dumps(value, ensure_ascii=False), value)


def enriched(outcome: Outcome, more: Mapping[str, Json]) -> Outcome:
    """Add fields to a result that is an object; what it says itself stays."""
    said: Json = outcome.value
    if outcome.error or not isinstance(said, dict):
        return outcome
    value = {**more, **cast(dict[str, Json], said)}
    return Outcome(json.dumps(value, ensure_ascii=False), value)
