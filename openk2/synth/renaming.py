"""Other names for tools and parameters, with the world and the goals going on as before.

In: a domain, new names. Out: the same domain under them. Must not know: where names come from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any

from openk2.envs.domain import Call, Domain, Goal, Intent
from openk2.envs.slots import Json
from openk2.envs.tool import WorldTool
from openk2.types import ToolSpec

Names = Mapping[str, str]
Rewrite = Callable[[Call], Call]


def renamed_tools(domain: Domain, names: Names) -> Domain:
    """Give tools other names.

    Args:
        domain: Whose.
        names: New names by old ones; others stay.
    """
    if not names:
        return domain
    tools = tuple(_renamed(tool, names.get(tool.name, tool.name)) for tool in domain.tools)

    def rewrite(call: Call) -> Call:
        return Call(names.get(call.tool, call.tool), call.arguments)

    return with_calls(replace(domain, tools=tools), rewrite)


def renamed_params(domain: Domain, names: Mapping[str, Names]) -> Domain:
    """Give parameters other names.

    Args:
        domain: Whose.
        names: For each tool, new names by old ones; others stay.
    """
    tools = tuple(_with_params(tool, names.get(tool.name, {})) for tool in domain.tools)

    def rewrite(call: Call) -> Call:
        new = names.get(call.tool, {})
        return Call(call.tool, {new.get(key, key): value for key, value in call.arguments.items()})

    return with_calls(replace(domain, tools=tools), rewrite)


def with_calls(domain: Domain, rewrite: Rewrite) -> Domain:
    """Write the calls of every goal in another way.

    Args:
        domain: Whose goals.
        rewrite: Makes one call of another.
    """
    return replace(domain, intents=tuple(_rewritten(one, rewrite) for one in domain.intents))


def _rewritten(intent: Intent, rewrite: Rewrite) -> Intent:
    def sample(world: Any, rng: Random) -> Goal | None:
        goal = intent.sample(world, rng)
        if goal is None:
            return None
        return Goal(tuple(rewrite(call) for call in goal.calls), goal.facts, goal.clues)

    return replace(intent, sample=sample)


def _renamed(tool: WorldTool, name: str) -> WorldTool:
    declared = tool.declared
    if declared is not None:
        declared = ToolSpec(name, declared.description, declared.parameters)
    return replace(tool, name=name, declared=declared)


def _with_params(tool: WorldTool, names: Names) -> WorldTool:
    if not names:
        return tool
    old = {new: name for name, new in names.items()}

    def run(world: Any, /, **arguments: Json) -> Any:
        return tool.run(world, **{old.get(key, key): value for key, value in arguments.items()})

    params = tuple(replace(param, name=names.get(param.name, param.name)) for param in tool.params)
    declared = tool.declared
    if declared is not None:
        schema = dict(declared.parameters)
        schema["properties"] = {
            names.get(key, key): value for key, value in schema.get("properties", {}).items()
        }
        schema["required"] = [names.get(key, key) for key in schema.get("required", ())]
        declared = ToolSpec(declared.name, declared.description, schema)
    return replace(tool, run=run, params=params, declared=declared)
