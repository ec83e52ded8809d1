"""Where compiled code is kept, and how processes share the work of compiling it.

In: source files, and what to run to compile them. Out: a directory, a turn at it, other processes.
Compiled code is kept under a digest of all sources, of numba's version and of the processor: numba
itself looks only at the file of the function that is called, and not at those of what it calls.
It writes each file at once (under another name first), so that readers see all of it or nothing.
Must not know: how anything is compiled. It is used before anything large is imported, numba above
all.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

try:
    import fcntl
except ImportError:  # not on Windows: there, processes that start together all compile
    fcntl = None

LONGEST_WAIT = 120.0
"""Seconds to wait for a process that compiles; whoever compiles needs ten."""
POLL_SECONDS = 0.01


class Unit(NamedTuple):
    """Compiled code that is made and loaded as one."""

    name: str
    sources: tuple[Path, ...]
    """What it is made of, besides the files of this directory."""
    statement: str
    """Python that compiles it: an import and a call."""

    def directory(self) -> Path:
        """Return where the code of exactly these sources is kept."""
        digest = hashlib.sha256()
        for source in (*sorted(Path(__file__).parent.glob("*.py")), *self.sources):
            digest.update(source.read_bytes())
        digest.update(f"{sys.implementation.cache_tag} {_numba()} {_processor()}".encode())
        root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return Path(root) / "openk2" / "compiled" / digest.hexdigest()[:16]

    def is_compiled(self) -> bool:
        """Whether the code only has to be loaded."""
        return (self.directory() / f"{self.name}.done").exists()

    @contextlib.contextmanager
    def turn(self) -> Generator[bool]:
        """Wait until no other process compiles this; say whether the code can be kept."""
        directory = self.directory()
        if not is_writable(directory):
            yield False
            return
        lock = _open(directory / f"{self.name}.lock")
        try:
            until = time.monotonic() + LONGEST_WAIT
            while not _take(lock) and time.monotonic() < until:
                time.sleep(POLL_SECONDS)
            yield True
            self._note()
        finally:
            os.close(lock)

    def compile_elsewhere(self) -> list[subprocess.Popen[bytes]]:
        """Start a process that compiles this, unless there is one; its turn begins now."""
        lock = _open(self.directory() / f"{self.name}.lock")
        try:
            if fcntl is None or not sys.executable or not _take(lock):
                return []
            # The lock is the open file's, which the child inherits: it ends with the child.
            # Collecting garbage would be a tenth of its work, and it ends soon.
            path = f"import gc, sys; gc.disable(); sys.path[:] = {sys.path!r}"
            nothing = subprocess.DEVNULL
            command = [sys.executable, "-c", f"{path}; {self.statement}"]
            files = {"stdin": nothing, "stdout": nothing, "stderr": nothing}
            return [subprocess.Popen(command, pass_fds=(lock,), **files)]
        finally:
            os.close(lock)

    def forget(self) -> None:
        """Delete what is kept, because it cannot be read."""
        for path in self.directory().rglob("*.nb[ci]"):
            path.unlink(missing_ok=True)

    def _note(self) -> None:
        with contextlib.suppress(OSError):
            (self.directory() / f"{self.name}.done").touch()


STEP = Unit("step", (), "from openk2.kernels.cpu.build import load_step; load_step(keep=True)")
KERNELS = Unit(
    "kernels", (), "from openk2.kernels.cpu.build import load_kernels; load_kernels(keep=True)"
)


@contextlib.contextmanager
def compiling_elsewhere(units: Sequence[Unit]) -> Generator[None]:
    """Compile in other processes during this block what is not compiled yet.

    What they have not finished at its end was not needed. What they cannot compile, or not keep, is
    compiled by whoever takes its turn.
    """
    started: list[subprocess.Popen[bytes]] = []
    try:
        for unit in units:
            if _cores() > 1 and not unit.is_compiled() and is_writable(unit.directory()):
                with contextlib.suppress(OSError):
                    started += unit.compile_elsewhere()
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def kept(unit: Unit, fastmath: Collection[str] = ()) -> Callable[[Any], Any]:
    """Make a decorator of functions that Python calls: compiled at the first call, and kept."""
    from numba import njit

    def decorate(function: Any) -> Any:
        compiled = njit(nogil=True, error_model="numpy", fastmath=set(fastmath))(function)
        directory = unit.directory()
        if is_writable(directory):
            with kept_in(directory):
                compiled.enable_caching()
        return compiled

    return decorate


@contextlib.contextmanager
def kept_in(directory: Path) -> Generator[None]:
    """Let numba keep there what is decorated in this block."""
    from numba import config

    found = config.CACHE_DIR
    config.CACHE_DIR = str(directory)
    try:
        yield
    finally:
        config.CACHE_DIR = found


def is_writable(directory: Path) -> bool:
    """Make a directory and say whether files can be made in it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError:
        return False
    return True


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)


def _take(lock: int) -> bool:
    """Take a lock, or say that somebody has it; where there are no locks, all have it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems
        return True
    return True


@functools.cache
def _numba() -> str:
    return importlib.metadata.version("numba")


@functools.cache
def _processor() -> str:
    """The instructions that there are, where they can be read; numba checks them, too."""
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as cores:
        first = cores.read(8192).partition("\n\n")[0].splitlines()
        return "".join(line for line in first if line.startswith(("model name", "flags")))
    return platform.machine() + platform.processor()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
