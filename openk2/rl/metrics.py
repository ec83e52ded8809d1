"""What an iteration and an evaluation come to in numbers.

In: shaped episodes, and the rewards of held-out ones. Out: flat rows for `metrics.jsonl`, whose
names `FAMILY/…` hold a family's own. Everything that depends on the clock is under `machine`, so
that two runs can be compared by the rest. Must not know: how episodes were made or learned from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from openk2.evals.bootstrap import estimates
from openk2.rl.shaping import RIGHT, ShapingConfig, emitted, goes_round
from openk2.types import Trajectory

Row = dict[str, Any]
Groups = Sequence[Sequence[Trajectory]]

DIGITS = 4
"""Significant digits of a number in a row. The engine adds up in another order when other requests
share its batch, so the last bits of a log-probability are not the run's."""


def episode_numbers(groups: Groups, config: ShapingConfig) -> Row:
    """Return what the shaped episodes of an iteration say, over all and by family.

    `earned` is what families gave, `reward` what is learned from. `signal` is the share of problems
    whose episodes differ in reward: only they teach anything.
    """
    by_family: dict[str, list[Sequence[Trajectory]]] = defaultdict(list)
    for group in groups:
        by_family[group[0].family].append(group)
    every = [episode for group in groups for episode in group]
    row: Row = {
        "episodes": len(every),
        "reward": _mean([episode.reward for episode in every]),
        "earned": _mean([_earned(episode) for episode in every]),
        "pass": _mean([_earned(episode) >= RIGHT for episode in every]),
        "signal": _mean([len({episode.reward for episode in group}) > 1 for group in groups]),
        "length": _mean([emitted(episode) for episode in every]),
        "truncated": _mean([episode.finish == "length" for episode in every]),
        "repeated": _mean([goes_round(episode, config) for episode in every]),
        "tokens": sum(emitted(episode) for episode in every),
    }
    for family in sorted(by_family):
        own = [episode for group in by_family[family] for episode in group]
        row[f"{family}/earned"] = _mean([_earned(episode) for episode in own])
        row[f"{family}/pass"] = _mean([_earned(episode) >= RIGHT for episode in own])
        row[f"{family}/length"] = _mean([emitted(episode) for episode in own])
    return row


def lag(groups: Groups, version: int) -> float:
    """Return by how many policy versions the emitted tokens are behind, on the average."""
    behind = [
        (version - segment.version, len(segment.ids))
        for group in groups
        for episode in group
        for segment in episode.segments
        if segment.emitted
    ]
    total = sum(count for _, count in behind)
    return sum(by * count for by, count in behind) / total if total else 0.0


def held_out_numbers(groups: Groups, seed: int) -> Row:
    """Return each family's held-out pass rate and reward with a 95 % interval over its problems.

    Args:
        groups: The episodes of each held-out problem; a problem counts once, by their mean.
        seed: Of the resampling.
    """
    by_family: dict[str, list[dict[str, float]]] = defaultdict(list)
    for group in groups:
        earned = [episode.reward for episode in group]
        scores = {
            "pass": _mean([reward >= RIGHT for reward in earned]),
            "earned": _mean(earned),
        }
        by_family[group[0].family].append(scores)
    row: Row = {}
    for family in sorted(by_family):
        for name, found in estimates(by_family[family], {}, seed=seed).items():
            key = f"held_out/{family}/{name}"
            row |= {key: found.value, f"{key}/low": found.low, f"{key}/high": found.high}
        row[f"held_out/{family}/problems"] = len(by_family[family])
    return row


def rounded(row: Mapping[str, Any]) -> Row:
    """Return a row with its numbers to `DIGITS` significant digits, integers as they are."""
    return {
        name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        for name, value in row.items()
    }


def of_machine(row: Mapping[str, Any], times: Mapping[str, Any]) -> Row:
    """Set apart what two runs of the same settings need not share: times, and `mismatch`.

    The latter is the difference between engine and trainer, where only rounding is left of it.
    """
    noise = {name: value for name, value in row.items() if name.startswith("mismatch")}
    rest = {name: value for name, value in row.items() if name not in noise}
    return {**rest, "machine": {**times, **noise}}


def families(row: Mapping[str, Any]) -> list[str]:
    """Return the families that an iteration's row has numbers of."""
    suffix = "/earned"
    return [
        name.removesuffix(suffix)
        for name in row
        if name.endswith(suffix) and not name.startswith("held_out/")
    ]


def _earned(episode: Trajectory) -> float:
    return episode.parts.get("earned", episode.reward)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
