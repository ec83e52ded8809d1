"""Where parts are worked on: in processes of this machine, or on a Ray cluster.

Both hand the parts back in order, a few ahead of what is asked for; a worker that dies costs its
part, which is done again.

In: work and settings. Out: parts in order. Must not know: what a part is.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from openk2.synth.config import SynthConfig
from openk2.synth.stages import Part

Work = Callable[[SynthConfig, int], Part]
_AHEAD = 2
"""Parts per worker that are begun before they are asked for."""
_RESTARTS = 3
"""Times that workers may die before the run gives up."""


class WorkersDied(RuntimeError):
    """Workers ended again and again without an answer."""


class Processes:
    """Worker processes of this machine."""

    def __init__(self, count: int) -> None:
        """Set how many there are; they start with the first part."""
        self.count = count

    def __call__(self, work: Work, config: SynthConfig, first: int) -> Iterator[Part]:
        """Yield parts in order.

        Raises:
            WorkersDied: Processes were killed several times; the memory may be too small.
        """
        at, deaths = first, 0
        while True:
            try:
                for part in self._run(work, config, at):
                    yield part
                    at += 1
            except BrokenProcessPool as error:
                deaths += 1
                if deaths > _RESTARTS:
                    raise WorkersDied(
                        f"worker processes were killed {deaths} times at part {at}: try fewer with "
                        "--workers, or look for what ends them"
                    ) from error

    def _run(self, work: Work, config: SynthConfig, first: int) -> Iterator[Part]:
        context = multiprocessing.get_context("spawn")  # forking is unsafe beside threads
        with ProcessPoolExecutor(self.count, context) as pool:
            waiting: deque[Future[Part]] = deque()
            try:
                for number in itertools.count(first):
                    waiting.append(pool.submit(work, config, number))
                    if len(waiting) > self.count * _AHEAD:
                        yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()


class RayCluster:
    """Tasks on a Ray cluster."""

    def __init__(self, address: str) -> None:
        """Connect; `local` starts one on this machine.

        Raises:
            ModuleNotFoundError: Ray is not installed.
            ConnectionError: There is no cluster at the address.
        """
        import ray

        self.ray: Any = ray
        self.ray.init(None if address == "local" else address, log_to_driver=False)

    def __call__(self, work: Work, config: SynthConfig, first: int) -> Iterator[Part]:
        """Yield parts in order; Ray does the work of a lost node again elsewhere."""
        ray = self.ray
        remote = ray.remote(max_retries=_RESTARTS)(work)
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting: deque[Any] = deque()
        for number in itertools.count(first):
            waiting.append(remote.remote(config, number))
            if len(waiting) > cores * _AHEAD:
                yield ray.get(waiting.popleft())
