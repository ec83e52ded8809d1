"""Variants of domains: a description that fits in a row of a file, and the domain that it makes.

The same description makes the same domain in every process. Domains that are kept for measuring
are never changed into something to train on, nor lend their tools to anything.

In: a domain, descriptions of changes. Out: the changed domain. Must not know: how changes work.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal, cast, get_args

from openk2.envs.catalogue import HELD_OUT, domain
from openk2.envs.domain import Domain
from openk2.synth import evolve
from openk2.synth.merged import merged, problem

Kind = Literal[
    "rename", "obfuscate", "rename_params", "paraphrase", "schema", "missing", "distract", "merge"
]
"""What is changed. distract: tools of another domain stand beside. merge: another domain, goals
included. missing: a tool is taken away."""
_CHANGES: Mapping[str, Callable[[Domain, Random], Domain]] = {
    "rename": evolve.rename_tools,
    "obfuscate": evolve.obfuscate_tools,
    "rename_params": evolve.rename_params,
    "paraphrase": evolve.paraphrase,
    "schema": evolve.mutate_schemas,
    "missing": evolve.take_away,
}
_ORDER: Sequence[Kind] = (
    "merge", "distract", "missing", "schema", "paraphrase", "rename_params", "rename", "obfuscate"
)  # fmt: skip
"""In which changes are chained: names last, so that they cover what others bring."""
_JOINT = "~"
"""Between a domain's name and what was changed."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One change."""

    kind: Kind
    seed: int
    other: str = ""
    """Of merge and distract: the domain that comes in."""


def variant_json(one: Variant) -> dict[str, Any]:
    """Write a change as what JSON can hold."""
    row: dict[str, Any] = {"kind": one.kind, "seed": one.seed}
    return {**row, "other": one.other} if one.other else row


def read_variant(row: Mapping[str, Any]) -> Variant:
    """Read what `variant_json` wrote.

    Raises:
        ValueError: There is no such change.
    """
    kind = row.get("kind")
    if kind not in get_args(Kind):
        raise ValueError(f"{kind!r} is no change; there are {', '.join(get_args(Kind))}")
    return Variant(cast(Kind, kind), int(row["seed"]), str(row.get("other", "")))


def root(name: str) -> str:
    """Return the name of the domain that a variant was made of: what splits go by."""
    return name.partition(_JOINT)[0]


def vary(
    base: Domain,
    variants: Sequence[Variant],
    find: Callable[[str], Domain] = domain,
    held_out: Collection[str] = HELD_OUT,
) -> Domain:
    """Make a variant of a domain.

    Args:
        base: The domain.
        variants: What is changed, in order.
        find: Finds the domains that `merge` and `distract` name.
        held_out: Domains that must not be touched. Only what is never trained on may give none.

    Raises:
        ValueError: A domain that is held out would come in, or two cannot be one.
    """
    for name in (root(base.name), *(root(one.other) for one in variants)):
        if name in held_out:
            raise ValueError(f"{name} is held out: it is measured on, and never trained on")
    changed = base
    for one in variants:
        changed = _changed(changed, one, base.name, find)
    if not variants:
        return base
    told = ",".join(f"{one.kind}{one.seed}{':' * bool(one.other)}{one.other}" for one in variants)
    return replace(changed, name=f"{base.name}{_JOINT}{told}")


def _changed(now: Domain, one: Variant, base: str, find: Callable[[str], Domain]) -> Domain:
    rng = Random(f"{base}/{one.kind}/{one.seed}/{one.other}")
    if one.kind == "merge":
        return merged(now, find(one.other))
    if one.kind == "distract":
        other = find(one.other)
        count = min(len(other.tools), rng.randint(2, 6))
        names = [tool.name for tool in rng.sample(other.tools, count)]
        return merged(now, other, names)
    return _CHANGES[one.kind](now, rng)


def draw_variants(
    base: Domain,
    rng: Random,
    others: Sequence[str] = (),
    find: Callable[[str], Domain] = domain,
    held_out: Collection[str] = HELD_OUT,
) -> tuple[Variant, ...]:
    """Choose one to four changes of a domain.

    Args:
        base: The domain.
        rng: Chooses.
        others: Names of domains that may come in; without any, none does.
        find: Finds them.
        held_out: As in `vary`.
    """
    fitting = [name for name in others if name not in (root(base.name), *held_out)]
    kinds = [kind for kind in _ORDER if fitting or kind not in ("merge", "distract")]
    chosen = set(rng.sample(kinds, rng.choice((1, 2, 2, 3, 4))))
    if "obfuscate" in chosen:
        chosen.discard("rename")
    if "merge" in chosen:
        chosen.discard("distract")
    found: list[Variant] = []
    for kind in _ORDER:
        if kind not in chosen:
            continue
        other = ""
        if kind in ("merge", "distract"):
            some = rng.sample(fitting, min(4, len(fitting)))
            other = next((name for name in some if not problem(base, find(name))), "")
            if not other:
                continue
        found.append(Variant(kind, rng.randrange(1_000_000), other))
    return tuple(found) or (Variant("rename", rng.randrange(1_000_000)),)
