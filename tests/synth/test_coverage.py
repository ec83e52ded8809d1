"""The catalogue's APIs become domains without what evaluations ask for, and are counted."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import zstandard

from openk2.envs.catalogue import HELD_OUT
from openk2.synth.coverage import Reached, counts, draw, positions, reached
from openk2.synth.tool_catalogue import FEWEST, MOST, eval_tools, finder, groups
from openk2.synth.variants import Variant, vary

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small data folder: an API of 45 tools, small ones, one tool that is evaluated on."""
    schema = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}

    def row(api: str, name: str) -> str:
        return json.dumps({
            "source": "mcpm", "domain": "Shop", "api": api, "name": name,
            "description": f"Get the {name} of {api}.", "parameters": schema,
        })  # fmt: skip

    rows = [row("Big One", f"get_thing_{n}") for n in range(45)] + [row("Big One", "get_a")]
    rows += [row("Small A", "get_a"), row("Small A", "no name"), row("Small B", "get_b")]
    rows += [row("Small C", "get_c"), row("Small C", "asked_in_a_benchmark")]
    (tmp_path / "tools").mkdir()
    (tmp_path / "eval").mkdir()
    asked = {"question": "?", "tools": ['{"name": "asked_in_a_benchmark", "parameters": {}}']}
    (tmp_path / "eval" / "bench.jsonl").write_text(json.dumps(asked), encoding="utf-8")
    packed = zstandard.compress("\n".join(rows).encode())
    (tmp_path / "tools" / "tool_catalogue.jsonl.zst").write_bytes(packed)
    return tmp_path


def test_apis_become_domains_and_evaluated_tools_stay_out(data: Path) -> None:
    found = groups(data)
    sizes = {name: len(group.rows) for name, group in found.items()}
    assert sizes == {
        "catalogue.big-one": 15, "catalogue.big-one-2": 15, "catalogue.big-one-3": 16,
        "catalogue.shop": 3,
    }  # fmt: skip
    assert {row["name"] for row in found["catalogue.shop"].rows} == {"get_a", "get_b", "get_c"}
    assert eval_tools(data / "eval") == {"asked_in_a_benchmark"}
    numbers = counts(reached(data))
    assert numbers["by_source"]["MCP servers"] == {"domains": 4, "tools": 49}


@pytest.mark.slow
def test_real_tools_are_not_those_of_evaluations() -> None:
    names = eval_tools(ROOT / "data" / "eval")
    assert {"analyseBacklinks", "detail_adriel_project", "turn_on_wifi"} <= names
    found = groups(ROOT / "data")
    assert len(found) >= 300 and sum(len(group.rows) for group in found.values()) >= 5000
    for group in found.values():
        assert FEWEST <= len(group.rows) <= MOST
        assert not names & {row["name"] for row in group.rows}


def test_domains_of_the_catalogue_can_be_changed_and_lend_their_tools(data: Path) -> None:
    find = finder(data)
    for name in groups(data):
        one = vary(find(name), (Variant("rename", 1), Variant("distract", 2, "calendar")), find)
        assert any(i.draw(one.world(0), Random(0)) is not None for i in one.intents)
        lent = vary(find("calendar"), (Variant("distract", 3, name),), find)
        assert len(lent.tools) > len(find("calendar").tools)
    assert find("calendar").name == "calendar"


def test_hand_written_domains_are_counted_without_those_held_out() -> None:
    tools = reached(None)
    assert not {tool.domain for tool in tools} & set(HELD_OUT)
    numbers = counts(tools)
    assert (
        numbers["domains"] >= 15
        and numbers["distinct_tools_with_goals"] == numbers["distinct_tools"]
    )


def test_tools_that_are_described_alike_lie_close(tmp_path: Path) -> None:
    about = {"mail": "send an email message to a person", "map": "find the route to a city"}
    tools = [
        Reached(kind, kind, f"{kind}_{n}", f"{text} {n}", asked=n > 1)
        for kind, text in about.items()
        for n in range(6)
    ]
    plane = positions([tool.description for tool in tools])
    assert np.array_equal(plane, positions([tool.description for tool in tools]))
    apart = np.linalg.norm(plane[:6].mean(axis=0) - plane[6:].mean(axis=0))
    assert apart > 1.5 and np.isfinite(plane).all()
    numbers = counts(tools)
    assert (numbers["domains"], numbers["tools"], numbers["distinct_tools_with_goals"]) == (
        2,
        12,
        8,
    )
    draw(tools, tmp_path / "map.png", numbers)
    assert (tmp_path / "map.png").stat().st_size > 5_000
