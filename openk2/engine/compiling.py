"""What the engine has to compile at the first start, beside the kernels, and when.

In: nothing. Out: compiled functions in the cache. Must not know: models or requests. It is imported
before torch and numba are, so that other processes compile meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openk2.kernels.cpu.cache import KERNELS, STEP, Unit, compiling_elsewhere, is_writable

HERE = Path(__file__).parent
DRAWS = Unit(
    "draws",
    (HERE / "draw.py", HERE / "burst.py"),
    "from openk2.engine.compiling import load_draws; load_draws()",
)


@contextlib.contextmanager
def compiling_ahead(say: Callable[[str], None], *, kernels: bool) -> Generator[None]:
    """Compile during this block, which imports torch and loads a model; later starts find it done.

    Args:
        say: Gets one line if there is something to compile.
        kernels: Whether the compiled kernels will be wanted.
    """
    wanted = [DRAWS, *((STEP, KERNELS) if kernels else ())]
    if not all(unit.is_compiled() for unit in wanted):
        directory = DRAWS.directory()
        say(
            "compiling for this processor; this happens once"
            if is_writable(directory)
            else f"compiling for this processor, at each start: {directory} cannot be written; set "
            "XDG_CACHE_HOME to a directory that can"
        )
    # Products and attention are left to this process, which would only wait.
    with compiling_elsewhere(wanted[:2]):
        yield


def load_draws() -> None:
    """Load everything that draws tokens; compile what is not there."""
    try:
        _draw()
    except Exception:  # noqa: BLE001 - a full disk, or whatever comes of unpickling a damaged file
        DRAWS.forget()
        _draw()


def _draw() -> None:
    """Call what is compiled at its first call."""
    import numpy as np

    from openk2.engine.burst import decode
    from openk2.engine.sampler import RowState, Sampler
    from openk2.types import Sampling

    size = 64
    sampler, rows = Sampler(size, 1), [RowState(Sampling(), (), size, 0)]
    logits_OV = np.zeros((1, size), np.float32)
    sampler.sample(logits_OV, rows)
    one, end = np.zeros(1, np.int32), np.zeros(1, np.int64)
    # Not the records themselves: their module imports torch, which this does not need.
    batch: Any = SimpleNamespace(ids_T=one, position_T=one)
    native: Any = SimpleNamespace(run=0, arguments=(0,) * 11, logits_OV=logits_OV)
    runner: Any = SimpleNamespace(repeat=lambda batch, loop: loop(native)[0])
    decode(runner, batch, sampler, rows, None, steps=0, watched=(), interrupt=end)
