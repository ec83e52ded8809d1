"""Programs that take all there is, and programs that would not end: the host goes on."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from openk2.agent.sandbox.isolation import Limits, Program
from openk2.agent.sandbox.process import ProcessSandbox
from tests.agent.sandbox.attempts import ALONE, BUBBLEWRAP, MECHANISMS, NAMESPACES, PRELUDE
from tests.agent.sandbox.conftest import SMALL, Runner


@dataclass(frozen=True)
class Flood:
    """One way to take too much."""

    name: str
    what: str
    """For the table in the documentation."""
    code: str
    reason: str = "exit"
    """How it ends; several that are right, between bars."""
    says: str = ""
    """What its standard error says; a regular expression."""
    limits: Limits = SMALL
    timeout: float = 20
    slow: bool = False
    needs_group: bool = False
    """Only a control group sees it; without one, each process has its limit."""
    open_in: tuple[str, ...] = ()
    """Mechanisms that do not prevent it."""


FLOODS = [
    Flood(
        "fork-bomb",
        "start processes without end",
        "while True:\n    if os.fork(): continue\n    time.sleep(60)",
        says="Resource temporarily unavailable",
    ),
    Flood(
        "fork-bomb-exponential",
        "start processes from every process",
        "while True:\n    try: os.fork()\n    except OSError: time.sleep(0.01)",
        reason="timeout|cpu",
        timeout=1.5,
    ),
    Flood(
        "threads",
        "start threads without end",
        "import threading\n"
        "try:\n"
        "    while True: threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "except RuntimeError as error:\n"
        "    print(error, file=sys.stderr, flush=True); os._exit(1)",
        says="can't start new thread",
    ),
    Flood(
        "memory",
        "use memory without end",
        "data = []\nwhile True: data.append(b'x' * (8 << 20))",
        reason="memory",
    ),
    Flood(
        "memory-of-many",
        "use memory in many processes",
        "for _ in range(8):\n"
        "    if not os.fork(): break\n"
        "data = b'x' * (64 << 20)\ntime.sleep(1); os.wait(); sys.exit(1)",
        reason="memory",
        needs_group=True,
    ),
    Flood(
        "memory-in-files",
        "fill files that are memory",
        "for name in ('/tmp/a', '/dev/shm/a'):\n"
        "    with open(name, 'wb') as file:\n"
        "        while True: file.write(b'x' * (1 << 20))",
        says="No space left on device|File too large",
        limits=replace(SMALL, file_bytes=1 << 30),
        open_in=(ALONE,),
    ),
    Flood(
        "locked-memory",
        "lock memory",
        "call(libc.mlock, ctypes.create_string_buffer(8 << 20), 8 << 20); escaped()",
        says="Cannot allocate memory|Operation not permitted",
        reason="exit|memory",
    ),
    Flood(
        "processor",
        "compute forever",
        "while True: pass",
        reason="cpu",
        limits=replace(SMALL, cpu_seconds=1),
    ),
    Flood(
        "processor-of-many",
        "compute forever in many processes",
        "for _ in range(8):\n    if not os.fork(): break\nwhile True: pass",
        reason="cpu",
        limits=replace(SMALL, cpu_seconds=1),
        needs_group=True,
    ),
    Flood(
        "big-file",
        "fill the disk with one file",
        "with open('big', 'wb') as file:\n    while True: file.write(b'x' * (1 << 20))",
        says="File too large",
    ),
    Flood(
        "sparse-file",
        "make a file that claims to be large",
        "os.truncate(open('big', 'wb').name, 1 << 40); escaped()",
        says="File too large|Operation not permitted",
    ),
    Flood(
        "temporary-folder",
        "fill the temporary folder with many files",
        "number = 0\n"
        "while True:\n"
        "    number += 1\n"
        "    name = os.environ['TMPDIR'] + f'/{number}'\n"
        "    with open(name, 'wb') as file: file.write(bytes(1 << 20))\n"
        "    if number == 200: escaped(); break",
        says="No space left on device",
        open_in=(ALONE,),
    ),
    Flood(
        "files",
        "make files without end in the temporary folder",
        "for number in range(20_000): open(f'{os.environ[\"TMPDIR\"]}/{number}', 'w').close()\n"
        "sys.exit('made, and gone with the folder')",
        says="gone with the folder",
        timeout=60,
        slow=True,
    ),
    Flood(
        "open-files",
        "open files without end",
        "files = []\nwhile True: files.append(open('/dev/null'))",
        says="Too many open files",
    ),
    Flood(
        "core",
        "leave its memory on the disk",
        "os.abort()",
        reason="signal",
    ),
    Flood(
        "sleep",
        "sleep forever",
        "time.sleep(1e6)",
        reason="timeout",
        timeout=0.5,
    ),
    Flood(
        "deaf",
        "ignore every signal",
        "for number in range(1, 65):\n"
        "    try: signal.signal(number, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "while True: time.sleep(1)",
        reason="timeout",
        timeout=0.7,
    ),
    Flood(
        "stopped",
        "stop itself",
        "os.kill(os.getpid(), signal.SIGSTOP)",
        reason="timeout",
        timeout=0.7,
    ),
    Flood(
        "closed-streams",
        "close its streams and go on",
        "for number in range(3): os.close(number)\ntime.sleep(1e6)",
        reason="timeout",
        timeout=0.7,
    ),
    Flood(
        "device-full",
        "write to a full device",
        "open('/dev/full', 'w').write('x' * 100_000)",
        says="No space left on device",
    ),
]


def cases() -> list[object]:
    return [
        pytest.param(
            flood,
            mechanism,
            id=f"{mechanism}-{flood.name}",
            marks=[pytest.mark.slow] if mechanism != BUBBLEWRAP or flood.slow else [],
        )
        for mechanism in MECHANISMS
        for flood in FLOODS
    ]


@pytest.mark.parametrize(("flood", "sandbox"), cases(), indirect=["sandbox"])
def test_what_takes_too_much_is_stopped(
    flood: Flood,
    request: pytest.FixtureRequest,
    sandbox: ProcessSandbox,
    run: Runner,
    tmp_path: Path,
):
    if flood.needs_group and sandbox.place is None:
        pytest.skip("needs a writable cgroup with the memory and pids controllers")
    if request.node.callspec.params["sandbox"] in flood.open_in:
        pytest.skip("not run: it would fill the host's disk, as the documentation's table says")
    before = time.monotonic()

    done = run(flood.code, limits=flood.limits, timeout=flood.timeout)

    assert time.monotonic() - before < flood.timeout + 15
    assert b"ESCAPED" not in done.stdout
    assert done.reason in flood.reason.split("|"), (done.reason, done.status, done.stderr[-500:])
    assert done.status != 0
    assert re.search(flood.says, done.stderr.decode(errors="replace")), done.stderr[-500:]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= flood.limits.file_bytes
    assert not list(tmp_path.glob("core*"))
    assert run(["echo", "ok"]).stdout == b"ok\n"


@pytest.mark.parametrize("sandbox", MECHANISMS, indirect=True)
def test_a_flood_of_output_is_counted_and_dropped(run: Runner):
    done = run(["head", "-c", "200000000", "/dev/zero"], timeout=60)
    assert done.stdout == bytes(SMALL.output_bytes)
    assert done.dropped == 200_000_000 - SMALL.output_bytes
    assert (done.status, done.reason) == (0, "exit")


DAEMON = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in range(3): os.close(number)
        while True:
            pathlib.Path('heartbeat').write_text(str(time.monotonic()))
            time.sleep(0.01)
    os._exit(0)
os.wait()
while not pathlib.Path('heartbeat').exists(): time.sleep(0.01)
"""


def is_dead(heartbeat: Path) -> bool:
    """Tell whether nobody writes a file any more."""
    before = heartbeat.read_text()
    time.sleep(0.1)
    return heartbeat.read_text() == before


@pytest.mark.parametrize("sandbox", MECHANISMS, indirect=True)
@pytest.mark.parametrize("ending", ["exit", "timeout", "crash"])
def test_a_daemon_dies_with_its_program(run: Runner, tmp_path: Path, ending: str):
    last = {"exit": "sys.exit(3)", "timeout": "time.sleep(1e6)", "crash": "os.kill(os.getpid(), 9)"}
    done = run(DAEMON + last[ending], timeout=2 if ending == "timeout" else 20)
    assert done.reason == {"crash": "signal"}.get(ending, ending)
    assert is_dead(tmp_path / "heartbeat")


@pytest.mark.parametrize("sandbox", MECHANISMS, indirect=True)
def test_a_daemon_dies_when_the_program_is_killed_or_cancelled(
    sandbox: ProcessSandbox, tmp_path: Path
):
    argv = [sys.executable, "-I", "-S", "-c", PRELUDE + DAEMON + "time.sleep(1e6)"]
    heartbeat = tmp_path / "heartbeat"

    async def beating() -> None:
        while not heartbeat.exists():
            await asyncio.sleep(0.01)

    async def killed() -> None:
        running = await sandbox.start(Program(argv, tmp_path, limits=SMALL))
        await asyncio.wait_for(beating(), 20)
        await running.kill()

    async def cancelled() -> None:
        program = Program(argv, tmp_path, limits=SMALL)
        task = asyncio.ensure_future(sandbox.run(program, timeout=60))
        await asyncio.wait_for(beating(), 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for way in (killed, cancelled):
        asyncio.run(way())
        assert is_dead(heartbeat)
        heartbeat.unlink()


@pytest.mark.parametrize(
    ("sandbox", "make"),
    [
        (BUBBLEWRAP, "bubblewrap import BubblewrapSandbox as Make"),
        (NAMESPACES, "landlock import LandlockSandbox as L; Make = lambda: L(namespaces=True)"),
    ],
    indirect=["sandbox"],
)
def test_a_program_dies_with_the_agent(sandbox: ProcessSandbox, tmp_path: Path, make: str):
    agent = (
        "import asyncio, os, sys; from pathlib import Path\n"
        f"from openk2.agent.sandbox.{make}\n"
        "from openk2.agent.sandbox.isolation import Program\n"
        "async def main():\n"
        "    await Make().start(Program(sys.argv[2:], Path(sys.argv[1])))\n"
        "    while not Path(sys.argv[1], 'heartbeat').exists(): await asyncio.sleep(0.01)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    argv = [sys.executable, "-I", "-S", "-c", PRELUDE + DAEMON + "time.sleep(1e6)"]

    async def main() -> None:
        command = [sys.executable, "-c", agent, str(tmp_path), *argv]
        root = Path(__file__).resolve().parents[3]
        child = await asyncio.create_subprocess_exec(
            *command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}
        )
        assert await asyncio.wait_for(child.wait(), 30) == -9

    asyncio.run(main())
    deadline = time.monotonic() + 5
    while not is_dead(tmp_path / "heartbeat"):
        assert time.monotonic() < deadline
