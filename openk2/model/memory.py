"""How much memory this process may fill with weights.

In: nothing. Out: bytes. Must not know: models.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def memory_limit() -> int:
    """Return the bytes that the machine has, its control groups allow, or `ulimit` was told."""
    return min(_installed(), *_group_limits(Path("/proc/self/cgroup"), CGROUPS), *_ulimits())


def _installed() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _ulimits() -> list[int]:
    # Linux does not enforce RLIMIT_RSS; whoever sets it still says what they want.
    kinds = (resource.RLIMIT_RSS, resource.RLIMIT_DATA, resource.RLIMIT_AS)
    soft = [resource.getrlimit(kind)[0] for kind in kinds]
    return [limit for limit in soft if limit != resource.RLIM_INFINITY]


def _group_limits(membership: Path, root: Path) -> list[int]:
    """Return the limits of this process's groups and of those around them, versions 1 and 2."""
    limits = [1 << 62]
    try:
        lines = membership.read_text("utf-8").splitlines()
    except OSError:  # not Linux
        return limits
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, file = root, "memory.max"
        elif "memory" in controllers.split(","):
            base, file = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = base / path.lstrip("/")
        # In a container the group's own path may not be mounted; its root then is the limit.
        for level in (group, *group.parents):
            if level.is_relative_to(base):
                limits.extend(_read(level / file))
    return limits


def _read(file: Path) -> list[int]:
    try:
        text = file.read_text("utf-8").strip()
    except OSError:
        return []
    return [int(text)] if text.isdigit() else []  # "max"
