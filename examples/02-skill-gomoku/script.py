"""How a model might write the game: a first version with a mistake that only playing it shows."""

from __future__ import annotations

import re

from examples.turns import call, cell, done, finish, plan, reacting, turn
from openk2.agent.models.scripted import Turn
from openk2.types import ToolCall

RIGHT = (
    "  const same = (r, c) => r >= 0 && c >= 0 && r < SIZE && c < SIZE && "
    "stones[r * SIZE + c] === stones[at];"
)
WRONG = "  const same = (r, c) => stones[r * SIZE + c] === stones[at];"
AROUND = ((4, 13), (9, 1), (4, 14), (9, 3), (4, 15), (9, 5), (5, 1), (9, 7), (5, 2))
"""Rows and columns as people count them: black's row goes on at the other edge."""
DIAGONAL = ((3, 3), (12, 1), (4, 4), (12, 3), (5, 5), (12, 5), (6, 6), (12, 7), (7, 7))


def turns() -> list[Turn]:
    """Return the model's decisions."""
    return [*written(), *played()]


def written() -> list[Turn]:
    """Write the game and play the case that is easily forgotten."""
    game = cell(__file__, "game.html")
    assert RIGHT in game
    return [
        turn(
            "One page: state as a plain object, so that undo is a stack of copies.",
            plan(
                ("Write the game", "all rules of the goal", "game.html"),
                ("Play it", "wins, edges, skills and undo behave as the rules say", "game.html"),
            ),
            call("write_file", path="game.html", content=game.replace(RIGHT, WRONG)),
        ),
        turn(
            "Open it and read the board.",
            call("browser", action="open", url="game.html"),
            after=r"game\.html",
        ),
        reacting(
            "First the case that is easily forgotten: a row that goes on at the other edge.",
            lambda seen: clicks(seen[-1], AROUND),
            after="Black to move",
        ),
        turn(
            "That is wrong: it says that black wins, with three stones at the right edge of row 4 "
            "and two at the left edge of row 5. Stones are looked up by one number, and nothing "
            "stops at the edge. Bound rows and columns.",
            call("edit_file", path="game.html", old=WRONG, new=RIGHT),
            after="Black wins",
        ),
    ]


def played() -> list[Turn]:
    """Play the rest."""
    return [
        turn(
            "Again, from the start.",
            call("browser", action="open", url="game.html"),
        ),
        reacting(
            "The same moves must not win now.",
            lambda seen: clicks(seen[-1], AROUND),
            after="Black to move",
        ),
        reacting(
            "White is to move, nobody has won. Take the last stone back, then start over.",
            lambda seen: [
                call("browser", action="click", ref=button(seen[-1], "Undo")),
                call("browser", action="click", ref=button(seen[-1], "New game")),
            ],
            after="White to move",
        ),
        reacting(
            "Now a skill: freeze, and two stones in a row.",
            lambda seen: [
                call("browser", action="click", ref=button(seen[-1], "Freeze")),
                *clicks(seen[-1], ((8, 8), (8, 9))),
            ],
            after="Black to move",
        ),
        reacting(
            "After two black stones it is white's turn. A new game, and a diagonal that wins.",
            lambda seen: [
                call("browser", action="click", ref=button(seen[-1], "New game")),
                *clicks(seen[-1], DIAGONAL),
            ],
            after="White to move",
        ),
        turn(
            "Black wins with the diagonal, as it should. A picture for the record.",
            call("browser", action="screenshot"),
            done(
                p1="game.html has board, skills, undo and new game",
                p2="edges, freeze, undo and a diagonal win were played",
            ),
            after="Black wins",
        ),
        turn(
            "Done and played.",
            finish(
                "game.html is the game. Playing it showed that lines went on around the edge; that "
                "is mended and was played again, as were freeze, undo, and a win.",
                "game.html",
            ),
        ),
    ]


def button(snapshot: str, name: str) -> str:
    """Find a button's reference in a snapshot."""
    found = re.search(rf'button "{re.escape(name)}[^"]*"[^\n]*\[ref=(\w+)\]', snapshot)
    assert found is not None, f"there is no button {name!r} in the snapshot"
    return found[1]


def clicks(snapshot: str, points: tuple[tuple[int, int], ...]) -> list[ToolCall]:
    """Click points of the board, one after the other."""
    return [
        call("browser", action="click", ref=button(snapshot, f'row {row}, column {column}"'[:-1]))
        for row, column in points
    ]
