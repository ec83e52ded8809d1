"""What a simulated tool answers: plausible, and the same for the same call in the same world.

In: a tool's kind, its output schema if it has one, a call's arguments. Out: a JSON result, and
which of its fields an assistant has to tell. Must not know: conversations, how tools are chosen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

from openk2.envs.slots import Json, Lang
from openk2.synth.meanings import words_of
from openk2.synth.phrases import Doing, Kind
from openk2.synth.pools import POOLS
from openk2.synth.requests import label
from openk2.synth.values import Drawer, Undrawable

_FIELDS: Sequence[tuple[str, str]] = (
    ("title", "title"), ("owner", "person"), ("location", "city"), ("date", "day"),
    ("reference", "id"), ("label", "slug"), ("due_date", "day"), ("contact", "email"),
    ("version", "version"), ("handle", "handle"), ("remark", "sentence"), ("maker", "company"),
)  # fmt: skip
_SUMS = re.compile(r"\b(calculate|compute|estimate|convert|count|price|rate|balance|score|total)\b")
_FIELD = re.compile(r"[a-z_][a-z_0-9]*")
_DONE: Mapping[Kind, str] = {"change": "updated", "delete": "deleted", "act": "done"}


@dataclass(frozen=True, slots=True)
class Results:
    """How one tool answers."""

    name: str
    """The tool's first name: variants that rename it answer the same."""
    doing: Doing
    schema: Mapping[str, Json] | None = None
    """What its owner says it returns."""
    params: tuple[str, ...] = ()
    """The tool's parameters: a field that only repeats an argument tells nothing."""
    id_field: str = "id"
    """Under which name it gives the id that other tools take."""
    id_drawer: Drawer | None = None
    """Draws ids that those tools accept."""
    _drawers: dict[str, Drawer] = field(default_factory=dict[str, Drawer], init=False, repr=False)

    def of(self, world_key: str, canonical: str, arguments: Mapping[str, Json]) -> Json:
        """Answer a call.

        Args:
            world_key: What makes this world another than the next one.
            canonical: The arguments in one written form.
            arguments: The same as values.
        """
        rng = Random(f"{world_key}/{self.name}/{canonical}")
        if self.schema is not None:
            drawn = self._declared(rng)
            if drawn is not None:
                return drawn
        echo = {
            name: value
            for name, value in list(arguments.items())[:3]
            if isinstance(value, str | int) and len(str(value)) <= 60
        }
        match self.doing.kind:
            case "create":
                return {self.id_field: self._id(rng), **echo, "status": "created"}
            case "list":
                rows = (self._row(rng) for _ in range(rng.choice((1, 2, 2, 3))))
                return [{self.id_field: self._id(rng), **row} for row in rows]
            case "read":
                return {**echo, **self._row(rng)}
            case kind:
                return {**echo, "status": _DONE[kind]}

    def tells(self) -> tuple[str, ...]:
        """Return the placeholders of a reply: what the user has to get to know."""
        if self.schema is not None and (told := self._declared_tells()) is not None:
            return told
        match self.doing.kind:
            case "create":
                name = self.id_field
                return (f"result.{name}",) if _FIELD.fullmatch(name) else ()
            case "list":
                return ("count", f"rows.{self._row_fields()[0][0]}")
            case "read":
                return tuple(f"result.{name}" for name, _ in self._row_fields()[:2])
            case _:
                return ()

    def _row_fields(self) -> Sequence[tuple[str, str]]:
        if _SUMS.search(" ".join([*words_of(self.name), self.doing.en[0]])):
            return (("result", "number"),)
        fields = [one for one in _FIELDS if one[0] not in self.params]
        chosen = Random(f"fields/{self.name}").sample(fields, 3)
        if self.doing.kind == "list" and "title" not in self.params:
            return (_FIELDS[0], *[one for one in chosen if one != _FIELDS[0]][:2])
        return chosen

    def _row(self, rng: Random) -> dict[str, Json]:
        return {
            name: rng.randint(10, 99_999) if pool == "number" else POOLS[pool](rng)
            for name, pool in self._row_fields()
        }

    def _id(self, rng: Random) -> Json:
        return POOLS["id"](rng) if self.id_drawer is None else self.id_drawer.draw(rng)

    def _declared(self, rng: Random) -> Json:
        if "" not in self._drawers:
            try:
                self._drawers[""] = Drawer(self.name, _filled(self.schema or {}))
            except Undrawable:
                return None
        try:
            return self._drawers[""].draw(rng)
        except Undrawable:
            return None

    def _declared_tells(self) -> tuple[str, ...] | None:
        """Choose simple fields that are always there; None where the schema draws nothing."""
        samples = [self._declared(Random(f"sample/{n}")) for n in range(6)]
        if any(sample is None for sample in samples):
            return None
        if all(isinstance(sample, dict) for sample in samples):
            some: list[dict[str, Any]] = samples
            return tuple(f"result.{name}" for name in _simple(some)[:2])
        if all(isinstance(sample, list) for sample in samples):
            rows = [row for sample in samples for row in cast("list[Any]", sample)]
            if rows and all(isinstance(row, dict) for row in rows):
                return ("count", *(f"rows.{name}" for name in _simple(rows)[:1]))
        return ()


def _filled(schema: Mapping[str, Json], depth: int = 0) -> dict[str, Json]:
    """Ask for every property, so that what a reply tells is always there."""
    filled = dict(schema)
    if depth > 6:
        return filled
    properties: Any = filled.get("properties")
    if isinstance(properties, dict):
        named = cast("dict[str, Any]", properties)
        filled["properties"] = {
            name: _filled(cast("dict[str, Any]", below), depth + 1)
            if isinstance(below, dict)
            else below
            for name, below in named.items()
        }
        filled["required"] = list(named)
    if isinstance(filled.get("items"), dict):
        filled["items"] = _filled(filled["items"], depth + 1)
    return filled


def _simple(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the fields that always hold a short text or a number and say something."""
    return [
        name
        for name in rows[0]
        if _FIELD.fullmatch(name)
        and all(
            name in row
            and isinstance(row[name], str | int)
            and not isinstance(row[name], bool)
            and 0 < len(str(row[name])) <= 80
            for row in rows
        )
        and len({str(row[name]) for row in rows}) > 1
    ]


def replies(tells: Sequence[str], doing: Doing, lang: Lang) -> tuple[str, ...]:
    """Return templates of answers that tell what has to be told.

    Args:
        tells: Placeholders of the result.
        doing: What the tool did.
        lang: The language.
    """
    noun = doing.noun_en if lang == "en" else doing.noun_zh
    fields = [(one, label(one.partition(".")[2], "")[lang == "zh"]) for one in tells]
    if not tells:
        if lang == "zh":
            return "已完成。", f"好的，{noun}已处理完毕。"
        return "Done.", f"That is done ({noun}).", "All set.", "It is taken care of."
    if tells[0] == "count":
        rest = "".join(f" {{{one}}}" for one in tells[1:])
        if lang == "zh":
            return f"找到{{count}}个：{rest.strip()}。", f"共{{count}}条结果：{rest.strip()}。"
        return f"I found {{count}}:{rest}.", f"Here is what I found ({{count}}):{rest}."
    if lang == "zh":
        told = "，".join(f"{name}是{{{one}}}" for one, name in fields)
        return f"好了，{told}。", f"{noun}的{told}。"
    told = " and ".join(f"the {name} is {{{one}}}" for one, name in fields)
    return f"Here it is: {told}.", f"Done, {told}.", f"{told[:1].upper()}{told[1:]}."
