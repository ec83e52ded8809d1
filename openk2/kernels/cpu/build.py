"""Compiles the kernels, or loads what an earlier process compiled for this processor.

In: nothing. Out: the compiled step and the addresses of the kernels that it calls. Products and
attention are native functions of their own: numba would optimise them anew in each of their
callers.
Must not know: models.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from numba import cfunc, types

from openk2.kernels.cpu import attention, products, step
from openk2.kernels.cpu.cache import KERNELS, STEP, kept_in


class Kernels(NamedTuple):
    """Compiled code; the addresses are valid as long as this lives."""

    run: Any
    multiply: Any
    attend_rows: Any


@functools.cache
def kernels() -> Kernels:
    """Return the compiled kernels; the first time ever takes seconds."""
    with KERNELS.turn() as kept:
        multiply, attend_rows = load_kernels(keep=kept)
    with STEP.turn() as kept:
        return Kernels(load_step(keep=kept), multiply, attend_rows)


def load_step(*, keep: bool) -> Any:
    """Load the step; compile it if there is none to load."""
    return _native(step.run, types.int64, keep=keep)


def load_kernels(*, keep: bool) -> tuple[Any, Any]:
    """Load products and attention; compile what is not there."""
    return _native(products.multiply, keep=keep), _native(attention.attend_rows, keep=keep)


def _native(function: Callable[..., Any], result: Any = types.void, *, keep: bool) -> Any:
    signature = result(*[types.int64] * function.__code__.co_argcount)
    options = {"nopython": True, "error_model": "numpy"}
    for _ in range(2 if keep else 0):
        try:
            with kept_in(STEP.directory()):
                return cfunc(signature, cache=True, **options)(function)
        except OSError:  # a full disk
            break
        except Exception:  # noqa: BLE001 - whatever comes of unpickling a damaged file
            STEP.forget()
    return cfunc(signature, cache=False, **options)(function)
