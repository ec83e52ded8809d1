"""A pattern fits for certain, or perhaps, or not: never "not" where some filling would fit."""

from __future__ import annotations

import fnmatch
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.commands import Command
from openk2.agent.patterns import command_match, may_name, name_matches, path_matches
from openk2.agent.shell_words import UNKNOWN

TEXT = st.text(st.sampled_from("ab*-/"), max_size=6)
WORDS = st.lists(st.text(st.sampled_from("ab-f"), min_size=1, max_size=3), min_size=1, max_size=4)


@given(TEXT, st.text(st.sampled_from("ab-/"), max_size=8))
def test_names_match_as_file_names_do(pattern: str, name: str):
    assert name_matches(pattern, name) == fnmatch.fnmatchcase(name, pattern)


@given(
    st.lists(st.text(st.sampled_from("ab*-f"), min_size=1, max_size=3), min_size=1, max_size=4),
    WORDS,
    st.integers(0, 3),
    WORDS,
    st.booleans(),
)
def test_what_could_fit_is_never_a_no(
    pattern: list[str], words: list[str], place: int, filling: list[str], strict: bool
):
    """Fill an unknown word with others: what then fits for certain was at least possible."""
    place = min(place, len(words) - 1)
    unknown = Command((*words[:place], UNKNOWN, *words[place + 1 :]))
    filled = Command((*words[:place], *filling, *words[place + 1 :]))
    rule = " ".join(pattern)
    before = command_match(rule, unknown, strict=strict)
    after = command_match(rule, filled, strict=strict)
    assert not (after == "yes" and before == "no")
    assert not (before == "yes" and after == "no")


@given(
    st.lists(st.sampled_from(["a", "b", "*", "**", "a*"]), min_size=1, max_size=4),
    st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4),
    st.integers(0, 3),
)
def test_a_path_that_could_be_meant_is_never_a_no(pattern: list[str], path: list[str], place: int):
    rule, workspace = "/" + "/".join(pattern), Path("/w")
    known = Path("/" + "/".join(path))
    hidden = [UNKNOWN if number == place else part for number, part in enumerate(path)]
    if path_matches(rule, known, workspace):
        assert may_name(rule, Path("/" + "/".join(hidden)), workspace)


def test_only_the_exact_program_is_allowed_but_any_spelling_is_denied():
    command = Command(("/bin/rm", "-v", "x", "-fR"))
    assert command_match("rm -rf *", command, strict=True) == "no"
    assert command_match("rm -rf *", command, strict=False) == "yes"
    assert command_match("rm -rf *", Command(("rm", "-r", "x")), strict=False) == "no"
    assert command_match("ls *", Command(("ls",)), strict=True) == "yes"
    assert command_match(r"ls \*", Command(("ls", "*")), strict=True) == "yes"
    assert command_match(r"ls \*", Command(("ls", "a")), strict=True) == "no"
