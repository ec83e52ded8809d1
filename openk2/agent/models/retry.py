"""Asking again when a model did not answer.

In: a model, a request, how patient to be. Out: one whole reply, or the last error.
Must not know: why a model failed beyond its fault, or who waits for the answer.

Every attempt is folded by itself, so a half answer that broke off is no part of the reply. How long
to wait follows from the request and the attempt alone: a run that is repeated waits the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from openk2.agent.canonical import digest
from openk2.agent.model import ChatModel, ModelError, ModelFault, ModelRequest, Reply, ask
from openk2.types import Event

OnRetry = Callable[[ModelFault, float, int], None]
"""Is told why an attempt failed, for how many seconds the next one waits, and its number."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often, and for how long, a model is asked again."""

    attempts: int = 6
    """Most times that one question is asked."""
    base: float = 0.5
    """Seconds before the second attempt; doubled with every further one."""
    cap: float = 30.0
    """Most seconds between two attempts, unless the endpoint asks for more."""
    total: float = 600.0
    """Most seconds waited for one question altogether; an endpoint that asks for more is not
    waited for."""


async def ask_with_patience(
    model: ChatModel,
    request: ModelRequest,
    *,
    patience: Patience | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    on_retry: OnRetry = lambda fault, seconds, attempt: None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Reply:
    """Ask until there is an answer, or no hope of one.

    Args:
        model: Who answers.
        request: The question.
        patience: How often, and for how long.
        on_event: Sees every event as it comes, those of an attempt that fails included: what it
            showed since the last `on_retry` is void at the next one.
        on_retry: Is told before every wait.
        sleep: Waits.

    Raises:
        ModelError: The last one, when trying again cannot help or has not helped.
    """
    patience = patience or Patience()
    waited = 0.0
    attempt = 1
    while True:
        try:
            return await ask(model, request, on_event)
        except ModelError as error:
            if not error.retryable:
                raise
            seconds = wait_seconds(patience, request, attempt, error.retry_after)
            reason = _hopeless(patience, attempt, waited, seconds)
            if reason:
                raise ModelError(
                    f"{error}; {reason}", error.fault, retry_after=error.retry_after
                ) from error
            attempt += 1
            on_retry(error.fault, seconds, attempt)
            waited += seconds
        await sleep(seconds)


def wait_seconds(
    patience: Patience, request: ModelRequest, attempt: int, retry_after: float | None
) -> float:
    """Return how long to wait after attempt number `attempt`, from 1.

    Half of it is drawn by lot, so that many agents do not return at the same moment; what the
    endpoint asks for is never shortened.
    """
    lot = int(digest([digest(request), attempt])[:13], 16) / 16**13
    seconds = min(patience.cap, patience.base * 2 ** (attempt - 1)) * (0.5 + lot / 2)
    if retry_after is None:
        return seconds
    return retry_after + min(1.0, seconds) * lot


def _hopeless(patience: Patience, attempt: int, waited: float, seconds: float) -> str:
    """Say why there is no further attempt; empty if there is one."""
    if attempt >= patience.attempts:
        return f"gave up at attempt {attempt}, the last"
    if waited + seconds > patience.total:
        left = patience.total - waited
        return (
            f"gave up at attempt {attempt}: the next would wait {seconds:.0f} seconds, more than "
            f"the {left:.0f} left for waiting"
        )
    return ""
