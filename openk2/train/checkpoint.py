"""Resume state on disk: tensors and a few numbers, complete or absent.

In: named tensors and a JSON-ready mapping. Out: a directory `step-N` with `tensors.safetensors`
and `state.json`, which appears by one rename after everything reached the disk, so a kill at any
moment leaves the last good one. Must not know: what the tensors mean. No pickle.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

_PREFIX = "step-"


class CheckpointError(ValueError):
    """A checkpoint cannot be read or does not fit; the message says which and why."""


def save(
    directory: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], keep: int
) -> Path:
    """Write checkpoint `step` under `directory`, then remove all but the last `keep`.

    Args:
        directory: Where the run's checkpoints live.
        step: Number of finished optimizer steps.
        tensors: What to store; moved to the CPU and made contiguous.
        state: Numbers and strings to store beside them.
        keep: How many checkpoints stay.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _remove(directory.glob(f".{_PREFIX}*.tmp"))  # of a save that was killed
    final = directory / f"{_PREFIX}{step:08d}"
    temporary = directory / f".{final.name}.tmp"
    temporary.mkdir()
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        temporary / "tensors.safetensors",
    )
    (temporary / "state.json").write_text(json.dumps({**state, "step": step}, indent=1))
    # safetensors leaves files that only their owner may read
    shutil.copymode(temporary / "state.json", temporary / "tensors.safetensors")
    for path in (*temporary.iterdir(), temporary):
        _fsync(path)
    if final.exists():
        final.rename(directory / f".{final.name}.old.tmp")
    temporary.rename(final)
    _fsync(directory)
    _remove([*_all(directory)[:-keep], *directory.glob(f".{_PREFIX}*.tmp")])
    return final


def latest(directory: Path) -> Path | None:
    """Return the newest complete checkpoint under `directory`, if any."""
    found = _all(directory)
    return found[-1] if found else None


def load(checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint's tensors and state.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    try:
        state = json.loads((checkpoint / "state.json").read_text())
        return load_file(checkpoint / "tensors.safetensors"), state
    except Exception as error:
        raise CheckpointError(
            f"checkpoint {checkpoint} cannot be read ({error}); delete it to use the one before"
        ) from error


def _all(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"{_PREFIX}*")) if directory.is_dir() else []


def _remove(directories: Iterable[Path]) -> None:
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
