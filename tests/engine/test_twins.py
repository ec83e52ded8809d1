"""The same request gives the same tokens however it was served: each way against another."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from openk2.engine.engine import Engine
from openk2.engine.runner import TorchRunner
from openk2.types import Sampling
from tests.engine.chained import STOP, ChainedRunner, expected
from tests.engine.conftest import FaultyRunner

GREEDY = Sampling(temperature=0.0, max_tokens=24)
SEEDED = Sampling(temperature=1.0, top_p=0.95, seed=5, max_tokens=24)
PENALISED = replace(SEEDED, presence_penalty=1.0, frequency_penalty=0.5, repetition_penalty=1.2)
SAMPLINGS = {"greedy": GREEDY, "seeded": SEEDED, "penalised": PENALISED}
both = pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
SHARED = [(7 * i) % 61 for i in range(40)]
PROMPTS = [SHARED, [*SHARED, 3, 4, 5], [*SHARED[:33], 9], [*SHARED, *SHARED], [2], [*SHARED, 62]]


def make(runner, **settings):
    defaults = {"max_batch": 8, "max_len": 120, "stop_ids": frozenset(), "prefill_chunk": 512}
    return Engine(runner, **{**defaults, **settings})


def drain(engine, tokens=None):
    tokens = {} if tokens is None else tokens
    while engine.busy:
        for output in engine.step():
            tokens.setdefault(output.request_id, []).append(output)
    return tokens


def ids(tokens):
    return [token.id for token in tokens]


def alone(model, prompt, sampling):
    return ids(make(TorchRunner(model)).generate(prompt, sampling))


def serve(engine, prompts, sampling):
    """Submit all at once; return each one's ids."""
    requests = [engine.submit(prompt, sampling) for prompt in prompts]
    tokens = drain(engine)
    return [ids(tokens[request]) for request in requests]


@both
def test_shared_equals_unshared(model, sampling):
    engine = make(TorchRunner(model))
    expected_ids = [alone(model, prompt, sampling) for prompt in PROMPTS]
    first = [list(engine.generate(prompt, sampling)) for prompt in PROMPTS]
    again = [list(engine.generate(prompt, sampling)) for prompt in PROMPTS]
    assert [ids(tokens) for tokens in first] == [ids(tokens) for tokens in again] == expected_ids
    assert [tokens[0].cached_tokens for tokens in first] == [0, 32, 32, 32, 0, 32]
    # At least one token is computed for its logits, and only full blocks are kept.
    assert [tokens[0].cached_tokens for tokens in again] == [32, 32, 32, 64, 0, 32]


def test_an_answer_is_a_prefix_for_the_next_turn(model):
    engine = make(TorchRunner(model))
    answer = ids(engine.generate(SHARED, GREEDY))
    turn = [*SHARED, *answer, 5, 6]
    tokens = list(engine.generate(turn, GREEDY))
    # The last token was never fed; 63 of 64 are in the cache, 48 of them in full blocks.
    assert tokens[0].cached_tokens == 48
    assert ids(tokens) == alone(model, turn, GREEDY)


def test_requests_with_different_keys_share_nothing(model):
    engine = make(TorchRunner(model))
    cached = [
        next(iter([*engine.generate(SHARED, replace(GREEDY, cache_key=key))])).cached_tokens
        for key in ("a", "b", None, "a", None, "")
    ]
    assert cached == [0, 0, 0, 32, 32, 0]


@both
def test_a_crowd_that_shares_a_prefix_reads_it_once(model, sampling):
    runner = FaultyRunner(model)
    engine = make(runner, prefill_chunk=16)
    prompts = [[*SHARED, i, i + 1] for i in range(8)]
    expected_ids = [alone(model, prompt, sampling) for prompt in prompts]
    requests = [engine.submit(prompt, sampling) for prompt in prompts]
    tokens = {}
    for _ in range(2):
        assert engine.step() == []
    assert [sum(rows.values()) for rows in runner.calls] == [16, 16]
    assert all(len(rows) == 1 for rows in runner.calls)
    drain(engine, tokens)
    assert [ids(tokens[request]) for request in requests] == expected_ids
    assert [tokens[request][0].cached_tokens for request in requests] == [0] + [32] * 7


def test_a_follower_takes_over_when_its_leader_is_cancelled(model):
    engine = make(TorchRunner(model), prefill_chunk=4)
    leader, follower = (engine.submit([*SHARED, i], GREEDY) for i in (1, 2))
    engine.step()
    engine.step()
    engine.cancel(leader)
    tokens = drain(engine)
    assert ids(tokens[follower]) == alone(model, [*SHARED, 2], GREEDY)
    assert tokens[follower][0].cached_tokens == 0


@both
@pytest.mark.parametrize("prefill_chunk", [1, 7, 16, 33])
def test_chunked_equals_whole(model, sampling, prefill_chunk):
    expected_ids = [alone(model, prompt, sampling) for prompt in PROMPTS]
    engine = make(TorchRunner(model), prefill_chunk=prefill_chunk)
    assert serve(engine, PROMPTS, sampling) == expected_ids


@pytest.mark.parametrize("name", SAMPLINGS)
def test_preempted_and_resumed_equals_undisturbed(model, name):
    sampling = replace(SAMPLINGS[name], max_tokens=60)
    prompts = [[i, *SHARED[:20]] for i in range(4)]
    expected_ids = [alone(model, prompt, sampling) for prompt in prompts]
    engine = make(TorchRunner(model), max_batch=4, max_len=100, blocks=10)
    requests = [engine.submit(prompt, sampling) for prompt in prompts]
    tokens, preempted = {}, set()
    while engine.busy:
        for output in engine.step():
            tokens.setdefault(output.request_id, []).append(output)
        preempted |= {r.id for r in engine._scheduler.waiting if r.preempted}
    assert preempted
    assert [ids(tokens[request]) for request in requests] == expected_ids
    assert engine.used_blocks == 0


def test_the_lowest_priority_and_the_latest_is_preempted(model):
    engine = make(TorchRunner(model), max_batch=4, max_len=100, blocks=12)
    priorities = (0, 1, 1, 0)
    for i, priority in enumerate(priorities):
        engine.submit([i] * 20, Sampling(temperature=0.0, max_tokens=60, priority=priority))
    gone = []
    while engine.busy:
        engine.step()
        for request in engine._scheduler.waiting:
            if request.preempted and request.id not in gone:
                gone.append(request.id)
    assert gone[:2] == [3, 0]


def test_waiting_requests_are_admitted_by_priority_then_arrival(model):
    engine = make(TorchRunner(model), max_batch=1)
    for priority in (0, 0, 2, 1, 2):
        engine.submit([5], Sampling(temperature=0.0, max_tokens=2, priority=priority))
    first = []
    while engine.busy:
        first += [output.request_id for output in engine.step()]
    assert first[::2] == [2, 4, 3, 0, 1]


def test_a_small_cache_narrows_the_window(model):
    engine = make(TorchRunner(model), blocks=2)
    assert engine.max_len == 32
    assert len(list(engine.generate([5] * 20, Sampling(temperature=0.0)))) == 12


def test_nobody_is_admitted_whose_prompt_has_no_room_yet(model):
    engine = make(TorchRunner(model), max_batch=4, max_len=64, blocks=4)
    first = engine.submit([1] * 40, Sampling(temperature=0.0, max_tokens=4))
    second = engine.submit([2] * 40, GREEDY)
    assert {output.request_id for output in engine.step()} == {first}
    assert (engine.running, engine.waiting) == (1, 1)
    tokens = drain(engine)
    assert ids(tokens[second]) == alone(model, [2] * 40, GREEDY)


# Drafts


def truth_of(request):
    prompt = tuple(request.ids_T[: request.prompt_length].tolist())
    return [id for id, _ in expected(prompt, request.sampling, 120)][request.generated :]


def right(request):
    return truth_of(request)[:5]


def wrong(request):
    return [1 + id % 40 for id in truth_of(request)[:5]]


def mixed(request):
    guess = right(request)
    return [*guess[: request.generated % 4], *wrong(request)[request.generated % 4 :]]


@pytest.mark.parametrize("draft", [right, wrong, mixed], ids=lambda draft: draft.__name__)
@pytest.mark.parametrize("name", SAMPLINGS)
@pytest.mark.parametrize("blocks", [None, 12])
def test_with_drafts_equals_without(draft, name, blocks):
    sampling = replace(SAMPLINGS[name], max_tokens=None)
    prompts = [(1, 2, 3), (4,) * 17, (5, 6), tuple(range(1, 32))]
    seen, used = {}, []

    def remember(request):
        seen[request.id] = request
        return draft(request)

    runner = ChainedRunner()
    engine = make(
        runner, stop_ids=frozenset({STOP}), draft=remember, blocks=blocks, prefill_chunk=8
    )
    requests = [engine.submit(prompt, sampling) for prompt in prompts]
    tokens = {}
    while engine.busy:
        for output in engine.step():
            tokens.setdefault(output.request_id, []).append(output)
        used.append(engine.used_blocks)
    for request, prompt in zip(requests, prompts, strict=True):
        due = expected(prompt, sampling, engine.max_len)
        assert [(token.id, token.finish_reason) for token in tokens[request]] == due
    assert engine.used_blocks == 0
    drafted = sum(request.drafted for request in seen.values())
    accepted = sum(request.accepted for request in seen.values())
    if draft is right and blocks is None:
        assert 0 < accepted == drafted
    elif draft is wrong:
        assert 0 == accepted < drafted
    else:
        assert 0 < accepted < drafted or draft is right


def test_drafts_of_the_real_model_are_verified_in_one_pass(model):
    truth = alone(model, SHARED, GREEDY)
    runner = FaultyRunner(model)
    engine = make(runner, draft=lambda request: truth[request.generated :][:7])
    assert ids(engine.generate(SHARED, GREEDY)) == truth
    # The prompt, three times 1 + 7 tokens of which none is left over.
    assert [sum(rows.values()) for rows in runner.calls] == [40, 8, 8, 7]


def test_forced_tokens_begin_the_answer(model):
    sampling = replace(GREEDY, forced=(60, 61, 3), logprobs=True, top_logprobs=2)
    engine = make(TorchRunner(model))
    tokens = list(engine.generate(SHARED, sampling))
    assert ids(tokens)[:3] == [60, 61, 3]
    rest = alone(model, [*SHARED, 60, 61, 3], replace(GREEDY, max_tokens=21))
    assert ids(tokens)[3:] == rest
    with torch.inference_mode():
        hidden_BTD = model(torch.tensor([[*SHARED, *ids(tokens)]])).hidden_BTD
        logprob_TV = model.logits(hidden_BTD)[0].log_softmax(-1)
    for i, token in enumerate(tokens):
        best = logprob_TV[39 + i].topk(2)
        assert token.logprob == pytest.approx(float(logprob_TV[39 + i, token.id]), abs=1e-4)
        assert [id for id, _ in token.top] == best.indices.tolist()
        assert [p for _, p in token.top] == pytest.approx(best.values.tolist(), abs=1e-4)
