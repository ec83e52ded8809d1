"""A contender in a process of its own, and what else the machine did while it was measured.

In: which contender, its file, its threads; then one request after another. Out: samples.
Must not know: goals, or what the numbers are compared with.

The child is `python -m bench.engine_worker KIND PATH THREADS`; requests and answers are lines of
JSON on its standard input and output.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from bench.engine_ours import OpenK2
from bench.engine_peers import Bandwidth, LlamaCpp, Transformers

KINDS: dict[str, Callable[[], Any]] = {
    "openk2": OpenK2,
    "llama.cpp": LlamaCpp,
    "transformers eager": lambda: Transformers(compiled=False),
    "transformers compiled": lambda: Transformers(compiled=True),
    "memory": Bandwidth,
}
TICKS = os.sysconf("SC_CLK_TCK")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ContenderError(Exception):
    """A contender could not be loaded, or failed while it was measured."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one contender."""

    tokens: int
    seconds: float
    own_share: float
    """Of all cores, while it was measured: the contender itself."""
    others_share: float
    """Other processes, the bench's own busy loop among them."""
    steal_share: float
    """Taken by the host for other guests."""
    load_1m: float
    """The machine's load average afterwards."""

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


class Worker:
    """The parent's end of one contender."""

    def __init__(self, kind: str, path: Path, threads: int, patience_s: float) -> None:
        """Start the process and wait until the contender is loaded.

        Raises:
            ContenderError: It could not be loaded.
        """
        self._name, self._patience_s = f"{kind} with {threads} threads", patience_s
        command = [sys.executable, "-m", "bench.engine_worker", kind, str(path), str(threads)]
        self._process = subprocess.Popen(
            command,
            env=os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.facts: dict[str, Any] = self._answer()

    def measure(self, call: str, arguments: list[int], tokens: int, seconds: float) -> Sample:
        """Warm up once and repeat `call` until it has taken `seconds`.

        Raises:
            ContenderError: It failed or took far too long.
        """
        request = {"call": call, "arguments": arguments, "tokens": tokens, "seconds": seconds}
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise ContenderError(f"{self._name} has ended") from error
        return Sample(**self._answer())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        timer = threading.Timer(self._patience_s, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if not line:
            self.close()
            raise ContenderError(f"{self._name} ended or took over {self._patience_s:.0f} s")
        answer = json.loads(line)
        if "failed" in answer:
            self.close()
            raise ContenderError(f"{self._name}: {answer['failed']}")
        return answer


@contextmanager
def busy_process(wanted: bool) -> Generator[None]:
    """Keep one core busy with a Python loop, pinned to none, if `wanted`."""
    if not wanted:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


# The child --------------------------------------------------------------------------------------


def main() -> None:
    """Load the contender that the arguments name and answer until standard input ends."""
    kind, path, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    # Libraries print to standard output, too; the answers keep it for themselves.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        contender = KINDS[kind]()
        try:
            contender.load(path, threads)
            _say(answers, contender.facts)
            for line in sys.stdin:
                _say(answers, asdict(_measured(contender, **json.loads(line))))
        except Exception as error:  # noqa: BLE001 - whatever it is belongs into the record
            _say(answers, {"failed": f"{type(error).__name__}: {error}"[:400]})


def _say(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _measured(
    contender: Any, call: str, arguments: list[int], tokens: int, seconds: float
) -> Sample:
    function = getattr(contender, call)
    function(*arguments)
    taken, repeats = 0.0, 0
    before = _clocks()
    while taken < seconds:
        taken += function(*arguments)
        repeats += 1
    own, busy, steal, wall = (b - a for a, b in zip(before, _clocks(), strict=True))
    whole = max(wall, 1e-9)
    return Sample(
        tokens=tokens * repeats,
        seconds=taken,
        own_share=round(own / whole, 3),
        others_share=round(max(0.0, busy - own) / whole, 3),
        steal_share=round(steal / whole, 3),
        load_1m=os.getloadavg()[0],
    )


def _clocks() -> tuple[float, float, float, float]:
    """Return this process's, all processes', stolen and all cores' seconds since some beginning."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    own = usage.ru_utime + usage.ru_stime
    stat = Path("/proc/stat")
    if not stat.exists():
        return own, own, 0.0, 0.0
    fields = [int(word) / TICKS for word in stat.read_text("utf-8").split("\n")[0].split()[1:9]]
    user, nice, system, idle, iowait, irq, softirq, steal = fields
    busy = user + nice + system + irq + softirq
    return own, busy, steal, busy + idle + iowait + steal


if __name__ == "__main__":
    main()
