"""A conversation is held turn by turn; calls act on the systems, and late tools come late."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from openk2.agent.model import ModelRequest, Price
from openk2.evals.benchmark import Answer, AskSettings, Case
from openk2.evals.bfcl_multi_turn import Systems, answer, cases, score
from openk2.types import (
    Event,
    Finish,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
    Usage,
    validate_history,
)

DATA = Path(__file__).resolve().parents[2] / "data"


class Player:
    """Makes the calls it is given, one an answer, and says `Done.` after each turn."""

    name = "player"
    context_window = 4096
    price = Price()

    def __init__(self, turns: Sequence[Sequence[Sequence[Any]]]) -> None:
        self.moves: Iterator[Sequence[Any] | None] = (
            move for turn in turns for move in (*turn, None)
        )
        self.requests: list[ModelRequest] = []

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Event]:
        validate_history(request.messages)
        self.requests.append(request)
        move = next(self.moves)
        if move is None:
            yield TextDelta("Done.")
        else:
            name, named, unnamed = move
            tool = next(one for one in request.tools if one.name == name)
            given = dict(zip(tool.parameters["properties"], unnamed, strict=False)) | named
            yield ToolCallStart(0, f"functions.{name}:0", name)
            yield ToolCallArguments(0, json.dumps(given))
        yield Finish("stop")
        yield Usage(10, 2)

    async def count_tokens(self, request: ModelRequest) -> int:
        return 1

    async def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def known() -> dict[str, Case]:
    return {case.id: case for case in cases(DATA)}


def hold(case: Case, turns: Sequence[Any], steps: int = 20) -> tuple[Answer, Player]:
    player = Player(turns)
    return asyncio.run(answer(case, player, AskSettings(max_steps=steps))), player


def test_the_right_calls_make_a_right_conversation(known: dict[str, Case]):
    case = known["multi_turn_base_0"]
    said, player = hold(case, case.gold)
    assert score(case, said) == {"accuracy": 1.0, "turns": 1.0}
    calls = sum(map(len, case.gold))
    assert said.usage == Usage(10 * len(player.requests), 2 * len(player.requests))
    assert len(player.requests) == calls + len(case.gold)
    results = [message.content for message in said.messages if message.role == "tool"]
    assert results[0] == '{"current_working_directory": "document"}'


def test_a_withheld_tool_is_there_from_its_turn_on(known: dict[str, Case]):
    case = known["multi_turn_miss_func_0"]
    said, player = hold(case, case.gold)
    assert score(case, said)["accuracy"] == 1.0
    offered = [{tool.name for tool in request.tools} for request in player.requests]
    assert "sort" not in offered[0] and "sort" in offered[-1] and "cp" not in offered[-1]
    assert any("more functions" in message.content for message in said.messages)


def test_one_who_never_stops_is_stopped(known: dict[str, Case]):
    case = known["multi_turn_base_0"]
    endless = [[["ls", {}, []]] * 50]
    said, player = hold(case, endless, steps=3)
    assert said.finish == "length" and len(player.requests) == 3
    assert score(case, said)["accuracy"] == 0.0


def test_a_call_leaves_the_case_as_it_was():
    systems = Systems(["TwitterAPI"], {"TwitterAPI": {"authenticated": True}})
    people = ["@a"]
    systems.call("post_tweet", {"content": "hi", "mentions": people})
    assert json.loads(systems.call("mention", {"tweet_id": 0, "mentioned_usernames": ["@b"]}))
    assert people == ["@a"]
    assert json.loads(systems.call("get_tweet", {"tweet_id": 0}))["mentions"] == ["@a", "@b"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (("_bound", {}), "there is no function"),
        (("state", {}), "there is no function"),
        (("nothing", {}), "there is no function"),
        (("cd", {}), "Error during execution"),
        (("cd", {"folder": 3}), "Error during execution"),
        (("cd", {"folder": ".."}), '{"error": '),
    ],
)
def test_a_wrong_call_is_a_result_not_an_end(call: tuple[str, dict[str, Any]], said: str):
    assert said in Systems(["GorillaFileSystem"], {}).call(*call)
