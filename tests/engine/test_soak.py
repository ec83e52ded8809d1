"""Thousands of mixed requests: every stream is right, every block comes back, memory is flat."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import sys
from collections import Counter

import pytest

from openk2.engine.engine import Engine
from openk2.engine.request import Failure, GenerationFailedError, QueueFullError
from openk2.engine.thread import EngineThread
from openk2.types import Sampling
from tests.engine.chained import NAN, POISON, STOP, ChainedRunner, expected
from tests.engine.test_conservation import check_blocks

MAX_LEN = 150


class Traffic:
    """Random requests: shared prefixes, all kinds of settings, some poisoned."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.prefixes = [self.tokens(length) for length in (16, 33, 48, 70, 96)]

    def tokens(self, length):
        return [self.random.randrange(1, POISON) for _ in range(length)]

    def request(self):
        r = self.random
        prefix = r.choice(self.prefixes)[: r.choice((0, 16, 40, 100))]
        prompt = [*prefix, *self.tokens(r.choice((1, 1, 2, 3, 5, 17, 40)))]
        if r.random() < 0.02:
            prompt.insert(r.randrange(len(prompt)), r.choice((POISON, NAN)))
        sampling = Sampling(
            temperature=r.choice((0.0, 0.0, 1.0)),
            top_p=r.choice((1.0, 0.9)),
            presence_penalty=r.choice((0.0, 0.0, 0.0, 1.0)),
            seed=r.randrange(1000),
            max_tokens=r.choice((1, 3, 20, 40, 60, None)),
            priority=r.choice((0, 0, 0, 1, 2)),
            cache_key=r.choice((None, None, "a")),
        )
        return tuple(prompt), sampling


def make_engine(seed):
    """Few blocks, so that requests are preempted, and a runner that fails when it is crowded."""
    r = random.Random(seed)

    def crowded(batch):
        return batch.sequence_T.min() != batch.sequence_T.max() and r.random() < 0.01

    def draft(request):
        """Guess: sometimes the truth, sometimes not."""
        if r.random() < 0.7:
            return ()
        prompt = tuple(request.ids_T[: request.prompt_length].tolist())
        if NAN in prompt:
            return ()
        truth = expected(prompt, request.sampling, MAX_LEN)
        guess = truth[request.generated : request.generated + r.randrange(6)]
        return [id if r.random() < 0.8 else r.randrange(1, POISON) for id, _ in guess]

    return Engine(
        ChainedRunner(crowded),
        max_batch=8,
        max_len=MAX_LEN,
        stop_ids=frozenset({STOP}),
        max_waiting=10,
        prefill_chunk=24,
        blocks=14,
        draft=draft,
    )


class Soak:
    """Submits, cancels and steps at random, and holds every output against what it must be."""

    def __init__(self, seed):
        self.traffic = Traffic(seed)
        self.random = self.traffic.random
        self.engine = make_engine(seed)
        self.live = {}
        self.counts = Counter()

    def run(self, requests):
        while self.counts["submitted"] < requests:
            for _ in range(self.random.choice((0, 0, 0, 1, 1, 9))):
                self.submit()
            if self.live and self.random.random() < 0.06:
                self.cancel()
            self.step()
        while self.engine.busy:
            self.step()
        self.end()

    def submit(self):
        prompt, sampling = self.traffic.request()
        arriving = self.engine.arriving
        try:
            request_id = self.engine.submit(prompt, sampling)
        except QueueFullError:
            assert arriving == 10
            self.counts["refused"] += 1
        else:
            self.live[request_id] = iter(expected(prompt, sampling, MAX_LEN))
            self.counts["submitted"] += 1

    def cancel(self):
        request_id = self.random.choice(list(self.live))
        assert self.engine.cancel(request_id)
        del self.live[request_id]
        self.counts["cancelled"] += 1

    def step(self):
        running = {request.id for request in self.engine._scheduler.running}
        for output in self.engine.step():
            due = next(self.live[output.request_id])
            if isinstance(output, Failure):
                assert isinstance(output.error.__cause__, due)
            else:
                assert (output.id, output.finish_reason) == due
            if isinstance(output, Failure) or output.finish_reason is not None:
                assert next(self.live.pop(output.request_id), None) is None
                self.counts["failed" if isinstance(output, Failure) else "finished"] += 1
        waiting = {request.id for request in self.engine._scheduler.waiting}
        self.counts["preempted"] += len(running & waiting)
        self.counts["steps"] += 1
        if self.counts["steps"] % 50 == 0:
            check_blocks(self.engine)
        self.engine._runner.seen.clear()

    def end(self):
        assert not self.live
        counts = self.counts
        assert counts["finished"] + counts["failed"] + counts["cancelled"] == counts["submitted"]
        check_blocks(self.engine)
        scheduler = self.engine._scheduler
        assert scheduler.pool.used == 0
        scheduler.tree.evict(len(scheduler.tree))
        assert scheduler.pool.free == scheduler.pool.count
        assert not scheduler.running and not scheduler.waiting and scheduler.arriving == 0


def in_memory():
    gc.collect()
    return sys.getallocatedblocks()


@pytest.mark.parametrize("seed", [0, 1])
def test_hundreds_of_mixed_requests(seed):
    soak = Soak(seed)
    soak.run(250)
    for what in ("refused", "cancelled", "failed", "preempted", "finished"):
        assert soak.counts[what] > 0, what


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_thousand_mixed_requests(caplog):
    # pytest keeps every record of a failed step, and with it the frames of its traceback.
    caplog.set_level(logging.CRITICAL, logger="openk2.engine.engine")
    soak = Soak(2)
    soak.run(2_000)
    before = in_memory()
    soak.run(18_000)
    assert soak.counts["submitted"] >= 18_000
    # What lies in the cache differs, not how much of it there can be.
    assert in_memory() < before + 3_000
    through_a_thread(2_000, seed=3)


def test_hundreds_of_mixed_requests_through_a_thread():
    through_a_thread(150, seed=4)


def through_a_thread(requests, seed):
    """Let clients come and go concurrently, each checking its own stream."""
    traffic = Traffic(seed)
    engine = make_engine(seed)
    ends = Counter()

    async def client(front, todo):
        while todo:
            prompt, sampling = todo.pop()
            leaves_after = traffic.random.choice((1, 5, 1000, 1000, 1000))
            try:
                stream = front.generate(prompt, sampling)
            except QueueFullError:
                ends["refused"] += 1
                todo.append((prompt, sampling))
                await asyncio.sleep(0.001)
                continue
            due = iter(expected(prompt, sampling, MAX_LEN))
            ends[await read(stream, due, leaves_after)] += 1

    async def main():
        todo = [traffic.request() for _ in range(requests)]
        with EngineThread(engine) as front:
            await asyncio.gather(*(client(front, todo) for _ in range(30)))

    asyncio.run(main())
    assert ends["finished"] + ends["failed"] + ends["left"] == requests
    for what in ("finished", "failed", "left", "refused"):
        assert ends[what] > 0, what
    check_blocks(engine)
    assert not engine.busy and engine.used_blocks == 0


async def read(stream, due, leaves_after):
    """Compare a stream with what is due; return how it ended."""
    async with contextlib.aclosing(stream):
        try:
            async for token in stream:
                assert (token.id, token.finish_reason) == next(due)
                leaves_after -= 1
                if leaves_after == 0 and token.finish_reason is None:
                    return "left"
        except GenerationFailedError as error:
            assert isinstance(error.__cause__, next(due))
            return "failed"
    assert next(due, None) is None
    return "finished"
