"""What a sandbox is for: programs run, see what they were granted, and are heard to the end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from openk2.agent.sandbox.bubblewrap import BubblewrapSandbox
from openk2.agent.sandbox.choose import choose_sandbox, try_out
from openk2.agent.sandbox.isolation import Program, SandboxMissing
from openk2.agent.sandbox.landlock import LandlockSandbox, UnsafeSandbox
from openk2.agent.sandbox.process import ProcessSandbox, SandboxFailed
from tests.agent.sandbox.attempts import ALONE, BUBBLEWRAP, NAMESPACES
from tests.agent.sandbox.conftest import EACH, SMALL, Runner


def shell(command: str) -> list[str]:
    return ["/bin/sh", "-c", command]


@EACH
def test_a_program_reads_its_input_and_writes_both_streams(run: Runner):
    done = run(shell("cat; echo said >&2; exit 3"), stdin=b"x" * 100_000)
    assert (done.status, done.stdout, done.stderr) == (3, b"x" * SMALL.output_bytes, b"said\n")
    assert (done.reason, done.dropped) == ("exit", 100_000 - SMALL.output_bytes)


@EACH
def test_input_that_nobody_reads_is_no_error(run: Runner):
    assert run(["true"], stdin=b"x" * 1_000_000).status == 0


@EACH
def test_the_environment_is_neutral_and_what_was_asked_for(sandbox: ProcessSandbox, tmp_path: Path):
    program = Program(["env"], tmp_path, environment={"MPLBACKEND": "Agg", "KEY": "a b\nc"})
    done = asyncio.run(sandbox.run(program, timeout=20))
    assert b"KEY=a b\nc\n" in done.stdout
    names = {line.partition(b"=")[0] for line in done.stdout.splitlines() if b"=" in line}
    asked = {b"MPLBACKEND", b"KEY"}
    assert names - {b"PWD"} - asked == {b"PATH", b"HOME", b"TMPDIR", b"LANG", b"USER"}
    assert asked <= names


@EACH
def test_what_it_writes_belongs_to_the_owner_of_the_workspace(run: Runner, tmp_path: Path):
    (tmp_path / "old").write_text("before")
    (tmp_path / "old").chmod(0o600)
    done = run(shell("cat old; mkdir -p a/b && echo new > a/b/c; mv old a/old; pwd"))
    assert done.stdout.decode() == f"before{tmp_path}\n"
    assert (tmp_path / "a/b/c").read_text() == "new\n"
    owners = {path.stat().st_uid for path in tmp_path.rglob("*")}
    assert owners == {os.getuid()}


@EACH
def test_granted_folders_are_seen_under_their_paths(sandbox: ProcessSandbox, tmp_path: Path):
    names = ("workspace", "workspace/inner", "read", "write")
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / "read" / "data").write_text("data")
    (tmp_path / "read" / "one").write_text("one")
    work, inner, read, write = (tmp_path / name for name in names)
    command = f"cat {read}/data; echo x > {write}/made; echo y > {inner}/made; echo z > {read}/no"
    program = Program(shell(command), work, readable=[read], writable=[write, inner])
    done = asyncio.run(sandbox.run(program, timeout=20))
    assert done.stdout == b"data"
    assert (write / "made").read_text() == "x\n"
    assert (inner / "made").read_text() == "y\n"
    assert not (read / "no").exists()
    single = Program(["cat", str(read / "one")], work, readable=[read / "one"])
    assert asyncio.run(sandbox.run(single, timeout=20)).stdout == b"one"


@EACH
def test_output_is_seen_as_it_comes(sandbox: ProcessSandbox, tmp_path: Path):
    seen: list[tuple[float, bytes]] = []
    program = Program(shell("echo first; sleep 0.5; echo second >&2"), tmp_path)
    asyncio.run(
        sandbox.run(
            program, timeout=20, on_output=lambda chunk: seen.append((time.monotonic(), chunk))
        )
    )
    assert [chunk for _, chunk in seen] == [b"first\n", b"second\n"]
    assert seen[1][0] - seen[0][0] > 0.3


@EACH
def test_what_was_written_before_a_timeout_is_kept(run: Runner):
    done = run(shell("echo kept; sleep 100"), timeout=1.5)
    assert (done.stdout, done.reason) == (b"kept\n", "timeout")


@EACH
def test_a_signal_is_told_as_shells_do(run: Runner):
    done = run(shell("kill -TERM $$"))
    assert (done.status, done.reason) == (143, "signal")


@EACH
def test_a_program_that_is_not_there_is_a_status(run: Runner):
    done = run(["no-such-program"])
    assert done.status == 127
    assert b"no-such-program" in done.stderr


@EACH
def test_a_started_program_goes_on_and_its_output_is_logged(
    sandbox: ProcessSandbox, tmp_path: Path
):
    log = tmp_path / "log"

    async def main() -> int:
        program = Program(shell("echo out; echo err >&2; touch ready; sleep 1000"), tmp_path)
        running = await sandbox.start(program, log=log)
        while not (tmp_path / "ready").exists():
            await asyncio.sleep(0.01)
        environment = Path(f"/proc/{running.pid}/environ").read_bytes()
        assert environment == b"", "what waits outside for the program has nothing of ours"
        await running.kill()
        await running.kill()
        return await running.wait()

    assert asyncio.run(main()) > 128
    assert log.read_text() == "out\nerr\n"


@EACH
def test_a_started_program_ends_by_itself(sandbox: ProcessSandbox, tmp_path: Path):
    async def main() -> int:
        return await (await sandbox.start(Program(shell("exit 7"), tmp_path))).wait()

    assert asyncio.run(main()) == 7


@EACH
def test_a_program_is_talked_to_by_pipes(sandbox: ProcessSandbox, tmp_path: Path):
    async def main() -> None:
        program = Program(shell("while read line; do echo got $line; done; exit 5"), tmp_path)
        running = await sandbox.connect(program)
        for word in (b"one", b"two"):
            running.stdin.write(word + b"\n")
            assert await asyncio.wait_for(running.stdout.readline(), 20) == b"got " + word + b"\n"
        running.stdin.close()
        assert await asyncio.wait_for(running.wait(), 20) == 5
        await running.kill()

    asyncio.run(main())


@EACH
def test_many_run_at_the_same_time(sandbox: ProcessSandbox, tmp_path: Path):
    async def main() -> list[bytes]:
        programs = [Program(["echo", str(number)], tmp_path, limits=SMALL) for number in range(8)]
        done = await asyncio.gather(*(sandbox.run(p, timeout=60) for p in programs))
        return [one.stdout for one in done]

    assert asyncio.run(main()) == [b"%d\n" % number for number in range(8)]


@EACH
def test_nothing_is_left_behind(
    sandbox: ProcessSandbox, run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = Path("/proc/self/fd")
    descriptors = len(list(own.iterdir()))
    run(["true"])
    assert len(list(own.iterdir())) == descriptors
    left = [path.name for path in tmp_path.iterdir()]
    for folder in sandbox.place.folders if sandbox.place else ():
        left += [path.name for path in folder.glob(f"openk2-{os.getpid()}-*")]
    assert left == []


@EACH
@pytest.mark.parametrize("how", ["group", "each process"])
def test_memory_is_bounded_with_and_without_control_groups(
    request: pytest.FixtureRequest, sandbox: ProcessSandbox, tmp_path: Path, how: str
):
    name = request.node.callspec.params["sandbox"]
    if how == "group" and sandbox.place is None:
        pytest.skip("no writable cgroup here")
    if how != "group":
        sandbox = {
            BUBBLEWRAP: lambda: BubblewrapSandbox(groups=False),
            NAMESPACES: lambda: LandlockSandbox(namespaces=True, groups=False),
            ALONE: lambda: LandlockSandbox(namespaces=False, groups=False),
        }[name]()
        assert "cgroup" not in sandbox.mechanism
    argv = [sys.executable, "-I", "-S", "-c", "x = b'x' * (400 << 20)"]
    done = asyncio.run(sandbox.run(Program(argv, tmp_path, limits=SMALL), timeout=20))
    assert (done.reason, done.status) == ("memory", 137 if how == "group" else 1)


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workspace", "words"),
    [
        (Path("/"), "holds a whole home"),
        (Path.home(), "holds a whole home"),
        (Path("/etc"), "belongs to the system"),
        (Path("/no/such/folder"), "does not exist"),
    ],
)
def test_too_much_is_not_shown(sandbox: ProcessSandbox, workspace: Path, words: str):
    with pytest.raises(ValueError, match=words):
        asyncio.run(sandbox.run(Program(["true"], workspace), timeout=1))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to keep")
def test_root_that_cannot_be_dropped_has_no_way_to_the_kernels_settings(tmp_path: Path):
    kept = BubblewrapSandbox(drop_root=False)
    code = "open('/proc/sys/kernel/core_pattern', 'r+b')"
    program = Program([sys.executable, "-I", "-S", "-c", code], tmp_path, limits=SMALL)
    done = asyncio.run(kept.run(program, timeout=20))
    assert b"Read-only file system" in done.stderr


def test_a_link_in_the_workspace_grants_nothing(sandbox: ProcessSandbox, tmp_path: Path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "data").symlink_to("/etc/ssl")
    program = Program(["true"], tmp_path / "work", readable=[tmp_path / "work" / "data"])
    with pytest.raises(ValueError, match="leads out of the workspace"):
        asyncio.run(sandbox.run(program, timeout=1))


def test_a_sandbox_that_cannot_be_built_is_an_error_of_its_own(
    sandbox: ProcessSandbox, tmp_path: Path
):
    assert isinstance(sandbox, BubblewrapSandbox)
    broken = BubblewrapSandbox()
    broken.bwrap = str(tmp_path / "bwrap")
    Path(broken.bwrap).write_text("#!/bin/sh\necho cannot build >&2; exit 1\n")
    Path(broken.bwrap).chmod(0o755)
    with pytest.raises(SandboxFailed, match=r"could not start|cannot build"):
        asyncio.run(broken.run(Program(["true"], tmp_path), timeout=20))


# The choice --------------------------------------------------------------------------------------


def choose_in(environment: dict[str, str], *arguments: str) -> str:
    code = (
        "import sys; from openk2.agent.sandbox.choose import choose_sandbox\n"
        "try: print(choose_sandbox(allow_unsafe='unsafe' in sys.argv).mechanism)\n"
        "except RuntimeError as error: print(type(error).__name__, error)"
    )
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_strongest_mechanism_that_works_is_chosen(sandbox: ProcessSandbox):
    assert choose_sandbox().mechanism == sandbox.mechanism
    assert choose_sandbox() is choose_sandbox()


def test_without_bubblewrap_landlock_is_chosen(sandboxes: dict[str, ProcessSandbox | str]):
    if isinstance(sandboxes[ALONE], str):
        pytest.skip(f"no Landlock here: {sandboxes[ALONE]}")
    assert choose_in({"PATH": "/nowhere"}).startswith("Landlock + seccomp")


def test_without_any_mechanism_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("openk2.agent.sandbox.choose.mechanisms", lambda: iter([BubblewrapSandbox]))
    choose_sandbox.cache_clear()
    with pytest.raises(SandboxMissing, match="apt install bubblewrap"):
        choose_sandbox()
    assert choose_sandbox(allow_unsafe=True).mechanism.startswith("no isolation: rlimits")
    choose_sandbox.cache_clear()


def test_without_isolation_limits_still_hold(tmp_path: Path):
    unsafe = UnsafeSandbox()
    assert try_out(unsafe) == ""
    argv = [sys.executable, "-I", "-S", "-c", "open('big', 'wb').write(bytes(20 << 20))"]
    done = asyncio.run(unsafe.run(Program(argv, tmp_path, limits=SMALL), timeout=20))
    assert b"File too large" in done.stderr
