"""Where workers run: processes of this machine, or actors of a Ray cluster.

In: what makes an actor. Out: workers that are sent messages and heard. Must not know: episodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.shared_memory import SharedMemory
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from openk2.rl.workers import Actor, Done, Start, Task, Weights, Worker, answer, memory_of

GRACE = 5.0
"""Seconds that a process has to end by itself."""


class LocalCrew:
    """Processes of this machine; weights lie in memory that they share."""

    def __init__(self, start: Start, threads: int = 1) -> None:
        """Set what each process makes.

        Args:
            start: Makes its actor; sent by pickle.
            threads: Of PyTorch in each process.
        """
        self._start, self._threads = start, threads
        # Forking is unsafe beside threads, and every spawned process would import torch anew: a
        # process without threads imports once and forks all workers, successors of dead ones too.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["openk2.rl.actor"])
        self._memory: SharedMemory | None = None

    def hire(self) -> Worker:
        """Start a process."""
        return _Process(self._context, self._start, self._threads)

    def hear(self, workers: Sequence[Worker], seconds: float) -> list[tuple[Worker, Done | None]]:
        """Wait a while for answers; a process that ends closes its pipe."""
        by_pipe = {one.pipe: one for one in cast("Sequence[_Process]", workers)}
        heard: list[tuple[Worker, Done | None]] = []
        for ready in wait(list(by_pipe), seconds):
            pipe = cast("Connection[Any, Any]", ready)
            try:
                heard.append((by_pipe[pipe], pipe.recv()))
            except (EOFError, OSError):
                heard.append((by_pipe[pipe], None))
        return heard

    def share(self, nbytes: int) -> tuple[Any, Tensor]:
        """Make shared memory."""
        self._memory = SharedMemory(create=True, size=max(1, nbytes))
        return self._memory.name, memory_of(self._memory.buf)

    def handle(self, key: Any) -> Any:
        """Return its name."""
        return key

    def close(self) -> None:
        """Give the shared memory back."""
        if self._memory is not None:
            self._memory.unlink()
            with contextlib.suppress(BufferError):  # a tensor over it lives: its end closes it
                self._memory.close()
            self._memory = None


class _Process:
    def __init__(self, context: Any, start: Start, threads: int) -> None:
        self.pipe, far = context.Pipe()
        arguments = far, start, threads
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        far.close()  # or its end would not be noticed

    def send(self, message: Task | Weights) -> None:
        with contextlib.suppress(OSError):
            self.pipe.send(message)

    def end(self) -> None:
        self.pipe.close()
        self.process.join(GRACE if self.process.exitcode is None else None)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()


def _serve(pipe: Connection[Any, Any], start: Start, threads: int) -> None:
    torch.set_num_threads(threads)
    asyncio.run(_answer(pipe, start))


async def _answer(pipe: Connection[Any, Any], start: Start) -> None:
    """Do what comes until the other end is closed; episodes side by side."""
    actor, version = start(), 0
    memory: SharedMemory | None = None
    playing: set[asyncio.Task[None]] = set()
    while True:
        try:
            message = await asyncio.to_thread(pipe.recv)
        except (EOFError, OSError):
            break
        if isinstance(message, Weights):
            if memory is None:
                memory = SharedMemory(message.handle)
            pipe.send(await _done(actor, message, version, memory_of(memory.buf)))
            version = message.version
            continue
        task = asyncio.create_task(_play(pipe, actor, message, version))
        playing.add(task)
        task.add_done_callback(playing.discard)
    for task in playing:
        task.cancel()


async def _play(pipe: Connection[Any, Any], actor: Actor, message: Task, version: int) -> None:
    done = await _done(actor, message, version, None)
    with contextlib.suppress(OSError):  # nobody listens any more
        pipe.send(done)


async def _done(actor: Actor, message: Task | Weights, version: int, memory: Tensor | None) -> Done:
    place = message.place if isinstance(message, Task) else -1
    try:
        return Done(place, await answer(actor, message, version, memory))
    except Exception:  # noqa: BLE001 - the other end raises it
        return Done(place, None, traceback.format_exc())


class RayCrew:
    """Actors of a Ray cluster; weights lie in its object store."""

    def __init__(self, start: Start, address: str, concurrency: int) -> None:
        """Connect; `local` starts a cluster on this machine.

        Args:
            start: Makes an actor; sent by pickle.
            address: Of the cluster.
            concurrency: Episodes that an actor plays at a time.

        Raises:
            ModuleNotFoundError: Ray is not installed.
            ConnectionError: There is no cluster at the address.
        """
        import ray

        self.ray: Any = ray
        if not self.ray.is_initialized():
            self.ray.init(None if address == "local" else address, log_to_driver=False)
        # One more, so that weights and the first episodes do not wait for each other.
        self._actor = self.ray.remote(max_concurrency=concurrency + 1)(_RayActor)
        self._start = start
        self._buffer: Any = None

    def hire(self) -> Worker:
        """Start an actor."""
        return _RayWorker(self.ray, self._actor.remote(self._start))

    def hear(self, workers: Sequence[Worker], seconds: float) -> list[tuple[Worker, Done | None]]:
        """Wait a while for one answer."""
        of = {ref: one for one in cast("Sequence[_RayWorker]", workers) for ref in one.asked}
        ready, _ = self.ray.wait(list(of), num_returns=1, timeout=seconds)
        for ref in ready:
            of[ref].asked.remove(ref)
            try:
                return [(of[ref], self.ray.get(ref))]
            except self.ray.exceptions.RayActorError:
                return [(of[ref], None)]
        return []

    def share(self, nbytes: int) -> tuple[Any, Tensor]:
        """Make memory of this process; `handle` copies it into the object store."""
        self._buffer = np.zeros(max(1, nbytes), np.uint8)
        return None, torch.from_numpy(self._buffer)

    def handle(self, key: Any) -> Any:
        """Put what was written into the object store."""
        del key
        return [self.ray.put(self._buffer)]  # in a list: or Ray would send the bytes themselves

    def close(self) -> None:
        """Forget the weights; the connection stays, it may be somebody else's."""
        self._buffer = None


class _RayWorker:
    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor
        self.asked: list[Any] = []

    def send(self, message: Task | Weights) -> None:
        self.asked.append(self._actor.answer.remote(message))

    def end(self) -> None:
        self._ray.kill(self._actor)


class _RayActor:
    """The far end, made by Ray."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._actor: Actor | None = None
        self._version = 0
        self._turn = asyncio.Lock()

    async def answer(self, message: Task | Weights) -> Done:
        async with self._turn:  # the actor is made, and gets its weights, before it plays
            if self._actor is None:
                self._actor = self._start()
            if isinstance(message, Weights):
                import ray

                stored: Any = await asyncio.to_thread(cast("Any", ray).get, message.handle[0])
                memory = torch.from_numpy(np.array(stored))  # what Ray stores cannot be written
                done = await _done(self._actor, message, self._version, memory)
                self._version = message.version
                return done
        return await _done(self._actor, message, self._version, None)
