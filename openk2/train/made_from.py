"""What a shard was made from, so that a shard of other settings or other files is never reused.

In: a shard's folder, the settings and the files that shape it. Out: a record beside its tokens, or
a refusal. Must not know: how documents are made, what a run does with them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

RECORD = "made_from.json"


class OtherShardError(ValueError):
    """A shard was made with other settings, another vocabulary or from other files."""


def digest(paths: Iterable[Path]) -> str:
    """Hash what files hold, one after the other; their names and times do not count.

    Raises:
        FileNotFoundError: One of them does not exist.
    """
    parts: list[str] = []
    for path in paths:
        with path.open("rb") as stored:
            parts.append(hashlib.file_digest(stored, "sha256").hexdigest())
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def write(directory: Path, made_from: Mapping[str, Any]) -> None:
    """Write the record of a shard."""
    (directory / RECORD).write_text(json.dumps(made_from, indent=1), encoding="utf-8")


def check(directory: Path, wanted: Mapping[str, Any]) -> None:
    """Refuse a shard whose record says anything else than `wanted`.

    Raises:
        OtherShardError: It does, or there is no record.
    """
    path = directory / RECORD
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    advice = "delete that folder or set data.shards to another one"
    if not isinstance(found, dict):
        raise OtherShardError(f"{directory} does not say what it was made from: {advice}")
    known = cast(dict[str, Any], found)
    changed = [name for name, value in wanted.items() if known.get(name) != value]
    if changed:
        raise OtherShardError(f"{directory} was made with another {', '.join(changed)}: {advice}")
