"""One step's tool calls: checked, approved, carried out, and written down.

Calls that only read run together, calls that change something one at a time and in the model's
order. Nothing a model writes can raise out of here: a call that cannot be carried out becomes a
result that says why and what to do instead.

In: the calls of one answer. Out: one outcome per call, in order.
Must not know: the model, the conversation, budgets.
"""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import jsonschema_rs

from openk2.agent import fallback
from openk2.agent.approval import Policy
from openk2.agent.canonical import CodecError, digest, from_json, parse_json, to_json
from openk2.agent.fallback import Health
from openk2.agent.journal import Journal
from openk2.agent.repeat import RepeatGuard
from openk2.agent.tool import Access, Call, ErrorKind, Tool, ToolError, ToolResult
from openk2.types import ToolCall

Fault = Literal["no_tool", "repeat", "duplicate"]

INTERRUPTED = (
    "The run was interrupted while this call was being carried out. Whether it took effect is not "
    "known: check before you repeat it."
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call."""

    call: ToolCall
    content: str
    """What the model reads."""
    error: ErrorKind | Fault | None = None
    result: ToolResult = ToolResult("")
    handle: str | None = None
    """Under which the whole result is kept, where it is longer than a few lines."""
    reminder: str = ""
    """What the model should be told besides the result."""
    tried: tuple[tuple[str, ErrorKind | None], ...] = ()
    """Tools that were called for it, and how they failed."""

    @property
    def ok(self) -> bool:
        """Whether the call was carried out and succeeded."""
        return self.error is None and not self.result.failed


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is asked before a call."""

    tool: str
    arguments: Mapping[str, Any]
    access: Access
    reason: str


Answer = Literal["once", "session", "no"]
Approve = Callable[[Question], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class ResultStore:
    """Keeps whole results on disk and gives the model what fits."""

    folder: Path
    most_characters: int = 20_000
    """Longest result that the model is shown whole; about 5,000 tokens."""
    keep_from: int = 800
    """Shortest result that is kept; shorter ones are never worth hiding."""

    def read(self, handle: str) -> str | None:
        """Return a whole result; None if none is kept under this handle."""
        if not re.fullmatch(r"r[0-9]+", handle):
            return None
        path = self.folder / f"{handle}.txt"
        return path.read_text("utf-8") if path.is_file() else None

    def keep(self, handle: str, content: str) -> tuple[str, str | None]:
        """Keep a result.

        Returns:
            What the model is shown, and the handle if the whole was kept.
        """
        if len(content) < self.keep_from:
            return content, None
        self.folder.mkdir(parents=True, exist_ok=True)
        # Lone surrogates can be in what a model wrote and a tool repeats.
        kept = content.encode("utf-8", errors="replace")
        (self.folder / f"{handle}.txt").write_bytes(kept)
        if len(content) <= self.most_characters:
            return content, handle
        head, tail = self.most_characters * 3 // 5, self.most_characters * 2 // 5
        left_out = len(content) - head - tail
        middle = (
            f'\n[… {left_out:,} characters left out; read_result(handle="{handle}") has them …]\n'
        )
        return content[:head] + middle + content[-tail:], handle


@dataclass(slots=True)
class Caller:
    """Carries out calls for one run."""

    journal: Journal
    workspace: Path
    policy: Policy
    approve: Approve
    store: ResultStore
    guard: RepeatGuard = field(default_factory=RepeatGuard)
    health: Health = field(default_factory=Health)
    tainted: bool = False
    """Whether text of strangers is in the conversation."""
    progress: Callable[[str, str], None] = lambda call_id, text: None
    """Shows a call's output as it comes."""
    on_result: Callable[[Mapping[str, Any]], None] = lambda details: None
    """Takes over what a result holds for the run, before the next call of the answer."""
    _handles: int = 0
    _validators: dict[str, jsonschema_rs.Validator] = field(
        default_factory=dict[str, jsonschema_rs.Validator]
    )

    async def run(
        self, step: int, calls: Sequence[ToolCall], tools: Sequence[Tool], seconds: float
    ) -> list[Outcome]:
        """Carry out the calls of one answer.

        Args:
            step: The answer's number.
            calls: What the model asks for.
            tools: What there is.
            seconds: What the run's clock leaves.
        """
        by_name = {tool.name: tool for tool in tools}
        outcomes: list[Outcome | None] = [None] * len(calls)
        reads: list[tuple[int, _Checked]] = []
        first: dict[str, str] = {}
        place = _Place(step, seconds, tools)
        for index, call in enumerate(calls):
            self._handles += 1
            checked = self._check(call, by_name, first, f"r{self._handles}")
            if isinstance(checked, Outcome):
                rejected = {"name": call.name, "error": checked.error, "content": checked.content}
                self.journal.note("rejected", f"{step}.{index} rejected", rejected)
                outcomes[index] = checked
                continue
            refusal = await self._ask(f"{step}.{index}", checked)
            if refusal is not None:
                self.guard.ran(checked.key, "refused")
                outcomes[index] = refusal
            elif checked.tool.writes:
                await self._together(place, reads, outcomes)
                await self._together(place, [(index, checked)], outcomes)
            else:
                reads.append((index, checked))
        await self._together(place, reads, outcomes)
        return [outcome for outcome in outcomes if outcome is not None]

    def _check(
        self, call: ToolCall, tools: Mapping[str, Tool], first: dict[str, str], handle: str
    ) -> _Checked | Outcome:
        tool = tools.get(call.name)
        if tool is None:
            near = difflib.get_close_matches(call.name, tools, 3, 0.4) or sorted(tools)[:12]
            text = f"There is no tool {call.name!r}. Use one of: {', '.join(near)}."
            return Outcome(call, text, "no_tool")
        try:
            arguments = self._arguments(call, tool)
        except ToolError as error:
            return Outcome(call, str(error), "bad_arguments")
        key = digest([call.name, arguments])
        if key in first:
            text = f"The same call as {first[key]} of this answer: it was carried out once."
            return Outcome(call, text, "duplicate")
        first[key] = call.id
        verdict = self.guard.check(key)
        if verdict == "block":
            text = (
                "Not carried out: this call, with these arguments, has brought the same result "
                "again and again. Use what you know already, change the arguments, take another "
                "tool, or finish and say what blocks you."
            )
            return Outcome(call, text, "repeat")
        reminder = ""
        if verdict == "remind":
            reminder = (
                f"{call.name} was called with the same arguments again and brings the same result; "
                "soon it will not be carried out any more. Try something else."
            )
        return _Checked(call, tool, arguments, key, handle, reminder)

    def _arguments(self, call: ToolCall, tool: Tool) -> dict[str, Any]:
        try:
            arguments: Any = parse_json(call.arguments or "{}")
        except CodecError as error:
            raise ToolError(
                f"The arguments of {call.name} are not JSON ({error}): write one object that fits "
                "the tool's schema.",
                "bad_arguments",
            ) from error
        if not isinstance(arguments, dict):
            raise ToolError(
                f"The arguments of {call.name} are not an object: write one that fits the tool's "
                "schema.",
                "bad_arguments",
            )
        key = digest(tool.spec.parameters)
        if key not in self._validators:
            self._validators[key] = jsonschema_rs.validator_for(
                to_json(tool.spec.parameters),
                pattern_options=jsonschema_rs.RegexOptions(),
                offline=True,
            )
        problems = [
            f"{'.'.join(map(str, error.instance_path)) or 'arguments'}: {error.message[:300]}"
            for error in self._validators[key].iter_errors(arguments)
        ]
        if problems:
            raise ToolError(
                f"The arguments of {call.name} do not fit its schema: {'; '.join(problems[:5])}.",
                "bad_arguments",
            )
        return cast(dict[str, Any], arguments)

    async def _ask(self, key: str, checked: _Checked) -> Outcome | None:
        tool, arguments = checked.tool, checked.arguments

        async def look() -> dict[str, Any]:
            access = tool.access(arguments, self.workspace)
            decision = self.policy.decide(
                tool.name, access, workspace=self.workspace, tainted=self.tainted
            )
            found = {"verdict": decision.verdict, "reason": decision.reason, "access": access}
            return to_json(found)

        found = await self.journal.observe("permission", f"{key}?", look)
        if found["verdict"] == "allow":
            return None
        if found["verdict"] == "deny":
            return self._refused(checked, f"A rule forbids this call ({found['reason']})")
        access = from_json(Access, found["access"])
        question = Question(tool.name, arguments, access, found["reason"])

        async def perform() -> Answer:
            return await self.approve(question)

        answer = await self.journal.effect("approval", f"{key}!", to_json(question), perform)
        if answer == "session":
            self.policy = self.policy.with_session_rule(
                tool.name, access, workspace=self.workspace, tainted=self.tainted
            )
        if answer == "no":
            return self._refused(checked, f"The user refused this call ({found['reason']})")
        return None

    def _refused(self, checked: _Checked, why: str) -> Outcome:
        text = f"{why}. Find another way, or finish and say what you need."
        return Outcome(checked.call, text, "refused", reminder=checked.reminder)

    async def _together(
        self,
        place: _Place,
        batch: list[tuple[int, _Checked]],
        outcomes: list[Outcome | None],
    ) -> None:
        done = await asyncio.gather(
            *(self._one(f"{place.step}.{index}", checked, place) for index, checked in batch)
        )
        for (index, checked), outcome in zip(batch, done, strict=True):
            self.guard.ran(checked.key, digest([outcome.error, outcome.content]))
            self.tainted = self.tainted or outcome.result.untrusted
            self.on_result(outcome.result.details)
            for name, error in outcome.tried:
                if self.health.record(name, error, place.step):
                    rest = {"tool": name, "until": self.health.rests_until(name)}
                    self.journal.note("breaker", f"{place.step}.{index} {name} rests", rest)
            outcomes[index] = outcome
        batch.clear()

    async def _one(self, key: str, checked: _Checked, place: _Place) -> Outcome:
        """Carry out one call, by another tool of its capability if its own is out of order."""
        tool, step = checked.tool, place.step
        resting = fallback.refusal(tool, place.tools, self.health, step)
        if resting is None:
            outcome = await self._carry_out(key, checked, place.seconds)
        else:
            outcome = Outcome(checked.call, resting, "unavailable", reminder=checked.reminder)
        if outcome.error not in ("unavailable", "timeout"):
            return outcome
        other = fallback.stand_in(
            tool, checked.arguments, outcome.error, place.tools, self.health, step
        )
        if other is not None:
            substitute = dataclasses.replace(checked, tool=other)
            if await self._ask(f"{key} {other.name}", substitute) is None:
                second = await self._carry_out(f"{key} {other.name}", substitute, place.seconds)
                if second.error is None:
                    note = fallback.stood_in(tool, outcome.content, other)
                    return dataclasses.replace(
                        second,
                        content=f"{note}\n{second.content}",
                        tried=(*outcome.tried, *second.tried),
                    )
                outcome = dataclasses.replace(outcome, tried=(*outcome.tried, *second.tried))
        if resting is None and tool.capability:
            instead = fallback.alternatives(tool, place.tools, self.health, step)
            outcome = dataclasses.replace(outcome, content=f"{outcome.content} {instead}")
        return outcome

    async def _carry_out(self, key: str, checked: _Checked, seconds: float) -> Outcome:
        call = checked.call

        async def perform() -> dict[str, Any]:
            return await self._perform(checked, seconds)

        async def interrupted() -> dict[str, Any]:
            return {"content": INTERRUPTED, "error": "failed", "result": {"content": ""}}

        done = await self.journal.effect(
            "tool",
            key,
            {"id": call.id, "name": checked.tool.name, "arguments": checked.arguments},
            perform,
            interrupted if checked.tool.writes else None,
        )
        error = done.get("error")
        return Outcome(
            call,
            done["content"],
            error,
            from_json(ToolResult, done["result"]),
            done.get("handle"),
            checked.reminder,
            ((checked.tool.name, error),),
        )

    async def _perform(self, checked: _Checked, seconds: float) -> dict[str, Any]:
        tool = checked.tool
        limit = max(0.0, min(tool.timeout, seconds))
        call = Call(
            checked.call.id,
            self.workspace,
            limit,
            lambda text: self.progress(checked.call.id, text),
        )
        began = time.monotonic()
        error: ErrorKind | None = None
        result = ToolResult("")
        try:
            async with asyncio.timeout(limit):
                found = await tool.run(checked.arguments, call)
            to_json(found)  # what a journal cannot hold is the tool's defect
            result, content = found, found.content
        except ToolError as problem:
            content, error = str(problem), problem.kind
        except TimeoutError:
            content = (
                f"{tool.name} did not end within {limit:g} s and was stopped. Split the work, or "
                "use a quicker way."
            )
            error = "timeout"
        except Exception as problem:  # noqa: BLE001 - a tool's defect must not end the run
            content = f"{tool.name} broke: {type(problem).__name__}: {problem}. Use another tool."
            error = "unavailable"
        shown, handle = self.store.keep(checked.handle, content)
        return {
            "content": shown or "(no output)",
            "error": error,
            "handle": handle,
            "seconds": round(time.monotonic() - began, 3),
            "characters": len(content),
            "result": to_json(dataclasses.replace(result, content="")),
        }


@dataclass(frozen=True, slots=True)
class _Place:
    step: int
    seconds: float
    tools: Sequence[Tool]


@dataclass(frozen=True, slots=True)
class _Checked:
    call: ToolCall
    tool: Tool
    arguments: dict[str, Any]
    key: str
    handle: str
    reminder: str
