"""Strings and numbers with limits: keywords to automata, once for all requests.

In: the keywords of one schema that are about strings, or about numbers. Out: `Text`, `Number` or
`Literals`, or the keyword that cannot be enforced.
Must not know: the rest of the schema, tools, tokens.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from openk2.grammar import numbers
from openk2.grammar.dfa import FAR, Dfa, TooManyStatesError
from openk2.grammar.formats import FORMATS
from openk2.grammar.regex import MAX_STATES, UnsupportedPatternError, compile_pattern
from openk2.grammar.shapes import Literals, Number, Shape, Text
from openk2.grammar.strings import UNESCAPED, counted_body, with_length, without
from openk2.grammar.vocabulary import Vocabulary

_LISTED = 500
_MOST_WORK = 20_000
"""States of automata that one request may ask for."""
_LARGEST_STEP = 20


class Unenforceable(ValueError):
    """A keyword that has to be left out."""

    def __init__(self, keyword: str, problem: str, malformed: bool = False) -> None:
        """Remember which one, why, and whether it is no valid keyword at all."""
        super().__init__(problem)
        self.keyword, self.malformed = keyword, malformed


class Scalars:
    """Makes automata and remembers them with the vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Take the vocabulary, which keeps what was made."""
        self._any_body = vocabulary.any_body
        self._keep = vocabulary.keep
        self._work = 0
        vocabulary.keep("formats", self._formats)

    def _formats(self) -> bool:
        """Build what is often asked for, and takes longest."""
        for pattern in FORMATS.values():
            self._limited({"pattern": pattern}, escapes=False)
        return True

    def _spend(self, states: int, keyword: str) -> None:
        """Bound what one request can cost.

        Raises:
            Unenforceable: It has cost too much already.
        """
        self._work += states
        if self._work > _MOST_WORK:
            raise Unenforceable(keyword, "there are too many limits in this request")

    def names(self, limits: Mapping[str, Any] | None = None, taken: Sequence[bytes] = ()) -> Text:
        """Return the names of properties that are not declared.

        Args:
            limits: Keywords about strings.
            taken: Declared names with their closing quotes, as they are written.

        Raises:
            Unenforceable: A limit has to be left out.
        """
        dfa, fewest, most = self._limited(limits or {}, escapes=False)
        if not taken:
            return Text(dfa, fewest, most)
        self._spend(len(taken) * 10, next(iter(limits or {"propertyNames": 0})))
        try:
            if fewest or most < FAR:
                dfa = with_length(dfa, fewest, most, 4 * MAX_STATES)
            return Text(without(dfa, taken, 8 * MAX_STATES))
        except TooManyStatesError as error:
            keyword = next(iter(limits or {"propertyNames": 0}))
            raise Unenforceable(keyword, str(error)) from error

    def text(self, limits: Mapping[str, Any]) -> Text:
        """Return the strings within limits.

        Raises:
            Unenforceable: A limit has to be left out.
        """
        return Text(*self._limited(limits, escapes=True))

    def _limited(self, limits: Mapping[str, Any], escapes: bool) -> tuple[Dfa, int, int]:
        fewest, most = _length(limits, "minLength", 0), _length(limits, "maxLength", FAR)
        pattern, keyword = limits.get("pattern"), "pattern"
        named = limits.get("format")
        if isinstance(named, str) and named in FORMATS:
            if pattern is not None:
                raise Unenforceable("format", "there is a pattern, too")
            pattern, keyword = FORMATS[named], "format"
        if pattern is None:
            body = self._any_body if escapes else self._unescaped()
            return (body, fewest, most) if fewest <= most else (_NOTHING, 0, FAR)
        if not isinstance(pattern, str):
            raise Unenforceable(keyword, "is no string", malformed=True)
        key = ("pattern", pattern, fewest, most)
        self._spend(0, keyword)
        found = self._keep(key, lambda: _pattern(pattern, fewest, most))
        self._work += MAX_STATES if isinstance(found, str) else len(found[0].rows)
        if isinstance(found, str):
            raise Unenforceable(keyword, found)
        return found

    def _unescaped(self) -> Dfa:
        return self._keep("unescaped", lambda: counted_body(UNESCAPED))

    def number(self, limits: Mapping[str, Any], whole: bool) -> Shape:
        """Return the numbers within limits.

        Raises:
            Unenforceable: A limit has to be left out.
        """
        low, high, ends = _bounds(limits)
        step = limits.get("multipleOf")
        if step is not None and not _is_number(step):
            raise Unenforceable("multipleOf", "is no number", malformed=True)
        if step is not None and step != 1:
            return self._multiples(step, low, high, ends)
        if low is None and high is None:
            make = numbers.integer if whole or step == 1 else numbers.number
            return Number(self._keep(make.__name__, make))
        if low is not None and high is not None and low > high:
            return Literals(())
        self._spend(20, "minimum" if "minimum" in limits else next(iter(limits)))
        key = ("number", low, high, ends, whole or step == 1)
        return Number(self._keep(key, lambda: numbers.between(low, high, ends, whole or step == 1)))

    def _multiples(
        self, step: Any, low: Decimal | None, high: Decimal | None, ends: tuple[bool, bool]
    ) -> Shape:
        """Return multiples; between bounds, and of large numbers, only some hundreds of them."""
        if step <= 0 or step % 1:
            raise Unenforceable("multipleOf", "only whole numbers are")
        step = int(step)
        if low is None and high is None and step <= _LARGEST_STEP:
            return Number(self._keep(("multiples", step), lambda: numbers.multiples(step)))
        if step > 1 << 53:
            raise Unenforceable("multipleOf", "it is too large")
        first, last = _multiples_between(step, low, high, ends)
        if low is None:
            first = max(first, min(last, 0) - _LISTED) if high is None else last - _LISTED
        last = min(last, first + 2 * _LISTED)
        texts = sorted(str(k * step).encode() for k in range(first, last + 1))
        return Literals(tuple(texts))

    def admits(self, limits: Mapping[str, Any], value: Any, path: str) -> bool:
        """Whether a string or number is within limits.

        Raises:
            Unenforceable: A limit cannot be checked.
        """
        if isinstance(value, str):
            lengths = _length(limits, "minLength", 0), _length(limits, "maxLength", FAR)
            if not lengths[0] <= len(value) <= lengths[1]:
                return False
            rest = {k: v for k, v in limits.items() if k in ("pattern", "format")}
            dfa, fewest, most = self._limited(rest, escapes=True)
            spelled = json.dumps(value, ensure_ascii=False)[1:].encode(errors="replace")
            return fewest <= len(value) <= most and dfa.matches(spelled)
        low, high, ends = _bounds(limits)
        number = Decimal(str(value))
        inside = (low is None or number > low or (number == low and ends[0])) and (
            high is None or number < high or (number == high and ends[1])
        )
        step = limits.get("multipleOf", 1)
        if "multipleOf" in limits and (not _is_number(step) or step <= 0):
            raise Unenforceable("multipleOf", "is no positive number")
        return inside and ("multipleOf" not in limits or number % Decimal(str(step)) == 0)


_NOTHING = Dfa([[-1]], bytes(256), [0], set())


def _pattern(pattern: str, fewest: int, most: int) -> tuple[Dfa, int, int] | str:
    """Return the automaton and its counts, or why there is none."""
    try:
        dfa, low, high = compile_pattern(pattern)
        if _loops(dfa):
            low, high = max(low, fewest), min(high, most)
            return (dfa, low, high) if low <= high else (_NOTHING, 0, FAR)
        if fewest or most < FAR:
            dfa = with_length(dfa, fewest, most, 8 * MAX_STATES)
    except (UnsupportedPatternError, TooManyStatesError) as error:
        return str(error)
    return dfa, 0, FAR


def _loops(dfa: Dfa) -> bool:
    """Whether every number of characters is possible at any time: one boundary that can close."""
    boundaries = [s for s, kind in enumerate(dfa.kinds) if kind == 1]
    return boundaries == [0] and dfa.distance[0] == 1


def _length(limits: Mapping[str, Any], keyword: str, default: int) -> int:
    value = limits.get(keyword, default)
    if not _is_number(value) or value < 0 or value % 1:
        raise Unenforceable(keyword, "is no number of characters", malformed=True)
    return min(int(value), FAR)


def _bounds(limits: Mapping[str, Any]) -> tuple[Decimal | None, Decimal | None, tuple[bool, bool]]:
    """Return the least and greatest number, and whether they are allowed themselves."""
    found: list[Decimal | None] = []
    ends: list[bool] = []
    for keyword, exclusive, sign in (
        ("minimum", "exclusiveMinimum", 1),
        ("maximum", "exclusiveMaximum", -1),
    ):
        bound, edge = limits.get(keyword), limits.get(exclusive)
        if bound is not None and not _is_number(bound):
            raise Unenforceable(keyword, "is no number", malformed=True)
        if edge is not None and not isinstance(edge, bool) and not _is_number(edge):
            raise Unenforceable(exclusive, "is no number", malformed=True)
        inclusive = edge is not True  # draft 4 had a boolean
        if _is_number(edge) and (bound is None or (edge - bound) * sign >= 0):
            bound, inclusive = edge, False
        found.append(None if bound is None else Decimal(str(bound)))
        ends.append(inclusive)
    return found[0], found[1], (ends[0], ends[1])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _multiples_between(
    step: int, low: Decimal | None, high: Decimal | None, ends: tuple[bool, bool]
) -> tuple[int, int]:
    """Return the least and greatest factor of `step` within bounds."""
    first, last = -_LISTED, _LISTED
    if low is not None:
        first = int((low / step).to_integral_value(ROUND_CEILING))
        first += first * step == low and not ends[0]
        last = max(last, first + _LISTED) if high is None else last
    if high is not None:
        last = int((high / step).to_integral_value(ROUND_FLOOR))
        last -= last * step == high and not ends[1]
        first = last - _LISTED if low is None else first
    return first, last
