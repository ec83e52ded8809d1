"""`openk2 agent`, `replay` and `runs` as a person starts them: real processes, a scripted model."""

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openk2.agent.journal import NAME, read

OPENK2 = [sys.executable, "-m", "openk2.cli"]
needs_sandbox = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="bubblewrap is not installed: make system-deps"
)


def call(name, **arguments):
    return {"calls": [{"name": name, "arguments": arguments}]}


FINISH = call("finish", status="complete", summary="Both files are there.", artifacts=["b.txt"])
TURNS = [
    {"reasoning": "I look.", **call("list_files")},
    call("write_file", path="b.txt", content="two words\n"),
    FINISH,
]


@pytest.fixture
def place(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a.txt").write_text("hello\n")
    return tmp_path


def script(place, turns):
    path = place / "script.json"
    path.write_text(json.dumps({"turns": turns, "by_history": True}))
    return path


def command(place, *words, turns=TURNS):
    return [
        *OPENK2, "agent", *words, "--model", f"script:{script(place, turns)}",
        "--workspace", str(place / "work"), "--runs", str(place / "runs"), "--offline",
    ]  # fmt: skip


def openk2(place, name, *words):
    return start([*OPENK2, name, *words, "--runs", str(place / "runs")])


def start(words, **rest):
    return subprocess.run(words, capture_output=True, text=True, timeout=100, **rest)


def the_run(place):
    (folder,) = (place / "runs").iterdir()
    return folder


def test_a_task_is_done_seen_listed_and_replayed(place):
    done = start(command(place, "Write b.txt"))
    assert done.returncode == 0, done.stderr
    assert (place / "work" / "b.txt").read_text() == "two words\n"
    for line in ("  ┊ I look.", "→ list_files()", "✓ complete", "  Both files are there."):
        assert line in done.stdout.splitlines()
    assert "0 failed calls · 0 retries" in done.stdout.splitlines()[-1]
    listed = openk2(place, "runs")
    assert "complete" in listed.stdout and "Write b.txt" in listed.stdout
    again = openk2(place, "runs", "last")
    assert again.stdout.splitlines() == done.stdout.splitlines()
    replayed = openk2(place, "replay", "last")
    assert replayed.returncode == 0 and "records the same" in replayed.stdout
    trace = place / "trace.json"
    assert openk2(place, "runs", "last", "--trace", str(trace)).returncode == 0
    spans = [e["name"] for e in json.loads(trace.read_text())["traceEvents"] if e["ph"] == "X"]
    assert "list_files()" in spans and "model 1" in spans


def test_json_output_is_the_journal_itself(place):
    done = start([*command(place, "Write b.txt"), "--json"])
    assert done.returncode == 0, done.stderr
    lines = [line.encode() + b"\n" for line in done.stdout.splitlines()]
    assert b"".join(lines) == (the_run(place) / NAME).read_bytes()


def test_a_changed_journal_is_refused_by_replay(place):
    start(command(place, "Write b.txt"))
    path = the_run(place) / NAME
    path.write_bytes(path.read_bytes().replace(b"two words", b"six words"))
    replayed = openk2(place, "replay", "last")
    assert replayed.returncode == 2 and "was changed after it was written" in replayed.stderr


@needs_sandbox
def test_a_killed_run_goes_on_and_does_nothing_twice(place):
    steps = [call("shell", command=f"echo {n} >> log.txt; sleep 0.2") for n in range(12)]
    words = command(place, "Count", turns=[*steps, call("finish", status="complete", summary="ok")])
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    seen = 0
    while seen < 4:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        seen += line.startswith("→ shell")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stderr.close()
    records, _ = read(the_run(place) / NAME)
    finished = sum(record.kind == "tool" and record.phase == "end" for record in records)
    assert finished >= 3

    resumed = start([*words[: words.index("agent") + 1], *words[words.index("agent") + 2 :],
                     "--resume", "last"])  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    log = (place / "work" / "log.txt").read_text().split()
    assert len(log) == len(set(log))
    assert set(range(12)) - set(map(int, log)) <= {finished}
    assert openk2(place, "replay", "last").returncode == 0


def test_a_run_that_ended_goes_on_with_more_words(place):
    start(command(place, "Write b.txt"))
    more = [*TURNS, {"content": "Nothing is left to do."}]
    done = start([*command(place, "Anything left?", turns=more), "--resume", "last"])
    assert done.returncode == 0, done.stderr
    assert "  you: Anything left?" in done.stdout.splitlines()
    assert "  Nothing is left to do." in done.stdout.splitlines()
    assert "records the same" in openk2(place, "replay", "last").stdout


def test_a_budget_ends_the_run_and_more_of_it_lets_it_go_on(place):
    turns = [call("list_files", path="."), {"content": "Half of it."}, FINISH]
    done = start([*command(place, "Write b.txt", turns=turns), "--steps", "1"])
    assert done.returncode == 1
    assert any("budget (steps 1 of 1)" in line for line in done.stdout.splitlines())
    words = [*command(place, turns=turns), "--resume", "last"]
    assert "raise it" in start(words).stderr
    (place / "work" / "b.txt").write_text("x")
    done = start([*words, "--steps", "9"])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words, told",
    [
        ([], "say what to do"),
        (["x", "--rule", "permit everything"], "must begin with allow, ask or deny"),
        (["x", "--prices", "cheap"], "write three numbers"),
        (["x", "--resume", "nothing"], "there is no run 'nothing'"),
        (["x", "--model", "script:missing.json"], "cannot read the script"),
        (["x", "--base-url", "http://127.0.0.1:9/v1"], "127.0.0.1:9"),
        (["x", "--base-url", "not an address"], "--base-url"),
    ],
)
def test_what_is_wrong_from_the_start_is_one_sentence(place, words, told):
    done = start(
        [*OPENK2, "agent", *words, "--runs", str(place / "runs")], stdin=subprocess.DEVNULL
    )
    assert done.returncode == 2
    assert told in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_at_a_terminal_it_asks_and_takes_no_for_an_answer(place):
    turns = [call("fetch", url="http://example.com/"), {"content": "Then not."}]
    words = [word for word in command(place, "Fetch it", turns=turns) if word != "--offline"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(words[0], words)
    seen, answers = b"", {b"[n]": b"n\n", "回车结束".encode(): b"\n"}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ready, _, _ = select.select([terminal], [], [], 0.5)
        try:
            seen += os.read(terminal, 65536) if ready else b""
        except OSError:  # the other side is gone
            break
        for question in [one for one in answers if one in seen]:
            os.write(terminal, answers.pop(question))
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert not answers
    records, _ = read(the_run(place) / NAME)
    kinds = {record.kind: record for record in records}
    assert kinds["approval"].data == "no"
    assert "tool" not in kinds
    assert Path(records[0].data["workspace"]) == place / "work"


@needs_sandbox
def test_heavy_mode_makes_attempts_and_reflects_on_them(place):
    turns = [
        call("write_file", path="answer.txt", content="42\n"),
        call("finish", status="complete", summary="It is 42.", artifacts=["answer.txt"]),
    ]
    words = [*command(place, "Find the answer", turns=turns), "--heavy", "2"]
    done = start(words)
    assert done.returncode == 0, done.stderr
    assert "✓ complete (2 of 2 attempts agree)" in done.stdout.splitlines()
    assert (place / "work" / "answer.txt").read_text() == "42\n"
    journals = len(list((place / "runs").rglob(NAME)))
    replayed = openk2(place, "replay", "last")
    assert replayed.returncode == 0 and replayed.stdout.count("records the same") == 3
    again = start([*command(place, turns=[]), "--resume", "last"])
    assert again.returncode == 0, "what is done is not done again"
    assert len(list((place / "runs").rglob(NAME))) == journals
