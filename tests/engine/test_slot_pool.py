from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.engine.cache import SlotPool


@given(st.integers(1, 6), st.lists(st.integers(0, 6), max_size=40))
def test_every_slot_is_either_free_or_owned_once(slots, moves):
    pool, owned = SlotPool(slots), []
    for move in moves:
        if move < len(owned):
            pool.release(owned.pop(move))
        elif pool.free:
            owned.append(pool.acquire())
        assert len(set(owned)) == len(owned)
        assert set(owned) <= set(range(slots))
        assert pool.free + len(owned) == slots


def test_an_exhausted_pool_and_a_double_release_are_refused():
    pool = SlotPool(1)
    slot = pool.acquire()
    with pytest.raises(RuntimeError, match="all 1 cache slots are lent"):
        pool.acquire()
    pool.release(slot)
    with pytest.raises(RuntimeError, match="is not lent"):
        pool.release(slot)
