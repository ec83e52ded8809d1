"""Plays the game in a real browser, by clicks alone, and reads the page's attributes.

In: the workspace after the run. Out: checks.
Must not know: how the page is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from examples.browser import one_browser, opened, require_fits, require_quiet
from examples.checks import Check, judge, require

if TYPE_CHECKING:
    from playwright.sync_api import Page

Point = tuple[int, int]
FAR: tuple[Point, ...] = tuple((14, column) for column in range(0, 15, 2))
"""Where the other player's stones go: no two of them touch."""
LINES: dict[str, list[Point]] = {
    "row": [(4, 4 + n) for n in range(5)],
    "column": [(2 + n, 9) for n in range(5)],
    "diagonal": [(3 + n, 3 + n) for n in range(5)],
    "other diagonal": [(3 + n, 11 - n) for n in range(5)],
}

PRESS = """([selector, real]) => {
    const element = document.querySelector(selector);
    element.scrollIntoView({ block: "nearest", behavior: "instant" });
    const box = element.getBoundingClientRect();
    const where = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2 };
    if (real) return [where.clientX, where.clientY];
    const hit = document.elementFromPoint(where.clientX, where.clientY);
    if (hit.closest("button")?.disabled) return null;
    for (const kind of ["pointerdown", "mousedown", "pointerup", "mouseup", "click"])
        hit.dispatchEvent(new (kind.startsWith("p") ? PointerEvent : MouseEvent)(
            kind, { ...where, bubbles: true, cancelable: true, composed: true }));
    return null;
}"""
"""Presses what lies on top in an element's middle, as a hand would: a real press waits for a frame,
which adds up over hundreds of moves."""

ONE = "document.querySelector"
READ = f"([selector, name]) => {ONE}(selector).getAttribute(name) ?? ''"


def verify(workspace: Path) -> list[Check]:
    """Check every rule of the scenario."""
    with one_browser():
        return judge(workspace, CHECKS)


class Board:
    """The page, as a player uses it."""

    def __init__(self, page: Page) -> None:
        """Remember the page."""
        self.page = page

    def click(self, *points: Point) -> None:
        """Click points one after the other."""
        for row, column in points:
            self.press(f"[data-row='{row}'][data-col='{column}']")

    def play(self, black: Iterable[Point], white: Iterable[Point] = FAR) -> None:
        """Place stones alternately, black first, until black's are used up."""
        replies = iter(white)
        for number, point in enumerate(black):
            if number:
                self.click(next(replies))
            self.click(point)

    def press(self, selector: str, real: bool = False) -> None:
        """Press an element, with the mouse itself or with its events."""
        middle = self.page.evaluate(PRESS, [selector, real])
        if real:
            self.page.mouse.click(*middle)

    def use(self, skill: str, *target: Point) -> None:
        """Use a skill, on a target if it needs one."""
        self.press(f"button[data-skill='{skill}']")
        self.click(*target)

    def get(self, selector: str, name: str) -> str:
        """Read an attribute."""
        return self.page.evaluate(READ, [selector, name])

    def stone(self, point: Point) -> str:
        """Say whose stone is on a point."""
        return self.get(f"[data-row='{point[0]}'][data-col='{point[1]}']", "data-stone")

    def blocked(self, point: Point) -> str:
        """Say for whom a point is closed."""
        return self.get(f"[data-row='{point[0]}'][data-col='{point[1]}']", "data-blocked")

    def player(self) -> str:
        """Say who is to move."""
        return self.get("#turn", "data-player")

    def winner(self) -> str:
        """Say who has won."""
        return self.get("#status", "data-winner")

    def energy(self, player: str) -> int:
        """Say how much energy a player has."""
        return int(self.get(f"[data-energy='{player}']", "data-value"))

    def cooldown(self, skill: str) -> int:
        """Say how long a skill of the player to move rests."""
        return int(self.get(f"button[data-skill='{skill}']", "data-cooldown"))

    def ready(self, skill: str) -> bool:
        """Tell whether the player to move can use a skill."""
        return not self.page.evaluate(f"{ONE}(`button[data-skill='{skill}']`).disabled")

    def state(self) -> list[object]:
        """Read everything that the page says."""
        script = """() => [...document.querySelectorAll(
            '[data-row], #turn, #status, [data-energy], [data-skill]')].map(e => [
            e.dataset.row, e.dataset.col, e.dataset.stone, e.dataset.blocked, e.dataset.player,
            e.dataset.winner, e.dataset.value, e.dataset.cooldown, e.disabled])"""
        return self.page.evaluate(script)


@contextmanager
def board(workspace: Path) -> Iterator[Board]:
    """Open the game; any error on the page fails the check that caused it."""
    with opened(workspace / "game.html") as look:
        look.page.set_default_timeout(3_000)
        yield Board(look.page)
        require_quiet(look)


def a_new_game_is_as_the_rules_say(workspace: Path) -> str:
    with board(workspace) as game:
        points = game.page.locator("[data-row][data-col]").count()
        require(points == 225, f"there are {points} points")
        require(game.player() == "black" and game.winner() == "", "black is not to move")
        require((game.energy("black"), game.energy("white")) == (50, 50), "energy is not 50")
        # 50 suffices for every skill.
        ready = [skill for skill in ("freeze", "remove", "shield") if game.ready(skill)]
        require(len(ready) == 3, f"only {ready} can be used at the start")
    return "225 points, black begins, 50 energy each, all skills ready"


def stones_alternate_and_stay(workspace: Path) -> str:
    with board(workspace) as game:
        game.press("[data-row='7'][data-col='7']", real=True)
        require(game.stone((7, 7)) == "black" and game.player() == "white", "no black stone")
        game.press("[data-row='7'][data-col='7']", real=True)
        require(game.stone((7, 7)) == "black", "a stone was overwritten")
        require(game.player() == "white", "placing on a stone passes the turn")
        game.press("[data-row='0'][data-col='14']", real=True)
        require(game.stone((0, 14)) == "white" and game.player() == "black", "no white stone")
    return "black, white, black by mouse; an occupied point stays"


def five_in_a_line_win_in_every_direction(workspace: Path) -> str:
    with board(workspace) as game:
        for name, line in LINES.items():
            # The middle stone comes last: a line is counted both ways.
            game.play([*line[:2], *line[3:], line[2]])
            require(game.winner() == "black", f"five in a {name} do not win")
            marked = game.page.locator("[data-win='true']").count()
            require(marked == 5, f"{marked} stones of the {name} are marked")
            game.click((0, 0))
            require(game.stone((0, 0)) == "", "a stone was placed after the win")
            game.press("#new")
        game.play([(9, 1), (9, 3), (9, 5), (9, 7), (9, 9), (9, 11)], LINES["column"])
        require(game.winner() == "white", "white cannot win")
    return ", ".join(LINES)


def four_or_a_line_around_the_edge_do_not_win(workspace: Path) -> str:
    with board(workspace) as game:
        around = [(3, 12), (3, 13), (3, 14), (4, 0), (4, 1)]
        down = [(6, 14), (8, 0), (9, 1), (10, 2), (11, 3)]
        game.play([*around, *LINES["row"][:2], *down[:1]])
        require(game.winner() == "", "a row that goes on at the other edge wins")
        game.press("#new")
        game.play(down)
        require(game.winner() == "", "a diagonal that goes on at the other edge wins")
        game.press("#new")
        game.play(LINES["diagonal"][:4])
        require(game.winner() == "", "four win")
        game.press("#new")
        game.play([(5, 2), (5, 3), (5, 5), (5, 6), (5, 7)])
        require(game.winner() == "", "five with a gap win")
    return "four, a gap, and lines around the edge"


def energy_grows_with_stones_up_to_a_hundred(workspace: Path) -> str:
    with board(workspace) as game:
        game.click((0, 0))
        require(
            (game.energy("black"), game.energy("white")) == (60, 50), "a stone does not give 10"
        )
        game.click(*((row, column) for row in (2, 5) for column in range(0, 15, 2)))
        require(game.energy("black") == 100 == game.energy("white"), "energy is not held at 100")
    return "50, 60, at most 100"


def freeze_skips_the_opponent_once(workspace: Path) -> str:
    with board(workspace) as game:
        game.use("freeze")
        require(game.energy("black") == 20, "freeze does not cost 30")
        require(game.player() == "black", "the turn passed before a stone was placed")
        game.click((7, 7))
        require(game.player() == "black", "the opponent was not skipped")
        game.click((7, 8))
        require(game.player() == "white", "the opponent was skipped twice")
        require(game.stone((7, 8)) == "black", "the second stone is not black")
        game.click((1, 1))
        require(game.player() == "black", "play does not go on as usual")
    return "two stones in a row, once, for 30"


def remove_takes_a_stone_of_the_opponent_only(workspace: Path) -> str:
    with board(workspace) as game:
        game.click((7, 7), (8, 8))
        before = game.state()
        game.use("remove", (7, 7), (0, 0))
        require(game.stone((7, 7)) == "black", "one's own stone can be removed")
        require(game.stone((0, 0)) == "", "a stone was placed instead of aiming")
        require(game.energy("black") == 60, "a target that is not allowed is charged for")
        game.press("button[data-skill='remove']")
        require(game.state() == before, "a skill that is called off leaves something")
        game.click((8, 8))
        require(game.stone((8, 8)) == "white", "a skill cannot be called off")
        game.use("remove", (8, 8))
        require(game.stone((8, 8)) == "" and game.energy("black") == 10, "not removed, or not paid")
        require(game.player() == "black", "the turn passed with the skill")
        game.click((8, 8))
        require(
            game.stone((8, 8)) == "black" and game.player() == "white", "no stone after removing"
        )
    return "the opponent's stone for 50, then a stone of one's own"


def shield_holds_the_opponent_off_for_three_turns(workspace: Path) -> str:
    with board(workspace) as game:
        game.use("shield", (5, 5))
        require(game.energy("black") == 30, "shield does not cost 20")
        require(
            game.blocked((5, 5)) == "white" and game.player() == "black", "white is not held off"
        )
        game.click((0, 0))
        for turn, (white, black) in enumerate(
            [((9, 1), (0, 4)), ((9, 4), (0, 8)), ((9, 8), (0, 12))]
        ):
            require(game.blocked((5, 5)) == "white", f"the shield is gone in turn {turn + 1}")
            game.click((5, 5))
            require(
                game.stone((5, 5)) == "" and game.player() == "white", "white placed on a shield"
            )
            game.click(white, black)
        require(game.blocked((5, 5)) == "", "the shield outlasts three turns")
        game.click((5, 5))
        require(game.stone((5, 5)) == "white", "the point stays closed after the shield")
        game.press("#new")
        game.use("shield", (5, 5))
        game.click((5, 5))
        require(game.stone((5, 5)) == "black", "the shield's owner is held off, too")
    return "closed for white for three turns, open for black"


def skills_cool_down_with_stones_of_their_owner(workspace: Path) -> str:
    rests = {"freeze": (3, ()), "remove": (4, ((12, 1),)), "shield": (2, ((12, 13),))}
    with board(workspace) as game:
        for skill, (rest, target) in rests.items():
            game.press("#new")
            black = iter((2 * (n % 3), n) for n in range(15))
            white = iter((6 + 2 * (n % 3), 14 - n) for n in range(15))
            for _ in range(5):  # energy for everything
                game.click(next(black), next(white))
            game.click(next(black), (12, 1))
            game.use(skill, *target)
            seen = [game.cooldown(skill)]
            require(not game.ready(skill), f"{skill} can be used twice")
            while seen[-1] and len(seen) < 8:
                game.click(next(black))
                if game.player() == "white":
                    require(game.cooldown(skill) == 0, f"{skill} of white rests, too")
                    game.click(next(white))
                seen.append(game.cooldown(skill))
            require(seen == list(range(rest, -1, -1)), f"cool-down of {skill} goes {seen}")
            require(game.ready(skill), f"{skill} is not ready after its cool-down")
    return "freeze 3, remove 4, shield 2, each player's own"


def undo_takes_back_stones_and_skills(workspace: Path) -> str:
    with board(workspace) as game:
        states = [game.state()]
        steps = [
            lambda: game.click((7, 7)),
            lambda: game.use("shield", (3, 3)),
            lambda: game.click((8, 8)),
            lambda: game.use("freeze"),
            lambda: game.click((7, 8)),
            lambda: game.click((7, 9)),
            lambda: game.click((1, 1)),
            lambda: game.click((7, 10)),
            lambda: game.use("remove", (7, 8)),
            lambda: game.click((1, 3)),
            lambda: game.click((7, 8)),
            lambda: game.click((1, 5)),
            lambda: game.click((7, 11)),
        ]
        for step in steps:
            step()
            states.append(game.state())
        require(game.winner() == "black", "a removed and replaced stone does not win")
        for number in range(len(steps) - 1, -1, -1):
            game.press("#undo")
            require(game.state() == states[number], f"undo of step {number + 1} leaves something")
        game.click((7, 7))
        require(game.state() == states[1], "after undo, play does not go on as before")
    return f"{len(steps)} steps back, a win, three skills and a skipped turn among them"


def a_new_game_forgets_everything(workspace: Path) -> str:
    with board(workspace) as game:
        fresh = game.state()
        for moves in (LINES["row"][:2], LINES["row"]):
            game.use("shield", (3, 3))
            game.play(moves)
            game.press("#new")
            require(game.state() == fresh, "something of the last game is left")
    return "stones, shields, energy, cool-downs, winner"


def nothing_goes_wrong_and_it_fits_a_phone(workspace: Path) -> str:
    with opened(workspace / "game.html") as look:
        require_fits(look.page)
        corner = f"{ONE}(`[data-row='14'][data-col='14']`).getBoundingClientRect().width"
        width = look.page.evaluate(corner)
        require(width >= 18, f"a point on a phone is {width} wide")
        Board(look.page).click((14, 14))
        require_quiet(look)
    return "no console error, nothing loaded, 390 pixels suffice"


CHECKS = (
    a_new_game_is_as_the_rules_say,
    stones_alternate_and_stay,
    five_in_a_line_win_in_every_direction,
    four_or_a_line_around_the_edge_do_not_win,
    energy_grows_with_stones_up_to_a_hundred,
    freeze_skips_the_opponent_once,
    remove_takes_a_stone_of_the_opponent_only,
    shield_holds_the_opponent_off_for_three_turns,
    skills_cool_down_with_stones_of_their_owner,
    undo_takes_back_stones_and_skills,
    a_new_game_forgets_everything,
    nothing_goes_wrong_and_it_fits_a_phone,
)
