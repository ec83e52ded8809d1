"""Trajectories → rows that a model reads in one go: what stands where, and what has a loss.

In: trajectories, and the row that they may fill. Out: rows of whole trajectories without padding,
in which every token knows its document, so that attention never crosses a border, and every
emitted token the place that predicts it. Must not know: models, rewards, text.

Legend: T tokens of a row, N tokens with a loss, S trajectories of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openk2.text.packing import IntArray
from openk2.types import Trajectory


@dataclass(frozen=True, slots=True)
class Sampled:
    """A trajectory as arrays: its tokens, and those of them that the policy emitted."""

    ids_T: IntArray
    """int64; the last token is only a target."""
    at_N: IntArray
    """int64 place of the token before each one that was emitted: there it is predicted."""
    served_N: IntArray
    """float64 log-probabilities."""
    version_N: IntArray
    """int64 policy versions."""


@dataclass(frozen=True, slots=True)
class Row:
    """Trajectories side by side."""

    members_S: IntArray
    """Which trajectories, as numbers of the whole."""
    ids_T: IntArray
    """int64 input tokens."""
    doc_T: IntArray
    """int64 number of the trajectory within the row."""
    wanted_N: IntArray
    """int64 places whose prediction has a loss, in rising order."""
    target_N: IntArray
    """int64 the token that came."""
    sequence_N: IntArray
    """int64 number of the trajectory within the row."""
    served_N: IntArray
    """float64 log-probabilities as served."""
    version_N: IntArray
    """int64 policy versions."""


def sampled(trajectory: Trajectory, oldest: int = 0) -> Sampled:
    """Lay a trajectory's segments end to end.

    Args:
        trajectory: What was read and written.
        oldest: Segments of an earlier policy version are only read.

    Raises:
        ValueError: Its first token was emitted, which nothing predicts, or a log-probability is not
            a number.
    """
    ids: list[int] = []
    at: list[int] = []
    served: list[float] = []
    version: list[int] = []
    for segment in trajectory.segments:
        if segment.emitted and segment.version >= oldest:
            at += range(len(ids) - 1, len(ids) - 1 + len(segment.ids))
            served += segment.own
            version += [segment.version] * len(segment.ids)
        ids += segment.ids
    if at[:1] == [-1]:
        raise ValueError(
            f"a trajectory of {trajectory.problem!r} begins with an emitted token, which nothing "
            "predicts: begin it with its prompt"
        )
    served_N = np.asarray(served, np.float64)
    if not np.isfinite(served_N).all():
        raise ValueError(
            f"a trajectory of {trajectory.problem!r} has a log-probability that is not finite: "
            "leave it out, or give its tokens none"
        )
    return Sampled(
        np.asarray(ids, np.int64), np.asarray(at, np.int64), served_N, np.asarray(version, np.int64)
    )


def pack(every: Sequence[Sampled], members: Sequence[int], row_tokens: int) -> list[Row]:
    """Put trajectories into rows by best fit, the longest first; a row holds what is given to it.

    Args:
        every: All trajectories.
        members: Which of them to pack; those without an emitted token are left out.
        row_tokens: Tokens of a row; a trajectory that is longer has a row of its own.
    """
    wanted = [member for member in members if len(every[member].at_N)]
    rows: list[list[int]] = []
    room: list[int] = []
    for member in sorted(wanted, key=lambda member: -len(every[member].ids_T)):
        length = len(every[member].ids_T) - 1
        fitting = [row for row, left in enumerate(room) if left >= length]
        if not fitting:
            fitting = [len(rows)]
            rows.append([])
            room.append(row_tokens)
        best = min(fitting, key=room.__getitem__)
        rows[best].append(member)
        room[best] -= length
    return [_row(every, row) for row in rows]


def _row(every: Sequence[Sampled], members: Sequence[int]) -> Row:
    chosen = [every[member] for member in members]
    lengths = [len(one.ids_T) - 1 for one in chosen]
    starts = np.cumsum([0, *lengths[:-1]])
    places = zip(chosen, starts, strict=True)
    numbers = np.arange(len(chosen))
    return Row(
        members_S=np.asarray(members, np.int64),
        ids_T=np.concatenate([one.ids_T[:-1] for one in chosen]),
        doc_T=np.repeat(numbers, lengths),
        wanted_N=np.concatenate([start + one.at_N for one, start in places]),
        target_N=np.concatenate([one.ids_T[one.at_N + 1] for one in chosen]),
        sequence_N=np.repeat(numbers, [len(one.at_N) for one in chosen]),
        served_N=np.concatenate([one.served_N for one in chosen]),
        version_N=np.concatenate([one.version_N for one in chosen]),
    )
