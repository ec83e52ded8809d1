from __future__ import annotations

import asyncio
import contextlib
import gc
import threading

import pytest

from openk2.engine.engine import Engine
from openk2.engine.request import (
    EngineBrokenError,
    EngineClosedError,
    GenerationFailedError,
    InvalidRequestError,
    PromptTooLongError,
    QueueFullError,
    Token,
)
from openk2.engine.runner import TorchRunner
from openk2.engine.thread import EngineThread, TokenStream, _Ticket
from openk2.model.transformer import Transformer
from openk2.types import Sampling

GREEDY = Sampling(temperature=0.0, max_tokens=12)
ENDLESS = Sampling(temperature=0.0)


class GatedEngine(Engine):
    """Counts its steps and, with a gate, waits for a permit before each."""

    steps = 0
    gate: threading.Semaphore | None = None
    held = False

    def step(self):
        if self.gate is not None:
            self.held = True
            self.gate.acquire()
            self.held = False
        self.steps += 1
        return super().step()

    def permit(self, steps):
        assert self.gate is not None
        self.gate.release(steps)


@contextlib.contextmanager
def gated(engine):
    engine.gate = threading.Semaphore(0)
    with EngineThread(engine) as front:
        try:
            yield front
        finally:
            engine.permit(10_000)


async def advance(engine):
    """Let one step run and wait until the scheduler stands before the next one."""
    target = engine.steps + 1
    engine.permit(1)
    await until(lambda: engine.steps == target and engine.held)


def make(model, **settings):
    defaults = {"max_batch": 4, "max_len": 128, "stop_ids": frozenset()}
    runner = TorchRunner(model) if isinstance(model, Transformer) else model
    return GatedEngine(runner, **{**defaults, **settings})


async def read(stream):
    return [token.id async for token in stream]


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_parallel_streams_with_one_closed_early_equal_each_alone(model):
    prompts = [[5 + i] * (3 * i + 1) for i in range(8)]
    samplings = [Sampling(temperature=1.0, seed=i, max_tokens=20) for i in range(8)]
    expected = [
        [token.id for token in make(model).generate(*request)]
        for request in zip(prompts, samplings, strict=True)
    ]
    engine = make(model, max_batch=3)

    async def leave_after_two(stream):
        async with contextlib.aclosing(stream):
            return [(await anext(stream)).id for _ in range(2)]

    async def main():
        with EngineThread(engine) as front:
            streams = [front.generate(*r) for r in zip(prompts, samplings, strict=True)]
            return await asyncio.gather(
                *(leave_after_two(s) if i == 4 else read(s) for i, s in enumerate(streams))
            )

    expected[4] = expected[4][:2]
    assert asyncio.run(main()) == expected
    assert not engine.busy


def test_the_last_token_carries_the_finish_reason(model):
    async def main():
        with EngineThread(make(model)) as front:
            return [token.finish_reason async for token in front.generate([5], GREEDY)]

    assert asyncio.run(main()) == [None] * 11 + ["length"]


async def leave_by_closing(stream):
    await anext(stream)
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    return stream


async def leave_by_task_cancellation(stream):
    task = asyncio.create_task(read(stream))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return stream


async def leave_by_dropping(stream):
    await anext(stream)
    return None


@pytest.mark.parametrize("leave", [leave_by_closing, leave_by_task_cancellation, leave_by_dropping])
def test_leaving_a_stream_frees_its_slot_within_one_step(model, leave):
    engine = make(model)

    async def main():
        with gated(engine) as front:
            stay = front.generate([1], ENDLESS)
            await until(lambda: engine.held)
            stream = front.generate([2], ENDLESS)
            await advance(engine)
            await advance(engine)
            assert engine.running == 2
            # The first two ways must work on a stream that somebody still holds.
            stream = await leave(stream)
            gc.collect()
            # The scheduler already stood before this step when the client left.
            await advance(engine)
            assert engine.running == 1
            engine.permit(1000)
            assert len(await read(stay)) == 127

    asyncio.run(main())


def test_refusals_are_raised_before_the_first_token(model):
    engine = make(model, max_batch=1, max_waiting=1, max_len=16)

    async def main():
        with gated(engine) as front:
            with pytest.raises(PromptTooLongError):
                front.generate([1] * 16, GREEDY)
            with pytest.raises(InvalidRequestError):
                front.generate([], GREEDY)
            queued = front.generate([1], GREEDY)
            with pytest.raises(QueueFullError):
                front.generate([1], GREEDY)
            engine.permit(1000)
            assert len(await read(queued)) == 12

    asyncio.run(main())


def test_a_request_that_leaves_before_it_is_admitted_never_runs(faulty):
    engine = make(faulty, max_batch=1)

    async def main():
        with gated(engine) as front:
            running = front.generate([1], GREEDY)
            await until(lambda: engine.busy)
            await front.generate([2, 2, 2], GREEDY).aclose()
            engine.permit(1000)
            assert len(await read(running)) == 12
            assert len(await read(front.generate([3], GREEDY))) == 12

    asyncio.run(main())
    assert {0: 3} not in faulty.calls


def test_a_failing_step_fails_its_streams_and_the_engine_goes_on(faulty):
    faulty.poison = frozenset({63})
    engine = make(faulty)

    async def main():
        with EngineThread(engine) as front:
            streams = [front.generate([i], GREEDY) for i in (1, 63, 5)]
            return await asyncio.gather(*map(read, streams), return_exceptions=True)

    good, bad, other = asyncio.run(main())
    assert isinstance(bad, GenerationFailedError)
    assert good == [token.id for token in make(faulty).generate([1], GREEDY)]
    assert other == [token.id for token in make(faulty).generate([5], GREEDY)]


def test_closing_fails_what_is_left_and_refuses_what_comes(model):
    engine = make(model, max_batch=1)

    async def main():
        front = EngineThread(engine)
        streams = [front.generate([i], ENDLESS) for i in range(3)]
        await anext(streams[0])
        front.close()
        for stream in streams[1:]:
            with pytest.raises(EngineClosedError):
                await read(stream)
        with pytest.raises(EngineClosedError):
            front.generate([1], GREEDY)
        front.close()

    asyncio.run(main())
    assert not engine.busy


def test_an_idle_engine_takes_no_steps(model):
    engine = make(model)

    async def main():
        with EngineThread(engine) as front:
            for _ in range(2):
                await read(front.generate([5], GREEDY))
                await asyncio.sleep(0.05)

    asyncio.run(main())
    assert engine.steps == 24


def test_a_closed_event_loop_does_not_stop_the_engine(model):
    engine = make(model)
    with gated(engine) as front:

        async def start():
            stream = front.generate([1], ENDLESS)
            engine.permit(1)
            await anext(stream)
            return stream

        async def another():
            return await read(front.generate([5], GREEDY))

        orphan = asyncio.run(start())
        engine.permit(1000)
        assert len(asyncio.run(another())) == 12
        del orphan
    # One step with a reader, one that finds none, one that drops it, and the second request's own.
    assert engine.steps <= 15


def test_a_broken_scheduler_ends_every_stream_instead_of_hanging(model):
    class BrokenEngine(Engine):
        def step(self):
            raise LookupError("a bug in the scheduler")

    async def main():
        front = EngineThread(
            BrokenEngine(TorchRunner(model), max_batch=1, max_len=16, stop_ids=frozenset())
        )
        assert front.alive
        with pytest.raises(EngineBrokenError, match="its log says why"):
            await read(front.generate([1], GREEDY))
        assert not front.alive
        with pytest.raises(EngineBrokenError):
            front.generate([1], GREEDY)
        front.close()

    asyncio.run(main())


def test_tokens_that_are_there_can_be_taken_without_waiting(model):
    async def main():
        with EngineThread(make(model)) as front:
            stream = front.generate([5], GREEDY)
            found = []
            async for token in stream:
                await asyncio.sleep(0.01)
                found += [token, *stream.ready()]
            return [token.id for token in found], stream.ready()

    alone = [token.id for token in make(model).generate([5], GREEDY)]
    assert asyncio.run(main()) == (alone, [])


def test_an_error_waits_for_whoever_asks_for_the_next_token(model):
    async def main():
        ticket = _Ticket(None, asyncio.get_running_loop(), asyncio.Queue())  # type: ignore[arg-type]
        stream = TokenStream(ticket)
        for item in (Token(0, 1, 0.0, None), Token(0, 2, 0.0, None), EngineClosedError()):
            ticket.queue.put_nowait(item)
        assert [(await anext(stream)).id, *(token.id for token in stream.ready())] == [1, 2]
        assert stream.ready() == []
        with pytest.raises(EngineClosedError):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    asyncio.run(main())
