"""Small files and names from strangers: read within limits, shown without harm.

In: a path or a name that somebody else chose. Out: an open regular file, bounded JSON, and text
that fits a one-line message. Must not know: what the files mean.
"""

from __future__ import annotations

import io
import json
import os
import reprlib
import stat
from pathlib import Path
from typing import Any

MAX_JSON_VALUES = 4_000_000
"""Commas and brackets in a JSON text; the largest published index and headers have below 2 M."""
MAX_NAME = 200
"""Characters of a name that a message shows."""


class UntrustedFileError(ValueError):
    """A file that is not what it should be; the message says why, without the file's name."""


class MissingFileError(UntrustedFileError):
    """A file that is not there."""


def is_there(path: Path) -> bool:
    """Whether something answers to this name; a link to nothing does not."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True  # opening it will say what is wrong
    return True


def is_directory(path: Path) -> bool:
    """Whether a path names a directory that can be reached."""
    try:
        return path.is_dir()
    except OSError:
        return False


def listing(directory: Path) -> list[str]:
    """Return the names in a directory in order; none if it cannot be listed."""
    try:
        return sorted(path.name for path in directory.iterdir())
    except OSError:
        return []


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading; pipes and devices, which could block for ever, are refused.

    Raises:
        UntrustedFileError: It is missing, unreadable or no regular file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UntrustedFileError("it is not a regular file")
        # Without waiting, should it have been replaced by a pipe in between.
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except FileNotFoundError:
        raise MissingFileError("it does not exist") from None
    except OSError as error:
        raise UntrustedFileError(error.strerror or str(error)) from None
    except ValueError as error:
        raise UntrustedFileError(str(error)) from None


def read_json(path: Path, limit: int) -> Any:
    """Read a JSON file of at most `limit` bytes.

    Raises:
        UntrustedFileError: It cannot be read, is larger, or is not JSON.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise UntrustedFileError(f"it is larger than {limit:,} bytes")
        try:
            return parse_json(file.read(size))
        except OSError as error:
            raise UntrustedFileError(error.strerror or str(error)) from None


def parse_json(data: bytes) -> Any:
    """Parse JSON whose size in memory is bounded and whose objects name each key once.

    Raises:
        UntrustedFileError: It is not such JSON.
    """
    if sum(data.count(mark) for mark in b",[{") > MAX_JSON_VALUES:
        raise UntrustedFileError(f"it holds more than {MAX_JSON_VALUES:,} values")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError:
        raise UntrustedFileError("its JSON is nested too deeply") from None
    except UntrustedFileError:
        raise
    except ValueError as error:
        raise UntrustedFileError(f"it is not JSON ({error})") from None


def shown(value: object) -> str:
    """Return a value for a message: names as they are, anything odd or long as a short literal."""
    if isinstance(value, str) and value.isprintable() and 0 < len(value) <= MAX_NAME:
        return value
    return reprlib.repr(value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise UntrustedFileError(f"{shown(twice)} appears twice in it")
    return table
