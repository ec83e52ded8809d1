"""Programs that try to get out: none does, each is told so, and the sandbox goes on."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from tests.agent.sandbox.attempts import ATTEMPTS, BUBBLEWRAP, MECHANISMS, Attempt
from tests.agent.sandbox.conftest import Host, Runner

PAGE = Path(__file__).resolve().parents[3] / "docs" / "concepts" / "sandbox.md"


def cases() -> list[object]:
    """Return every attempt with every mechanism; the first mechanism is in the ordinary suite."""
    return [
        pytest.param(
            attempt,
            mechanism,
            id=f"{mechanism}-{attempt.name}",
            marks=[] if mechanism == BUBBLEWRAP else [pytest.mark.slow],
        )
        for mechanism in MECHANISMS
        for attempt in ATTEMPTS
    ]


@pytest.mark.parametrize(("attempt", "sandbox"), cases(), indirect=["sandbox"])
def test_a_way_out_is_closed(
    attempt: Attempt, request: pytest.FixtureRequest, host: Host, run: Runner, tmp_path: Path
):
    mechanism = request.node.callspec.params["sandbox"]
    (tmp_path / "planted").symlink_to(host.words["secret"])
    name = socket.gethostname()
    before = state(host)

    done = run(attempt.code.format(**host.words), readable=(host.folder / "readable",))

    if mechanism in attempt.open_in:
        assert b"ESCAPED" in done.stdout, "it is closed now: the table in the docs may say so"
    else:
        assert b"ESCAPED" not in done.stdout
        assert host.token.encode() not in done.stdout + done.stderr
        assert done.status != 0
        assert done.reason == "exit"
        assert re.search(attempt.says, done.stderr.decode()), done.stderr.decode()
        assert host.reached == []
    assert state(host) == before
    assert socket.gethostname() == name
    assert [path for path in tmp_path.rglob("*") if not path.is_symlink() and special(path)] == []
    assert run(["echo", "ok"]).stdout == b"ok\n"


def state(host: Host) -> dict[str, tuple[int, int, bytes]]:
    """Return all files of the host with their modes, sizes and contents."""
    return {
        str(path): (
            path.stat().st_mode,
            path.stat().st_nlink,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(host.folder.rglob("*"))
    }


def special(path: Path) -> bool:
    """Tell whether a file gives rights to whoever runs it, or is a device."""
    mode = path.stat().st_mode
    return bool(mode & 0o6000) or path.is_block_device() or path.is_char_device()
