"""BFCL, version 4, conversations of several turns: calls are carried out, and states compared.

In: the packs. Out: cases, conversations with the systems, scores.
Must not know: how any of the systems works.

After each turn of the user, the systems that the model's calls have changed must be as the right
calls leave them, and every result of the right calls must be among the model's, as the public
scorer demands. The long-context questions are left out: their padding is not in the pack.
"""

from __future__ import annotations

import ast
import copy
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from openk2.agent.model import ChatModel
from openk2.evals.acting import act, total
from openk2.evals.ast_match import Call
from openk2.evals.benchmark import Answer, AskSettings, Benchmark, Case, Scores
from openk2.evals.bfcl_worlds.files import GorillaFileSystem
from openk2.evals.bfcl_worlds.numbers import MathAPI
from openk2.evals.bfcl_worlds.people import MessageAPI, TicketAPI, TwitterAPI
from openk2.evals.bfcl_worlds.trading import TradingBot
from openk2.evals.bfcl_worlds.travel import TravelAPI
from openk2.evals.bfcl_worlds.vehicle import VehicleControlAPI
from openk2.evals.bfcl_worlds.world import Refused, World
from openk2.evals.decisions import decoded_all
from openk2.evals.tool_docs import tool_of
from openk2.text.corpus import read_rows
from openk2.types import Message, ToolSpec, Usage

PACK, DOCS = "eval/bfcl_v4_multi_turn.jsonl.zst", "eval/bfcl_v4_multi_turn_func_doc.jsonl.zst"
_WORLDS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], World]]] = {
    "GorillaFileSystem": ("gorilla_file_system", GorillaFileSystem),
    "MathAPI": ("math_api", MathAPI),
    "MessageAPI": ("message_api", MessageAPI),
    "TicketAPI": ("ticket_api", TicketAPI),
    "TradingBot": ("trading_bot", TradingBot),
    "TravelAPI": ("travel_booking", TravelAPI),
    "TwitterAPI": ("posting_api", TwitterAPI),
    "VehicleControlAPI": ("vehicle_control", VehicleControlAPI),
}
"""The pack's name of a system: of its documentation, and the system."""
_MORE_TOOLS = "Some more functions are here now. Does that help?"
_MISTAKES = (TypeError, ValueError, KeyError, AttributeError, IndexError, ArithmeticError)
"""What a call with wrong arguments runs into inside a system."""


class Systems:
    """The systems of one conversation."""

    def __init__(self, names: Sequence[str], config: Mapping[str, Any]) -> None:
        """Set them up as the conversation begins."""
        self._worlds = [_WORLDS[name][1](config.get(name, {})) for name in names]

    def state(self) -> list[Any]:
        """Return what scoring compares."""
        return [world.state() for world in self._worlds]

    def call(self, name: str, named: Mapping[str, Any], unnamed: Sequence[Any] = ()) -> str:
        """Carry a call out and return its result as the model reads it."""
        # A later system's function hides an earlier one's of the same name.
        found = [getattr(w, name) for w in self._worlds if not _hidden(name) and hasattr(w, name)]
        if not found:
            return f"Error during execution: there is no function {name}"
        try:
            # A system keeps what it is given and may change it later: the case must stay as it is.
            result: Any = found[-1](*copy.deepcopy(unnamed), **copy.deepcopy(dict(named)))
        except Refused as error:
            result = {"error": str(error)}
        except _MISTAKES as error:
            return f"Error during execution: {error}"
        if not isinstance(result, dict):
            return str(result)
        try:
            return json.dumps(cast(dict[str, Any], result))
        except TypeError:  # a decimal number
            return str(cast(dict[str, Any], result))


def _hidden(name: str) -> bool:
    return name.startswith("_") or name == "state"


def cases(data: Path) -> Iterator[Case]:
    """Read the conversations; `gold` is the right calls of each turn."""
    docs = {row["class"]: row["functions"] for row in read_rows(data / DOCS)}
    for row in read_rows(data / PACK):
        if row["category"] == "multi_turn_long_context":
            continue
        names: list[str] = row["involved_classes"]
        left_out = set(row.get("excluded_function") or ())
        later: dict[str, list[str]] = row.get("missed_function") or {}
        functions = [one for name in names for one in docs[_WORLDS[name][0]]]
        tools = {one["name"]: tool_of(one) for one in functions if one["name"] not in left_out}
        hidden = {name for missed in later.values() for name in missed}
        yield Case(
            id=row["id"],
            group=row["category"].removeprefix("multi_turn_"),
            messages=_messages(row["question"][0]),
            tools=tuple(tool for name, tool in tools.items() if name not in hidden),
            gold=[[_written(text) for text in turn] for turn in row["ground_truth"]],
            meta={
                "turns": row["question"][1:],
                "systems": names,
                "config": row["initial_config"],
                "later": {
                    turn: [_json(tools[one]) for one in ones] for turn, ones in later.items()
                },
            },
        )


def _messages(said: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    return tuple(Message(one["role"], one["content"]) for one in said)


def _json(tool: ToolSpec) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": tool.parameters}


def _written(text: str) -> list[Any]:
    """Read a right call, which is written as Python: name, arguments, and those without a name."""
    node = ast.parse(text.strip(), mode="eval").body
    assert isinstance(node, ast.Call)
    named = {one.arg: ast.literal_eval(one.value) for one in node.keywords if one.arg is not None}
    return [ast.unparse(node.func), named, [ast.literal_eval(one) for one in node.args]]


async def answer(case: Case, model: ChatModel, settings: AskSettings) -> Answer:
    """Hold the conversation: turns of the user as written, calls carried out.

    A turn of the user ends when the model calls nothing. If that has not come after
    `settings.max_steps` answers, the conversation ends there.
    """
    systems, began = Systems(case.meta["systems"], case.meta["config"]), time.monotonic()
    said: list[Message] = list(case.messages)
    tools, usage, stopped = case.tools, Usage(0, 0), True
    for turn in range(len(case.gold)):
        if turn > 0:
            asked = _messages(case.meta["turns"][turn - 1])
            said += asked or (Message("user", _MORE_TOOLS),)
        tools += tuple(ToolSpec(**one) for one in case.meta["later"].get(str(turn), ()))
        stopped, used = await act(said, model, tools, settings, lambda call: systems.call(*call))
        usage = total(usage, used)
        if not stopped:
            break
    new = tuple(said[len(case.messages) :])
    return Answer(new, "stop" if stopped else "length", usage, time.monotonic() - began)


def score(case: Case, answer: Answer) -> Scores:
    """Carry out both rows of calls and compare, turn by turn."""
    turns = calls_by_turn(answer.messages)
    right = _turns_right(case, turns)
    whole = len(case.gold)
    done = answer.finish != "length" and len(turns) == whole
    return {"accuracy": float(done and right == whole), "turns": right / whole}


def calls_by_turn(messages: Sequence[Message]) -> list[list[Call]]:
    """Return the calls of each turn of the user; those that cannot be read are none."""
    turns: list[list[Call]] = [[]]
    for place, message in enumerate(messages):
        if message.role == "user" and place and messages[place - 1].role != "user":
            turns.append([])
        for call in message.tool_calls:
            turns[-1] += decoded_all([call]) or []
    return turns


def _turns_right(case: Case, turns: Sequence[Sequence[Call]]) -> int:
    """Count the turns that are right up to the first that is not."""
    ours, theirs = (Systems(case.meta["systems"], case.meta["config"]) for _ in range(2))
    results: list[str] = []
    for number, (calls, gold) in enumerate(zip(turns, case.gold, strict=False)):
        results += [ours.call(*call) for call in calls]
        wanted = [theirs.call(*one) for one in gold]
        if not gold:
            continue
        if not calls or ours.state() != theirs.state() or not _among(wanted, results):
            return number
    return min(len(turns), len(case.gold))


def _among(wanted: Sequence[str], results: Sequence[str]) -> bool:
    left = list(results)
    for one in wanted:
        if one not in left:
            return False
        left.remove(one)
    return True


BENCHMARKS = (
    Benchmark(
        name="bfcl_multi_turn",
        about="Berkeley Function Calling Leaderboard v4, several turns: calls are carried out, and "
        "the state after each turn compared (without long context).",
        about_zh="伯克利函数调用榜 v4 的多轮题：执行调用并比较每轮之后的状态（不含长上下文）。",
        licence="Apache-2.0",
        source="ShishirPatil/gorilla@6ea57973c7a6, one half of it by hash of the id",
        packs=(PACK, DOCS),
        headline="accuracy",
        cases=cases,
        score=score,
        answer=answer,
        failed={"accuracy": 0.0, "turns": 0.0},
        total=False,
    ),
)
