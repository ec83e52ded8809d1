"""The guard against circles: before the n-th execution, and never against progress."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.repeat import RepeatGuard, RepeatLimits


def go(guard, calls, result=lambda call, n: "same"):
    """Make calls as long as they are carried out; return how many executions each one had."""
    executed: dict[str, int] = {}
    for number, call in enumerate(calls):
        if guard.check(call) != "block":
            executed[call] = executed.get(call, 0) + 1
            guard.ran(call, result(call, number))
        if guard.hopeless:
            break
    return executed


def test_the_fifth_identical_call_is_not_carried_out():
    guard = RepeatGuard()
    verdicts = []
    for _ in range(6):
        verdict = guard.check("a")
        verdicts.append(verdict)
        if verdict != "block":
            guard.ran("a", "same")
    assert verdicts == ["go", "go", "remind", "remind", "block", "block"]


@pytest.mark.parametrize("cycle", ["a", "ab", "abc", "abcd", "aab", "abac"])
@pytest.mark.parametrize("before", ["", "xyz", "abcxab"])
def test_a_cycle_ends_the_run_before_its_fifth_round(cycle, before):
    guard = RepeatGuard()
    go(guard, before, lambda call, n: f"before {n}")
    executed = go(guard, itertools.islice(itertools.cycle(cycle), 1000))
    assert guard.hopeless
    for call in set(cycle):
        assert executed[call] <= 4 * cycle.count(call)


def test_a_longer_cycle_is_left_to_the_budget():
    guard = RepeatGuard()
    executed = go(guard, "abcde" * 8)
    assert sum(executed.values()) == 40


@given(st.lists(st.sampled_from("abcdefg"), max_size=200))
def test_calls_whose_results_change_are_never_stopped(calls):
    guard = RepeatGuard(RepeatLimits(most_calls=1000))
    executed = go(guard, calls, lambda call, n: f"result {n}")
    assert sum(executed.values()) == len(calls)


@given(st.lists(st.sampled_from("abc"), max_size=60), st.integers(2, 6))
def test_no_call_is_carried_out_more_often_in_a_row_than_allowed(calls, block_at):
    guard = RepeatGuard(RepeatLimits(block_at=block_at, remind_at=2))
    streak, last = 0, ""
    for call in calls:
        if guard.check(call) == "block":
            # What was asked in between ends a row, too.
            streak, last = (streak, last) if call == last else (0, call)
            continue
        streak = streak + 1 if call == last else 1
        last = call
        assert streak < block_at
        guard.ran(call, "same")


def test_editing_and_testing_in_turns_is_progress():
    guard = RepeatGuard()
    for number in range(100):
        edit = f"edit {number}"
        assert guard.check(edit) == "go"
        guard.ran(edit, "done")
        assert number >= 60 or guard.check("test") == "go"
        guard.ran("test", "2 failed")


def test_a_clock_in_the_result_does_not_hide_a_loop_for_ever():
    guard = RepeatGuard()
    executed = go(guard, ["a"] * 1000, lambda call, n: f"at {n}")
    assert executed == {"a": 60} and guard.hopeless
