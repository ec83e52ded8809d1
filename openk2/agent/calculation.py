"""Arithmetic that a model does in its head although a code tool is at hand: noticed and routed.

In: what the model wrote or thought, and what tools have shown. Out: the calculation done by hand,
and a reminder. Few false alarms matter more than finding everything: sizes (1920×1080), dates,
code, easy numbers and results that a tool has printed are no calculation by hand.
Must not know: the loop, or which tool computes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from openk2.types import Message


@dataclass(frozen=True, slots=True)
class CalculationSettings:
    """When a model is sent to the code tool."""

    on: bool = True
    """Whether calculations by hand are looked for at all."""
    digits: int = 5
    """A product or quotient is hard from this many significant digits of both numbers together;
    models multiply two by two digits reliably."""
    terms: int = 4
    """A sum is hard from this many numbers of two or more digits."""
    every: int = 5
    """Steps between two reminders."""
    tools: tuple[str, ...] = ("code_interpreter", "shell")
    """Tools that compute, the best first; without one of them there is no reminder."""


@dataclass(frozen=True, slots=True)
class ByHand:
    """A calculation that was done without a tool."""

    quote: str
    result: str


NUMBER = r"[$¥€£]?\d+(?:,\d{3})*(?:\.\d+)?%?"
_TIMES = r"(?:\*|×|·|⋅|÷|/|\\times|\\cdot|\\div|x|times|multiplied by|divided by|乘以|乘|除以)"
_DIVIDED = ("÷", "/", r"\div", "divided by", "除以")
_PLUS = r"(?:\+|-|−|–|plus|minus|加上|加|减去|减)"
_IS = (
    r"(?:=|≈|≃|＝|\\approx|is about|is approximately|equals|gives|is|makes"
    r"|等于|约等于|约为|得到|得|为|是)\s*(?:about |约)?"
)
_PRODUCT = re.compile(
    rf"(?<![\w.,/-])({NUMBER})\s*({_TIMES})\s*({NUMBER})\s*[,，]?\s*{_IS}({NUMBER})(?![\w/]|\.\d)",
    re.IGNORECASE,
)
# Bounded and possessive: a column of thousands of numbers without a result must not be read again
# from each of them.
_SUM = re.compile(
    rf"(?<![\w.,/-])({NUMBER}(?:\s*{_PLUS}\s*{NUMBER}){{1,40}}+)"
    rf"\s*\)?\s*(?:[/÷]\s*\d+\s*)?{_IS}({NUMBER})(?![\w/]|\.\d)",
    re.IGNORECASE,
)
_LONGHAND = re.compile(
    r"carry (?:the|a|over) \d|carry the one|long (?:division|multiplication)|partial products?"
    r"|(?:列|用)竖式|进[一二三1-9]\b|向(?:前|十|百)位?[借进]",
    re.IGNORECASE,
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)


def by_hand(
    text: str,
    shown: Iterable[str] = (),
    settings: CalculationSettings = CalculationSettings(),
) -> ByHand | None:
    """Find a calculation that a tool should do; None if there is none.

    Args:
        text: What the model wrote or thought in one answer.
        shown: What it has read: goal, files, results. A result in it was not made by hand.
        settings: What is hard.
    """
    prose = _CODE.sub(" ", text)
    hard = list(_hard(prose, settings))
    if hard:
        known = {number for read in shown for number in _numbers(read)}
        hard = [found for found in hard if _value(found.result) not in known]
    if hard:
        return hard[0]
    slips = _LONGHAND.search(prose)
    if slips and len(re.findall(r"\d{2,}", prose)) >= 4:
        around = prose[max(0, slips.start() - 40) : slips.end() + 40]
        return ByHand(" ".join(around.split()), "")
    return None


@dataclass(slots=True)
class CalculationWatch:
    """Looks at one answer after the other, and does not repeat itself at once."""

    settings: CalculationSettings = CalculationSettings()
    _told: int | None = None
    """The step of the last reminder."""

    def look(
        self, step: int, message: Message, offered: Iterable[str], shown: Iterable[str]
    ) -> str:
        """Return a reminder if the answer computes by hand what a tool should; "" otherwise.

        Args:
            step: The answer's number.
            message: The answer; one that computes with a tool is left alone.
            offered: The names of the tools that there are.
            shown: What the model has read; only looked at if the answer computes.
        """
        names = set(offered)
        tools = tuple(name for name in self.settings.tools if name in names)
        if not self.settings.on or not tools:
            return ""
        if self._told is not None and step - self._told < self.settings.every:
            return ""
        if any(call.name in tools for call in message.tool_calls):
            return ""
        found = by_hand(f"{message.reasoning}\n{message.content}", shown, self.settings)
        if found is None:
            return ""
        self._told = step
        return reminder(found, tools)


def reminder(found: ByHand, tools: tuple[str, ...]) -> str:
    """Return what the model is told.

    Args:
        found: What it did by hand.
        tools: The names of the tools that compute.
    """
    return (
        f"You computed by hand ({found.quote[:120]}). Models slip in such arithmetic: let "
        f"{' or '.join(tools)} compute it, and every number that your answer rests on, and correct "
        "what you wrote if it differs."
    )


def _hard(prose: str, settings: CalculationSettings) -> Iterator[ByHand]:
    for found in _PRODUCT.finditer(prose):
        one, sign, other, result = found.groups()
        digits = _significant(one), _significant(other)
        # By a power of ten, a half or a digit is no work, however long the other number is.
        hard = min(digits) > 1 and sum(digits) >= settings.digits
        if hard and _may_be(result, one, other, divided=sign.lower() in _DIVIDED):
            yield ByHand(found[0].strip(), result)
    for found in _SUM.finditer(prose):
        terms = re.findall(NUMBER, found[1])
        if sum(_significant(term) >= 2 for term in terms) >= settings.terms:
            yield ByHand(found[0].strip(), found[2])


def _may_be(result: str, one: str, other: str, *, divided: bool) -> bool:
    """Say whether it is about the result: "7,632 ÷ 159 is 2 digits long" computes nothing."""
    first, second, said = _amount(one), _amount(other), _amount(result)
    value = first / second if divided and second else first * second
    return value / 2 <= said <= value * 2


def _amount(number: str) -> Decimal:
    value = _value(number) or Decimal(0)
    return value / 100 if number.endswith("%") else value


def _significant(number: str) -> int:
    digits = re.sub(r"\D", "", number).lstrip("0")
    return len(digits.rstrip("0"))


def _numbers(text: str) -> set[Decimal | None]:
    return {_value(number) for number in re.findall(NUMBER, text)}


def _value(number: str) -> Decimal | None:
    try:
        return Decimal(re.sub(r"[^\d.]", "", number)).normalize()
    except InvalidOperation:
        return None
