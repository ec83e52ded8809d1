"""Simulation by specification: a domain of tools of which only what their owner says is known.

Its world remembers every call that was made, so where a task ends is the set of its calls: they
must be the right ones, with the right arguments, and no others.

In: specifications of tools. Out: a `Domain`. Must not know: where specifications come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from random import Random
from typing import Any

from openk2.envs.domain import Call, Domain, Goal, Intent
from openk2.envs.slots import Json
from openk2.synth.chains import chains, linked
from openk2.synth.phrases import harmless
from openk2.synth.requests import requests
from openk2.synth.results import replies
from openk2.synth.simulated import Asked, Simulated, SpecSettings, SpecWorld, draw, giving, simulate
from openk2.types import ToolSpec


def spec_domain(
    name: str,
    tools: Sequence[ToolSpec],
    *,
    outputs: Mapping[str, Mapping[str, Json]] | None = None,
    seed: int = 0,
    settings: SpecSettings | None = None,
    title: str = "",
) -> Domain:
    """Make a domain of specifications.

    Args:
        name: Its name; tasks and splits go by it.
        tools: Specifications that were checked, with different names.
        outputs: JSON Schemas of what tools return, where that is known, by the tool's name.
        seed: Chooses the phrases and which optional parameters are spoken of.
        settings: How much is said.
        title: What people call these tools; by default, what `name` says.
    """
    settings = settings or SpecSettings()
    outputs = outputs or {}
    made = [simulate(name, spec, outputs.get(spec.name), settings) for spec in tools]
    links = linked(made)
    made = [_giving(one, links, outputs) for one in made]
    intents: list[Intent] = []
    for one in made:
        if one.askable:
            intents += _intents(one, Random(f"{name}/{one.tool.name}/{seed}"), settings)
    intents += chains(made, Random(f"{name}/chains/{seed}"), settings.chains)
    title = harmless(title or name.replace("_", " ").replace("-", " ")) or "this service"
    return Domain(
        name,
        f"the tools of {title}",
        f"{title}的工具",
        _seed,
        tuple(one.tool for one in made),
        tuple(intents),
        licence=settings.licence,
    )


def _seed(rng: Random) -> SpecWorld:
    day = date(2026, 1, 5) + timedelta(days=rng.randrange(300))
    return SpecWorld(f"{day} 09:00", f"{rng.getrandbits(64):016x}")


def _giving(
    one: Simulated, links: Mapping[str, Asked], outputs: Mapping[str, Mapping[str, Json]]
) -> Simulated:
    taken = links.get(one.tool.name)
    if taken is None or one.tool.name in outputs:
        return one
    return giving(one, taken.param.name, taken.drawer)


# --- what users want -----------------------------------------------------------------------------


def _intents(one: Simulated, rng: Random, settings: SpecSettings) -> Iterator[Intent]:
    """Yield the request with what must be said, and one with more than that."""
    yield _intent(one.tool.name, one, one.required, rng)
    if one.optional:
        count = rng.randint(1, min(settings.more, len(one.optional)))
        chosen = set(rng.sample(range(len(one.optional)), count))
        more = tuple(asked for at, asked in enumerate(one.optional) if at in chosen)
        yield _intent(f"{one.tool.name}+", one, (*one.required, *more), rng)


def _intent(name: str, one: Simulated, asked: tuple[Asked, ...], rng: Random) -> Intent:
    said = [part.said for part in asked]
    tells = one.results.tells()
    return Intent(
        name,
        _sampler(name, one, asked),
        {"en": requests(one.doing, said, "en", rng), "zh": requests(one.doing, said, "zh", rng)},
        {"en": replies(tells, one.doing, "en"), "zh": replies(tells, one.doing, "zh")},
    )


def _sampler(
    name: str, one: Simulated, asked: tuple[Asked, ...]
) -> Callable[[Any, Random], Goal | None]:
    def sample(world: SpecWorld, rng: Random) -> Goal | None:
        # Two intents that are drawn from with the same seed must not say the same values.
        drawn = draw(asked, Random(f"{name}/{rng.random()}"))
        if drawn is None:
            return None
        arguments, facts = drawn
        return Goal((Call(one.tool.name, arguments),), facts)

    return sample
