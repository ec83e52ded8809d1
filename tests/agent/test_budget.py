"""Budgets: never undercut, warned of once, divided without loss."""

from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.budget import Limits, Spent, exhausted, newly_low, share, uses
from openk2.agent.model import Price
from openk2.types import Usage

amounts = st.integers(0, 10**9)
limits = st.builds(
    Limits,
    steps=st.none() | st.integers(1, 1000),
    tokens=st.none() | st.integers(1, 10**9),
    cost=st.none() | st.integers(1, 10**9),
    seconds=st.none() | st.floats(0.1, 1e6),
    errors=st.none() | st.integers(1, 100),
)
spents = st.builds(
    Spent, steps=amounts, tokens=amounts, cost=amounts, seconds=st.floats(0, 1e9), errors=amounts
)


@given(limits, spents)
def test_a_limit_is_used_up_exactly_when_what_was_used_reaches_it(limits, spent):
    reached = [
        name
        for name in ("steps", "tokens", "cost", "seconds", "errors")
        if getattr(limits, name) is not None and getattr(spent, name) >= getattr(limits, name)
    ]
    used = exhausted(limits, spent)
    assert (used is not None) == bool(reached)
    if used is not None:
        assert used.name in reached


@given(limits, spents)
def test_each_limit_is_warned_of_once_and_not_before_eighty_percent(limits, spent):
    low = newly_low(limits, spent, frozenset())
    assert {use.name for use in low} == {
        use.name for use in uses(limits, spent) if use.share >= 0.8
    }
    assert newly_low(limits, spent, frozenset(use.name for use in low)) == []


@given(limits, spents, st.integers(1, 50), limits)
def test_sub_agents_cannot_use_more_together_than_is_left(limits, spent, parts, wanted):
    part = share(limits, spent, parts, wanted)
    for name in ("tokens", "cost"):
        limit = getattr(limits, name)
        if limit is not None:
            assert parts * getattr(part, name) <= max(0, limit - getattr(spent, name))
    for name in ("steps", "tokens", "cost", "seconds", "errors"):
        own = getattr(wanted, name)
        if own is not None:
            assert getattr(part, name) <= own


@given(
    st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**7),
    st.integers(0, 10**8), st.integers(0, 10**8), st.integers(0, 10**8),
)  # fmt: skip
def test_a_price_is_rounded_up_and_counts_cached_tokens_once(prompt, cached, written, a, b, c):
    usage = Usage(prompt + cached, written, cached_tokens=cached)
    exact = prompt * a + cached * b + written * c
    cost = Price(a, b, c).of(usage)
    assert (cost - 1) * 1_000_000 < exact <= cost * 1_000_000


def test_errors_in_a_row_end_with_a_success():
    spent = Spent()
    for failed in (True, True, False, True):
        spent = spent.plus_call(failed=failed)
    assert spent.errors == 1
