"""The verifier of the game: it plays; each rule that a page breaks is found by the check for it."""

import importlib

import pytest

from examples.scenario import find
from tests.examples.gold import assert_all_hold, needs_browser, refuses

pytestmark = [needs_browser, pytest.mark.timeout(300)]
verify = importlib.import_module("examples.02-skill-gomoku.verify")
script = importlib.import_module("examples.02-skill-gomoku.script")
SCENARIO = find("02")
GAME = (SCENARIO.folder / "cells" / "game.html").read_text("utf-8")


def with_change(folder, old: str, new: str):
    assert old in GAME, f"the game has no {old!r}"
    (folder / "game.html").write_text(GAME.replace(old, new), "utf-8")
    return folder


@pytest.mark.slow
def test_gold_holds(tmp_path):
    assert_all_hold(SCENARIO, with_change(tmp_path, "Gomoku", "Gomoku"))


@pytest.mark.slow
def test_nothing_holds_without_a_game(tmp_path):
    assert all(not check.ok for check in SCENARIO.verify(tmp_path))
    (tmp_path / "game.html").write_text("<h1>Gomoku</h1>")
    assert sum(check.ok for check in SCENARIO.verify(tmp_path)) == 0


def test_the_mistake_of_the_first_version_is_found(tmp_path):
    refuses(
        with_change(tmp_path, script.RIGHT, script.WRONG),
        verify.four_or_a_line_around_the_edge_do_not_win,
        "other edge wins",
    )


BEGIN = verify.a_new_game_is_as_the_rules_say
STONES = verify.stones_alternate_and_stay
WIN = verify.five_in_a_line_win_in_every_direction
EDGE = verify.four_or_a_line_around_the_edge_do_not_win
ENERGY = verify.energy_grows_with_stones_up_to_a_hundred
FREEZE = verify.freeze_skips_the_opponent_once
REMOVE = verify.remove_takes_a_stone_of_the_opponent_only
SHIELD = verify.shield_holds_the_opponent_off_for_three_turns
REST = verify.skills_cool_down_with_stones_of_their_owner
UNDO = verify.undo_takes_back_stones_and_skills
NEW = verify.a_new_game_forgets_everything
PHONE = verify.nothing_goes_wrong_and_it_fits_a_phone
BROKEN = [
    ("energy: { black: 50", "energy: { black: 40", BEGIN, "not 50"),
    ("now.player = other(now.player)", "0", STONES, "no white stone|no black"),
    ("state.winner || state.stones[at] ||", "state.winner ||", STONES, "overwritten|passes"),
    (", [1, -1]]", "]", WIN, "other diagonal"),
    ("for (const way of [1, -1])", "for (const way of [1])", WIN, "row"),
    ("if (state.winner ||", "if (", WIN, "after the win"),
    ("LINE = 5", "LINE = 4", EDGE, "wins?"),
    ("Math.min(FULL,", "Math.max(0,", ENERGY, "held at 100"),
    ("if (now.skip) now.skip = false;", "if (now.skip) ;", FREEZE, "twice"),
    ("cost: 30", "cost: 20", FREEZE, "cost 30"),
    ("=== other(state.player) }", "!== '' }", REMOVE, "own stone"),
    (
        "aiming = aiming === name ? '' : name".replace("'", '"'),
        "aiming = name",
        REMOVE,
        "called off",
    ),
    ("SHIELD_TURNS = 3", "SHIELD_TURNS = 2", SHIELD, "gone"),
    ("shield.player === now.player && --shield", "--shield", SHIELD, "gone"),
    ("(shield && shield.player === state.player)", "shield", SHIELD, "owner"),
    ("rest: 4", "rest: 3", REST, "remove"),
    ("structuredClone(state)", "{ ...structuredClone(state), energy: state.energy }", UNDO, "undo"),
    (
        "state = start(); past = []",
        "state = { ...start(), shields: state.shields }; past = []",
        NEW,
        "left",
    ),
    ('"use strict";', "\"use strict\"; console.error('oops');", PHONE, "oops"),
    ("minmax(0, 640px); padding: 10px", "700px; padding: 10px", PHONE, "wide"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "check", "says"), BROKEN, ids=[new for _, new, *_ in BROKEN]
)
def test_a_broken_rule_is_found(tmp_path, old, new, check, says):
    refuses(with_change(tmp_path, old, new), check, says)
