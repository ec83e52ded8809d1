"""Control groups: what a whole tree of processes may use, where the system lets us say so.

In: limits. Out: a group that processes join, which says what they used up.
Must not know: what runs in the group.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from openk2.agent.sandbox.isolation import Limits

OWN_PROCESSES = 4
"""The sandbox's own processes, which count in the group, too."""
DEATH_SECONDS = 10.0
"""How long the kernel may take to end killed processes."""

NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True)
class Place:
    """Where groups can be made: one folder in version 2, one for each controller in version 1."""

    unified: bool
    memory: Path
    pids: Path
    processor: Path

    @property
    def folders(self) -> set[Path]:
        """The folders in which each group gets one of its own."""
        return {self.memory, self.pids, self.processor}


class Group:
    """A bounded tree of processes."""

    def __init__(self, place: Place, limits: Limits) -> None:
        """Make the group and bound it.

        Raises:
            OSError: The system does not let us.
        """
        name = f"openk2-{os.getpid()}-{next(NUMBERS)}"
        self._unified = place.unified
        self._limits = limits
        self._memory, self._pids = place.memory / name, place.pids / name
        self._processor = place.processor / name
        self.folders = sorted({self._memory, self._pids, self._processor})
        memory = str(limits.memory_bytes)
        try:
            for folder in self.folders:
                folder.mkdir()
            if place.unified:
                (self._memory / "memory.max").write_text(memory)
                set_if_there(self._memory / "memory.swap.max", "0")
            else:
                (self._memory / "memory.limit_in_bytes").write_text(memory)
                set_if_there(self._memory / "memory.memsw.limit_in_bytes", memory)
            (self._pids / "pids.max").write_text(str(limits.processes + OWN_PROCESSES))
        except OSError:
            self.close()
            raise

    def exhausted(self) -> str:
        """Name what the tree used up: `memory`, `cpu`, or nothing."""
        if self._unified:
            kills = counter(self._memory / "memory.events", "oom_kill")
            seconds = counter(self._processor / "cpu.stat", "usage_usec") / 1e6
        else:
            kills = counter(self._memory / "memory.oom_control", "oom_kill")
            seconds = int((self._processor / "cpuacct.usage").read_text()) / 1e9
        if kills:
            return "memory"
        return "cpu" if seconds > self._limits.cpu_seconds else ""

    def kill(self) -> bool:
        """Kill whatever is left of the tree; tell whether all of it ended."""
        # Without this, a program that starts processes faster than they are killed goes on.
        (self._pids / "pids.max").write_text("0")
        deadline = time.monotonic() + DEATH_SECONDS
        while left := (self._pids / "cgroup.procs").read_text().split():
            for pid in map(int, left):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def close(self) -> None:
        """Remove the group, whose processes have ended."""
        deadline = time.monotonic() + DEATH_SECONDS
        for folder in self.folders:
            while folder.exists():
                try:
                    folder.rmdir()
                except OSError:  # the kernel is still taking the dead out of it
                    if time.monotonic() > deadline:
                        break  # empty and bounded; the next process that starts removes it
                    time.sleep(0.002)


def set_if_there(file: Path, value: str) -> None:
    """Write a setting that not every kernel has."""
    if file.exists():
        file.write_text(value)


def counter(file: Path, name: str) -> int:
    """Read one line of a file of `name number` lines."""
    for line in file.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


@functools.cache
def group_place() -> Place | None:
    """Find where this process may make groups, by making one; None where it may not."""
    for place in places():
        with contextlib.suppress(OSError):
            sweep(place)
            group = Group(place, Limits())
            group.exhausted()
            group.close()
            return place
    return None


def places() -> list[Place]:
    """Return where groups could be made: below our own group, else beside it."""
    own = own_groups()
    found: list[Place] = []
    if {"memory", "pids", "cpuacct"} <= own.keys():
        found.append(Place(False, own["memory"], own["pids"], own["cpuacct"]))
    if unified := own.get(""):
        for folder in (unified, unified.parent):
            with contextlib.suppress(OSError):
                if lends(folder, {"memory", "pids"}):
                    found.append(Place(True, folder, folder, folder))
    return found


def lends(folder: Path, controllers: set[str]) -> bool:
    """Tell whether groups below a folder of version 2 have some controllers; ask for them."""
    control = folder / "cgroup.subtree_control"
    if not controllers <= set(control.read_text().split()):
        with contextlib.suppress(OSError):  # it holds processes itself, or is not ours
            control.write_text(" ".join(f"+{name}" for name in sorted(controllers)))
    return controllers <= set(control.read_text().split())


def own_groups() -> dict[str, Path]:
    """Return the folder of this process's group by controller; version 2 has no name."""
    mounts: dict[str, tuple[str, str]] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        root, point = left.split()[3:5]
        kind, _, options = right.split()
        if kind == "cgroup2":
            mounts[""] = root, point
        elif kind == "cgroup":
            mounts |= dict.fromkeys(options.split(","), (root, point))
    groups: dict[str, Path] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            if name in mounts:
                root, point = mounts[name]
                inside = path.removeprefix(root) if root != "/" else path
                folder = Path(point) / inside.lstrip("/")
                groups[name] = folder if folder.is_dir() else Path(point)
    return groups


def sweep(place: Place) -> None:
    """Remove empty groups of processes that ended without doing so."""
    for parent in place.folders:
        for folder in parent.glob("openk2-*"):
            if not Path(f"/proc/{folder.name.split('-')[1]}").exists():
                with contextlib.suppress(OSError):  # another process was faster
                    folder.rmdir()
