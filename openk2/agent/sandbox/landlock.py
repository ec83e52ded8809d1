"""The second mechanism: Landlock, where bubblewrap is missing, with what namespaces are allowed.

In: a program. Out: a plan for `launch.py`, which confines itself and becomes the program.
Must not know: how processes are waited for, or what the program is for.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from openk2.agent.sandbox.isolation import Limits, Program
from openk2.agent.sandbox.process import Prepared, ProcessSandbox, memory_file
from openk2.agent.sandbox.seccomp import seccomp_filter
from openk2.agent.sandbox.surroundings import (
    ACCOUNTS,
    LAUNCH,
    NETWORK_SETTINGS,
    NOBODY,
    SANDBOX_USER,
    SETTINGS,
    SYSTEM,
    existing,
    python_folders,
    variables,
    visible,
)

FACTS = (
    *("/proc/cpuinfo", "/proc/filesystems", "/proc/loadavg", "/proc/meminfo", "/proc/stat"),
    *("/proc/uptime", "/proc/version"),
)
"""What programs may read of /proc where it shows the host's processes."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")


class LandlockSandbox(ProcessSandbox):
    """Rules of the kernel about files and TCP, a filter of system calls, and limits."""

    confined = True

    def __init__(self, *, namespaces: bool, groups: bool = True) -> None:
        """Remember how to start programs.

        Args:
            namespaces: Also give them a root, processes and a network of their own.
            groups: Bound trees of processes by control groups, where that works.
        """
        super().__init__(groups=groups)
        self.namespaces = namespaces
        self.is_root = os.geteuid() == 0

    @property
    def mechanism(self) -> str:
        """What isolates, for people."""
        parts = ["Landlock", "seccomp"] if self.confined else []
        parts += ["namespaces"] if self.namespaces else []
        parts += ["rlimits"] + (["cgroup"] if self.place else [])
        return " + ".join(parts)

    def prepare(self, program: Program) -> Prepared:
        """Make the command line that runs a program isolated."""
        own_root = self.namespaces
        granted = dict.fromkeys(python_folders(), False) | visible(program)
        filter_ = (
            seccomp_filter(program.network, shared=not own_root).hex() if self.confined else ""
        )
        temporary = "/tmp" if own_root else tempfile.mkdtemp(prefix="openk2-sandbox-")
        group = self.group(program.limits)
        status, said = os.pipe()
        system = [path for path in existing(SYSTEM) if not path.is_symlink()]
        settings = existing(SETTINGS + (NETWORK_SETTINGS if program.network else ()))
        ids = (str(NOBODY), str(SANDBOX_USER if self.is_root else NOBODY))
        # A root of its own holds nothing that it may not read.
        readable = ["/"] if own_root else [*map(str, [*system, *settings]), *FACTS]
        limits = limits_by_name(program.limits, whole_tree=group is not None)
        if not own_root:  # then the user's other processes count, too
            others = tasks_of(SANDBOX_USER if self.is_root else os.getuid())
            limits["RLIMIT_NPROC"] = [program.limits.processes + others] * 2
        plan: dict[str, Any] = {
            "kind": "supervise",
            "groups": [str(folder / "cgroup.procs") for folder in group.folders] if group else [],
            "status": said,
            "namespaces": self.namespaces,
            "network": program.network,
            "landlock": self.confined,
            "filter": filter_,
            "user": SANDBOX_USER if self.is_root else 0,
            "system": [str(path) for path in [*system, *settings]],
            "links": [[str(p), str(p.readlink())] for p in existing(SYSTEM) if p.is_symlink()],
            "accounts": {name: text.replace(*ids) for name, text in ACCOUNTS.items()},
            "granted": [[str(path), writable] for path, writable in granted.items()],
            "readable": readable,
            "writable": [*DEVICES, *(["/dev/pts", "/dev/shm"] if own_root else []), temporary],
            "temporary": temporary,
            "scratch": program.limits.scratch_bytes,
            "limits": limits,
            "cwd": str(program.workspace.resolve()),
            "environment": variables(program.environment, temporary),
            "argv": list(program.argv),
        }
        handed = [said, memory_file("plan", marshal.dumps(plan))]
        launch = [sys.executable, "-I", "-S", str(LAUNCH), str(handed[-1])]
        return Prepared(
            launch,
            handed,
            status,
            group,
            gentle=not own_root,
            temporary=None if own_root else Path(temporary),
        )


class UnsafeSandbox(LandlockSandbox):
    """Limits only: for people who chose to run without isolation."""

    confined = False

    def __init__(self) -> None:
        """Set limits, and nothing else."""
        super().__init__(namespaces=False)

    @property
    def mechanism(self) -> str:
        """What isolates, for people."""
        return f"no isolation: {super().mechanism} only"


def limits_by_name(limits: Limits, *, whole_tree: bool) -> dict[str, list[int]]:
    """Return soft and hard limits of each process, by the kernel's names."""
    seconds = limits.cpu_seconds
    names = {
        "RLIMIT_CPU": [seconds, seconds + 1],
        "RLIMIT_NPROC": [limits.processes] * 2,
        "RLIMIT_FSIZE": [limits.file_bytes] * 2,
        "RLIMIT_CORE": [0, 0],
        "RLIMIT_NOFILE": [1024, 1024],
        "RLIMIT_MEMLOCK": [65536, 65536],
    }
    return names if whole_tree else names | {"RLIMIT_AS": [limits.memory_bytes] * 2}


def tasks_of(user: int) -> int:
    """Count the threads of a user."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if process.stat().st_uid == user:
                count += len(list((process / "task").iterdir()))
    return count
