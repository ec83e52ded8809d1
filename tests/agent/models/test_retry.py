"""How long is waited, and when it is no use."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.model import ModelError, ModelRequest
from openk2.agent.models.retry import Patience, ask_with_patience, wait_seconds
from openk2.agent.models.scripted import Scripted
from openk2.types import Message

HI = ModelRequest((Message("user", "hi"),))


def asked(*turns: Any, **settings: Any) -> tuple[str, list[float], int]:
    """Return what was said or why not, the waits, and how often it was asked."""
    slept: list[float] = []
    model = Scripted([*turns, Message("assistant", "yes")])

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def run() -> str:
        try:
            reply = await ask_with_patience(model, HI, patience=Patience(**settings), sleep=sleep)
        except ModelError as error:
            return f"{error.fault}: {error}"
        return reply.message.content

    said = asyncio.run(run())
    return said, slept, len(turns) + 1 - model.left


def test_what_waiting_cannot_mend_is_raised_at_once():
    for fault in ("refused", "too_long"):
        assert asked(ModelError("no", fault)) == (f"{fault}: no", [], 1)


def test_waits_double_up_to_the_cap():
    said, slept, _ = asked(*[ModelError("no", "server")] * 7, attempts=8, base=1.0, cap=10.0)
    assert said == "yes"
    for seconds, full in zip(slept, [1, 2, 4, 8, 10, 10, 10], strict=True):
        assert full / 2 <= seconds <= full


def test_it_gives_up_with_the_last_error_and_a_sentence():
    said, slept, times = asked(
        ModelError("first", "network"), ModelError("last", "busy"), attempts=2
    )
    assert said == "busy: last; gave up at attempt 2, the last" and (len(slept), times) == (1, 2)
    assert (
        asked(ModelError("no", "busy"), attempts=1)[0] == "busy: no; gave up at attempt 1, the last"
    )


def test_who_asks_for_too_much_time_is_not_waited_for():
    said, slept, _ = asked(ModelError("later", "busy", retry_after=3600.0), total=60.0)
    assert "gave up at attempt 1: the next would wait 3600 seconds, more than the 60 left" in said
    assert slept == []
    _, slept, _ = asked(*[ModelError("later", "busy", retry_after=25.0)] * 3, total=60.0)
    assert len(slept) == 2


@given(
    st.text(max_size=5),
    st.integers(1, 12),
    st.none() | st.floats(0, 1000),
)
def test_a_wait_follows_from_the_question_and_keeps_its_bounds(
    text: str, attempt: int, retry_after: float | None
):
    request, patience = ModelRequest((Message("user", text),)), Patience()
    seconds = wait_seconds(patience, request, attempt, retry_after)
    assert seconds == wait_seconds(patience, request, attempt, retry_after)
    if retry_after is None:
        assert 0 < seconds <= patience.cap
    else:
        assert retry_after <= seconds <= retry_after + 1


def test_many_agents_do_not_return_at_one_moment():
    requests = [ModelRequest((Message("user", str(i)),)) for i in range(100)]
    waits = {wait_seconds(Patience(), request, 3, None) for request in requests}
    assert len(waits) == 100 and max(waits) - min(waits) > 0.8
