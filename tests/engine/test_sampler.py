from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.engine.sampler import sample, sample_row

row = st.tuples(
    st.lists(st.floats(-20, 20, width=32), min_size=12, max_size=12),
    st.sampled_from([0.0, 0.3, 0.6, 1.0, 2.0]),
    st.sampled_from([0.05, 0.5, 0.9, 0.999, 1.0]),
    st.floats(0, 1, exclude_max=True),
)


def batch(rows):
    logits, temperature, top_p, uniform = zip(*rows, strict=True)
    floats = [torch.tensor(x, dtype=torch.float64) for x in (temperature, top_p, uniform)]
    token_B, logprob_B = sample(torch.tensor(logits, dtype=torch.float32), *floats)
    return list(zip(token_B.tolist(), logprob_B.tolist(), strict=True))


@settings(deadline=None)
@given(st.lists(row, min_size=1, max_size=5))
def test_the_batch_chooses_what_the_plain_row_does(rows):
    for got, one in zip(batch(rows), rows, strict=True):
        token, logprob = sample_row(*one)
        assert got[0] == token
        assert got[1] == pytest.approx(logprob, abs=1e-9)


@settings(deadline=None)
@given(st.lists(row, min_size=2, max_size=5))
def test_a_row_does_not_depend_on_its_neighbours(rows):
    assert batch(rows) == [batch([one])[0] for one in rows]


def test_temperature_zero_is_the_argmax_whatever_the_uniform_number():
    logits = [0.0, 3.0, 2.9, -1.0]
    assert {token for token, _ in batch([(logits, 0.0, 1.0, u) for u in (0.0, 0.5, 0.999)])} == {1}


def test_the_logprob_is_the_models_own():
    logits = [1.0, 2.0, 0.5]
    expected = torch.tensor(logits, dtype=torch.float64).log_softmax(-1).tolist()
    for temperature, top_p in ((0.0, 1.0), (0.2, 1.0), (2.0, 0.7)):
        token, logprob = batch([(logits, temperature, top_p, 0.9)])[0]
        assert logprob == pytest.approx(expected[token])


def test_top_p_keeps_the_smallest_set_that_reaches_the_mass():
    logits = np.log([0.1, 0.4, 0.2, 0.3]).tolist()
    grid = np.linspace(0, 0.9999, 200)
    kept = {p: {t for t, _ in batch([(logits, 1.0, p, u) for u in grid])} for p in (0.3, 0.6, 0.8)}
    assert kept == {0.3: {1}, 0.6: {1, 3}, 0.8: {1, 2, 3}}


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.0, 0.8)])
def test_draws_follow_the_distribution(temperature, top_p):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=16).tolist()
    draws = 20_000
    rows = [(logits, temperature, top_p, u) for u in generator.random(draws)]
    count = np.bincount([token for token, _ in batch(rows)], minlength=16)

    p = np.exp(np.array(logits) / temperature)
    p /= p.sum()
    order = np.argsort(-p)
    keep = np.concatenate([[True], np.cumsum(p[order])[:-1] < top_p])
    p[order[~keep]] = 0
    p /= p.sum()

    assert count[p == 0].sum() == 0
    chi_square = (((count - draws * p) ** 2)[p > 0] / (draws * p[p > 0])).sum()
    # The 99.9 % point for 15 degrees of freedom; with fewer (top-p) it is lower.
    assert chi_square < 37.7


@pytest.mark.parametrize("temperature", [1e-300, 1e-6, 1e6])
def test_extreme_temperatures_stay_in_range(temperature):
    token, logprob = batch([([1.0, 5.0, 2.0], temperature, 1.0, 0.5)])[0]
    assert token == 1
    assert np.isfinite(logprob)


def test_the_largest_uniform_number_never_draws_a_token_of_probability_zero():
    largest = 1 - 2.0**-53
    logits = [0.0, 1.0, -torch.inf, -torch.inf]
    for top_p in (1.0, 0.99):
        assert batch([(logits, 1.0, top_p, largest)])[0][0] == 1


@pytest.mark.parametrize("bad", [[np.nan, 1.0, 0.0], [np.inf, np.inf, 0.0], [-np.inf] * 3])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_without_a_distribution_says_nan_and_harms_nobody(bad, temperature):
    good = ([0.0, 1.0, 2.0], temperature, 0.9, 0.4)
    (token, logprob), neighbour = batch([(bad, temperature, 0.9, 0.4), good])
    assert 0 <= token < 3
    assert np.isnan(logprob)
    assert neighbour == batch([good])[0]
