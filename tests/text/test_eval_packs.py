"""Every evaluation pack gives its questions and its tools to the check against contamination."""

from __future__ import annotations

from pathlib import Path

import pytest

from openk2.text.eval_packs import PACKS, eval_texts, eval_tool_names, pack_name

DATA = Path(__file__).resolve().parents[2] / "data"


def test_every_pack_has_a_row():
    files = {pack_name(path) for path in (DATA / "eval").iterdir()}
    assert files - PACKS.keys() == set(), "say in PACKS where its questions and tools are"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return list(eval_texts(DATA))


def test_questions_of_each_kind_of_pack_are_among_the_texts(texts: list[str]):
    known = {
        "Solve the quadratic equation with coefficients a = 1, b = 2, and c = 3.",  # BFCL
        "I need to find a unisex salon.",  # SGD
        'google "odell beckham free agency"',  # CLINC150
        "You are Yusuf Rossi in zip code 19122.",  # τ²
        'Analyze the backlinks for the website "https://www.example.com".',  # Seal-Tools
        "Sure, let me search for that.",  # API-Bank
    }
    assert known - set(texts) == set()
    assert len(texts) > 20_000 and sum(map(len, texts)) > 3_000_000


def test_tools_of_each_kind_of_pack_are_among_the_names():
    names = set(eval_tool_names(DATA))
    known = {
        "math.sum", "authenticate_twitter", "turn_on_wifi", "exchange_delivered_order_items",
        "BookAppointment", "analyseBacklinks", "SkyScrapperFlightSearch", "schedule_meeting",
        "ToolSearcher", "detail_adriel_project",
    }  # fmt: skip
    assert known - names == set()
    assert len(names) > 2000


def test_a_pack_without_a_row_gives_all_its_strings(tmp_path: Path):
    folder = tmp_path / "eval"
    folder.mkdir()
    (folder / "new.jsonl").write_text('{"a": ["one", {"b": "two"}], "n": 3}\n')
    assert list(eval_texts(tmp_path)) == ["one", "two"]
    assert list(eval_tool_names(tmp_path)) == []
