"""Many calls in a row, each with what the one before brought: how far does an agent get?

In: how long a task is. Out: answers of an agent in the loop that runs agents here; whether the
state at the end is right, and which share of the calls went well before the first that did not.
Must not know: how the loop keeps a conversation within a window, or who the model is.

Two tasks. A trail: every station gives the code that opens the next. A queue: every order is
fetched, its goods are set aside, and it is shipped with the number of that. Each is there with
9 to 300 calls, so that a model that cannot do 300 shows where it fails.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from openk2.agent.approval import Policy
from openk2.agent.budget import Limits
from openk2.agent.calls import Caller, ResultStore
from openk2.agent.canonical import from_json
from openk2.agent.context import ContextFull
from openk2.agent.journal import Journal, Record
from openk2.agent.loop import Agent, Live, Settings
from openk2.agent.model import ChatModel, ModelError, Reply
from openk2.agent.repeat import RepeatGuard
from openk2.agent.tool import Call, Tool, ToolError, ToolResult
from openk2.agent.tools.finish import finish
from openk2.agent.tools.plan import Board
from openk2.evals.benchmark import Answer, AskSettings, Benchmark, Case, Scores
from openk2.types import Message, ToolSpec, Usage

Kind = Literal["trail", "queue"]

LENGTHS = (9, 30, 99, 300)
"""Calls that a task needs; each a multiple of the three that an order takes."""
SEEDS = 5
"""Tasks of each kind and length."""
SPARE_STEPS = 20
"""Turns beyond those that a task needs: to finish, and to recover from a few slips."""
_TURN_TOKENS = 512
_SYSTEM = "You carry out tasks by calling tools. Do one call at a time and read its result."
_GOALS: Mapping[Kind, str] = {
    "trail": (
        "Walk a trail of {count} stations to its end. Begin with the tool visit, station 1 and"
        " code {code}; every result gives the next station and its code. When a result says that"
        " the trail ends, call finish."
    ),
    "queue": (
        "Ship all {count} waiting orders, one after the other. For each one: next_order, with"
        " `after` the order before it (for the first one {code}); reserve its item and quantity;"
        " ship it with the reservation. When next_order says that none is left, call finish."
    ),
}


@dataclass(slots=True)
class Work:
    """The state of one task, and what its tools do to it. Every number follows from the seed."""

    kind: Kind
    seed: int
    count: int
    """Stations, or orders."""
    done: list[str] = field(default_factory=list[str])
    """What was reached, in order."""
    _reserved: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def complete(self) -> bool:
        """Whether the task is done, and nothing else was."""
        wanted = [str(number) for number in range(1, self.count + 1)]
        if self.kind == "queue":
            wanted = [self._order(number) for number in range(1, self.count + 1)]
        return self.done == wanted

    @property
    def start(self) -> str:
        """The code with which the task begins."""
        return self._code("station", 1) if self.kind == "trail" else self._order(0)

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Carry out a call and return its result.

        Raises:
            ToolError: It is refused; nothing was changed.
        """
        match name:
            case "visit":
                result = self._visit(arguments["station"], arguments["code"])
            case "next_order":
                result = self._next_order(arguments["after"])
            case "reserve":
                result = self._reserve(**arguments)
            case "ship":
                result = self._ship(arguments["order_id"], arguments["reservation_id"])
            case _:
                raise ToolError(f"There is no tool {name}.", "bad_arguments")
        return json.dumps(result)

    def _code(self, *what: object) -> str:
        text = "/".join(map(str, (self.kind, self.seed, *what)))
        return hashlib.sha256(text.encode()).hexdigest()[:5]

    def _visit(self, station: int, code: str) -> dict[str, Any]:
        expected = len(self.done) + 1
        if station != expected or code != self._code("station", station):
            raise ToolError(f"Station {station} does not open with the code {code}.", "refused")
        self.done.append(str(station))
        if station == self.count:
            return {"trail": "ends here"}
        return {"next_station": station + 1, "code": self._code("station", station + 1)}

    def _order(self, number: int) -> str:
        return f"O-{self._code('order', number)}"

    def _next_order(self, after: str) -> dict[str, Any]:
        number = len(self.done) + 1
        if after != self._order(number - 1):
            raise ToolError(f"{after} is not the order that was shipped last.", "refused")
        if number > self.count:
            return {"orders": "none left"}
        return {"order_id": self._order(number), **self._goods(number)}

    def _goods(self, number: int) -> dict[str, Any]:
        code = self._code("goods", number)
        return {"item": f"I-{code[:4]}", "quantity": int(code, 16) % 9 + 1}

    def _reserve(self, order_id: str, item: str, quantity: int) -> dict[str, Any]:
        number = len(self.done) + 1
        goods = {"item": item, "quantity": quantity}
        if order_id != self._order(number) or goods != self._goods(number):
            raise ToolError(f"{order_id} does not ask for {quantity} of {item}.", "refused")
        self._reserved[order_id] = f"R-{self._code('reservation', number)}"
        return {"reservation_id": self._reserved[order_id]}

    def _ship(self, order_id: str, reservation_id: str) -> dict[str, Any]:
        if self._reserved.get(order_id) != reservation_id or order_id in self.done:
            raise ToolError(f"{reservation_id} is no open reservation of {order_id}.", "refused")
        self.done.append(order_id)
        return {"shipped": order_id}


def _schema(**properties: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }


_TOOLS: Mapping[Kind, tuple[ToolSpec, ...]] = {
    "trail": (
        ToolSpec(
            "visit",
            "Visit a station with its code. Returns the next station and its code.",
            _schema(station="integer", code="string"),
        ),
    ),
    "queue": (
        ToolSpec(
            "next_order",
            "Fetch the order after another one: its id, item and quantity.",
            _schema(after="string"),
        ),
        ToolSpec(
            "reserve",
            "Set an order's goods aside. Returns the reservation's id.",
            _schema(order_id="string", item="string", quantity="integer"),
        ),
        ToolSpec(
            "ship",
            "Ship an order whose goods are reserved.",
            _schema(order_id="string", reservation_id="string"),
        ),
    ),
}


def _cases(data: Path) -> Iterator[Case]:
    del data
    kinds: tuple[Kind, ...] = ("trail", "queue")
    for kind in kinds:
        for length in LENGTHS:
            for seed in range(SEEDS):
                count = length if kind == "trail" else length // 3
                meta = {"kind": kind, "seed": seed, "count": count, "calls": length}
                goal = _GOALS[kind].format(count=count, code=_work(meta).start)
                yield Case(
                    f"horizon/{kind}-{length}-{seed}",
                    f"{kind} {length}",
                    (Message("system", _SYSTEM), Message("user", goal)),
                    _TOOLS[kind],
                    meta=meta,
                )


def _work(meta: Mapping[str, Any]) -> Work:
    return Work(meta["kind"], meta["seed"], meta["count"])


async def _answer(case: Case, model: ChatModel, settings: AskSettings) -> Answer:
    """Run an agent with the task's tools and `finish`."""
    began, kept, work = time.monotonic(), _Kept(), _work(case.meta)
    wanted = Settings(
        goal=case.messages[-1].content,
        system=case.messages[0].content,
        limits=Limits(steps=case.meta["calls"] + SPARE_STEPS),
        sampling=settings.sampling(_TURN_TOKENS),
        window=model.context_window,
        answer_tokens=_TURN_TOKENS,
    )
    with tempfile.TemporaryDirectory(prefix="openk2-eval-") as name:
        folder = Path(name)
        journal = Journal.create(folder, durable=False)
        journal.subscribers.append(kept.record)
        board = Board(wanted.goal)
        tools = [*(_tool(spec, work, kept) for spec in case.tools), finish(board)]
        store, guard = ResultStore(folder / "results"), RepeatGuard(wanted.repeats)
        caller = Caller(journal, folder, Policy(), _nobody, store, guard)
        try:
            agent = Agent(wanted, model, lambda: tools, caller, journal, board, Live())
            result = await agent.run()
        except ContextFull as error:
            raise ModelError(str(error), "too_long") from error
        finally:
            journal.close()
    kept.messages.append(Message("assistant", f"{result.status}: {result.summary}"))
    return Answer(tuple(kept.messages), "stop", kept.usage, time.monotonic() - began)


async def _nobody(question: object) -> Any:
    raise AssertionError(f"these tools touch nothing, so nobody is asked about {question}")


@dataclass(slots=True)
class _Kept:
    """What the model said in a run, and what came back."""

    messages: list[Message] = field(default_factory=list[Message])
    usage: Usage = field(default_factory=lambda: Usage(0, 0))

    def record(self, record: Record, new: bool) -> None:
        """Take a model's reply from the journal."""
        del new
        if record.kind != "model" or record.phase != "end" or "reply" not in record.data:
            return
        reply = from_json(Reply, record.data["reply"])
        self.messages.append(reply.message)
        self.usage = Usage(
            self.usage.prompt_tokens + reply.usage.prompt_tokens,
            self.usage.completion_tokens + reply.usage.completion_tokens,
            self.usage.cached_tokens + reply.usage.cached_tokens,
            self.usage.reasoning_tokens + reply.usage.reasoning_tokens,
        )

    def carried_out(self, call: Call, arguments: Mapping[str, Any], result: str) -> None:
        """Keep a result, and the arguments as the loop read them, which may be mended JSON."""
        index = max(i for i, said in enumerate(self.messages) if said.role == "assistant")
        calls = tuple(
            replace(made, arguments=json.dumps(dict(arguments))) if made.id == call.id else made
            for made in self.messages[index].tool_calls
        )
        self.messages[index] = replace(self.messages[index], tool_calls=calls)
        self.messages.append(Message("tool", result, tool_call_id=call.id))


def _tool(spec: ToolSpec, work: Work, kept: _Kept) -> Tool:
    async def run(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        try:
            result = work.call(spec.name, arguments)
        except ToolError as error:
            kept.carried_out(call, arguments, str(error))
            raise
        kept.carried_out(call, arguments, result)
        return ToolResult(result)

    return Tool(spec=spec, run=run)


def _score(case: Case, answer: Answer) -> Scores:
    """Do the calls again on a fresh state: what is scored is what they do, not what was said."""
    work, good, failed = _work(case.meta), 0, False
    for call in answer.calls:
        if call.name == "finish":
            continue
        try:
            work.call(call.name, json.loads(call.arguments))
        except (ToolError, KeyError, TypeError, ValueError):
            failed = True
        good += not failed
    return {
        "success": float(work.complete and answer.text.startswith("complete")),
        "state": float(work.complete),
        "progress": len(work.done) / case.meta["count"],
        "before_error": min(good, case.meta["calls"]) / case.meta["calls"],
    }


HORIZON = Benchmark(
    name="horizon",
    about="Tasks of 9 to 300 calls that each need what the call before brought, run by the agent.",
    about_zh="需要 9 至 300 次相互依赖的工具调用的任务，由智能体循环执行。",
    licence="Apache-2.0",
    source="openk2/evals/horizon.py",
    packs=(),
    headline="success",
    cases=_cases,
    score=_score,
    answer=_answer,
    failed={"success": 0.0, "state": 0.0, "progress": 0.0, "before_error": 0.0},
)
BENCHMARKS = (HORIZON,)
