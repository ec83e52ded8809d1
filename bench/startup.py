"""How long `openk2 serve` takes to its ready line: the first time, and every later time.

In: nothing. Out: bench/records/startup.json. Cold starts have an empty cache of compiled code, warm
ones a full one. Seconds that pass depend on what else runs, so processor seconds are recorded, too,
with those of the processes that compile. Phases are one process's, timed between imports.

    python -m bench.startup
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import record
from bench.serving import wait_for_url

PHASES = """
import gc, json, sys, time
gc.disable()
began, found = [time.perf_counter(), time.process_time()], {}
def phase(name):
    now = [time.perf_counter(), time.process_time()]
    found[name] = [round(new - old, 3) for new, old in zip(now, began)]
    began[:] = now
from pathlib import Path
import openk2.cli, openk2
from openk2.text.tokenizer import Tokenizer
model = Path(openk2.__file__).parent / "assets" / "nano"
tokenizer = Tokenizer.load(model)
phase("command line and tokenizer")
openk2.cli.tree.share_cores()
import torch
phase("import of torch")
import numba
phase("import of numba")
import openk2.engine.loading
phase("import of the engine")
from openk2.engine.compiling import load_draws
from openk2.kernels.cpu.build import kernels
kernels()
phase("compiled kernels")
load_draws()
phase("compiled sampler")
openk2.engine.loading.load_engine(
    model, stop_ids=frozenset(), vocab_size=tokenizer.vocab_size, max_batch=8
)
phase("weights into tiles")
import openk2.server.app, uvicorn
phase("import of the server")
print(json.dumps(found))
"""


def main() -> None:
    """Start servers, print a table, write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cold", type=int, default=3, help="starts with an empty cache")
    parser.add_argument("--warm", type=int, default=7, help="starts with a full one")
    options = parser.parse_args()
    cold = []
    for _ in range(options.cold):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(start(cache))
    with tempfile.TemporaryDirectory() as cache:
        alone = phases(cache)
        start(cache)
        warm = [start(cache) for _ in range(options.warm)]
        loading = phases(cache)
    result = {
        "load_average": round(os.getloadavg()[0], 1),
        "cold": summary(cold),
        "warm": summary(warm),
        "phases_warm_elapsed_s_and_cpu_s": loading,
        "phases_cold_in_one_process_elapsed_s_and_cpu_s": alone,
    }
    show(result)
    print(record.write("startup", "python -m bench.startup", result))


def start(cache: str) -> dict[str, float]:
    """Start a server with this cache and return seconds to its ready line."""
    command = [sys.executable, "-m", "openk2.cli", "serve", "--port", "0"]
    began = time.perf_counter()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"XDG_CACHE_HOME": cache},
    ) as server:
        try:
            wait_for_url(server)
            ready_s = time.perf_counter() - began
            own_s, children_s = cpu_seconds(server.pid)
        finally:
            server.terminate()
    return {"ready_s": ready_s, "cpu_s": own_s, "children_cpu_s": children_s}


def cpu_seconds(pid: int) -> tuple[float, float]:
    """Return the processor time of a Linux process, and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, children_user, children_system = (int(field) for field in fields[11:15])
    tick = os.sysconf("SC_CLK_TCK")
    return (user + system) / tick, (children_user + children_system) / tick


def phases(cache: str) -> dict[str, list[float]]:
    """Return elapsed and processor seconds of each phase of a start."""
    done = subprocess.run(
        [sys.executable, "-c", PHASES],
        stdout=subprocess.PIPE,
        check=True,
        env=os.environ | {"XDG_CACHE_HOME": cache},
        cwd=record.ROOT,
    )
    return json.loads(done.stdout)


def summary(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return medians, and the fastest start."""
    medians = {key: round(statistics.median(run[key] for run in runs), 2) for key in runs[0]}
    return medians | {"ready_s_best": round(min(run["ready_s"] for run in runs), 2)}


def show(result: dict[str, Any]) -> None:
    """Print the result as tables."""
    for kind in ("cold", "warm"):
        print(f"{kind:5}", "  ".join(f"{key} {value}" for key, value in result[kind].items()))
    print(f"\n{'processor seconds of a phase':32}{'first time':>12}{'later':>8}")
    later = result["phases_warm_elapsed_s_and_cpu_s"]
    first = result["phases_cold_in_one_process_elapsed_s_and_cpu_s"]
    for name in later:
        print(f"{name:32}{first[name][1]:12.2f}{later[name][1]:8.2f}")


if __name__ == "__main__":
    main()
