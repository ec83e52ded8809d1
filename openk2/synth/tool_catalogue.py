"""The catalogue of real tools as domains: the tools of one API stand together, three to twenty.

APIs with fewer tools join others of their category, larger ones are cut. Tools that evaluation
packs have are left out by name.

In: the data folder of the repository. Out: names of domains, and domains simulated by
specification. Must not know: what is made of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from openk2.envs import catalogue as written
from openk2.envs.domain import Domain
from openk2.synth.simulated import SpecSettings
from openk2.synth.spec_check import NAME, SpecLimits
from openk2.synth.spec_domain import spec_domain
from openk2.synth.specs import Loaded, collected, tool_list
from openk2.text.corpus import read_rows

Row = Mapping[str, Any]
PREFIX = "catalogue."
"""What the names of these domains begin with."""
FEWEST, MOST = 3, 20
"""Tools of one domain."""
_FILE = Path("tools") / "tool_catalogue.jsonl.zst"
_LICENCE = "MIT, Apache-2.0"
_WORD = re.compile(r"[^a-z0-9]+")
_BESIDE = ("parameters", "arguments", "description", "inputs", "output_parameters", "responses")
"""Keys that stand beside the name of a function."""


@dataclass(frozen=True, slots=True)
class Group:
    """The tools of one domain, not yet checked: that is done when the domain is made."""

    title: str
    """What people call the API."""
    source: str
    """Where the catalogue has it from."""
    rows: tuple[Row, ...]

    def load(self) -> Loaded:
        """Check the tools."""
        return collected(tool_list(self.rows), SpecLimits())


@cache
def groups(data: Path) -> Mapping[str, Group]:
    """Return the domains of the catalogue by name.

    Args:
        data: The data folder. Its `eval` folder says which tools are left out.

    Raises:
        OSError: There is no catalogue.
    """
    apis: dict[tuple[str, str], dict[str, Row]] = {}
    left_out = eval_tools(data / "eval")
    for row in read_rows(data / _FILE):
        if row["name"] not in left_out and NAME.fullmatch(row["name"]):
            apis.setdefault((row["source"], row["api"]), {}).setdefault(row["name"], row)
    categories: dict[tuple[str, str], dict[str, Row]] = {}
    for (source, _), rows in apis.items():
        if len(rows) < FEWEST:
            for name, row in rows.items():
                categories.setdefault((source, row["domain"]), {}).setdefault(name, row)
    large = [(key, rows) for key, rows in apis.items() if len(rows) >= FEWEST]
    found: dict[str, Group] = {}
    for (source, title), rows in (*large, *categories.items()):
        word = PREFIX + (_WORD.sub("-", title.lower()).strip("-")[:40] or "tools")
        for part in _parts(list(rows.values())):
            name, number = word, 1
            while name in found:
                number += 1
                name = f"{word}-{number}"
            found[name] = Group(title, source, tuple(part))
    return found


@cache
def catalogue_domain(name: str, data: Path) -> Domain:
    """Return a domain of the catalogue.

    Args:
        name: One of `groups`.
        data: The data folder.

    Raises:
        KeyError: There is none of that name.
    """
    group = groups(data)[name]
    loaded = group.load()
    settings = SpecSettings(licence=_LICENCE)
    return spec_domain(
        name, loaded.tools, outputs=loaded.outputs, settings=settings, title=group.title
    )


def finder(data: Path) -> Callable[[str], Domain]:
    """Return what finds hand-written domains and those of the catalogue by name.

    Args:
        data: The data folder.
    """

    def find(name: str) -> Domain:
        if name.startswith(PREFIX):
            return catalogue_domain(name, data)
        return written.domain(name)

    return find


@cache
def eval_tools(folder: Path) -> frozenset[str]:
    """Return the names of functions that evaluation packs have.

    Args:
        folder: Where the packs are; none are known if it is not there.
    """
    found: set[str] = set()
    for path in sorted(folder.glob("*.jsonl*")):
        for row in read_rows(path):
            found.update(_functions(row))
    return frozenset(found)


def _functions(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        for key in ("name", "api"):
            name = table.get(key)
            if isinstance(name, str) and any(beside in table for beside in _BESIDE):
                yield name
        for item in table.values():
            yield from _functions(item)
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            yield from _functions(item)
    elif isinstance(value, str) and value[:1] in ("{", "[") and '"name"' in value:
        try:
            yield from _functions(json.loads(value))
        except ValueError:
            return


def _parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Cut a long list evenly; one that is too short is left out."""
    if len(rows) < FEWEST:
        return
    count = -(-len(rows) // MOST)
    for part in range(count):
        yield rows[part * len(rows) // count : (part + 1) * len(rows) // count]
