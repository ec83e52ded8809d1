"""The verdict on an episode: executed, not opined.

Hard gates: the world ends in the state that the solution has, what the user wanted to know was
said, and the assistant spoke on every topic. The rest is measured beside them.

In: a finished session. Out: named values with weights, and one score. Must not know: who acted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from openk2.envs.env import FAULTS, Done, Session
from openk2.envs.slots import Json
from openk2.envs.task import Topic

_INVALID = ("invalid_arguments", "unknown_tool")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of an episode."""

    values: Mapping[str, tuple[float, float]]
    """Name → (value from 0 to 1, weight). Weight 0: measured only."""
    gates: tuple[str, ...] = ("state", "told", "spoke", "finished")
    """Values that must be 1."""

    @property
    def score(self) -> float:
        """Return 0 if a gate is closed, else the weighted mean."""
        if any(self.values[gate][0] < 1 for gate in self.gates):
            return 0.0
        weight = sum(weight for _, weight in self.values.values())
        return sum(value * w for value, w in self.values.values()) / weight

    @property
    def passed(self) -> bool:
        """Whether every gate is open."""
        return self.score > 0


def score(session: Session) -> Verdict:
    """Judge an episode.

    Args:
        session: Over, or given up: what is missing counts as not done.
    """
    calls = session.calls
    valid = sum(done.outcome.error not in _INVALID for done in calls)
    invented = invented_ids(session)
    return Verdict(
        {
            "state": (float(session.world.state_hash() == session.task.expected.state), 1),
            "told": (_told(session), 1),
            "spoke": (_spoke(session), 1),
            "finished": (float(session.user.done), 1),
            "confirmed": (_confirmed(session), 0),
            "schema": (valid / len(calls) if calls else 1.0, 0),
            "no_invented_ids": (float(not invented), 0),
            "no_needless_refusals": (_accepted(session), 0),
        }
    )


def _told(session: Session) -> float:
    """Return the share of what had to be said that was said, in its topic."""
    wanted = said = 0
    for topic, values in enumerate(session.task.expected.tells):
        heard = "\n".join(text for at, text in session.said if at == topic)
        wanted += len(values)
        said += sum(any(_has(heard, way) for way in ways) for ways in values)
    return said / wanted if wanted else 1.0


def _has(text: str, words: str) -> bool:
    """Whether words stand in a text by themselves: 5 is neither in 15 nor in 5.2."""
    found = text.replace(",", "") if words.replace(".", "").isdigit() else text
    before = r"(?<![\d.])" if words[:1].isdigit() else r"(?<![A-Za-z])"
    after = r"(?!\d|\.\d)" if words[-1:].isdigit() else r"(?![A-Za-z])"
    return re.search(before + re.escape(words) + after, found, re.IGNORECASE) is not None


def _spoke(session: Session) -> float:
    spoken = {topic for topic, text in session.said if text.strip()}
    for number, topic in enumerate(session.task.topics):
        called = [done for done in session.calls if done.topic == number]
        if number not in spoken:
            return 0.0
        if topic.kind == "irrelevant" and called:
            return 0.0
        if topic.kind in ("fails", "policy") and not _looked(session, topic, called):
            return 0.0  # nobody can know without having looked, so a blind no is none
    return 1.0


def _looked(session: Session, topic: Topic, called: Sequence[Done]) -> bool:
    """Whether the assistant made the calls of a topic's goals, or came upon what they are about."""
    seen = "\n".join(f"{done.call.arguments}\n{done.outcome.text}" for done in called)
    tried = {done.call.name for done in called}
    for goal in topic.goals:
        for call in goal.calls[-1:]:
            tool = session.domain.by_name[call.tool]
            ids = [str(v) for n, v in call.arguments.items() if tool.param(n).slot.entity]
            if not (all(one in seen for one in ids) if ids else call.tool in tried):
                return False
    return True


def _confirmed(session: Session) -> float:
    """Return the share of changes before which the assistant had asked and was answered."""
    if not session.task.confirm:
        return 1.0
    writes = asked = 0
    heard_question = answered = False
    for message in session.messages:
        if message.role == "assistant" and not message.tool_calls:
            heard_question = "?" in message.content or "？" in message.content
            answered = False
        elif message.role == "user":
            answered = heard_question
        for call in message.tool_calls:
            tool = session.domain.by_name.get(call.name)
            if tool is not None and tool.writes:
                writes += 1
                asked += answered
    return asked / writes if writes else 1.0


def _accepted(session: Session) -> float:
    """Return the share of calls that were carried out or expected to be refused."""
    expected = sum(topic.kind == "fails" for topic in session.task.topics)
    refused = [d for d in session.calls if d.outcome.error and d.outcome.error not in FAULTS]
    if not session.calls:
        return 1.0
    return 1 - max(0, len(refused) - expected) / len(session.calls)


def invented_ids(session: Session) -> list[str]:
    """Return ids in calls that neither the user, the operator nor a result had named."""
    heard = ""
    invented: list[str] = []
    for message in session.messages:
        for call in message.tool_calls:
            tool = session.domain.by_name.get(call.name)
            entities = {p.name for p in tool.params if p.slot.entity} if tool else set[str]()
            for name, value in _arguments(call.arguments).items():
                if name in entities and str(value) not in heard:
                    invented.append(str(value))
        if message.role != "assistant":
            heard += "\n" + message.content
    return invented


def _arguments(text: str) -> dict[str, Json]:
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return cast(dict[str, Json], value) if isinstance(value, dict) else {}
