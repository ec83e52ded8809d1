"""Compiles the kernels, or loads what an earlier process compiled for this processor.

In: nothing. Out: the compiled step and the addresses of the kernels that it calls. Products and
attention are native functions of their own: numba would optimise them anew in each of their
callers. Compiled code is kept under a digest of the sources: numba itself looks only at the file of
the function that is called, and not at the files of what that one calls.
Must not know: models.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from numba import cfunc, config, types

from openk2.kernels.cpu import attention, products, step


class Kernels(NamedTuple):
    """Compiled code; the addresses are valid as long as this lives."""

    run: Any
    multiply: Any
    attend_rows: Any


@functools.cache
def kernels() -> Kernels:
    """Return the compiled kernels; the first time ever takes seconds."""
    found = config.CACHE_DIR
    config.CACHE_DIR = str(cache_directory())
    try:
        try:
            return _compile(cache=True)
        except (RuntimeError, OSError):  # nowhere to write: compile in every process
            return _compile(cache=False)
    finally:
        config.CACHE_DIR = found


def _compile(*, cache: bool) -> Kernels:
    def native(function: Callable[..., Any], result: Any = types.void) -> Any:
        signature = result(*[types.int64] * function.__code__.co_argcount)
        options = {"nopython": True, "cache": cache, "error_model": "numpy"}
        return cfunc(signature, **options)(function)

    return Kernels(
        native(step.run, types.int64), native(products.multiply), native(attention.attend_rows)
    )


def compiled_before() -> bool:
    """Whether `kernels` only has to load what an earlier process compiled."""
    return cache_directory().is_dir()


def cache_directory() -> Path:
    """Return where compiled code of exactly these sources is kept."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "openk2" / "kernels" / digest.hexdigest()[:16]
