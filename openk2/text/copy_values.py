"""Values to copy: words, names, dates, ids and numbers, drawn evenly so that none can be guessed.

In: the folder `data/` once, then a random generator. Out: a value as a user states it and as JSON.
Must not know: tools, messages, tokens.
"""

from __future__ import annotations

import calendar
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, cast

from openk2.text.copy_phrases import Lang, Phrases, load_phrases
from openk2.text.corpus import held_out, read_rows

HELD_OUT_SHARE = 0.05
"""The part of all words that training never draws, for measuring the copying of unseen words."""


@dataclass(frozen=True, slots=True)
class WordBank:
    """What values are made of; all in a fixed order."""

    words: tuple[str, ...]
    """Single English words."""
    phrases: tuple[str, ...]
    """English names, titles and phrases that people said to assistants."""
    zh_phrases: tuple[str, ...]
    """Chinese words and names of two to ten characters."""
    tools: tuple[Mapping[str, Any], ...]
    """Real tools: name, description, parameters."""
    said: Phrases
    """The sentence frames and the names of people and places."""


@dataclass(frozen=True, slots=True)
class Stated:
    """A value twice: in the user's words and in the call."""

    text: str
    value: Any


def load_word_bank(data: Path, *, unseen: bool = False) -> WordBank:
    """Read the words and tools of the packs.

    Args:
        data: The repository's `data/` folder.
        unseen: Take only the words that training never draws, instead of all the others.
    """

    def part(found: Iterable[str]) -> tuple[str, ...]:
        sound = {w for w in found if not _VULGAR.search(w)}
        return tuple(sorted(w for w in sound if held_out(w, HELD_OUT_SHARE) == unseen))

    tools = read_rows(data / "tools" / "tool_catalogue.jsonl.zst")
    return WordBank(
        words=part(_lemmas(data)),
        phrases=part(_spoken_phrases(data)),
        zh_phrases=part(_chinese_phrases(data)),
        tools=tuple(tool for tool in tools if _NAME.fullmatch(tool["name"])),
        said=load_phrases(data / "tools" / "copy_phrases.jsonl"),
    )


_NAME = re.compile(r"[A-Za-z][\w-]{2,40}")


# Slurs and vulgar words stay out of texts in which a word may land anywhere.
_COARSE = re.compile(
    r"offensive|disparag|derogat|obscen|vulgar|slur|insult|ethnic|sexual|genital|prostitut|racial"
)


# Words whose other sense is harmless slip through the definitions.
_VULGAR = re.compile(
    r"\b(arse|ass|bastard|bitch|cock|cunt|dyke|fag|faggot|fuck\w*|kike|negro|nigger|penis|porn\w*"
    r"|rape|retard|sex\w*|shit|slut|spic|tits|vagina|whore)s?\b",
    re.IGNORECASE,
)


def _lemmas(data: Path) -> Iterator[str]:
    coarse: set[str] = set()
    lemmas: set[str] = set()
    for row in read_rows(data / "pretrain" / "wordnet_definitions.jsonl.zst"):
        for lemma, meaning in re.findall(r"^([a-z]{3,12}) \((.*)", row["text"], re.MULTILINE):
            (coarse if _COARSE.search(meaning) else lemmas).add(lemma)
    yield from lemmas - coarse


def _spoken_phrases(data: Path) -> Iterator[str]:
    for row in read_rows(data / "instruct" / "nlu_function_calls_train.jsonl.zst"):
        arguments = cast(dict[str, str], row["call"]["arguments"] if row["call"] else {})
        for value in arguments.values():
            if re.fullmatch(r"\w[\w' -]{3,40}", value):
                yield value.strip()


def _chinese_phrases(data: Path) -> Iterator[str]:
    for row in read_rows(data / "instruct" / "zh_reading_qa.jsonl.zst"):
        if re.fullmatch(r"[\u4e00-\u9fff]{2,10}", row["answer"]):
            yield row["answer"]
    for row in read_rows(data / "instruct" / "crosswoz_zh_tooluse.jsonl.zst"):
        calls = [call for message in row["messages"] for call in message.get("tool_calls", ())]
        for value in (value for call in calls for value in call["arguments"].values()):
            if re.fullmatch(r"[\u4e00-\u9fff]{2,10}", value):
                yield value


def words(rng: Random, bank: WordBank, lang: Lang, count: int) -> list[str]:
    """Draw `count` different words."""
    return rng.sample(bank.zh_phrases if lang == "zh" else bank.words, count)


def _same(text: str) -> Stated:
    return Stated(text, text)


def _word(rng: Random, bank: WordBank, lang: Lang) -> Stated:
    return _same(words(rng, bank, lang, 1)[0])


def _phrase(rng: Random, bank: WordBank, lang: Lang) -> Stated:
    if lang == "zh":
        return _same(rng.choice(bank.zh_phrases))
    if rng.random() < 0.4:
        return _same(rng.choice(bank.phrases))
    drawn = words(rng, bank, lang, rng.choices((1, 2, 3, 4, 5, 6), (5, 5, 4, 2, 1, 1))[0])
    if rng.random() < 0.4:
        drawn = [word.capitalize() for word in drawn]
    return _same(" ".join(drawn))


def _person(rng: Random, bank: WordBank, lang: Lang) -> Stated:
    first, last = bank.said.texts["first_name", lang], bank.said.texts["last_name", lang]
    if lang == "zh":
        return _same(rng.choice(last) + "".join(rng.choices(first, k=rng.randint(1, 2))))
    family = rng.choice(last) if rng.random() < 0.7 else rng.choice(bank.words).capitalize()
    given = rng.choice(first)
    return _same(given if rng.random() < 0.3 else f"{given} {family}")


def _place(rng: Random, bank: WordBank, lang: Lang) -> Stated:
    if rng.random() < 0.5:
        return _same(rng.choice(bank.said.texts["place", lang]))
    if lang == "zh":
        return _same(rng.choice(bank.zh_phrases))
    ending = rng.choice(("", "", "ville", " City", " Park", "ton"))
    return _same(rng.choice(bank.words).capitalize() + ending)


def _address(rng: Random, bank: WordBank, lang: Lang) -> Stated:
    if lang == "zh":
        return _same(f"{rng.choice(bank.zh_phrases)}路{rng.randint(1, 999)}号")
    kind = rng.choice(("Street", "Road", "Avenue", "Lane"))
    return _same(f"{rng.randint(1, 999)} {rng.choice(bank.words).capitalize()} {kind}")


def _date(rng: Random, bank: WordBank, lang: Lang) -> Stated:
    year, month, day = rng.randint(1990, 2035), rng.randint(1, 12), rng.randint(1, 28)
    if rng.random() < 0.5:
        return _same(f"{year}-{month:02}-{day:02}")
    if lang == "zh":
        weekday = f"下周{rng.choice('一二三四五六')}"
        return _same(
            rng.choice((f"{month}月{day}日", f"{year}年{month}月{day}日", "明天", weekday))
        )
    name, weekday = calendar.month_name[month], rng.choice(list(calendar.day_name))
    dated = (f"{name} {day}", f"{name} {day}, {year}", f"{day} {name} {year}")
    return _same(rng.choice((*dated, f"{month}/{day}/{year}", "tomorrow", f"next {weekday}")))


def _time(rng: Random, bank: WordBank, lang: Lang) -> Stated:
    minute = rng.choice((0, 15, 30, 45, rng.randint(0, 59)))
    if rng.random() < 0.6:
        return _same(f"{rng.randint(0, 23):02}:{minute:02}")
    hour = rng.randint(1, 12)
    if lang == "zh":
        return _same(f"{rng.choice(('上午', '下午', '晚上'))}{hour}点")
    half = rng.choice(("am", "pm"))
    return _same(rng.choice((f"{hour} {half}", f"{hour}:{minute:02} {half}")))


def _email(rng: Random, bank: WordBank, lang: Lang) -> Stated:
    user, host = rng.sample(bank.words, 2)
    end = rng.choice(("com", "org", "net", "io", "cn"))
    return _same(f"{user}{rng.choice(('', str(rng.randint(1, 99))))}@{host}.{end}")


def _url(rng: Random, bank: WordBank, lang: Lang) -> Stated:
    host, page = rng.sample(bank.words, 2)
    return _same(f"https://{rng.choice(('www.', ''))}{host}.{rng.choice(('com', 'org'))}/{page}")


def _file(rng: Random, bank: WordBank, lang: Lang) -> Stated:
    folder, name = rng.sample(bank.words, 2)
    before = rng.choice(("", f"{folder}/", f"/{folder}/"))
    return _same(f"{before}{name}.{rng.choice(('txt', 'csv', 'pdf', 'py'))}")


def _identifier(rng: Random, bank: WordBank, lang: Lang) -> Stated:
    letters = "".join(rng.choices(string.ascii_uppercase, k=rng.randint(1, 3)))
    digits = "".join(rng.choices(string.digits, k=rng.randint(2, 7)))
    code = "".join(rng.choices(string.ascii_lowercase + string.digits, k=rng.randint(4, 10)))
    return _same(rng.choice((f"{letters}-{digits}", letters + digits, "#" + digits, digits, code)))


def _phone(rng: Random, bank: WordBank, lang: Lang) -> Stated:
    return _same("-".join("".join(rng.choices(string.digits, k=k)) for k in (3, 3, 4)))


def _integer(rng: Random, bank: WordBank, lang: Lang) -> Stated:
    number = rng.randint(1, 10 ** rng.randint(1, 4))
    return Stated(str(number), number)


def _decimal(rng: Random, bank: WordBank, lang: Lang) -> Stated:
    if rng.random() < 0.3:
        return _integer(rng, bank, lang)
    number = rng.randint(1, 99999) / 100
    return Stated(str(number), number)


def _list_of(one: Callable[[Random, WordBank, Lang], Stated]) -> Callable[..., Stated]:
    def draw(rng: Random, bank: WordBank, lang: Lang) -> Stated:
        items = list(dict.fromkeys(one(rng, bank, lang).text for _ in range(rng.randint(1, 4))))
        if lang == "zh":
            return Stated("、".join(items), items)
        if len(items) == 1:
            return Stated(items[0], items)
        return Stated(f"{', '.join(items[:-1])} and {items[-1]}", items)

    return draw


VALUES: Mapping[str, Callable[[Random, WordBank, Lang], Stated]] = {
    "word": _word, "phrase": _phrase, "person": _person, "place": _place, "address": _address,
    "date": _date, "time": _time, "email": _email, "url": _url, "file": _file,
    "identifier": _identifier, "phone": _phone, "integer": _integer, "decimal": _decimal,
    "words": _list_of(_word), "people": _list_of(_person),
}  # fmt: skip
"""How a value of each kind is drawn; enums and truth values depend on their parameter."""
JSON_TYPES: Mapping[str, Mapping[str, Any]] = {
    "integer": {"type": "integer"},
    "decimal": {"type": "number"},
    "flag": {"type": "boolean"},
    "words": {"type": "array", "items": {"type": "string"}},
    "people": {"type": "array", "items": {"type": "string"}},
}
"""The schema of each kind that is not a plain string."""
