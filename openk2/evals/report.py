"""What a run came to: a row per benchmark and group, as JSON and as Markdown.

In: scored cases of each benchmark, of this run and perhaps of another. Out: a report.
Must not know: how models are asked, or how any benchmark scores.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openk2.evals.benchmark import Benchmark, Scores
from openk2.evals.bootstrap import Derived, Estimate, difference, estimates, over_samples
from openk2.evals.run import Scored

ALL = "all"
"""The row over all groups."""


@dataclass(frozen=True, slots=True)
class Row:
    """One group of one benchmark."""

    benchmark: str
    group: str
    headline: str
    cases: int
    asked: int
    """Questions, several to a case where there are samples."""
    too_long: int
    """Questions that did not fit the model's window; they count as wrong."""
    errors: Mapping[str, int]
    """Other questions that were not answered, by what failed; they count as wrong."""
    cut: int
    """Answers that ended at the most tokens they may have."""
    scores: Mapping[str, Estimate]
    fitting: float | None
    """The headline over the questions that were answered."""
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    """Summed over the answers; they may have run at the same time."""
    change: Mapping[str, Estimate]
    """By how much it is better than in the other run, over the cases that both have."""


def rows_of(
    benchmark: Benchmark, scored: Sequence[Scored], before: Sequence[Scored] = (), *, seed: int = 0
) -> list[Row]:
    """Sum up a benchmark: all groups together where that means something, then each.

    Args:
        benchmark: Which.
        scored: Its questions in this run.
        before: Its questions in the run to compare with.
        seed: Of the resampling.
    """
    groups: dict[str, list[Scored]] = defaultdict(list)
    for one in scored:
        groups[one.case.group].append(one)
    parts = list(groups.items())
    if benchmark.total and len(parts) > 1:
        parts.insert(0, (ALL, list(scored)))
    return [_row(benchmark, group, part, before, seed) for group, part in parts]


def _row(
    benchmark: Benchmark, group: str, part: Sequence[Scored], before: Sequence[Scored], seed: int
) -> Row:
    by_case = _by_case(part, benchmark.headline)
    answers = [one.record.answer for one in part if one.record.answer is not None]
    faults = Counter(str(one.record.fault) for one in part if one.record.answer is None)
    fitting = _by_case([one for one in part if one.record.answer is not None], benchmark.headline)
    derived = benchmark.derived
    return Row(
        benchmark=benchmark.name,
        group=group,
        headline=benchmark.headline,
        cases=len(by_case),
        asked=len(part),
        too_long=faults.pop("too_long", 0),
        errors=dict(sorted(faults.items())),
        cut=sum(answer.finish == "length" for answer in answers),
        scores=estimates(list(by_case.values()), derived, seed=seed),
        fitting=_headline(fitting, benchmark),
        prompt_tokens=sum(answer.usage.prompt_tokens for answer in answers),
        completion_tokens=sum(answer.usage.completion_tokens for answer in answers),
        seconds=sum(answer.seconds for answer in answers),
        change=_change(_by_case(before, benchmark.headline), by_case, derived, seed),
    )


def _by_case(scored: Iterable[Scored], headline: str) -> dict[str, Scores]:
    samples: dict[str, list[Scores]] = defaultdict(list)
    for one in scored:
        samples[one.case.id].append(one.scores)
    return {name: over_samples(several, headline) for name, several in samples.items()}


def _headline(by_case: Mapping[str, Scores], benchmark: Benchmark) -> float | None:
    if not by_case:
        return None
    found = estimates(list(by_case.values()), benchmark.derived, seed=0, sets=1)
    return found[benchmark.headline].value if benchmark.headline in found else None


def _change(
    before: Mapping[str, Scores], after: Mapping[str, Scores], derived: Derived, seed: int
) -> dict[str, Estimate]:
    pairs = [(before[name], scores) for name, scores in after.items() if name in before]
    return difference(pairs, derived, seed=seed) if pairs else {}


# As JSON and as Markdown -------------------------------------------------------------------------


def row_json(row: Row) -> dict[str, Any]:
    """Return a row as JSON; a number that is not there is null."""
    return {
        "benchmark": row.benchmark,
        "group": row.group,
        "headline": row.headline,
        "cases": row.cases,
        "asked": row.asked,
        "too_long": row.too_long,
        "errors": dict(row.errors),
        "cut": row.cut,
        "scores": {name: _estimate_json(found) for name, found in row.scores.items()},
        "fitting": row.fitting,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "seconds": round(row.seconds, 3),
        "change": {name: _estimate_json(found) for name, found in row.change.items()},
    }


def _estimate_json(found: Estimate) -> dict[str, float | int | None]:
    return {
        "value": _number(found.value),
        "low": _number(found.low),
        "high": _number(found.high),
        "n": found.n,
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def markdown(title: str, rows: Sequence[Row], benchmarks: Sequence[Benchmark]) -> str:
    """Write the report for people: a table, then what else was measured, then the sources.

    Args:
        title: The first line.
        rows: Of all benchmarks.
        benchmarks: Those of the rows.
    """
    compared = any(row.change for row in rows)
    head = ["benchmark", "group", "cases", "metric", "score", "95 %", "too long", "errors", "cut",
            "tokens in / out", "s"]  # fmt: skip
    head += ["change", "95 %"] if compared else []
    lines = [f"# {title}", "", _line(head), _line(["---"] * len(head))]
    lines += [_line(_cells(row, compared=compared)) for row in rows]
    lines += ["", "Scores are in per cent, intervals by resampling cases. A question that was too "
              "long or failed counts as wrong.",
              "", "## Other metrics", "", "| benchmark | group | metric | value | 95 % | n |",
              "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for row in rows:
        for name, found in row.scores.items():
            if name != row.headline and not name.startswith("_"):
                cells = [row.benchmark, row.group, name, _percent(found.value), _range(found)]
                lines.append(_line([*cells, str(found.n)]))
    lines += ["", "## Sources", ""]
    for one in benchmarks:
        lines.append(f"- `{one.name}`: {one.about} {one.source}, {one.licence}.")
    return "\n".join(lines) + "\n"


def _cells(row: Row, *, compared: bool) -> list[str]:
    found = row.scores.get(row.headline)
    errors = ", ".join(f"{count} {fault}" for fault, count in row.errors.items())
    tokens = f"{row.prompt_tokens:,} / {row.completion_tokens:,}"
    cells = [row.benchmark, row.group, str(row.cases), row.headline,
             _percent(found.value) if found else "–", _range(found) if found else "–",
             str(row.too_long or ""), errors, str(row.cut or ""), tokens,
             f"{row.seconds:.0f}"]  # fmt: skip
    if compared:
        change = row.change.get(row.headline)
        cells += [f"{change.value * 100:+.1f}", _range(change)] if change else ["", ""]
    return cells


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{value * 100:.1f}"


def _range(found: Estimate) -> str:
    if math.isnan(found.low) or math.isnan(found.high):
        return "–"
    return f"{found.low * 100:.1f} … {found.high * 100:.1f}"
