"""Episodes in other processes, of this machine or of a Ray cluster, each with an engine of its own.

In: episodes to be played, and weights when there are new ones. Out: what became of the episodes, in
their order, the same however many workers there are. Must not know: how an episode is played, or
what is learned from it.

A worker holds a few episodes at a time, which share its engine's batches. One that dies loses
those: they are counted, and begun again in its successor, which gets the same weights. What a
worker says of an episode depends on the episode, its seed and the version of the weights alone.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from openk2.rl.broadcast import Bucket, plan, tensors

PATIENCE = 0.05
"""Seconds that one thread listens to the workers before another one may push."""
DEATHS = 3
"""Workers that an episode may outlive before the run gives up on it."""


class WorkersError(RuntimeError):
    """Workers died again and again, or one failed in a way that is nobody's episode."""


class Actor(Protocol):
    """What a worker is inside: something that plays, with weights of its own."""

    async def play(self, task: Any) -> Any:
        """Play one episode; several are played at a time."""
        ...

    def take(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Play with these from now on; the tensors are valid until it returns."""
        ...


Start = Callable[[], Actor]
"""Makes an actor, in the worker; it is sent there."""


class Task(NamedTuple):
    """One episode on its way."""

    place: int
    work: Any
    version: int
    """Of the weights that it must be played with."""


class Weights(NamedTuple):
    """Where a worker finds weights: one bucket of all tensors, in memory that it can see."""

    bucket: Bucket
    handle: Any
    version: int


class Done(NamedTuple):
    """A worker's answer; the place is -1 when it has taken weights."""

    place: int
    result: Any
    error: str | None = None


class Worker(Protocol):
    """The near end of one worker."""

    def send(self, message: Task | Weights) -> None:
        """Pass a message; a worker that has died is found out when it is heard."""
        ...

    def end(self) -> None:
        """End it, if it has not ended."""
        ...


class Crew(Protocol):
    """Makes workers, hears them, and holds the memory that they all see."""

    def hire(self) -> Worker:
        """Start a worker."""
        ...

    def hear(self, workers: Sequence[Worker], seconds: float) -> list[tuple[Worker, Done | None]]:
        """Wait a while for answers; None is the last that is heard of a worker that died."""
        ...

    def share(self, nbytes: int) -> tuple[Any, Tensor]:
        """Return memory for weights, to be written before `handle` is asked for, and its key."""
        ...

    def handle(self, key: Any) -> Any:
        """Return what a worker finds the memory by."""
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...


async def answer(actor: Actor, message: Task | Weights, version: int, memory: Tensor | None) -> Any:
    """Do what a message asks, in the worker.

    Raises:
        WorkersError: An episode is for other weights than those that are here.
    """
    if isinstance(message, Weights):
        assert memory is not None
        actor.take(dict(tensors(message.bucket, memory)), message.version)
        return None
    if message.version != version:
        raise WorkersError(f"an episode for weights {message.version} came to weights {version}")
    return await actor.play(message.work)


@dataclass(eq=False, slots=True)
class _Hired:
    worker: Worker
    tasks: dict[int, Any] = field(default_factory=dict[int, Any])
    """What it is playing, by place."""
    owes: int = 0
    """Weights that it has not said to have taken."""


class Workers:
    """Plays episodes on a crew; a context manager that ends the workers."""

    def __init__(self, crew: Crew, count: int, concurrency: int) -> None:
        """Start the workers.

        Args:
            crew: Where they run: `openk2.rl.crews`.
            count: How many.
            concurrency: Episodes that each of them plays at a time.
        """
        self.version = 0
        """Of the weights that they play with."""
        self.lost = 0
        """Episodes that were begun again because a worker died."""
        self._crew, self._concurrency = crew, concurrency
        self._weights: Weights | None = None
        self._memory: tuple[Bucket, Any, Tensor] | None = None
        self._waiting: deque[tuple[int, Any]] = deque()
        self._results: dict[int, Any] = {}
        self._deaths: dict[int, int] = {}
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._hired = [_Hired(crew.hire()) for _ in range(count)]

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the workers."""
        self.close()

    def close(self) -> None:
        """End the workers; what they play is lost."""
        for one in self._hired:
            one.worker.end()
        self._hired.clear()
        self._memory = self._weights = None
        self._crew.close()

    def push(self, weights: Mapping[str, Tensor], version: int) -> float:
        """Give all workers other weights and return after how many seconds all play with them.

        Episodes that are being played go on with them; see `openk2.rl.sync.push`.

        Raises:
            WorkersError: A worker could not take them.
        """
        began = time.perf_counter()
        with self._turn, self._lock:
            if self._memory is None:
                contents = {name: (tuple(t.shape), t.dtype) for name, t in weights.items()}
                (bucket,) = plan([contents], bucket_bytes=1 << 62)
                self._memory = bucket, *self._crew.share(bucket.nbytes)
            bucket, key, memory = self._memory
            for name, tensor in tensors(bucket, memory):
                tensor.copy_(weights[name].detach())
            self._weights = Weights(bucket, self._crew.handle(key), version)
            self.version = version
            for one in self._hired:
                self._give_weights(one)
            while any(one.owes for one in self._hired):
                self._hear()
        return time.perf_counter() - began

    async def __call__(
        self,
        items: Sequence[Any],
        config: Any,
        on_end: Callable[[int, Any], None] = lambda place, result: None,
    ) -> list[Any]:
        """Play `(item, config)` for each item, beside the event loop; see `play`."""
        loop = asyncio.get_running_loop()

        def tell(place: int, result: Any) -> None:
            loop.call_soon_threadsafe(on_end, place, result)

        return await asyncio.to_thread(self.play, [(item, config) for item in items], tell)

    def play(
        self,
        works: Sequence[Any],
        on_end: Callable[[int, Any], None] = lambda place, result: None,
    ) -> list[Any]:
        """Play episodes and return what became of each, in order.

        Args:
            works: What actors play; each is sent to a worker.
            on_end: Is told of each as it ends, with its place.

        Raises:
            WorkersError: An episode ended its worker again and again, or an actor failed.
        """
        told: set[int] = set()
        with self._lock:
            self._waiting = deque(enumerate(works))
            self._results = {}
            self._deaths.clear()
        while len(told) < len(works):
            with self._turn:  # a push that waits goes first
                pass
            with self._lock:
                self._deal()
                if len(self._results) == len(told):
                    self._hear()
            for place in self._results.keys() - told:
                told.add(place)
                on_end(place, self._results[place])
        return [self._results[place] for place in range(len(works))]

    def _deal(self) -> None:
        """Give episodes to the workers, to those first that have the fewest."""
        while self._waiting:
            one = min(self._hired, key=lambda one: len(one.tasks))
            if len(one.tasks) >= self._concurrency:
                return
            place, work = self._waiting.popleft()
            one.tasks[place] = work
            one.worker.send(Task(place, work, self.version))

    def _hear(self) -> None:
        by_worker = {id(one.worker): one for one in self._hired}
        for worker, done in self._crew.hear([one.worker for one in self._hired], PATIENCE):
            one = by_worker[id(worker)]
            if done is None:
                self._replace(one)
            elif done.error is not None:
                raise WorkersError(f"a worker failed: {done.error}")
            elif done.place < 0:
                one.owes -= 1
            else:
                del one.tasks[done.place]
                self._results[done.place] = done.result

    def _replace(self, dead: _Hired) -> None:
        """Hire a successor, and let what the dead one played wait in front of all others."""
        dead.worker.end()
        self.lost += len(dead.tasks)
        for place in dead.tasks or (-1,):
            self._deaths[place] = self._deaths.get(place, 0) + 1
            if self._deaths[place] >= DEATHS:
                what = f"episode {place} was played" if place >= 0 else "nothing was played"
                raise WorkersError(
                    f"workers died {DEATHS} times while {what}: memory may be too small, try fewer "
                    "workers"
                )
        self._waiting.extendleft(sorted(dead.tasks.items(), reverse=True))
        successor = _Hired(self._crew.hire())
        self._hired[self._hired.index(dead)] = successor
        if self._weights is not None:
            self._give_weights(successor)

    def _give_weights(self, one: _Hired) -> None:
        assert self._weights is not None
        one.owes += 1
        one.worker.send(self._weights)


def memory_of(buffer: Any) -> Tensor:
    """Return a buffer's bytes as a tensor that shares them."""
    return torch.frombuffer(buffer, dtype=torch.uint8)
