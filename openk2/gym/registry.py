"""Every family of problems by its name.

In: a name. Out: a `Family`.
Must not know: what any of them asks. A new one is a module with a class and its line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from openk2.gym.arithmetic import Arithmetic
from openk2.gym.code import Code
from openk2.gym.cryptarithm import Cryptarithm
from openk2.gym.faithful import Faithful
from openk2.gym.instructions import Instructions
from openk2.gym.morse import Morse
from openk2.gym.numbers import Numbers
from openk2.gym.problem import Family
from openk2.gym.safety import Safety
from openk2.gym.stories import Stories
from openk2.gym.style import Style
from openk2.gym.sudoku import Sudoku
from openk2.gym.tables import Tables
from openk2.gym.tool_calls import ToolCalls
from openk2.gym.twenty_four import TwentyFour
from openk2.gym.word_problems import WordProblems
from openk2.gym.worlds import Worlds

_ALL: tuple[Callable[[], Family], ...] = (
    Numbers,
    Arithmetic,
    Stories,
    WordProblems,
    TwentyFour,
    lambda: Sudoku(2),
    lambda: Sudoku(3),
    Cryptarithm,
    Tables,
    Morse,
    Code,
    Faithful,
    Instructions,
    Safety,
    Style,
    ToolCalls,
    Worlds,
)


def _by_name(makers: tuple[Callable[[], Family], ...]) -> Mapping[str, Callable[[], Family]]:
    return {make().name: make for make in makers}


FAMILIES: Mapping[str, Callable[[], Family]] = _by_name(_ALL)
"""Making one is cheap: what it reads from disk waits until its problems are asked for."""


def find(name: str) -> Family:
    """Make the family of this name.

    Raises:
        ValueError: There is none; the message names those that there are.
    """
    if name not in FAMILIES:
        raise ValueError(f"there is no family {name!r}; choose one of {', '.join(FAMILIES)}")
    return FAMILIES[name]()
