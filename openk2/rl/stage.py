"""Where episodes are played: an event loop on a thread of its own, beside the one that learns.

In: problems, and weights when there are new ones. Out: futures of collected episodes. Must not
know: how one episode is played, what is learned from it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from openk2.agent.model import ChatModel
from openk2.engine.loading import load_engine
from openk2.model.transformer import Transformer
from openk2.rl.collect import Outcome, Play, collect
from openk2.rl.config import RlConfig
from openk2.rl.critic import KnownPair
from openk2.rl.critique import Critique, CritiqueConfig
from openk2.rl.player import Policy, RolloutConfig
from openk2.rl.practice import Practice
from openk2.rl.rollout import Item, rollouts
from openk2.rl.state import Collected, Pending
from openk2.rl.sync import push
from openk2.rl.verdict import spoken_verdict, token_verdict
from openk2.text.tokenizer import Tokenizer
from openk2.train.loop import pick_device

T = TypeVar("T")
OpenJudge = Callable[[], AbstractAsyncContextManager[ChatModel]]
"""Opens a model that judges, in the event loop in which it is then asked."""


class Stage:
    """Plays with the policy as it was pushed last; a context manager that ends the thread."""

    def __init__(self, policy: Policy, play: Play, rows: int) -> None:
        """Start the thread.

        Args:
            policy: What is pushed to.
            play: Plays an episode.
            rows: Episodes that can be played at one time.
        """
        self.policy, self._play, self._rows = policy, play, rows
        self.critique: Critique | None = None
        """Set by `open_critique`."""
        self._loop = asyncio.new_event_loop()
        self._open = AsyncExitStack()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openk2-episodes")
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
        """End what was opened, then the thread."""
        try:
            self._submit(self._end()).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def open_critique(
        self, config: CritiqueConfig, judged: frozenset[str], judge: OpenJudge | None
    ) -> None:
        """Have answers compared by the policy itself, or by another model.

        Raises:
            ValueError: The rubrics are wrong, or the vocabulary cannot say a verdict.
        """
        if judge is None:
            verdict = token_verdict(self.policy.source, self.policy.tokenizer)
        else:
            model = self._submit(self._open.enter_async_context(judge())).result()
            verdict = spoken_verdict(model)
        self.critique = Critique(verdict, config, judged)

    @property
    def known(self) -> tuple[KnownPair, ...]:
        """Return the pairs that the critic is measured on."""
        return () if self.critique is None else tuple(self.critique.known)

    @known.setter
    def known(self, pairs: tuple[KnownPair, ...]) -> None:
        if self.critique is not None:
            self.critique.known = list(pairs)

    def collect(
        self,
        practice: Practice,
        problems: Sequence[Pending],
        config: RolloutConfig,
        samples: int,
        seed: int,
        on_episode: Callable[[int, int], None],
    ) -> Future[Collected]:
        """Begin to play, and to judge what was played."""

        async def work() -> Collected:
            played = await collect(self._play, practice, problems, config, samples, on_episode)
            if self.critique is None:
                return played
            whole, lessons, numbers = await self.critique.reward(played.whole, practice, seed)
            return replace(played, whole=tuple(whole), lessons=tuple(lessons), numbers=numbers)

        return self._submit(work())

    def examine(
        self,
        exam: Practice,
        problems: Sequence[Pending],
        config: RolloutConfig,
        samples: int,
        on_episode: Callable[[int, int], None],
    ) -> Collected:
        """Play and wait; nobody judges."""
        return self._submit(
            collect(self._play, exam, problems, config, samples, on_episode)
        ).result()

    def push(self, model: Transformer, version: int) -> None:
        """Play with other weights from now on."""
        push(model, self.policy.source, version=version)

    def utilisation(self, played: Collected) -> float:
        """Return which part of the places for episodes was taken, on the average."""
        return min(1.0, played.busy / max(1e-9, played.seconds * self._rows))

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _end(self) -> None:
        me = asyncio.current_task()
        left = [task for task in asyncio.all_tasks() if task is not me]
        for task in left:  # of a run that was interrupted
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._open.aclose()


@contextmanager
def open_stage(config: RlConfig, tokenizer: Tokenizer, judge: OpenJudge | None) -> Iterator[Stage]:
    """Load the engine and open a stage in which its policy plays.

    Raises:
        ValueError: Model and tokenizer do not fit each other, or the rubrics are wrong.
    """
    engine, _ = load_engine(
        Path(config.model),
        stop_ids=frozenset((tokenizer.im_end, tokenizer.eos)),
        vocab_size=tokenizer.vocab_size,
        max_batch=config.concurrency,
        context=config.context,
        device=str(pick_device(config.policy.device)),
    )
    concurrency = config.concurrency
    with Policy(engine, tokenizer) as policy:

        async def here(
            items: Sequence[Item], config: RolloutConfig, on_end: Callable[[int, Outcome], None]
        ) -> Sequence[Outcome]:
            return await rollouts(policy, items, config, concurrency, on_end)

        with Stage(policy, here, concurrency) as stage:
            judged = frozenset(name for name, one in config.families.items() if one.judged)
            stage.open_critique(config.critique, judged, judge)
            yield stage
