"""A language model changes words where every check still holds, and otherwise only rejects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from openk2.agent.model import ModelError, ModelRequest, Price
from openk2.synth.config import SynthConfig
from openk2.synth.llm import Language, keeps_values, polish
from openk2.synth.run import one_part, read_rows, synthesise
from openk2.synth.stages import Part
from openk2.types import Event, Finish, TextDelta, Usage

CONFIG = SynthConfig(count=20, domains=("calendar",))


class Writer:
    """A model that answers by a rule."""

    name = "writer"
    context_window = 100_000
    price = Price()

    def __init__(self, verdict: str = '{"pass": true, "reason": "fine"}', loses: str = "") -> None:
        self.verdict, self.loses = verdict, loses

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Event]:
        question = request.messages[0].content
        if question.startswith("Judge"):
            text = self.verdict
        else:
            line = question.partition("The line: ")[2]
            text = f"Well, {line.replace(self.loses, '') if self.loses else line}"
        if text == "busy":
            raise ModelError("busy", "busy")
        yield TextDelta(text)
        yield Finish("stop")
        yield Usage(1, 1)

    async def count_tokens(self, request: ModelRequest) -> int:
        return 1

    async def close(self) -> None:
        return


def polished(writer: Writer) -> tuple[Language, Part, Part]:
    part = one_part(CONFIG, 0)
    language = Language(writer, CONFIG)
    return language, part, asyncio.run(polish(language, part))


def users(part: Part) -> list[str]:
    rows = [row for row in part.rows["verified"] if "rejected" not in row]
    return [m["content"] for row in rows for m in row["messages"] if m["role"] == "user"]


def test_new_words_are_taken_over_and_the_conversation_still_holds(tmp_path: Path) -> None:
    language, before, after = polished(Writer())
    assert len(users(after)) == len(users(before)) and all(
        t.startswith("Well, ") for t in users(after)
    )
    assert language.counts.reworded == len(users(after))
    synthesise(
        CONFIG, tmp_path, polish=lambda part: asyncio.run(polish(Language(Writer(), CONFIG), part))
    )
    rows = [*read_rows(tmp_path / "train.jsonl")]
    assert len(rows) == CONFIG.count and all(row["model"] == "writer" for row in rows)


def test_words_that_lose_a_value_are_not_taken_over() -> None:
    language, before, after = polished(Writer(loses="2026"))
    lost = [text for text in users(before) if "2026" in text]
    assert lost and all(text in users(after) for text in lost)
    assert language.counts.kept_as_it_was == len(lost)


@pytest.mark.parametrize("verdict", ['{"pass": false, "reason": "rude"}', "nonsense", "busy"])
def test_a_judge_rejects_and_never_accepts(verdict: str) -> None:
    language, before, after = polished(Writer(verdict))
    for row, now in zip(before.rows["verified"], after.rows["verified"], strict=True):
        if "rejected" in row:
            assert now == row
        else:
            assert ("rejected" in now) == ("pass" in verdict)
    assert (language.counts.judged_down > 0) == ("pass" in verdict)
    assert (language.counts.failed > 0) == ("pass" not in verdict)


@pytest.mark.parametrize(
    ("line", "other", "keeps"),
    [
        ("Move Dentist to 2026-03-04 10:00.", "Could Dentist be on 2026-03-04 10:00?", True),
        ("Move Dentist to 2026-03-04 10:00.", "Could Dentist be on 2026-03-05 10:00?", False),
        ("Move Dentist to 2026-03-04 10:00.", "Could it be on 2026-03-04 10:00?", False),
        ("Invite ada@example.com.", "Please invite her: ada@example.com, at 5.", False),
        ("把牙医改到2026年3月4日。", "请将牙医挪到2026年3月4日", True),
    ],
)
def test_what_a_paraphrase_must_keep(line: str, other: str, keeps: bool) -> None:
    assert keeps_values(line, other) is keeps, json.dumps([line, other])
