"""A curriculum keeps what is worth practising and can be interrupted anywhere."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.gym.difficulty import Curriculum, DifficultyConfig, PassCount

NAMES = [f"p{i}" for i in range(12)]
COUNTS = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from([PassCount(passed, 4) for passed in range(5)])
)


def test_what_never_or_always_passes_is_not_kept():
    config = DifficultyConfig(explore=0.0)
    counts = {"hard": PassCount(0, 8), "fair": PassCount(3, 8), "known": PassCount(8, 8)}
    curriculum = Curriculum(frozenset(counts), config).measured(counts)
    assert curriculum.kept() == ["fair"]
    assert curriculum.draw(1)[0] == ["fair"]
    assert sorted(curriculum.draw(3)[0]) == ["fair", "hard", "known"]  # too few: others fill up


def test_kept_ones_are_drawn_in_proportion_to_their_failure():
    counts = {"a": PassCount(1, 4), "b": PassCount(2, 4), "c": PassCount(3, 4)}
    curriculum = Curriculum(frozenset(counts), DifficultyConfig(explore=0.0)).measured(counts)
    first: Counter[str] = Counter()
    for _ in range(3000):
        (name,), curriculum = curriculum.draw(1)
        first[name] += 1
    # 0.75 : 0.5 : 0.25 of 3000; four standard deviations are 110.
    assert abs(first["a"] - 1500) < 110 and abs(first["b"] - 1000) < 104
    assert abs(first["c"] - 500) < 82


def test_unmeasured_ones_are_explored_and_alone_at_first():
    config = DifficultyConfig(explore=0.25)
    curriculum = Curriculum(frozenset(NAMES), config)
    assert sorted(curriculum.draw(12)[0]) == sorted(NAMES)
    curriculum = curriculum.measured({name: PassCount(1, 2) for name in NAMES[:6]})
    explored = 0
    for _ in range(1000):
        chosen, curriculum = curriculum.draw(4)
        explored += sum(name in NAMES[6:] for name in chosen)
    assert 850 < explored < 1150


def test_old_counts_fade():
    once = Curriculum(frozenset("a")).measured({"a": PassCount(0, 8)})
    assert once.kept() == []
    later = once.measured({"a": PassCount(6, 8)})
    assert later.counts["a"] == PassCount(6.0, 12.0) and later.kept() == ["a"]
    forgetful = Curriculum(frozenset("a"), DifficultyConfig(memory=0.0), counts=once.counts)
    assert forgetful.measured({"a": PassCount(6, 8)}).counts["a"].success == 0.75


@given(st.lists(COUNTS, max_size=3), st.integers(0, 2), st.integers(0, 15))
@settings(max_examples=40, deadline=None)
def test_an_interrupted_curriculum_draws_the_same(
    batches: list[dict[str, PassCount]], stop: int, size: int
):
    config = DifficultyConfig()
    through = Curriculum(frozenset(NAMES), config, seed=5)
    resumed = through
    drawn: list[list[str]] = []
    again: list[list[str]] = []
    for number, batch in enumerate(batches):
        chosen, through = through.measured(batch).draw(size)
        drawn.append(chosen)
        if number == stop:
            resumed = Curriculum.resume(
                json.loads(json.dumps(resumed.state(), sort_keys=True)), reversed(NAMES), config
            )
        backwards = dict(reversed(batch.items()))
        chosen, resumed = resumed.measured(backwards).draw(size)
        again.append(chosen)
        assert len(set(chosen)) == len(chosen) == min(size, len(NAMES))
    assert drawn == again and through.state() == resumed.state()


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ValueError, match="least and most"):
        DifficultyConfig(least=0.9, most=0.1)
    with pytest.raises(ValueError, match="explore is 2"):
        DifficultyConfig(explore=2)
    with pytest.raises(ValueError, match="3 of 2 is no pass count"):
        PassCount(3, 2)
    with pytest.raises(KeyError, match="not in the curriculum"):
        Curriculum(frozenset("a")).measured({"b": PassCount(1, 1)})
