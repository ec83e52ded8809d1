"""Weights pushed into a running engine are those of one that was opened with them."""

import asyncio
import threading

import numpy as np
import pytest
import torch

from openk2.engine.compiled import CompiledRunner
from openk2.engine.engine import Engine
from openk2.engine.replace import MixedWeightsError
from openk2.engine.request import Failure
from openk2.engine.runner import TorchRunner
from openk2.engine.thread import EngineThread
from openk2.export.hf import export_hf
from openk2.kernels import int4
from openk2.kernels.cpu.tiles import tile_float
from openk2.kernels.repack import pack_int4, tile_bfloat16
from openk2.model import weights
from openk2.model.checkpoint import Checkpoint
from openk2.model.mapped import map_model
from openk2.model.replace import CannotReplaceError
from openk2.model.tiled import tile_model
from openk2.model.transformer import Transformer
from openk2.rl.sync import push, replace
from openk2.types import Sampling
from tests.model.test_tiled import FORMS, SHAPES, TINY

GREEDY = Sampling(temperature=0.0, max_tokens=12)
PROMPT = [5, 9, 2, 33, 17, 60, 3, 3, 12, 40, 8, 1, 22, 19, 54, 31, 7, 7, 2, 50] * 3


def model_of(seed, config=TINY):
    torch.manual_seed(seed)
    model = Transformer(config)
    for layer in model.layers[config.first_k_dense_replace :]:
        layer.mlp.gate.e_score_correction_bias.normal_(0, 0.1)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.uniform_(0.5, 1.5)
    return model


def save(model, root, form):
    """Write a model in a stored form, quantised from float32, and return its directory."""
    if form in ("float32", "bfloat16"):
        weights.save(model, root / form, torch.bfloat16 if form == "bfloat16" else None)
        return root / form
    weights.save(model, root / "float")
    export_hf(root / "float", root / form, format=form, with_tokenizer=False)
    return root / form


def compiled(directory):
    return CompiledRunner(tile_model(Checkpoint(directory)), max_positions=1024, threads=1)


def mapped(directory):
    return TorchRunner(map_model(Checkpoint(directory)))


def engine_of(runner, **settings):
    return Engine(runner, max_batch=4, max_len=512, stop_ids=frozenset(), **settings)


def answer(engine, prompt=PROMPT, sampling=GREEDY):
    return [(token.id, token.logprob) for token in engine.generate(prompt, sampling)]


def opened(runner_of, seed, root, form, config=TINY):
    return engine_of(runner_of(save(model_of(seed, config), root / str(seed), form)))


@pytest.mark.parametrize("runner_of", [compiled, mapped])
@pytest.mark.parametrize("form", FORMS)
def test_after_a_push_answers_are_those_of_an_engine_opened_with_the_weights(
    form, runner_of, tmp_path
):
    engine, fresh = (opened(runner_of, seed, tmp_path, form) for seed in (1, 2))
    old, new = answer(engine), answer(fresh)
    push(model_of(2), engine)
    assert answer(engine) == new != old
    assert (engine.version, fresh.version) == (1, 0)
    push(model_of(1), engine)  # into memory of its own
    assert answer(engine) == old


@pytest.mark.parametrize(
    "shape", ["no query latent", "two shared, three heads, eps 1e-3", "dense throughout"]
)
def test_every_shape_is_written_where_it_is_read(shape, tmp_path):
    config = SHAPES[shape]
    engine, fresh = (opened(compiled, seed, tmp_path, "int4-all", config) for seed in (1, 2))
    push(model_of(2, config), engine)
    prompt = [id % config.vocab_size for id in PROMPT]
    assert answer(engine, prompt) == answer(fresh, prompt)


def test_a_model_of_ones_own_is_written_over_and_fp8_is_rounded_again(tmp_path):
    engine = engine_of(TorchRunner(model_of(1)))
    push(model_of(2), engine)
    assert answer(engine) == answer(engine_of(TorchRunner(model_of(2))))
    engine, fresh = (opened(mapped, seed, tmp_path, "fp8") for seed in (1, 2))
    push(model_of(2), engine)
    assert answer(engine) == answer(fresh)


def test_one_pass_gives_the_bits_of_several():
    weight_RN = torch.randn(40, 96, generator=torch.Generator().manual_seed(0)).mul_(3)
    weight_RN[0, :32], weight_RN[1, :32], weight_RN[2, 5] = 0, 1e-42, 1e30
    weight_RN[3, :32] = torch.arange(-16, 16) / 2  # ties
    row_M = np.random.default_rng(0).permutation(40)
    mixed_MN = weight_RN[row_M]
    packed_MW, scale_MG = pack_int4(weight_RN.numpy(), row_M)
    expected_MW, expected_MG = int4.quantize(mixed_MN)
    assert np.array_equal(packed_MW.view(np.int32), expected_MW.numpy())
    assert np.array_equal(scale_MG, expected_MG.view(torch.uint16).numpy())
    weight_RN[4, 0], mixed_MN = torch.nan, weight_RN[row_M]
    weight_RN.view(torch.int32)[4, 1] = 0x7FFFFFFF
    tiles, expected = (np.zeros(48 * 96 * 2, np.uint8) for _ in range(2))
    tile_bfloat16(weight_RN.numpy(), row_M, tiles)
    tile_float(weight_RN[row_M].bfloat16().view(torch.uint16).numpy(), expected)
    floats = [torch.from_numpy(t).view(torch.bfloat16) for t in (tiles, expected)]
    assert torch.equal(floats[0].isnan(), floats[1].isnan()) and floats[0].isnan().sum() == 2
    assert torch.equal(floats[0].nan_to_num(), floats[1].nan_to_num())


def test_a_weight_that_is_no_number_is_not_hidden_by_rounding(tmp_path):
    engine, model = opened(compiled, 1, tmp_path, "int4-all"), model_of(2)
    model.lm_head.weight.data[3, 40] = torch.nan
    push(model, engine)
    engine.submit(PROMPT, GREEDY)
    (failure,) = engine.step()
    assert isinstance(failure, Failure) and "not finite" in str(failure.error)


# What is running


def run(engine, until=None):
    """Step until all requests have ended, or `until` tokens have come; list tokens by request."""
    found = {}
    while engine.busy and (until is None or sum(map(len, found.values())) < until):
        for output in engine.step():
            assert not isinstance(output, Failure), output
            found.setdefault(output.request_id, []).append(output)
    return found


@pytest.fixture
def pair(tmp_path):
    """An engine of the old weights and one of the new, both with steps of one token."""
    make = lambda seed: opened(compiled, seed, tmp_path, "bfloat16")  # noqa: E731
    return make(1), make(2)


def test_old_prefixes_are_not_used_again(pair):
    engine, fresh = pair
    answer(engine)
    assert next(engine.generate(PROMPT, GREEDY)).cached_tokens == 48
    running = engine.submit(PROMPT, GREEDY)  # keeps its old prefix in use
    engine.step()
    push(model_of(2), engine)
    engine.cancel(running) if engine.step() else None
    first, *_ = tokens = list(engine.generate(PROMPT, GREEDY))
    assert first.cached_tokens == 0
    assert [token.id for token in tokens] == [token.id for token in fresh.generate(PROMPT, GREEDY)]
    assert next(engine.generate(PROMPT, GREEDY)).cached_tokens == 48
    assert engine.used_blocks == 0


def test_requests_that_keep_their_cache_share_it_with_no_newcomer(pair):
    engine, fresh = pair
    old = engine.submit(PROMPT, GREEDY)
    before = run(engine, until=3)[old]
    push(model_of(2), engine)
    new = engine.submit(PROMPT, GREEDY)
    after = run(engine)
    assert len(before + after[old]) == 12
    assert [t.version for t in before + after[old]] == [0] * len(before) + [1] * len(after[old])
    expected = answer(fresh)
    assert [(t.id, t.logprob) for t in after[new]] == expected
    assert after[new][0].cached_tokens == 0
    assert answer(engine) == expected  # nor do those that come when the old one has ended


def test_requests_that_read_again_go_on_as_the_new_weights_would(pair):
    engine, fresh = pair
    prompts = {engine.submit(prompt, GREEDY): prompt for prompt in (PROMPT, PROMPT[::-1])}
    before = run(engine, until=4)
    push(model_of(2), engine, version=7, in_flight="reread")
    after = run(engine)
    for request, prompt in prompts.items():
        so_far = [token.id for token in before[request]]
        rest = answer(
            fresh, prompt + so_far, Sampling(temperature=0.0, max_tokens=12 - len(so_far))
        )
        assert [(t.id, t.logprob) for t in after[request]] == rest
        assert {t.version for t in after[request]} == {7}


@pytest.mark.parametrize("in_flight", ["keep", "reread"])
def test_pushing_while_streams_run_loses_none(in_flight, pair):
    engine, _ = pair
    models = [model_of(1), model_of(2)]
    sampling = Sampling(temperature=1.0, max_tokens=60, seed=3)

    async def read(stream):
        return [token async for token in stream]

    async def everything(thread):
        streams = [thread.generate(PROMPT[i:], sampling) for i in range(8)]
        reading = asyncio.gather(*map(read, streams))
        for i in range(6):
            await asyncio.sleep(0.005)
            await asyncio.to_thread(push, models[i % 2], thread, in_flight=in_flight)
        return await reading

    with EngineThread(engine) as thread:
        answers = asyncio.run(everything(thread))
    assert [len(tokens) for tokens in answers] == [60] * 8
    for tokens in answers:
        versions = [token.version for token in tokens]
        assert versions == sorted(versions)
    assert engine.version == 6 and engine.used_blocks == 0


# What goes wrong


def test_another_models_weights_change_nothing(pair):
    engine, _ = pair
    before = answer(engine)
    with pytest.raises(CannotReplaceError, match="another model"):
        push(model_of(2, SHAPES["dense throughout"]), engine)
    assert answer(engine) == before and engine.version == 0


def test_half_of_the_weights_answer_nothing_until_all_have_come(pair):
    engine, fresh = pair

    def half():
        yield from list(model_of(2).state_dict().items())[:9]
        raise ConnectionError("the sender is gone")

    engine.submit(PROMPT, GREEDY)
    engine.step()
    with pytest.raises(MixedWeightsError) as caught:
        replace(half(), engine)
    assert isinstance(caught.value.__cause__, ConnectionError)
    engine.submit(PROMPT, GREEDY)
    failures = engine.step()
    assert all("half-way" in str(failure.error) for failure in failures) and len(failures) == 2
    push(model_of(2), engine)
    assert answer(engine) == answer(fresh)


def test_a_job_between_steps_is_answered_when_the_engine_closes(pair):
    thread, entered, leave = EngineThread(pair[0]), threading.Event(), threading.Event()
    first = thread.between_steps(lambda _: entered.set() or leave.wait(5))
    entered.wait(5)
    second = thread.between_steps(lambda engine: engine.version)
    closing = threading.Thread(target=thread.close)
    closing.start()
    leave.set()
    assert first.result(5) and second.result(5) == 0
    closing.join(5)
    failing = EngineThread(pair[1])
    with pytest.raises(ZeroDivisionError):
        failing.between_steps(lambda _: 1 // 0).result(5)
    assert failing.alive
    failing.close()
