"""Random submissions, steps, cancellations and model failures against a plain ledger."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.engine.engine import Engine
from openk2.engine.request import Failure, QueueFullError
from openk2.types import Sampling
from tests.engine.chained import ChainedRunner

MAX_WAITING = 3


def check_blocks(engine):
    """Every block is free, cached, or referred to by exactly the rows that name it."""
    scheduler = engine._scheduler
    pool, tree, table_SN = scheduler.pool, scheduler.tree, scheduler.table_SN
    references = [0] * pool.count
    owned = 0
    for request in scheduler.running:
        row_N = table_SN[request.row]
        assert (row_N[: request.blocks] >= 0).all() and (row_N[request.blocks :] == -1).all()
        for block in row_N[: request.blocks].tolist():
            references[block] += 1
        owned += request.blocks
        node = request.node
        while node.depth:
            assert row_N[node.depth - 1] == node.block
            node = node.parent
    assert (table_SN >= 0).sum() == owned
    assert [pool.references(block) for block in range(pool.count)] == references
    cached = {node.block for node in nodes(tree.root)}
    used = {block for block, count in enumerate(references) if count}
    assert len(cached) == len(tree) and pool.used == len(used)
    assert pool.free + len(cached | used) == pool.count
    assert not set(pool._free) & (cached | used)


def nodes(node):
    for child in node.children.values():
        yield child
        yield from nodes(child)


class Ledger:
    """What must be true of an engine, from its outputs and from what its model is asked to do."""

    def __init__(self, runner, max_batch, blocks):
        self.runner, self.max_batch = runner, max_batch
        self.engine = Engine(
            runner,
            max_batch=max_batch,
            max_len=40,
            blocks=blocks,
            stop_ids=frozenset({1, 2, 3}),
            max_waiting=MAX_WAITING,
            prefill_chunk=4,
        )
        self.live, self.ended = [], []

    def submit(self, prompt_length, max_tokens):
        sampling = Sampling(temperature=1.0, seed=prompt_length, max_tokens=max_tokens)
        arriving = self.engine.arriving
        try:
            prompt = [5] * (prompt_length - 1) + [4 + prompt_length % 2]
            self.live.append(self.engine.submit(prompt, sampling))
        except QueueFullError:
            assert arriving == MAX_WAITING
        else:
            assert arriving < MAX_WAITING
        self.check()

    def cancel(self, request_id, _):
        assert self.engine.cancel(request_id) == (request_id in self.live)
        if request_id in self.live:
            self.live.remove(request_id)
        self.check()

    def step(self, *_):
        self.runner.seen.clear()
        outputs = self.engine.step()
        assert all(len(counts) <= self.max_batch for counts in self.runner.seen)
        for output in outputs:
            assert output.request_id in self.live
            if isinstance(output, Failure) or output.finish_reason is not None:
                self.live.remove(output.request_id)
                self.ended.append(output.request_id)
        assert self.engine.running <= self.max_batch
        assert len({output.request_id for output in outputs}) == len(outputs)
        self.check()

    def check(self):
        assert self.engine.running + self.engine.waiting == len(self.live)
        assert self.engine.busy == bool(self.live)
        check_blocks(self.engine)

    def finish(self):
        for _ in range(300):
            self.step()
        assert not self.live
        assert self.engine.used_blocks == 0
        assert len(set(self.ended)) == len(self.ended)


operation = st.one_of(
    st.tuples(st.just("submit"), st.integers(1, 34), st.integers(1, 20)),
    st.tuples(st.just("step"), st.just(0), st.just(0)),
    st.tuples(st.just("cancel"), st.integers(0, 10), st.just(0)),
)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 3),
    st.integers(3, 9),
    st.lists(operation, max_size=30),
    st.sets(st.integers(0, 20), max_size=3),
)
def test_blocks_are_conserved_and_every_request_ends_once(max_batch, blocks, operations, fail_on):
    calls = itertools.count()
    runner = ChainedRunner(lambda batch: next(calls) in fail_on)
    ledger = Ledger(runner, max_batch, blocks)
    for name, a, b in operations:
        getattr(ledger, name)(a, b)
    ledger.finish()
