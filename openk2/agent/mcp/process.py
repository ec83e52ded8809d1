"""The process of a server: started with three pipes, ended with all it started.

In: a command, what it may see of us. Out: its streams, and its end.
Must not know: the protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import IO, Protocol

from openk2.agent.mcp.config import ServerEntry
from openk2.agent.sandbox.isolation import Limits, Program, Sandbox
from openk2.agent.sandbox.process import ProcessSandbox, Tree

_INHERITED = ("PATH", "HOME", "LANG")
_LIMITS = Limits(memory_bytes=4 << 30, cpu_seconds=24 * 3600, processes=256)
"""A server works as long as the run does, and Node wants threads and address space."""


class ServerProcess(Protocol):
    """A server that runs."""

    @property
    def stdin(self) -> asyncio.StreamWriter:
        """What it reads."""
        ...

    @property
    def stdout(self) -> asyncio.StreamReader:
        """What it says."""
        ...

    @property
    def stderr(self) -> asyncio.StreamReader:
        """What it says about itself."""
        ...

    async def end(self, patience: float) -> None:
        """Close its input, wait that long, and end it with all it started."""
        ...


Start = Callable[[ServerEntry], Awaitable[ServerProcess]]
"""Raises OSError or RuntimeError where a server cannot be started."""


def starter(
    config: ServerEntry,
    environment: Mapping[str, str],
    sandbox: Sandbox | None,
    workspace: Path | None,
) -> Start:
    """Choose how a server's process is started.

    Args:
        config: Which server.
        environment: Ours, of which it gets PATH, HOME and LANG.
        sandbox: What isolates it, where its configuration wants that.
        workspace: The run's folder; an isolated server works there if it has no `cwd`.

    Raises:
        ValueError: It wants to be isolated, and cannot be.
    """
    if config.sandbox is None:
        return lambda wanted: HostProcess.start(environment, wanted)
    folder = config.cwd or workspace
    if not isinstance(sandbox, ProcessSandbox) or folder is None:
        raise ValueError("its entry wants a sandbox, and there is none here")
    return lambda wanted: SandboxedProcess.start(sandbox, folder, environment, wanted)


def _given(environment: Mapping[str, str], config: ServerEntry) -> dict[str, str]:
    ours = {name: environment[name] for name in _INHERITED if name in environment}
    return {**ours, **config.env}


class HostProcess:
    """A process group with three pipes that are ours to close, whoever else holds their ends."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        stdin: asyncio.StreamWriter,
        readers: tuple[tuple[asyncio.ReadTransport, asyncio.StreamReader], ...],
    ) -> None:
        """Take over a process and our ends of its pipes."""
        self._process = process
        self._readers = readers
        self.stdin = stdin
        self.stdout = readers[0][1]
        self.stderr = readers[1][1]

    @classmethod
    async def start(cls, environment: Mapping[str, str], config: ServerEntry) -> HostProcess:
        """Start a process of the host that sees nothing of our environment but what it is given.

        Raises:
            OSError: It cannot be started.
        """
        import anyio

        pipes = [os.pipe() for _ in range(3)]
        theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
        with contextlib.ExitStack() as ours:
            files = [
                ours.enter_context(os.fdopen(pipes[0][1], "wb", 0)),
                *(ours.enter_context(os.fdopen(read, "rb", 0)) for read, _ in pipes[1:]),
            ]
            try:
                # Pipes first: once it runs, nothing must come between it and who ends it.
                stdin = await _writer(files[0])
                ours.callback(stdin.transport.abort)
                readers = (await _reader(files[1]), await _reader(files[2]))
                for transport, _ in readers:
                    ours.callback(transport.close)
                process = None
                with anyio.CancelScope(shield=True):
                    process = await asyncio.create_subprocess_exec(
                        config.command,
                        *config.args,
                        stdin=theirs[0],
                        stdout=theirs[1],
                        stderr=theirs[2],
                        cwd=config.cwd,
                        env=_given(environment, config),
                        start_new_session=True,
                    )
            finally:
                for end in theirs:
                    os.close(end)
            assert process is not None
            ours.pop_all()  # their transports close them from here on
        return cls(process, stdin, readers)

    async def end(self, patience: float) -> None:
        """Ask it to end as the protocol says, and then make it: input, SIGTERM, SIGKILL."""
        self.stdin.close()
        for step in (None, signal.SIGTERM):
            if step is not None:
                self._signal(step)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), patience)
                break
        self._signal(signal.SIGKILL)  # also what it started and left behind
        await self._process.wait()
        if self.stdin.transport.get_write_buffer_size():
            self.stdin.transport.abort()  # nobody reads the rest
        for transport, _ in self._readers:
            transport.close()
        await asyncio.sleep(0)  # transports release their files in the next turn

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


class SandboxedProcess:
    """A process in a sandbox, which ends with all it started because the sandbox does."""

    def __init__(
        self, tree: Tree, errors: tuple[asyncio.ReadTransport, asyncio.StreamReader]
    ) -> None:
        """Take over a process in a sandbox and our end of its error output."""
        self._tree = tree
        self._errors = errors
        self.stdin = tree.stdin
        self.stdout = tree.stdout
        self.stderr = errors[1]

    @classmethod
    async def start(
        cls,
        sandbox: ProcessSandbox,
        folder: Path,
        environment: Mapping[str, str],
        config: ServerEntry,
    ) -> SandboxedProcess:
        """Start an isolated process.

        Raises:
            SandboxFailed: The isolation could not be set up.
        """
        import anyio

        wanted = config.sandbox
        assert wanted is not None
        program = Program(
            [config.command, *config.args],
            workspace=folder,
            readable=wanted.readable,
            writable=wanted.writable,
            environment=_given(environment, config),
            network=wanted.network,
            limits=_LIMITS,
        )
        read, write = os.pipe()
        errors = await _reader(os.fdopen(read, "rb", 0))
        tree = None
        try:
            with anyio.CancelScope(shield=True):
                # The sandbox opens a file for errors; this one is our pipe.
                tree = await sandbox.connect(program, log=Path(f"/proc/self/fd/{write}"))
        finally:
            os.close(write)
            if tree is None:
                errors[0].close()
        assert tree is not None
        return cls(tree, errors)

    async def end(self, patience: float) -> None:
        """Close its input, wait that long, and end it with all it started."""
        self.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._tree.wait()
        await self._tree.kill()
        self._errors[0].close()
        await asyncio.sleep(0)  # transports release their files in the next turn


async def _reader(file: IO[bytes]) -> tuple[asyncio.ReadTransport, asyncio.StreamReader]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    return transport, reader


async def _writer(file: IO[bytes]) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), file
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)
