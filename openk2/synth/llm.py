"""A language model makes conversations richer, and stricter; it can never make one count.

It puts the user's words differently, in character and in context; it fills out the results of
tools that are known by specification only; it judges against a rubric. What it changes is kept
only if every value survives and the conversation, solved again, still passes every check; its
judgement can reject and not accept.

In: verified conversations with their tasks, any chat model. Out: conversations, still verified.
Must not know: which model it is, files.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from openk2.agent.model import ChatModel, ModelError, ModelRequest, ask
from openk2.envs.domain import Domain
from openk2.envs.oracle import Unsolvable
from openk2.envs.persona import PERSONAS
from openk2.envs.slots import Json
from openk2.envs.solution import NoSolution
from openk2.envs.task import Task, call_key
from openk2.synth.config import SynthConfig
from openk2.synth.duplicates import Signature, signature
from openk2.synth.stages import Part, Row, domain_of, read_trajectory
from openk2.synth.trajectories import Trajectory, solve, trajectory_json
from openk2.synth.verify import spoken, verify
from openk2.types import Message, Sampling

_VALUE = re.compile(r"[\w.@+-]*\d[\w.:@/+-]*|[\w.+-]+@[\w.-]+|\b[A-Z][\w'-]+", re.ASCII)
"""What a paraphrase must keep: whatever has a digit, addresses, names."""

REWORD = """You play a user who talks to an assistant. Character: {persona}.
Say the user's line below in other words, in {language}, as this person would write it in a chat. \
Keep every name, number, date, code and address exactly as it is written, add no facts and ask \
for nothing else. Answer with the new line only.

The line: {line}"""
ANSWER = """You simulate a tool. Specification:
{spec}
It was called with {arguments}. Its result so far: {result}
Add up to three more plausible fields. Answer with one JSON object and nothing else."""
JUDGE = """Judge a conversation between a user and an assistant with tools.
Criteria: (1) the assistant does what the user asked and nothing else; (2) it asks when something \
is missing and guesses nothing; (3) its answers say what the results say; (4) the user's lines \
could be a person's; (5) the language is the same throughout.
Answer with one JSON object: {{"pass": true or false, "reason": "one sentence"}}.

{conversation}"""


@dataclass(slots=True)
class Counts:
    """What came of it."""

    reworded: int = 0
    kept_as_it_was: int = 0
    """Lines whose new wording lost a value, or after which the task could not be solved."""
    enriched: int = 0
    judged_down: int = 0
    failed: int = 0
    """Questions that the model did not answer, or not in the form that was asked for."""


@dataclass(slots=True)
class Language:
    """A model at work on conversations."""

    model: ChatModel
    config: SynthConfig
    concurrency: int = 8
    temperature: float = 0.9
    counts: Counts = field(default_factory=Counts)
    _slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        """Bound how many questions are open at one time."""
        self._slots = asyncio.Semaphore(self.concurrency)

    async def work(self, one: Trajectory, domain: Domain) -> tuple[Trajectory, str]:
        """Enrich and judge a conversation.

        Returns:
            The conversation, and why it is rejected; empty if it is not.
        """
        one = await self._reword(one, domain)
        one = await self._enrich(one, domain)
        return one, await self._judge(one)

    async def _reword(self, one: Trajectory, domain: Domain) -> Trajectory:
        lines = [message.content for message in one.messages if message.role == "user"]
        persona = PERSONAS[one.task.persona].en
        language = "English" if one.task.lang == "en" else "Chinese"
        answers = await asyncio.gather(
            *(
                self._ask(REWORD.format(persona=persona, language=language, line=line))
                for line in lines
            )
        )
        words = {
            line: answer
            for line, answer in zip(lines, answers, strict=True)
            if answer is not None and keeps_values(line, answer)
        }
        changed = self._again(replace(one.task, words=words), domain)
        reworded = sum(line in words for line in lines) if changed else 0
        self.counts.reworded += reworded
        self.counts.kept_as_it_was += len(lines) - reworded
        return changed or one

    async def _enrich(self, one: Trajectory, domain: Domain) -> Trajectory:
        """Fill out the results of tools that only have a specification."""
        results = {m.tool_call_id: m.content for m in one.messages if m.role == "tool"}
        calls = [call for message in one.messages for call in message.tool_calls]
        wanted = {
            call_key(call.name, json.loads(call.arguments)): (call, results[call.id])
            for call in calls
            if domain.by_name[call.name].declared is not None
        }
        answers: dict[str, Mapping[str, Json]] = {}
        for key, (call, result) in wanted.items():
            spec = domain.by_name[call.name].spec(one.task.lang)
            about = json.dumps({"name": spec.name, "description": spec.description})
            text = await self._ask(
                ANSWER.format(spec=about, arguments=call.arguments, result=result)
            )
            value = _json_object(text)
            if value is not None:
                answers[key] = value
        if not answers:
            return one
        changed = self._again(replace(one.task, answers=answers), domain)
        self.counts.enriched += len(answers) if changed else 0
        return changed or one

    async def _judge(self, one: Trajectory) -> str:
        text = await self._ask(JUDGE.format(conversation=conversation_text(one.messages)))
        value = _json_object(text)
        if value is None or not isinstance(value.get("pass"), bool):
            self.counts.failed += 1
            return ""
        if value["pass"]:
            return ""
        self.counts.judged_down += 1
        return f"judged down: {value.get('reason', '')}"

    def _again(self, task: Task, domain: Domain) -> Trajectory | None:
        """Solve and verify a changed task, or return None if it no longer holds."""
        try:
            one = solve(task, domain, self.config)
        except (Unsolvable, NoSolution):
            return None
        return None if verify(one, domain).rejected else one

    async def _ask(self, question: str) -> str | None:
        sampling = Sampling(temperature=self.temperature)
        request = ModelRequest((Message("user", question),), sampling=sampling)
        async with self._slots:
            try:
                reply = await ask(self.model, request)
            except ModelError:
                self.counts.failed += 1
                return None
        return reply.message.content.strip() or None


async def polish(language: Language, part: Part) -> Part:
    """Work on the verified conversations of a part, several at a time.

    Args:
        language: The model and its settings.
        part: Its rows; the result has the same number, in the same order.
    """
    with_task = {row["id"]: row for row in part.rows["trajectories"]}

    async def one(row: Row, mark: Signature | None) -> tuple[Row, Signature | None]:
        if "rejected" in row:
            return row, mark
        before = read_trajectory(with_task[row["id"]])
        after, rejected = await language.work(before, domain_of(before.task))
        made = {**trajectory_json(after), "manner": before.manner, "verdict": row["verdict"]}
        made |= {"model": language.model.name} | ({"rejected": rejected} if rejected else {})
        return made, signature(spoken(after.messages))

    pairs = await asyncio.gather(*map(one, part.rows["verified"], part.signatures))
    rows = {**part.rows, "verified": [row for row, _ in pairs]}
    return Part(rows, [mark for _, mark in pairs])


def keeps_values(line: str, other: str) -> bool:
    """Whether another wording has every value of a line, and no value of its own."""
    before, after = set(_VALUE.findall(line)), set(_VALUE.findall(other))
    digits_before = {value for value in before if any(c.isdigit() for c in value)}
    digits_after = {value for value in after if any(c.isdigit() for c in value)}
    trimmed = {value.rstrip(".:") for value in digits_after}
    names = {value for value in before - digits_before if value.istitle()}
    # A word that only begins the sentence is a name to the pattern and need not stay.
    first = _VALUE.match(line)
    names -= {first.group()} if first else set()
    return {v.rstrip(".:") for v in digits_before} == trimmed and all(n in other for n in names)


def conversation_text(messages: Sequence[Message]) -> str:
    """Write a conversation for a judge."""
    lines: list[str] = []
    for message in messages:
        if message.content:
            lines.append(f"{message.role}: {message.content}")
        lines += [f"assistant calls {call.name} {call.arguments}" for call in message.tool_calls]
    return "\n".join(lines)


def _json_object(text: str | None) -> dict[str, Any] | None:
    """Read the one JSON object of an answer; what is around it is ignored, as models add words."""
    if text is None:
        return None
    start, end = text.find("{"), text.rfind("}")
    try:
        value = json.loads(text[start : end + 1])
    except ValueError:
        return None
    return cast(dict[str, Any], value) if isinstance(value, dict) else None
