"""A burst gives what single steps give, ends where somebody has to decide, and loses nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openk2.engine.compiled import CompiledRunner
from openk2.engine.draft import PromptLookup
from openk2.engine.engine import Engine
from openk2.engine.request import Failure
from openk2.model.checkpoint import Checkpoint
from openk2.model.tiled import tile_model
from openk2.types import Sampling
from tests.engine.test_compiled import POISON
from tests.model.test_tiled import TINY, write

GREEDY = Sampling(temperature=0.0, max_tokens=40)
SEEDED = Sampling(temperature=1.0, top_p=0.95, seed=5, max_tokens=40)
PENALISED = replace(SEEDED, presence_penalty=1.0, frequency_penalty=0.5)
BIASED = replace(SEEDED, logit_bias=((3, 4.0), (7, -100.0)), logprobs=True)
TOPS = replace(SEEDED, logprobs=True, top_logprobs=2)
FORCED = replace(SEEDED, forced=(4, 5, 6))
SAMPLINGS = [GREEDY, SEEDED, PENALISED, BIASED, TOPS, FORCED]


SHAPE = replace(TINY, vocab_size=80)
"""Rows of logits without padding."""


@pytest.fixture(scope="module")
def tiled(tmp_path_factory):
    return tile_model(Checkpoint(write(tmp_path_factory.mktemp("burst"), SHAPE, "float32")))


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory):
    """The same, but the embedding of one token is NaN."""
    root = tmp_path_factory.mktemp("poisoned")
    return tile_model(Checkpoint(write(root, SHAPE, "float32", poison=[POISON])))


class Counting(CompiledRunner):
    """Remembers how many tokens a row got from each call."""

    def __init__(self, model, **settings):
        super().__init__(model, max_positions=256, **settings)
        self.lengths = []
        self.during = None

    def forward(self, batch):
        self.lengths.append(1)
        return super().forward(batch)

    def repeat(self, batch, loop):
        if self.during is not None:
            self.during()
        times = super().repeat(batch, loop)
        self.lengths.append(times)
        return times


class Letters:
    """Allows even ids until `SWITCH`, which has to be followed by 10 11 12 and then odd ids."""

    SWITCH = 8

    def __init__(self):
        self.odd = False
        self.accepted = []
        self.fills = 0

    @property
    def until(self):
        return frozenset({self.SWITCH}) if not self.odd else frozenset()

    def fill(self, bits_W):
        self.fills += 1
        bits_W[:] = 0xAAAAAAAA if self.odd else 0x55555555

    def accept(self, token_id):
        self.accepted.append(token_id)
        self.odd = self.odd or token_id == self.SWITCH
        self.jumps = [10, 11, 12] if token_id == self.SWITCH else []

    def jump(self):
        return self.jumps


def make(tiled, *, threads=1, **settings):
    defaults = {"max_batch": 8, "max_len": 120, "stop_ids": frozenset()}
    runner = Counting(tiled, threads=threads)
    engine = Engine(runner, **{**defaults, **settings})
    engine._pace.took(1e-6, 1)  # this machine's load must not decide about the lengths
    return engine, runner


def drain(engine):
    outputs = {}
    while engine.busy:
        engine._pace.took(1e-6, 1)
        for output in engine.step():
            outputs.setdefault(output.request_id, []).append(output)
    return outputs


def serve(engine, samplings, masks=None):
    requests = [
        engine.submit([1, 2, 3 + i], sampling, masks[i] if masks else None)
        for i, sampling in enumerate(samplings)
    ]
    outputs = drain(engine)
    return [[tuple(token)[1:] for token in outputs[request]] for request in requests]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("stop_ids", [frozenset(), frozenset({5, 9, 17})], ids=["free", "stops"])
def test_a_burst_equals_single_steps(tiled, threads, stop_ids):
    plain, plain_runner = make(tiled, burst=1, stop_ids=stop_ids)
    engine, runner = make(tiled, threads=threads, stop_ids=stop_ids)
    for samplings in ([GREEDY], [SEEDED], [GREEDY, SEEDED, BIASED], SAMPLINGS):
        assert serve(engine, samplings) == serve(plain, samplings)
    assert max(plain_runner.lengths) == 1
    assert max(runner.lengths) == 16
    assert engine.used_blocks == 0
    runner.close()


@pytest.mark.parametrize("blocks", [9, 12])
def test_a_burst_takes_no_more_than_there_is_room_for(tiled, blocks):
    samplings = [replace(SEEDED, seed=seed, max_tokens=50) for seed in range(4)]
    plain, _ = make(tiled, burst=1)
    engine, runner = make(tiled, blocks=blocks)
    assert serve(engine, samplings) == serve(plain, samplings)
    assert max(runner.lengths) > 1
    assert engine.used_blocks == 0


def test_a_burst_ends_with_the_first_request_that_ends(tiled):
    engine, runner = make(tiled)
    short, long = replace(GREEDY, max_tokens=6), replace(GREEDY, max_tokens=30)
    tokens = serve(engine, [short, long])
    assert [len(t) for t in tokens] == [6, 30]
    assert runner.lengths[:2] == [1, 5]  # the prompts, then what is left of the short one


def test_what_changes_with_each_token_is_not_drawn_in_bursts(tiled):
    for sampling in (PENALISED, TOPS):
        engine, runner = make(tiled)
        serve(engine, [sampling, GREEDY])
        assert max(runner.lengths) == 1
    engine, runner = make(tiled)
    serve(engine, [FORCED])
    assert runner.lengths[:3] == [1, 1, 1] and max(runner.lengths) == 16


def test_speculation_and_bursts_take_turns(tiled):
    plain, _ = make(tiled, burst=1)
    engine, runner = make(tiled, draft=PromptLookup(0.0))
    samplings = [replace(GREEDY, max_tokens=100)]
    assert serve(engine, samplings) == serve(plain, samplings)
    assert max(runner.lengths) > 1


def test_an_interrupted_burst_ends_after_the_token_it_is_at(tiled):
    plain, _ = make(tiled, burst=1)
    engine, runner = make(tiled)
    runner.during = engine.interrupt
    assert serve(engine, [SEEDED]) == serve(plain, [SEEDED])
    # One token, and then a single step, in which newcomers are admitted.
    assert set(runner.lengths) == {1}


def test_a_newcomer_joins_after_an_interrupt(tiled):
    engine, _ = make(tiled)
    first = engine.submit([1, 2, 3], replace(GREEDY, max_tokens=60))
    engine.step()
    engine.step()
    second = engine.submit([1, 2, 9], GREEDY)
    engine.interrupt()
    assert {output.request_id for output in engine.step()} == {first, second}


def test_a_grammar_is_asked_only_where_something_changes(tiled):
    plain, _ = make(tiled, burst=1)
    engine, runner = make(tiled)
    masks, same = [Letters(), Letters()], [Letters(), Letters()]
    likely = replace(SEEDED, logit_bias=((Letters.SWITCH, 4.0),))
    samplings = [replace(likely, seed=3), replace(likely, seed=4)]
    tokens = serve(engine, samplings, masks)
    assert tokens == serve(plain, samplings, same)
    assert max(runner.lengths) > 1
    for mask, its_tokens in zip(masks, tokens, strict=True):
        written = [id for id, *_ in its_tokens]
        assert mask.SWITCH in written, "the seeds do not reach the switch"
        at = written.index(mask.SWITCH)
        assert all(id % 2 == 0 for id in written[:at])
        assert written[at + 1 : at + 4] == [10, 11, 12]
        assert all(id % 2 for id in written[at + 4 :])
        assert mask.accepted == [*written[: at + 1], *written[at + 4 :]]
        assert mask.fills == 2
        assert [logprob for _, logprob, *_ in its_tokens[at + 1 : at + 4]] == [0.0] * 3
        assert len(written) == 40


def test_who_wants_log_probabilities_draws_every_token(tiled):
    engine, _ = make(tiled)
    [tokens] = serve(
        engine,
        [replace(SEEDED, logit_bias=((Letters.SWITCH, 4.0),), seed=3, logprobs=True)],
        [Letters()],
    )
    assert all(logprob < 0 for _, logprob, *_ in tokens)


def test_nan_in_a_burst_fails_its_request_alone(poisoned):
    free = replace(GREEDY, max_tokens=30, logit_bias=((POISON, -100.0),))
    once = replace(GREEDY, logit_bias=((POISON, 100.0),))
    engine, _ = make(poisoned)
    alone, _ = make(poisoned, burst=1)
    expected = serve(alone, [free])[0]
    good = engine.submit([1, 2, 3], free)
    bad = engine.submit([1, 2, 4], once)
    outputs = drain(engine)
    assert [tuple(token)[1:] for token in outputs[good]] == expected
    assert isinstance(outputs[bad][-1], Failure)
    assert engine.used_blocks == 0
