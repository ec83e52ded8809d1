"""Following instructions that a program can check, and not merely saying that one does.

Half of the problems ask to say something exactly; the others to say something about a plain thing
in a form. Nothing is worth anything that is off the topic, repeats itself, echoes the request, or
speaks about itself: those are what a policy finds when only the form is rewarded.

In: a seed. Out: requests with instructions, scores of answers.
Must not know: how an instruction is checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from openk2.gym.answers import final_text
from openk2.gym.honesty import echoes, pleads, repeats_itself, speaks_about_itself, words
from openk2.gym.instruction_rules import RULES, go_together, made, obeys, said
from openk2.gym.instruction_topics import TOPICS, Topic
from openk2.gym.problem import Family, Problem
from openk2.gym.split import on_side
from openk2.text.copy_phrases import Lang
from openk2.types import Message

_ASK: Mapping[Lang, tuple[str, ...]] = {
    "en": ("Tell me about {}.", "What do you know about {}?", "Write a little about {}.",
           "Say something about {}."),
    "zh": ("说说{}。", "你对{}知道些什么？", "写几句关于{}的话。"),
}  # fmt: skip
_WORDS = [
    "apple",
    "bird",
    "cloud",
    "door",
    "east",
    "fire",
    "glass",
    "hill",
    "iron",
    "jump",
    "king",
    "lamp",
    "milk",
    "north",
    "ocean",
    "pencil",
    "queen",
    "river",
    "stone",
    "table",
    "uncle",
    "valley",
    "water",
    "yellow",
    "zebra",
    "bottle",
    "candle",
    "garden",
    "hammer",
    "island",
    "jacket",
    "kettle",
    "ladder",
    "mirror",
    "needle",
    "orange",
    "pepper",
    "rabbit",
    "silver",
    "tunnel",
    "violet",
    "window",
    "basket",
    "copper",
]
_CHINESE_WORDS = (
    "苹果 小鸟 白云 大门 火车 玻璃 山坡 牛奶 大海 铅笔 河流 石头 桌子 冬天 窗户 花园".split()  # noqa: SIM905 - a table is read, a list of strings is not
)
_EXACT: Mapping[str, Mapping[Lang, str]] = {
    "same": {"en": "Reply with only this: {0}", "zh": "只回复这几个字：{0}"},
    "upper": {"en": "Write this in capital letters and add nothing: {0}"},
    "reverse": {"en": "Write these words in reverse order and add nothing: {0}",
                "zh": "把下面的词倒过来写，不要添加别的：{0}"},
    "first": {"en": "Reply with only the first of these words: {0}",
              "zh": "只回复下面第一个词：{0}"},
    "last": {"en": "Reply with only the last of these words: {0}",
             "zh": "只回复下面最后一个词：{0}"},
    "commas": {"en": "Write these words with a comma between them and add nothing: {0}"},
}  # fmt: skip
_TITLE = re.compile(r"<<[^\n]*>>")
_LONGEST = 90
"""Words of an answer about a topic: nothing asked for here needs more."""
_PER_MARK = 25
"""Words for each of which an answer must touch its topic once."""


@dataclass(frozen=True)
class Instructions(Family):
    """Say something in a form that is checked."""

    exact: float = 0.5
    """Share of problems with one right answer, of a few words; a small model can pass them."""
    chinese: float = 0.3
    """Share of problems in Chinese."""
    most_rules: int = 3
    """Most instructions in one request; one is the most frequent number."""
    partial: float = 0.0
    """Reward of an honest answer on the topic times the share of instructions it follows; the
    full reward is for all of them. 0 rewards nothing less than all."""
    name: str = "instructions"
    about: str = "Say something in a form that a program checks, and on the topic."
    about_zh: str = "按程序可检查的形式作答，且切题。"

    def problems(self, seed: int, *, held_out: bool = False) -> Iterator[Problem]:
        """Yield problems without end; a split keeps a topic, or a first word, together."""
        number = 0
        while True:
            number += 1
            rng = Random(f"{self.name}/{seed}/{number}")
            lang: Lang = "zh" if rng.random() < self.chinese else "en"
            make = self._exact if rng.random() < self.exact else self._formed
            problem = make(rng, lang, f"{self.name}/{seed}/{number}")
            if on_side(problem.key, held_out):
                yield problem

    def score(self, problem: Problem, messages: Sequence[Message]) -> Mapping[str, float]:
        """Score the one turn; parts: `follows` (share), `on_topic`, `honest`."""
        text = final_text(messages)
        if "exact" in problem.meta:
            right = float(_bare(text) == problem.meta["exact"])
            return {"reward": right, "follows": right}
        rules: list[tuple[str, Any]] = problem.meta["rules"]
        share = sum(obeys(kind, settings, text) for kind, settings in rules) / len(rules)
        on_topic = _on_topic(TOPICS[problem.meta["topic"]], text, _demanded(rules))
        honest = _honest(problem, text)
        worth = 1.0 if share == 1 else self.partial * share
        return {
            "reward": worth * on_topic * honest,
            "follows": share,
            "on_topic": float(on_topic),
            "honest": float(honest),
        }

    def gold(self, problem: Problem) -> tuple[Message, ...]:
        """Return what was asked for."""
        return (Message("assistant", problem.meta["gold"]),)

    def hacks(self, problem: Problem) -> Sequence[str]:
        """Return claims, padding, echoes, and forms without content."""
        gold, asked = problem.meta["gold"], problem.messages[-1].content
        claims = (
            f"Here is a response that follows all the instructions: {gold}",
            f"{gold}\nThis answer meets all requirements.",
            f"以下是符合要求的回答：{gold}",
        )
        if "exact" in problem.meta:
            return (*claims, asked, f"{gold} {gold}", "ok")
        rules: list[tuple[str, Any]] = problem.meta["rules"]
        topic = TOPICS[problem.meta["topic"]]
        padded = " ".join([topic.sentences[0]] * 3)
        return (
            *claims,
            asked,
            made("Fine", rules),
            made(" ".join([topic.marks[0]] * 8), rules),
            made(padded, rules),
            made("All of the instructions were followed as requested", rules),
            made(" ".join(sorted(_demanded(rules))), rules),
        )

    def _exact(self, rng: Random, lang: Lang, name: str) -> Problem:
        kind = rng.choice([kind for kind, asks in _EXACT.items() if lang in asks])
        drawn = rng.sample(_WORDS if lang == "en" else _CHINESE_WORDS, rng.randint(2, 4))
        right = {
            "same": " ".join(drawn),
            "upper": " ".join(drawn).upper(),
            "reverse": " ".join(reversed(drawn)),
            "first": drawn[0],
            "last": drawn[-1],
            "commas": ", ".join(drawn),
        }[kind]
        meta = {"exact": _bare(right), "gold": right, "level": 1, "lang": lang}
        asked = Message("user", _EXACT[kind][lang].format(" ".join(drawn)))
        return Problem(name, self.name, f"exact/{'/'.join(drawn[:2])}", (asked,), (), 32, meta)

    def _formed(self, rng: Random, lang: Lang, name: str) -> Problem:
        topic = rng.choice([topic for topic in TOPICS.values() if topic.lang == lang])
        base = (" " if lang == "en" else "").join(topic.sentences[: rng.randint(1, 3)])
        able = [kind for kind, rule in RULES.items() if lang in rule.wordings]
        chosen: list[str] = []
        wanted = min(self.most_rules, rng.choices((1, 2, 3), (6, 3, 1))[0])
        for kind in rng.sample(able, len(able)):
            if len(chosen) < wanted and go_together(chosen, kind):
                chosen.append(kind)
        rules: list[tuple[str, dict[str, Any]]] = []
        for kind in sorted(chosen, key=lambda one: RULES[one].place):
            rules.append((kind, RULES[kind].draw(rng, lang, made(base, rules))))
        parts = [rng.choice(_ASK[lang]).format(topic.name)]
        parts += [said(kind, settings, lang, rng) for kind, settings in rules]
        meta = {
            "topic": topic.name,
            "rules": rules,
            "gold": made(base, rules),
            "level": 1 + len(rules),
            "lang": lang,
        }
        asked = Message("user", (" " if lang == "en" else "").join(parts))
        return Problem(name, self.name, f"instructions/{topic.name}", (asked,), (), 128, meta)


def _bare(text: str) -> str:
    """Write an exact answer without what nobody minds: spaces around it, a last full stop."""
    return " ".join(text.split()).rstrip(".。").strip("\"'`“”")


def _demanded(rules: Sequence[tuple[str, Any]]) -> set[str]:
    """Return the words that the instructions themselves put in."""
    given = {name: value for _, settings in rules for name, value in settings.items()}
    texts = [*given.get("keywords", ()), given.get("first", ""), given.get("last", "")]
    return {word for text in texts for word in words(text)}


def _on_topic(topic: Topic, text: str, demanded: set[str]) -> bool:
    """Tell whether a text is about its topic all along, with two words that nobody demanded."""
    text = _TITLE.sub("", text)
    said_words = words(text)
    own = [word for word in said_words if word not in demanded]
    marks = sum(text.lower().count(mark) for mark in topic.marks)
    enough = marks * _PER_MARK >= len(said_words)
    return topic.touched(text) and enough and len(own) >= 2 and len(said_words) <= _LONGEST


def _honest(problem: Problem, text: str) -> bool:
    made_up = (
        repeats_itself(text)
        or speaks_about_itself(text)
        or pleads(text)
        or echoes(text, problem.messages[-1].content, 5)
    )
    return not made_up
