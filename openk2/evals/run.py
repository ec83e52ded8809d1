"""Asking a model every case of a benchmark, and scoring what it said.

In: a benchmark, its cases, a model. Out: answers on disk; scored cases in the benchmark's order.
Must not know: how scores are summed up or shown, or what any benchmark measures.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from openk2.agent.model import ChatModel, ModelError
from openk2.agent.sandbox.isolation import SandboxMissing
from openk2.agent.sandbox.process import SandboxFailed
from openk2.evals.answers import AnswerLog, Key, Record, answers_file, read_answers
from openk2.evals.benchmark import AskSettings, Benchmark, Case, Scores, in_order


class EndpointGoneError(RuntimeError):
    """The endpoint fails again and again; what it answered so far is kept."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a benchmark is."""

    benchmark: str
    done: int
    of: int
    failed: int
    """Questions that the model did not answer."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One question with what its answer is worth."""

    case: Case
    record: Record
    scores: Scores


def choose(benchmark: Benchmark, data: Path, *, limit: int | None, seed: int) -> list[Case]:
    """Return a seeded sample of each group, in the benchmark's order.

    A sample with a larger limit holds the smaller one, so a run can be gone on with more.

    Args:
        benchmark: Whose cases.
        data: The folder of data packs.
        limit: Most cases of a group; None takes all.
        seed: Another seed gives another sample.
    """
    cases = list(in_order(benchmark.cases(data)))
    if limit is None:
        return cases
    groups: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        groups[case.group].append(case.id)
    chosen = {
        name
        for ids in groups.values()
        for name in sorted(ids, key=lambda name: _rank(seed, name))[:limit]
    }
    return [case for case in cases if case.id in chosen]


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


async def collect(
    benchmark: Benchmark,
    cases: Sequence[Case],
    model: ChatModel,
    settings: AskSettings,
    folder: Path,
    *,
    samples: int = 1,
    concurrency: int = 4,
    give_up_after: int = 20,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Ask what is not answered yet and write each answer as it comes.

    Args:
        benchmark: What is asked.
        cases: Which of its cases.
        model: Who is asked.
        settings: How; a case's n-th sample is asked with the seed `settings.seed + n`.
        folder: Where the answers are kept.
        samples: How often each case is asked.
        concurrency: Most questions at once.
        give_up_after: So many failures of the endpoint in a row end the run.
        on_progress: Is told after each answer.

    Raises:
        EndpointGoneError: So many failures came.
        SandboxMissing, SandboxFailed: Programs that answer cannot be run here.
    """
    path = answers_file(folder, benchmark.name)
    kept = {key: record for key, record in read_answers(path).items() if record.final}
    wanted = [(case, sample) for sample in range(samples) for case in cases]
    todo = iter([(case, n) for case, n in wanted if (case.id, n) not in kept])
    done = sum((case.id, n) in kept for case, n in wanted)
    failed = sum(kept[key].answer is None for key in kept if key in _keys(wanted))
    in_a_row = 0
    on_progress(Progress(benchmark.name, done, len(wanted), failed))

    async def work(log: AnswerLog) -> None:
        nonlocal done, failed, in_a_row
        for case, sample in todo:
            record = await _ask(benchmark, case, sample, model, settings)
            log.write(record)
            done, failed = done + 1, failed + (record.answer is None)
            in_a_row = 0 if record.final else in_a_row + 1
            on_progress(Progress(benchmark.name, done, len(wanted), failed))
            if in_a_row >= give_up_after:
                raise EndpointGoneError(
                    f"{model.name} failed {in_a_row} times in a row, last with: {record.reason}; "
                    "the same command goes on from here"
                )

    with AnswerLog(path) as log:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(work(log))
        except* (EndpointGoneError, SandboxMissing, SandboxFailed) as errors:
            raise errors.exceptions[0] from None


def _keys(wanted: Iterable[tuple[Case, int]]) -> set[Key]:
    return {(case.id, sample) for case, sample in wanted}


async def _ask(
    benchmark: Benchmark, case: Case, sample: int, model: ChatModel, settings: AskSettings
) -> Record:
    seeded = dataclasses.replace(settings, seed=settings.seed + sample)
    try:
        return Record(case.id, sample, await benchmark.answer(case, model, seeded))
    except ModelError as error:
        return Record(case.id, sample, None, error.fault, str(error))


def score_all(
    benchmark: Benchmark,
    cases: Iterable[Case],
    records: Mapping[Key, Record],
    *,
    threads: int = 4,
) -> list[Scored]:
    """Score every answer there is, in the order of the cases; unasked cases are left out.

    Args:
        benchmark: Whose scorer.
        cases: In the benchmark's order.
        records: By case and sample.
        threads: Scorers that run programs wait for them; so many at once.
    """
    samples = sorted({sample for _, sample in records})
    asked = [
        (case, records[case.id, sample])
        for case in cases
        for sample in samples
        if (case.id, sample) in records
    ]

    def score(pair: tuple[Case, Record]) -> Scored:
        case, record = pair
        worth = benchmark.failed if record.answer is None else benchmark.score(case, record.answer)
        return Scored(case, record, worth)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(score, asked))
