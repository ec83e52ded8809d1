"""Whole runs over endpoints and models that misbehave: the goal is met, the journal holds."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from openk2.agent.journal import NAME, Journal, read
from openk2.agent.loop import Result
from openk2.agent.model import ModelRequest
from openk2.agent.models.anthropic import AnthropicMessages
from openk2.agent.models.chaos import TROUBLES, Chaos
from openk2.agent.models.openai import OpenAIChat
from openk2.agent.models.retry import Patience
from openk2.agent.models.scripted import Scripted
from openk2.agent.replay import replay
from openk2.agent.tool import ToolResult
from openk2.types import Message, validate_history
from tests.agent import runs
from tests.agent.models.chat_server import call, chunk
from tests.agent.models.fault_server import Step, named_stream, response, serving, stream
from tests.agent.models.test_anthropic import START, end, text, thinking, tool

QUICK = Patience(base=0.001, cap=0.002)
FINISH = json.dumps({"status": "complete", "summary": "done"})
BUSY = response(429, {"error": {"message": "slow down"}}, {"Retry-After": "0"})
BROKEN = response(500, {"error": {"message": "oops"}})


def chat(name: str, arguments: str, identity: str) -> list[Step]:
    return stream(
        chunk({"reasoning_content": f"now {name}"}),
        chunk({"tool_calls": [call(0, identity, name, arguments[:4])]}),
        chunk({"tool_calls": [call(0, None, None, arguments[4:])]}),
        chunk({}, "tool_calls", usage={"prompt_tokens": 50, "completion_tokens": 9}),
    )


def messages(name: str, arguments: str, identity: str) -> list[Step]:
    return named_stream(
        START, *thinking(0, f"now {name}"), *text(1, "so"),
        *tool(2, identity, name, arguments[:4], arguments[4:]), *end("tool_use"),
    )  # fmt: skip


def cut(steps: list[Step]) -> list[Step]:
    return [*steps[: len(steps) // 2], "reset"]


@pytest.mark.parametrize(("kind", "turn"), [(OpenAIChat, chat), (AnthropicMessages, messages)])
def test_429_then_500_then_half_a_stream_lose_nothing(tmp_path: Path, kind: Any, turn: Any):
    first, last = turn("add", '{"n": 5}', "c1"), turn("finish", FINISH, "c2")
    world = runs.World()

    async def run() -> tuple[Result, list[Any]]:
        path = "/chat/completions" if kind is OpenAIChat else "/v1/messages"
        answers = BUSY, BROKEN, cut(first), first, BROKEN, cut(last), last
        async with serving(*answers, path=path) as (server, url):
            model, journal = kind(url, "kimi"), Journal.create(tmp_path)
            try:
                agent = runs.agent(tmp_path, journal, model, world, patience=QUICK)
                return await agent.run(), server.asked
            finally:
                journal.close()
                await model.close()

    result, asked = asyncio.run(run())
    assert (result.status, world.total, result.spent.steps) == ("complete", 5, 2)
    assert len(asked) == 7
    records, _ = read(tmp_path / NAME)
    faults = [record.data["fault"] for record in records if record.kind == "retry"]
    assert faults == ["busy", "server", "broken_stream", "server", "broken_stream"]
    again = asyncio.run(replay(tmp_path))
    assert again.result == result


def counting(request: ModelRequest) -> Message:
    """Add 1, 2, …, 20, one a turn, as far as the conversation shows; then finish."""
    validate_history(request.messages)
    made = sum(
        message.role == "tool" and message.content.startswith("total")
        for message in request.messages
    )
    if made >= 20:
        return runs.says("", ("finish", json.loads(FINISH)))
    return runs.says(f"step {made}", ("add", {"n": made + 1}), reasoning="on")


@pytest.mark.parametrize("seed", range(4))
def test_a_run_through_chaos_comes_to_its_end(tmp_path: Path, seed: int):
    rates = dict.fromkeys(TROUBLES, 0.04)
    model = Chaos(Scripted([counting] * 400), seed, rates=rates, retry_after=0.0, pause=0.0)
    world = runs.World()
    result = runs.run(tmp_path, model, world, patience=QUICK)
    assert result.status == "complete", result
    assert len(world.done) >= 20 and len(set(model.happened)) >= 5
    assert asyncio.run(replay(tmp_path)).result == result


@pytest.mark.parametrize(
    "arguments",
    [
        '{"what": NaN}',
        '{"what": 1e999}',
        f'{{"what": {"[" * 600}{"]" * 600}}}',
        '{"what": "\\ud800"}',
    ],
)
def test_arguments_that_python_reads_and_json_does_not_have_end_no_run(
    tmp_path: Path, arguments: str
):
    class Loose(runs.World):
        def tools(self) -> list[Any]:
            return [
                *super().tools(),
                self._tool("any", {"type": "object"}, self.look, writes=False),
            ]

        async def look(self, arguments: Any, call: Any) -> ToolResult:
            return ToolResult("seen", details={"told": arguments, "mean": float("nan")})

    model = Scripted(
        [runs.says("", ("any", arguments)), runs.says("", ("finish", json.loads(FINISH)))]
    )
    result = runs.run(tmp_path, model, Loose())
    assert result.status == "complete"
    assert asyncio.run(replay(tmp_path)).result == result


@pytest.mark.parametrize("details", [{"raw": b"x"}, {"deep": json.loads("[" * 500 + "]" * 500)}])
def test_details_that_no_journal_can_hold_are_the_tools_defect(tmp_path: Path, details: Any):
    class Odd(runs.World):
        async def look(self, arguments: Any, call: Any) -> ToolResult:
            return ToolResult("seen", details=details)

    model = runs.Asked(
        Scripted(
            [runs.says("", ("look", {"what": "x"})), runs.says("", ("finish", json.loads(FINISH)))]
        )
    )
    assert runs.run(tmp_path, model, Odd()).status == "complete"
    assert "look broke: CodecError: value.details" in model.last_words[1]
