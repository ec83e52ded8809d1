"""Sentences: a user's request from its template, an assistant's answer from its result.

In: templates, facts, results, a source of chance. Out: text in English or Chinese.
Must not know: tasks, worlds, what happens next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from openk2.envs.domain import PLACEHOLDER, Domain, Fact
from openk2.envs.slots import Json, Lang, say, sayings

_OPTIONAL = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True, slots=True)
class Voice:
    """How one speaker puts things."""

    lang: Lang
    rng: Random
    verbatim: float = 0.7
    """Share of values said exactly as they are written."""

    def choose(self, options: Sequence[str]) -> str:
        """Pick one of several ways."""
        return options[self.rng.randrange(len(options))]

    def fact(self, domain: Domain, fact: Fact) -> str:
        """Say a fact."""
        if fact.words is not None:
            return fact.words[self.lang == "zh"]
        form = domain.slots[fact.kind].form
        return say(fact.value, form, self.lang, self.rng, self.verbatim)


def request(template: str, said: Mapping[str, str]) -> str | None:
    """Fill a request; a bracket with something unsaid is left out.

    Args:
        template: As in `Intent.ask`.
        said: The words for every fact that is not withheld.

    Returns:
        None if something unsaid stands outside the brackets.
    """
    kept = _OPTIONAL.sub(
        lambda part: part[1] if all(n in said for n in PLACEHOLDER.findall(part[1])) else "",
        template,
    )
    names = PLACEHOLDER.findall(kept)
    if any(name not in said for name in names):
        return None
    return PLACEHOLDER.sub(lambda part: said[part[1]], kept)


def mentions(template: str, said: Mapping[str, str]) -> int:
    """Count the facts that a request made from this template would say."""
    kept = _OPTIONAL.sub(
        lambda part: part[1] if all(n in said for n in PLACEHOLDER.findall(part[1])) else "",
        template,
    )
    return len(set(PLACEHOLDER.findall(kept)))


def answer(template: str, said: Mapping[str, str], result: Json, lang: Lang) -> str:
    """Fill a reply with facts and with what the last call returned."""
    return PLACEHOLDER.sub(lambda part: _value(part[1], said, result, lang)[0], template)


def must_tell(template: str, result: Json, domain: Domain, lang: Lang) -> list[tuple[str, ...]]:
    """Return the ways to say each value that a reply takes from the result."""
    found: list[tuple[str, ...]] = []
    for name in PLACEHOLDER.findall(template):
        head, _, column = name.partition(".")
        if head == "rows":
            rows: list[dict[str, Json]] = result
            found += [_ways(row[column], column, domain, lang) for row in rows]
        elif head in ("result", "count"):
            value = len(result) if head == "count" else result[column]
            found.append(_ways(value, column, domain, lang))
    return found


def _ways(value: Json, column: str, domain: Domain, lang: Lang) -> tuple[str, ...]:
    form = domain.forms.get(column, "text")
    ways = [*sayings(value, form, lang), *sayings(value, form, "zh" if lang == "en" else "en")]
    if isinstance(value, float):
        ways.append(str(value))
    return tuple(dict.fromkeys(ways))


def _value(name: str, said: Mapping[str, str], result: Json, lang: Lang) -> list[str]:
    head, _, column = name.partition(".")
    if head == "rows":
        rows: list[dict[str, Json]] = result
        joint = ", " if lang == "en" else "、"
        return [joint.join(sayings(row[column], "text", lang)[0] for row in rows)]
    if head == "result":
        return sayings(result[column], "text", lang)
    return [str(len(result))] if head == "count" else [said[name]]
