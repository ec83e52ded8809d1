"""Answers to one problem are compared with each other: a reward where no program can check.

    judgement = await judge(verdict, problem, answers, rubrics, settings, seed)
    rewards = judgement.scores()

Rules that a program checks close an answer out before anybody is asked. Of the others, each pair is
asked about in both orders, which cancels a preference for a place, and the two are averaged.

In: a problem, answers, rubrics, a `Verdict`. Out: scores, and how the judge behaved.
Must not know: who judges, how it is asked, what is learned from the scores.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from openk2.evals.bootstrap import Estimate, estimates
from openk2.gym.problem import Problem
from openk2.rl.question import check, compare, mark_of
from openk2.rl.ranking import Game, length_effect, schedule, win_rates
from openk2.rl.rubrics import (
    CORE,
    PRESCRIPTIVE,
    GateSettings,
    Rubric,
    broken_rules,
    hedges,
    length,
    of_family,
)
from openk2.rl.verdict import Verdict
from openk2.types import Message

STANDARD = (*CORE, *PRESCRIPTIVE)


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """How answers are judged."""

    pairs: int | None = None
    """Most pairs of a problem's answers that are asked about, each twice; None: all. Twice as many
    as answers lose little: docs/concepts/self-critique.md has the numbers."""
    length_control: float = 0.0
    """Part of what length alone does to verdicts that is taken out of them: 0 nothing, 1 all. More
    than 0 also takes out what longer answers are really better at."""
    gates: GateSettings = field(default_factory=GateSettings)
    """What closes an answer out."""

    def __post_init__(self) -> None:
        """Refuse what compares nothing, or takes out more than there is."""
        if self.pairs is not None and self.pairs < 1:
            raise ValueError(f"pairs must be at least 1 or none, not {self.pairs}")
        if not 0 <= self.length_control <= 1:
            raise ValueError(f"length_control must be from 0 to 1, not {self.length_control}")


class Pair(NamedTuple):
    """What was said about two answers."""

    first: int
    second: int
    forward: float | None
    """Probability that `first` is better, when it was shown first; None: no verdict."""
    backward: float | None
    """The same when `second` was shown first."""

    @property
    def win(self) -> float | None:
        """Average both orders; one alone would bring the judge's preference for a place in."""
        if self.forward is None or self.backward is None:
            return None
        return (self.forward + self.backward) / 2


@dataclass(frozen=True, slots=True)
class Judgement:
    """All that was found about the answers to one problem."""

    answers: tuple[str, ...]
    closed: tuple[tuple[str, ...], ...]
    """The rules that each answer breaks; empty: it is open."""
    pairs: tuple[Pair, ...]
    """Between open answers."""
    asked: int
    """Questions to the judge."""
    missing: int
    """Those that got no verdict: they count for nobody."""

    def games(self) -> list[Game]:
        """Return the pairs that have a verdict, with what their lengths are."""
        lengths = [max(1, length(answer)) for answer in self.answers]
        return [
            Game(pair.first, pair.second, win, math.log(lengths[pair.first] / lengths[pair.second]))
            for pair in self.pairs
            if (win := pair.win) is not None
        ]

    def scores(self, effect: float = 0.0) -> list[float]:
        """Return each answer's expected share of wins against the others.

        An answer that breaks a rule has 0: it loses to every open one, and to its like nobody
        wins. One of which no pair has a verdict counts as average among the open.

        Args:
            effect: Log-odds per unit of log-length to take out: from `controlled_effect`.
        """
        open_ones = [i for i, rules in enumerate(self.closed) if not rules]
        place = {answer: i for i, answer in enumerate(open_ones)}
        games = [g._replace(first=place[g.first], second=place[g.second]) for g in self.games()]
        rates = win_rates(len(open_ones), games, effect)
        beaten, others = len(self.answers) - len(open_ones), max(1, len(self.answers) - 1)
        found = [0.0] * len(self.answers)
        for answer, rate in zip(open_ones, rates, strict=True):
            found[answer] = (rate * (len(open_ones) - 1) + beaten) / others
        return found if len(self.answers) > 1 else [0.5 if open_ones else 0.0] * len(found)


async def judge(
    verdict: Verdict,
    problem: Problem,
    answers: Sequence[str],
    rubrics: tuple[Rubric, ...] = STANDARD,
    settings: JudgeSettings | None = None,
    seed: int = 0,
) -> Judgement:
    """Compare answers to one problem.

    Args:
        verdict: The judge.
        problem: What was asked.
        answers: As `question.transcript` writes what came after the problem's messages.
        rubrics: What counts; those of other families are left out.
        settings: How many pairs, and what closes an answer out.
        seed: Of the choice of pairs.

    Raises:
        ModelError: The judge's endpoint refuses every question.
    """
    settings = settings or JudgeSettings()
    rubrics = of_family(rubrics, problem.family)
    closed = [broken_rules(answer, rubrics, settings.gates) for answer in answers]
    bench = _Bench(verdict)
    mark = mark_of(problem.messages, answers)

    async def breaks(answer: int, rubric: Rubric) -> bool:
        asked = (problem.messages, answers[answer], rubric, mark)
        keeps = await bench.ask(check(*asked, keeps_first=True))
        mirrored = await bench.ask(check(*asked, keeps_first=False))
        # What nobody confirms is not kept: a mandatory rule is no place for the benefit of doubt.
        return keeps is None or mirrored is None or keeps + 1 - mirrored <= 1

    async def pair(first: int, second: int) -> Pair:
        one, other = answers[first], answers[second]
        if one == other:
            return Pair(first, second, 0.5, 0.5)
        forward = await bench.ask(compare(problem.messages, one, other, rubrics, mark))
        backward = await bench.ask(compare(problem.messages, other, one, rubrics, mark))
        return Pair(first, second, forward, None if backward is None else 1 - backward)

    musts = [one for one in rubrics if one.mandatory and not one.checkable]
    asked = [(i, rule) for i, rules in enumerate(closed) if not rules for rule in musts]
    for (i, rule), broken in zip(
        asked, await asyncio.gather(*(breaks(*one) for one in asked)), strict=True
    ):
        closed[i] += (rule.name,) if broken else ()
    left = [i for i, rules in enumerate(closed) if not rules]
    chosen = [(left[i], left[j]) for i, j in schedule(len(left), settings.pairs, seed)]
    pairs = await asyncio.gather(*(pair(*one) for one in chosen))
    return Judgement(tuple(answers), tuple(closed), tuple(pairs), bench.asked, bench.missing)


class _Bench:
    """Puts questions to a judge, and counts."""

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict
        self.asked = self.missing = 0

    async def ask(self, question: Sequence[Message]) -> float | None:
        said = await self._verdict(question)
        self.asked += 1
        self.missing += said is None
        return said


def controlled_effect(judgements: Sequence[Judgement], settings: JudgeSettings) -> float:
    """Return the log-odds per unit of log-length that `Judgement.scores` is to take out.

    Args:
        judgements: Of many problems: what length does cannot be told from the answers to one.
        settings: `length_control` is the part that is taken out.
    """
    games = [game for judgement in judgements for game in judgement.games()]
    return settings.length_control * length_effect(games)


def preference(
    judgements: Sequence[Judgement], measure: Callable[[str], float], seed: int = 0
) -> Estimate | None:
    """Say how often the answer with more of something wins; None if it never made a difference.

    Ties count half. The interval is over problems, since pairs of one problem share answers.

    Args:
        judgements: One for each problem.
        measure: What may please the judge: `rubrics.length`, `rubrics.hedges`.
        seed: Of the resampling.
    """
    cases: list[Mapping[str, float]] = []
    for judgement in judgements:
        amount = [measure(answer) for answer in judgement.answers]
        won = [
            decided(game.win if amount[game.first] > amount[game.second] else 1 - game.win)
            for game in judgement.games()
            if amount[game.first] != amount[game.second]
        ]
        if won:
            cases.append({"more": sum(won) / len(won)})
    return estimates(cases, {}, seed=seed)["more"] if cases else None


def decided(win: float) -> float:
    """Return who a probability is for: 1, 0, or 0.5 for nobody."""
    return 0.5 if abs(win - 0.5) < 1e-9 else float(win > 0.5)


def metrics(judgements: Sequence[Judgement]) -> dict[str, float]:
    """Say how the judge behaved: shares, and how often longer and hedging answers won."""
    pairs = [pair for judgement in judgements for pair in judgement.pairs]
    whole = [
        (p.forward, 1 - p.backward)
        for p in pairs
        if p.forward is not None and p.backward is not None
    ]
    rules = [closed for judgement in judgements for closed in judgement.closed]
    asked = sum(judgement.asked for judgement in judgements)
    found = {
        "judge/asked": float(asked),
        "judge/missing": sum(judgement.missing for judgement in judgements) / max(1, asked),
        "judge/closed": _share([bool(broken) for broken in rules]),
        "judge/ties": _share([decided((a + 1 - b) / 2) == 0.5 for a, b in whole]),
        "judge/first_wins": _share([decided(shown) for both in whole for shown in both]),
        "judge/order_decides": _share(
            [{decided(a), decided(b)} in ({1.0}, {0.0}) for a, b in whole]
        ),
    }
    for name in sorted({name for broken in rules for name in broken}):
        found[f"judge/closed/{name}"] = _share([name in broken for broken in rules])
    for name, measure in (("longer", length), ("hedging", hedges)):
        if (wins := preference(judgements, measure)) is not None:
            found[f"judge/{name}_wins"] = wins.value
            found[f"judge/{name}_wins_low"] = wins.low
            found[f"judge/{name}_wins_high"] = wins.high
    return found


def _share(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
