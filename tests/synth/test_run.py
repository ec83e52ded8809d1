"""A run gives the same files however it is worked on, and keeps nothing that does not hold."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.envs.catalogue import HELD_OUT, domain, names
from openk2.envs.env import Session
from openk2.envs.rubric import score
from openk2.envs.task import read_task, task_json
from openk2.synth.config import SynthConfig
from openk2.synth.duplicates import Duplicates, signature
from openk2.synth.overlap import Overlap
from openk2.synth.run import OtherRunError, here, read_rows, synthesise
from openk2.synth.stages import STAGES, Part, Row, domain_of
from openk2.synth.trajectories import Trajectory, read_messages, read_tools
from openk2.synth.verify import verify
from openk2.synth.workers import Processes, RayCluster
from openk2.text.eval_packs import eval_tool_names
from openk2.types import Message

CONFIG = SynthConfig(count=90, domains=("calendar", "retail"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    synthesise(CONFIG, out)
    return out


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def solved(run: Path, count: int) -> list[tuple[Row, Trajectory]]:
    rows = [row for row in read_rows(run / "trajectories.jsonl") if "messages" in row]
    return [
        (
            row,
            Trajectory(
                read_task(row["task"]),
                row["manner"],
                read_tools(row["tools"]),
                read_messages(row["messages"]),
            ),
        )
        for row in rows[:count]
    ]


def test_a_run_is_the_same_in_one_process_and_in_two(run: Path, tmp_path: Path) -> None:
    synthesise(CONFIG, tmp_path, mapper=Processes(2))
    assert contents(tmp_path) == contents(run)


def test_an_interrupted_run_ends_as_an_uninterrupted_one(run: Path, tmp_path: Path) -> None:
    def dies(work: object, config: SynthConfig, first: int) -> Iterator[Part]:
        yield from itertools.islice(here(work, config, first), 1)  # type: ignore[arg-type]
        with (tmp_path / "train.jsonl").open("ab") as half:
            half.write(b'{"id": "half a r')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesise(CONFIG, tmp_path, mapper=dies)
    synthesise(CONFIG, tmp_path)
    assert contents(tmp_path) == contents(run)


def test_a_folder_with_another_run_is_refused(run: Path) -> None:
    with pytest.raises(OtherRunError, match="seed"):
        synthesise(dataclasses.replace(CONFIG, seed=1), run)


def test_stage_by_stage_over_files_is_the_same_as_all_at_once(run: Path) -> None:
    before = "domains"
    for name, stage in STAGES.items():
        source = [*read_rows(run / f"{before}.jsonl")][:3]
        if name == "verified":
            kept = {row["id"]: row for row in read_rows(run / "train.jsonl")}
            made = [out for row in source for out in stage(row, CONFIG) if "rejected" not in out]
            assert made == [kept[row["id"]] for row in made]
            return
        made = [json.loads(json.dumps(out)) for row in source for out in stage(row, CONFIG)]
        assert made == [*read_rows(run / f"{name}.jsonl")][: len(made)]
        before = name


def test_what_is_kept_passed_every_check(run: Path) -> None:
    rows = [*read_rows(run / "train.jsonl")]
    assert len(rows) == CONFIG.count
    assert all(value == 1 for row in rows for value in row["verdict"].values())
    assert all(row["licence"] and row["domain_version"] and "seed" in row for row in rows)
    multi = [row for row in rows if sum(m["role"] == "user" for m in row["messages"]) > 1]
    assert len(multi) > len(rows) // 5
    assert {row["lang"] for row in rows} == {"en", "zh"}
    assert any(m.get("reasoning") for row in rows for m in row["messages"])


def test_a_changed_conversation_is_rejected(run: Path) -> None:
    changed = 0
    for _, one in solved(run, 12):
        assert not verify(one, domain_of(one.task)).rejected
        for at, message in enumerate(one.messages):
            other = None
            if message.role == "tool":
                other = dataclasses.replace(message, content='{"id": "Z00000"}')
            elif message.tool_calls:
                call = dataclasses.replace(message.tool_calls[0], name="no_such_tool")
                other = dataclasses.replace(message, tool_calls=(call, *message.tool_calls[1:]))
            if other is not None:
                wrong = (*one.messages[:at], other, *one.messages[at + 1 :])
                checked = verify(dataclasses.replace(one, messages=wrong), domain_of(one.task))
                assert checked.rejected, (at, message)
                changed += 1
    assert changed > 20


def test_ids_out_of_nowhere_are_noticed(run: Path) -> None:
    found = False
    for _, one in solved(run, 40):
        session = Session(domain_of(one.task), one.task)
        # Without the reads, the same calls change the world in the same way, by clairvoyance.
        writes = {tool.name for tool in session.domain.tools if tool.writes}
        for message in one.messages:
            if message.role != "assistant" or session.done:
                continue
            if message.tool_calls and not all(c.name in writes for c in message.tool_calls):
                continue
            session.move(message)
        verdict = score(session)
        found |= verdict.values["no_invented_ids"][0] == 0 and verdict.values["state"][0] == 1
    assert found


def test_a_task_is_the_same_after_a_file(run: Path) -> None:
    for row in read_rows(run / "users.jsonl"):
        assert task_json(read_task(row)) == row


WORDS = st.lists(st.sampled_from("abcdefghijklmnop"), min_size=12, max_size=40)


@settings(max_examples=30, deadline=None)
@given(WORDS, st.integers(0, 11))
def test_near_duplicates_are_found_and_others_are_not(words: list[str], at: int) -> None:
    kept = Duplicates(0.5)
    assert not kept.seen(signature(" ".join(words)))
    assert kept.seen(signature(" ".join(words)))
    other = [f"{word}{number}" for number, word in enumerate(words)]
    assert not kept.seen(signature(" ".join(other)))


def test_overlap_finds_eight_words_in_a_row() -> None:
    overlap = Overlap(["Please book me a table for two at the Ritz tomorrow."], ["你好吗"])

    def said(text: str) -> Row:
        return {"messages": [{"role": "user", "content": text}]}

    assert "me a table for two at the" in overlap.found(
        said("OK: book me a table, for two at THE Ritz")
    )
    assert not overlap.found(said("book me a table for two at noon"))
    assert overlap.found(said("你好吗？"))
    assert not overlap.found(
        {"messages": [{"role": "tool", "content": "book me a table for two at the Ritz"}]}
    )


def test_no_tool_that_is_trained_on_has_a_name_of_an_evaluation_pack() -> None:
    asked_for = set(eval_tool_names(Path("data")))
    assert len(asked_for) > 1000
    learned = [name for name in names() if name not in HELD_OUT]
    assert not [
        tool.name for name in learned for tool in domain(name).tools if tool.name in asked_for
    ]


@pytest.mark.slow
def test_a_run_is_the_same_on_ray(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the `scale` extra")
    synthesise(CONFIG, tmp_path, mapper=RayCluster("local"))
    assert contents(tmp_path) == contents(run)


@pytest.mark.slow
def test_thousands_of_tasks_prove_themselves(tmp_path: Path) -> None:
    config = SynthConfig(count=4000, seed=5)
    progress = synthesise(config, tmp_path, mapper=Processes(2))
    assert sum(progress.rejected.values()) < config.count // 4, progress.rejected
    for number, row in enumerate(read_rows(tmp_path / "users.jsonl")):
        task = read_task(row)
        domain = domain_of(task)
        assert score(Session(domain, task)).score == 0
        if number % 10 == 0:
            silent = Session(domain, task)
            silent.move(Message("assistant", ""))
            assert score(silent).score == 0
