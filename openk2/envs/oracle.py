"""The solver that knows: it reaches every goal by what an assistant could know, and says why.

It uses the truth only to search (which row is meant); what it then does follows from what the user
told and what results showed. Its thoughts are its own state, put into words.

In: a session and a manner. Out: the session, played to its end. Must not know: models, files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

from openk2.envs.domain import Call, Fact, Goal
from openk2.envs.env import FAULTS, Session
from openk2.envs.oracle_words import Words
from openk2.envs.planner import Known, Lookup, Planner, fits
from openk2.envs.slots import Json, Lang
from openk2.envs.task import Topic
from openk2.envs.tool import WorldTool
from openk2.envs.wording import Voice, answer
from openk2.types import Message, ToolCall

_RETRIES = 3


class Unsolvable(Exception):
    """The task needs something that no assistant could know; it must not be used."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How the solver goes about it."""

    seed: int = 0
    thinking: bool = False
    """Write reasoning before every turn."""
    curiosity: float = 0.0
    """Chance to look a second time at what was found before changing it."""
    parallel: bool = True
    """Make independent calls in one turn."""


@dataclass(slots=True)
class Oracle:
    """One solver in one session."""

    session: Session
    manner: Manner = Manner()
    rng: Random = field(init=False)
    words: Words = field(init=False)
    _rows: set[str] = field(default_factory=set[str])
    """Ids of rows that results showed as a whole."""
    _seen: set[str] = field(default_factory=set[str])
    """Every value that results of this topic held, but for bare lists: an id among others, seen
    in passing some time ago, says nothing about what it is the id of."""

    def __post_init__(self) -> None:
        """Speak the task's language."""
        self.rng = Random(f"{self.session.task.id}/oracle/{self.manner.seed}")
        self.words = Words(self.lang, self.rng)

    @property
    def lang(self) -> Lang:
        """Return the language of the task."""
        return self.session.task.lang

    def play(self) -> None:
        """Act until the user is done.

        Raises:
            Unsolvable: Something cannot be known.
        """
        while not self.session.done:
            topic = self.session.user.current
            match topic.kind:
                case "irrelevant":
                    self._say(self.words.not_here(), self.words.why_not_here())
                case "missing_tool":
                    self._say(self.words.no_tool(), self.words.why_no_tool())
                case _:
                    self._topic(topic)

    # --- one topic -------------------------------------------------------------------------------

    def _topic(self, topic: Topic) -> None:
        user, number = self.session.user, self.session.user.topic
        self._seen.clear()
        while user.open_facts:
            fact = next(iter(user.open_facts.values()))
            label = self.session.domain.slots[fact.kind].label(self.lang)
            self._say(self.words.ask_for(label), self.words.why_ask(label))
        results = [None for _ in topic.goals]
        if all(self._ready(goal) for goal in topic.goals) and self.manner.parallel:
            results = self._last_calls(topic)
        else:
            for index, goal in enumerate(topic.goals):
                results[index] = self._goal(topic, goal, first=index == 0)
        if user.topic == number and not self.session.done:
            self._say(self._replies(topic, results), self.words.why_reply(topic.kind))

    def _ready(self, goal: Goal) -> bool:
        """Whether a goal is one call whose ids are known."""
        known = self._known(goal, first=False)
        return len(goal.calls) == 1 and not self._unknown(goal.calls[0], goal, known)

    def _last_calls(self, topic: Topic) -> list[Any]:
        calls = [goal.calls[0] for goal in topic.goals]
        self._confirm(calls, topic.goals[0])
        return self._make(calls, self.words.why_call(self._tools(calls)))

    def _goal(self, topic: Topic, goal: Goal, *, first: bool) -> Any:
        result: Any = None
        for call in goal.calls:
            self._find_out(call, goal, first=first)
            self._confirm([call], goal)
            (result,) = self._make([call], self.words.why_call(self._tools([call])))
        return result

    def _confirm(self, calls: Iterable[Call], goal: Goal) -> None:
        """Ask before a change where the operator wants that; the user may correct a mistake."""
        writes = [call for call in calls if self._tool(call).writes]
        if not (writes and self.session.task.confirm):
            return
        said: list[str] = []
        for call in writes:
            tool = self._tool(call)
            values = {
                tool.param(name).slot.label(self.lang): self._believed(value, goal)
                for name, value in call.arguments.items()
            }
            said.append(self.words.plan(tool.en if self.lang == "en" else tool.zh, values))
        self._say(self.words.may_i(said), self.words.why_confirm())

    def _believed(self, value: Json, goal: Goal) -> Json:
        """Return a value as the user has told it so far, mistakes included."""
        for name, fact in goal.facts.items():
            if fact.value == value and name in self.session.user.told:
                return self.session.user.told[name].value
        return value

    # --- finding out -----------------------------------------------------------------------------

    def _find_out(self, call: Call, goal: Goal, *, first: bool) -> None:
        planner = Planner(self.session.domain, self.session.world, self._offered())
        for name in self._unknown(call, goal, self._known(goal, first=first)):
            value, slot = call.arguments[name], self._tool(call).param(name).slot
            if not slot.entity:
                raise Unsolvable(f"{call.tool}.{name}={value!r} cannot be known")
            while not self._was_seen(value):
                known = self._known(goal, first=first, setting=call)
                way = planner.lookup(slot.entity, str(value), known)
                if way is None:
                    raise Unsolvable(f"no read leads to {slot.entity} {value!r}")
                found: Any = None
                for read in way.reads:
                    thought = self.words.why_look(slot.label(self.lang), self._tools([read]))
                    (found,) = self._make([read], thought)
                if way.candidates > 1:
                    self._which(found, way, goal, call)
        if self.rng.random() < self.manner.curiosity:
            self._look_again(call)

    def _which(self, found: Any, way: Lookup, goal: Goal, call: Call) -> None:
        """Ask which of several is meant, and check that the answer settles it."""
        table, rows = way.table, self.session.world.tables()[way.table]
        known = self._known(goal, first=True, setting=call).facts
        ids = [row["id"] for row in found if row["id"] in rows and fits(rows[row["id"]], known)]
        if not self.session.user.clues:
            raise Unsolvable(f"{len(ids)} rows of {table} fit and no clue tells them apart")
        clues = [fact.kind for fact in self.session.user.clues.values()]
        labels = [self.session.domain.slots[kind].label(self.lang) for kind in clues]
        self._say(self.words.which(len(ids), labels), self.words.why_which(len(ids)))
        known = self._known(goal, first=True, setting=call).facts
        left = [one for one in ids if fits(rows[one], known)]
        if left != [way.key]:
            raise Unsolvable(f"{len(left)} rows of {table} still fit after the clues")

    def _look_again(self, call: Call) -> None:
        for tool in self._offered():
            ids = [p.name for p in tool.params if p.slot.entity and p.required]
            if tool.writes or len(tool.params) != 1 or not ids:
                continue
            kind = tool.params[0].slot.kind
            for name, value in call.arguments.items():
                if self._tool(call).param(name).slot.kind == kind and tool.name != call.tool:
                    self._make([Call(tool.name, {ids[0]: value})], self.words.why_again())
                    return

    def _known(self, goal: Goal, *, first: bool, setting: Call | None = None) -> Known:
        """Collect what was told of a goal; of the first one step by step, else all at once.

        Args:
            goal: What it is about.
            first: Whether it is the topic's first.
            setting: Leave out what this call will set: a new start time does not say which event
                is meant.
        """
        user = self.session.user
        facts = dict(goal.facts) | (user.told if first else {})
        if setting is not None:
            sets = self._sets(setting)
            for name, fact in goal.facts.items():
                if (fact.kind, fact.value) in sets:
                    del facts[name]
        told = (*facts.values(), *self._told_clues(goal))
        ids = {str(fact.value) for fact in told}
        return Known(told, frozenset(self._seen | self._rows | ids))

    def _sets(self, call: Call) -> list[tuple[str, Json]]:
        """Return the kinds and values of a call's arguments that are no ids."""
        tool = self._tool(call)
        return [
            (kind, value)
            for name, value in call.arguments.items()
            for slot in (tool.param(name).slot,)
            for kind in (slot.kind, *slot.accepts)
            if not slot.entity
        ]

    def _told_clues(self, goal: Goal) -> tuple[Fact, ...]:
        user = self.session.user
        return tuple(fact for name, fact in user.told.items() if name in goal.clues)

    def _unknown(self, call: Call, goal: Goal, known: Known) -> list[str]:
        """Name the arguments whose values were neither told nor seen."""
        told = [fact.value for fact in (*known.facts, *goal.facts.values())]
        return [
            name
            for name, value in call.arguments.items()
            if value not in told and not self._was_seen(value)
        ]

    def _was_seen(self, value: Json) -> bool:
        return isinstance(value, bool) or str(value) in self._seen or str(value) in self._rows

    # --- moves -----------------------------------------------------------------------------------

    def _make(self, calls: list[Call], thought: str) -> list[Any]:
        """Make calls in one turn, again where a service fails, and return their results."""
        found: dict[int, Any] = {}
        waiting = dict(enumerate(calls))
        for attempt in range(_RETRIES + 1):
            first = len(self.session.calls)
            made = [
                ToolCall(f"functions.{call.tool}:{first + n}", call.tool, _json(call.arguments))
                for n, call in enumerate(waiting.values())
            ]
            self._move("", thought, tuple(made))
            outcomes = [done.outcome for done in self.session.calls[first:]]
            for index, outcome in zip(list(waiting), outcomes, strict=True):
                if outcome.error not in FAULTS or attempt == _RETRIES:
                    found[index] = outcome.value
                    del waiting[index]
                    self._note(outcome.value)
            if not waiting:
                break
            thought = self.words.why_retry()
        return [found[index] for index in range(len(calls))]

    def _note(self, value: Any) -> None:
        """Remember what a result showed."""
        for row in cast(list[Any], value) if isinstance(value, list) else [value]:
            if not isinstance(row, dict):
                continue
            shown = cast(dict[str, Json], row)
            if "id" in shown:
                self._rows.add(str(shown["id"]))
            self._seen |= {str(item) for item in shown.values() if not isinstance(item, list)}

    def _say(self, text: str, thought: str) -> None:
        self._move(text, thought, ())

    def _move(self, text: str, thought: str, calls: tuple[ToolCall, ...]) -> None:
        if self.session.done:
            raise Unsolvable(f"the episode was cut off by its limit on {self.session.cut_off}")
        reasoning = thought if self.manner.thinking else ""
        self.session.move(Message("assistant", text, reasoning, calls))

    def _replies(self, topic: Topic, results: list[Any]) -> str:
        domain = self.session.domain
        intent = domain.intents_by_name[topic.intent]
        voice = Voice(self.lang, self.rng, 1.0)
        said: list[str] = []
        for goal, result in zip(topic.goals, results, strict=True):
            words = {name: voice.fact(domain, fact) for name, fact in goal.facts.items()}
            template = voice.choose(intent.reply[self.lang])
            said.append(answer(template, words, result, self.lang))
        return (" " if self.lang == "en" else "").join(said)

    def _offered(self) -> list[WorldTool]:
        return [self.session.domain.by_name[name] for name in self.session.task.tools]

    def _tool(self, call: Call) -> WorldTool:
        return self.session.domain.by_name[call.tool]

    def _tools(self, calls: Iterable[Call]) -> str:
        return ", ".join(dict.fromkeys(call.tool for call in calls))


def _json(arguments: Mapping[str, Json]) -> str:
    return json.dumps(dict(arguments), ensure_ascii=False)
