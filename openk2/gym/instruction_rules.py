"""Instructions that a program can check: how each is said, checked, and followed.

In: a kind and its settings; a text. Out: its wording; whether a text follows it; a text that does.
Must not know: topics, rewards. Checks are IFEval's where it has the kind; the wordings are others,
so that what is practised is not what is measured.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from openk2.evals.ifeval_checks import follows as ifeval_follows
from openk2.evals.ifeval_checks import sentences
from openk2.gym.honesty import words
from openk2.text.copy_phrases import Lang

Settings = Mapping[str, Any]
Draw = Callable[[Random, Lang, str], dict[str, Any]]
Check = Callable[[str, Settings], bool]
Make = Callable[[str, Settings], str]

_FIRST = {"en": ("Well", "Listen", "Friend", "Today", "Hello"), "zh": ("好的", "你好", "朋友")}
_LAST = {
    "en": ("thank you", "goodbye", "the end", "good luck", "yes", "done", "amen"),
    "zh": ("谢谢", "再见", "祝你好运", "完毕"),
}
_CLOSING = " \n.!?\"'。！？”"


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of instruction."""

    wordings: Mapping[Lang, tuple[str, ...]]
    """With the settings' names in braces; a language without wordings does not have the kind."""
    check: Check
    make: Make
    draw: Draw = lambda rng, lang, text: {}
    """Draws settings that a given text can be made to follow."""
    place: int = 5
    """When a text is made to follow several: lower numbers first."""
    clash: str = ""
    """Rules with a letter in common here do not go together; `*` goes with none."""


def _ifeval(kind: str) -> Check:
    return lambda text, settings: ifeval_follows(kind, settings, text)


def _as_it_is(text: str, settings: Settings) -> str:
    del settings
    return text


def _units(text: str) -> int:
    """Count words; in Chinese, characters."""
    return len(words(text))


def _draw_most(rng: Random, lang: Lang, text: str) -> dict[str, Any]:
    del lang
    return {"most": _units(text) + rng.randint(1, 4)}


def _draw_least(rng: Random, lang: Lang, text: str) -> dict[str, Any]:
    del lang
    return {"least": max(2, _units(text) - rng.randint(0, 3))}


def _draw_keywords(rng: Random, lang: Lang, text: str) -> dict[str, Any]:
    pattern = r"[a-z]{4,}" if lang == "en" else r"[\u3400-\u9fff]{2}"
    found = list(dict.fromkeys(re.findall(pattern, text.lower())))
    chosen = rng.sample(found, min(len(found), 2 if _units(text) > 6 else 1))
    return {"keywords": chosen, "both": " + ".join(chosen)}


def _draw_forbidden(rng: Random, lang: Lang, text: str) -> dict[str, Any]:
    usual = {"en": ("very", "also", "because", "people", "good"), "zh": ("很", "也", "因为", "人")}
    free = [word for word in usual[lang] if word not in text.lower()]
    chosen = rng.choice(free or ["really"])
    return {"forbidden_words": [chosen], "word": chosen}


def _starts(text: str, settings: Settings) -> bool:
    return text.lstrip(" \n\"'*“").lower().startswith(str(settings["first"]).lower())


def _ends(text: str, settings: Settings) -> bool:
    """Compare without closing marks: `the end.` ends with `the end`."""
    given = {"end_phrase": settings["last"]}
    return ifeval_follows("startend:end_checker", given, text.rstrip(_CLOSING))


def _object(text: str, settings: Settings) -> bool:
    del settings
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and isinstance(value.get("answer"), str)


def _bulleted(text: str, settings: Settings) -> str:
    del settings
    parts = [part.strip(" .。") for part in text.replace("。", ". ").split(". ")]
    return "\n".join(f"* {part}" for part in parts if part)


def _bullet_count(rng: Random, lang: Lang, text: str) -> dict[str, Any]:
    del rng, lang
    return {"num_bullets": sentences(text)}


def _titled(text: str, settings: Settings) -> str:
    del settings
    return f"{'<<In short>>' if text.isascii() else '<<简说>>'}\n{text}"


RULES: Mapping[str, Rule] = {
    "upper": Rule(
        {"en": ("Use only capital letters.", "Write everything in CAPITALS.")},
        _ifeval("change_case:english_capital"),
        lambda text, settings: text.upper(),
        place=9,
        clash="ck",
    ),
    "lower": Rule(
        {"en": ("Use no capital letters at all.", "Write everything in small letters.")},
        _ifeval("change_case:english_lowercase"),
        lambda text, settings: text.lower(),
        place=9,
        clash="c",
    ),
    "ends": Rule(
        {"en": ('Your last words must be "{last}".', 'Close with "{last}".'),
         "zh": ("最后要说“{last}”。", "以“{last}”结尾。")},
        _ends,
        lambda text, settings: f"{text} {settings['last']}",
        draw=lambda rng, lang, text: {"last": rng.choice(_LAST[lang])},
        place=6,
        clash="qs",
    ),
    "starts": Rule(
        {"en": ('Your first word must be "{first}".', 'Begin with "{first}".'),
         "zh": ("开头要说“{first}”。", "以“{first}”开头。")},
        _starts,
        lambda text, settings: f"{settings['first']}, {text}",
        draw=lambda rng, lang, text: {"first": rng.choice(_FIRST[lang])},
        place=6,
        clash="tnb",
    ),
    "most": Rule(
        {"en": ("Use {most} words or fewer.", "No more than {most} words, please."),
         "zh": ("不要超过{most}个字。", "最多{most}个字。")},
        lambda text, settings: 0 < _units(text) <= settings["most"],
        _as_it_is,
        draw=_draw_most,
        place=10,
        clash="nlt",
    ),
    "least": Rule(
        {"en": ("Use {least} words or more.",), "zh": ("不少于{least}个字。",)},
        lambda text, settings: _units(text) >= settings["least"],
        _as_it_is,
        draw=_draw_least,
        place=10,
        clash="l",
    ),
    "keywords": Rule(
        {"en": ("Mention these: {both}.", "These must occur in it: {both}."),
         "zh": ("要提到：{both}。",)},
        _ifeval("keywords:existence"),
        _as_it_is,
        draw=_draw_keywords,
        clash="k",
    ),
    "forbidden": Rule(
        {"en": ('Avoid the word "{word}".', 'Never say "{word}".'), "zh": ("不许出现“{word}”。",)},
        _ifeval("keywords:forbidden_words"),
        _as_it_is,
        draw=_draw_forbidden,
        clash="f",
    ),
    "no_comma": Rule(
        {"en": ("Leave out all commas.",), "zh": ("不用逗号。",)},
        _ifeval("punctuation:no_comma"),
        lambda text, settings: text.replace(",", "").replace("，", ""),
        place=8,
        clash="n",
    ),
    "quoted": Rule(
        {"en": ("Enclose all of it in double quotation marks.",),
         "zh": ('整段话放在英文双引号 " 之间。',)},
        _ifeval("startend:quotation"),
        lambda text, settings: f'"{text}"',
        place=11,
        clash="qtb",
    ),
    "titled": Rule(
        {"en": ("Put a title over it, like <<this>>.",), "zh": ("加上标题，写成 <<标题>>。",)},
        _ifeval("detectable_format:title"),
        _titled,
        place=4,
        clash="tqsbl",
    ),
    "bullets": Rule(
        {"en": ("Answer as a list of {num_bullets} lines that start with *.",),
         "zh": ("写成{num_bullets}行的列表，每行以 * 开头。",)},
        _ifeval("detectable_format:number_bullet_lists"),
        _bulleted,
        draw=_bullet_count,
        place=3,
        clash="bsqt",
    ),
    "sentences": Rule(
        {"en": ("Exactly {count} sentence(s).",), "zh": ("正好{count}句话。",)},
        lambda text, settings: sentences(text) == settings["count"],
        _as_it_is,
        draw=lambda rng, lang, text: {"count": sentences(text)},
        clash="sb",
    ),
    "object": Rule(
        {"en": ('Reply with a JSON object whose one key is "answer".',),
         "zh": ('用 JSON 对象回答，唯一的键是 "answer"。',)},
        _object,
        lambda text, settings: json.dumps({"answer": text}, ensure_ascii=False),
        clash="*",
    ),
}  # fmt: skip


def go_together(chosen: Sequence[str], kind: str) -> bool:
    """Tell whether a rule can join others."""
    letters = set(RULES[kind].clash)
    taken = set("".join(RULES[one].clash for one in chosen))
    return kind not in chosen and "*" not in letters | taken and not letters & taken


def said(kind: str, settings: Settings, lang: Lang, rng: Random) -> str:
    """Put an instruction into words."""
    return rng.choice(RULES[kind].wordings[lang]).format(**settings)


def obeys(kind: str, settings: Settings, text: str) -> bool:
    """Tell whether a text follows an instruction."""
    return bool(text.strip()) and RULES[kind].check(text, settings)


def made(text: str, rules: Sequence[tuple[str, Settings]]) -> str:
    """Make a text follow instructions whose settings were drawn for it."""
    for kind, settings in sorted(rules, key=lambda rule: RULES[rule[0]].place):
        text = RULES[kind].make(text, settings)
    return text
