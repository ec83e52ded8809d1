"""JSON numbers as automata.

In: bounds. Out: a finished `Dfa`.
Must not know: schemas, tokens.

Numbers have few enough digits for every reader: integers what 64 bits hold, others what a double
prints and no exponent that overflows.
"""

from __future__ import annotations

from openk2.grammar.dfa import Dfa, Nfa

DIGITS = 18
"""Of an integer without bounds: all of them fit into 64 bits."""
_FRACTION = 17


def integer() -> Dfa:
    """Build any integer."""
    nfa, start, end = _ends()
    _whole(nfa, _sign(nfa, start), end)
    return nfa.determinize(start, end, 256)


def number() -> Dfa:
    """Build any number."""
    nfa, start, end = _ends()
    whole = nfa.add()
    _whole(nfa, _sign(nfa, start), whole)
    fraction = nfa.add()
    nfa.silent[whole] += [fraction, end]
    dot = nfa.add()
    nfa.link(whole, 0x2E, 0x2E, dot)
    _digits(nfa, dot, 1, _FRACTION, fraction)
    nfa.silent[fraction].append(end)
    exponent = nfa.add()
    for byte in b"eE":
        nfa.link(fraction, byte, byte, exponent)
    signed = nfa.add()
    nfa.silent[exponent].append(signed)
    for byte in b"+-":
        nfa.link(exponent, byte, byte, signed)
    _digits(nfa, signed, 1, 2, end)
    hundreds = nfa.add()
    nfa.link(signed, 0x31, 0x31, hundreds)
    _digits(nfa, hundreds, 2, 2, end)
    return nfa.determinize(start, end, 256)


def _ends() -> tuple[Nfa, int, int]:
    nfa = Nfa()
    return nfa, nfa.add(), nfa.add()


def _sign(nfa: Nfa, start: int) -> int:
    after = nfa.add()
    nfa.silent[start].append(after)
    nfa.link(start, 0x2D, 0x2D, after)
    return after


def _whole(nfa: Nfa, start: int, end: int) -> None:
    nfa.link(start, 0x30, 0x30, end)
    first = nfa.add()
    nfa.link(start, 0x31, 0x39, first)
    _digits(nfa, first, 0, DIGITS - 1, end)


def _digits(nfa: Nfa, state: int, fewest: int, most: int, end: int) -> None:
    """Lead from a state to `end` by any digits."""
    for count in range(most + 1):
        if count >= fewest:
            nfa.silent[state].append(end)
        if count < most:
            after = nfa.add()
            nfa.link(state, 0x30, 0x39, after)
            state = after
