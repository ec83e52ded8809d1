"""Sudoku of 4x4 and 9x9, each with exactly one solution.

In: a level. Out: a grid with gaps; whether a filled grid is its solution.
Must not know: how a model fills it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random

from openk2.gym.exact import Drawn, Idea, Lang, Puzzle, some_of
from openk2.gym.problem import Problem

_ASKED = {
    "en": "Fill the {size}x{size} Sudoku: each row, each column and each {box}x{box} box has the "
    "digits 1 to {size} once; 0 is a gap.\n{grid}\n"
    "End with `Answer: ` and the {size} rows, with a space or a new line between them.",
    "zh": "完成{size}x{size}数独：每行、每列、每个{box}x{box}宫内1到{size}各出现一次，0表示空格。\n"
    "{grid}\n最后写“答案：”和{size}行数字，行与行之间用空格或换行隔开。",
}


class Sudoku(Drawn):
    """Grids of one size; level by level more gaps."""

    gaps: Sequence[int]
    """Most gaps of each level."""

    def __init__(self, box: int, levels: Sequence[int] | None = None) -> None:
        """Choose a size.

        Args:
            box: Rows of a box: 2 for 4x4, 3 for 9x9.
            levels: Those that are drawn from; all by default.
        """
        size = box * box
        self.box, self.size = box, size
        self.gaps = (1, 2, 4, 6, 8, 10) if box == 2 else (1, 4, 10, 20, 32, 45)
        self.name = f"sudoku_{size}"
        self.about = f"{size}x{size} Sudoku with one solution; the whole grid must be right."
        self.about_zh = f"{size}x{size}数独，解唯一；须全部填对。"
        self.levels = some_of(self.name, range(1, len(self.gaps) + 1), levels)
        self.lines = size
        self.max_tokens = 64 if box == 2 else 256

    def draw(self, rng: Random, level: int) -> Idea:
        """Draw a full grid: all puzzles that have it as solution are on one side of the split."""
        full = next(solutions([0] * self.size**2, self.box, rng))
        solution = " ".join(_rows(full, self.size))
        return Idea(f"{solution}/{level}/{rng.randrange(2**32)}", solution)

    def pose(self, fact: str, rng: Random, level: int, lang: Lang) -> Puzzle:
        """Take digits away as long as there is one solution."""
        solution = fact.partition("/")[0]
        cells = [int(digit) for digit in solution.replace(" ", "")]
        most = self.gaps[level - 1]
        least = self.gaps[level - 2] + 1 if level > 1 else 1
        wanted = rng.randint(least, most)
        for place in rng.sample(range(len(cells)), len(cells)):
            digit, cells[place] = cells[place], 0
            if sum(1 for _ in islice(solutions(cells, self.box), 2)) > 1:
                cells[place] = digit
            elif cells.count(0) == wanted:
                break
        rows = _rows(cells, self.size)
        question = _ASKED[lang].format(size=self.size, box=self.box, grid="\n".join(rows))
        return Puzzle(question, solution, {"rows": rows})

    def accepts(self, problem: Problem, answer: str) -> bool:
        """Compare rows; the solution is the only grid that keeps the givens and the rules."""
        return answer.split() == problem.meta["answer"].split()

    def wrongs(self, problem: Problem) -> Sequence[str]:
        """Return broken rules, changed givens, gaps left, and grids in excess."""
        rows: list[str] = problem.meta["rows"]
        right = problem.meta["answer"]
        size = self.size
        renamed = right.translate(str.maketrans("12", "21"))
        shifted = [right.split()[-1], *right.split()[:-1]]
        line = "".join(map(str, range(1, size + 1)))
        return (
            renamed,
            " ".join(rows),
            "\n".join(rows),
            " ".join(shifted),
            " ".join([line] * size),
            right.replace(" ", ""),
            f"{right} {right}",
            f"{right} {renamed}",
            right[:-1] + "0",
            right[:-1] + "?",
            right[: -size - 1],
            right.translate(str.maketrans("1234", "①②③④")),
            right.replace("1", "[1-9]"),
        )


def _rows(cells: Sequence[int], size: int) -> list[str]:
    return ["".join(map(str, cells[at : at + size])) for at in range(0, len(cells), size)]


def solutions(cells: Sequence[int], box: int, rng: Random | None = None) -> Iterator[list[int]]:
    """Yield every way to fill the gaps of a grid.

    Args:
        cells: Row by row; 0 is a gap.
        box: Rows of a box.
        rng: Tries digits in any order instead of from 1 up; a full grid drawn so is a random one.
    """
    size = box * box
    groups = [
        (row, size + column, 2 * size + row // box * box + column // box)
        for row in range(size)
        for column in range(size)
    ]
    taken = [0] * (3 * size)  # of each row, column and box, the digits as bits
    for digit, where in zip(cells, groups, strict=True):
        bit = 1 << digit
        if digit and any(taken[group] & bit for group in where):
            return
        for group in where if digit else ():
            taken[group] |= bit
    yield from _fill(list(cells), groups, taken, rng)


def _fill(
    cells: list[int], groups: Sequence[tuple[int, int, int]], taken: list[int], rng: Random | None
) -> Iterator[list[int]]:
    size = len(taken) // 3
    # The gap with the fewest candidates first: most grids then need no guess at all.
    fewest, place, free = size + 1, -1, 0
    for at, (row, column, square) in enumerate(groups):
        if cells[at] == 0:
            left = (2 << size) - 2 & ~(taken[row] | taken[column] | taken[square])
            if left.bit_count() < fewest:
                fewest, place, free = left.bit_count(), at, left
    if place < 0:
        yield cells.copy()
        return
    digits = [digit for digit in range(1, size + 1) if free >> digit & 1]
    if rng is not None:
        rng.shuffle(digits)
    for digit in digits:
        for group in groups[place]:
            taken[group] ^= 1 << digit
        cells[place] = digit
        yield from _fill(cells, groups, taken, rng)
        for group in groups[place]:
            taken[group] ^= 1 << digit
    cells[place] = 0
