"""How long an engine's streams stand still while it is given new weights.

In: a model directory. Out: the milliseconds of a push per runner and stored form, wall-clock and of
the pushing thread alone: with one thread that is all the work there is, whoever else has the cores.
Must not know: what the weights are for.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch

from bench import record
from openk2.engine.compiled import CompiledRunner
from openk2.engine.engine import Engine
from openk2.engine.runner import TorchRunner
from openk2.export.hf import export_hf
from openk2.export.hf_plan import Format
from openk2.model import weights
from openk2.model.checkpoint import Checkpoint
from openk2.model.mapped import map_model
from openk2.model.tiled import tile_model
from openk2.rl.sync import push

NANO = record.ROOT / "openk2" / "assets" / "nano"
TRIES = 8
CASES: dict[str, tuple[Format, str]] = {
    "compiled, bfloat16": ("bf16", "compiled"),
    "compiled, INT4 experts": ("int4", "compiled"),
    "compiled, INT4": ("int4-all", "compiled"),
    "PyTorch, bfloat16": ("bf16", "torch"),
    "PyTorch, INT4 experts": ("int4", "torch"),
}


def measure(directory: Path, runner: str) -> dict[str, float]:
    """Push a directory's weights into an engine over a stored form of them."""
    checkpoint = Checkpoint(directory)
    built = (
        CompiledRunner(tile_model(checkpoint), max_positions=512, threads=1)
        if runner == "compiled"
        else TorchRunner(map_model(checkpoint))
    )
    engine = Engine(built, max_batch=1, max_len=512, stop_ids=frozenset())
    model = weights.load(NANO)
    walls: list[float] = []
    works: list[float] = []
    for _ in range(TRIES):
        began = time.thread_time()
        walls.append(1e3 * push(model, engine))
        works.append(1e3 * (time.thread_time() - began))
    half = TRIES // 2
    return {
        "wall_ms": round(sorted(walls)[half], 1),
        "wall_least_ms": round(min(walls), 1),
        "thread_ms": round(sorted(works)[half], 1),
    }


def main() -> None:
    """Measure every case; `--record` writes bench/records/rl_sync.json."""
    torch.set_num_threads(1)
    result: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as root:
        for name, (form, runner) in CASES.items():
            directory = Path(root) / form
            if form == "bf16":
                directory = NANO
            elif not directory.exists():
                export_hf(NANO, directory, format=form, with_tokenizer=False)
            result[name] = measure(directory, runner)
            print(f"{name}: {result[name]}")
    if "--record" in sys.argv:
        record.write("rl_sync", "python -m bench.rl_sync --record", result)


if __name__ == "__main__":
    main()
