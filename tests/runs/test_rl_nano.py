"""What a run of reinforcement learning did, from the files that it leaves."""

from __future__ import annotations

import json
from pathlib import Path

from runs import rl_nano


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_record_compares_the_first_evaluation_with_the_last_problem_by_problem(tmp_path: Path):
    times = {"iteration": 10.0, "rollout": 4.0, "update": 5.0, "sync": 0.1}
    times |= {"tokens_per_s": 900.0, "utilisation": 0.5}
    rows = [{"step": 0, "machine": {"evaluation": 3.0}}]
    rows += [{"step": step, "reward": step / 10, "machine": times} for step in (1, 2, 3)]
    write(tmp_path / "metrics.jsonl", rows)
    (tmp_path / "config.json").write_text('{"ptx_rows": 4}')
    tried = [
        {"step": step, "family": family, "problem": f"{family}-{number}", "earned": earned}
        for number in range(20)
        for step, family, earned in [
            (0, "sums", 0.0),
            (2, "sums", 0.0),
            (3, "sums", float(number < 15)),
            (0, "words", float(number % 2)),
            (3, "words", float(number % 4 in (1, 2))),
        ]
    ]
    write(tmp_path / "held_out.jsonl", tried)
    found = rl_nano.run(tmp_path)
    assert (found["iterations"], found["minutes"], found["sync_share"]) == (3, 0.5, 0.01)
    assert found["curves"]["reward"] == [0.1, 0.2, 0.3] and found["config"] == {"ptx_rows": 4}
    sums, words = (found["held_out"][family]["pass"] for family in ("sums", "words"))
    assert (sums["before"], sums["after"], sums["significant"]) == (0.0, 0.75, True)
    assert (words["before"], words["after"], words["significant"]) == (0.5, 0.5, False)
    assert words["low"] < 0 < words["high"]
