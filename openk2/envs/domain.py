"""A domain: a kind of world, its tools, what users want there, and what an operator forbids.

In: what an author writes. Out: frozen values that planner, user and rubric read.
Must not know: how a goal is reached, said, or judged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from types import ModuleType
from typing import Any, Literal, get_args, get_type_hints

from openk2.envs.slots import Form, Json, Lang, Slot
from openk2.envs.tool import WorldTool, field_slots
from openk2.envs.world import World, table_names

IntentKind = Literal["do", "fails", "policy"]
"""do: the goal's calls succeed. fails: the last call is refused, and the user is told why.
policy: the operator forbids it; only reads happen, and the user is told."""
_RECENT = 16
"""Worlds that a domain remembers: one task asks for its world several times in a row."""
PLACEHOLDER = re.compile(r"\{([a-z_0-9.]+)\}")


@dataclass(frozen=True, slots=True)
class Fact:
    """Something the user knows: a value, and how the planner may use it."""

    kind: str
    """The slot's kind."""
    value: Json
    words: tuple[str, str] | None = None
    """What is said instead of the value, English and Chinese: for values such as enum members
    whose spelling is the program's."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call with its arguments."""

    tool: str
    arguments: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Goal:
    """One thing a user wants, as calls that would bring it and facts that the user knows."""

    calls: tuple[Call, ...]
    """The last one is the point. Ids that no fact gives are looked up first, by the planner."""
    facts: Mapping[str, Fact]
    """By the names under which the templates say them."""
    clues: Mapping[str, Fact] = field(default_factory=dict[str, Fact])
    """More that the user knows and says when asked which one is meant; by name."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A kind of goal, and how it is said and answered."""

    name: str
    sample: Callable[[Any, Random], Goal | None]
    """Draws a goal from the world as it is; None where the world has no occasion for it."""
    ask: Mapping[Lang, tuple[str, ...]]
    """Requests. `{name}` says a fact; `[...]` is left out when a fact in it is withheld."""
    reply: Mapping[Lang, tuple[str, ...]]
    """Answers. `{name}` says a fact, `{result.field}` a field of the last result, `{rows.field}`
    that field of every row of it, `{count}` how many there are. What comes from a result must
    reach the user: the rubric looks for it."""
    kind: IntentKind = "do"

    def draw(self, world: World, rng: Random) -> Goal | None:
        """Draw a goal, or None where the world has no occasion for it.

        Choosing from nothing counts as no occasion: earlier goals may have emptied a table. That a
        domain's own mistakes do not hide behind this is tested on fresh worlds.
        """
        try:
            return self.sample(world, rng)
        except (IndexError, ValueError):  # choice, sample and randrange from nothing
            return None


def intent(
    *,
    en: Sequence[str],
    zh: Sequence[str],
    reply_en: Sequence[str],
    reply_zh: Sequence[str],
    kind: IntentKind = "do",
) -> Callable[[Callable[[Any, Random], Goal | None]], Intent]:
    """Make an intent of a function that draws a goal."""

    def wrap(function: Callable[[Any, Random], Goal | None]) -> Intent:
        asks: dict[Lang, tuple[str, ...]] = {"en": tuple(en), "zh": tuple(zh)}
        replies: dict[Lang, tuple[str, ...]] = {"en": tuple(reply_en), "zh": tuple(reply_zh)}
        return Intent(function.__name__, function, asks, replies, kind)

    return wrap


@dataclass(frozen=True)
class Domain:
    """One domain."""

    name: str
    en: str
    """A noun phrase for the operator: `the calendar of a small company`."""
    zh: str
    seed: Callable[[Random], World]
    """Makes a world."""
    tools: tuple[WorldTool, ...]
    intents: tuple[Intent, ...]
    policies: Mapping[Lang, tuple[str, ...]] = field(default_factory=lambda: {"en": (), "zh": ()})
    """The operator's rules, one sentence each, the same number in both languages."""
    version: int = 1
    """Raise it when the same seed gives another world, another tool or another goal."""
    licence: str = "Apache-2.0"

    @cached_property
    def by_name(self) -> dict[str, WorldTool]:
        """Find a tool by its name."""
        return {tool.name: tool for tool in self.tools}

    @cached_property
    def intents_by_name(self) -> dict[str, Intent]:
        """Find an intent by its name."""
        return {one.name: one for one in self.intents}

    @cached_property
    def rows(self) -> dict[str, type]:
        """Find the kind of row of each table."""
        kind = type(self.world(0))
        hints = get_type_hints(kind, include_extras=True)
        return {name: get_args(hints[name])[1] for name in table_names(kind)}

    @cached_property
    def slots(self) -> dict[str, Slot]:
        """Find a slot by its kind."""
        found = {p.slot.kind: p.slot for tool in self.tools for p in tool.params}
        for row in self.rows.values():
            found |= {slot.kind: slot for slot in field_slots(row).values()}
        return found

    @cached_property
    def forms(self) -> dict[str, Form]:
        """Find how the fields of rows are written, by the field's name."""
        return {
            name: slot.form for row in self.rows.values() for name, slot in field_slots(row).items()
        }

    @cached_property
    def _recent(self) -> dict[int, World]:
        return {}

    def world(self, seed: int) -> World:
        """Return the world of a seed: made anew, or copied from one just made and not touched."""
        if seed not in self._recent:
            while len(self._recent) >= _RECENT:
                del self._recent[next(iter(self._recent))]
            self._recent[seed] = self.fresh_world(seed)
        return self._recent[seed].copy()

    def fresh_world(self, seed: int) -> World:
        """Make the world of a seed from nothing."""
        return self.seed(Random(f"{self.name}/{seed}"))


def members(module: ModuleType, kind: type[Any]) -> Iterator[Any]:
    """Yield what a module defines of a kind, in the order of its source."""
    found = [value for value in vars(module).values() if isinstance(value, kind)]
    yield from found


def domain_of(
    module: ModuleType,
    en: str,
    zh: str,
    seed: Callable[[Random], World],
    *,
    policies_en: Sequence[str] = (),
    policies_zh: Sequence[str] = (),
    version: int = 1,
) -> Domain:
    """Gather the tools and intents of a module into a domain named after it."""
    return Domain(
        module.__name__.rpartition(".")[2],
        en,
        zh,
        seed,
        tuple(members(module, WorldTool)),
        tuple(members(module, Intent)),
        {"en": tuple(policies_en), "zh": tuple(policies_zh)},
        version,
    )


def placeholders(template: str) -> list[str]:
    """Return the names in a template."""
    return PLACEHOLDER.findall(template)
