"""One isolated process and everything it starts: its streams, its clock, its end.

In: a command line that a mechanism prepared. Out: how it ended, with nothing of it left alive.
Must not know: which mechanism isolates, or who asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openk2.agent.sandbox.cgroup import Group, group_place
from openk2.agent.sandbox.isolation import Completed, Limits, Program

CHUNK = 1 << 16
LAST_SIGNAL = 64
DEATH_SECONDS = 10.0
"""How long the kernel may take to end a killed tree before that is an error."""
WATCH_SECONDS = 0.25
"""How often the processor time of a whole tree is looked at."""
NO_MEMORY = (b"MemoryError", b"bad_alloc", b"Cannot allocate memory", b"out of memory")
"""How programs say that an allocation was refused."""


class SandboxFailed(RuntimeError):
    """The mechanism did not start the program; the message has the mechanism's own words."""


@dataclass(slots=True)
class Prepared:
    """A command line that isolates, and what belongs to it."""

    argv: list[str]
    handed: list[int] = field(default_factory=list[int])
    """Descriptors that the command inherits under the same numbers; closed here afterwards."""
    status: int = -1
    """Read end of a pipe on which the command says its first process, and that it got so far."""
    group: Group | None = None
    """Bounds the whole tree of processes."""
    gentle: bool = False
    """The command ends what it started when it is asked to; a kill would leave that alive."""
    temporary: Path | None = None
    """A folder of the program alone, removed after it."""

    def hand_over(self) -> None:
        """Close what the command has inherited."""
        while self.handed:
            os.close(self.handed.pop())

    def clear(self) -> bool:
        """Remove what was made for the program; tell whether all of it has ended."""
        os.close(self.status)
        ended = self.group is None or self.group.kill()
        if self.group:
            self.group.close()
        if self.temporary:
            shutil.rmtree(self.temporary, ignore_errors=True)
        return ended


def memory_file(name: str, content: bytes) -> int:
    """Make an anonymous file: what it says is on no command line and on no disk."""
    descriptor = os.memfd_create(name)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


class ProcessSandbox(ABC):
    """What every mechanism shares once it has prepared a command line."""

    def __init__(self, *, groups: bool = True) -> None:
        """Remember whether to bound trees of processes by control groups, where that works."""
        self.place = group_place() if groups else None

    def group(self, limits: Limits) -> Group | None:
        """Make a control group for one program."""
        return Group(self.place, limits) if self.place else None

    @property
    @abstractmethod
    def mechanism(self) -> str:
        """What isolates, for people."""

    @abstractmethod
    def prepare(self, program: Program) -> Prepared:
        """Make the command line that runs a program isolated."""

    async def run(
        self,
        program: Program,
        *,
        stdin: bytes = b"",
        timeout: float,
        on_output: Callable[[bytes], None] = lambda chunk: None,
    ) -> Completed:
        """Run a program to its end; after it, or when cancelled, none of its children lives.

        Args:
            program: What runs, and what it may see and use.
            stdin: What it reads.
            timeout: Seconds of wall-clock time.
            on_output: Sees what is kept of both streams as it comes.

        Raises:
            SandboxFailed: The isolation could not be set up.
        """
        pipe = asyncio.subprocess.PIPE
        tree = await self._spawn(program, pipe, pipe, pipe)
        process = tree.process
        assert process.stdin and process.stdout and process.stderr
        limit = program.limits.output_bytes
        output = [Kept(limit, on_output), Kept(limit, on_output)]
        streams = [
            asyncio.ensure_future(feed(process.stdin, stdin)),
            asyncio.ensure_future(output[0].read(process.stdout)),
            asyncio.ensure_future(output[1].read(process.stderr)),
        ]
        reason = ""
        try:
            async with asyncio.timeout(timeout):
                reason = await tree.end()
        except TimeoutError:
            reason = "timeout"
        finally:
            try:
                await tree.finish()
            finally:
                await asyncio.wait(streams, timeout=DEATH_SECONDS)
                for stream in streams:
                    stream.cancel()
                tree.close_streams()
        return tree.completed(output[0], output[1], reason)

    async def start(self, program: Program, *, log: Path | None = None) -> Tree:
        """Start a program that goes on; its output goes to `log`, or nowhere.

        Raises:
            SandboxFailed: The isolation could not be set up.
        """
        null = asyncio.subprocess.DEVNULL
        with log.open("ab") if log else contextlib.nullcontext(null) as output:
            return await self._spawn(program, null, output, output)

    async def connect(self, program: Program, *, log: Path | None = None) -> Tree:
        """Start a program that is talked to: its `stdin` and `stdout` are streams here.

        Args:
            program: What runs, and what it may see and use.
            log: Where its standard error goes; nowhere by default.

        Raises:
            SandboxFailed: The isolation could not be set up.
        """
        pipe = asyncio.subprocess.PIPE
        null = asyncio.subprocess.DEVNULL
        with log.open("ab") if log else contextlib.nullcontext(null) as errors:
            return await self._spawn(program, pipe, pipe, errors)

    async def _spawn(self, program: Program, stdin: int, stdout: Any, stderr: Any) -> Tree:
        prepared = self.prepare(program)
        try:
            process = await asyncio.create_subprocess_exec(
                *prepared.argv,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env={},
                pass_fds=prepared.handed,
                start_new_session=True,  # an interrupt of the terminal is for the agent alone
                limit=8 * CHUNK,
            )
        except BaseException:
            prepared.clear()
            raise
        finally:
            prepared.hand_over()
        return Tree(process, prepared)


class Kept:
    """The first bytes of a stream; the others are counted."""

    def __init__(self, limit: int, on_output: Callable[[bytes], None]) -> None:
        """Start empty."""
        self.limit = limit
        self.on_output = on_output
        self.data = bytearray()
        self.dropped = 0

    async def read(self, stream: asyncio.StreamReader) -> None:
        """Read a stream to its end, so that the writer never waits for us."""
        while chunk := await stream.read(CHUNK):
            kept = chunk[: self.limit - len(self.data)]
            self.dropped += len(chunk) - len(kept)
            if kept:
                self.data += kept
                self.on_output(kept)


async def feed(stream: asyncio.StreamWriter, data: bytes) -> None:
    """Write all to a program that may have stopped reading."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stream.write(data)
        await stream.drain()
        stream.close()
        await stream.wait_closed()


class Tree:
    """A started program with all that it started."""

    def __init__(self, process: asyncio.subprocess.Process, prepared: Prepared) -> None:
        """Take over the process and what was prepared for it."""
        self.process = process
        self._prepared = prepared
        self._said = b""
        self._first: int | None = None
        self._killed = False
        self._burial: asyncio.Future[None] | None = None
        os.set_blocking(prepared.status, False)
        asyncio.get_running_loop().add_reader(prepared.status, self._hear)

    @property
    def pid(self) -> int:
        """Its process id on the host: the sandbox's own process."""
        return self.process.pid

    @property
    def stdin(self) -> asyncio.StreamWriter:
        """What the program reads, where it was started with `connect`."""
        assert self.process.stdin, "only what was started with connect() is written to"
        return self.process.stdin

    @property
    def stdout(self) -> asyncio.StreamReader:
        """What the program writes, where it was started with `connect`."""
        assert self.process.stdout, "only what was started with connect() is read from"
        return self.process.stdout

    async def wait(self) -> int:
        """Wait for its end; the exit status."""
        await self.process.wait()
        await self.finish()
        return self.status

    async def end(self) -> str:
        """Wait until the program ends, or the tree uses up its processor time; say which."""
        if self._prepared.group is None:
            await self.process.wait()
            return ""
        ending = asyncio.ensure_future(self.process.wait())
        try:
            while not (await asyncio.wait([ending], timeout=WATCH_SECONDS))[0]:
                if self._prepared.group.exhausted() == "cpu":
                    return "cpu"
            return self._prepared.group.exhausted()
        finally:
            ending.cancel()

    async def kill(self) -> None:
        """End it and every process it started."""
        try:
            await self.finish()
        finally:
            self.close_streams()

    def close_streams(self) -> None:
        """Close our ends of its streams; what was not read of them is lost."""
        getattr(self.process, "_transport").close()  # noqa: B009 - asyncio has no public way

    async def finish(self) -> None:
        """End what is left of it; what it wrote can still be read."""
        if self._burial is None:
            self._burial = asyncio.ensure_future(self._bury())
        await asyncio.shield(self._burial)

    def _kill_group(self) -> None:
        # The group is the mechanism's own process and, early on, the first one inside. What is
        # inside dies with them: the kernel ends a process namespace with its first process.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def _bury(self) -> None:
        if self.process.returncode is None:
            self._killed = True
            if self._prepared.gentle:
                self.process.terminate()
            else:
                self._kill_group()
        try:
            await asyncio.wait_for(self.process.wait(), DEATH_SECONDS)
        except TimeoutError:
            self._kill_group()
            await self.process.wait()
        self._hear()
        asyncio.get_running_loop().remove_reader(self._prepared.status)
        await asyncio.to_thread(self._clear)

    def _clear(self) -> None:
        ended = self._first is None or end(self._first)
        ended = self._prepared.clear() and ended
        if not ended:
            raise SandboxFailed(f"a program did not end within {DEATH_SECONDS:g} s of a kill")

    def _hear(self) -> None:
        """Take a hold of the first process inside as soon as it is known.

        A program can change it as it likes, so it may no longer die with the mechanism's own.
        """
        try:
            said = os.read(self._prepared.status, CHUNK)
        except BlockingIOError:
            return
        if not said:
            asyncio.get_running_loop().remove_reader(self._prepared.status)
        self._said += said
        for document in self._documents():
            if self._first is None and "child-pid" in document:
                with contextlib.suppress(ProcessLookupError):
                    self._first = os.pidfd_open(document["child-pid"])

    def _documents(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._said.splitlines() if line.endswith(b"}")]

    @property
    def status(self) -> int:
        """Exit status; 128 + n for signal n."""
        code = self.process.returncode
        assert code is not None, "the program has not ended"
        return code if code >= 0 else 128 - code

    def completed(self, stdout: Kept, stderr: Kept, reason: str) -> Completed:
        """Put together how the program ended.

        Raises:
            SandboxFailed: It never began.
        """
        began = any("exit-code" in document for document in self._documents())
        if not began and not self._killed and self.status < 128:
            words = bytes(stderr.data).decode(errors="replace").strip()
            raise SandboxFailed(f"the sandbox could not start the program: {words}")
        return Completed(
            self.status,
            bytes(stdout.data),
            bytes(stderr.data),
            stdout.dropped + stderr.dropped,
            why(self.status, bytes(stderr.data), reason),
        )


def why(status: int, stderr: bytes, reason: str) -> Any:
    """Tell why a program ended, from what was measured, else from its status and last words."""
    if reason == "timeout" or (reason and status):
        return reason
    if status == 128 + signal.SIGXCPU:
        return "cpu"
    if status and any(words in stderr[-2000:] for words in NO_MEMORY):
        return "memory"
    return "signal" if 128 < status <= 128 + LAST_SIGNAL else "exit"


def end(handle: int) -> bool:
    """Kill a process that is not our child; tell whether it ended."""
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        return bool(select.select([handle], [], [], DEATH_SECONDS)[0])
    finally:
        os.close(handle)
