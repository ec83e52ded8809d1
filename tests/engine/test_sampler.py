from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.engine.draw import BINS, exp
from openk2.engine.plain_draw import drawn_row, noise, philox, sample_row
from openk2.engine.request import InvalidRequestError
from openk2.engine.sampler import RowState, Sampler, check_sampling, derive_seed, seed_of
from openk2.types import Sampling

V = 45
"""Not a multiple of 16 or 32."""
SAMPLER = Sampler(V, 6)
PLAIN = Sampling(temperature=1.0)

token = st.integers(0, V - 1)
tokens = st.lists(token, max_size=6)
penalty = st.sampled_from([0.0, 0.0, 0.5, -1.0, 2.0])
sampling = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 5e-324, 1e-300, 1e-6, 0.3, 0.6, 1.0, 2.0, 1e30]),
    top_p=st.sampled_from([1.0, 1.0, 0.05, 0.5, 0.9, 0.999]) | st.floats(0.01, 0.99),
    top_k=st.sampled_from([0, 0, 1, 2, 7, V - 1, V, 1000]),
    min_p=st.sampled_from([0.0, 0.0, 0.01, 0.3, 1.0]) | st.floats(0.0, 1.0),
    presence_penalty=penalty,
    frequency_penalty=penalty,
    repetition_penalty=st.sampled_from([1.0, 1.0, 1.3, 0.7, 1e-3]),
    logit_bias=st.dictionaries(token, st.floats(-100, 100), max_size=3).map(
        lambda bias: tuple(bias.items())
    ),
    top_logprobs=st.sampled_from([0, 0, 1, 5, 20]),
    forced=st.sampled_from([(), (), (3,), (7, 7, 44)]),
    draws=st.just(True),
    place=st.sampled_from([0, 0, 5]),
)
mask = (
    st.none()
    | st.integers(0, 2**V - 1).map(lambda n: [bool(n >> v & 1) for v in range(V)])
    | token.map(lambda v: one_hot(v))
)
row = st.tuples(
    st.tuples(st.sampled_from(["ties", "normal", "holes", "steep"]), st.integers(0, 999)).map(
        lambda drawn: logits_of(*drawn)
    ),
    sampling,
    tokens,
    tokens,
    st.integers(0, 2**64 - 1),
    mask,
)


def logits_of(kind, seed):
    """Lists of floats take hypothesis seconds: it draws a seed. Ties are what goes wrong first."""
    rng = np.random.default_rng(seed)
    if kind == "ties":
        return rng.choice([0.0, -0.0, 1.0, 1.5, -1.5, -2.0, 3.0, -math.inf], V).tolist()
    logits = rng.normal(size=V) * (10.0 ** rng.integers(-3, 30) if kind == "steep" else 3.0)
    if kind == "holes":
        logits[rng.random(V) < 0.7] = -math.inf
    return logits.astype(np.float32).tolist()


def one_hot(v, width=V):
    return [i == v for i in range(width)]


def bits(allowed):
    """Pack booleans into mask words; bits past the vocabulary are set, and must not matter."""
    if allowed is None:
        return None
    padded = [*allowed, *[True] * (-len(allowed) % 32)]
    return np.packbits(padded, bitorder="little").view("<u4")


def state(sampling, prompt=(), answer=(), seed64=0, width=V):
    row = RowState(sampling, prompt, width, seed64)
    for v in answer:
        row.accept(v)
    return row


def batch(rows, sampler=SAMPLER):
    """The fast path's (id, logprob, tops) of each row."""
    logits_OV = np.array([one[0] for one in rows], np.float32)
    states = [state(*one[1:5], width=logits_OV.shape[1]) for one in rows]
    draws = sampler.sample(logits_OV, states, masks=[bits(one[5]) for one in rows])
    return list(zip(draws.ids.tolist(), draws.logprobs.tolist(), draws.tops, strict=True))


def check(got, one):
    """Compare the fast path with its twin."""
    id, logprob, tops = sample_row(*one)
    assert got[0] == id
    assert got[1] == pytest.approx(logprob, abs=1e-9, nan_ok=True)
    assert [v for v, _ in got[2]] == [v for v, _ in tops]
    assert [p for _, p in got[2]] == pytest.approx([p for _, p in tops], abs=1e-9)


def draws_of(logits, sampling, count, first=0):
    """How often each token is drawn at `count` positions of one answer."""
    logits_OV = np.tile(np.array(logits, np.float32), (count, 1))
    row = state(sampling, seed64=1, width=len(logits))
    sampler = Sampler(len(logits), count)
    draws = sampler.sample(logits_OV, [row] * count, indices=range(first, first + count))
    return np.bincount(draws.ids, minlength=len(logits))


@settings(deadline=None, max_examples=300)
@given(st.lists(row, min_size=1, max_size=6))
def test_the_batch_chooses_what_the_plain_row_does(rows):
    for got, one in zip(batch(rows), rows, strict=True):
        check(got, one)


@settings(deadline=None, max_examples=200)
@given(st.lists(row, min_size=1, max_size=6))
def test_a_row_is_told_how_its_token_was_drawn(rows):
    states = [state(*one[1:5]) for one in rows]
    logits_OV = np.array([one[0] for one in rows], np.float32)
    draws = SAMPLER.sample(logits_OV, states, masks=[bits(one[5]) for one in rows])
    for o, (logits, sampling, prompt, answer, _, allowed) in enumerate(rows):
        got = draws.drawn_O2[o].tolist()
        if len(answer) < len(sampling.forced) or math.isnan(draws.logprobs[o]):
            assert all(math.isnan(p) for p in got)
            continue
        token = int(draws.ids[o])
        expected = drawn_row(logits, sampling, prompt, answer, token, allowed)
        assert got == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_probabilities_of_draws_are_how_often_tokens_are_drawn():
    one = Sampling(temperature=0.7, top_k=5, seed=1, draws=True)
    logits, allowed = logits_of("normal", 3), [v % 2 == 0 for v in range(V)]
    count = 4000
    sampler, row = Sampler(V, count), state(one, seed64=1)
    logits_OV = np.tile(np.array(logits, np.float32), (count, 1))
    draws = sampler.sample(
        logits_OV, [row] * count, indices=range(count), masks=[bits(allowed)] * count
    )
    likely = {v: math.exp(p) for v, p in zip(draws.ids, draws.drawn_O2[:, 0], strict=True)}
    assert sum(likely.values()) == pytest.approx(1, abs=1e-9)
    for v, p in likely.items():
        assert np.mean(draws.ids == v) == pytest.approx(p, abs=4 * math.sqrt(p / count))


@settings(deadline=None)
@given(st.lists(row, min_size=2, max_size=6), st.randoms())
def test_a_row_depends_on_neither_its_neighbours_nor_its_place(rows, random):
    together = repr(batch(rows))  # repr: NaN is not equal to itself
    assert together == repr([batch([one])[0] for one in rows])
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = batch([rows[i] for i in order])
    assert together == repr([shuffled[order.index(i)] for i in range(len(rows))])


@pytest.mark.parametrize("width", [1, 31, 32, 33, 1000, 5000])
@pytest.mark.parametrize("spread", [0.0, 0.1, 5.0, 1e30])
def test_any_vocabulary_and_any_spread(width, spread):
    rng = np.random.default_rng(width)
    logits = (spread * rng.normal(size=width)).astype(np.float32)
    allowed = (rng.random(width) < 0.5).tolist()
    rows = [
        (logits.tolist(), Sampling(temperature, top_p, **more), [], [0], seed, rule)
        for seed, (temperature, top_p) in enumerate([(0.0, 1.0), (1.0, 1.0), (0.6, 0.9)])
        for more in ({}, {"top_k": 20}, {"min_p": 0.02, "presence_penalty": 1.0})
        for rule in (None, allowed)
    ]
    for got, one in zip(batch(rows, Sampler(width, len(rows))), rows, strict=True):
        check(got, one)


def test_a_large_vocabulary_with_ties():
    rng = np.random.default_rng(0)
    logits = rng.integers(-40, 8, 163_840).astype(np.float32).tolist()
    settings_ = [{"top_p": 0.95}, {"top_k": 12_345}, {"top_k": 3, "top_logprobs": 20}]
    rows = [(logits, Sampling(1.0, **one), [], [], 9, None) for one in settings_]
    for got, one in zip(batch(rows, Sampler(len(logits), 3)), rows, strict=True):
        check(got, one)


def test_logits_that_crowd_one_bin_are_told_apart():
    """One outlier puts all others into the histogram's first bin, several times over."""
    logits = [-3e38, -1e30, -1e20, -1e10] + [i / BINS**2 for i in range(300)]
    for top_p in (0.01, 0.5, 0.99):
        rows = [(logits, Sampling(1.0, top_p), [], [], seed, None) for seed in range(20)]
        for got, one in zip(batch(rows, Sampler(len(logits), 20)), rows, strict=True):
            check(got, one)


def test_the_logprob_is_the_models_own():
    logits = [1.0, 2.0, 0.5]
    expected = np.array(logits) - np.log(np.exp(logits).sum())
    for one in (Sampling(0.0), Sampling(0.2), Sampling(2.0, 0.7, logit_bias=((0, 5.0),), top_k=2)):
        id, logprob, _ = batch([(logits, one, [], [2], 0, None)], Sampler(3, 1))[0]
        assert logprob == pytest.approx(expected[id])


def test_top_logprobs_are_sorted_and_lower_ids_come_first_among_equals():
    logits = [0.0, 2.0, -math.inf, 2.0, 1.0, 0.0]
    one = dataclasses.replace(PLAIN, top_logprobs=20)
    ((_, _, tops),) = batch([(logits, one, [], [], 0, None)], Sampler(6, 1))
    assert [v for v, _ in tops] == [1, 3, 4, 0, 5]
    assert sum(math.exp(p) for _, p in tops) == pytest.approx(1)


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ({"top_p": 0.3}, {1}),
        ({"top_p": 0.6}, {1, 3}),
        ({"top_p": 0.8}, {1, 2, 3}),
        ({"top_p": 0.99}, {0, 1, 2, 3}),
        ({"top_k": 2}, {1, 3}),
        ({"min_p": 0.6}, {1, 3}),
        # The mass of what top-k leaves is 0.7: the first has 57 % of it.
        ({"top_k": 2, "top_p": 0.55}, {1}),
        # min-p leaves 0.9, and top-p looks at that.
        ({"min_p": 0.4, "top_p": 0.75}, {1, 3}),
        ({"temperature": 100.0, "top_p": 0.5}, {1, 3}),
    ],
)
def test_what_can_be_drawn(more, kept):
    logits = np.log([0.1, 0.4, 0.2, 0.3])
    count = draws_of(logits, dataclasses.replace(PLAIN, **more), 300)
    assert set(np.flatnonzero(count).tolist()) == kept


def test_tokens_as_likely_as_the_last_one_are_kept_by_top_p():
    count = draws_of([1.0, 0.0, 0.0, -3.0], Sampling(1.0, 0.6), 200)
    assert (count > 0).tolist() == [True, True, True, False]


def test_top_k_takes_the_lower_ids_of_equal_logits():
    count = draws_of([0.0, 1.0, 0.0, 0.0], Sampling(1.0, top_k=3), 200)
    assert (count > 0).tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("temperature", "top_p", "top_k", "min_p"),
    [
        (1.0, 1.0, 0, 0.0),
        (0.6, 1.0, 0, 0.0),
        (1.0, 0.8, 0, 0.0),
        (1.0, 1.0, 5, 0.0),
        (1.5, 1.0, 0, 0.2),
        (0.8, 0.9, 10, 0.05),
    ],
)
def test_draws_follow_the_distribution(temperature, top_p, top_k, min_p):
    logits = np.random.default_rng(0).normal(size=16).astype(np.float32)
    draws = 8_000
    count = draws_of(logits, Sampling(temperature, top_p, top_k=top_k, min_p=min_p), draws)

    p = np.exp(logits.astype(float) / temperature)
    order = np.argsort(-p)
    p[order[top_k or 16 :]] = 0
    p[p < min_p * p.max()] = 0
    p /= p.sum()
    p[order[np.cumsum(p[order]) - p[order] >= top_p]] = 0
    p /= p.sum()

    assert count[p == 0].sum() == 0
    chi_square = (((count - draws * p) ** 2)[p > 0] / (draws * p[p > 0])).sum()
    # The 99.9 % point for 15 degrees of freedom; with fewer (the cuts) it is lower.
    assert chi_square < 37.7


def test_draws_at_many_seeds_follow_the_distribution():
    """Clients send small seeds and ask for the first token: neighbours must not be alike."""
    p = np.array([0.5, 0.3, 0.2])
    logits_OV = np.tile(np.log(p).astype(np.float32), (5_000, 1))
    rows = [RowState(PLAIN, (), 3, seed) for seed in range(5_000)]
    count = np.bincount(Sampler(3, 5_000).sample(logits_OV, rows).ids)
    assert (((count - 5_000 * p) ** 2) / (5_000 * p)).sum() < 13.8  # 99.9 %, 2 degrees


def test_a_small_error_in_the_logits_rarely_changes_the_token():
    """The reason for the race: a flip is bounded by the total variation, not by the vocabulary."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(500, 2000)).astype(np.float32)
    wrong = (logits + 0.01 * generator.normal(size=logits.shape)).astype(np.float32)
    rows = [RowState(PLAIN, (), 2000, seed) for seed in range(500)]
    sampler = Sampler(2000, 500)
    # D is half the mean absolute error of the logits, 0.004: at most 0.8 % of 500 are expected.
    # Inverting the cumulative distribution flips about a hundred of them.
    assert (sampler.sample(logits, rows).ids != sampler.sample(wrong, rows).ids).sum() <= 12


def test_the_token_depends_on_seed_and_index():
    logits_OV = np.zeros((6, V), np.float32)
    rows = [state(PLAIN, seed64=seed) for seed in (1, 1, 2, 2**32, 2**63, 1)]
    first = SAMPLER.sample(logits_OV, rows).ids
    assert first[0] == first[1] == first[5]
    assert len(set(first.tolist())) >= 3
    at_index = SAMPLER.sample(logits_OV, [rows[0]] * 6, indices=range(6)).ids.tolist()
    assert len(set(at_index)) >= 4
    stepped = []
    for _ in range(6):
        stepped += SAMPLER.sample(logits_OV[:1], [rows[0]]).ids.tolist()
        rows[0].accept(stepped[-1])
    assert stepped == at_index


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0] * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ([2**32 - 1] * 4, [2**32 - 1] * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_words(counter, key, words):
    """The known answers of the Random123 distribution."""
    assert philox(counter, key) == words


def test_noise_is_exponential_at_any_seed_and_index():
    values = np.array([noise(seed, 2**40 + 1, v) for seed in (0, 2**64 - 1) for v in range(5000)])
    assert values.min() > 0
    assert values.mean() == pytest.approx(1, abs=0.04)
    assert np.median(values) == pytest.approx(math.log(2), abs=0.04)


def test_the_exponential_is_exact_to_the_last_bits():
    for y in [0.0, -1e-300, -0.3465, -0.3466, -1.0, -36.7, -707.9, *np.linspace(-700, 0, 997)]:
        assert exp(y) == pytest.approx(math.exp(y), rel=5e-16)
    assert [exp(y) for y in (-708.1, -1e300, -math.inf)] == [0.0] * 3


@pytest.mark.parametrize("temperature", [1e-310, 1e-300, 1e-6])
def test_a_tiny_temperature_is_greedy(temperature):
    count = draws_of([1.0, 5.0, 2.0], Sampling(temperature, 0.9, min_p=0.1), 50)
    assert count.tolist() == [0, 50, 0]


def test_a_token_of_probability_zero_is_never_drawn():
    for top_p in (1.0, 0.99):
        count = draws_of([0.0, 1.0, -math.inf, -3e38], Sampling(1.0, top_p), 2000)
        assert count[2:].tolist() == [0, 0]


def test_a_mask_of_one_token_decides_and_leaves_the_logprob_alone():
    logits = [5.0] + [0.0] * (V - 1)
    for temperature in (0.0, 1.0):
        one = Sampling(temperature, 0.9, top_k=3)
        ((id, logprob, _),) = batch([(logits, one, [], [], 0, one_hot(44))])
        assert id == 44
        assert logprob == pytest.approx(-math.log(math.exp(5) + V - 1))


INF, NAN = math.inf, math.nan


@pytest.mark.parametrize("bad", [[NAN, 1.0], [-NAN, 1.0], [INF, INF], [-INF, INF], [-INF, -INF]])
@pytest.mark.parametrize("one", [Sampling(0.0), PLAIN, Sampling(0.6, 0.9, logit_bias=((0, 1.0),))])
def test_a_row_without_a_distribution_says_nan_and_harms_nobody(bad, one):
    good = ([0.0, 1.0], one, [], [], 1, None)
    (id, logprob, tops), neighbour = batch([(bad, one, [], [], 1, None), good], Sampler(2, 2))
    assert 0 <= id < 2
    assert math.isnan(logprob)
    assert tops == ()
    assert neighbour == batch([good], Sampler(2, 1))[0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_mask_that_allows_nothing_that_is_possible_says_nan(temperature):
    for logits in ([0.0] * V, [-INF] * 7 + [1.0] * (V - 7)):
        for allowed in ([False] * V, one_hot(3)):
            if logits[3] == -INF or not any(allowed):
                one = (logits, Sampling(temperature), [], [], 0, allowed)
                assert math.isnan(batch([one])[0][1])


def edited_best(logits, answer=(), prompt=(), **more):
    """The greedy token after `more`."""
    one = (list(logits), Sampling(0.0, **more), prompt, answer, 0, None)
    return batch([one], Sampler(len(logits), 1))[0][0]


def test_penalties_by_hand():
    # 3.0 is said twice: presence takes 1.0 once, frequency 0.6 twice.
    assert edited_best([3.0, 2.1], answer=[0, 0], presence_penalty=0.8) == 0
    assert edited_best([3.0, 2.1], answer=[0, 0], presence_penalty=1.0) == 1
    assert edited_best([3.0, 2.1], answer=[0, 0], frequency_penalty=0.4) == 0
    assert edited_best([3.0, 2.1], answer=[0, 0], frequency_penalty=0.6) == 1
    # The prompt counts for the repetition penalty only.
    assert edited_best([3.0, 2.1], prompt=[0], presence_penalty=2.0, frequency_penalty=2.0) == 0
    assert edited_best([3.0, 2.1], prompt=[0], repetition_penalty=1.4) == 0
    assert edited_best([3.0, 2.1], prompt=[0], repetition_penalty=1.5) == 1
    assert edited_best([3.0, 2.1], answer=[0], repetition_penalty=1.5) == 1
    # Negative logits are multiplied.
    assert edited_best([-2.0, -3.0], prompt=[0], repetition_penalty=1.6) == 1
    assert edited_best([0.0, 1.0], logit_bias=((0, 1.5),)) == 0
    # Bias first, then 4.5 / 1.5 = 3, then minus 1.
    more = {"repetition_penalty": 1.5, "presence_penalty": 1.0, "logit_bias": ((0, 1.5),)}
    assert edited_best([3.0, 1.9], answer=[0], **more) == 0
    assert edited_best([3.0, 2.1], answer=[0], **more) == 1


def test_many_counted_tokens_are_all_remembered():
    answer = [*range(40), *range(20)]
    row = state(Sampling(0.0, frequency_penalty=1.0), answer=answer)
    got = {int(e["id"]): int(e["count"]) for e in row.edits_E}
    assert got == {v: answer.count(v) for v in range(40)}
    assert len(state(PLAIN, prompt=range(V), answer=answer).edits_E) == 0


def test_a_drafted_position_sees_the_draft_and_changes_nothing():
    row = state(Sampling(0.0, presence_penalty=2.0), answer=[1, 2])
    later = row.after([3, 4])
    assert (row.index, later.index) == (2, 4)
    assert later.edits_E["id"].tolist() == [1, 2, 3, 4]
    assert row.edits_E["id"].tolist() == [1, 2]


def test_forced_tokens_come_first_with_their_own_logprobs():
    logits = np.random.default_rng(0).normal(size=(1, V)).astype(np.float32)
    one = Sampling(0.0, forced=(9, 44))
    row = state(one)
    expected = logits[0] - np.log(np.exp(logits[0].astype(float)).sum())
    ids = []
    for _ in range(3):
        draws = SAMPLER.sample(logits, [row])
        ids.append(int(draws.ids[0]))
        assert draws.logprobs[0] == pytest.approx(expected[ids[-1]])
        row.accept(ids[-1])
    assert ids == [9, 44, logits.argmax()]


def test_logits_are_not_changed():
    logits = np.random.default_rng(0).normal(size=(1, V)).astype(np.float32)
    before = logits.copy()
    SAMPLER.sample(logits, [state(Sampling(1.0, 0.5, logit_bias=((1, 9.0),), top_k=3))])
    assert np.array_equal(logits, before)


def test_logits_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 44\) for 1 rows"):
        SAMPLER.sample(np.zeros((1, V - 1), np.float32), [state(PLAIN)])
    with pytest.raises(ValueError, match="up to 6 rows"):
        SAMPLER.sample(np.zeros((7, V), np.float32), [state(PLAIN)] * 7)


def test_seeds():
    assert [seed_of(s) for s in (0, 7, -1, 2**64 + 5)] == [0, 7, 2**64 - 1, 5]
    assert seed_of(None) != seed_of(None)
    assert derive_seed(123, 0) == 123
    # SplitMix64's published first outputs for the seed 1234567.
    assert [derive_seed(1234567, i) for i in (1, 2)] == [6457827717110365317, 3203168211198807973]
    assert len({derive_seed(seed, i) for seed in range(50) for i in range(50)}) == 2500


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": NAN}, "temperature is nan"),
        ({"temperature": INF}, "temperature is inf"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"top_k": -1}, "top_k is -1"),
        ({"min_p": 1.1}, "min_p is 1.1"),
        ({"min_p": NAN}, "min_p is nan"),
        ({"presence_penalty": 2.5}, "presence_penalty is 2.5"),
        ({"frequency_penalty": -2.5}, "frequency_penalty is -2.5"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0"),
        ({"repetition_penalty": INF}, "repetition_penalty is inf"),
        ({"logit_bias": ((V, 1.0),)}, "logit_bias is 45; use a token id below 45"),
        ({"logit_bias": ((3, 101.0),)}, r"logit_bias\[3\] is 101.0"),
        ({"logit_bias": ((3, NAN),)}, r"logit_bias\[3\] is nan"),
        ({"logit_bias": ((3, 1.0), (3, 2.0))}, "names a token twice"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"top_logprobs": 21}, "top_logprobs is 21"),
        ({"forced": (-1,)}, "forced is -1"),
    ],
)
def test_settings_without_a_meaning_are_refused(more, message):
    with pytest.raises(InvalidRequestError, match=message):
        check_sampling(Sampling(**more), V)


def test_the_defaults_are_allowed():
    check_sampling(Sampling(), V)
