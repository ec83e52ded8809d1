"""Goals of two steps: one tool gives an id that another one takes.

Only where the names make it plain: `create_playlist` gives what `add_track(playlist_id, …)` and
`delete_playlist(id)` take.

In: simulated tools. Out: which of them give what to whom, and intents. Must not know: domains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, cast

from openk2.envs.domain import Call, Goal, Intent
from openk2.envs.slots import Json, Lang
from openk2.synth.meanings import words_of
from openk2.synth.phrases import zh_of
from openk2.synth.requests import Said
from openk2.synth.results import replies
from openk2.synth.simulated import Asked, Simulated, SpecWorld, canonical, draw

_ID = ("id", "ids", "sid", "uuid", "key", "identifier")
_JOINTS = ("to", "for", "from", "by", "in", "of", "with", "on", "and", "at", "as")
_GIVES = ("create", "list")


def linked(made: Sequence[Simulated]) -> dict[str, Asked]:
    """Return, for every tool that gives ids, a parameter of another tool that takes them."""
    takers = _takers(made)
    found: dict[str, Asked] = {}
    for one in made:
        if one.doing.kind in _GIVES:
            for entity in _entities(one):
                if entity in takers:
                    found[one.tool.name] = takers[entity][0][1]
                    break
    return found


def chains(made: Sequence[Simulated], rng: Random, most: int) -> Iterator[Intent]:
    """Yield two-step intents.

    Args:
        made: The tools of a domain, giving what others take.
        rng: Chooses among them, and phrases.
        most: Most intents that begin with the same tool.
    """
    takers = _takers(made)
    for first in made:
        if first.doing.kind not in _GIVES or not first.askable or first.results.schema is not None:
            continue
        pairs = [
            (entity, second, taken)
            for entity in _entities(first)
            for second, taken in takers.get(entity, ())
            if second is not first and second.askable and taken.param.required
        ]
        for entity, second, taken in rng.sample(pairs, min(most, len(pairs))):
            yield _chain(first, second, taken, entity, rng)


def _takers(made: Sequence[Simulated]) -> dict[str, list[tuple[Simulated, Asked]]]:
    found: dict[str, list[tuple[Simulated, Asked]]] = {}
    for one in made:
        for asked in (*one.required, *one.optional):
            words = words_of(asked.param.name)
            if not words or words[-1] not in _ID or asked.said.schema.get("type") == "array":
                continue
            about = words[:-1] or words_of(one.doing.noun_en)[-1:]
            if about:
                found.setdefault(_singular(about[-1]), []).append((one, asked))
    return found


def _entities(one: Simulated) -> list[str]:
    """Name what a tool makes or lists: the head of its noun, if the tool does not take its id."""
    head: list[str] = []
    for word in words_of(one.doing.noun_en):
        if word in _JOINTS:
            break
        head.append(word)
    entity = _singular(head[-1]) if head else ""
    taken = {w for part in (*one.required, *one.optional) for w in words_of(part.param.name)[:-1]}
    return [entity] if entity.isalpha() and entity not in taken else []


def _singular(word: str) -> str:
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _chain(first: Simulated, second: Simulated, taken: Asked, entity: str, rng: Random) -> Intent:
    rest = tuple(asked for asked in second.required if asked is not taken)
    a = tuple(_renamed(asked, "a") for asked in first.required)
    b = tuple(_renamed(asked, "b") for asked in rest)
    ask: dict[Lang, tuple[str, ...]] = {
        "en": _english(first, second, entity, a, b, rng),
        "zh": _chinese(first, second, entity, a, b),
    }
    tells = second.results.tells()
    return Intent(
        f"{first.tool.name}>{second.tool.name}",
        _sampler(first, second, taken.param.name, a, b),
        ask,
        {"en": replies(tells, second.doing, "en"), "zh": replies(tells, second.doing, "zh")},
    )


def _renamed(asked: Asked, letter: str) -> Asked:
    said = asked.said
    name = letter + said.name.removeprefix("p")
    return Asked(asked.param, Said(name, said.en, said.zh, said.meaning, said.schema), asked.drawer)


def _sampler(
    first: Simulated, second: Simulated, key: str, a: tuple[Asked, ...], b: tuple[Asked, ...]
) -> Callable[[Any, Random], Goal | None]:
    taken = next(asked for asked in second.required if asked.param.name == key)

    def sample(world: SpecWorld, rng: Random) -> Goal | None:
        mine = Random(f"{first.tool.name}>{second.tool.name}/{rng.random()}")
        before, after = draw(a, mine), draw(b, mine)
        if before is None or after is None:
            return None
        arguments, facts = before
        given: Any = first.results.of(world.key, canonical(arguments), arguments)
        rows = cast("list[dict[str, Json]]", given if isinstance(given, list) else [given])
        value = rows[0].get(first.results.id_field)
        if not taken.drawer.accepts(value):
            return None
        calls = (
            Call(first.tool.name, arguments),
            Call(second.tool.name, {key: value, **after[0]}),
        )
        return Goal(calls, {**facts, **after[1]})

    return sample


def _english(
    first: Simulated,
    second: Simulated,
    entity: str,
    a: tuple[Asked, ...],
    b: tuple[Asked, ...],
    rng: Random,
) -> tuple[str, ...]:
    which = f"the new {entity}" if first.doing.kind == "create" else f"the first {entity} you find"
    one, two = _stated(a), _stated(b)
    found: list[str] = []
    for opener in rng.sample(("Please {}", "I need you to {}", "First {}", "I want you to {}"), 3):
        do, then = _plain(first, rng), _plain(second, rng)
        found.append(f"{opener.format(do)}{one}. Then use {which} to {then}{two}.")
    do, then = _plain(first, rng), _plain(second, rng)
    found.append(f"{do[:1].upper()}{do[1:]}{one}, and for {which}: {then}{two}.")
    return tuple(dict.fromkeys(found))


def _plain(one: Simulated, rng: Random) -> str:
    return rng.choice([verb for verb in one.doing.en if " me" not in verb] or list(one.doing.en))


def _stated(asked: tuple[Asked, ...]) -> str:
    return "".join(f"[, {one.said.en} {{{one.said.name}}}]" for one in asked)


def _chinese(
    first: Simulated,
    second: Simulated,
    entity: str,
    a: tuple[Asked, ...],
    b: tuple[Asked, ...],
) -> tuple[str, ...]:
    noun = zh_of([entity])
    which = f"新的{noun}" if first.doing.kind == "create" else f"找到的第一个{noun}"
    one, two = (
        "".join(f"[，{part.said.zh}是{{{part.said.name}}}]" for part in parts) for parts in (a, b)
    )
    do, then = first.doing.zh[0], second.doing.zh[-1]
    return (
        f"请{do}{one}，然后用{which}{then}{two}。",
        f"先帮我{do}{one}。再对{which}{then}{two}。",
    )
