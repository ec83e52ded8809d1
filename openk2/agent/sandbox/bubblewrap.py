"""The first mechanism: bubblewrap builds a system that holds only what a program may see.

In: a program. Out: a bwrap command line with a seccomp filter and limits.
Must not know: how processes are waited for, or what the program is for.
"""

from __future__ import annotations

import marshal
import os
import shutil
import stat
import sys
from pathlib import Path

from openk2.agent.sandbox.isolation import Limits, Program, SandboxMissing
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

STAGE = Path("/tmp")
"""Where `launch.py` shows what another user may see of root's folders."""


class BubblewrapSandbox(ProcessSandbox):
    """Namespaces of everything, a new root, no privileges, and a filter of system calls."""

    def __init__(self, *, drop_root: bool | None = None, groups: bool = True) -> None:
        """Remember how to start programs.

        Args:
            drop_root: Where the agent runs as root, run programs as another user even outside of
                their namespace. The default does so where we are root.
            groups: Bound trees of processes by control groups, where that works.

        Raises:
            SandboxMissing: bubblewrap is not installed.
        """
        super().__init__(groups=groups)
        found = shutil.which("bwrap")
        if found is None:
            raise SandboxMissing("bubblewrap is not installed: run `apt install bubblewrap`")
        self.bwrap = found
        self.privileged = bool(Path(found).stat().st_mode & stat.S_ISUID)
        self.drop_root = os.geteuid() == 0 if drop_root is None else drop_root

    @property
    def mechanism(self) -> str:
        """What isolates, for people."""
        parts = ["bubblewrap", "seccomp", "rlimits"]
        parts += ["cgroup"] if self.place else []
        parts += ["unprivileged user"] if self.drop_root else []
        return " + ".join(parts)

    def prepare(self, program: Program) -> Prepared:
        """Make the command line that runs a program isolated."""
        rules = seccomp_filter(program.network)
        granted = dict.fromkeys(python_folders(), False) | visible(program)
        group = self.group(program.limits)
        limits = limited(program.limits, whole_tree=group is not None)
        handed = [memory_file("account", text.encode()) for text in ACCOUNTS.values()]
        accounts = dict(zip(ACCOUNTS, map(str, handed), strict=True))
        status, said = os.pipe()
        handed += [said, memory_file("seccomp", rules)]
        arguments = [
            *namespaces(program),
            *system_folders(program),
            *granted_folders(granted, staged=self.drop_root),
            *(word for path, fd in accounts.items() for word in account(path, fd)),
            *("--json-status-fd", str(said), "--seccomp", str(handed[-1])),
            *("--chdir", str(program.workspace.resolve())),
        ]
        for name, value in variables(program.environment).items():
            arguments += ["--setenv", name, value]
        # Arguments go through a file: other users can read command lines, and keys are in them.
        handed.append(memory_file("arguments", "\0".join(arguments).encode()))
        argv = [self.bwrap, "--args", str(handed[-1]), "--", *limits, *program.argv]
        plan = {
            "kind": "execute",
            "groups": [str(folder / "cgroup.procs") for folder in group.folders] if group else [],
            "stage": [[str(path), w] for path, w in granted.items()] if self.drop_root else None,
            "user": SANDBOX_USER,
            "scope": program.network and not self.privileged,
            "argv": argv,
        }
        handed.append(memory_file("plan", marshal.dumps(plan)))
        launch = [sys.executable, "-I", "-S", str(LAUNCH), str(handed[-1])]
        return Prepared(launch, handed, status, group)


def namespaces(program: Program) -> list[str]:
    """Return the options that cut a program off from the host's processes, users and network."""
    return [
        *("--unshare-all", "--unshare-user", "--disable-userns"),
        *("--uid", str(NOBODY), "--gid", str(NOBODY), "--hostname", "sandbox"),
        *("--die-with-parent", "--new-session", "--clearenv"),
        *(["--share-net"] if program.network else []),
    ]


def system_folders(program: Program) -> list[str]:
    """Return the options that show the system's programs, and private folders."""
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
    # Files of the kernel belong to the host's root even in here: it may write /proc/sys by its
    # user id alone, without any capability, and a core dump's handler set there runs outside.
    options += ["--remount-ro", "/proc"]
    return options


def granted_folders(granted: dict[Path, bool], *, staged: bool) -> list[str]:
    """Return the options that show folders, under the same paths as outside."""
    options: list[str] = []
    for number, (path, writable) in enumerate(granted.items()):
        source = STAGE / str(number) if staged else path
        options += ["--bind" if writable else "--ro-bind", str(source), str(path)]
    return options


def account(path: str, descriptor: str) -> list[str]:
    """Return the options that show a small file of ours."""
    return ["--perms", "0444", "--ro-bind-data", descriptor, path]


def limited(limits: Limits, *, whole_tree: bool) -> list[str]:
    """Return a command that sets the limits of each process and then becomes the program.

    Args:
        limits: What it may use.
        whole_tree: Memory that is really used is bounded for all processes together. Addresses
            are not bounded then: browsers and JavaScript reserve far more than they use.
    """
    prlimit = shutil.which("prlimit", path="/usr/bin:/bin") or "prlimit"
    return [
        prlimit,
        *([] if whole_tree else [f"--as={limits.memory_bytes}"]),
        f"--cpu={limits.cpu_seconds}:{limits.cpu_seconds + 1}",
        f"--nproc={limits.processes}",
        f"--fsize={limits.file_bytes}",
        "--core=0",
        "--nofile=1024",
        "--memlock=65536",
        "--",
    ]
