"""One tool, simulated by its specification: a world that remembers calls, and how to ask for it.

In: a tool's specification. Out: a tool that runs in that world, its parameters with labels and
sources of values. Must not know: domains, intents, other tools.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, cast

from openk2.envs.domain import Fact
from openk2.envs.slots import Json, Slot
from openk2.envs.tool import Param, WorldTool
from openk2.envs.world import World
from openk2.synth.meanings import meaning_of, words_of
from openk2.synth.phrases import Doing, doing_of, harmless, has_han
from openk2.synth.requests import Said, fact, label, leaves
from openk2.synth.results import Results
from openk2.synth.values import Drawer, Undrawable, ValueSettings
from openk2.types import ToolSpec

CALLS = "calls"
"""The world's one table."""
_OF_THE_PROGRAM = {
    "cursor", "token", "marker", "page", "offset", "dry", "idempotency", "nonce", "verbose",
    "debug", "timeout", "secret", "password", "passphrase", "trace", "etag",
}  # fmt: skip
"""Words in names of optional parameters that no user speaks of."""


@dataclass(frozen=True, slots=True)
class SpecSettings:
    """How specifications become requests."""

    values: ValueSettings = field(default_factory=ValueSettings)
    more: int = 3
    """Most optional parameters in a request that has some."""
    leaves: int = 10
    """A value of more parts than this is not said by anybody; its tool is offered, never asked for
    with it."""
    chains: int = 2
    """Most two-step goals that begin with the same tool."""
    licence: str = "Apache-2.0"
    """Of the specifications; it is written on every sample."""


@dataclass(frozen=True, slots=True)
class MadeCall:
    """A call that was made."""

    id: str
    tool: str
    arguments: str
    """JSON in one form."""


@dataclass(slots=True)
class SpecWorld(World):
    """Which calls were made."""

    key: str
    """Another one gives other results."""
    calls: dict[str, MadeCall] = field(default_factory=dict[str, MadeCall])


@dataclass(frozen=True, slots=True)
class Asked:
    """A parameter of a tool, ready to be asked for."""

    param: Param
    said: Said
    drawer: Drawer


@dataclass(frozen=True, slots=True)
class Simulated:
    """A tool with all that goals need."""

    tool: WorldTool
    doing: Doing
    required: tuple[Asked, ...]
    optional: tuple[Asked, ...]
    results: Results
    askable: bool
    """Whether every required parameter can be said."""


def canonical(arguments: Mapping[str, Json]) -> str:
    """Write arguments in one form."""
    return json.dumps(arguments, sort_keys=True, ensure_ascii=False)


def simulate(
    domain: str, spec: ToolSpec, output: Mapping[str, Json] | None, settings: SpecSettings
) -> Simulated:
    """Make a tool of a specification.

    Args:
        domain: The name of its domain.
        spec: What its owner says.
        output: The schema of what it returns, where that is known.
        settings: How much is said.
    """
    doing = doing_of(spec.name, spec.description)
    properties: Mapping[str, Any] = spec.parameters.get("properties") or {}
    needed: Sequence[str] = spec.parameters.get("required") or ()
    params = tuple(
        _param(f"{domain}/{spec.name}.{key}", key, schema, key in needed)
        for key, schema in properties.items()
    )
    results = Results(spec.name, doing, output, tuple(properties))
    tool = WorldTool(
        spec.name,
        _runner(spec.name, results),
        harmless(spec.description)[:300] or doing.en[0],
        doing.zh[0],
        writes=True,
        errors=(),
        params=params,
        declared=spec,
    )
    chinese = has_han(spec.description)
    values = replace(settings.values, chinese=0.7) if chinese else settings.values
    asked = [_asked(param, number, spec, values, settings) for number, param in enumerate(params)]
    required = tuple(one for one in asked if one is not None and one.param.required)
    optional = tuple(
        one for one in asked if one is not None and not one.param.required and _spoken(one)
    )
    askable = len(required) == sum(param.required for param in params) == len(set(needed))
    return Simulated(tool, doing, required, optional, results, askable)


def _table(schema: Any) -> Mapping[str, Json]:
    """Take a schema that is `true`, for anything, as one that says nothing."""
    return cast("Mapping[str, Json]", schema) if isinstance(schema, dict) else {}


def _param(kind: str, key: str, schema: Any, required: bool) -> Param:
    table = dict(_table(schema))
    told = str(table.pop("description", ""))
    en, zh = label(key, told)
    return Param(key, Slot(kind, en, zh), table, required)


def _asked(
    param: Param, number: int, spec: ToolSpec, values: ValueSettings, settings: SpecSettings
) -> Asked | None:
    """Return None for a parameter whose values cannot be drawn, or that nobody would say."""
    schema: Any = spec.parameters["properties"][param.name]
    table = _table(schema)
    told = str(table.get("description", ""))
    said = Said(f"p{number}", param.slot.en, param.slot.zh, meaning_of(param.name, told), table)
    try:
        drawer = Drawer(param.name, table or {"type": "string"}, values, spec.parameters)
        drawn = [drawer.draw(Random(f"{spec.name}/{n}")) for n in range(4)]
    except Undrawable:
        return None
    if any(leaves(value) > settings.leaves or len(str(value)) > 600 for value in drawn):
        return None
    return Asked(param, said, drawer)


def _spoken(one: Asked) -> bool:
    return not _OF_THE_PROGRAM & set(words_of(one.param.name))


def _runner(name: str, results: Results) -> Callable[..., Any]:
    def run(world: SpecWorld, /, **arguments: Json) -> Json:
        text = canonical(arguments)
        key = hashlib.blake2b(f"{name}\x1f{text}".encode(), digest_size=8).hexdigest()
        world.calls[key] = MadeCall(key, name, text)
        return results.of(world.key, text, arguments)

    return run


def giving(one: Simulated, id_field: str, drawer: Drawer) -> Simulated:
    """Let a tool give ids that others accept.

    Args:
        one: The tool.
        id_field: The name that the others have for it.
        drawer: Draws what they accept.
    """
    results = replace(one.results, id_field=id_field, id_drawer=drawer)
    return replace(
        one, results=results, tool=replace(one.tool, run=_runner(one.tool.name, results))
    )


def draw(asked: Sequence[Asked], rng: Random) -> tuple[dict[str, Json], dict[str, Fact]] | None:
    """Draw arguments, with the facts that say them; None where that fails."""
    arguments: dict[str, Json] = {}
    facts: dict[str, Fact] = {}
    for part in asked:
        try:
            value = part.drawer.draw(rng)
        except Undrawable:
            return None
        arguments[part.param.name] = value
        facts[part.said.name] = fact(part.param.slot.kind, value, part.said, rng)
    return arguments, facts
