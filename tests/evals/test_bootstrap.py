"""Intervals, differences and pass@k are what their definitions say."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.evals.bootstrap import difference, estimates, over_samples
from openk2.evals.decisions import DERIVED


def test_an_interval_covers_the_middle_95_of_resampled_means():
    rng = np.random.default_rng(3)
    values = rng.random(400)
    found = estimates([{"a": float(v)} for v in values], {}, seed=0)["a"]
    error = values.std() / math.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=error / 3)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=error / 3)


def test_a_metric_is_averaged_over_the_cases_that_have_it():
    found = estimates([{"a": 1.0}, {"a": 0.0, "b": 0.5}, {}], {}, seed=0)
    assert (found["a"].value, found["a"].n) == (0.5, 2)
    assert (found["b"].value, found["b"].n) == (0.5, 1)


def test_where_all_cases_agree_the_interval_is_the_exact_one():
    # Clopper and Pearson: 10 of 10 has 69.15 % as its lower end.
    assert estimates([{"a": 1.0}] * 10, {}, seed=0)["a"].low == pytest.approx(0.6915, abs=1e-4)
    assert estimates([{"a": 0.0}] * 10, {}, seed=0)["a"].high == pytest.approx(0.3085, abs=1e-4)
    counts = estimates([{"a": 0.0}, {"a": 2.0}] * 10, {}, seed=0)["a"]  # a mean of 1, no agreement
    assert counts.value == 1.0 and counts.low < 1.0 < counts.high


def test_f1_is_made_of_counts_over_all_cases():
    cases = [{"tp": 1.0, "fp": 0.0, "fn": 0.0}] * 6 + [{"tp": 0.0, "fp": 1.0, "fn": 0.0}] * 2
    cases += [{"tp": 0.0, "fp": 0.0, "fn": 1.0}] * 4 + [{"tp": 0.0, "fp": 0.0, "fn": 0.0}] * 9
    found = estimates(cases, DERIVED, seed=0)
    assert found["tool_call_precision"].value == pytest.approx(6 / 8)
    assert found["tool_call_recall"].value == pytest.approx(6 / 10)
    assert found["tool_call_f1"].value == pytest.approx(2 * 6 / (2 * 6 + 2 + 4))


def test_a_difference_is_resampled_in_pairs():
    rng = np.random.default_rng(0)
    before = rng.integers(0, 2, 300).astype(float)
    after = np.where(np.arange(300) < 30, 1.0, before)  # better or the same in every case
    pairs = [({"a": b}, {"a": a}) for b, a in zip(before, after, strict=True)]
    found = difference(pairs, {}, seed=0)["a"]
    assert found.value == pytest.approx((after - before).mean())
    assert 0 < found.low < found.value < found.high < 0.1  # unpaired, it would be ± 0.08


@given(st.lists(st.booleans(), min_size=2, max_size=7))
def test_pass_at_k_is_the_share_of_draws_with_one_that_passes(passed: list[bool]):
    found = over_samples([{"a": float(one)} for one in passed], "a")
    for k in (1, len(passed)):
        draws = list(itertools.combinations(passed, k))
        assert found[f"pass@{k}"] == pytest.approx(sum(map(any, draws)) / len(draws))
        assert found[f"pass^{k}"] == pytest.approx(sum(map(all, draws)) / len(draws))
    assert found["a"] == pytest.approx(sum(passed) / len(passed))
