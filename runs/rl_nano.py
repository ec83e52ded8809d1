"""Write down what reinforcement learning did to the shipped nano: bench/records/rl-nano.json.

In: the folders that `runs/rl_nano.sh` filled: two runs, one with PTX and one without, and three
evaluations. Out: the record; for every family the held-out pass rate before and after with the
interval of the difference over the same problems; for every benchmark the same.

    python -m runs.rl_nano
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench import record
from openk2.evals.bootstrap import Estimate, difference
from openk2.train.metrics import read

RUNS = {"ptx": "rl-nano", "no-ptx": "rl-nano-no-ptx"}
CURVE = ("reward", "pass", "signal", "length", "entropy", "kl")


def main() -> None:
    """Read the folders and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    result: dict[str, Any] = {}
    for name, folder in RUNS.items():
        result[name] = run(options.out / folder)
        result[name]["benchmarks"] = benchmarks(options.out / "rl-evals", name)
    print(record.write("rl-nano", "bash runs/rl_nano.sh", result))


def run(folder: Path) -> dict[str, Any]:
    """Summarise a run: its settings, what it gained, how it spent its time."""
    rows = [row for row in read(folder / "metrics.jsonl") if row["step"] > 0]
    times = [row["machine"] for row in rows]
    total = sum(time["iteration"] for time in times)
    return {
        "config": json.loads((folder / "config.json").read_text("utf-8")),
        "iterations": rows[-1]["step"],
        "minutes": round(total / 60, 1),
        "held_out": held_out(folder / "held_out.jsonl"),
        "rollout_tokens_per_s_median": median(time["tokens_per_s"] for time in times),
        "engine_rows_in_use": round(median(time["utilisation"] for time in times), 3),
        "rollout_share": round(sum(time["rollout"] for time in times) / total, 4),
        "update_share": round(sum(time["update"] for time in times) / total, 4),
        "sync_share": round(sum(time["sync"] for time in times) / total, 5),
        "curves": {name: [row[name] for row in rows if name in row] for name in CURVE},
    }


def held_out(log: Path) -> dict[str, Any]:
    """Compare the first evaluation with the last, problem by problem."""
    tries: dict[int, dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in read(log):
        tries[row["step"]][row["family"], row["problem"]].append(row["earned"])
    before, after = tries[min(tries)], tries[max(tries)]
    pairs: dict[str, list[tuple[Mapping[str, float], Mapping[str, float]]]] = defaultdict(list)
    for key in before.keys() & after.keys():
        pairs[key[0]].append((scores(before[key]), scores(after[key])))
    return {family: compared(pairs[family]) for family in sorted(pairs)}


def scores(earned: Sequence[float]) -> dict[str, float]:
    """Return one problem's pass rate and mean reward."""
    return {
        "pass": sum(reward >= 1 for reward in earned) / len(earned),
        "earned": sum(earned) / len(earned),
    }


def compared(pairs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> dict[str, Any]:
    """Return means before and after, and the difference with its 95 % interval."""
    found: dict[str, Any] = {"problems": len(pairs)}
    for name, change in difference(pairs, {}, seed=0).items():
        sides = [sum(pair[side][name] for pair in pairs) / len(pairs) for side in (0, 1)]
        found[name] = {"before": round(sides[0], 4), "after": round(sides[1], 4)} | change_of(
            change
        )
    return found


def change_of(change: Estimate) -> dict[str, Any]:
    """Write a difference with its interval, and whether that excludes zero."""
    return {
        "change": round(change.value, 4),
        "low": round(change.low, 4),
        "high": round(change.high, 4),
        "significant": change.low > 0 or change.high < 0,
    }


def benchmarks(folder: Path, name: str) -> dict[str, Any]:
    """Return the headline of every benchmark's group before and after."""
    sides = [headlines(folder / side / "report.json") for side in ("before", name)]
    return {
        key: {"before": sides[0][key], "after": sides[1][key]}
        for key in sides[0]
        if key in sides[1]
    }


def headlines(report: Path) -> dict[str, float]:
    """Read a report's headline scores."""
    rows = json.loads(report.read_text("utf-8"))["rows"]
    return {
        f"{row['benchmark']}: {row['group']}": row["scores"][row["headline"]]["value"]
        for row in rows
        if row["headline"] in row["scores"]
    }


if __name__ == "__main__":
    main()
