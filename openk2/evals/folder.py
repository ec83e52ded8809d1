"""A run's folder: what was asked of whom, the answers, and the report made of them.

In: a folder with answers. Out: `run.json`, `report.json`, `report.md`, `report.png`.
Must not know: how models are reached, or the command line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openk2.agent.canonical import CodecError, from_json, to_json
from openk2.evals import registry
from openk2.evals.answers import answers_file, read_answers
from openk2.evals.benchmark import AskSettings, Benchmark
from openk2.evals.plot import draw
from openk2.evals.report import Row, markdown, row_json, rows_of
from openk2.evals.run import Scored, choose, score_all

FACTS = "run.json"


class FolderError(ValueError):
    """A folder does not hold what it should; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What all answers of a folder have in common."""

    model: str
    settings: AskSettings


@dataclass(frozen=True, slots=True)
class Report:
    """What a folder's answers came to."""

    facts: Facts
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return {
            "model": self.facts.model,
            "settings": to_json(self.facts.settings),
            "rows": [row_json(row) for row in self.rows],
        }


def claim(folder: Path, facts: Facts) -> None:
    """Begin a run in a folder, or go on with one of the same model and settings.

    Raises:
        FolderError: It holds a run of another model or with other settings.
    """
    path = folder / FACTS
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(to_json(facts), indent=1) + "\n", encoding="utf-8")
        return
    kept = read_facts(folder)
    if kept != facts:
        was, now = to_json(kept), to_json(facts)
        raise FolderError(
            f"{folder} holds answers of {json.dumps(was)}, not of {json.dumps(now)}; "
            "name another --out"
        )


def read_facts(folder: Path) -> Facts:
    """Return what a folder's answers have in common.

    Raises:
        FolderError: It is not the folder of a run.
    """
    try:
        return from_json(Facts, json.loads((folder / FACTS).read_text(encoding="utf-8")))
    except (OSError, ValueError, CodecError) as error:
        raise FolderError(f"{folder} is not the folder of an eval run: {error}") from error


def score_folder(
    folder: Path,
    data: Path,
    *,
    threads: int = 4,
    benchmarks: Sequence[Benchmark] = registry.ALL,
) -> dict[str, list[Scored]]:
    """Score all answers of a folder, by benchmark.

    Args:
        folder: The run's.
        data: The folder of data packs.
        threads: Scorers at once.
        benchmarks: Whose answers are looked for.

    Raises:
        FolderError: It holds no answers.
    """
    found: dict[str, list[Scored]] = {}
    for benchmark in benchmarks:
        records = read_answers(answers_file(folder, benchmark.name))
        if records:
            cases = choose(benchmark, data, limit=None, seed=0)
            found[benchmark.name] = score_all(benchmark, cases, records, threads=threads)
    if not found:
        raise FolderError(f"{folder} holds no answers")
    return found


def write_report(
    folder: Path,
    data: Path,
    against: Path | None = None,
    *,
    threads: int = 4,
    benchmarks: Sequence[Benchmark] = registry.ALL,
) -> Report:
    """Score a folder's answers and write its report in three forms.

    Args:
        folder: The run's.
        data: The folder of data packs.
        against: Another run's folder to compare with.
        threads: Scorers at once.
        benchmarks: Whose answers are looked for.

    Raises:
        FolderError: A folder is not a run's, or holds no answers.
    """
    facts = read_facts(folder)
    seed = facts.settings.seed
    scored = score_folder(folder, data, threads=threads, benchmarks=benchmarks)
    before = score_folder(against, data, threads=threads, benchmarks=benchmarks) if against else {}
    benchmarks = [one for one in benchmarks if one.name in scored]
    report = Report(
        facts,
        tuple(
            row
            for one in benchmarks
            for row in rows_of(one, scored[one.name], before.get(one.name, ()), seed=seed)
        ),
    )
    write(folder / "report.json", json.dumps(report.to_json(), indent=1) + "\n")
    write(folder / "report.md", markdown(facts.model, report.rows, benchmarks))
    runs = {_label(folder, facts): report.rows}
    if against:
        other = [row for one in benchmarks for row in _rows(one, before, seed)]
        runs = {_label(against, read_facts(against)): other, **runs}
    draw(runs, folder / "report.png")
    return report


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _rows(benchmark: Benchmark, scored: dict[str, list[Scored]], seed: int) -> Sequence[Row]:
    return rows_of(benchmark, scored[benchmark.name], seed=seed) if benchmark.name in scored else ()


def _label(folder: Path, facts: Facts) -> str:
    return f"{facts.model} ({folder.name})"
