"""The engine beside llama.cpp, transformers and the memory itself: every speed goal in one run.

In: nothing; the models are presets with random weights, written under --dir once. Out: a table, and
bench/records/engine.json. Every contender with every thread count is a process of its own; in a
round each is measured once, one after the other (A B A B); the medians of the rounds count. What
else the machine did is noted with every sample.

    python -m bench.engine --dir /tmp/openk2-engine

Other processes spoil measurements on two threads: believe a run where `others_share` stays below
0.03. A goal that is missed takes its reason from --why "small decode=...".
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import record
from bench.engine_goals import (
    BUSY,
    COLD,
    ELSEWHERE,
    GOALS,
    HF,
    LLAMA,
    MEMORY,
    OURS,
    ROWS,
    SHARED,
    UNSHARED,
    Row,
    Speeds,
    Verdict,
    as_table,
    judge,
)
from bench.engine_models import ROUTER_FACTOR, Models, bytes_per_token, expert_loads, make
from bench.engine_worker import ContenderError, Sample, Worker, busy_process

MODELS = ("nano", "small")
DECODED = 128
STREAMS, STREAM_TOKENS = 32, 32
REQUESTS, PREFIX = 16, 2048


@dataclass(frozen=True, slots=True)
class Call:
    """What a contender is asked in a row."""

    name: str
    arguments: tuple[int, ...]
    tokens: int
    """Counted for one call: speed is this over its seconds."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One contender in one row."""

    kind: str
    """As the goals call it."""
    worker: str
    """As the worker calls it."""
    path: Callable[[Models], Path]
    call: Call
    is_busy: bool = False


@dataclass(slots=True)
class RowResult:
    """What one row of one model gave."""

    samples: dict[tuple[str, int], list[Sample]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def speeds(self) -> Speeds:
        """Tokens per second of every round."""
        return {key: [sample.speed for sample in samples] for key, samples in self.samples.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return it for the record, nothing left out."""
        found: dict[str, Any] = {}
        for (kind, threads), samples in self.samples.items():
            speeds = [sample.speed for sample in samples]
            found[f"{kind}, {threads} thr"] = {
                "per_s_median": round(statistics.median(speeds), 2),
                "per_s_min": round(min(speeds), 2),
                "per_s_max": round(max(speeds), 2),
                "rounds": [asdict(sample) for sample in samples],
            }
        return {"per_s": found, "failed": self.failures, "facts": self.facts}


def main() -> None:
    """Measure what was asked for, print the table and write the record."""
    options = arguments()
    result: dict[str, Any] = settings(options)
    verdicts: list[Verdict] = []
    for name in options.only:
        models = make(options.dir, name)
        loads = expert_loads(models)
        result[name] = {
            "expert_load_over_even": {
                "min": round(min(loads), 2),
                "median": round(statistics.median(loads), 2),
                "max": round(max(loads), 2),
            },
            "int4_bytes_per_token": round(bytes_per_token(models.config)),
        }
        for row in options.rows:
            found = measure(row, models, options)
            result[name][row] = found.to_dict()
            verdicts += judged(name, row, found, models, options.why)
            print(as_lines(name, row, found), flush=True)
    result["goals"] = [verdict.to_dict() for verdict in verdicts]
    result["goals_elsewhere"] = ELSEWHERE
    print(as_table(verdicts))
    print(record.write(options.record, f"python -m bench.engine {options.command}", result))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="Where 2 GB of files may lie.")
    parser.add_argument("--only", type=_names(MODELS), default=MODELS, help="nano,small")
    parser.add_argument("--rows", type=_names(ROWS), default=ROWS, help=",".join(ROWS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=_numbers, default=(1, 2), help="Both are tried.")
    parser.add_argument("--seconds", type=float, default=1.0, help="At least, for a sample.")
    parser.add_argument("--patience", type=float, default=1800.0, help="For a load or a sample.")
    parser.add_argument("--quick", action="store_true", help="One round of a tenth of a second.")
    parser.add_argument("--why", action="append", default=[], help='"MODEL ROW=REASON" of a miss.')
    parser.add_argument("--record", default="engine", help="Name of the record.")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 0.1
    words = [word for word in sys.argv[1:] if word != str(options.dir)]
    options.command = " ".join("--dir DIR" if word == "--dir" else word for word in words)
    options.why = dict(entry.split("=", 1) for entry in options.why)
    return options


def _names(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        chosen = [
            name for word in text.split(",") for name in known if name.startswith(word) and word
        ]
        if not chosen:
            raise argparse.ArgumentTypeError(f"{text!r}: choose from {', '.join(known)}")
        return tuple(dict.fromkeys(chosen))

    return read


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the numbers depend on besides code and machine."""
    return {
        "rounds": options.rounds,
        "sample_s": options.seconds,
        "threads": list(options.threads),
        "tokens": {"decode": DECODED, "streams": [STREAMS, STREAM_TOKENS], "prefix": PREFIX},
        "weights": f"random, seed 0, N(0, initializer_range); routers times {ROUTER_FACTOR:g}",
        "peers": "llama.cpp through its C interface: no server, no sampling, random tokens; "
        "ours through Engine.step, sampling at temperature 1 included",
    }


# One row ----------------------------------------------------------------------------------------


def entries(row: Row) -> Iterator[Entry]:
    """Yield who takes part in a row, in the order of a round."""
    decode = Call("decode", (DECODED,), DECODED)
    calls: dict[Row, Call] = {
        "prefill512": Call("prefill", (512,), 512),
        "prefill2048": Call("prefill", (2048,), 2048),
        "streams": Call("streams", (STREAMS, STREAM_TOKENS), STREAMS * STREAM_TOKENS),
    }
    if row == "prefix":
        for kind, name in ((SHARED, "shared"), (UNSHARED, "unshared"), (COLD, "cold_shared")):
            call = Call(f"first_tokens_{name}", (REQUESTS, PREFIX), 1)
            yield Entry(kind, OURS, lambda m: m.int4, call)
        return
    call = calls.get(row, decode)
    yield Entry(OURS, OURS, lambda m: m.int4, call)
    if row == "transformers":
        for kind in HF:
            yield Entry(kind, kind, lambda m: m.bf16, call)
        return
    yield Entry(LLAMA[0], "llama.cpp", lambda m: m.gguf, call)
    if row == "busy":
        yield Entry(OURS + BUSY, OURS, lambda m: m.int4, call, is_busy=True)
        yield Entry(LLAMA[0] + BUSY, "llama.cpp", lambda m: m.gguf, call, is_busy=True)
        return
    yield Entry(LLAMA[1], "llama.cpp", lambda m: m.gguf_pure, call)
    if row == "decode":
        yield Entry(MEMORY, MEMORY, lambda m: m.int4, Call("decode", (1,), 1 << 30))


def measure(row: Row, models: Models, options: argparse.Namespace) -> RowResult:
    """Measure all contenders of a row in turn, round after round."""
    result = RowResult()
    with ExitStack() as stack:
        workers = start(row, models, options, result, stack)
        for _ in range(options.rounds):
            for entry in entries(row):
                for threads in options.threads:
                    worker = workers.get((entry.worker, entry.path(models), threads))
                    if worker is None:
                        continue
                    key = (entry.kind, threads)
                    try:
                        sample = ask(worker, entry, options)
                        result.samples.setdefault(key, []).append(sample)
                    except ContenderError as error:
                        result.failures[f"{entry.kind}, {threads} thr"] = str(error)
                        del workers[entry.worker, entry.path(models), threads]
    return result


def start(
    row: Row, models: Models, options: argparse.Namespace, result: RowResult, stack: ExitStack
) -> dict[tuple[str, Path, int], Worker]:
    """Load every contender of a row; those that cannot be are noted."""
    workers: dict[tuple[str, Path, int], Worker] = {}
    for entry in entries(row):
        for threads in options.threads:
            key = (entry.worker, entry.path(models), threads)
            label = f"{entry.kind}, {threads} thr"
            if key in workers or label in result.failures:
                continue
            try:
                worker = stack.enter_context(running(*key, options.patience))
            except ContenderError as error:
                result.failures[label] = str(error)
                continue
            workers[key] = worker
            result.facts[label] = worker.facts
    return workers


@contextmanager
def running(kind: str, path: Path, threads: int, patience_s: float) -> Generator[Worker]:
    """Start a contender, and end its process."""
    worker = Worker(kind, path, threads, patience_s)
    try:
        yield worker
    finally:
        worker.close()


def ask(worker: Worker, entry: Entry, options: argparse.Namespace) -> Sample:
    """Take one sample, with the busy process around it where the entry wants one."""
    call = entry.call
    with busy_process(entry.is_busy):
        return worker.measure(call.name, list(call.arguments), call.tokens, options.seconds)


def judged(
    name: str, row: Row, found: RowResult, models: Models, why: dict[str, str]
) -> list[Verdict]:
    """Hold a row against its goals."""
    failures = "; ".join(f"{who}: {what}" for who, what in found.failures.items())
    reason = "; ".join(filter(None, (why.get(f"{name} {row}", ""), failures)))
    return [
        judge(goal, found.speeds, bytes_per_token(models.config), reason)
        for goal in GOALS
        if (goal.model, goal.row) == (name, row)
    ]


def as_lines(name: str, row: Row, found: RowResult) -> str:
    """Return a row's medians, spreads and what disturbed them."""
    lines = [f"{name} {row}"]
    for (kind, threads), samples in found.samples.items():
        speeds = [sample.speed for sample in samples]
        lines.append(
            f"  {kind}, {threads} thr: {statistics.median(speeds):,.5g}/s "
            f"[{min(speeds):,.5g} .. {max(speeds):,.5g}], others "
            f"{max(s.others_share for s in samples):.0%}, steal "
            f"{max(s.steal_share for s in samples):.0%}"
        )
    return "\n".join([*lines, *(f"  {who}: {what}" for who, what in found.failures.items())])


if __name__ == "__main__":
    main()
