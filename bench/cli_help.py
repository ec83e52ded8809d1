"""How long `openk2 --help` takes: the median of whole processes, start-up of Python included.

python -m bench.cli_help
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from bench import record

RUNS = 21


def seconds(code: str) -> float:
    """Time one Python process that runs `code`."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def median_ms(code: str) -> float:
    """Return the median of RUNS processes in milliseconds, after one to warm the file cache."""
    seconds(code)
    return round(statistics.median(seconds(code) for _ in range(RUNS)) * 1000, 1)


def main() -> None:
    """Measure the help text beside an empty Python process, and record both."""
    result = {
        "help_ms": median_ms(
            "import sys; sys.argv = ['openk2', '--help']; from openk2.cli import main; main()"
        ),
        "python_alone_ms": median_ms("pass"),
        "runs": RUNS,
    }
    print(record.write("cli-help", "python -m bench.cli_help", result), result)


if __name__ == "__main__":
    main()
