"""A mask limits its own request only, is filled while the model computes, and may fail."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from openk2.engine.engine import Engine
from openk2.engine.request import Failure, GenerationFailedError
from openk2.types import Sampling
from tests.engine.chained import ChainedRunner

GREEDY = Sampling(temperature=0.0, max_tokens=12)
SEEDED = replace(GREEDY, temperature=1.0, seed=3)


class Cycle:
    """Allows the ids 3k + n after n tokens; what was accepted is remembered."""

    until = None

    def __init__(self, fails_after=None, allows=lambda n: range(n % 3, 45, 3)):
        self.accepted = []
        self.fails_after = fails_after
        self.allows = allows
        self.filled = threading.Event()
        self.aside = []
        """Per fill, whether it ran beside the engine."""

    def fill(self, bits_W):
        self.aside.append(threading.current_thread() is not threading.main_thread())
        if len(self.accepted) == self.fails_after:
            raise LookupError("the grammar is broken")
        bits_W[:] = 0
        for id in self.allows(len(self.accepted)):
            bits_W[id // 32] |= 1 << id % 32
        self.filled.set()

    def accept(self, token_id):
        self.accepted.append(token_id)

    def jump(self):
        return []


def make(runner=None, **settings):
    defaults = {"max_batch": 4, "max_len": 120, "stop_ids": frozenset({0})}
    return Engine(runner or ChainedRunner(), **{**defaults, **settings})


def drain(engine):
    tokens = {}
    while engine.busy:
        for output in engine.step():
            tokens.setdefault(output.request_id, []).append(output)
    return tokens


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
def test_a_mask_limits_its_own_request_only(sampling):
    sampling = replace(sampling, logit_bias=((0, -100.0),))
    engine = make(draft=lambda request: [5, 5, 5])
    mask = Cycle()
    masked = engine.submit((1, 2, 3), sampling, mask)
    free = engine.submit((4, 5), sampling)
    tokens = drain(engine)
    ids = [token.id for token in tokens[masked]]
    assert [id % 3 for id in ids] == [n % 3 for n in range(12)] and mask.accepted == ids
    plain = Engine(ChainedRunner(), max_batch=1, max_len=120, stop_ids=frozenset({0}))
    assert [t.id for t in tokens[free]] == [t.id for t in plain.generate((4, 5), sampling)]
    assert engine.used_blocks == 0 and not engine._masks


class Slow(Cycle):
    """Takes two milliseconds of computing to fill."""

    def fill(self, bits_W):
        began = time.thread_time()
        while time.thread_time() < began + 0.002:
            pass
        super().fill(bits_W)


def test_a_slow_mask_is_filled_while_the_model_computes():
    mask = Slow()

    class Waiting(ChainedRunner):
        def forward(self, batch):
            assert mask.filled.wait(20)
            mask.filled.clear()
            return super().forward(batch)

    engine = make(Waiting(), stop_ids=frozenset())
    engine.submit((1, 2, 3), GREEDY, mask)
    assert len(drain(engine)[0]) == 12
    assert mask.aside == [True] * 12


def test_a_quick_mask_is_not_handed_over():
    engine = make(stop_ids=frozenset())
    mask = Cycle()
    engine.submit((1, 2, 3), replace(GREEDY, max_tokens=60), mask)
    assert len(drain(engine)[0]) == 60
    assert mask.aside[0] and not mask.aside[-1]


@pytest.mark.parametrize(
    ("mask", "problem"),
    [
        (Cycle(fails_after=2), "the grammar is broken"),
        (Cycle(allows=lambda n: range(3) if n < 2 else ()), "allows no token"),
        (Cycle(allows=lambda n: range(3) if n < 2 else (46,)), "allows no token"),
    ],
)
def test_a_failing_mask_fails_its_own_request_only(mask, problem):
    engine = make(stop_ids=frozenset())
    sampling = replace(GREEDY, max_tokens=6)
    masked, free = engine.submit((1, 2, 3), sampling, mask), engine.submit((4, 5), sampling)
    tokens = drain(engine)
    assert len(tokens[masked]) == 3
    assert isinstance(tokens[masked][-1], Failure)
    with pytest.raises(GenerationFailedError, match=problem):
        raise tokens[masked][-1].error
    assert len(tokens[free]) == 6
    assert engine.used_blocks == 0 and not engine._masks


def test_a_batch_that_fails_fills_its_masks_again():
    calls = iter([False, True])
    engine = make(ChainedRunner(lambda batch: next(calls, False)), stop_ids=frozenset())
    mask = Cycle()
    engine.submit((1, 2, 3), GREEDY, mask)
    engine.submit((4, 5), GREEDY)
    tokens = drain(engine)
    assert len(tokens[0]) == len(tokens[1]) == 12
    assert mask.accepted == [token.id for token in tokens[0]]


class Dictation(Cycle):
    """After the first token, everything is certain."""

    def __init__(self, text):
        super().__init__(allows=lambda n: range(45))
        self.text = text

    def jump(self):
        text, self.text = self.text, []
        return text


@pytest.mark.parametrize("blocks", [8, 9, 32])
def test_what_is_certain_gets_blocks_like_everything_else(blocks):
    # 8 blocks hold one of the two at a time: the other one is preempted and reads again.
    text = [1 + i % 40 for i in range(70)]
    engine = make(blocks=blocks, prefill_chunk=16)
    plain = make()
    sampling = replace(SEEDED, max_tokens=80, logit_bias=((0, -100.0),))
    requests = [engine.submit((1, 2, 3 + i), sampling, Dictation(list(text))) for i in range(2)]
    tokens = drain(engine)
    again = [plain.submit((1, 2, 3 + i), sampling, Dictation(list(text))) for i in range(2)]
    expected = drain(plain)
    for request, same in zip(requests, again, strict=True):
        ids = [token.id for token in tokens[request]]
        assert ids[1:71] == text and len(ids) == 80
        assert ids == [token.id for token in expected[same]]
    assert engine.used_blocks == 0


def test_what_is_certain_may_end_the_answer():
    engine = make()
    request = engine.submit((1, 2), replace(SEEDED, max_tokens=9), Dictation([5, 6, 0, 7]))
    tokens = drain(engine)[request]
    assert [token.id for token in tokens][1:] == [5, 6, 0]
    assert tokens[-1].finish_reason == "stop"
    short = engine.submit((1, 2), replace(SEEDED, max_tokens=3), Dictation([5, 6, 0, 7]))
    tokens = drain(engine)[short]
    assert [token.id for token in tokens][1:] == [5, 6]
    assert tokens[-1].finish_reason == "length"
