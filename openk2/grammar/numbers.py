"""JSON numbers as automata.

In: bounds. Out: a finished `Dfa`.
Must not know: schemas, tokens.

Numbers have few enough digits for every reader: integers what 64 bits hold, others what a double
prints and no exponent that overflows.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

from openk2.grammar.dfa import Dfa, Nfa

DIGITS = 18
"""Of an integer without bounds: all of them fit into 64 bits."""
_FRACTION = 20
"""Seventeen digits of a double, and three zeros before them: 1e-4 is the least without exponent."""
_PLACES = 6


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


def between(low: Decimal | None, high: Decimal | None, ends: tuple[bool, bool], whole: bool) -> Dfa:
    """Build numbers between bounds; not all fractions, but only ones that no rounding moves out.

    Args:
        low: Least number; None: any.
        high: Greatest number; None: any.
        ends: Whether low and high themselves are allowed.
        whole: Integers only.
    """
    nfa, start, end = _ends()
    build = _Between(nfa, whole, end)
    far = Decimal(10) ** DIGITS - 1
    low, high = -far if low is None else max(low, -far), far if high is None else min(high, far)
    if high >= 0:
        zero = low < 0
        build.magnitudes(start, Decimal(0) if zero else low, high, (zero or ends[0], ends[1]))
    if low < 0:
        minus = nfa.add()
        nfa.link(start, 0x2D, 0x2D, minus)
        least = Decimal(0) if high >= 0 else -high
        build.magnitudes(minus, least, -low, (high < 0 and ends[1], ends[0]))
    return nfa.determinize(start, end, 4096)


class _Between:
    """Adds numbers without a sign to an automaton."""

    def __init__(self, nfa: Nfa, whole: bool, end: int) -> None:
        self.nfa, self.whole, self.end = nfa, whole, end
        self._any: dict[tuple[int, int], int] = {}

    def magnitudes(self, start: int, low: Decimal, high: Decimal, ends: tuple[bool, bool]) -> None:
        """Lead from `start` to the end by the numbers between two that are not negative."""
        first, last = int(low.to_integral_value(ROUND_CEILING)), int(high)
        first += first == low and not ends[0]
        last -= last == high and not ends[1]
        self.integers(start, first, last, self.end)
        if self.whole:
            return
        # n.ddd is at least n and less than n + 1, and six digits after so few stay there.
        units = range(first, min(int(high), 10**9))
        if units:
            dot = self.nfa.add()
            self.integers(start, units[0], units[-1], dot)
            point = self.nfa.add()
            self.nfa.link(dot, 0x2E, 0x2E, point)
            _digits(self.nfa, point, 1, _PLACES, self.end)
        for unit in sorted({int(low), int(high)}):
            if unit not in units and unit < 10**9:
                self._part(start, unit, max(low, Decimal(unit)), min(high, Decimal(unit + 1)), ends)

    def _part(
        self, start: int, unit: int, low: Decimal, high: Decimal, ends: tuple[bool, bool]
    ) -> None:
        """Add the fractions between two bounds that begin with the same integer."""
        dot = self.nfa.add()
        self.integers(start, unit, unit, dot)
        point = self.nfa.add()
        self.nfa.link(dot, 0x2E, 0x2E, point)
        for places in range(1, _PLACES + 1):
            scale = Decimal(10) ** places
            a, b = (low - unit) * scale, (high - unit) * scale
            first, last = int(a.to_integral_value(ROUND_CEILING)), int(b)
            first += first == a and not ends[0]
            last = min(last - (last == b and not ends[1]), 10**places - 1)
            if first <= last:
                self._fixed(point, f"{first:0{places}}", f"{last:0{places}}", self.end)

    def integers(self, start: int, first: int, last: int, end: int) -> None:
        """Lead from a state to another by the integers of a range."""
        for width in range(len(str(first)), len(str(max(last, 0))) + 1):
            low = max(first, 10 ** (width - 1) if width > 1 else 0)
            high = min(last, 10**width - 1)
            if low <= high:
                self._fixed(start, str(low), str(high), end)

    def _fixed(self, state: int, low: str, high: str, end: int) -> None:
        """Lead from a state to another by all numbers of so many digits between two."""
        n = len(low)
        if not n:
            self.nfa.silent[state].append(end)
        elif low == "0" * n and high == "9" * n:
            self.nfa.silent[state].append(self._free(n, end))
        elif low[0] == high[0]:
            self._fixed(self._digit(state, low[0]), low[1:], high[1:], end)
        else:
            self._fixed(self._digit(state, low[0]), low[1:], "9" * (n - 1), end)
            if int(low[0]) + 1 < int(high[0]):
                middle = self._free(n - 1, end)
                self.nfa.link(state, ord(low[0]) + 1, ord(high[0]) - 1, middle)
            self._fixed(self._digit(state, high[0]), "0" * (n - 1), high[1:], end)

    def _digit(self, state: int, digit: str) -> int:
        after = self.nfa.add()
        self.nfa.link(state, ord(digit), ord(digit), after)
        return after

    def _free(self, n: int, end: int) -> int:
        """Return a state from which any `n` digits lead to `end`."""
        if n == 0:
            return end
        if (n, end) not in self._any:
            state = self.nfa.add()
            self._any[n, end] = state
            self.nfa.link(state, 0x30, 0x39, self._free(n - 1, end))
        return self._any[n, end]


def multiples(step: int) -> Dfa:
    """Build the integers that `step` divides, of at most 15 digits."""
    nfa, start, end = _ends()
    first = _sign(nfa, start)
    nfa.link(first, 0x30, 0x30, end)
    before: dict[int, int] = {}
    for digits in range(15):
        after = {rest: nfa.add() for rest in range(step)}
        nfa.silent[after[0]].append(end)
        for digit in range(1, 10):
            if not digits:
                nfa.link(first, 0x30 + digit, 0x30 + digit, after[digit % step])
        for rest, state in before.items():
            for digit in range(10):
                nfa.link(state, 0x30 + digit, 0x30 + digit, after[(10 * rest + digit) % step])
        before = after
    return nfa.determinize(start, end, 4096)
