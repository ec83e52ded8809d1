from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from openk2.engine import draft as draft_module
from openk2.engine.draft import WINDOW, NGrams, find_slow


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), max_size=60), st.lists(st.integers(1, 9), max_size=30))
@example([0] * 20, [1] * 20)
def test_the_latest_match_is_what_a_search_finds(ids, steps):
    ids_T = np.array(ids, np.int32)
    grams = NGrams()
    for length in itertools.accumulate(steps):
        if length > len(ids):
            break
        assert grams.find(ids_T, length) == find_slow(ids_T, length)


def test_a_token_is_four_bytes_and_no_prefix_of_another():
    ids_T = np.array([1, 256, 65536, 0, 1, 256, 1, 163839, 163840, 0, 256, 1], np.int32)
    grams = NGrams()
    for length in range(1, len(ids_T) + 1):
        assert grams.find(ids_T, length) == find_slow(ids_T, length)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=80, max_size=200), st.integers(1, 40))
def test_an_old_index_forgets_the_oldest(ids, first):
    window = 20
    ids_T, grams = np.array(ids, np.int32), NGrams()
    begin = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draft_module, "WINDOW", window)
        for length in range(first, len(ids) + 1):
            found = grams.find(ids_T, length)
            if length - begin > 2 * window:
                begin = length - window
            assert found == find_slow(ids_T, length, begin)
            assert len(grams) <= 2 * 2 * window


def test_a_long_prompt_is_searched_within_the_window():
    ids_T = np.random.default_rng(0).integers(0, 1 << 17, 3 * WINDOW).astype(np.int32)
    ids_T[-3:] = ids_T[[10, 11, 12]]
    assert NGrams().find(ids_T, len(ids_T)) == (0, 0)
    ids_T[-3:] = ids_T[[-100, -99, -98]]
    assert NGrams().find(ids_T, len(ids_T)) == (len(ids_T) - 97, 2)
