"""The engine on a thread of its own, and the async streams in front of it.

In: prompts as token ids, from event loops. Out: one stream of tokens per request.
Must not know: text, HTTP, or how a step works.

The scheduler thread alone touches the `Engine`. Callers reach it through a locked list of
arrivals and one flag per stream; tokens travel back through the stream's queue, those of one step
together: to wake an event loop costs more than to plan a request's part of a step.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from openk2.engine.engine import Engine
from openk2.engine.request import (
    EngineBrokenError,
    EngineClosedError,
    EngineError,
    Failure,
    Output,
    QueueFullError,
    Request,
    Token,
)
from openk2.engine.sampler import Mask
from openk2.types import Sampling

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class _Ticket:
    """What the scheduler thread knows about a stream; it does not keep the stream alive."""

    request: Request
    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[Token | EngineError]
    cancelled: bool = False


class TokenStream:
    """The tokens of one request, as an async iterator; leaving early frees the request's slot.

    Leaving is `aclose()`, being cancelled while waiting for a token, or dropping the stream.
    """

    def __init__(self, ticket: _Ticket) -> None:
        """Read from the ticket's queue, which the scheduler thread fills."""
        self._ticket = ticket
        self._ended = False
        self._error: EngineError | None = None

    def __aiter__(self) -> Self:
        """Return itself: a stream is read once."""
        return self

    async def __anext__(self) -> Token:
        """Wait for the next token.

        Raises:
            EngineError: The model failed on this request, or the engine was shut down.
        """
        if self._ended:
            raise StopAsyncIteration
        try:
            item = self._error or await self._ticket.queue.get()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if isinstance(item, EngineError):
            self._ended = True
            raise item
        self._ended = item.finish_reason is not None
        return item

    def ready(self) -> list[Token]:
        """Take the tokens that can be had without waiting; an error waits for the iteration."""
        found: list[Token] = []
        queue = self._ticket.queue
        while not (self._ended or self._error or queue.empty()):
            item = queue.get_nowait()
            if isinstance(item, EngineError):
                self._error = item
            else:
                found.append(item)
                self._ended = item.finish_reason is not None
        return found

    async def aclose(self) -> None:
        """Cancel the request if it still runs; the name that `contextlib.aclosing` calls."""
        self.cancel()

    def cancel(self) -> None:
        """Make the engine drop the request before its next step."""
        self._ended = True
        self._ticket.cancelled = True

    def __del__(self) -> None:
        """Cancel, as a dropped async generator would."""
        self._ticket.cancelled = True


class EngineThread:
    """Runs an `Engine` for many concurrent callers; a context manager that shuts it down."""

    def __init__(self, engine: Engine) -> None:
        """Start the scheduler thread; from here on, the engine belongs to it."""
        self._engine = engine
        self._wake = threading.Condition()
        self._arrivals: deque[_Ticket] = deque()
        self._closing = False
        self._broken = False
        self._live: dict[int, _Ticket] = {}
        self._jobs: deque[Callable[[], None]] = deque()
        self._thread = threading.Thread(target=self._run, name="openk2-engine", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Shut down."""
        self.close()

    @property
    def max_len(self) -> int:
        """The context window: prompt and answer together."""
        return self._engine.max_len

    @property
    def alive(self) -> bool:
        """Whether requests are taken: not after `close`, nor after an error in the scheduler."""
        return not self._closing

    def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, mask: Mask | None = None
    ) -> TokenStream:
        """Queue a request at once and return its stream; call it inside a running event loop.

        Refusals are raised here, before any token, so that a server can still answer with a
        status code.

        Raises:
            QueueFullError: Too many requests wait already.
            InvalidRequestError: The request could never run; `PromptTooLongError` is one kind.
            EngineClosedError: After `close`.
            EngineBrokenError: After an error in the scheduler.
        """
        request = self._engine.prepare(prompt_ids, sampling, mask)
        ticket = _Ticket(request, asyncio.get_running_loop(), asyncio.Queue())
        with self._wake:
            if self._closing:
                raise self._end()
            # `arriving` only shrinks while the lock is held: arrivals join the engine under it.
            if len(self._arrivals) + self._engine.arriving >= self._engine.max_waiting:
                raise QueueFullError(self._engine.max_waiting)
            self._arrivals.append(ticket)
            self._engine.interrupt()
            self._wake.notify()
        return TokenStream(ticket)

    def between_steps(self, job: Callable[[Engine], Result]) -> Future[Result]:
        """Have `job` called with the engine after the step that is going on; no stream is lost.

        Raises:
            EngineClosedError: After `close`.
            EngineBrokenError: After an error in the scheduler.
        """
        future: Future[Result] = Future()

        def run() -> None:
            try:
                future.set_result(job(self._engine))
            except Exception as error:  # noqa: BLE001 - raised where the result is asked for
                future.set_exception(error)

        with self._wake:
            if self._closing:
                raise self._end()
            self._jobs.append(run)
            self._engine.interrupt()
            self._wake.notify()
        return future

    def close(self) -> None:
        """Finish the step in progress, fail what is left with `EngineClosedError`, and stop."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._drop_cancelled()
                self._deliver(
                    [(self._ticket_of(output), _item(output)) for output in self._engine.step()]
                )
        except Exception:
            logger.exception("the engine's scheduler stopped; every stream ends with an error")
            self._broken = True
        finally:
            self._end_all()

    def _ticket_of(self, output: Output) -> _Ticket:
        if isinstance(output, Failure) or output.finish_reason is not None:
            return self._live.pop(output.request_id)
        return self._live[output.request_id]

    def _wait_for_work(self) -> bool:
        """Sleep while there is nothing to do, then admit arrivals; false means stop."""
        with self._wake:
            self._wake.wait_for(self._has_work)
            jobs = list(self._jobs)
            self._jobs.clear()
        for job in jobs:  # without the lock: they take longer than a caller may wait for it
            job()
        with self._wake:
            if self._closing:
                return False
            while self._arrivals:
                ticket = self._arrivals.popleft()
                self._live[self._engine.enqueue(ticket.request)] = ticket
            return True

    def _has_work(self) -> bool:
        return bool(self._closing or self._jobs or self._arrivals or self._engine.busy)

    def _drop_cancelled(self) -> None:
        for request_id in [id for id, ticket in self._live.items() if ticket.cancelled]:
            del self._live[request_id]
            self._engine.cancel(request_id)

    def _deliver(self, items: list[tuple[_Ticket, Token | EngineError]]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Ticket, Token | EngineError]]] = {}
        for ticket, item in items:
            by_loop.setdefault(ticket.loop, []).append((ticket, item))
        for loop, its_items in by_loop.items():
            try:
                loop.call_soon_threadsafe(_put_all, its_items)
            except RuntimeError:
                # The event loop was closed under its streams: nobody can read them any more.
                for ticket, _ in its_items:
                    ticket.cancelled = True

    def _end_all(self) -> None:
        with self._wake:
            self._closing = True
            tickets = [*self._live.values(), *self._arrivals]
            self._arrivals.clear()
            jobs = list(self._jobs)
            self._jobs.clear()
        for job in jobs:
            job()
        for request_id in self._live:
            self._engine.cancel(request_id)
        self._live.clear()
        self._deliver([(ticket, self._end()) for ticket in tickets])

    def _end(self) -> EngineError:
        return EngineBrokenError() if self._broken else EngineClosedError()


def _item(output: Output) -> Token | EngineError:
    return output.error if isinstance(output, Failure) else output


def _put_all(items: list[tuple[_Ticket, Token | EngineError]]) -> None:
    for ticket, item in items:
        ticket.queue.put_nowait(item)
