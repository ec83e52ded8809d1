"""What a journal promises: nothing lost, nothing done twice, nothing changed unseen."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from openk2.agent.journal import NAME, Diverged, EndOfJournal, Journal, JournalError, read


class World:
    """Something uncertain: every performance is counted and brings another number."""

    def __init__(self, start=0):
        self.performed = []
        self.start = start

    def perform(self, name):
        async def do():
            self.performed.append(name)
            return {"n": self.start + len(self.performed)}

        return do


async def program(journal, world, steps):
    found = []
    for step in range(steps):
        seen = await journal.observe("look", f"look {step}", world.perform(f"look {step}"))
        done = await asyncio.gather(
            *(
                journal.effect(
                    "act", f"act {step}.{i}", {"after": seen}, world.perform(f"{step}.{i}")
                )
                for i in range(3)
            )
        )
        journal.note("sum", f"sum {step}", sum(one["n"] for one in done))
        found += done
    return found


def run(journal, world, steps=4):
    return asyncio.run(program(journal, world, steps))


def test_a_run_is_performed_once_and_remembered_for_ever(tmp_path):
    journal, world = Journal.create(tmp_path), World()
    first = run(journal, world)
    assert len(world.performed) == 16
    journal.close()

    again = World(start=1000)
    assert run(Journal.replay(tmp_path), again) == first
    assert again.performed == []

    resumed = Journal.resume(tmp_path)
    assert run(resumed, again, steps=5)[:12] == first
    assert again.performed == ["look 4", "4.0", "4.1", "4.2"]
    resumed.close()
    records, size = read(tmp_path / NAME)
    assert size == (tmp_path / NAME).stat().st_size
    assert [record.seq for record in records] == list(range(len(records)))


@pytest.mark.parametrize("kept", range(0, 29))
def test_a_run_that_was_cut_off_anywhere_goes_on_from_there(tmp_path, kept):
    journal, world = Journal.create(tmp_path), World()
    whole = run(journal, world)
    journal.close()
    path = tmp_path / NAME
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4 * 8
    ended = [json.loads(line) for line in lines[:kept]]
    ended = {record["key"] for record in ended if record["phase"] == "end"}
    path.write_bytes(b"".join(lines[:kept]) + lines[kept][: len(lines[kept]) // 2])

    with pytest.raises(EndOfJournal):
        run(Journal.replay(tmp_path), World())

    world = World(start=1000)
    resumed = Journal.resume(tmp_path)
    found = run(resumed, world)
    resumed.close()
    assert len(found) == len(whole) == 12
    assert len(world.performed) == 16 - len(ended)
    assert run(Journal.replay(tmp_path), World()) == found


def test_an_interrupted_effect_can_be_met_otherwise_than_by_doing_it_again(tmp_path):
    async def dies():
        raise RuntimeError("the process is gone")

    async def perform():
        raise AssertionError("performed twice")

    async def unknown():
        return "unknown"

    journal = Journal.create(tmp_path)
    with pytest.raises(RuntimeError, match="gone"):
        asyncio.run(journal.effect("pay", "pay", {}, dies))
    journal.close()
    journal = Journal.resume(tmp_path)
    assert asyncio.run(journal.effect("pay", "pay", {}, perform, unknown)) == "unknown"
    journal.close()


def test_another_request_or_note_under_a_key_is_noticed(tmp_path):
    journal = Journal.create(tmp_path)
    asyncio.run(journal.effect("act", "a", {"x": 1}, World().perform("a")))
    journal.note("sum", "s", 3)
    journal.close()
    replayed = Journal.replay(tmp_path)
    with pytest.raises(Diverged, match="act a"):
        asyncio.run(replayed.effect("act", "a", {"x": 2}, World().perform("a")))
    with pytest.raises(Diverged, match=r"was 3, and is now 4"):
        replayed.note("sum", "s", 4)
    resumed = Journal.resume(tmp_path)
    with pytest.raises(Diverged, match="goes on with sum s"):
        asyncio.run(resumed.effect("act", "b", {}, World().perform("b")))
    resumed.close()


@pytest.mark.parametrize("change", ["a digit", "a line less", "another order", "a foreign line"])
def test_a_changed_journal_is_refused_and_the_line_named(tmp_path, change):
    journal = Journal.create(tmp_path)
    run(journal, World(), steps=2)
    journal.close()
    path = tmp_path / NAME
    lines = path.read_bytes().splitlines(keepends=True)
    match change:
        case "a digit":
            lines[4] = lines[4].replace(b'"n":', b'"n":1')
        case "a line less":
            del lines[4]
        case "another order":
            lines[4], lines[5] = lines[5], lines[4]
        case "a foreign line":
            lines[4] = b'{"v":1}\n'
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match=f"{NAME}:5"):
        Journal.replay(tmp_path)


def test_another_version_is_refused_with_what_to_do(tmp_path):
    (tmp_path / NAME).write_text('{"v":99,"seq":0}\n')
    with pytest.raises(JournalError, match="version 99"):
        Journal.replay(tmp_path)


def test_two_processes_cannot_write_one_journal(tmp_path):
    journal = Journal.create(tmp_path)
    with pytest.raises(JournalError, match="in use"):
        Journal.resume(tmp_path)
    with pytest.raises(JournalError, match="exists"):
        Journal.create(tmp_path)
    journal.close()
    Journal.resume(tmp_path).close()


def test_a_full_disk_is_a_sentence_and_costs_no_record(tmp_path):
    journal = Journal.create(tmp_path)
    journal.note("sum", "s", 1)
    full, journal._file = journal._file, os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(JournalError, match="cannot be written: No space left"):
        journal.note("sum", "t", 2)
    os.close(journal._file)
    journal._file = full
    journal.note("sum", "t", 2)
    journal.close()
    records, _ = read(tmp_path / NAME)
    assert [record.data for record in records] == [1, 2]


def test_half_a_record_does_not_stay(tmp_path):
    journal = Journal.create(tmp_path)
    journal.note("sum", "s", 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.path.stat().st_size + 50, hard))
    try:
        with pytest.raises(JournalError, match="cannot be written"):
            journal.note("sum", "t", "x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    journal.note("sum", "t", 2)
    journal.close()
    records, _ = read(tmp_path / NAME)
    assert [record.data for record in records] == [1, 2]


def test_remarks_are_kept_and_not_repeated(tmp_path):
    journal = Journal.create(tmp_path)
    journal.remark("retry", "m", {"seconds": 1})
    asyncio.run(journal.effect("act", "a", {}, World().perform("a")))
    journal.close()
    replayed = Journal.replay(tmp_path)
    asyncio.run(replayed.effect("act", "a", {}, World().perform("a")))
    replayed.remark("retry", "m", {"seconds": 2})
    assert list(replayed.unvisited) == []
    assert [record.kind for record in replayed.records] == ["retry", "act", "act"]


CHILD = """
import asyncio, sys
from pathlib import Path
from openk2.agent.journal import Journal

async def main():
    journal = Journal.create(Path(sys.argv[1]))
    async def perform():
        return {"text": "x" * 2000}
    for step in range(1_000_000):
        await journal.effect("act", f"act {step}", {}, perform)
        print(step, flush=True)

asyncio.run(main())
"""


def test_what_was_reported_done_survives_kill_9(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    reported = [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    journal = Journal.resume(tmp_path / "run")
    last = max([*reported, 19])
    assert journal.holds(f"act {last}")
    journal.close()
