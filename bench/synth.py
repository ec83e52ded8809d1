"""How fast verified conversations are made: all stages, replay and filters included.

In: nothing. Out: bench/records/synth.json. Must not know: how a stage works.

    python -m bench.synth
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import record
from openk2.synth.config import SynthConfig
from openk2.synth.overlap import Overlap
from openk2.synth.run import here, read_rows, synthesise
from openk2.synth.workers import Processes
from openk2.text.eval_packs import eval_texts

WARM_UP = 200
"""Conversations before the clock starts: workers import and open their domains once."""


def main() -> None:
    """Measure one process and two, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4000)
    options = parser.parse_args()
    began = time.perf_counter()
    overlap = Overlap(eval_texts(Path("data")))
    result: dict[str, Any] = {"reading_evaluation_packs_s": round(time.perf_counter() - began, 1)}
    for workers in (1, 2):
        result[f"workers_{workers}"] = measured(options.count, workers, overlap)
    print(record.write("synth", "python -m bench.synth", result))
    print(json.dumps(result, indent=1))


def measured(count: int, workers: int, overlap: Overlap) -> dict[str, Any]:
    """Make conversations of all kinds in a fresh folder."""
    clock: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        synthesise(
            SynthConfig(count=count),
            out,
            overlap,
            here if workers == 1 else Processes(workers),
            on_progress=lambda kept: clock.append((time.perf_counter(), kept)),
        )
        rows = [*read_rows(out / "train.jsonl")]
    start = next(at for at in clock if at[1] >= WARM_UP)
    seconds, made = clock[-1][0] - start[0], clock[-1][1] - start[1]
    users = [sum(m["role"] == "user" for m in row["messages"]) for row in rows]
    several = [sum(m["role"] == "assistant" for m in row["messages"]) > 1 for row in rows]
    return {
        "verified_per_s": round(made / seconds, 1),
        "conversations": made,
        "calls_per_conversation": round(sum(row["calls"] for row in rows) / len(rows), 2),
        "user_turns_per_conversation": round(sum(users) / len(rows), 2),
        "with_several_assistant_turns": round(sum(several) / len(rows), 3),
    }


if __name__ == "__main__":
    main()
