"""The agent: ask the model, carry out its calls, until it finishes or a budget ends it.

Everything uncertain passes through the journal (`journal.py`), so this program does the same again
when a run is resumed or replayed. `Agent._step` reads as one step goes.

In: a goal, a model, tools, a journal. Out: how the run ended; artefacts in the workspace.
Must not know: HTTP, any vendor, or what any tool does.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from openk2.agent.budget import Limits, Spent, exhausted, newly_low
from openk2.agent.calculation import CalculationSettings, CalculationWatch
from openk2.agent.calls import Caller, Outcome
from openk2.agent.canonical import digest, from_json, to_json
from openk2.agent.context import Context, ContextSettings
from openk2.agent.drift import DriftSettings, due, parse, question, reminder, stalled
from openk2.agent.exchange import Exchanges, TooLong
from openk2.agent.fallback import offer
from openk2.agent.journal import EndOfJournal, Journal
from openk2.agent.model import ChatModel, ModelError, ModelRequest, Reply
from openk2.agent.models.retry import Patience
from openk2.agent.repeat import RepeatLimits
from openk2.agent.tool import Call, Tool, ToolResult
from openk2.agent.tools.plan import Board
from openk2.types import Event, Message, Sampling, ToolSpec

Status = Literal["complete", "blocked", "answered", "budget", "repeat"]
"""The model finished through the tool, says what blocks it, or answered in text; or it was asked
for its last answer because a budget was used up or it went in circles."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run goes; part of its journal."""

    goal: str
    system: str = ""
    constraints: tuple[str, ...] = ()
    """Rules of the task; they stay in view word for word."""
    limits: Limits = Limits()
    context: ContextSettings = ContextSettings()
    repeats: RepeatLimits = RepeatLimits()
    drift: DriftSettings = DriftSettings()
    calculation: CalculationSettings = CalculationSettings()
    sampling: Sampling | None = None
    """None: as the endpoint does by itself."""
    window: int = 131_072
    """Tokens of prompt and answer together."""
    answer_tokens: int = 16_384
    """Of the window, what a prompt leaves free; at most a quarter of it."""
    patience: Patience = Patience()
    """How often a model is asked again before the run pauses."""
    nudges: int = 2
    """Times that a model that stops in the middle of its plan is asked to go on."""

    @property
    def prompt_tokens(self) -> int:
        """The most that a prompt may have."""
        return self.window - min(self.answer_tokens, self.window // 4)


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended."""

    status: Status
    summary: str
    reason: str = ""
    """The limit that ended it."""
    artifacts: tuple[str, ...] = ()
    """Files made for people, as paths in the workspace."""
    spent: Spent = Spent()


@dataclass(slots=True)
class Live:
    """What a run shows while it goes on, and what it takes in; nothing of it in a replay."""

    on_event: Callable[[Event], None] = lambda event: None
    """Sees the model's words as they come."""
    words: list[str] = field(default_factory=list[str])
    """What a person says while the run goes on; read before each step."""
    limits: Limits | None = None
    """New limits in place of the run's."""
    after: Callable[[Result], Awaitable[None]] | None = None
    """Told of a result; it may bring more words."""


@dataclass(slots=True)
class Agent:
    """One run."""

    settings: Settings
    model: ChatModel
    tools: Callable[[], Sequence[Tool]]
    """The tools there are now; asked before each step, for servers come and go."""
    caller: Caller
    journal: Journal
    board: Board
    """Holds the plan that the tools `update_plan` and `finish` work on."""
    live: Live = field(default_factory=Live)
    context: Context = field(init=False)
    spent: Spent = Spent()
    _offered: tuple[str, list[Tool]] = ("", [])
    _exchanges: Exchanges = field(init=False)
    _weighed: str = ""
    """The tools with which the prompt was counted last."""
    _reminders: list[str] = field(default_factory=list[str])
    _nudged: int = 0
    _watch: CalculationWatch = field(init=False)
    _warned: frozenset[str] = frozenset()
    _artifacts: dict[str, None] = field(default_factory=dict[str, None])
    _clock: tuple[float, float] = (0.0, 0.0)
    limits: Limits = field(init=False)
    """Those of the settings, until a person gives others."""

    def __post_init__(self) -> None:
        """Begin the conversation with what always stays in it."""
        rules = "".join(f"\n- {rule}" for rule in self.settings.constraints)
        system = self.settings.system + (f"\n\nRules of this task:{rules}" if rules else "")
        self.context = Context(
            [Message("system", system.strip())] if system.strip() else [], self.settings.context
        )
        self._clock = (0.0, time.monotonic())
        self.limits = self.settings.limits
        # At once: a second call of one answer works on the plan that the first one wrote.
        self.caller.on_result = self._note_plan
        self._watch = CalculationWatch(self.settings.calculation)
        self._exchanges = Exchanges(
            self.model, self.journal, self.settings.patience, self.live.on_event
        )

    async def run(self) -> Result:
        """Work until the goal is reached or the run must end.

        A run that has ended goes on if there are new words or limits.

        Raises:
            ModelError: The endpoint does not answer; the run can be resumed.
            ContextFull: What must stay in the conversation exceeds the model's window.
            Diverged, EndOfJournal: As the journal says.
        """
        opening = {"model": self.model.name, "workspace": str(self.caller.workspace)}
        self.journal.note("run", "run", {**opening, "settings": to_json(self.settings)})
        self.context.begin_task(self.settings.goal)
        for turn in itertools.count(1):
            result = None
            while result is None:
                result = await self._step(self.spent.steps + 1)
            self.journal.note("result", f"result {turn}", to_json(result))
            key = f"more {turn}"
            if self.live.after is not None and not self.journal.holds(key):
                await self.live.after(result)
            # A larger budget for a run that was cut off reopens only what a budget closed.
            larger = self.live.limits is not None and result.status in ("budget", "repeat")
            if not (self.live.words or larger or self.journal.holds(key)):
                return result
            await self._go_on(key)
        raise AssertionError("itertools.count never ends")

    async def _go_on(self, key: str) -> None:
        async def look() -> dict[str, Any]:
            words, self.live.words = self.live.words, []
            return {"words": words, "limits": self._new_limits()}

        more = await self.journal.observe("more", key, look)
        self._take_limits(more["limits"])
        self.context.begin_task("\n\n".join(more["words"]) or "Go on.")

    def _new_limits(self) -> Any:
        limits, self.live.limits = self.live.limits, None
        return None if limits is None else to_json(limits)

    def _take_limits(self, limits: Any) -> None:
        self.caller.guard.blocked = 0
        self.spent = dataclasses.replace(self.spent, errors=0)
        if limits is not None:
            self.limits = from_json(Limits, limits)
            self._warned = frozenset()

    async def _step(self, step: int) -> Result | None:
        tools = await self._look_around(step)
        if self.caller.guard.hopeless:
            return await self._last_answer(step, "repeat", "the same calls again and again")
        if used := exhausted(self.limits, self.spent):
            return await self._last_answer(step, "budget", used.text)
        self._warn_of_limits()
        await self._check_course(step)
        reply = await self._ask(step, offer(tools, self.caller.health, step))
        self.context.append(reply.message)
        by_hand = self._watch.look(
            step, reply.message, (tool.name for tool in tools), self.context.heard()
        )
        self._remind(by_hand)
        if not reply.message.tool_calls:
            return self._without_calls(reply, by_hand)
        outcomes = await self.caller.run(step, reply.message.tool_calls, tools, self._seconds_left)
        finished = [self._take(outcome) for outcome in outcomes]
        return next((result for result in finished if result is not None), None)

    # Before the model is asked

    async def _look_around(self, step: int) -> list[Tool]:
        """Read the clock, what the person said, and which tools there are."""
        here = {tool.name: tool for tool in self.tools()}

        async def look() -> dict[str, Any]:
            passed, since = self._clock
            words, self.live.words = self.live.words, []
            descriptions = [_description(tool) for tool in here.values()]
            name = digest(descriptions)
            return {
                "seconds": round(passed + time.monotonic() - since, 3),
                "words": words,
                "tools": name,
                # Most steps offer what the step before did.
                "described": None if name == self._offered[0] else descriptions,
                "limits": self._new_limits(),
            }

        seen = await self.journal.observe("step", f"step {step}", look)
        self._clock = (seen["seconds"], time.monotonic())
        self.spent = dataclasses.replace(self.spent, seconds=seen["seconds"])
        if seen["limits"] is not None:
            self._take_limits(seen["limits"])
        for text in seen["words"]:
            self.context.append(Message("user", text))
        if seen["described"] is not None:
            self._offered = (seen["tools"], [_recall(one, here) for one in seen["described"]])
        return self._offered[1]

    @property
    def _seconds_left(self) -> float:
        limit = self.limits.seconds
        return 1e9 if limit is None else max(1.0, limit - self.spent.seconds)

    def _warn_of_limits(self) -> None:
        low = newly_low(self.limits, self.spent, self._warned)
        if low:
            self._warned |= {use.name for use in low}
            self._remind(
                f"The budget runs low ({'; '.join(use.text for use in low)}): keep to what the "
                "goal needs, and finish before it is used up."
            )

    async def _check_course(self, step: int) -> None:
        """See whether the run still serves its goal, and say so if not."""
        drift, board = self.settings.drift, self.board
        self._remind(stalled(step, board.moved_at, board.plan, drift))
        if not due(step, drift):
            return
        done = self.context.actions()[-2 * drift.every :]
        asked = question(self.settings.goal, self.settings.constraints, board.plan, done, drift)
        reply = await self._exchange("drift", f"drift {step}", ModelRequest(asked))
        if isinstance(reply, Reply):
            self._remind(reminder(parse(reply.message.content), self.settings.goal))

    def _remind(self, text: str) -> None:
        if text:
            self._reminders.append(text)

    # The model

    async def _ask(self, step: int, tools: Sequence[Tool], *, last: bool = False) -> Reply:
        if self._reminders:
            told = "\n".join(self._reminders)
            self.journal.note("reminder", f"reminder {step}", told)
            self.context.append(Message("user", f"<reminder>\n{told}\n</reminder>"))
            self._reminders.clear()
        specs = tuple(tool.spec for tool in tools)
        choice = "none" if last else "auto"
        limit = self.settings.prompt_tokens
        for attempt in range(4):
            key = f"model {step}" + (f" again {attempt}" if attempt else "")
            count = self._exchanges.counter(key, specs)
            if self._weighed != self._offered[0]:
                self._weighed = self._offered[0]
                await self.context.weigh(count)

            async def summarise(messages: Sequence[Message], key: str = key) -> str:
                asked = ModelRequest(tuple(messages), specs, "none", self.settings.sampling)
                return await self._summarise(key, asked)

            view = await self.context.fit(limit, count, summarise)
            for number, change in enumerate(view.changes):
                self.journal.note("context", f"{key} change {number}", to_json(change))
            request = ModelRequest(view.messages, specs, choice, self.settings.sampling)
            reply = await self._exchange("model", key, request)
            if isinstance(reply, Reply):
                self.context.observe(view, reply.usage.prompt_tokens)
                return reply
            # The endpoint counts otherwise than we do: believe it.
            limit = min(limit, view.tokens) * 3 // 4
        raise ModelError(
            f"{self.model.name} refuses the conversation as too long even at {limit:,} tokens; "
            "set the model's true window with --window",
            "too_long",
        )

    async def _summarise(self, key: str, request: ModelRequest) -> str:
        reply = await self._exchange("summary", f"{key} summary", request)
        return reply.message.content if isinstance(reply, Reply) else ""

    async def _exchange(self, kind: str, key: str, request: ModelRequest) -> Reply | TooLong:
        answer = await self._exchanges.ask(kind, key, request)
        if isinstance(answer, TooLong):
            return answer
        spent = self.spent.plus_reply(answer.reply.usage, answer.cost)
        self.spent = dataclasses.replace(spent, steps=self.spent.steps + (kind == "model"))
        return answer.reply

    # What it answers

    def _take(self, outcome: Outcome) -> Result | None:
        """Tell the model what a call brought, and see whether it ends the run."""
        details = outcome.result.details
        self.context.append(
            Message("tool", outcome.content, tool_call_id=outcome.call.id, name=outcome.call.name),
            handle=outcome.handle or "",
            pin="plan" if "plan" in details else "",
            details=details,
        )
        self._remind(outcome.reminder)
        self.spent = self.spent.plus_call(failed=not outcome.ok)
        if "spent" in details:
            self.spent = self.spent.plus_child(from_json(Spent, details["spent"]))
        for path in outcome.result.artifacts:
            self._artifacts[str(path)] = None
        if outcome.ok and "finish" in details:
            return self._result(details["finish"]["status"], details["finish"]["summary"])
        return None

    def _note_plan(self, details: Mapping[str, Any]) -> None:
        self.board.take(details, self.spent.steps)

    def _without_calls(self, reply: Reply, by_hand: str) -> Result | None:
        """Take an answer in text for the end, unless it stops in the middle of something."""
        open_items = self.board.plan.unsettled if self.board.plan else ()
        cut_off = reply.finish == "length"
        if self._nudged == self.settings.nudges or not (open_items or cut_off or by_hand):
            return self._result("answered", reply.message.content)
        self._nudged += 1
        if cut_off:
            self._remind("Your answer was cut off at its length limit. Go on where it ended.")
        elif open_items:
            names = ", ".join(f"{item.id} ({item.text})" for item in open_items)
            self._remind(f"You stopped, and the plan has open items: {names}. Go on, or finish.")
        return None

    async def _last_answer(self, step: int, status: Status, reason: str) -> Result:
        self._remind(
            f"This run ends now ({reason}). Call no tool. Give your last answer: what is done, "
            "what is not, and where the results are."
        )
        reply = await self._ask(step, self._offered[1], last=True)
        self.context.append(dataclasses.replace(reply.message, tool_calls=()))
        return self._result(status, reply.message.content, reason)

    def _result(self, status: Status, summary: str, reason: str = "") -> Result:
        return Result(status, summary, reason, tuple(self._artifacts), self.spent)


def _description(tool: Tool) -> dict[str, Any]:
    return to_json(
        {
            "spec": tool.spec,
            "writes": tool.writes,
            "capability": tool.capability,
            "cost": tool.cost,
            "timeout": tool.timeout,
        }
    )


def _recall(description: dict[str, Any], here: dict[str, Tool]) -> Tool:
    """Return the tool that is described: the one that is here, or what is left of it."""
    spec = from_json(ToolSpec, description["spec"])
    tool = here.get(spec.name)
    if tool is not None and digest(_description(tool)) == digest(description):
        return tool

    async def gone(arguments: Any, call: Call) -> ToolResult:
        raise EndOfJournal(f"{spec.name} is not there any more")

    rest = {name: description[name] for name in ("writes", "capability", "cost", "timeout")}
    return Tool(spec=spec, run=tool.run if tool else gone, **rest)
