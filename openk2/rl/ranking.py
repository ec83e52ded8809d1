"""From comparisons of pairs to one score for each answer.

In: which of two was better, how surely. Out: which pairs to ask about; scores from 0 to 1.
Must not know: answers, rubrics, who judged.

Bradley–Terry, and not the mean of an answer's own wins: over all pairs the two rank alike, but
where only some pairs are asked, it matters whom an answer met. Simulated with a judge that is asked
16 of the 28 pairs of 8 answers, the correlation with the truth is 0.92 instead of 0.89 if the judge
is decisive, and the same if it is noisy.

Shapes: K answers.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_PRIOR_GAMES = 1.0
"""Ties with an average answer that each is thought to have played: without them, the strength of
an answer that won every comparison is infinite."""
_SUREST = 0.98
"""A verdict surer than this counts as this where it is turned into log-odds."""


class Game(NamedTuple):
    """One comparison: what it says for the first, and by how much the first is longer."""

    first: int
    second: int
    win: float
    """Probability that the first is better; 0.5 is a tie."""
    longer: float = 0.0
    """Logarithm of the ratio of the lengths."""


def schedule(answers: int, most: int | None, seed: int) -> list[tuple[int, int]]:
    """Choose pairs so that each answer is in about as many as any other.

    Args:
        answers: How many there are.
        most: Pairs at most; None: all.
        seed: Of the order in which the answers stand in a circle; neighbours meet first, then
            those that are two apart, and so on. With as many pairs as answers, each meets two
            others and all are connected.
    """
    circle = random.Random(seed).sample(range(answers), answers)
    pairs: list[tuple[int, int]] = []
    for apart in range(1, answers // 2 + 1):
        for start in range(answers // 2 if 2 * apart == answers else answers):
            one, other = circle[start], circle[(start + apart) % answers]
            pairs.append((min(one, other), max(one, other)))
    return pairs[:most]


def win_rates(answers: int, games: Sequence[Game], length_effect: float = 0.0) -> list[float]:
    """Score each answer by how often it would win against the others, all of them.

    Args:
        answers: How many there are; one that played no game gets what an average one would.
        games: Comparisons.
        length_effect: Log-odds that each unit of `Game.longer` is worth by itself: subtracted.
    """
    if answers < 2:
        return [0.5] * answers
    fair = [game._replace(win=_fair(game, length_effect)) for game in games]
    strength_K = _strengths(answers, fair)
    wins_KK = 1 / (1 + np.exp(strength_K[None, :] - strength_K[:, None]))
    rates_K = (wins_KK.sum(1) - 0.5) / (answers - 1)
    return [float(rate) for rate in rates_K]


def length_effect(games: Sequence[Game]) -> float:
    """Measure what length alone does to verdicts: the slope of their log-odds over `Game.longer`.

    It also holds what longer answers are really better at, so it may be too much, never to be
    taken for a judge's fault without looking.
    """
    longer = np.array([game.longer for game in games])
    wins = np.array([game.win for game in games])
    slope = 0.0
    for _ in range(50):  # Newton's method; the prior is that of one game of average difference
        p = 1 / (1 + np.exp(-slope * longer))
        curve = float((longer**2 * p * (1 - p)).sum() + 1)
        step = max(-1.0, min(1.0, float((longer * (wins - p)).sum() - slope) / curve))
        slope += step
        if abs(step) < 1e-9:
            break
    return slope


def _fair(game: Game, effect: float) -> float:
    if not effect:
        return game.win
    p = min(max(game.win, 1 - _SUREST), _SUREST)
    return 1 / (1 + math.exp(effect * game.longer - math.log(p / (1 - p))))


def _strengths(answers: int, games: Sequence[Game]) -> np.ndarray:
    """Fit Bradley–Terry by Newton's method: log-odds of winning are differences of strengths."""
    strength_K = np.zeros(answers)
    for _ in range(50):
        mean_K = 1 / (1 + np.exp(-strength_K))
        slope_K = _PRIOR_GAMES * (0.5 - mean_K)
        curve_KK = np.diag(_PRIOR_GAMES * mean_K * (1 - mean_K))
        for i, j, win, _ in games:
            p = 1 / (1 + math.exp(strength_K[j] - strength_K[i]))
            slope_K[i] += win - p
            slope_K[j] -= win - p
            for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
                curve_KK[a, b] += sign * p * (1 - p)
        step_K = np.clip(np.linalg.solve(curve_KK, slope_K), -1.0, 1.0)  # never past the top
        strength_K += step_K
        if np.abs(step_K).max() < 1e-9:
            break
    return strength_K
