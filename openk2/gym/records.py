"""Made-up records: a few facts about one thing, in sentences, and questions about them.

In: a source of chance. Out: facts, texts, questions. Must not know: scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from openk2.text.copy_phrases import Lang

_SYLLABLES = "ba den fo gil har jo ka lin mor nu pel rin sa tor vel win yas zed kol mi".split()  # noqa: SIM905 - a table is read, a list of strings is not
_CHARS = "安博成德恩方光海佳康兰明宁平青荣山天文星雅云泽"
_FIRST = (
    "Ada Ben Clara David Emma Felix Grace Henry Iris Jonas Kate Leo Maria Nils Olga Paul".split()  # noqa: SIM905 - a table is read, a list of strings is not
)
_SURNAMES = "王李张刘陈杨赵黄周吴徐孙"
_COLOURS = (("red", "红色"), ("blue", "蓝色"), ("green", "绿色"), ("yellow", "黄色"),
            ("black", "黑色"), ("white", "白色"), ("grey", "灰色"), ("brown", "棕色"))  # fmt: skip
_THINGS = (("parcel", "包裹"), ("bicycle", "自行车"), ("house", "房子"), ("ticket", "车票"),
           ("boat", "小船"), ("painting", "画"), ("machine", "机器"),
           ("garden", "花园"))  # fmt: skip


def _word(rng: Random) -> str:
    return "".join(rng.sample(_SYLLABLES, rng.choice((2, 3)))).capitalize()


def _person(rng: Random, lang: Lang) -> str:
    if lang == "zh":
        return rng.choice(_SURNAMES) + "".join(rng.sample(_CHARS, rng.choice((1, 2))))
    return f"{rng.choice(_FIRST)} {_word(rng)}"


def _place(rng: Random, lang: Lang) -> str:
    return "".join(rng.sample(_CHARS, 2)) + "镇" if lang == "zh" else _word(rng)


def _colour(rng: Random, lang: Lang) -> str:
    return rng.choice(_COLOURS)[lang == "zh"]


def _number(rng: Random, lang: Lang) -> str:
    del lang
    return str(rng.randint(2, 999))


def _code(rng: Random, lang: Lang) -> str:
    del lang
    return f"{rng.choice('ABCDEFGHKLM')}{rng.randint(100, 9999)}"


def _year(rng: Random, lang: Lang) -> str:
    del lang
    return str(rng.randint(1900, 2025))


_FACTS: Mapping[str, tuple[str, Callable[[Random, Lang], str]]] = {
    "owner": ("主人", _person), "maker": ("制造者", _person), "place": ("地点", _place),
    "origin": ("产地", _place), "colour": ("颜色", _colour), "price": ("价格", _number),
    "weight": ("重量", _number), "code": ("编号", _code), "year": ("年份", _year),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Record:
    """One thing and what is known of it."""

    lang: Lang
    thing: str
    facts: Mapping[str, str]
    """Label to value; no two values are the same, and none is a part of another."""

    def text(self, rng: Random, facts: Mapping[str, str]) -> str:
        """Say facts in sentences, in any order."""
        order = rng.sample(list(facts.items()), len(facts))
        if self.lang == "zh":
            return "".join(f"这{self.thing}的{label}是{value}。" for label, value in order)
        return " ".join(f"The {label} of the {self.thing} is {value}." for label, value in order)

    def question(self, label: str, rng: Random) -> str:
        """Ask for one of them."""
        if self.lang == "zh":
            return rng.choice(("这{}的{}是什么？", "请问这{}的{}？")).format(self.thing, label)
        frames = ("What is the {1} of the {0}?", "Tell me the {1} of the {0}.")
        return rng.choice(frames).format(self.thing, label)


def draw_record(rng: Random, lang: Lang) -> Record:
    """Draw a thing with three to five facts."""
    thing = rng.choice(_THINGS)[lang == "zh"]
    facts: dict[str, str] = {}
    for label in rng.sample(list(_FACTS), rng.randint(3, 5)):
        chinese, draw = _FACTS[label]
        value = draw(rng, lang)
        if not any(value in other or other in value for other in facts.values()):
            facts[chinese if lang == "zh" else label] = value
    return Record(lang, thing, facts)
