"""How long `openk2 --help` takes: the median of whole processes, start-up of Python included.

In: nothing. Out: bench/records/cli-help.json, in elapsed and in processor time; the second is what
remains comparable on a busy machine.

    python -m bench.cli_help
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time

from bench import record

RUNS = 21
HELP = "import sys; sys.argv = ['openk2', '--help']; from openk2.cli import main; main()"


def main() -> None:
    """Measure the help text beside an empty Python process, and record both."""
    result = {"openk2_help": measure(HELP), "python_alone": measure("pass"), "runs": RUNS}
    print(record.write("cli-help", "python -m bench.cli_help", result), result)


def measure(code: str) -> dict[str, float]:
    """Return the medians over RUNS processes that run `code`, after one to warm the file cache."""
    run(code)
    elapsed, cpu = zip(*(run(code) for _ in range(RUNS)), strict=True)
    return {"elapsed_ms": median_ms(elapsed), "cpu_ms": median_ms(cpu)}


def run(code: str) -> tuple[float, float]:
    """Time one Python process: elapsed seconds and processor seconds."""
    start, used = time.perf_counter(), children_seconds()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, children_seconds() - used


def children_seconds() -> float:
    """Return the processor time of all finished child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def median_ms(seconds: tuple[float, ...]) -> float:
    """Return the median in milliseconds."""
    return round(statistics.median(seconds) * 1000, 1)


if __name__ == "__main__":
    main()
