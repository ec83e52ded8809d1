"""How wide the data can get: domains and tools within reach, and a map of them.

The map places tools by their words: two that are described alike lie close together.

In: domains. Out: counts, a picture. Must not know: what is made of the domains.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openk2.envs.catalogue import HELD_OUT, domain, names
from openk2.synth.meanings import words_of
from openk2.synth.tool_catalogue import catalogue_domain, groups

WRITTEN = "written by hand"
BINS = 384
"""Into which words are hashed."""


@dataclass(frozen=True, slots=True)
class Reached:
    """One tool within reach."""

    domain: str
    source: str
    name: str
    description: str
    asked: bool
    """Whether a goal needs it; the others stand beside, to be left alone."""


def reached(data: Path | None, held_out: Collection[str] = HELD_OUT) -> list[Reached]:
    """List the tools of every domain that may be trained on.

    Args:
        data: The data folder with the catalogue; None counts what is written by hand only.
        held_out: Domains that are left out.
    """
    found: list[Reached] = []
    for name in names():
        if name not in held_out:
            one = domain(name)
            found += [Reached(name, WRITTEN, t.name, t.en, asked=True) for t in one.tools]
    if data is None:
        return found
    for name, group in groups(data).items():
        one = catalogue_domain(name, data)
        wanted = {part for intent in one.intents for part in intent.name.rstrip("+").split(">")}
        found += [
            Reached(name, _family(group.source), t.name, t.spec().description, t.name in wanted)
            for t in one.tools
        ]
    return found


def _family(source: str) -> str:
    if source.startswith("openapi"):
        return "public HTTP APIs"
    known = {"seal-tools": "Seal-Tools", "aws-botocore": "AWS", "taskbench": "TaskBench"}
    return known.get(source, "MCP servers")


def counts(tools: Sequence[Reached]) -> dict[str, Any]:
    """Count domains and tools.

    Args:
        tools: What `reached` returned.
    """
    per_source = Counter(tool.source for tool in tools)
    domains = Counter(source for _, source in {(tool.domain, tool.source) for tool in tools})
    asked = [tool for tool in tools if tool.asked]
    return {
        "domains": len({tool.domain for tool in tools}),
        "tools": len(tools),
        "distinct_tools": len({(tool.name, tool.description) for tool in tools}),
        "distinct_names": len({tool.name for tool in tools}),
        "distinct_tools_with_goals": len({(tool.name, tool.description) for tool in asked}),
        "by_source": {
            source: {"domains": domains[source], "tools": count}
            for source, count in per_source.most_common()
        },
    }


def positions(texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Place texts in a plane: hashed words, rare ones count more, two principal components.

    Args:
        texts: N of them.

    Returns:
        Coordinates of shape (N, 2), each column scaled to a spread of 1.
    """
    words_NB = np.zeros((len(texts), BINS), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in words_of(text):
            words_NB[row, zlib.crc32(word.encode()) % BINS] += 1
    having_B = (words_NB > 0).sum(axis=0)
    weight_B = np.log((1 + len(texts)) / (1 + having_B))
    scaled_NB = np.sqrt(words_NB) * weight_B
    scaled_NB /= np.linalg.norm(scaled_NB, axis=1, keepdims=True) + 1e-9
    centred_NB = (scaled_NB - scaled_NB.mean(axis=0)).astype(np.float64)
    _, directions_BB = np.linalg.eigh(centred_NB.T @ centred_NB)
    plane_N2 = centred_NB @ directions_BB[:, -2:][:, ::-1]
    # An eigenvector has no sign of its own: the same texts must give the same picture.
    plane_N2 *= np.sign(plane_N2[np.abs(plane_N2).argmax(axis=0), [0, 1]])
    return plane_N2 / (plane_N2.std(axis=0) + 1e-9)


def draw(tools: Sequence[Reached], path: Path, numbers: Mapping[str, Any]) -> None:
    """Draw the map of tools, and how large domains are.

    Args:
        tools: What `reached` returned.
        path: The picture.
        numbers: What `counts` returned.
    """
    from matplotlib.figure import Figure

    plane_N2 = positions([f"{tool.name} {tool.description[:300]}" for tool in tools])
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    for source in sorted(numbers["by_source"], key=lambda source: source == WRITTEN):
        rows = [at for at, tool in enumerate(tools) if tool.source == source]
        hand = source == WRITTEN
        left.scatter(
            plane_N2[rows, 0],
            plane_N2[rows, 1],
            s=12 if hand else 4,
            alpha=0.95 if hand else 0.45,
            color="black" if hand else None,
            marker="^" if hand else "o",
            linewidths=0,
            label=f"{source} ({numbers['by_source'][source]['tools']:,})",
        )
    left.set_title(
        f"{numbers['distinct_tools']:,} tools in {numbers['domains']:,} domains, by words"
    )
    left.set_xlabel("first principal component")
    left.set_ylabel("second principal component")
    left.legend(markerscale=2, fontsize=8, loc="best")
    sizes = Counter(Counter(tool.domain for tool in tools).values())
    right.bar(list(sizes), list(sizes.values()), color="tab:blue")
    right.set_title("tools per domain")
    right.set_xlabel("tools")
    right.set_ylabel("domains")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)  # pyright: ignore[reportUnknownMemberType]
