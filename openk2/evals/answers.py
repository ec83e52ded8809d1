"""The answers of a run on disk, so that it resumes and is scored again without the model.

In: answers, and why there are none, as they come. Out: JSON Lines, and the same again.
Must not know: what an answer is worth.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from openk2.agent.canonical import CodecError, from_json, to_json
from openk2.agent.model import ModelFault
from openk2.evals.benchmark import Answer

RETRYABLE: frozenset[ModelFault] = frozenset(("busy", "server", "network", "broken_stream"))
"""Faults of an endpoint, not of the case: a run that resumes asks these again."""

Key = tuple[str, int]
"""A case's id and the number of the sample."""


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one question."""

    case: str
    sample: int
    answer: Answer | None
    """None: the model did not answer; `fault` and `reason` say why."""
    fault: ModelFault | None = None
    reason: str = ""

    @property
    def final(self) -> bool:
        """Whether asking again would change nothing."""
        return self.fault not in RETRYABLE


class DamagedAnswersError(ValueError):
    """A file of answers holds something else; the message says which line."""


class AnswerLog:
    """Append-only answers of one benchmark; each is on disk when `write` returns."""

    def __init__(self, path: Path) -> None:
        """Open the file; a line that a kill cut short is dropped, so that the next begins anew."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            whole, newline, _ = path.read_bytes().rpartition(b"\n")
            with path.open("r+b") as file:
                file.truncate(len(whole) + len(newline))
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def write(self, record: Record) -> None:
        """Append one record."""
        self._file.write(json.dumps(to_json(record)) + "\n")

    def __enter__(self) -> AnswerLog:
        """Return the open log."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._file.close()


def answers_file(folder: Path, benchmark: str) -> Path:
    """Return where a run keeps a benchmark's answers."""
    return folder / f"answers-{benchmark}.jsonl"


def read_answers(path: Path) -> Mapping[Key, Record]:
    """Return the last record of every question; nothing if there is no file.

    Raises:
        DamagedAnswersError: A line is not a record; one that a kill cut short is left out.
    """
    found: dict[Key, Record] = {}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    for number, line in enumerate(lines, 1):
        if not line.endswith("\n"):
            break
        try:
            record = from_json(Record, json.loads(line))
        except (ValueError, CodecError) as error:
            raise DamagedAnswersError(
                f"{path}:{number} is not an answer ({error}); remove the line to ask again"
            ) from error
        found[record.case, record.sample] = record
    return found
