from __future__ import annotations

import gc
import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.engine import draft as draft_module
from openk2.engine.draft import (
    LONGEST,
    Crowd,
    DraftModel,
    Odds,
    PromptLookup,
)
from openk2.engine.engine import Engine
from openk2.engine.loading import load_engine
from openk2.engine.request import Request
from openk2.engine.runner import TorchRunner
from openk2.engine.sampler import RowState
from openk2.model.transformer import Transformer
from openk2.types import Sampling
from tests.engine.conftest import TINY, FaultyRunner
from tests.model.test_tiled import TINY as TILED
from tests.model.test_tiled import write

GREEDY = Sampling(temperature=0.0, max_tokens=40)
SEEDED = Sampling(temperature=0.8, top_p=0.95, seed=5, max_tokens=40)
PENALISED = replace(SEEDED, presence_penalty=0.5, frequency_penalty=0.1, repetition_penalty=1.1)
SAMPLINGS = {"greedy": GREEDY, "seeded": SEEDED, "penalised": PENALISED}
each_sampling = pytest.mark.parametrize("name", SAMPLINGS)
WORDS = [5, 9, 2, 44, 17, 3]
PROMPTS = [WORDS * 3, [1, 2] * 8, list(range(20, 50)), [7] * 5, [*WORDS, 60, *WORDS, 61, *WORDS]]


class LastTokens:
    """A runner whose logits depend on the last token alone, so that answers repeat themselves."""

    max_positions = 4096

    def __init__(self, logits_VV):
        self.logits_VV = np.asarray(logits_VV, np.float32)
        self.vocab_size = len(logits_VV)
        self.counts = []

    def allocate(self, blocks):
        pass

    def block_bytes(self):
        return 1

    def forward(self, batch):
        self.counts.append(len(batch.ids_T))
        return self.logits_VV[batch.ids_T[batch.wanted_O]]


def babble(vocab_size=64, seed=0):
    """Each token has a favourite successor."""
    return LastTokens(np.random.default_rng(seed).normal(0, 3, (vocab_size, vocab_size)))


class Remembering:
    """A source that also keeps each request that asks."""

    def __init__(self, source):
        self.source, self.requests = source, {}

    def __call__(self, request):
        self.requests[request.id] = request
        return self.source(request)

    @property
    def drafted(self):
        return sum(request.drafted for request in self.requests.values())

    @property
    def accepted(self):
        return sum(request.accepted for request in self.requests.values())


def make(runner, **settings):
    defaults = {"max_batch": 8, "max_len": 120, "stop_ids": frozenset(), "prefill_chunk": 16}
    return Engine(runner, **{**defaults, **settings})


def drain(engine, each_step=lambda: None):
    tokens = {}
    while engine.busy:
        for output in engine.step():
            tokens.setdefault(output.request_id, []).append((output.id, output.finish_reason))
        each_step()
    return tokens


def serve(engine, prompts, sampling):
    requests = [engine.submit(prompt, sampling) for prompt in prompts]
    tokens = drain(engine)
    assert engine.used_blocks == 0
    return [tokens[request] for request in requests]


def request_of(ids, sampling=GREEDY, room=64, vocab_size=64):
    ids_T = np.zeros(len(ids) + room, np.int32)
    ids_T[: len(ids)] = ids
    state = RowState(sampling, ids, vocab_size, 0)
    return Request(ids_T, len(ids), sampling, room, state, len(ids))


def small(model_seed=1, layers=1):
    config = replace(TINY, num_hidden_layers=layers)
    model = Transformer(config)
    model.reset_parameters(torch.Generator().manual_seed(model_seed))
    return model


# The rule


def rate(chances, length, rows, cost):
    tokens = rows + sum(math.prod(chances[: i + 1]) for i in range(length))
    return tokens / (1 + cost[0] * (rows - 1) + length * sum(cost))


@settings(deadline=None)
@given(
    st.lists(st.floats(0.01, 0.99), min_size=6, max_size=6),
    st.integers(0, 20),
    st.integers(1, 64),
    st.floats(0.01, 1.5),
    st.floats(0, 1),
)
def test_the_length_gives_the_most_tokens_per_time(rates, run, rows, verify, make):
    odds = Odds(tuple(rates))
    chances = [odds.rates[draft_module.RUN_CLASS[min(run + i, 16)]] for i in range(LONGEST)]
    chosen = odds.best_length(run, rows, verify, make)
    cost = verify, make
    # The best of all: chances that fall and rise again can hide a better one behind a worse.
    here = rate(chances, chosen, rows, cost)
    assert all(here >= rate(chances, n, rows, cost) - 1e-9 for n in range(chosen))
    if chosen < LONGEST:
        assert here >= rate(chances, chosen + 1, rows, cost) - 1e-9
    if sorted(chances, reverse=True) == chances:
        assert all(here >= rate(chances, n, rows, cost) - 1e-9 for n in range(LONGEST + 1))


def test_a_larger_batch_drafts_less():
    odds = Odds((0.8,) * 6)
    lengths = [odds.best_length(0, rows, 0.3) for rows in (1, 2, 4, 8, 16)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] >= 3 and lengths[-1] == 0


def test_the_crowd_is_counted():
    crowd, steps = Crowd(), dict.fromkeys("abc", -1)

    def step(names):
        for name in names:
            steps[name] = crowd.join(steps[name])

    for _ in range(3):
        step("abc")
    assert crowd.rows == 3
    for _ in range(3):
        step("c")
    assert crowd.rows == 1
    for _ in range(3):
        step("ac")
    assert crowd.rows == 2


# Prompt look-up


def test_the_continuation_of_the_latest_longest_match_is_drafted():
    ids = [1, 2, 3, 4, 5, 6, 50, 51, 52, 9, 5, 6, 60, 61, 1, 2, 3, 4, 5, 6]
    assert PromptLookup(cost=0)(request_of(ids))[:6] == [50, 51, 52, 9, 5, 6]
    assert PromptLookup(cost=0)(request_of(ids[10:]))[:3] == [60, 61, 1]
    assert PromptLookup(cost=0)(request_of([*range(20)])) == []
    assert PromptLookup(cost=0)(request_of([3])) == []


def test_a_repetition_is_drafted_beyond_the_present():
    assert PromptLookup(cost=0)(request_of([1, 2, 3] * 3)) == ([1, 2, 3] * 6)[:LONGEST]
    assert PromptLookup(cost=0)(request_of([8, 4, 4, 4])) == [4] * LONGEST


def play(source, prompt, answer):
    """Let a request say what it will say anyway; return how many tokens were drafted when."""
    request = request_of(prompt, room=len(answer) + 1)
    lengths = []
    for token in answer:
        request.ids_T[request.length] = token
        request.length += 1
        drafts = source(request)
        lengths.append(len(drafts))
    return lengths


def test_drafts_grow_while_they_are_right():
    lengths = play(PromptLookup(), WORDS * 2, WORDS * 40)
    assert 1 <= lengths[0] < lengths[-1]
    assert min(lengths[100:]) >= 8


def test_drafts_end_where_they_are_wrong_and_come_back():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 8, 400).tolist()  # every pair was there before
    lengths = play(PromptLookup(), WORDS * 6, [*WORDS * 6, *noise, *WORDS * 30])
    assert min(lengths[20:30]) >= 4
    assert sum(lengths[200:400]) <= 4
    assert min(lengths[-30:]) >= 4


def test_nothing_is_remembered_of_a_request_that_ended():
    source = PromptLookup(cost=0)
    engine = make(babble(), draft=source, prefill_chunk=512)
    requests = [engine.submit(prompt, GREEDY) for prompt in PROMPTS]
    for _ in range(2):
        engine.step()
    assert len(source) == len(PROMPTS)
    engine.cancel(requests[0])
    gc.collect()
    assert len(source) == len(PROMPTS) - 1
    drain(engine)
    gc.collect()
    assert len(source) == 0


@each_sampling
@pytest.mark.parametrize("blocks", [None, 12])
@pytest.mark.parametrize("target", ["model", "babble"])
def test_looked_up_equals_plain(model, target, name, blocks):
    sampling = replace(SAMPLINGS[name], max_tokens=60)
    runner = TorchRunner(model) if target == "model" else babble()
    truth = serve(make(runner), PROMPTS, sampling)
    source = Remembering(PromptLookup(cost=0))
    preempted = set()

    engine = make(runner, draft=source, blocks=blocks)
    requests = [engine.submit(prompt, sampling) for prompt in PROMPTS]
    tokens = drain(
        engine, lambda: preempted.update(r.id for r in engine._scheduler.waiting if r.preempted)
    )
    assert [tokens[request] for request in requests] == truth
    assert bool(preempted) == (blocks is not None)
    assert source.drafted > 0 and source.accepted <= source.drafted
    if target == "babble" and name != "penalised":
        assert source.accepted > 0


@pytest.mark.parametrize("max_tokens", range(1, 12))
def test_an_answer_ends_inside_a_draft(max_tokens):
    sampling = replace(GREEDY, max_tokens=max_tokens)
    runner = LastTokens(np.eye(6)[[1, 2, 3, 4, 5, 0]])  # counts round and round
    prompt = [0, 1, 2, 3, 4, 5] * 2
    source = Remembering(PromptLookup(cost=0))
    assert serve(make(runner, draft=source), [prompt], sampling) == serve(
        make(runner), [prompt], sampling
    )
    assert source.accepted == source.drafted


@pytest.mark.parametrize("stop", range(6))
def test_a_stop_id_inside_a_draft_is_the_last_token(stop):
    runner = LastTokens(np.eye(6)[[1, 2, 3, 4, 5, 0]])
    source = Remembering(PromptLookup(cost=0))
    engine = make(runner, draft=source, stop_ids=frozenset({stop}))
    [tokens] = serve(engine, [[0, 1, 2, 3, 4, 5] * 2], GREEDY)
    assert tokens == [(id, None) for id in range(stop)] + [(stop, "stop")]
    assert source.drafted >= source.accepted == max(0, stop)


def test_fewer_steps_are_taken_where_an_answer_repeats_itself():
    runner = LastTokens(np.eye(6)[[1, 2, 3, 4, 5, 0]])
    engine = make(runner, draft=PromptLookup())
    serve(engine, [[0, 1, 2, 3, 4, 5]], replace(GREEDY, max_tokens=100))
    assert len(runner.counts) < 30
    plain = LastTokens(runner.logits_VV)
    serve(make(plain), [[0, 1, 2, 3, 4, 5]], replace(GREEDY, max_tokens=100))
    assert len(plain.counts) == 100


@pytest.mark.parametrize("source", [PromptLookup(cost=0), lambda request: [1, 1, 0, 1]])
def test_sampled_answers_follow_the_distribution(source):
    """Pearson's chi-square over the transitions of a two-token chain."""
    logits_VV = np.array([[0.0, 0.7], [0.4, -0.9]])
    p_VV = np.exp(logits_VV) / np.exp(logits_VV).sum(1, keepdims=True)
    engine = make(LastTokens(logits_VV), draft=Remembering(source), max_waiting=64)
    sampling = Sampling(temperature=1.0, max_tokens=50)
    for seed in range(40):
        engine.submit([0, 1, 0, 0, 1], replace(sampling, seed=seed))
    answers = [[1, *(id for id, _ in tokens)] for tokens in drain(engine).values()]
    seen = Counter(pair for answer in answers for pair in itertools.pairwise(answer))
    chi_square = 0.0
    for last in (0, 1):
        total = seen[last, 0] + seen[last, 1]
        for token in (0, 1):
            due = total * p_VV[last, token]
            chi_square += (seen[last, token] - due) ** 2 / due
    assert chi_square < 9.21  # 2 degrees of freedom, 1 in 100


# A draft model


def model_source(runner, blocks=64, **settings):
    defaults = {"vocab_size": 64, "verify": 0.0, "make": 0.0}
    return DraftModel(runner, blocks=blocks, **{**defaults, **settings})


@each_sampling
def test_the_target_as_its_own_draft_is_always_right(model, name):
    prompts, sampling = PROMPTS, SAMPLINGS[name]
    truth = serve(make(TorchRunner(model)), prompts, sampling)
    runner = FaultyRunner(model)
    inner = model_source(TorchRunner(model))
    source = Remembering(inner)
    assert serve(make(runner, draft=source), prompts, sampling) == truth
    assert source.accepted == source.drafted > 100
    assert len(runner.calls) < 15
    source.requests.clear()
    gc.collect()
    assert inner.used_blocks == 0


@pytest.mark.parametrize(("blocks", "draft_blocks"), [(None, 64), (9, 64), (9, 5), (None, 3)])
@pytest.mark.parametrize("name", ["greedy", "penalised"])
def test_drafted_by_a_model_equals_plain(model, name, blocks, draft_blocks):
    prompts, sampling = PROMPTS[:3], replace(SAMPLINGS[name], max_tokens=30)
    truth = serve(make(TorchRunner(model), max_len=70), prompts, sampling)
    other = small(0, layers=2)  # the target, damaged a little
    noise = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.1 * parameter.std() * torch.randn(parameter.shape, generator=noise)
    inner = model_source(TorchRunner(other), draft_blocks, chunk=5, verify=0.1)
    source = Remembering(inner)
    engine = make(TorchRunner(model), draft=source, blocks=blocks, max_len=70)
    assert serve(engine, prompts, sampling) == truth
    assert 0 < source.accepted < source.drafted
    source.requests.clear()
    gc.collect()
    assert inner.used_blocks == 0


def test_a_draft_models_cache_holds_what_was_said(model):
    """After rejected drafts, a pause in its reading and new tokens, it says what it would anew."""
    source = model_source(TorchRunner(model), chunk=12)
    request = request_of(PROMPTS[2])
    compared = 0
    rng = np.random.default_rng(0)
    for _ in range(14):
        drafts = source(request)
        fresh = model_source(TorchRunner(model), chunk=512)
        if drafts:
            anew = fresh(request_of(request.ids_T[: request.length].tolist()))
            common = min(len(drafts), len(anew))
            assert drafts[:common] == anew[:common]
            compared += common
        right = drafts[: rng.integers(0, 3)]
        for token in [*right, *rng.integers(0, 64, rng.integers(1, 4)).tolist()]:
            request.ids_T[request.length] = token
            request.length += 1
    assert compared > 50


def test_a_cancelled_request_gives_its_blocks_back(model):
    inner = model_source(TorchRunner(model))
    engine = make(TorchRunner(model), draft=inner, prefill_chunk=512)
    requests = [engine.submit(prompt, GREEDY) for prompt in PROMPTS]
    for _ in range(2):
        engine.step()
    before = inner.used_blocks
    for request in requests[:3]:
        engine.cancel(request)
    gc.collect()
    assert 0 < inner.used_blocks < before
    drain(engine)
    gc.collect()
    assert inner.used_blocks == 0


def test_idle_requests_give_way(model):
    source = model_source(TorchRunner(model), blocks=4)
    idle, busy = request_of([*range(20)]), request_of([*range(30, 55)])
    assert source(idle)
    assert source.used_blocks == 3
    assert source(busy) == []
    for _ in range(8):
        drafts = source(busy)
    assert drafts
    assert source(idle) == []


def test_a_model_that_is_never_right_is_given_up(monkeypatch):
    monkeypatch.setattr(draft_module, "LAST_PAUSE", 16)
    source = model_source(babble(), verify=0.3, make=0.2)
    request = request_of([1, 2, 3], room=120)
    drafted = []
    for _ in range(110):
        drafts = source(request)
        drafted.append(len(drafts))
        request.ids_T[request.length] = (drafts[0] + 1) % 64 if drafts else 0
        request.length += 1
    paused = [sum(1 for _ in group) for count, group in itertools.groupby(drafted) if not count]
    assert paused[:2] == [8, 16] and len(paused) == 3  # the third is for good
    assert sum(drafted[-60:]) == 0
    assert source.used_blocks == 0


def test_a_failing_draft_model_is_not_asked_again(model, caplog):
    runner = FaultyRunner(small())
    runner.fail_on = frozenset({3})
    engine = make(TorchRunner(model), draft=model_source(runner))
    assert serve(engine, PROMPTS, GREEDY) == serve(make(TorchRunner(model)), PROMPTS, GREEDY)
    assert len(runner.calls) == 4
    assert "the draft model failed" in caplog.text


def test_a_draft_model_that_knows_no_numbers_drafts_nothing(model):
    broken = small()
    with torch.no_grad():
        broken.embed_tokens.weight.fill_(torch.nan)
    source = Remembering(model_source(TorchRunner(broken)))
    sampling = replace(GREEDY, max_tokens=8)
    engine = make(TorchRunner(model), draft=source)
    assert serve(engine, PROMPTS, sampling) == serve(make(TorchRunner(model)), PROMPTS, sampling)
    assert source.drafted == 0


def test_another_vocabulary_is_refused(model):
    with pytest.raises(ValueError, match="has 64 tokens and the target 65"):
        DraftModel(TorchRunner(model), vocab_size=65, blocks=4, verify=0.3, make=0.2)


def test_a_draft_model_reads_a_prompt_in_chunks(model):
    runner = FaultyRunner(model)
    source = model_source(runner, chunk=12)
    request = request_of([*range(30)])
    assert [bool(source(request)) for _ in range(3)] == [False, False, True]
    assert [rows[0] for rows in runner.calls][:4] == [12, 12, 6, 1]


def test_a_draft_model_drafts_no_more_than_is_wanted(model):
    source = model_source(TorchRunner(model))
    assert [len(source(request_of([1, 2, 3], room=room))) for room in (1, 2, 5)] == [0, 1, 4]
    narrow = TorchRunner(model)
    narrow.max_positions = 6
    assert len(model_source(narrow)(request_of([1, 2, 3]))) == 4  # the last is never fed


def test_an_engine_is_loaded_with_a_draft_model(tmp_path):
    target = write(tmp_path / "target", TILED, "float32")
    other = write(tmp_path / "other", replace(TILED, vocab_size=80), "float32")
    settings = {"stop_ids": frozenset(), "vocab_size": TILED.vocab_size, "max_batch": 2}
    plain = load_engine(target, **settings, context=96).engine
    drafted = load_engine(target, **settings, context=96, draft=target).engine
    sampling = Sampling(temperature=1.0, seed=3, max_tokens=40)
    request = drafted.prepare([1, 2, 3], sampling)
    drafted.enqueue(request)
    tokens = []
    while drafted.busy:
        tokens += [output.id for output in drafted.step()]
    assert tokens == [token.id for token in plain.generate([1, 2, 3], sampling)]
    with pytest.raises(ValueError, match=r"other.*config\.json is 80"):
        load_engine(target, **settings, context=96, draft=other)
