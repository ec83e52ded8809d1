"""The scripted user: says what it wants step by step, and answers what it is asked.

It hears any assistant, a program or a model. It never reads the world: what moves it is only what
was said to it, so two runs with the same answers have the same conversation.

In: a task, the assistant's words. Out: the user's words, and which facts are told.
Must not know: calls, results, whether the task is solved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from openk2.envs.domain import Domain, Fact, Goal
from openk2.envs.persona import PERSONAS, Persona
from openk2.envs.task import Task, Topic
from openk2.envs.wording import Voice, mentions, request

_PATIENCE = 2
"""Questions in one topic that a user who has told everything answers before going on."""


@dataclass(slots=True)
class User:
    """One user in one conversation."""

    task: Task
    domain: Domain
    topic: int = -1
    """Which of the task's topics is on."""
    told: dict[str, Fact] = field(default_factory=dict[str, Fact])
    """What the user said in this topic, by the fact's name; of a mistake, what was said."""
    open_facts: dict[str, Fact] = field(default_factory=dict[str, Fact])
    """What the user says when asked for it."""
    clues: dict[str, Fact] = field(default_factory=dict[str, Fact])
    """What the user adds when asked which one is meant."""
    done: bool = False
    _words: list[str] = field(default_factory=list[str])
    _asked: int = 0

    @property
    def voice(self) -> Voice:
        """Speak; the same turn of the same task is always said the same way."""
        rng = Random(f"{self.task.id}/{self.topic}/{self._asked}")
        return Voice(self.task.lang, rng, self.persona.verbatim)

    @property
    def persona(self) -> Persona:
        """Say who this is."""
        return PERSONAS[self.task.persona]

    @property
    def current(self) -> Topic:
        """Return the topic that is on."""
        return self.task.topics[self.topic]

    def begin(self) -> str:
        """Say the first thing."""
        return self._worded(self._next_topic())

    def _worded(self, text: str) -> str:
        return self.task.words.get(text, text)

    def hear(self, text: str) -> str | None:
        """Answer the assistant; None when there is nothing more to say.

        Args:
            text: What the assistant said at the end of its turn.
        """
        if _is_question(text):
            self._asked += 1
            if reply := self._reply(text):
                return self._worded(reply)
            if self._asked <= _PATIENCE:
                return self._worded(self.voice.choose(self.persona.agrees[self.task.lang]))
        if self.topic + 1 < len(self.task.topics):
            return self._worded(self._next_topic())
        self.done = True
        return None

    def _next_topic(self) -> str:
        self.topic += 1
        self._asked = 0
        self.told, self.open_facts, self.clues = {}, {}, {}
        topic, voice = self.current, self.voice
        if not topic.goals:
            return self._in_character(topic.request, voice)
        first = topic.goals[0]
        told = {n: f for n, f in first.facts.items() if n not in topic.withheld}
        told |= dict(topic.mistaken)
        said = {name: voice.fact(self.domain, fact) for name, fact in told.items()}
        text = topic.request or _request(self.domain, topic, said, voice)
        parts = [text, *(self._also(goal, voice) for goal in topic.goals[1:])]
        self.told = told
        self.open_facts = {name: first.facts[name] for name in topic.withheld}
        for goal in topic.goals:
            self.clues |= goal.clues
        return self._in_character(" ".join(parts), voice)

    def _also(self, goal: Goal, voice: Voice) -> str:
        said = {name: voice.fact(self.domain, fact) for name, fact in goal.facts.items()}
        text = _request(self.domain, self.current, said, voice)
        if voice.lang == "zh":
            return voice.choose(("另外，", "还有，")) + text
        return voice.choose(("Also: ", "And one more: ", "Then: ")) + text

    def _in_character(self, text: str, voice: Voice) -> str:
        persona = self.persona
        first = persona.opens if self.topic == 0 else persona.goes_on
        opening = voice.choose(first[voice.lang])
        joint = "" if voice.lang == "zh" or not opening else " "
        return opening + joint + text

    def _reply(self, text: str) -> str | None:
        """Say what was asked for: the facts that are named, else the next one, else the clues."""
        voice, lowered = self.voice, text.lower()
        named = {
            name: fact
            for name, fact in self.open_facts.items()
            if any(label in lowered for label in self._labels(fact))
        }
        asked = named or dict(list(self.open_facts.items())[:1]) or self.clues
        corrected = {n: self.current.goals[0].facts[n] for n in self.current.mistaken}
        corrected = {n: fact for n, fact in corrected.items() if self.told.get(n) != fact}
        if not asked and not corrected:
            return None
        for name in asked:
            self.open_facts.pop(name, None)
        if asked is self.clues:
            self.clues = {}
        parts = [self._states(asked, voice)] if asked else []
        if corrected:
            parts.append(self._corrects(corrected, voice))
        self.told |= asked | corrected
        return " ".join(parts)

    def _labels(self, fact: Fact) -> tuple[str, str]:
        slot = self.domain.slots[fact.kind]
        return slot.en.lower(), slot.zh

    def _states(self, facts: Mapping[str, Fact], voice: Voice) -> str:
        said = [voice.fact(self.domain, fact) for fact in facts.values()]
        if len(said) == 1:
            frames = {
                "en": ("{}.", "It is {}.", "{}, please."),
                "zh": ("{}。", "是{}。", "{}，谢谢。"),
            }
            return voice.choose(frames[voice.lang]).format(said[0])
        labels = [self.domain.slots[fact.kind].label(voice.lang) for fact in facts.values()]
        if voice.lang == "zh":
            return "，".join(f"{a}是{b}" for a, b in zip(labels, said, strict=True)) + "。"
        return ", ".join(f"{a}: {b}" for a, b in zip(labels, said, strict=True)) + "."

    def _corrects(self, facts: Mapping[str, Fact], voice: Voice) -> str:
        said = [voice.fact(self.domain, fact) for fact in facts.values()]
        labels = [self.domain.slots[fact.kind].label(voice.lang) for fact in facts.values()]
        if voice.lang == "zh":
            return "".join(f"我说错了，{a}应该是{b}。" for a, b in zip(labels, said, strict=True))
        frames = ("Sorry, I got the {} wrong: it should be {}.", "And make the {} {} instead.")
        frame = voice.choose(frames)
        return " ".join(frame.format(a, b) for a, b in zip(labels, said, strict=True))


def _request(domain: Domain, topic: Topic, said: Mapping[str, str], voice: Voice) -> str:
    """Choose among the templates that say the most of what may be said."""
    templates = domain.intents_by_name[topic.intent].ask[voice.lang]
    usable = [template for template in templates if request(template, said) is not None]
    most = max(mentions(template, said) for template in usable)
    full = [template for template in usable if mentions(template, said) == most]
    return request(voice.choose(full), said) or ""


def _is_question(text: str) -> bool:
    return "?" in text or "？" in text
