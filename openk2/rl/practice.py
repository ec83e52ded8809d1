"""Which problems are next: families in turns by weight, their levels by how hard they are now.

In: families with weights, how often each had its turn, how many episodes passed. Out: problems and
seeds, the same for the same run whatever was interrupted. Must not know: models, how rewards are
learned from.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from openk2.gym.difficulty import Curriculum, DifficultyConfig, PassCount
from openk2.gym.problem import Family, Problem
from openk2.gym.registry import find
from openk2.rl.schedule import next_family
from openk2.rl.shaping import RIGHT
from openk2.rl.state import Pending

LOOKED_AT = 64
"""Problems that are looked at to find a family's levels: one that a tenth has is found."""


@dataclass(frozen=True, slots=True)
class FamilyConfig:
    """One family's place in a run."""

    weight: float = 1.0
    """Share of the problems, in proportion."""
    max_tokens: int | None = None
    """Budget of everything that the policy writes in one episode; none: what the problem says."""
    judged: bool = False
    """Whether its answers are compared by the critic instead of checked by a program."""

    def __post_init__(self) -> None:
        """Refuse what could never be drawn or answered."""
        if not self.weight > 0:
            raise ValueError(f"weight must be greater than 0, not {self.weight}: leave the family "
                             "out to have none of it")  # fmt: skip
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1 or none, not {self.max_tokens}")


@dataclass(slots=True)
class _Stream:
    """A family's problems by number; a family that runs out begins again with another seed."""

    family: Family
    seed: int
    held_out: bool
    rest: Iterator[Problem]
    known: list[Problem]
    rounds: int = 0

    def __getitem__(self, number: int) -> Problem:
        while len(self.known) <= number:
            fresh = next(self.rest, None)
            if fresh is None:
                if not self.known:
                    raise ValueError(
                        f"the family {self.family.name} has no problems here: take it out of "
                        "`families`, or bring the data packs that it reads"
                    )
                self.rounds += 1
                self.rest = self.family.problems(self.seed + self.rounds, held_out=self.held_out)
            else:
                self.known.append(fresh)
        return self.known[number]

    def levels(self) -> list[str]:
        """Return the levels that its first problems have."""
        self[0]  # a family without problems says so
        while len(self.known) < LOOKED_AT and self.rounds == 0:
            self[len(self.known)]
        return sorted({level_of(problem) for problem in self.known[:LOOKED_AT]})

    def nth_of(self, level: str, nth: int) -> int:
        """Return the number of the n-th problem of a level."""
        for number in itertools.count():
            if level_of(self[number]) == level:
                if nth == 0:
                    return number
                nth -= 1
        raise AssertionError("unreachable")


class Practice:
    """The families of a run and their problems."""

    def __init__(
        self,
        families: Mapping[str, FamilyConfig],
        seed: int,
        difficulty: DifficultyConfig | None = None,
        *,
        held_out: bool = False,
    ) -> None:
        """Open the families.

        Args:
            families: By name.
            seed: Of their problems and of what is sampled.
            difficulty: Which of a family's levels are drawn; none: the usual.
            held_out: Give the problems that practice never sees instead of all the others.

        Raises:
            ValueError: There is no such family.
        """
        self.families: dict[str, Family] = {name: find(name) for name in families}
        self._config = families
        self._seed, self._held_out = seed, held_out
        self._difficulty = difficulty or DifficultyConfig()
        self._levels: dict[str, Curriculum] = {}
        self._streams = {
            name: _Stream(family, seed, held_out, family.problems(seed, held_out=held_out), [])
            for name, family in self.families.items()
        }

    def problem(self, family: str, number: int) -> Problem:
        """Return a family's problem number 0, 1, … with the budget that the run gives it."""
        return self._within(self._streams[family][number])

    def first(self, family: str, count: int) -> list[Pending]:
        """Return a family's first problems, fewer if it has fewer."""
        stream = self._streams[family]
        number = 0
        while number < count and stream.rounds == 0:
            self.problem(family, number)
            number += stream.rounds == 0
        return [Pending(family, at) for at in range(number)]

    def draw(self, count: int, turns: dict[str, int]) -> list[Pending]:
        """Return the next problems: the family by weight, its level by how hard it is now.

        Args:
            count: How many.
            turns: How often each family, and each of its levels, had its turn; counted on.
        """
        weights = {name: config.weight for name, config in self._config.items()}
        drawn: list[Pending] = []
        for _ in range(count):
            family = next_family(weights, turns)
            (level,), self._levels[family] = self._level(family).draw(1)
            name = f"{family}/{level}"
            nth = turns.get(name, 0)
            drawn.append(Pending(family, self._streams[family].nth_of(level, nth)))
            for each in (family, name):
                turns[each] = turns.get(each, 0) + 1
        return drawn

    def observe(self, problems: Sequence[Pending]) -> None:
        """Take in how many of each problem's episodes passed."""
        counts: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for one in problems:
            level = level_of(self.problem(one.family, one.number))
            passed = [episode.reward >= RIGHT for episode in one.episodes]
            counts[one.family][level] += passed
        for family, levels in counts.items():
            self._levels[family] = self._level(family).measured(
                {level: PassCount(sum(passed), len(passed)) for level, passed in levels.items()}
            )

    def state(self) -> dict[str, Any]:
        """Return what is known of how hard levels are, as JSON."""
        return {family: levels.state() for family, levels in sorted(self._levels.items())}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        for family in self.families.keys() & state.keys():
            names = self._streams[family].levels()
            self._levels[family] = Curriculum.resume(state[family], names, self._difficulty)

    def _level(self, family: str) -> Curriculum:
        """Return a family's levels, none of them measured at first."""
        if family not in self._levels:
            names = frozenset(self._streams[family].levels())
            self._levels[family] = Curriculum(names, self._difficulty, self._seed)
        return self._levels[family]

    def _within(self, problem: Problem) -> Problem:
        budget = self._config[problem.family].max_tokens
        return problem if budget is None else replace(problem, max_tokens=budget)

    def seed(self, family: str, number: int, sample: int) -> int:
        """Return the seed of one episode: whatever was played before, it is the same."""
        name = f"{self._seed}/{self._held_out}/{family}/{number}/{sample}"
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def level_of(problem: Problem) -> str:
    """Return how hard a problem is within its family, as a name."""
    return str(problem.meta.get("level", 1))
