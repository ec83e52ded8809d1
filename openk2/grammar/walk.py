"""The compiled part: a table-driven automaton run over many texts at once, and masks as bits.

In: sorted texts as one buffer, a byte automaton as a table. Out: which texts it reads to their end,
and which ones it leaves on the way, where.
Must not know: JSON, tools, or what a token is.

Shapes: T texts in order, B bytes of all texts, S states, C classes of bytes, N found, W mask words.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numba import njit

from openk2.kernels.cpu.cache import Unit, kept

WALKS = Unit("walks", (Path(__file__),), "")
"""Compiled in two seconds: not worth another process."""
DEAD = -1
INSIDE, BOUNDARY, CLOSED = 0, 1, 2
"""Kinds of states: in the middle of a character, between characters, after the last one."""


@njit(nogil=True, error_model="numpy")
def _read(
    byte_B: np.ndarray,
    reached: int,
    next_SC: np.ndarray,
    class_256: np.ndarray,
    kind_S: np.ndarray,
    fewest: int,
    most: int,
    state_D: np.ndarray,
    count_D: np.ndarray,
) -> int:
    """Read on as far as the automaton goes; return how far, states and counts noted on the way."""
    while reached < byte_B.size:
        n = count_D[reached]
        to = next_SC[state_D[reached], class_256[byte_B[reached]]]
        if to < 0:
            break
        kind = kind_S[to]
        if n < fewest if kind == CLOSED else n >= most:
            break
        reached += 1
        state_D[reached] = to
        count_D[reached] = n if kind == CLOSED else n + kind
    return reached


@kept(WALKS)
def run_over(
    byte_B: np.ndarray, offset_T: np.ndarray, common_T: np.ndarray, span: tuple[int, int, int],
    next_SC: np.ndarray, class_256: np.ndarray, kind_S: np.ndarray, final_S: np.ndarray,
    start: tuple[int, int, int], inside_N: np.ndarray, end_N: np.ndarray,
    left_N: np.ndarray, place_N: np.ndarray,
) -> tuple[int, int]:  # fmt: skip
    """Run the automaton over each text and tell how it ends.

    Args:
        byte_B: The texts, one after the other, sorted.
        offset_T: Where each begins, and one more for the end.
        common_T: How many bytes each shares with the one before it.
        span: First text, one past the last, and how many bytes of each were read before.
        next_SC: The next state by state and class of byte, `DEAD` where there is none.
        class_256: Class of every byte.
        kind_S: Kind of every state; each step to a `BOUNDARY` is one character.
        final_S: Whether the automaton may be left here.
        start: State, fewest and most characters that are still to come.
        inside_N: Texts that are read to their end.
        end_N: The state after each of them.
        left_N: Texts of which the automaton reads only the beginning.
        place_N: Where it leaves them.

    Returns:
        How many are inside, and how many were left.
    """
    low, high, depth = span
    state, fewest, most = start
    n_inside, n_left, longest = 0, 0, 0
    for t in range(low, high):
        longest = max(longest, offset_T[t + 1] - offset_T[t])
    state_D = np.empty(longest + 1, np.int32)
    count_D = np.empty(longest + 1, np.int32)
    state_D[depth] = state
    count_D[depth] = 0
    reached = depth  # states up to here are those of the text before
    stopped = False  # the text before was not read to its end
    ended = False  # it was left there, and not refused
    for t in range(low, high):
        first = offset_T[t]
        length = offset_T[t + 1] - first
        shared = common_T[t] if t > low else depth
        if not (t > low and stopped and shared > reached):
            reached = min(reached, max(shared, depth))
            bytes_B = byte_B[first : first + length]
            reached = _read(
                bytes_B, reached, next_SC, class_256, kind_S, fewest, most, state_D, count_D
            )
            stopped = reached < length
            if stopped:
                ended = final_S[state_D[reached]] and count_D[reached] >= fewest
        if not stopped:
            inside_N[n_inside] = t
            end_N[n_inside] = state_D[length]
            n_inside += 1
        elif ended and reached > depth:
            left_N[n_left] = t
            place_N[n_left] = reached
            n_left += 1
    return n_inside, n_left


@kept(WALKS)
def shared_prefixes(byte_B: np.ndarray, offset_T: np.ndarray, common_T: np.ndarray) -> None:
    """Count how many bytes each text shares with the one before it."""
    for t in range(1, len(common_T)):
        a, b = offset_T[t - 1], offset_T[t]
        most = min(b - a, offset_T[t + 1] - b)
        n = 0
        while n < most and byte_B[a + n] == byte_B[b + n]:
            n += 1
        common_T[t] = n


@kept(WALKS)
def set_bits(bits_W: np.ndarray, id_N: np.ndarray) -> None:
    """Set bit v % 32 of word v // 32 for every id v."""
    for v in id_N:
        bits_W[v >> 5] |= np.uint32(1) << np.uint32(v & 31)
