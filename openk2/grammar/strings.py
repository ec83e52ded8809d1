"""JSON strings as automata: the body of any string, and bodies made of chosen characters.

In: ranges of code points. Out: edges of an `Nfa`, or a finished `Dfa`, to the closing quote
included (the opening one is written before).
Must not know: schemas, tools, tokens.

The body of any string takes every spelling of RFC 8259 but lone surrogates, and only valid UTF-8.
Chosen characters are spelled as `json.dumps(..., ensure_ascii=False)` spells them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from openk2.grammar.dfa import Dfa, Nfa

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


def body_except(words: Sequence[bytes], limit: int) -> Dfa:
    """Build the body of any string that is none of `words` and has no escapes.

    Raises:
        TooManyStatesError: The words are too long, all together.
    """
    nfa = Nfa()
    body, end = nfa.add(boundary=True), nfa.add()
    nfa.link(body, QUOTE, QUOTE, end)
    spell(nfa, body, UNESCAPED, body)
    accepted = nfa.determinize(body, end, 64)
    return _without(accepted, words, limit)


def _without(dfa: Dfa, words: Sequence[bytes], limit: int) -> Dfa:
    """Run a trie of words beside `dfa` and refuse the end where a word ends."""
    from openk2.grammar.dfa import TooManyStatesError

    tries: list[dict[int, int]] = [{}]
    ends: set[int] = set()
    for word in words:
        node = 0
        for byte in word + b'"':
            if byte not in tries[node]:
                tries.append({})
                tries[node][byte] = len(tries) - 1
            node = tries[node][byte]
        ends.add(node)
    if len(tries) > limit:
        raise TooManyStatesError(f"more than {limit} bytes of names")
    class_of = bytes(range(256))
    number = {(0, 0): 0}
    order = [(0, 0)]
    rows: list[list[int]] = []
    for state, node in order:
        row: list[int] = []
        for byte in range(256):
            to = dfa.next(state, byte)
            after = tries[node].get(byte, -1) if node >= 0 else -1
            if to < 0 or after in ends:
                row.append(-1)
                continue
            pair = (to, after)
            if pair not in number:
                number[pair] = len(order)
                order.append(pair)
            row.append(number[pair])
        rows.append(row)
    finals = {i for i, (state, _) in enumerate(order) if state in dfa.finals}
    return Dfa(rows, class_of, [dfa.kinds[state] for state, _ in order], finals)


def character(nfa: Nfa, state: int, ranges: Ranges, to: int) -> None:
    """Lead from a state to another by one character, escaped where JSON needs it."""
    for point in _ESCAPED:
        if any(low <= point <= high for low, high in ranges):
            nfa.spell(state, json.dumps(chr(point))[1:-1].encode(), to)
    spell(nfa, state, intersect(ranges, UNESCAPED), to)


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
