"""Two domains at one desk: one set of tools, and a world with both worlds in it.

Each tool goes on working on its own world, with its own clock and tables; goals are drawn there,
too. A stranger's tools that no goal needs are the same thing without the stranger's goals.

In: two domains. Out: one. Must not know: why they are put together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from random import Random
from typing import Any, Self

from openk2.envs.domain import Domain, Goal, Intent
from openk2.envs.slots import Lang, Slot
from openk2.envs.tool import WorldTool
from openk2.envs.world import Snapshot, World
from openk2.synth.renaming import renamed_tools


class Unmergeable(ValueError):
    """Two domains mean different things by one word; the message says by which."""


@dataclass(slots=True)
class MergedWorld(World):
    """Worlds side by side."""

    parts: tuple[World, ...]

    def tables(self) -> dict[str, dict[str, Any]]:
        """Return every table by its name."""
        return {name: rows for part in self.parts for name, rows in part.tables().items()}

    def snapshot(self) -> Snapshot:
        """Copy the state of every part."""
        return tuple((str(at), part.snapshot()) for at, part in enumerate(self.parts))

    def restore(self, snapshot: Snapshot) -> None:
        """Bring every part back."""
        for part, (_, before) in zip(self.parts, snapshot, strict=True):
            part.restore(before)

    def copy(self) -> Self:
        """Return a world in the same state that goes its own way."""
        return replace(self, parts=tuple(part.copy() for part in self.parts))


@dataclass(frozen=True)
class VariantDomain(Domain):
    """A domain made of others, or of which something was taken away."""

    parts: tuple[Domain, ...] = ()
    """What it is made of; empty where its world is one world."""
    gone: tuple[WorldTool, ...] = ()
    """Tools that were taken away: users still speak of what they took."""

    @cached_property
    def rows(self) -> dict[str, type]:
        """Find the kind of row of each table."""
        if not self.parts:
            return Domain.rows.func(self)
        return {name: row for part in self.parts for name, row in part.rows.items()}

    @cached_property
    def slots(self) -> dict[str, Slot]:
        """Find a slot by its kind."""
        gone = {param.slot.kind: param.slot for tool in self.gone for param in tool.params}
        return gone | Domain.slots.func(self)


def without(domain: Domain, tool: WorldTool, intents: tuple[Intent, ...]) -> VariantDomain:
    """Take a tool away.

    Args:
        domain: Whose.
        tool: Which.
        intents: What users want now.
    """
    kept = {one.name: getattr(domain, one.name) for one in fields(domain)}
    kept["gone"] = (*kept.get("gone", ()), tool)
    kept["tools"] = tuple(one for one in domain.tools if one.name != tool.name)
    kept["intents"] = intents
    return VariantDomain(**kept)


def problem(one: Domain, other: Domain) -> str:
    """Say why two domains cannot be one; empty if they can.

    Args:
        one: A domain.
        other: Another.
    """
    keys = {slot.entity for domain in (one, other) for slot in domain.slots.values()}
    if shared := sorted(one.rows.keys() & other.rows.keys() & keys):
        return f"{one.name} and {other.name} both have a table {shared[0]!r}"
    for kind in sorted(one.slots.keys() & other.slots.keys()):
        mine, theirs = one.slots[kind], other.slots[kind]
        if (mine.form, mine.entity) != (theirs.form, theirs.entity):
            return f"{one.name} and {other.name} mean different things by {kind!r}"
    return ""


def merged(one: Domain, other: Domain, offered: Sequence[str] | None = None) -> VariantDomain:
    """Put two domains together.

    Args:
        one: The first; its clock is the world's.
        other: The second; tools of it whose names are taken are renamed.
        offered: Names of the other's tools if only those come, without any of its goals; None
            brings everything.

    Raises:
        Unmergeable: They mean different things by one word.
    """
    if why := problem(one, other):
        raise Unmergeable(why)
    taken = set(one.by_name)
    clashes = {name: f"{_word(other.name)}_{name}"[:64] for name in other.by_name if name in taken}
    second = renamed_tools(other, clashes)
    tools = [_placed(tool, 0) for tool in one.tools]
    intents = [_drawn(intent, 0, intent.name) for intent in one.intents]
    policies: dict[Lang, tuple[str, ...]] = dict(one.policies)
    en, zh = one.en, one.zh
    if offered is None:
        tools += [_placed(tool, 1) for tool in second.tools]
        intents += [_drawn(i, 1, f"{_word(other.name)}.{i.name}") for i in second.intents]
        en, zh = f"{one.en} and {other.en}", f"{one.zh}和{other.zh}"
        for lang, rules in other.policies.items():
            policies[lang] = (*policies[lang], *rules)
    else:
        wanted = {clashes.get(name, name) for name in offered}
        tools += [_placed(tool, 1) for tool in second.tools if tool.name in wanted]
    return VariantDomain(
        f"{one.name}&{other.name}",
        en,
        zh,
        _seed(one, other),
        tuple(tools),
        tuple(intents),
        policies,
        one.version,
        one.licence if one.licence == other.licence else f"{one.licence}, {other.licence}",
        (one, other),
    )


def _word(name: str) -> str:
    kept = "".join(char if char.isascii() and char.isalnum() else "_" for char in name)
    return kept.strip("_")[:20] or "other"


def _seed(one: Domain, other: Domain) -> Callable[[Random], World]:
    def seed(rng: Random) -> MergedWorld:
        first = one.seed(rng)
        return MergedWorld(first.now, (first, other.seed(rng)))

    return seed


def _placed(tool: WorldTool, at: int) -> WorldTool:
    def run(world: MergedWorld, /, **arguments: Any) -> Any:
        return tool.run(world.parts[at], **arguments)

    return replace(tool, run=run)


def _drawn(intent: Intent, at: int, name: str) -> Intent:
    def sample(world: MergedWorld, rng: Random) -> Goal | None:
        return intent.sample(world.parts[at], rng)

    return replace(intent, name=name, sample=sample)
