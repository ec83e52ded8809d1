"""What the engine is measured at, and what it is held against.

In: speeds per contender and round. Out: for every goal a ratio and whether it is met.
Must not know: how anything is measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Row = Literal["decode", "busy", "prefill512", "prefill2048", "streams", "transformers", "prefix"]
ROWS: tuple[Row, ...] = (
    *("decode", "busy", "prefill512", "prefill2048", "streams", "transformers", "prefix"),
)
OURS = "openk2"
LLAMA = ("llama.cpp Q4_0", "llama.cpp Q4_0 pure")
HF = ("transformers eager", "transformers compiled")
SHARED, UNSHARED, COLD = "prefix read before", "nothing shared", "prefix shared, read by nobody yet"
BUSY = " busy"
MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the table."""

    model: str
    row: Row
    text: str
    ours: tuple[str, ...]
    """Ways and thread counts may differ; the one with the best median counts."""
    peers: tuple[str, ...]
    """Likewise: the best one is the one to beat."""
    at_least: float
    peer_threads: int | None = None
    """None: the best."""
    of_limit: bool = False
    """The peer is the memory's bandwidth over the bytes that a token reads."""


def _llama(model: str, row: Row, text: str, at_least: float) -> Goal:
    return Goal(model, row, text, (OURS,), LLAMA, at_least)


def _busy(model: str) -> Goal:
    text = "decode while a process keeps one core busy, to our own quiet one-thread speed"
    return Goal(model, "busy", text, (OURS + BUSY,), (OURS,), 0.8, peer_threads=1)


def _prefix(model: str) -> Goal:
    text = "first token of 16 requests whose 2k prefix was read before, to none"
    return Goal(model, "prefix", text, (SHARED,), (UNSHARED,), 10)


GOALS: tuple[Goal, ...] = (
    _llama("nano", "decode", "decode, one stream, to llama.cpp", 4),
    _llama("small", "decode", "decode, one stream, to llama.cpp", 1.5),
    Goal("small", "decode", "decode, of the limit", (OURS,), (MEMORY,), 0.75, of_limit=True),
    _busy("nano"),
    _busy("small"),
    _llama("nano", "prefill512", "prefill 512, to llama.cpp", 1.5),
    _llama("nano", "prefill2048", "prefill 2048, to llama.cpp", 1.5),
    _llama("small", "prefill512", "prefill 512, to llama.cpp", 1.5),
    _llama("small", "prefill2048", "prefill 2048, to llama.cpp", 1.5),
    _llama("nano", "streams", "32 streams together, to llama.cpp without its server", 3),
    Goal("nano", "transformers", "decode, one stream, to transformers", (OURS,), HF, 40),
    Goal("small", "transformers", "decode, one stream, to transformers", (OURS,), HF, 12),
    _prefix("nano"),
    _prefix("small"),
)
ELSEWHERE = (
    "H200, decode of 1 and of 64 streams, small and a shape of 1B active weights: >= 5x compiled "
    "transformers; not measured by this bench"
)

Speeds = Mapping[tuple[str, int], Sequence[float]]
"""Tokens per second of every round, by contender and threads."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal and what came of it."""

    model: str
    goal: str
    at_least: float
    ours: str | None = None
    ours_per_s: float | None = None
    peer: str | None = None
    peer_per_s: float | None = None
    ratio: float | None = None
    """Of the medians."""
    ratio_of_rounds: tuple[float, float] | None = None
    """Smallest and largest of the ratios inside one round."""
    verdict: Literal["met", "missed", "not measured"] = "not measured"
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it for the record."""
        return asdict(self)


def judge(goal: Goal, speeds: Speeds, bytes_per_token: float, reason: str) -> Verdict:
    """Compare the best way of each side.

    Args:
        goal: Where the goal stands.
        speeds: What the row measured.
        bytes_per_token: What the bandwidth limit is made of.
        reason: Why it is missed, if somebody knows, or why a side is missing.
    """
    ours = _best(speeds, goal.ours, None)
    peer = _best(speeds, goal.peers, goal.peer_threads)
    found = Verdict(goal.model, goal.text, goal.at_least, reason=reason)
    if ours is None or peer is None:
        return found
    a, b = speeds[ours], speeds[peer]
    if goal.of_limit:
        b = [speed / bytes_per_token for speed in b]
    ratio = statistics.median(a) / statistics.median(b)
    rounds = [mine / theirs for mine, theirs in zip(a, b, strict=False)]
    is_met = ratio >= goal.at_least
    return Verdict(
        goal.model,
        goal.text,
        goal.at_least,
        _label(*ours),
        _rounded(statistics.median(a)),
        _label(*peer),
        _rounded(statistics.median(b)),
        _rounded(ratio),
        (_rounded(min(rounds)), _rounded(max(rounds))),
        "met" if is_met else "missed",
        "" if is_met else reason or "no reason was given to the bench; --why gives one",
    )


def _best(speeds: Speeds, kinds: tuple[str, ...], threads: int | None) -> tuple[str, int] | None:
    known = [key for key in speeds if key[0] in kinds and speeds[key] and threads in (None, key[1])]
    return max(known, key=lambda key: statistics.median(speeds[key]), default=None)


def _label(kind: str, threads: int) -> str:
    return f"{kind}, {threads} thr"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def as_table(verdicts: Sequence[Verdict]) -> str:
    """Return the goals as lines of text."""
    lines = [f"{'model':6} {'goal':64} {'>=':>5} {'ratio':>7} {'rounds':>15}  verdict"]
    for v in verdicts:
        ratio = "-" if v.ratio is None else f"{v.ratio:.2f}"
        spread = "-" if v.ratio_of_rounds is None else "{:.2f}..{:.2f}".format(*v.ratio_of_rounds)
        lines.append(
            f"{v.model:6} {v.goal:64} {v.at_least:>5g} {ratio:>7} {spread:>15}  {v.verdict}"
        )
        if v.ours is not None:
            lines.append(f"{'':7}{v.ours_per_s:g}/s {v.ours}; {v.peer_per_s:g}/s {v.peer}")
        if v.reason:
            lines.append(f"{'':7}{v.reason}")
    return "\n".join([*lines, ELSEWHERE])
