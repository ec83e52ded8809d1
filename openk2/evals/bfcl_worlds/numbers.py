"""A calculator.

In: numbers. Out: the pack's functions on them.
Must not know: anything but numbers; it has no state.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from openk2.evals.bfcl_worlds.world import Config, Json, Refused

_METRES = {"km": 1000, "m": 1, "cm": 0.01, "mm": 0.001, "um": 1e-6, "nm": 1e-9}
_FACTORS = {
    ("cm", "in"): 0.393701, ("in", "cm"): 2.54, ("m", "ft"): 3.28084, ("ft", "m"): 0.3048,
    ("m", "yd"): 1.09361, ("yd", "m"): 0.9144, ("km", "miles"): 0.621371,
    ("miles", "km"): 1.60934, ("kg", "lb"): 2.20462, ("lb", "kg"): 0.453592,
}  # fmt: skip


class MathAPI:
    """The calculator."""

    def __init__(self, config: Config) -> None:
        """Need nothing."""

    def state(self) -> Any:
        """Return nothing: no call changes anything."""
        return None

    def logarithm(self, value: float, base: float, precision: int) -> Json:
        """Take a logarithm to so many digits."""
        with decimal.localcontext(prec=precision):
            return {"result": Decimal(value).ln() / Decimal(base).ln()}

    def square_root(self, number: float, precision: int) -> Json:
        """Take a square root to so many digits."""
        if number < 0:
            raise Refused("a negative number has no square root here")
        with decimal.localcontext(prec=precision):
            return {"result": Decimal(number).sqrt()}

    def mean(self, numbers: Sequence[float]) -> Json:
        """Take the mean."""
        return {"result": _some(numbers, sum) / len(numbers)}

    def standard_deviation(self, numbers: Sequence[float]) -> Json:
        """Take the standard deviation of a whole population."""
        mean = _some(numbers, sum) / len(numbers)
        return {"result": math.sqrt(sum((one - mean) ** 2 for one in numbers) / len(numbers))}

    def min_value(self, numbers: Sequence[float]) -> Json:
        """Take the least."""
        return {"result": _some(numbers, min)}

    def max_value(self, numbers: Sequence[float]) -> Json:
        """Take the largest."""
        return {"result": _some(numbers, max)}

    def sum_values(self, numbers: Sequence[float]) -> Json:
        """Add all."""
        return {"result": _some(numbers, sum)}

    def si_unit_conversion(self, value: float, unit_in: str, unit_out: str) -> Json:
        """Convert between metric lengths."""
        if unit_in not in _METRES or unit_out not in _METRES:
            raise Refused(f"there is no conversion from {unit_in} to {unit_out}")
        return {"result": value * _METRES[unit_in] * (1 / _METRES[unit_out])}

    def imperial_si_conversion(self, value: float, unit_in: str, unit_out: str) -> Json:
        """Convert between metric and imperial units."""
        match unit_in, unit_out:
            case _ if unit_in == unit_out:
                return {"result": value}
            case "celsius", "fahrenheit":
                return {"result": value * 1.8 + 32}
            case "fahrenheit", "celsius":
                return {"result": (value - 32) * (5 / 9)}
            case _ if (unit_in, unit_out) in _FACTORS:
                return {"result": value * _FACTORS[unit_in, unit_out]}
            case _:
                raise Refused(f"there is no conversion from {unit_in} to {unit_out}")

    def add(self, a: float, b: float) -> Json:
        """Add."""
        return {"result": a + b}

    def subtract(self, a: float, b: float) -> Json:
        """Subtract."""
        return {"result": a - b}

    def multiply(self, a: float, b: float) -> Json:
        """Multiply."""
        return {"result": a * b}

    def divide(self, a: float, b: float) -> Json:
        """Divide."""
        if b == 0:
            raise Refused("nothing is divided by zero")
        return {"result": a / b}

    def power(self, base: float, exponent: float) -> Json:
        """Raise to a power."""
        return {"result": base**exponent}

    def absolute_value(self, number: float) -> Json:
        """Drop the sign."""
        return {"result": abs(number)}

    def round_number(self, number: float, decimal_places: int = 0) -> Json:
        """Round."""
        return {"result": round(number, decimal_places)}

    def percentage(self, part: float, whole: float) -> Json:
        """Say how many per cent a part is."""
        if whole == 0:
            raise Refused("zero has no parts")
        return {"result": part / whole * 100}


def _some(numbers: Sequence[float], make: Callable[[Sequence[float]], float]) -> float:
    if not numbers:
        raise Refused("there are no numbers")
    return make(numbers)
