"""A synthesis run: stages over many agents, in order, kept in files, resumable.

    OUT/domains.jsonl agents.jsonl tasks.jsonl users.jsonl trajectories.jsonl
    OUT/train.jsonl eval.jsonl rejected.jsonl report.json

Agents are worked on in parts of fixed size, here, in other processes or on a cluster; parts are
taken up in order, so how many workers there are does not show in any file.

In: settings and a folder. Out: the files. Must not know: how a stage works.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import orjson

from openk2.envs.catalogue import HELD_OUT
from openk2.synth.config import SynthConfig
from openk2.synth.duplicates import Duplicates, signature
from openk2.synth.overlap import Overlap
from openk2.synth.sources import draw_source, source_json
from openk2.synth.stages import Part, Row, run_part
from openk2.synth.trajectories import read_messages
from openk2.synth.verify import spoken

AGENTS = 8
"""Agents in a part."""
STAGE_FILES = ("domains", "agents", "tasks", "users", "trajectories", "train", "eval", "rejected")
KEPT = ("train", "eval")
Mapper = Callable[[Callable[[SynthConfig, int], Part], SynthConfig, int], Iterator[Part]]
"""Yields the parts from a number on, without end, in order."""


class OtherRunError(ValueError):
    """The folder holds a run with other settings."""


@dataclass(slots=True)
class Progress:
    """Where a run is; written after every part."""

    part: int = 0
    """Parts that are in the files."""
    kept: int = 0
    rejected: dict[str, int] = field(default_factory=dict[str, int])
    """Why conversations were left out, and how often."""
    sizes: dict[str, int] = field(default_factory=dict[str, int])
    """Bytes of each file that belong to those parts."""


def domain_rows(config: SynthConfig, part: int) -> list[Row]:
    """Return the first rows of a part: for each agent, its number and where its domain is from."""
    return [
        {"number": number, "source": source_json(draw_source(number, config))}
        for number in range(part * AGENTS, (part + 1) * AGENTS)
    ]


def one_part(config: SynthConfig, part: int) -> Part:
    """Run all stages over one part of the agents."""
    return run_part(config, domain_rows(config, part))


def here(
    work: Callable[[SynthConfig, int], Part], config: SynthConfig, first: int
) -> Iterator[Part]:
    """Work in this process."""
    part = first
    while True:
        yield work(config, part)
        part += 1


def synthesise(
    config: SynthConfig,
    out: Path,
    overlap: Overlap | None = None,
    mapper: Mapper = here,
    polish: Callable[[Part], Part] = lambda part: part,
    on_progress: Callable[[int], None] = lambda kept: None,
) -> Progress:
    """Make conversations until there are enough; go on where an earlier run stopped.

    Args:
        config: The run.
        out: The folder; files of an unfinished part are cut off.
        overlap: What must not be repeated; none leaves that unchecked.
        mapper: Where parts are worked on.
        polish: What a language model does with a part before it is sifted.
        on_progress: Told how many conversations are kept.

    Raises:
        OtherRunError: The folder holds a run with other settings.
        ValueError: Nothing that was made could be kept.
    """
    out.mkdir(parents=True, exist_ok=True)
    progress = _resume(config, out)
    duplicates = _remembered(config, out)
    files = {name: (out / f"{name}.jsonl").open("ab") for name in STAGE_FILES}
    try:
        parts = mapper(one_part, config, progress.part)
        while progress.kept < config.count:
            part = polish(next(parts))
            rows = {"domains": domain_rows(config, progress.part), **part.rows}
            del rows["verified"]
            rows |= _sift(part, duplicates, overlap, progress, config)
            for name, file in files.items():
                file.write(b"".join(orjson.dumps(row) + b"\n" for row in rows[name]))
                file.flush()
                progress.sizes[name] = file.tell()
            progress.part += 1
            _write(out / "progress.json", {"config": asdict(config), **asdict(progress)})
            on_progress(progress.kept)
            if progress.part >= 50 and not progress.kept:
                raise ValueError(
                    f"no conversation of {progress.part * AGENTS} agents could be kept: "
                    f"{out / 'rejected.jsonl'} says why"
                )
    finally:
        for file in files.values():
            file.close()
    _write(out / "report.json", report(out, progress, checked_overlap=overlap is not None))
    return progress


def _sift(
    part: Part,
    duplicates: Duplicates,
    overlap: Overlap | None,
    progress: Progress,
    config: SynthConfig,
) -> dict[str, list[Row]]:
    """Part the verified rows into those to learn, those to measure on, and those to leave out."""
    rows: dict[str, list[Row]] = {"train": [], "eval": [], "rejected": []}
    tasks = {row["id"]: row["task"] for row in part.rows["trajectories"] if "task" in row}
    for row, mark in zip(part.rows["verified"], part.signatures, strict=True):
        if progress.kept == config.count:
            break
        reason = row.get("rejected", "")
        if not reason and overlap is not None:
            reason = overlap.found(row)
        if not reason and mark is not None and duplicates.seen(mark):
            reason = "nearly the same as an earlier one"
        if reason:
            rows["rejected"].append({**row, "rejected": reason})
            short = reason.partition(":")[0]
            progress.rejected[short] = progress.rejected.get(short, 0) + 1
            continue
        progress.kept += 1
        if tasks[row["id"]]["key"] in HELD_OUT or measured_on(row["agent"], config):
            rows["eval"].append({**row, "task": tasks[row["id"]]})
        else:
            rows["train"].append(row)
    return rows


def measured_on(agent: str, config: SynthConfig) -> bool:
    """Whether an agent's conversations are kept apart to measure on."""
    return Random(f"split/{agent}").random() < config.evaluation


def _resume(config: SynthConfig, out: Path) -> Progress:
    path = out / "progress.json"
    if not path.is_file():
        for name in STAGE_FILES:
            (out / f"{name}.jsonl").write_bytes(b"")
        return Progress()
    found = json.loads(path.read_text(encoding="utf-8"))
    before = found.pop("config")
    wanted = json.loads(json.dumps(asdict(config)))
    changed = [name for name, value in wanted.items() if before.get(name) != value]
    if [name for name in changed if name != "count"]:
        raise OtherRunError(
            f"{out} holds a run with another {', '.join(changed)}: name another folder or delete it"
        )
    progress = Progress(**found)
    for name in STAGE_FILES:
        with (out / f"{name}.jsonl").open("ab") as file:
            file.truncate(progress.sizes.get(name, 0))
    return progress


def kept_before(out: Path) -> int:
    """Return how many conversations an earlier run in a folder has kept."""
    path = out / "progress.json"
    return int(json.loads(path.read_text(encoding="utf-8"))["kept"]) if path.is_file() else 0


def _remembered(config: SynthConfig, out: Path) -> Duplicates:
    duplicates = Duplicates(config.near_duplicates)
    for name in KEPT:
        for row in read_rows(out / f"{name}.jsonl"):
            duplicates.seen(signature(spoken(read_messages(row["messages"]))))
    return duplicates


def read_rows(path: Path) -> Iterator[Row]:
    """Read a file of rows."""
    with path.open("rb") as file:
        for line in file:
            yield orjson.loads(line)


def report(out: Path, progress: Progress, *, checked_overlap: bool) -> dict[str, Any]:
    """Count what a run has made."""
    counts: dict[str, Counter[str]] = {
        name: Counter() for name in ("kind", "lang", "manner", "domain", "calls", "difficulty")
    }
    tools: set[str] = set()
    for row in itertools.chain.from_iterable(read_rows(out / f"{n}.jsonl") for n in KEPT):
        for name, counter in counts.items():
            counter[str(row[name])] += 1
        tools |= {f"{row['domain']}.{tool['name']}" for tool in row["tools"]}
    return {
        "kept": progress.kept,
        "rejected": progress.rejected,
        "overlap_checked": checked_overlap,
        "tools": len(tools),
        **{name: dict(sorted(counter.items())) for name, counter in counts.items()},
    }


def _write(path: Path, value: Any) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    fresh.replace(path)
