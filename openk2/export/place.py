"""Where an export goes: whether there is room, and files that are nothing until they are whole.

In: a path and what will be written there. Out: complete files, or one sentence that says why not.
Must not know: any format.
"""

from __future__ import annotations

import contextlib
import errno
import json
import secrets
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any


class ExportError(ValueError):
    """A model that cannot be exported as asked; the message says what to do instead."""


def check_room(place: Path, nbytes: int) -> None:
    """Refuse a place whose disk, that of the nearest directory there is, has too little room.

    Raises:
        ExportError: With both numbers.
    """
    there = next(path for path in (place, *place.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if free < nbytes:
        raise ExportError(
            f"{place} needs {nbytes:,} bytes and {there} has {free:,} left: make room, or name a "
            "place on another disk"
        )


def refuse_dangling(place: Path) -> None:
    """Refuse a link to nothing: what is meant, the link or its target, cannot be known.

    Raises:
        ExportError: `place` is one.
    """
    if place.is_symlink() and not place.exists():
        raise ExportError(
            f"{place} is a link to {place.readlink()}, which does not exist: remove the link or "
            "name another place"
        )


@contextlib.contextmanager
def explained(place: Path, temporary: Path | None = None) -> Generator[None]:
    """Turn what the system refuses inside the block into one sentence.

    Args:
        place: What is being written, as its reader knows it.
        temporary: What it is called until then.

    Raises:
        ExportError: In place of the system's error.
    """
    try:
        yield
    except OSError as error:
        named = place if error.filename in (None, str(temporary)) else error.filename
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            why = "the disk is full: make room, or name a place on another disk"
        else:
            why = f"{error.strerror or error}: name a place where you may write"
        raise ExportError(f"{named} cannot be written, {why}") from error


@contextlib.contextmanager
def unfinished(path: Path) -> Generator[Path]:
    """Give a new file that is called `path` once the block ends, and is removed if it fails.

    Raises:
        ExportError: The system refuses to write it.
    """
    temporary = path.with_name(f"{path.stem[:40]}-{secrets.token_hex(8)}.tmp")
    with explained(path, temporary):
        # "x" opens no file or link that is there already; unlike mkstemp's, the file is as
        # readable as any other.
        temporary.open("xb").close()
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file in one go.

    Raises:
        ExportError: The system refuses to write it.
    """
    with unfinished(path) as file:
        file.write_bytes(data)


def as_json(value: Any, indent: int | None = 2) -> bytes:
    """Return a JSON file's bytes."""
    return (json.dumps(value, ensure_ascii=False, indent=indent) + "\n").encode()
