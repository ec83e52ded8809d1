"""Where a domain comes from: hand-written, evolved, or tools known by specification only.

In: a description that fits in a row of a file. Out: the domain, the same in every process.
Must not know: agents, tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from openk2.envs.catalogue import HELD_OUT, names
from openk2.envs.domain import Domain
from openk2.synth.config import SynthConfig
from openk2.synth.spec_domain import spec_domain
from openk2.synth.specs import load_specs
from openk2.synth.tool_catalogue import finder, groups
from openk2.synth.variants import Variant, draw_variants, read_variant, variant_json, vary

TOOLS = "tools:"
"""Before the path of a file of specifications, in a source's base."""


@dataclass(frozen=True, slots=True)
class Source:
    """A description of a domain."""

    base: str
    """A hand-written domain's name, a group's of the catalogue, or `tools:PATH`."""
    variants: tuple[Variant, ...] = ()
    """How it is changed, in order."""
    data: str = "data"
    """Folder of the catalogue."""

    @property
    def key(self) -> str:
        """Return what a split must keep together."""
        return self.base

    def strangers(self) -> Sequence[Source]:
        """Return sources whose requests this domain cannot serve."""
        others = [name for name in names() if name != self.base and name not in HELD_OUT]
        chosen = Random(f"strangers/{self.base}").sample(others, min(3, len(others)))
        return [Source(name) for name in chosen]


def source_json(source: Source) -> dict[str, Any]:
    """Write a source as what JSON can hold."""
    variants = [variant_json(one) for one in source.variants]
    return {"base": source.base, "variants": variants, "data": source.data}


def read_source(row: Mapping[str, Any]) -> Source:
    """Read what `source_json` wrote."""
    return Source(row["base"], tuple(map(read_variant, row["variants"])), row["data"])


@lru_cache(1024)
def open_source(source: Source) -> Domain:
    """Make the domain of a source."""
    if source.base.startswith(TOOLS):
        loaded = load_specs(Path(source.base.removeprefix(TOOLS)))
        made = spec_domain("your_tools", loaded.tools, outputs=loaded.outputs)
        return replace(made, en="this service", zh="本服务")
    find = finder(Path(source.data))
    base = find(source.base)
    return vary(base, source.variants, find) if source.variants else base


def draw_source(number: int, config: SynthConfig) -> Source:
    """Choose the domain of an agent.

    Args:
        number: Which agent of the run.
        config: Which domains, and how often they are changed.

    Raises:
        KeyError: There is no domain of a name that the settings give.
    """
    rng = Random(f"source/{config.seed}/{number}")
    if config.tools_file is not None:
        return Source(f"{TOOLS}{config.tools_file}")
    learned = tuple(name for name in names() if name not in HELD_OUT)
    if not config.domains and config.data is not None and rng.random() < config.catalogue:
        base = rng.choice(sorted(groups(Path(config.data))))
    else:
        base = rng.choice(config.domains or learned)
    data = config.data or "data"
    if base in HELD_OUT or rng.random() >= config.variants:
        return Source(base, data=data)
    # Few enough that a run meets each again: making one costs as much as several conversations.
    again = Random(f"variant/{config.seed}/{base}/{rng.randrange(config.variants_per_domain)}")
    find = finder(Path(data))
    return Source(base, draw_variants(find(base), again, learned, find), data)
