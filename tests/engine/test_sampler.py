from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.engine.sampler import LIKELY, sample, sample_row

V = 12
row = st.tuples(
    st.lists(st.floats(-20, 20, width=32), min_size=V, max_size=V),
    st.sampled_from([0.0, 0.3, 0.6, 1.0, 2.0]),
    st.sampled_from([0.05, 0.5, 0.9, 0.999, 1.0]),
    st.lists(st.floats(1e-9, 30), min_size=V, max_size=V),
)


def batch(rows):
    logits, *others = zip(*rows, strict=True)
    floats = [torch.tensor(x, dtype=torch.float64) for x in others]
    token_B, logprob_B = sample(torch.tensor(logits, dtype=torch.float64), *floats)
    return list(zip(token_B.tolist(), logprob_B.tolist(), strict=True))


def noises(n, width):
    """The noise of `n` requests whose seeds are 0, 1, 2 …: what clients send."""
    for seed in range(n):
        generator = torch.Generator().manual_seed(seed)
        noise_V = torch.empty(width, dtype=torch.float64).exponential_(generator=generator)
        yield noise_V.tolist()


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


@pytest.mark.parametrize("spread", [0.1, 5.0])
def test_a_large_vocabulary_chooses_what_the_plain_row_does(spread):
    """Flat rows need more than the likely tokens to reach top-p, peaked ones do not."""
    logits = (spread * np.random.default_rng(0).normal(size=3 * LIKELY)).tolist()
    (noise,) = noises(1, 3 * LIKELY)
    rows = [(logits, 1.0, top_p, noise) for top_p in (0.5, 0.99, 1.0)]
    assert [token for token, _ in batch(rows)] == [sample_row(*one)[0] for one in rows]


def test_temperature_zero_is_the_argmax_whatever_the_noise():
    rows = [([0.0, 3.0, 2.9, -1.0], 0.0, 1.0, noise) for noise in noises(20, 4)]
    assert {token for token, _ in batch(rows)} == {1}


def test_the_logprob_is_the_models_own():
    logits = [1.0, 2.0, 0.5]
    expected = torch.tensor(logits, dtype=torch.float64).log_softmax(-1).tolist()
    for temperature, top_p in ((0.0, 1.0), (0.2, 1.0), (2.0, 0.7)):
        token, logprob = batch([(logits, temperature, top_p, [1.0, 0.9, 0.2])])[0]
        assert logprob == pytest.approx(expected[token])


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.3, {1}), (0.6, {1, 3}), (0.8, {1, 2, 3}), (0.99, {0, 1, 2, 3})]
)
def test_top_p_keeps_the_smallest_set_that_reaches_the_mass(top_p, kept):
    logits = np.log([0.1, 0.4, 0.2, 0.3]).tolist()
    rows = [(logits, 1.0, top_p, noise) for noise in noises(200, 4)]
    assert {token for token, _ in batch(rows)} == kept


def test_a_mass_that_top_p_meets_exactly_is_enough():
    logits = np.log([0.5, 0.25, 0.25]).tolist()
    rows = [(logits, 1.0, 0.5, noise) for noise in noises(50, 3)]
    assert {token for token, _ in batch(rows)} == {0}


def test_tokens_as_likely_as_the_last_one_are_kept_with_it():
    rows = [([1.0, 0.0, 0.0, -3.0], 1.0, 0.6, noise) for noise in noises(200, 4)]
    assert {token for token, _ in batch(rows)} == {0, 1, 2}


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.0, 0.8)])
def test_draws_follow_the_distribution(temperature, top_p):
    logits = np.random.default_rng(0).normal(size=16).tolist()
    draws = 4000
    rows = [(logits, temperature, top_p, noise) for noise in noises(draws, 16)]
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


def test_a_small_error_in_the_logits_rarely_changes_the_token():
    """The reason for the race: a flip is bounded by the total variation, not by the vocabulary."""
    generator = np.random.default_rng(0)
    noise = list(noises(500, 2000))
    logits = generator.normal(size=(500, 2000))
    wrong = logits + 0.01 * generator.normal(size=logits.shape)
    ones = [1.0] * 500
    right, flipped = (
        [token for token, _ in batch(list(zip(x.tolist(), ones, ones, noise, strict=True)))]
        for x in (logits, wrong)
    )
    # D is half the mean absolute error of the logits, 0.004: at most 0.8 % of 500 are expected.
    # Inverting the cumulative distribution flips about a hundred of them.
    assert sum(a != b for a, b in zip(right, flipped, strict=True)) <= 12


@pytest.mark.parametrize("temperature", [1e-300, 1e-6])
def test_a_tiny_temperature_is_greedy(temperature):
    token, logprob = batch([([1.0, 5.0, 2.0], temperature, 0.9, [1e-9, 30.0, 1.0])])[0]
    assert token == 1
    assert np.isfinite(logprob)


def test_noise_never_draws_a_token_of_probability_zero():
    noise = [30.0, 20.0, 1e-300, 1e-300]
    for top_p in (1.0, 0.99):
        assert batch([([0.0, 1.0, -torch.inf, -torch.inf], 1.0, top_p, noise)])[0][0] == 1


@pytest.mark.parametrize("bad", [[np.nan, 1.0, 0.0], [np.inf, np.inf, 0.0], [-np.inf] * 3])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_without_a_distribution_says_nan_and_harms_nobody(bad, temperature):
    noise = [0.5, 1.0, 2.0]
    good = ([0.0, 1.0, 2.0], temperature, 0.9, noise)
    (token, logprob), neighbour = batch([(bad, temperature, 0.9, noise), good])
    assert 0 <= token < 3
    assert np.isnan(logprob)
    assert neighbour == batch([good])[0]
