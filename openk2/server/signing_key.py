"""The key that signs what clients keep for this server, in a file that outlives the process.

In: a path. Out: the key, made when there is none yet.
Must not know: what is signed.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

KEY_BYTES = 32
_LEAST_BYTES = 16


def read_or_make_key(path: Path) -> bytes:
    """Return the key in the file at `path`; a new one is written there if there is no file.

    Raises:
        ValueError: The file is none that only its owner can read, or holds no key.
        OSError: It cannot be read or written.
    """
    if not path.exists():
        _make(path)
    status = path.stat()
    if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
        raise ValueError(f"{path} can be read by others; run chmod 600 on it, or name another file")
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except ValueError:
        key = b""
    if len(key) < _LEAST_BYTES:
        raise ValueError(f"{path} holds no key in hexadecimal; name a file that is not there yet")
    return key


def _make(path: Path) -> None:
    """Write a key so that nobody ever sees half of it, even if two servers start at once."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:  # noqa: PTH123 - a mode from the start
        file.write(f"{secrets.token_hex(KEY_BYTES)}\n")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass  # the other server was first: its key is the one
    finally:
        draft.unlink()
