"""Requests for one tool: templates in several styles, and facts as people say them.

In: what a tool does, its parameters' labels and meanings. Out: templates with segments that may be
left out, and facts. Must not know: worlds, how values are drawn, results.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, cast

from openk2.envs.domain import Fact
from openk2.envs.slots import Json, Lang, sayings
from openk2.synth.meanings import words_of
from openk2.synth.phrases import Doing, harmless, has_han, zh_of

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_BARE: Mapping[str, tuple[str, str]] = {
    "q": ("search text", "搜索词"), "n": ("number", "数量"), "k": ("number", "数量"),
    "lat": ("latitude", "纬度"), "lng": ("longitude", "经度"), "lon": ("longitude", "经度"),
    "latitude": ("latitude", "纬度"), "longitude": ("longitude", "经度"), "num": ("number", "数量"),
}  # fmt: skip
_PREPOSITIONS: Mapping[str, tuple[str, str]] = {
    "city": ("in", "地点"), "country": ("in", "国家"), "language": ("in", "语言"),
    "day": ("on", "日期"), "clock": ("at", "时间"), "topic": ("about", "关于"),
    "email": ("for", "邮箱"), "path": ("at", "路径"), "url": ("at", "网址"),
    "title": ("called", "名为"), "person": ("for", "姓名"), "id": ("with id", "编号"),
    "sentence": ("with the text", "内容"), "symbol": ("for", "代码"), "slug": ("named", "名为"),
}  # fmt: skip
_FITTING: Mapping[str, str] = {
    "city": "city location place", "country": "country", "language": "language lang",
    "day": "date day", "clock": "time", "topic": "query keyword keywords topic search q term",
    "email": "email", "path": "path", "url": "url link website", "title": "title name",
    "person": "name", "id": "id", "sentence": "text message content body",
    "symbol": "symbol ticker", "slug": "name",
}  # fmt: skip
_QUESTIONS = (
    "Could you please {}",
    "Can you {}",
    "Could you {}",
    "Would you {}",
    "Hey, can you {}",
)
_POLITE = ("Please {}", *_QUESTIONS)
_WISHES = ("I need to {}", "I want to {}", "I'd like to {}", "I have to {}", "Help me {}")
_ZH = ("请{}", "帮我{}", "麻烦{}", "我想{}", "请帮忙{}", "我需要{}", "可以{}吗", "能不能{}")


@dataclass(frozen=True, slots=True)
class Said:
    """A parameter as people say it."""

    name: str
    """The name of its fact in templates."""
    en: str
    zh: str
    meaning: str
    schema: Mapping[str, Json]

    @property
    def switch(self) -> bool:
        """Whether it is on or off."""
        return self.schema.get("type") == "boolean"


def label(name: str, description: str) -> tuple[str, str]:
    """Return noun phrases for a parameter, English and Chinese."""
    words = words_of(harmless(name)) or ["value"]
    key = "".join(words)
    if key in _BARE:
        return _BARE[key]
    told = harmless(description)
    chinese = re.split(r"[，。,（(；;：:]", told, maxsplit=1)[0]
    zh = chinese if has_han(chinese) and len(chinese) <= 12 else zh_of(words)
    english = " ".join(word for word in words if word.isascii()) or "value"
    return english, zh or english


def fact(kind: str, value: Json, said: Said, rng: Random) -> Fact:
    """Make a fact whose words people would use.

    Args:
        kind: The kind of the parameter's slot.
        value: What the argument will hold.
        said: The parameter.
        rng: Chooses among ways to say it.
    """
    if isinstance(value, bool):
        return Fact(kind, value, ("on", "开启") if value else ("off", "关闭"))
    if value is None:
        return Fact(kind, value, ("nothing", "空"))
    if isinstance(value, float):
        return Fact(kind, value, (repr(value), repr(value)))
    if isinstance(value, str):
        return Fact(kind, value, _text_words(value, said, rng))
    if isinstance(value, dict | list):
        schema = said.schema
        words = spelled(value, schema, "en"), spelled(value, schema, "zh")
        return Fact(kind, cast(Json, value), words)
    return Fact(kind, value)


def _text_words(value: str, said: Said, rng: Random) -> tuple[str, str] | None:
    if "enum" in said.schema:
        plain = " ".join(words_of(value))
        others = [" ".join(words_of(str(one))) for one in said.schema["enum"]]
        if value.isascii() and plain and others.count(plain) == 1 and rng.random() < 0.4:
            return plain, plain
        return None
    if _DATE.fullmatch(value) and rng.random() < 0.4 and _says_iso(said.schema):
        return rng.choice(sayings(value, "date", "en")), rng.choice(sayings(value, "date", "zh"))
    if said.meaning == "sentence" and rng.random() < 0.6:
        return f'"{value}"', f"“{value}”"
    return None


def _says_iso(schema: Mapping[str, Json]) -> bool:
    told = str(schema.get("description", "")).lower()
    return schema.get("format") == "date" or "yyyy-mm-dd" in told


def spelled(value: Json, schema: Mapping[str, Json], lang: Lang) -> str:
    """Say a nested value: names that the schema has are said as words, others as they are."""
    joint, is_ = (", ", " ") if lang == "en" else ("、", "是")
    if isinstance(value, dict):
        inner: Mapping[str, Any] = schema.get("properties") or {}
        parts: list[str] = []
        for key, item in cast("dict[str, Json]", value).items():
            below: Any = inner.get(key)
            told = label(key, "")[lang == "zh"] if key in inner else key
            said = spelled(item, _table(below), lang)
            parts.append(f"{told}{is_}({said})" if isinstance(item, dict) else f"{told}{is_}{said}")
        return joint.join(parts) or ("nothing" if lang == "en" else "空")
    if isinstance(value, list):
        items: Any = schema.get("items")
        below = cast("dict[str, Any]", items) if isinstance(items, dict) else {}
        every = [spelled(item, below, lang) for item in cast("list[Json]", value)]
        return joint.join(every) or ("nothing" if lang == "en" else "空")
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def _table(schema: Any) -> Mapping[str, Any]:
    return cast("dict[str, Any]", schema) if isinstance(schema, dict) else {}


def leaves(value: Json) -> int:
    """Count what a nested value is made of."""
    if isinstance(value, dict):
        return sum(leaves(item) for item in cast("dict[str, Json]", value).values()) + 1
    if isinstance(value, list):
        return sum(leaves(item) for item in cast("list[Json]", value))
    return 1


def requests(doing: Doing, said: Sequence[Said], lang: Lang, rng: Random) -> tuple[str, ...]:
    """Return templates in which every parameter can be left out, and some in which none can.

    Args:
        doing: What the tool does.
        said: Its parameters, in the order in which they are said.
        lang: The language.
        rng: Chooses phrases.
    """
    if lang == "zh":
        return _chinese(doing, said, rng)
    verbs = doing.en
    plain = [verb for verb in verbs if " me" not in verb] or list(verbs)
    found: list[str] = []
    for opener in (*rng.sample(_POLITE, 2), rng.choice(_WISHES)):
        verb = rng.choice(plain if opener in _WISHES else verbs)
        tail = "".join(f"[{_with(one, said)}]" for one in said)
        found.append(opener.format(verb) + tail + ("?" if opener in _QUESTIONS else "."))
    found.append(rng.choice(_WISHES).format(rng.choice(plain)) + "." + "".join(map(_stated, said)))
    found.append(_capital(rng.choice(verbs)) + _listed(said) + ".")
    if told := _within(verbs[0], said):
        opener = rng.choice(_POLITE)
        found.append(opener.format(told) + ("?" if opener in _QUESTIONS else "."))
        found.append(_capital(told) + ".")
    return tuple(dict.fromkeys(found))


def _chinese(doing: Doing, said: Sequence[Said], rng: Random) -> tuple[str, ...]:
    found: list[str] = []
    for opener in rng.sample(_ZH, 3):
        verb = rng.choice(doing.zh)
        tail = "".join(f"[，{_zh_with(one, said)}]" for one in said)
        end = "？" if opener.endswith("吗") or opener.startswith("能不能") else "。"
        found.append(opener.format(verb) + tail + end)
    head = rng.choice(("请{}。", "我要{}。", "帮忙{}。")).format(rng.choice(doing.zh))
    switched = {one.name for one in said if one.switch}
    stated = "".join(
        f"[{one.zh}{{{one.name}}}。]" if one.name in switched else f"[{one.zh}是{{{one.name}}}。]"
        for one in said
    )
    found.append(head + stated)
    listed = "，".join(f"{one.zh}：{{{one.name}}}" for one in said)
    found.append(f"{rng.choice(doing.zh)}{'，' if listed else ''}{listed}。")
    return tuple(dict.fromkeys(found))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _alone(one: Said, others: Sequence[Said]) -> bool:
    """Whether a preposition says which parameter is meant."""
    if one.meaning not in _FITTING or sum(o.meaning == one.meaning for o in others) > 1:
        return False
    return one.en in _FITTING[one.meaning].split()


def _with(one: Said, others: Sequence[Said]) -> str:
    if one.switch:
        return f", with {one.en} {{{one.name}}}"
    if _alone(one, others):
        return f" {_PREPOSITIONS[one.meaning][0]} {{{one.name}}}"
    return f", {one.en} {{{one.name}}}"


def _zh_with(one: Said, others: Sequence[Said]) -> str:
    if one.switch:
        return f"{one.zh}{{{one.name}}}"
    if _alone(one, others):
        return f"{_PREPOSITIONS[one.meaning][1]}{{{one.name}}}"
    return f"{one.zh}是{{{one.name}}}"


def _stated(one: Said) -> str:
    if one.switch:
        return f"[ Turn {one.en} {{{one.name}}}.]"
    verb = "are" if one.en.endswith("s") and not one.en.endswith(("ss", "us")) else "is"
    return f"[ The {one.en} {verb} {{{one.name}}}.]"


def _listed(said: Sequence[Said]) -> str:
    if not said:
        return ""
    return ": " + ", ".join(f"{one.en} {{{one.name}}}" for one in said)


def _within(verb: str, said: Sequence[Said]) -> str:
    """Put the first parameter into the sentence where the sentence speaks of it."""
    if not said or said[0].switch:
        return ""
    first, *rest = said
    words = [w for w in first.en.split() if w not in ("id", "name", "ids", "number", "code", "key")]
    if not words:
        return ""
    noun = re.escape(" ".join(words))
    which = (
        r"(?:(?:a|an|the|one)\s+)?(?:(?:given|specific|specified|particular|certain|single)\s+)?"
    )
    match = re.search(
        rf"(?<=\s){which}{noun}\b(?:\s+(?:id|name|by id|by name))?", verb, re.IGNORECASE
    )
    if match is None:
        return ""
    open_ = first.meaning in (
        "city",
        "country",
        "url",
        "email",
        "path",
        "topic",
        "symbol",
        "language",
    )
    value = f"{{{first.name}}}" if open_ else f"the {' '.join(words)} {{{first.name}}}"
    told = verb[: match.start()] + value + verb[match.end() :]
    return told + "".join(_with(one, said) for one in rest)
