"""JSON strings as automata: the body of any string, and bodies made of chosen characters.

In: ranges of code points. Out: edges of an `Nfa`, or a finished `Dfa`, to the closing quote
included (the opening one is written before).
Must not know: schemas, tools, tokens.

The body of any string takes every spelling of RFC 8259 but lone surrogates, and only valid UTF-8.
Chosen characters are spelled as `json.dumps(..., ensure_ascii=False)` spells them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from openk2.grammar.dfa import FAR, Dfa, Nfa, TooManyStatesError
from openk2.grammar.walk import DEAD

Ranges = Sequence[tuple[int, int]]
"""First and last code points, in order, apart from each other."""

ANY: Ranges = ((0, 0xD7FF), (0xE000, 0x10FFFF))
UNESCAPED: Ranges = (
    *((0x20, 0x21), (0x23, 0x5B), (0x5D, 0xD7FF)),
    (0xE000, 0x10FFFF),
)
_ESCAPED = (*range(0x20), 0x22, 0x5C)
_HEX = b"0123456789abcdefABCDEF"
QUOTE = 0x22


def any_body() -> Dfa:
    """Build the body of any string with its closing quote; characters are counted."""
    nfa = Nfa()
    body, end = nfa.add(boundary=True), nfa.add()
    nfa.link(body, QUOTE, QUOTE, end)
    spell(nfa, body, UNESCAPED, body)
    escape = nfa.add()
    nfa.link(body, 0x5C, 0x5C, escape)
    for byte in b'"\\/bfnrt':
        nfa.link(escape, byte, byte, body)
    _escape_units(nfa, escape, body)
    return nfa.determinize(body, end, 64)


def _escape_units(nfa: Nfa, escape: int, body: int) -> None:
    """Add `uXXXX` but for surrogates, and pairs of them as one character."""
    first, last3, last2, last1 = (nfa.add() for _ in range(4))
    nfa.link(escape, 0x75, 0x75, first)
    for state, to in ((last3, last2), (last2, last1), (last1, body)):
        _hex(nfa, state, _HEX, to)
    _hex(nfa, first, bytes(set(_HEX) - set(b"dD")), last3)
    second, high2, high1, slash, u, low, low3, low2, low1 = (nfa.add() for _ in range(9))
    _hex(nfa, first, b"dD", second)
    _hex(nfa, second, b"01234567", last2)
    _hex(nfa, second, b"89abAB", high2)
    _hex(nfa, high2, _HEX, high1)
    _hex(nfa, high1, _HEX, slash)
    nfa.link(slash, 0x5C, 0x5C, u)
    nfa.link(u, 0x75, 0x75, low)
    _hex(nfa, low, b"dD", low3)
    _hex(nfa, low3, b"cdefCDEF", low2)
    _hex(nfa, low2, _HEX, low1)
    _hex(nfa, low1, _HEX, body)


def _hex(nfa: Nfa, state: int, digits: bytes, to: int) -> None:
    for byte in digits:
        nfa.link(state, byte, byte, to)


def counted_body(ranges: Ranges) -> Dfa:
    """Build a body of any number of characters out of `ranges`, with its closing quote."""
    nfa = Nfa()
    body, end = nfa.add(boundary=True), nfa.add()
    nfa.link(body, QUOTE, QUOTE, end)
    character(nfa, body, ranges, body)
    return nfa.determinize(body, end, 256)


def without(dfa: Dfa, words: Sequence[bytes], limit: int) -> Dfa:
    """Build an automaton that reads what `dfa` reads, but none of `words`.

    Raises:
        TooManyStatesError: The words are too long, all together.
    """
    tries: list[dict[int, int]] = [{}]
    ends: set[int] = set()
    for word in words:
        node = 0
        for byte in word:
            if byte not in tries[node]:
                tries.append({})
                tries[node][byte] = len(tries) - 1
            node = tries[node][byte]
        ends.add(node)
    if len(tries) > limit:
        raise TooManyStatesError(f"more than {limit} bytes of names")
    told = {byte for trie in tries for byte in trie}
    pairs = [(dfa.class_of[byte], byte if byte in told else -1) for byte in range(256)]
    classes = list(dict.fromkeys(pairs))

    def step(state: int, node: int, cls: tuple[int, int]) -> tuple[int, int] | None:
        to = dfa.rows[state][cls[0]]
        after = tries[node].get(cls[1], -1) if node >= 0 else -1
        return None if to < 0 or (after in ends and to in dfa.finals) else (to, after)

    return _product(dfa, classes, [classes.index(pair) for pair in pairs], step)


def with_length(dfa: Dfa, fewest: int, most: int, limit: int) -> Dfa:
    """Build an automaton that reads of what `dfa` reads only so many characters.

    Raises:
        TooManyStatesError: It would be too big.
    """
    if len(dfa.rows) * (fewest if most >= FAR else most) > limit:
        raise TooManyStatesError(f"more than {limit} states")
    classes = [(cls, 0) for cls in range(len(dfa.members))]

    def step(state: int, count: int, cls: tuple[int, int]) -> tuple[int, int] | None:
        to = dfa.rows[state][cls[0]]
        if to < 0 or (to in dfa.finals and count < fewest):
            return None
        if to in dfa.finals:
            return to, count
        after = count + dfa.kinds[to]
        return None if count >= most else (to, min(after, fewest) if most >= FAR else after)

    return _product(dfa, classes, list(dfa.class_of), step)


def _product(
    dfa: Dfa,
    classes: Sequence[tuple[int, int]],
    class_of: Sequence[int],
    step: Callable[[int, int, tuple[int, int]], tuple[int, int] | None],
) -> Dfa:
    """Run something that remembers a number beside `dfa`."""
    number = {(0, 0): 0}
    order = [(0, 0)]
    rows: list[list[int]] = []
    for state, memory in order:
        row: list[int] = []
        for cls in classes:
            pair = step(state, memory, cls)
            if pair is not None and pair not in number:
                number[pair] = len(order)
                order.append(pair)
            row.append(DEAD if pair is None else number[pair])
        rows.append(row)
    finals = {i for i, (state, _) in enumerate(order) if state in dfa.finals}
    return Dfa(rows, bytes(class_of), [dfa.kinds[state] for state, _ in order], finals)


def character(nfa: Nfa, state: int, ranges: Ranges, to: int) -> None:
    """Lead from a state to another by one character, escaped where JSON needs it."""
    middles = {b"": state}
    for point in _ESCAPED:
        if any(low <= point <= high for low, high in ranges):
            _escaped(nfa, json.dumps(chr(point))[1:-1].encode(), middles, to)
    spell(nfa, state, intersect(ranges, UNESCAPED), to)


def _escaped(nfa: Nfa, spelled: bytes, middles: dict[bytes, int], to: int) -> None:
    """Add one escape; those with the same beginning share its states."""
    for end in range(1, len(spelled)):
        before, byte, after = spelled[: end - 1], spelled[end - 1], spelled[:end]
        if after not in middles:
            middles[after] = nfa.add()
            nfa.link(middles[before], byte, byte, middles[after])
    nfa.link(middles[spelled[:-1]], spelled[-1], spelled[-1], to)


def intersect(a: Ranges, b: Ranges) -> list[tuple[int, int]]:
    """Return what two sets of code points share."""
    pairs = ((max(p, r), min(q, s)) for p, q in a for r, s in b)
    return sorted((low, high) for low, high in pairs if low <= high)


def spell(nfa: Nfa, state: int, ranges: Ranges, to: int) -> None:
    """Lead from a state to another by the UTF-8 of one code point out of `ranges`."""
    middles: dict[tuple[tuple[int, int], ...], int] = {(): to}
    for low, high in ranges:
        for sequence in _utf8(low, high):
            _share(nfa, state, sequence, middles)


def _share(
    nfa: Nfa,
    state: int,
    sequence: tuple[tuple[int, int], ...],
    middles: dict[tuple[tuple[int, int], ...], int],
) -> None:
    """Add one sequence of byte ranges; those with the same rest share its states."""
    for i, (low, high) in enumerate(sequence):
        rest = sequence[i + 1 :]
        known = rest in middles
        if not known:
            middles[rest] = nfa.add()
        nfa.link(state, low, high, middles[rest])
        if known:
            return
        state = middles[rest]


def _utf8(low: int, high: int) -> list[tuple[tuple[int, int], ...]]:
    """Split code points into sequences of byte ranges (as Thompson's utf8-ranges do)."""
    for limit in (0x7F, 0x7FF, 0xFFFF):
        if low <= limit < high:
            return _utf8(low, limit) + _utf8(limit + 1, high)
    if high <= 0x7F:
        return [((low, high),)]
    for bits in (6, 12, 18):
        mask = (1 << bits) - 1
        if low & ~mask != high & ~mask:
            if low & mask:
                return _utf8(low, low | mask) + _utf8((low | mask) + 1, high)
            if high & mask != mask:
                return _utf8(low, (high & ~mask) - 1) + _utf8(high & ~mask, high)
    return [tuple(zip(chr(low).encode(), chr(high).encode(), strict=True))]
