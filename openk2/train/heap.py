"""Keep a training process's memory in its heap.

In: nothing. Out: glibc settings of this process. Must not know: tensors.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_heap() -> bool:
    """Stop glibc from returning large blocks to the kernel, and say whether it could be done.

    By default every temporary above 32 MiB is mapped anew and page-faulted in again on every
    micro-batch, which costs 20 % of a step on an idle machine and several times that where page
    faults are slow. Call it before anything large is allocated; other C libraries are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 << 20))
    return all(mallopt(option, value) == 1 for option, value in settings)
