"""The append-only record of a run, and the way everything uncertain passes through it.

A run is a deterministic program over *effects*: model answers, tool results, approvals, readings
of the clock. Each is written before it starts and when it ends, under a key. Resuming runs the
same program over the recorded effects and goes live where they end; replaying does so with nothing
live. Both compare the digest of every request with the recorded one, so a run that would go another
way is noticed at its first step.

In: keys, requests, and functions that perform them. Out: their results, from the file or from the
world; one JSON record per line, each sealed by the hash of all before it.
Must not know: what a model, a tool or a budget is.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from openk2.agent.canonical import canonical_json, digest

SCHEMA_VERSION = 1
NAME = "journal.jsonl"

Phase = Literal["begin", "end", "note", "remark"]
Json = Any


class JournalError(RuntimeError):
    """A journal cannot be read, is in use, or was changed; the message says where."""


class Diverged(RuntimeError):
    """The program asks for something else than the journal holds; the message says at which key."""


class EndOfJournal(RuntimeError):
    """A replay came to the end of what was recorded: the run was interrupted here."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a journal."""

    seq: int
    at: float
    """Seconds since 1970."""
    kind: str
    key: str
    phase: Phase
    data: Json
    hash: str
    """SHA-256 over this record and the hash of the one before."""

    def line(self) -> bytes:
        """Write it as one line of JSON."""
        return (
            canonical_json(
                {
                    "v": SCHEMA_VERSION,
                    "seq": self.seq,
                    "at": self.at,
                    "kind": self.kind,
                    "key": self.key,
                    "phase": self.phase,
                    "data": self.data,
                    "hash": self.hash,
                }
            )
            + b"\n"
        )


def _seal(before: str, seq: int, at: float, kind: str, key: str, phase: str, data: Json) -> str:
    body = canonical_json([SCHEMA_VERSION, seq, at, kind, key, phase, data])
    return hashlib.sha256(before.encode() + body).hexdigest()


def read(path: Path) -> tuple[list[Record], int]:
    """Read a journal and check its seals.

    Args:
        path: The file. A last line that was cut off (the power failed while it was written) is
            left out.

    Returns:
        The records, and the number of bytes they take.

    Raises:
        JournalError: The file cannot be read, is of another version, or was changed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise JournalError(f"cannot read the journal {path}: {error.strerror}") from error
    whole = content[: content.rfind(b"\n") + 1]
    records: list[Record] = []
    before = ""
    for number, line in enumerate(whole.splitlines(), 1):
        record = _parse(line, f"{path}:{number}")
        sealed = _seal(
            before, record.seq, record.at, record.kind, record.key, record.phase, record.data
        )
        if record.hash != sealed or record.seq != len(records):
            raise JournalError(
                f"{path}:{number} was changed after it was written: its hash does not fit; "
                "restore the file from a copy"
            )
        records.append(record)
        before = record.hash
    return records, len(whole)


def _parse(line: bytes, where: str) -> Record:
    try:
        value = json.loads(line)
        version = value.pop("v")
        if version != SCHEMA_VERSION:
            raise JournalError(
                f"{where} has journal version {version}, this openk2 reads {SCHEMA_VERSION}; "
                "use the openk2 that wrote it"
            )
        return Record(**value)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise JournalError(f"{where} is not a journal record: {error}") from error


@dataclass
class Journal:
    """A run's record, open for writing, or for reading only in a replay."""

    path: Path
    live: bool
    """Whether effects that are not recorded are performed; else they end the replay."""
    durable: bool = True
    """Waits for the disk at the end of every effect, so that a power failure loses nothing paid."""
    subscribers: list[Callable[[Record, bool], None]] = field(
        default_factory=list[Callable[[Record, bool], None]]
    )
    """Called with each record, and whether it is new."""
    records: list[Record] = field(default_factory=list[Record])
    visited: int = 0
    """Recorded lines that the program came by so far."""
    _index: dict[tuple[str, Phase], Record] = field(default_factory=dict[tuple[str, Phase], Record])
    _file: int | None = None

    @classmethod
    def create(cls, folder: Path, *, durable: bool = True) -> Journal:
        """Begin the journal of a new run in `folder`.

        Raises:
            JournalError: There is one already, or the folder cannot be written.
        """
        path = folder / NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        except FileExistsError:
            raise JournalError(f"{path} exists: resume that run, or choose another id") from None
        except OSError as error:
            raise JournalError(f"cannot begin a journal at {path}: {error.strerror}") from error
        journal = cls(path, live=True, durable=durable, _file=file)
        journal._lock()
        return journal

    @classmethod
    def resume(cls, folder: Path, *, durable: bool = True) -> Journal:
        """Open the journal of an earlier run to go on with it.

        Raises:
            JournalError: It cannot be read, was changed, or another process writes it.
        """
        path = folder / NAME
        try:
            file = os.open(path, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            raise JournalError(f"cannot resume {path}: {error.strerror}") from error
        journal = cls(path, live=True, durable=durable, _file=file)
        journal._lock()
        journal.records, size = read(path)
        os.ftruncate(file, size)
        journal._build_index()
        return journal

    @classmethod
    def replay(cls, folder: Path) -> Journal:
        """Open a journal to run it again with nothing live.

        Raises:
            JournalError: It cannot be read, or was changed.
        """
        journal = cls(folder / NAME, live=False)
        journal.records, _ = read(journal.path)
        journal._build_index()
        return journal

    def _lock(self) -> None:
        assert self._file is not None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            self._file = None
            raise JournalError(f"{self.path} is in use: that run is going on") from None

    def _build_index(self) -> None:
        for record in self.records:
            if record.phase != "remark":
                self._index[record.key, record.phase] = record

    @property
    def unvisited(self) -> Iterator[Record]:
        """Recorded lines that the program has not come by."""
        return iter(self._index.values())

    def holds(self, key: str) -> bool:
        """Say whether a recorded effect under this key is still to come."""
        return (key, "begin") in self._index or (key, "end") in self._index

    async def effect(
        self,
        kind: str,
        key: str,
        request: Json,
        perform: Callable[[], Awaitable[Json]],
        interrupted: Callable[[], Awaitable[Json]] | None = None,
    ) -> Json:
        """Perform something uncertain once, and remember it for ever.

        Args:
            kind: What sort of thing, for views.
            key: Which one; the same at every run of the program, and used once.
            request: JSON that says all that the result depends on.
            perform: Does it; its result is JSON.
            interrupted: Does it where a process died in the middle of it; None: `perform`.

        Raises:
            Diverged: The journal holds another request under this key.
            EndOfJournal: A replay has no result for it.
        """
        request = _plain(request)
        begun = self._visit(key, "begin")
        if begun is None:
            self._write(kind, key, "begin", request)
        else:
            self._compare(begun, request)
            perform = interrupted or perform
        ended = self._visit(key, "end")
        if ended is None:
            if not self.live:
                raise EndOfJournal(f"the run was interrupted during {kind} {key}")
            result = _plain(await perform())
            self._write(kind, key, "end", result)
            return result
        return ended.data

    async def observe(self, kind: str, key: str, look: Callable[[], Awaitable[Json]]) -> Json:
        """Take in something uncertain that costs nothing and changes nothing, in one record.

        Raises:
            EndOfJournal: A replay does not have it.
        """
        seen = self._visit(key, "end")
        if seen is None:
            if not self.live:
                raise EndOfJournal(f"the run was interrupted before {kind} {key}")
            result = _plain(await look())
            self._write(kind, key, "end", result)
            return result
        return seen.data

    def note(self, kind: str, key: str, data: Json) -> None:
        """Write down something that follows from what happened before.

        Raises:
            Diverged: The journal holds something else under this key.
            EndOfJournal: A replay has no such note.
        """
        data = _plain(data)
        noted = self._visit(key, "note")
        if noted is None:
            self._write(kind, key, "note", data)
        else:
            self._compare(noted, data)

    def remark(self, kind: str, key: str, data: Json) -> None:
        """Write down something that happened to a live run and that a replay does not repeat."""
        if self.live:
            self._write(kind, key, "remark", _plain(data))

    def close(self) -> None:
        """End writing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _visit(self, key: str, phase: Phase) -> Record | None:
        record = self._index.pop((key, phase), None)
        if record is not None:
            self.visited += 1
            self._publish(record, new=False)
        return record

    def _compare(self, record: Record, data: Json) -> None:
        if digest(record.data) != digest(data):
            raise Diverged(
                f"{record.kind} {record.key} (record {record.seq} of {self.path}) was "
                f"{_short(record.data)}, and is now {_short(data)}"
            )

    def _write(self, kind: str, key: str, phase: Phase, data: Json) -> None:
        if not self.live:
            raise EndOfJournal(f"the run was interrupted before {kind} {key}")
        if self._file is None:
            raise JournalError(f"{self.path} is closed")
        left = next((record for record in self.unvisited if record.phase == "note"), None)
        if left is not None and phase != "remark":
            raise Diverged(
                f"the journal goes on with {left.kind} {left.key}, the run with {kind} {key}"
            )
        before = self.records[-1].hash if self.records else ""
        at = round(time.time(), 3)
        seq = len(self.records)
        seal = _seal(before, seq, at, kind, key, phase, data)
        record = Record(seq, at, kind, key, phase, data, seal)
        line = record.line()
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) != len(line):
                os.ftruncate(self._file, size)  # half a record would spoil the ones after it
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self.durable and phase == "end":
                os.fdatasync(self._file)
        except OSError as error:
            raise JournalError(f"{self.path} cannot be written: {error.strerror}") from error
        self.records.append(record)
        self._publish(record, new=True)

    def _publish(self, record: Record, *, new: bool) -> None:
        for subscriber in self.subscribers:
            subscriber(record, new)


def _plain(value: Json) -> Json:
    # What a replay reads back from the file must be what the live run went on with.
    return json.loads(canonical_json(value))


def _short(value: Json) -> str:
    text = canonical_json(value).decode()
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text):,} characters)"
