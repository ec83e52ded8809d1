"""Tasks of the domains that are kept from training, drawn again the same every time.

In: the held-out domains. Out: tasks of every intent and kind in both languages, each of them
solved once by the solver that knows.
Must not know: models, scores of others than that solver.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

from openk2.envs.catalogue import HELD_OUT, domain, names
from openk2.envs.domain import Domain, Goal, Intent
from openk2.envs.env import Session
from openk2.envs.oracle import Oracle, Unsolvable
from openk2.envs.persona import PERSONAS
from openk2.envs.rubric import score
from openk2.envs.slots import Lang
from openk2.envs.solution import NoSolution, carry_out, expected
from openk2.envs.task import Fault, Limits, Task, Topic
from openk2.envs.wording import Voice, mentions, request
from openk2.envs.world import World

SEED = 5
"""Draws the tasks. Another number makes another benchmark."""
STRANGE = 4
"""Requests of each domain and language that have nothing to do with it, and as many for which the
tool is missing."""
FAULTS = 0.2
"""Share of tasks whose first call fails once, as services do."""
LIMITS = Limits(calls=24, turns=30)
"""Several times what the longest of these tasks needs."""
_TRIES = 30
_PROMPTS: Mapping[Lang, str] = {
    "en": "You are the assistant of {place}. It is {now}.{rules} Ask for what is missing and never"
    " make up ids.",
    "zh": "你是{place}的助手。现在是{now}。{rules}缺少信息时先询问，不要编造编号。",
}
_STRANGE: Mapping[Lang, tuple[str, ...]] = {
    "en": (
        "Could you write a poem about the first snow?",
        "What is the tallest mountain of Africa?",
        "Which strings does a cello have?",
        "Please translate 'thank you for the flowers' into Italian.",
    ),
    "zh": (
        "请写一首关于初雪的诗。",
        "非洲最高的山是哪座？",
        "大提琴有哪几根弦？",
        "把“谢谢你的花”译成意大利语。",
    ),
}


class _NoOccasion(Exception):
    """This world does not have what was to be drawn."""


def held_out_tasks() -> Iterator[Task]:
    """Yield the tasks of every held-out domain, the same every time."""
    languages: tuple[Lang, ...] = ("en", "zh")
    for name in sorted(set(HELD_OUT) & set(names())):
        for lang in languages:
            yield from domain_tasks(domain(name), lang)


def domain_tasks(one: Domain, lang: Lang) -> Iterator[Task]:
    """Yield the tasks of one domain in one language."""
    for intent in one.intents:
        for manner in ("plain", "withheld", "parallel", "two"):
            yield from _first_that_works(one, lang, manner, intent)
    doing = [intent for intent in one.intents if intent.kind == "do"]
    for number in range(STRANGE):
        yield from _first_that_works(one, lang, f"irrelevant {number}", one.intents[0])
        yield from _first_that_works(one, lang, "missing_tool", doing[number % len(doing)])


def _first_that_works(one: Domain, lang: Lang, manner: str, intent: Intent) -> Iterator[Task]:
    """Draw until a task is solved, and give up quietly: not every intent has every manner."""
    name = f"{one.name}/{lang}/{manner}/{intent.name}"
    for attempt in range(_TRIES):
        draw = _Draw(one, lang, manner, intent, Random(f"{SEED}/{name}/{attempt}"))
        try:
            task = draw.task(name)
            session = Session(one, task)
            Oracle(session).play()
        except (_NoOccasion, NoSolution, Unsolvable):
            continue
        if score(session).score == 1:
            yield task
            return


@dataclass(slots=True)
class _Draw:
    """One attempt at a task."""

    domain: Domain
    lang: Lang
    manner: str
    """plain, withheld, parallel, two; missing_tool; irrelevant with a number."""
    intent: Intent
    rng: Random

    def task(self, name: str) -> Task:
        seed = self.rng.randrange(1_000_000)
        world = self.domain.world(seed)
        topics = self._topics(world)
        lacking = {
            goal.calls[-1].tool
            for topic in topics
            if topic.kind == "missing_tool"
            for goal in topic.goals
        }
        offered = [tool.name for tool in self.domain.tools if tool.name not in lacking]
        joint = "" if self.lang == "zh" else " "
        prompt = _PROMPTS[self.lang].format(
            place=self.domain.en if self.lang == "en" else self.domain.zh,
            now=world.now,
            rules="".join(joint + rule for rule in self.domain.policies[self.lang]),
        )
        faults = (Fault(0, "timeout"),) if self.rng.random() < FAULTS else ()
        return Task(
            name, self.domain.name, self.domain.name, seed, self.lang,
            self.rng.choice(sorted(PERSONAS)), prompt,
            tuple(self.rng.sample(offered, len(offered))), tuple(topics),
            expected(self.domain, seed, topics, self.lang),
            faults=faults, limits=LIMITS,
            meta={"domain_version": self.domain.version, "licence": self.domain.licence},
        )  # fmt: skip

    def _topics(self, world: World) -> list[Topic]:
        if self.manner.startswith("irrelevant"):
            number = int(self.manner.split()[1])
            return [Topic("irrelevant", "", request=self._strange(number))]
        goal = self._goal(world, self.intent)
        if self.manner == "missing_tool":
            tool = self.domain.by_name[goal.calls[-1].tool]
            _need(self.intent.kind == "do" and tool.writes)
            return [Topic("missing_tool", self.intent.name, (goal,))]
        first = Topic(self.intent.kind, self.intent.name, (goal,))
        match self.manner:
            case "parallel":
                _need(self.intent.kind == "do")
                other = self._goal(world, self.intent)
                _need(other.facts != goal.facts)
                return [Topic(first.kind, first.intent, (goal, other))]
            case "two":
                other = self.rng.choice([one for one in self.domain.intents if one != self.intent])
                return [first, Topic(other.kind, other.name, (self._goal(world, other),))]
            case "withheld":
                able = self._withholdable(goal)
                _need(bool(able))
                return [Topic(first.kind, first.intent, (goal,), withheld=(self.rng.choice(able),))]
            case _:
                return [first]

    def _goal(self, world: World, intent: Intent) -> Goal:
        """Draw a goal and carry it out, so that the next is drawn from the world after it."""
        goal = intent.draw(world, self.rng)
        if goal is None:
            raise _NoOccasion
        carry_out(self.domain, world, goal, intent)
        return goal

    def _withholdable(self, goal: Goal) -> list[str]:
        """Name the facts that a call needs as they are, and without which a request can be put."""
        _need(bool(goal.calls))  # what is forbidden may need none
        call = goal.calls[-1]
        params = self.domain.by_name[call.tool].params
        needed = [call.arguments[p.name] for p in params if p.required and not p.slot.entity]
        templates = self.intent.ask[self.lang]
        able: list[str] = []
        for name, fact in goal.facts.items():
            said = dict.fromkeys(set(goal.facts) - {name}, "x")
            sayable = any(
                request(template, said) is not None and mentions(template, said) == len(said)
                for template in templates
            )
            if sayable and fact.value in needed:
                able.append(name)
        return able

    def _strange(self, number: int) -> str:
        """Say something else, or what another held-out domain is asked."""
        if number % 2:
            return _STRANGE[self.lang][self.rng.randrange(len(_STRANGE[self.lang]))]
        others = [name for name in names() if name in HELD_OUT and name != self.domain.name]
        _need(bool(others))
        other = domain(self.rng.choice(others))
        intent = self.rng.choice(other.intents)
        goal = intent.draw(other.world(self.rng.randrange(1000)), self.rng)
        if goal is None:
            raise _NoOccasion
        voice = Voice(self.lang, self.rng)
        said = {name: voice.fact(other, fact) for name, fact in goal.facts.items()}
        text = request(voice.choose(intent.ask[self.lang]), said)
        if text is None:
            raise _NoOccasion
        return text


def _need(condition: bool) -> None:
    if not condition:
        raise _NoOccasion
