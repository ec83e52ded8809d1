"""What a value means: its JSON Schema, its words in two languages, how a user says it.

A slot is attached to a type with `Annotated`, on the parameters of a tool and on the fields of a
row alike; equal kinds are how the planner knows that a fact which the user told, a field that a
tool returned and a parameter that another tool takes are the same thing.

In: a value and its slot. Out: schema, description, sentence fragments.
Must not know: any domain, tools, tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from random import Random
from typing import Any, Literal, cast

Lang = Literal["en", "zh"]
Form = Literal["text", "id", "date", "time", "datetime", "money", "count", "email", "phone"]
Json = Any
"""What JSON can hold: None, bool, int, float, str, lists and dicts of them."""

_FORM_SCHEMA: Mapping[Form, Mapping[str, Json]] = {
    "date": {"format": "date"},
    "email": {"format": "email"},
    "money": {"minimum": 0},
    "count": {"minimum": 1},
}
_FORM_TEXT: Mapping[Form, tuple[str, str]] = {
    "date": (", YYYY-MM-DD", "，格式 YYYY-MM-DD"),
    "time": (", HH:MM", "，格式 HH:MM"),
    "datetime": (", YYYY-MM-DD HH:MM", "，格式 YYYY-MM-DD HH:MM"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """The meaning of a parameter or a field; two are equal when they are one object."""

    kind: str
    """Its name in the dependency graph; unique in a domain for one meaning."""
    en: str
    """A noun phrase without an article that names it: `start time`."""
    zh: str
    form: Form = "text"
    """How it is written and said."""
    entity: str = ""
    """The table that it is a key of. Users do not know such a key unless a fact says so."""
    accepts: tuple[str, ...] = ()
    """Other kinds whose values fit here: a search text accepts a title."""
    schema: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """More JSON Schema, such as limits."""

    def label(self, lang: Lang) -> str:
        """Name it, as in a question for it."""
        return self.en if lang == "en" else self.zh

    def description(self, lang: Lang) -> str:
        """Describe it for a schema, with how it is written."""
        more = _FORM_TEXT.get(self.form, ("", ""))
        text = self.label(lang) + more[lang == "zh"]
        return text[:1].upper() + text[1:]

    def constraints(self) -> dict[str, Json]:
        """Return what JSON Schema says beside type and description."""
        return {**_FORM_SCHEMA.get(self.form, {}), **self.schema}


_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def sayings(value: Json, form: Form, lang: Lang) -> list[str]:
    """Return the ways in which a value is said, the way it is written first.

    Args:
        value: The value as an argument holds it.
        form: How it is written.
        lang: The language of the sentence around it.
    """
    if isinstance(value, bool):
        return [("yes" if value else "no") if lang == "en" else ("是" if value else "否")]
    if isinstance(value, list):
        items = cast(list[Json], value)
        return [(", " if lang == "en" else "、").join(str(item) for item in items)]
    written = _number(value) if isinstance(value, int | float) else str(value)
    if form == "date":
        return [written, *_dates(date.fromisoformat(written), lang)]
    if form == "datetime":
        moment = datetime.fromisoformat(written)
        joint = " at " if lang == "en" else ""
        times = _times(moment, lang)
        return [written, *(f"{day}{joint}{times[0]}" for day in _dates(moment.date(), lang))]
    if form == "time":
        return [written, *_times(datetime.fromisoformat(f"2000-01-01 {written}"), lang)]
    if form == "money":
        return [written, f"${written}" if lang == "en" else f"{written}元"]
    return [written]


def say(value: Json, form: Form, lang: Lang, rng: Random, verbatim: float) -> str:
    """Say a value.

    Args:
        value: The value as an argument holds it.
        form: How it is written.
        lang: The language of the sentence around it.
        rng: Chooses among the ways.
        verbatim: Share of values said exactly as they are written.
    """
    ways = sayings(value, form, lang)
    return ways[0] if len(ways) == 1 or rng.random() < verbatim else rng.choice(ways[1:])


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.2f}"


def _dates(day: date, lang: Lang) -> list[str]:
    if lang == "zh":
        return [f"{day.year}年{day.month}月{day.day}日"]
    month = _MONTHS[day.month - 1]
    return [
        f"{day.day} {month} {day.year}",
        f"{_DAYS[day.weekday()]}, {month} {day.day}, {day.year}",
    ]


def _times(moment: datetime, lang: Lang) -> list[str]:
    hour, minute = moment.hour, moment.minute
    if lang == "zh":
        part = "上午" if hour < 12 else "下午"
        return [f"{part}{(hour - 1) % 12 + 1}点" + (f"{minute}分" if minute else "")]
    half = "am" if hour < 12 else "pm"
    return [f"{(hour - 1) % 12 + 1}" + (f":{minute:02}" if minute else "") + f" {half}"]
