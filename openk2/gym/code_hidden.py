"""Hidden tests: examples that are not shown, and inputs that the reference answers.

In: the text of tests, a reference solution. Out: the text of other tests.
Must not know: who answers, how tests are isolated. The text runs only where the tests run, which
is not where an answer runs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

NEW_INPUTS = 5
"""Inputs that are drawn from the examples' own."""
_LONGEST = 2000
"""Characters of an input."""
_CHECK = '''
import ast as _ast
import math as _math
import signal as _signal

{gold}

_reference = {name}


def _same(given, right):
    """Compare as `==` does, but for the last digits of numbers with a point."""
    if isinstance(given, float) and isinstance(right, (int, float)):
        return given == right or _math.isclose(given, right, rel_tol=1e-6, abs_tol=1e-9)
    if isinstance(right, (list, tuple)) and type(given) is type(right):
        return len(given) == len(right) and all(map(_same, given, right))
    return given == right


def _slow(number, frame):
    raise TimeoutError


def _expected(text):
    """Ask the reference; what it cannot do, or not soon, is not asked of an answer."""
    _signal.signal(_signal.SIGVTALRM, _slow)
    _signal.setitimer(_signal.ITIMER_VIRTUAL, 0.3)
    try:
        return [_reference(*_ast.literal_eval(text))]
    except Exception:
        return []
    finally:
        _signal.setitimer(_signal.ITIMER_VIRTUAL, 0)


def check(candidate):
    """Run the examples that were not shown, then the new inputs."""
{asserts}
    for text in {inputs!r}:
        for right in _expected(text):
            given = candidate(*_ast.literal_eval(text))
            assert _same(given, right), f"{{text[:80]}} gives {{given!r:.80}}, not {{right!r:.80}}"
'''


@dataclass(frozen=True, slots=True)
class Example:
    """One `assert candidate(...) == ...` of plain values."""

    source: str
    shown: str
    """The arguments, as they are written."""
    answer: str
    values: tuple[Any, ...]


def examples(test: str) -> list[Example]:
    """Read the assertions of MBPP's `check`; none if one of them is of another form."""
    found = list(_examples(ast.parse(test)))
    return [] if None in found else [one for one in found if one is not None]


def _examples(tree: ast.Module) -> Iterator[Example | None]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assert):
            continue
        match node.test:
            case ast.Compare(
                left=ast.Call(func=ast.Name(id="candidate"), args=args, keywords=[]),
                ops=[ast.Eq()],
                comparators=[right],
            ):
                yield _example(node, args, right)
            case _:
                yield None


def _example(node: ast.Assert, args: list[ast.expr], right: ast.expr) -> Example | None:
    try:
        values = tuple(ast.literal_eval(one) for one in args)
        ast.literal_eval(right)
    except ValueError:
        return None
    shown = ", ".join(map(ast.unparse, args))
    return Example(ast.unparse(node), shown, ast.unparse(right), values)


def recombined(given: Sequence[Example]) -> list[str]:
    """Make new inputs of old ones: each argument from any example, whole numbers a little more."""
    places = list(zip(*(one.values for one in given), strict=False))
    old = {repr(one.values) for one in given}
    options = [[*place, *(_varied(value) for value in place)] for place in places]
    new: dict[str, None] = {}
    for values in islice(product(*options), 200):
        text = repr(values)
        if text not in old and len(text) <= _LONGEST:
            new[text] = None
    step = max(1, len(new) // NEW_INPUTS)
    return list(new)[::step][:NEW_INPUTS]


def _varied(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value + 1
    return value


def hidden_test(name: str, gold: str, asserts: Sequence[str], inputs: Sequence[str]) -> str:
    """Write the tests of a function.

    Args:
        name: The function's.
        gold: The reference solution.
        asserts: Assertions about `candidate`.
        inputs: Tuples of arguments as Python's literals; the reference says what is right.
    """
    lines = "\n".join(f"    {line}" for line in asserts)
    return _CHECK.format(gold=gold, name=name, asserts=lines, inputs=list(inputs))
