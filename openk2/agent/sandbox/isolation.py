"""What a sandbox promises, whichever mechanism of the operating system keeps the promise.

In: a program, the folders it may see, and limits. Out: its output and how it ended.
Must not know: who asks, or why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol


class SandboxMissing(RuntimeError):
    """No mechanism here isolates well enough; the message names what to install."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program and its children may use."""

    memory_bytes: int = 1 << 30
    cpu_seconds: int = 120
    processes: int = 64
    file_bytes: int = 256 << 20
    """Largest file."""
    scratch_bytes: int = 512 << 20
    """Size of the private temporary folder."""
    output_bytes: int = 1 << 20
    """Most output that is kept of each stream; the rest is read and dropped."""


@dataclass(frozen=True, slots=True)
class Program:
    """What runs, and what of the host it may see besides the system's own programs."""

    argv: Sequence[str]
    workspace: Path
    """Readable and writable, and the working folder; seen under the same path as outside."""
    readable: Sequence[Path] = ()
    writable: Sequence[Path] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """All of it: nothing of the host's environment is passed on."""
    network: bool = False
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Completed:
    """How a program ended."""

    status: int
    """Exit status; 128 + n for signal n, as shells say it."""
    stdout: bytes
    stderr: bytes
    dropped: int = 0
    """Bytes of output beyond the limit."""
    reason: Literal["exit", "timeout", "memory", "cpu", "signal"] = "exit"


class Running(Protocol):
    """A program that goes on."""

    @property
    def pid(self) -> int:
        """Its process id on the host: the sandbox's own process."""
        ...

    async def wait(self) -> int:
        """Wait for its end; the exit status."""
        ...

    async def kill(self) -> None:
        """End it and every process it started."""
        ...


class Sandbox(Protocol):
    """One way to isolate a program."""

    @property
    def mechanism(self) -> str:
        """What isolates, for people: `bubblewrap + seccomp + rlimits + cgroup`."""
        ...

    async def run(
        self,
        program: Program,
        *,
        stdin: bytes = b"",
        timeout: float,
        on_output: Callable[[bytes], None] = lambda chunk: None,
    ) -> Completed:
        """Run a program to its end; after it, or when cancelled, none of its children lives."""
        ...

    async def start(self, program: Program, *, log: Path | None = None) -> Running:
        """Start a program that goes on (a kernel, a server); its output goes to `log`."""
        ...
