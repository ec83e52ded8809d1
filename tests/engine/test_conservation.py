"""Random submissions, steps, cancellations and model failures against a plain ledger."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.engine.engine import Engine
from openk2.engine.request import Failure, QueueFullError
from openk2.types import Sampling

MAX_WAITING = 3


class Ledger:
    """What must be true of an engine, from its outputs and from what its model is asked to do."""

    def __init__(self, model, max_batch):
        self.model, self.max_batch = model, max_batch
        self.model.calls = []
        self.engine = Engine(
            model,
            max_batch=max_batch,
            max_len=16,
            stop_ids=frozenset({1, 2, 3}),
            max_waiting=MAX_WAITING,
            prefill_chunk=4,
        )
        self.live, self.ended, self.first_outputs = [], [], []

    def submit(self, prompt_length, max_tokens):
        sampling = Sampling(temperature=1.0, seed=prompt_length, max_tokens=max_tokens)
        waiting = self.engine.waiting
        try:
            self.live.append(self.engine.submit([5] * prompt_length, sampling))
        except QueueFullError:
            assert waiting == MAX_WAITING
        else:
            assert waiting < MAX_WAITING
        self.check()

    def cancel(self, request_id, _):
        assert self.engine.cancel(request_id) == (request_id in self.live)
        if request_id in self.live:
            self.live.remove(request_id)
        self.check()

    def step(self, *_):
        owners = min(self.max_batch, len(self.live))
        calls_before = len(self.model.calls)
        outputs = self.engine.step()
        slots = [slot for _, rows in self.model.calls[calls_before:] for slot in rows]
        assert len(set(slots)) == len(slots) <= owners
        for output in outputs:
            assert output.request_id in self.live
            if output.request_id not in self.first_outputs:
                self.first_outputs.append(output.request_id)
            if isinstance(output, Failure) or output.finish_reason is not None:
                self.live.remove(output.request_id)
                self.ended.append(output.request_id)
                owners -= 1
        assert self.engine.running == owners
        assert self.first_outputs == sorted(self.first_outputs)
        self.check()

    def check(self):
        assert self.engine.running + self.engine.waiting == len(self.live)
        assert self.engine.running + self.engine.free_slots == self.max_batch
        assert self.engine.busy == bool(self.live)

    def finish(self):
        for _ in range(100):
            self.step()
        assert not self.live
        assert self.engine.free_slots == self.max_batch
        assert len(set(self.ended)) == len(self.ended)


operation = st.one_of(
    st.tuples(st.just("submit"), st.integers(1, 9), st.integers(1, 4)),
    st.tuples(st.just("step"), st.just(0), st.just(0)),
    st.tuples(st.just("cancel"), st.integers(0, 10), st.just(0)),
)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3), st.lists(operation, max_size=30), st.sets(st.integers(0, 20), max_size=3))
def test_slots_are_conserved_and_every_request_ends_once(
    make_faulty, max_batch, operations, fail_on
):
    model = make_faulty()
    model.fail_on = frozenset(fail_on)
    ledger = Ledger(model, max_batch)
    for name, a, b in operations:
        getattr(ledger, name)(a, b)
    ledger.finish()
