"""One Jupyter kernel in a sandbox: started, asked, interrupted, ended.

In: code. Out: the kernel's messages, and how the cell ended.
Must not know: what the messages mean to the model, or figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import queue
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from openk2.agent.sandbox.isolation import Limits, Program, Running, Sandbox
from openk2.agent.sandbox.process import SandboxFailed
from openk2.agent.tool import ToolError
from openk2.agent.tools.fonts import matplotlib_settings

BOOT = Path(__file__).with_name("code_boot.py")
PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
POLL_SECONDS = 0.1

Ending = Literal["done", "interrupted", "stuck", "died"]
"""stuck: it did not react to an interrupt, and was ended."""


@dataclass(frozen=True, slots=True)
class CodeSettings:
    """What the kernel may use."""

    seconds: float = 120.0
    """Longest that one cell may take."""
    start_seconds: float = 60.0
    """Longest that a kernel may take to start."""
    grace_seconds: float = 3.0
    """How long a cell may take to react to an interrupt before its kernel is ended."""
    memory_bytes: int = 4 << 30
    """Memory of the kernel and all that it starts."""
    processes: int = 256
    """Processes and threads."""
    file_bytes: int = 1 << 30
    """Largest file it may write."""
    cpu_seconds: int = 36_000
    """Processor time over the kernel's whole life."""
    message_bytes: int = 64 << 20
    """Largest message that is taken from it: an image, a table."""
    threads: int = 4
    """Threads of numerical libraries."""


class Kernel:
    """A kernel for one workspace."""

    def __init__(self, sandbox: Sandbox, workspace: Path, settings: CodeSettings) -> None:
        """Remember what to start; nothing runs yet."""
        self.settings = settings
        self._sandbox = sandbox
        self._workspace = workspace
        self._folder: Path | None = None
        self._running: Running | None = None
        self._death: asyncio.Future[int] | None = None
        self._client: Any = None
        self._context: Any = None

    @property
    def alive(self) -> bool:
        """Whether cells can run."""
        return self._death is not None and not self._death.done()

    @property
    def status(self) -> int | None:
        """Exit status of a kernel that has died by itself."""
        return self._death.result() if self._death and self._death.done() else None

    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            ToolError: It cannot start here; the message says what to install, or its last words.
        """
        missing = [n for n in ("jupyter_client", "ipykernel") if not importlib.util.find_spec(n)]
        if missing:
            raise ToolError(
                f"Code cannot run: {missing[0]} is not installed (pip install 'openk2[agent]').",
                "unavailable",
            )
        # Names of sockets have at most 107 bytes: not in the workspace, whose path may be long.
        self._folder = Path(tempfile.mkdtemp(prefix="k2-", dir="/tmp"))
        (self._folder / "ipc").mkdir()
        connection = {
            **{port: number for number, port in enumerate(PORTS, start=1)},
            "transport": "ipc",
            "ip": str(self._folder / "ipc" / "k"),
            "key": secrets.token_hex(32),
            "signature_scheme": "hmac-sha256",
            "kernel_name": "python3",
        }
        try:
            program = self._program(self._folder, connection)
            self._running = await self._sandbox.start(program, log=self._folder / "log")
            self._death = asyncio.ensure_future(self._running.wait())
            async with asyncio.timeout(self.settings.start_seconds):
                await self._listens(self._folder / "ipc" / f"k-{len(PORTS)}")
                self._connect(connection)
                await self._answers()
        except (TimeoutError, SandboxFailed, ValueError, OSError) as error:
            words = await self._last_words()
            await self.stop()
            raise ToolError(
                f"The code kernel did not start: {words or error}", "unavailable"
            ) from error
        except BaseException:
            await asyncio.shield(self.stop())
            raise

    def _program(self, folder: Path, connection: Mapping[str, Any]) -> Program:
        settings = self.settings
        connected, looks = folder / "connection.json", folder / "matplotlibrc"
        connected.write_text(json.dumps(connection), encoding="utf-8")
        looks.write_text(matplotlib_settings(), encoding="utf-8")
        threads = str(settings.threads)
        return Program(
            [sys.executable, "-X", "frozen_modules=off", str(BOOT), str(connected)],
            self._workspace,
            readable=(connected, looks, BOOT),
            writable=(folder / "ipc",),
            environment={
                "MATPLOTLIBRC": str(looks),
                "PLOTLY_RENDERER": "plotly_mimetype",
                "PYDEVD_DISABLE_FILE_VALIDATION": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
                "OMP_NUM_THREADS": threads,
                "OPENBLAS_NUM_THREADS": threads,
                "MKL_NUM_THREADS": threads,
            },
            limits=Limits(
                memory_bytes=settings.memory_bytes,
                cpu_seconds=settings.cpu_seconds,
                processes=settings.processes,
                file_bytes=settings.file_bytes,
            ),
        )

    async def _listens(self, last: Path) -> None:
        """Wait for the last of its sockets."""
        while not last.exists():
            if not self.alive:
                raise SandboxFailed(f"it ended with status {self.status}")
            await asyncio.sleep(POLL_SECONDS / 5)

    def _connect(self, connection: Mapping[str, Any]) -> None:
        import zmq.asyncio
        from jupyter_client.asynchronous.client import AsyncKernelClient

        self._context = zmq.asyncio.Context()
        self._context.setsockopt(zmq.MAXMSGSIZE, self.settings.message_bytes)
        self._context.setsockopt(zmq.LINGER, 0)
        # Code in the kernel could put a link to a socket of the host in place of its own.
        self._context.setsockopt(zmq.RECONNECT_IVL, -1)
        self._client = AsyncKernelClient(context=self._context)
        self._client.load_connection_info(dict(connection))
        self._client.start_channels(stdin=False, hb=False)

    async def _answers(self) -> None:
        """Ask until both channels have answered: early messages of the second are lost."""
        heard = answered = False
        while not (heard and answered):
            if not self.alive:
                raise SandboxFailed(f"it ended with status {self.status}")
            self._client.kernel_info()
            with contextlib.suppress(queue.Empty):
                await self._client.get_shell_msg(timeout=POLL_SECONDS)
                answered = True
            with contextlib.suppress(queue.Empty):
                await self._client.get_iopub_msg(timeout=POLL_SECONDS)
                heard = True

    async def _last_words(self) -> str:
        log = self._folder / "log" if self._folder else None
        if log is None or not log.exists():
            return ""
        text = await asyncio.to_thread(log.read_bytes)
        return text[-2_000:].decode(errors="replace").strip()

    async def execute(
        self, code: str, seconds: float, on_message: Callable[[str, Mapping[str, Any]], None]
    ) -> Ending:
        """Run a cell.

        Args:
            code: Python.
            seconds: After this it is interrupted.
            on_message: Sees each message's type and content as it comes.
        """
        request = self._client.execute(code, allow_stdin=False)
        deadline = time.monotonic() + seconds
        interrupted = False
        while True:
            message = await self._next()
            if message is None:
                if not self.alive:
                    return "died"
                if time.monotonic() < deadline:
                    continue
            elif message["parent_header"].get("msg_id") == request:
                kind, content = message["msg_type"], message["content"]
                if kind == "status" and content.get("execution_state") == "idle":
                    return "interrupted" if interrupted else "done"
                on_message(kind, content)
            if time.monotonic() >= deadline:
                if interrupted:
                    await self.stop()
                    return "stuck"
                interrupted = True
                deadline = time.monotonic() + self.settings.grace_seconds
                interrupt = self._client.session.msg("interrupt_request", {})
                self._client.control_channel.send(interrupt)

    async def _next(self) -> dict[str, Any] | None:
        """Return the next message of the right shape; None where none came.

        Code in the kernel holds its key, so it can write any message, broken ones too.
        """
        try:
            message = await self._client.get_iopub_msg(timeout=POLL_SECONDS)
        except queue.Empty:
            return None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        shape = {"parent_header": dict, "content": dict, "msg_type": str}
        well = all(isinstance(message.get(part), kind) for part, kind in shape.items())
        return message if well else None

    async def stop(self) -> None:
        """End the kernel with all that it started, and remove its folder."""
        if self._client is not None:
            self._client.stop_channels()
            self._context.destroy(linger=0)
            self._client = None
        if self._running is not None:
            await self._running.kill()
            self._running = None
        if self._death is not None and not self._death.done():
            await asyncio.wait([self._death])
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
            self._folder = None
