"""The first mechanism: bubblewrap builds a system that holds only what a program may see.

In: a program. Out: a bwrap command line with a seccomp filter and limits.
Must not know: how processes are waited for, or what the program is for.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from openk2.agent.sandbox.isolation import Limits, Program
from openk2.agent.sandbox.process import Prepared, ProcessSandbox, memory_file
from openk2.agent.sandbox.seccomp import seccomp_filter
from openk2.agent.sandbox.surroundings import (
    ACCOUNTS,
    NETWORK_SETTINGS,
    NOBODY,
    SETTINGS,
    SYSTEM,
    existing,
    python_folders,
    variables,
    visible,
)


class BubblewrapSandbox(ProcessSandbox):
    """Namespaces of everything, a new root, no privileges, and a filter of system calls."""

    @property
    def mechanism(self) -> str:
        """What isolates, for people."""
        return "bubblewrap + seccomp + rlimits"

    def prepare(self, program: Program) -> Prepared:
        """Make the command line that runs a program isolated."""
        rules = seccomp_filter(program.network)
        arguments = [*namespaces(program), *system_folders(program), *granted_folders(program)]
        handed: list[int] = []
        for path, text in ACCOUNTS.items():
            handed.append(memory_file("account", text.encode()))
            arguments += ["--perms", "0444", "--ro-bind-data", str(handed[-1]), path]
        handed.append(memory_file("seccomp", rules))
        arguments += ["--seccomp", str(handed[-1])]
        status, said = os.pipe()
        handed.append(said)
        arguments += ["--json-status-fd", str(said)]
        for name, value in variables(program.environment).items():
            arguments += ["--setenv", name, value]
        arguments += ["--chdir", str(program.workspace.resolve())]
        # Arguments go through a file: other users can read command lines, and keys are in them.
        handed.append(memory_file("arguments", "\0".join(arguments).encode()))
        argv = ["/usr/bin/bwrap", "--args", str(handed[-1]), "--"]
        return Prepared([*argv, *limited(program.limits), *program.argv], handed, status)


def namespaces(program: Program) -> list[str]:
    """Return the options that cut a program off from the host's processes, users and network."""
    return [
        *("--unshare-all", "--unshare-user", "--disable-userns"),
        *("--uid", str(NOBODY), "--gid", str(NOBODY), "--hostname", "sandbox"),
        *("--die-with-parent", "--new-session", "--clearenv"),
        *(["--share-net"] if program.network else []),
    ]


def system_folders(program: Program) -> list[str]:
    """Return the options that show the system's programs, a Python, and private folders."""
    options: list[str] = []
    for path in existing(SYSTEM):
        if path.is_symlink():
            options += ["--symlink", str(path.readlink()), str(path)]
        else:
            options += ["--ro-bind", str(path), str(path)]
    settings = SETTINGS + (NETWORK_SETTINGS if program.network else ())
    for path in existing(settings):
        options += ["--ro-bind", str(path.resolve()), str(path)]
    size = str(program.limits.scratch_bytes)
    options += ["--proc", "/proc", "--dev", "/dev", "--size", size, "--perms", "1777"]
    options += ["--tmpfs", "/tmp"]
    # The host's root keeps its rights over files of the kernel whatever the namespace calls it.
    options += ["--remount-ro", "/proc"]
    for path in python_folders():
        options += ["--ro-bind", str(path), str(path)]
    return options


def granted_folders(program: Program) -> list[str]:
    """Return the options that show what the program names, under the same paths as outside."""
    options: list[str] = []
    for path, writable in visible(program).items():
        options += ["--bind" if writable else "--ro-bind", str(path), str(path)]
    return options


def limited(limits: Limits) -> list[str]:
    """Return a command that sets the limits of each process and then becomes the program."""
    prlimit = shutil.which("prlimit", path="/usr/bin:/bin") or "prlimit"
    return [
        prlimit,
        f"--as={limits.memory_bytes}",
        f"--cpu={limits.cpu_seconds}:{limits.cpu_seconds + 1}",
        f"--nproc={limits.processes}",
        f"--fsize={limits.file_bytes}",
        "--core=0",
        "--nofile=1024",
        "--memlock=65536",
        "--",
    ]
