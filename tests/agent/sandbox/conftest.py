"""A host worth attacking: secrets, services and a process, and every mechanism that works here."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from openk2.agent.sandbox.bubblewrap import BubblewrapSandbox
from openk2.agent.sandbox.choose import try_out
from openk2.agent.sandbox.isolation import Completed, Limits, Program, SandboxMissing
from openk2.agent.sandbox.landlock import LandlockSandbox
from openk2.agent.sandbox.process import ProcessSandbox
from tests.agent.sandbox.attempts import ALONE, BUBBLEWRAP, MECHANISMS, NAMESPACES, PRELUDE

MAKERS: dict[str, Callable[[], ProcessSandbox]] = {
    BUBBLEWRAP: BubblewrapSandbox,
    NAMESPACES: lambda: LandlockSandbox(namespaces=True),
    ALONE: lambda: LandlockSandbox(namespaces=False),
}
EACH = pytest.mark.parametrize(
    "sandbox",
    [
        pytest.param(name, marks=[] if name == BUBBLEWRAP else [pytest.mark.slow])
        for name in MECHANISMS
    ],
    indirect=True,
)
"""A test of every mechanism; of the first one, in the ordinary suite."""

SMALL = Limits(
    memory_bytes=256 << 20,
    cpu_seconds=5,
    processes=32,
    file_bytes=16 << 20,
    scratch_bytes=32 << 20,
    output_bytes=64 << 10,
)


@pytest.fixture(scope="session")
def sandboxes() -> dict[str, ProcessSandbox | str]:
    """Every mechanism, or why it does not work here."""
    found: dict[str, ProcessSandbox | str] = {}
    for name, make in MAKERS.items():
        try:
            sandbox = make()
            found[name] = try_out(sandbox) or sandbox
        except SandboxMissing as error:
            found[name] = str(error)
    return found


@pytest.fixture
def sandbox(
    request: pytest.FixtureRequest, sandboxes: dict[str, ProcessSandbox | str]
) -> ProcessSandbox:
    found = sandboxes[getattr(request, "param", BUBBLEWRAP)]
    if isinstance(found, str):
        pytest.skip(f"does not work here: {found}")
    return found


@dataclass
class Host:
    """What there is to find, to reach and to harm."""

    folder: Path
    token: str = field(default_factory=lambda: f"token-{uuid.uuid4().hex}")
    reached: list[str] = field(default_factory=list[str])
    words: dict[str, str] = field(default_factory=dict[str, str])
    sockets: list[socket.socket] = field(default_factory=list[socket.socket])

    def listen(self, name: str, server: socket.socket, address: object) -> None:
        server.bind(address)  # type: ignore[arg-type]
        if server.type == socket.SOCK_STREAM:
            server.listen()
        self.sockets.append(server)
        threading.Thread(target=self.serve, args=(name, server), daemon=True).start()

    def serve(self, name: str, server: socket.socket) -> None:
        while True:
            try:
                if server.type == socket.SOCK_STREAM:
                    server.accept()[0].close()
                else:
                    server.recv(10)
            except OSError:
                return
            self.reached.append(name)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """Things that everybody here may read, write and reach, but for the sandbox."""
    folder = Path(tempfile.mkdtemp(prefix="openk2-host-"))
    folder.chmod(0o755)
    host = Host(folder)
    for name in ("outside", "readable"):
        (folder / name).mkdir()
        (folder / name).chmod(0o777)
    (folder / "secret").write_text(host.token)
    (folder / "readable" / "data").write_text("data")
    tcp, udp = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    host.listen("tcp", tcp, ("127.0.0.1", 0))
    host.listen("udp", udp, ("127.0.0.1", 0))
    host.listen("abstract", socket.socket(socket.AF_UNIX), f"\0{host.token}")
    host.listen("file", socket.socket(socket.AF_UNIX), str(folder / "socket"))
    (folder / "socket").chmod(0o777)
    victim = subprocess.Popen(["sleep", "1000"], env={"TOKEN": host.token})
    os.environ["OPENK2_TEST_TOKEN"] = host.token
    left_open = os.open(folder / "secret", os.O_RDONLY)
    os.set_inheritable(left_open, True)
    host.words = {
        "secret": str(folder / "secret"),
        "outside": str(folder / "outside"),
        "readable": str(folder / "readable"),
        "socket": str(folder / "socket"),
        "abstract": host.token,
        "token": host.token,
        "tcp": str(tcp.getsockname()[1]),
        "udp": str(udp.getsockname()[1]),
        "victim": str(victim.pid),
        "home": str(Path.home()),
        "repository": str(Path(__file__).resolve().parents[3]),
    }
    yield host
    assert victim.poll() is None, "a process of the host was ended"
    victim.kill()
    victim.wait()
    os.close(left_open)
    del os.environ["OPENK2_TEST_TOKEN"]
    for server in host.sockets:
        server.shutdown(socket.SHUT_RDWR) if server.type == socket.SOCK_STREAM else None
        server.close()
    shutil.rmtree(folder)


Runner = Callable[..., Completed]


@pytest.fixture
def run(sandbox: ProcessSandbox, tmp_path: Path) -> Runner:
    """Run Python text, or a command, in a sandbox with little of everything."""

    def run(
        code: str | list[str],
        *,
        timeout: float = 20,
        limits: Limits = SMALL,
        readable: tuple[Path, ...] = (),
        stdin: bytes = b"",
    ) -> Completed:
        argv = [sys.executable, "-I", "-S", "-c", PRELUDE + code] if isinstance(code, str) else code
        program = Program(argv, tmp_path, readable=readable, limits=limits)
        return asyncio.run(sandbox.run(program, stdin=stdin, timeout=timeout))

    return run
