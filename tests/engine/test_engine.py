from __future__ import annotations

import pytest
import torch

from openk2.engine.engine import Engine
from openk2.engine.request import (
    Failure,
    GenerationFailedError,
    InvalidRequestError,
    PromptTooLongError,
    QueueFullError,
    Token,
)
from openk2.engine.runner import TorchRunner
from openk2.model.safetensors_file import WeightsError
from openk2.model.transformer import Transformer
from openk2.types import Sampling

GREEDY = Sampling(temperature=0.0, max_tokens=12)
PROMPTS = [[5], [9, 8, 7], list(range(1, 30)), [3] * 11, [60, 2, 33, 17, 4, 21]]


def make(model, **settings):
    runner = TorchRunner(model) if isinstance(model, Transformer) else model
    defaults = {"max_batch": 8, "max_len": 64, "stop_ids": frozenset(), "prefill_chunk": 512}
    return Engine(runner, **{**defaults, **settings})


def drain(engine):
    """Step until idle; tokens per request id."""
    tokens = {}
    while engine.busy:
        for output in engine.step():
            assert isinstance(output, Token)
            tokens.setdefault(output.request_id, []).append(output)
    return tokens


def ids(tokens):
    return [token.id for token in tokens]


def alone(model, prompt, sampling, **settings):
    return ids(make(model, **settings).generate(prompt, sampling))


def uncached(model, prompt, new_tokens):
    sequence = list(prompt)
    with torch.inference_mode():
        for _ in range(new_tokens):
            hidden_BTD = model(torch.tensor([sequence])).hidden_BTD
            sequence.append(int(model.logits(hidden_BTD[:, -1]).argmax()))
    return sequence[len(prompt) :]


@pytest.mark.parametrize("prefill_chunk", [4, 512])
def test_a_batch_of_different_lengths_equals_each_alone_equals_uncached(model, prefill_chunk):
    engine = make(model, prefill_chunk=prefill_chunk)
    requests = [engine.submit(prompt, GREEDY) for prompt in PROMPTS]
    tokens = drain(engine)
    for request, prompt in zip(requests, PROMPTS, strict=True):
        expected = uncached(model, prompt, 12)
        assert ids(tokens[request]) == expected
        assert alone(model, prompt, GREEDY) == expected


def test_logprobs_are_those_of_the_uncached_model(model):
    tokens = list(make(model).generate([9, 8, 7], Sampling(temperature=1.0, seed=1, max_tokens=8)))
    sequence = [9, 8, 7, *ids(tokens)]
    with torch.inference_mode():
        logprob_TV = model.logits(model(torch.tensor([sequence])).hidden_BTD)[0].log_softmax(-1)
    expected = [float(logprob_TV[2 + i, token.id]) for i, token in enumerate(tokens)]
    assert [token.logprob for token in tokens] == pytest.approx(expected, abs=1e-4)


def test_running_requests_decode_in_one_batch(faulty):
    engine = make(faulty, max_batch=5)
    for prompt in PROMPTS:
        engine.submit(prompt, GREEDY)
    engine.step()
    faulty.calls.clear()
    outputs = engine.step()
    assert faulty.calls == [dict.fromkeys(range(5), 1)]
    assert sorted(output.request_id for output in outputs) == [0, 1, 2, 3, 4]


def test_a_long_prompt_is_read_in_chunks_while_others_stream(faulty):
    engine = make(faulty, prefill_chunk=8)
    short = engine.submit([1, 2], Sampling(temperature=0.0))
    engine.step()
    engine.submit(list(range(30)), GREEDY)
    faulty.calls.clear()
    for _ in range(3):
        assert [output.request_id for output in engine.step()] == [short]
    assert {output.request_id for output in engine.step()} == {0, 1}
    assert faulty.calls == [{0: 1, 1: 8}] * 3 + [{0: 1, 1: 6}]


def test_readers_share_the_prefill_budget_and_the_earliest_takes_the_rest(faulty):
    engine = make(faulty, prefill_chunk=8)
    for prompt in ([1] * 30, [2] * 30, [3] * 2):
        engine.submit(prompt, Sampling(max_tokens=1))
    assert [output.request_id for output in engine.step()] == [2]
    assert [output.request_id for output in engine.step()] == []
    assert faulty.calls == [{0: 3, 1: 3, 2: 2}, {0: 4, 1: 4}]
    engine.cancel(1)
    engine.submit([4] * 1, GREEDY)
    assert [output.request_id for output in engine.step()] == [3]
    assert sorted(faulty.calls[-1].values()) == [1, 7]


def test_every_reader_gets_on_however_small_the_budget(faulty):
    engine = make(faulty, prefill_chunk=1)
    for i in range(3):
        engine.submit([i] * 5, Sampling(max_tokens=1))
    for _ in range(4):
        assert engine.step() == []
    assert len(engine.step()) == 3


@pytest.mark.parametrize("seed", [0, 1, -7])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_a_seed_gives_the_same_tokens_alone_and_in_a_crowd(model, seed, top_p):
    sampling = Sampling(temperature=1.0, top_p=top_p, seed=seed, max_tokens=30)
    engine = make(model, max_batch=4, max_waiting=8)
    crowd = [engine.submit(prompt, Sampling(temperature=1.5)) for prompt in PROMPTS[:3]]
    engine.step()
    request = engine.submit([7, 7], sampling)
    crowd += [engine.submit(prompt, Sampling(temperature=0.7)) for prompt in PROMPTS[3:]]
    tokens = drain(engine)
    assert len(tokens) == len(crowd) + 1
    assert ids(tokens[request]) == alone(model, [7, 7], sampling)


def test_other_seeds_and_no_seed_give_other_tokens(model):
    runs = [
        alone(model, [7], Sampling(temperature=1.0, seed=seed, max_tokens=30))
        for seed in (1, 2, None, None)
    ]
    assert len({tuple(run) for run in runs}) == 4


def test_a_stop_id_ends_the_request_and_is_its_last_token(model):
    expected = uncached(model, [5], 12)
    stop = expected[4]
    engine = make(model, stop_ids=frozenset({stop}))
    tokens = list(engine.generate([5], GREEDY))
    assert ids(tokens) == expected[: expected.index(stop) + 1]
    assert [token.finish_reason for token in tokens] == [None] * (len(tokens) - 1) + ["stop"]


def test_max_tokens_ends_with_length(model):
    tokens = list(make(model).generate([5], Sampling(max_tokens=3)))
    assert [token.finish_reason for token in tokens] == [None, None, "length"]


@pytest.mark.parametrize("max_tokens", [None, 1000])
def test_the_context_limit_ends_with_length(model, max_tokens):
    engine = make(model, max_len=16)
    tokens = list(engine.generate([5] * 10, Sampling(temperature=0.0, max_tokens=max_tokens)))
    assert len(tokens) == 6
    assert tokens[-1].finish_reason == "length"
    assert ids(tokens) == uncached(model, [5] * 10, 6)
    assert len(list(engine.generate([5] * 15, Sampling()))) == 1


def test_a_prompt_without_room_for_an_answer_is_refused_with_the_numbers(model):
    with pytest.raises(PromptTooLongError, match=r"has 16 tokens.* is 16 tokens.* at most 15"):
        make(model, max_len=16).submit([1] * 16, GREEDY)


@pytest.mark.parametrize(
    ("prompt", "sampling", "message"),
    [
        ([], GREEDY, "no tokens"),
        ([1, 64], GREEDY, "token 64 is outside the vocabulary of 64"),
        ([-1, 3], GREEDY, "token -1 is outside"),
        ([1], Sampling(temperature=-0.1), "temperature is -0.1"),
        ([1], Sampling(temperature=float("nan")), "temperature is nan"),
        ([1], Sampling(top_p=0.0), "top_p is 0.0"),
        ([1], Sampling(top_p=1.5), "top_p is 1.5"),
        ([1], Sampling(max_tokens=0), "max_tokens is 0"),
    ],
)
def test_impossible_requests_are_refused(model, prompt, sampling, message):
    engine = make(model)
    with pytest.raises(InvalidRequestError, match=message):
        engine.submit(prompt, sampling)
    assert not engine.busy


@pytest.mark.parametrize(
    "setting", [{"max_batch": 0}, {"max_waiting": 0}, {"prefill_chunk": 0}, {"max_len": 1}]
)
def test_impossible_sizes_are_refused(model, setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        make(model, **setting)


def test_the_context_window_is_at_most_the_models(model):
    with pytest.raises(ValueError, match=r"max_len is 129; use 2 .* to 128"):
        make(model, max_len=129)


def test_a_full_queue_refuses_and_recovers(model):
    engine = make(model, max_batch=1, max_waiting=2)
    engine.submit([1], GREEDY)
    engine.step()
    engine.submit([1], GREEDY)
    engine.submit([1], GREEDY)
    with pytest.raises(QueueFullError, match="2 requests are already waiting"):
        engine.submit([1], GREEDY)
    assert len(drain(engine)) == 3
    engine.submit([1], GREEDY)
    assert engine.waiting == 1


def test_cancelling_frees_the_blocks_for_the_next_step(model):
    engine = make(model, max_batch=1)
    first, second = engine.submit([1] * 20, GREEDY), engine.submit([2], GREEDY)
    engine.step()
    assert engine.used_blocks == 2
    assert engine.cancel(first)
    assert engine.used_blocks == 0
    assert [output.request_id for output in engine.step()] == [second]
    assert not engine.cancel(first)


def test_a_waiting_request_can_be_cancelled(model):
    engine = make(model, max_batch=1)
    first, second = engine.submit([1], GREEDY), engine.submit([2], GREEDY)
    assert engine.cancel(second)
    assert set(drain(engine)) == {first}


def test_reused_blocks_remember_nothing(model):
    engine = make(model, max_batch=1)
    list(engine.generate(list(range(40)), Sampling(seed=3)))
    assert ids(engine.generate([9, 8, 7], GREEDY)) == uncached(model, [9, 8, 7], 12)


def test_a_batch_that_fails_is_run_again_one_by_one(faulty):
    engine = make(faulty, max_batch=3)
    requests = [engine.submit(prompt, GREEDY) for prompt in PROMPTS[:3]]
    engine.step()
    faulty.fail_on = frozenset({1, 3})  # the batch of three, and then the second by itself
    outputs = engine.step()
    assert [type(output) for output in outputs] == [Token, Failure, Token]
    assert [output.request_id for output in outputs] == requests
    assert faulty.calls[1:] == [{0: 1, 1: 1, 2: 1}, {0: 1}, {1: 1}, {2: 1}]
    error = outputs[1].error
    assert isinstance(error.__cause__, ArithmeticError)
    assert "request 1 failed inside the model (ArithmeticError: the device is on fire)" in str(
        error
    )
    tokens = drain(engine)
    for request in (0, 2):
        assert ids(tokens[request]) == uncached(faulty.model, PROMPTS[request], 12)[2:]
    assert engine.used_blocks == 0


def test_a_poisoned_prompt_fails_alone_among_readers_and_streams(faulty):
    faulty.poison = frozenset({63})
    engine = make(faulty, prefill_chunk=16)
    stream = engine.submit([9, 8, 7], GREEDY)
    first = engine.step()
    bad = engine.submit([5, 63, 4], GREEDY)
    reader = engine.submit(list(range(40)), GREEDY)
    outputs = engine.step()
    assert [(type(output), output.request_id) for output in outputs] == [
        (Token, stream),
        (Failure, bad),
    ]
    tokens = drain(engine)
    assert ids([*first, outputs[0], *tokens[stream]]) == uncached(faulty.model, [9, 8, 7], 12)
    assert ids(tokens[reader]) == uncached(faulty.model, list(range(40)), 12)


def test_damaged_weights_are_named_in_the_failure(model):
    class Damaged(TorchRunner):
        def forward(self, batch):
            raise WeightsError("model.safetensors: layer 1 has a scale of NaN")

    engine = make(Damaged(model))
    with pytest.raises(GenerationFailedError, match=r"needs damaged weights: model\.safetensors"):
        list(engine.generate([1], GREEDY))


def test_generate_raises_the_failure_and_leaves_the_engine_clean(faulty):
    faulty.fail_on = frozenset({1})
    engine = make(faulty)
    with pytest.raises(GenerationFailedError, match="on fire"):
        list(engine.generate([1], GREEDY))
    assert not engine.busy
    assert len(list(engine.generate([1], GREEDY))) == 12


def test_generate_refuses_to_share_and_cancels_when_left(model):
    engine = make(model)
    stream = engine.generate([1], GREEDY)
    next(stream)
    with pytest.raises(RuntimeError, match="1 requests of others"):
        next(engine.generate([2], GREEDY))
    stream.close()
    assert not engine.busy


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_numbers_fail_their_row_only(faulty, temperature):
    with torch.no_grad():
        faulty.model.embed_tokens.weight[63] = torch.nan
    # So few blocks that the next request must be given one with NaN in it.
    engine = make(faulty, max_batch=2, blocks=4)
    good = engine.submit([9, 8, 7], GREEDY)
    bad = engine.submit([1, 2, 3, 4, 5, 63], Sampling(temperature=temperature))
    outputs = {output.request_id: output for output in engine.step()}
    failure, first = outputs[bad], outputs[good]
    assert isinstance(failure, Failure) and "not finite" in str(failure.error)
    assert isinstance(first, Token)
    prompts = [5], list(range(30))
    after = [engine.submit(prompt, GREEDY) for prompt in prompts]
    tokens = drain(engine)
    assert [first.id, *ids(tokens[good])] == uncached(faulty.model, [9, 8, 7], 12)
    for request, prompt in zip(after, prompts, strict=True):
        assert ids(tokens[request]) == uncached(faulty.model, prompt, 12)


def test_nan_at_the_end_of_a_prompt_spoils_no_prefix_of_others(faulty):
    with torch.no_grad():
        faulty.model.embed_tokens.weight[63] = torch.nan
    engine = make(faulty)
    shared = list(range(32))
    # Stays in the cache while the failing request is in the middle of its prompt.
    stream = engine.submit([*shared, 5], GREEDY)
    engine.submit([*shared, *shared[:10], 63], GREEDY)
    outputs = [output for _ in range(3) for output in engine.step()]
    assert [output.request_id for output in outputs if isinstance(output, Failure)] == [1]
    tokens = [output for output in outputs if output.request_id == stream]
    assert ids([*tokens, *drain(engine)[stream]]) == uncached(faulty.model, [*shared, 5], 12)
    again = list(engine.generate([*shared, *shared[:10], 7], GREEDY))
    assert ids(again) == uncached(faulty.model, [*shared, *shared[:10], 7], 12)
    assert again[0].cached_tokens == 32


def test_nothing_of_a_failed_request_stays_in_the_cache(faulty):
    faulty.poison = frozenset({63})
    engine = make(faulty, prefill_chunk=16)
    with pytest.raises(GenerationFailedError):
        list(engine.generate([*range(40), 63], GREEDY))
    assert next(engine.generate([*range(40), 5], GREEDY)).cached_tokens == 0
