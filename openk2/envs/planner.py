"""Find out what nobody said: the reads that bring an id, by searching back from the row it names.

A tool's rows, its parameters' kinds and a row's foreign keys form the dependency graph. The search
goes from the wanted row to reads that return it, whose parameters are facts that the user told or
ids that are themselves to be found. It runs on the real world, so what it proposes works there.

In: a world, what is known, the row that is wanted. Out: reads in order, and whether they leave one
candidate. Must not know: how a conversation goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from openk2.envs.domain import Call, Domain, Fact
from openk2.envs.slots import Json, Slot
from openk2.envs.tool import WorldTool, field_slots, perform
from openk2.envs.world import World

DEPTH = 4
"""Most reads that lead to one id."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """Reads that bring an id."""

    reads: tuple[Call, ...]
    candidates: int
    """Rows of the last read that fit all that is known; 1 means that the id is found."""
    table: str
    """Where the row of the last read is. Of several candidates on the way, it is not the end."""
    key: str


@dataclass(frozen=True, slots=True)
class Known:
    """What an assistant can know."""

    facts: tuple[Fact, ...]
    """Told by the user."""
    seen: frozenset[str]
    """Ids that the user told or that results held."""


def edges(domain: Domain) -> list[tuple[str, str, str]]:
    """Return the dependency graph: (tool that gives, kind of value, tool that takes)."""
    found: list[tuple[str, str, str]] = []
    for giver in domain.tools:
        kinds = {slot.kind for slot in row_slots(giver.row).values()} if giver.row else set[str]()
        for taker in domain.tools:
            wanted = {param.slot.kind for param in taker.params if param.slot.entity}
            found += [(giver.name, kind, taker.name) for kind in sorted(kinds & wanted)]
    return found


@cache
def row_slots(kind: type) -> Mapping[str, Slot]:
    """Return the slots of a kind of row."""
    return field_slots(kind)


def _slots_of(row: Any) -> Mapping[str, Slot]:
    kind: type[object] = row.__class__
    return row_slots(kind)


def fits(row: Any, facts: Sequence[Fact]) -> bool:
    """Whether a row agrees with every fact that speaks of one of its fields."""
    for name, slot in _slots_of(row).items():
        value = getattr(row, name)
        told = [fact.value for fact in facts if fact.kind == slot.kind]
        if told and value not in told:
            return False
    return True


@dataclass(slots=True)
class Planner:
    """Searches in one world with the tools that are offered."""

    domain: Domain
    world: World
    tools: Sequence[WorldTool]

    def lookup(self, table: str, key: str, known: Known) -> Lookup | None:
        """Find the shortest way to an id; ways that leave one candidate come first.

        Args:
            table: The table of the row.
            key: Its id.
            known: What the assistant can know.
        """
        return self._within(table, key, known, DEPTH)

    def _ways(self, table: str, key: str, known: Known, depth: int) -> Iterator[Lookup]:
        if depth == 0:
            return
        row = self.world.tables()[table].get(key)
        if row is None:
            return
        for tool in self.tools:
            if not tool.writes and tool.row is type(row):
                yield from self._through(tool, row, table, known, depth)
        yield from self._through_others(table, key, known, depth)

    def _through(
        self, tool: WorldTool, row: Any, table: str, known: Known, depth: int
    ) -> Iterator[Lookup]:
        """Reads of a tool that return the row itself."""
        arguments: dict[str, Json] = {}
        before: tuple[Call, ...] = ()
        for param in tool.params:
            known_value = self._argument(param.slot, row, table, known, depth)
            if known_value is None:
                if param.required:
                    return
                continue
            value, way = known_value
            if way is not None:
                if not param.required:
                    continue  # an optional filter is not worth another read
                if way.candidates > 1:
                    yield way  # ask there, then look again
                    return
                before += tuple(call for call in way.reads if call not in before)
            arguments[param.name] = value
        if len(before) >= depth:
            return
        outcome = perform(tool, self.world, arguments)
        found: Any = outcome.value
        rows = cast(list[dict[str, Json]], found if isinstance(found, list) else [found])
        ids = [one.get("id") for one in rows]
        if outcome.error or row.id not in ids or not fits(row, known.facts):
            return
        stored = self.world.tables()[table]
        candidates = sum(fits(stored[str(one)], known.facts) for one in ids if one in stored)
        yield Lookup((*before, Call(tool.name, arguments)), candidates, table, str(row.id))

    def _argument(
        self, slot: Slot, row: Any, table: str, known: Known, depth: int
    ) -> tuple[Json, Lookup | None] | None:
        """Return a value that leads to the row, with the way to it if it must be found out."""
        own = {field.kind: getattr(row, name) for name, field in _slots_of(row).items()}
        if slot.entity:
            if slot.entity == table and slot.kind in own:
                return (row.id, None) if row.id in known.seen else None
            key = own.get(slot.kind)
            if not key:
                return None
            if key in known.seen:
                return key, None
            way = self._within(slot.entity, key, known, depth - 1)
            return None if way is None else (key, way)
        for fact in known.facts:
            if fact.kind == slot.kind or fact.kind in slot.accepts:
                if fact.kind in own and own[fact.kind] != fact.value:
                    continue
                return fact.value, None
        return None

    def _within(self, table: str, key: str, known: Known, depth: int) -> Lookup | None:
        """Find the best way of at most `depth` reads."""
        ways = self._ways(table, key, known, depth)
        return min(ways, key=_effort, default=None)

    def _through_others(self, table: str, key: str, known: Known, depth: int) -> Iterator[Lookup]:
        """Reads that return another row which names this one."""
        for other, rows in self.world.tables().items():
            if other == table or not rows:
                continue
            keys = [
                name
                for name, slot in _slots_of(next(iter(rows.values()))).items()
                if slot.entity == table
            ]
            for row in rows.values() if keys else ():
                named = any(getattr(row, name) == key for name in keys)
                if named and _speaks_of(row, known.facts) and fits(row, known.facts):
                    way = self._within(other, row.id, known, depth - 1)
                    if way is not None:
                        yield way


def _speaks_of(row: Any, facts: Sequence[Fact]) -> bool:
    kinds = {slot.kind for slot in _slots_of(row).values()}
    return any(fact.kind in kinds for fact in facts)


def _effort(way: Lookup) -> tuple[int, int, int]:
    return way.candidates, len(way.reads), -sum(len(call.arguments) for call in way.reads)
