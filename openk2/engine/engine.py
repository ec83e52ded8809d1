"""The synchronous engine: requests of different lengths advance together, one step at a time.

In: a runner and requests as token ids. Out: per step, the new tokens of each request.
Must not know: text, stop strings (the caller cancels on a match), threads, or who listens.

One step asks the scheduler what to compute, computes it in one ragged batch and samples a token
for every request whose known tokens have all been read. Where nothing but decoding goes on, and
nobody has to be asked between one token and the next, a step is a burst: several tokens of every
request in one compiled call (`burst.py`). A request with drafted tokens gets logits
for each of them: they are sampled in order, each with the noise of its own place in the answer,
for as long as what is sampled is what was drafted. The output is thus the same with any drafts and
without. All calls but `check` and `prepare` must come from one thread.

The same request gives the same tokens whatever shares its batch, as far as the runner gives the
same logits: PyTorch may round the last bits differently in another batch size. The sampler is
built so that this almost never shows; a near-tie in an expert router, where one bit chooses
another expert, is the one place where it can grow.

Shapes: T tokens of a request, O rows of logits, V vocabulary.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from openk2.engine.burst import decode
from openk2.engine.pace import LONGEST, Pace
from openk2.engine.replace import InFlight, MixedWeightsError, Weights, places_of, write
from openk2.engine.request import (
    Draw,
    Failure,
    GenerationFailedError,
    InvalidRequestError,
    NotFiniteError,
    Output,
    PromptTooLongError,
    QueueFullError,
    Request,
    Token,
)
from openk2.engine.runner import BLOCK, RepeatingRunner, Runner, check_context, check_sizes
from openk2.engine.sampler import Drawn, Mask, RowState, Sampler, check_sampling, seed_of
from openk2.engine.scheduler import Draft, Feed, Scheduler
from openk2.model.safetensors_file import WeightsError
from openk2.types import Sampling

logger = logging.getLogger(__name__)

QUICK_FILL = 1e-4
"""Seconds: a mask that is filled in less is not worth the way to another thread and back."""


class Engine:
    """Continuous batching over one runner and its paged cache."""

    def __init__(
        self,
        runner: Runner,
        *,
        max_batch: int,
        max_len: int,
        stop_ids: frozenset[int],
        max_waiting: int = 64,
        prefill_chunk: int = 512,
        blocks: int | None = None,
        draft: Draft | None = None,
        burst: int = LONGEST,
    ) -> None:
        """Allocate the cache.

        Args:
            runner: Belongs to this engine from here on.
            max_batch: Sequences that decode together.
            max_len: Context window: prompt and answer together; at most what the cache holds.
            stop_ids: Tokens that end an answer.
            max_waiting: Requests that may wait to be admitted; one more is refused.
            prefill_chunk: Prompt tokens read per step, over all prompts.
            blocks: Size of the cache in blocks of 16 tokens. None is enough for `max_batch`
                sequences of `max_len`; with fewer, requests may have to be preempted.
            draft: Proposes next tokens of a request, which are then verified.
            burst: Tokens of a request that one step gives at most, if the runner can repeat.

        Raises:
            ValueError: A size is out of range.
        """
        sizes = {"max_batch": max_batch, "max_waiting": max_waiting, "blocks": blocks}
        check_sizes(sizes | {"prefill_chunk": prefill_chunk, "burst": burst})
        check_context(max_len, runner)
        if blocks is None:
            blocks = max_batch * -(-max_len // BLOCK)
        self.max_len = min(max_len, blocks * BLOCK)
        self.max_waiting = max_waiting
        self.version = 0
        """Of the weights; a token says with which it was drawn."""
        self._mixed: MixedWeightsError | None = None
        self._runner = runner
        self._pace = Pace(runner, draft, burst)
        self._stop_ids = stop_ids
        self._sampler = Sampler(runner.vocab_size, max_batch)
        self._scheduler = Scheduler(
            rows=max_batch,
            blocks=blocks,
            max_len=self.max_len,
            prefill_chunk=prefill_chunk,
            draft=draft,
        )
        self._requests: dict[int, Request] = {}
        self._next_id = itertools.count()
        # One thread, so that a mask is never filled twice at a time.
        self._filler = ThreadPoolExecutor(1, "openk2-mask")
        self._fill_seconds = 8 * QUICK_FILL
        """What filling has taken lately; the next few are filled aside, to find out."""
        self._masks: dict[int, Future[np.ndarray]] = {}
        """What the grammar allows each request's next token to be."""
        runner.allocate(blocks)

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return self._stop_ids

    @property
    def waiting(self) -> int:
        """How many requests wait, those that were preempted included."""
        return len(self._scheduler.waiting)

    @property
    def running(self) -> int:
        """How many requests own blocks."""
        return len(self._scheduler.running)

    @property
    def arriving(self) -> int:
        """How many requests wait to be admitted for the first time: what `max_waiting` bounds."""
        return self._scheduler.arriving

    @property
    def used_blocks(self) -> int:
        """Blocks of the cache that running requests own; others may hold prefixes for reuse."""
        return self._scheduler.pool.used

    @property
    def busy(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self._requests)

    def check(self, prompt_ids: Sequence[int], sampling: Sampling) -> None:
        """Refuse a request that could never run; reads only what never changes.

        Raises:
            InvalidRequestError: Empty prompt, an id outside the vocabulary, bad sampling settings.
            PromptTooLongError: No room in the context window for a single new token.
        """
        check_sampling(sampling, self._runner.vocab_size)
        if not prompt_ids:
            raise InvalidRequestError("the prompt has no tokens; send at least one")
        if len(prompt_ids) >= self.max_len:
            raise PromptTooLongError(len(prompt_ids), self.max_len)
        vocab_size = self._runner.vocab_size
        for token_id in (min(prompt_ids), max(prompt_ids)):
            if not 0 <= token_id < vocab_size:
                raise InvalidRequestError(
                    f"prompt token {token_id} is outside the vocabulary of {vocab_size}; "
                    "encode the prompt with this model's tokenizer"
                )

    def prepare(
        self, prompt_ids: Sequence[int], sampling: Sampling, mask: Mask | None = None
    ) -> Request:
        """Check a request and make it ready to be queued; may be called from any thread.

        Args:
            prompt_ids: At least one.
            sampling: How tokens are chosen.
            mask: Says before each token which ones are allowed; this request's own.

        Raises:
            InvalidRequestError: See `check`.
        """
        self.check(prompt_ids, sampling)
        length = len(prompt_ids)
        room = self.max_len - length
        max_new = room if sampling.max_tokens is None else min(room, sampling.max_tokens)
        ids_T = np.empty(length + max_new, np.int32)
        ids_T[:length] = prompt_ids
        seed = seed_of(sampling.seed)
        return Request(
            ids_T=ids_T,
            prompt_length=length,
            sampling=sampling,
            max_new=max_new,
            state=RowState(sampling, prompt_ids, self._runner.vocab_size, seed),
            length=length,
            mask=mask,
        )

    def enqueue(self, request: Request) -> int:
        """Queue what `prepare` returned and return its id.

        Raises:
            QueueFullError: `max_waiting` requests are waiting already.
        """
        if self.arriving >= self.max_waiting:
            raise QueueFullError(self.max_waiting)
        request.id = next(self._next_id)
        self._requests[request.id] = request
        self._scheduler.submit(request)
        return request.id

    def submit(
        self, prompt_ids: Sequence[int], sampling: Sampling, mask: Mask | None = None
    ) -> int:
        """Queue a request and return its id.

        Raises:
            QueueFullError: `max_waiting` requests are waiting already.
            InvalidRequestError: See `check`.
        """
        return self.enqueue(self.prepare(prompt_ids, sampling, mask))

    def cancel(self, request_id: int) -> bool:
        """Drop a request and free its blocks now; false if it had already ended."""
        request = self._requests.pop(request_id, None)
        if request is None:
            return False
        self._scheduler.remove(request)
        return True

    def step(self) -> list[Output]:
        """Advance every running request; a request's outputs end with a finish or a failure."""
        if self._mixed is not None:
            return [self._fail(request, self._mixed) for request in [*self._requests.values()]]
        feeds = self._scheduler.plan()
        if not feeds:
            return []
        steps = 0
        if len(feeds) == self.running and (steps := self._pace.steps(feeds, self._masks)):
            steps = self._scheduler.reserve(feeds, steps)
        began = time.perf_counter()
        if self._pace.runner is not None and steps > 1:
            outputs, steps = self._decode(self._pace.runner, feeds, steps)
        else:
            outputs = self._run(feeds)
        if steps:
            self._pace.took(time.perf_counter() - began, steps)
        return outputs

    def replace_weights(
        self,
        weights: Weights,
        *,
        version: int | None = None,
        in_flight: InFlight = "keep",
    ) -> None:
        """Write other weights over these ones, between two steps; no request is lost.

        Args:
            weights: Of the same model, trained on or published anew.
            version: What tokens say from now on; None is one more than before.
            in_flight: What running requests go on with; new ones share no prefix with them.

        Raises:
            CannotReplaceError: They are another model's, or the runner cannot; all is as before.
            MixedWeightsError: It failed half-way: every request fails until it has succeeded.
        """
        try:
            write(places_of(self._runner), weights)
        except MixedWeightsError as error:
            self._mixed = error
            raise
        self._mixed = None
        self.version = self.version + 1 if version is None else version
        self._scheduler.renew(reread=in_flight == "reread")

    def interrupt(self) -> None:
        """End a burst that is going on after the token it is at; may be called from any thread."""
        self._pace.interrupt[0] = 1

    def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling
    ) -> Generator[Token, None, None]:
        """Run one request to its end on the caller's thread, with no other request around.

        Raises:
            RuntimeError: Other requests are in the engine; their outputs would be lost here.
            GenerationFailedError: The model raised.
        """
        if self.busy:
            raise RuntimeError(
                f"the engine has {self.waiting + self.running} requests of others; "
                "use submit and step, or an EngineThread"
            )
        request_id = self.submit(prompt_ids, sampling)
        try:
            while self.busy:
                for output in self.step():
                    if isinstance(output, Failure):
                        raise output.error
                    yield output
        finally:
            self.cancel(request_id)

    def _decode(
        self, runner: RepeatingRunner, feeds: list[Feed], steps: int
    ) -> tuple[list[Output], int]:
        """Decode several tokens of every request in one compiled call; also say how many."""
        watched = set(self._stop_ids)
        for feed in feeds:
            if feed.request.mask is not None:
                watched |= feed.request.mask.until or set()
        states = [feed.request.state for feed in feeds]
        try:
            steps_drawn = decode(
                runner,
                self._scheduler.batch(feeds),
                self._sampler,
                states,
                [self._allowed(feed.request) for feed in feeds] if self._masks else None,
                steps=steps,
                watched=sorted(watched),
                interrupt=self._pace.interrupt,
            )
        except Exception:
            logger.exception("a burst of %d requests failed", len(feeds))
            return self._run(feeds), 1
        outputs: list[Output] = []
        for drawn_O in steps_drawn:
            for feed, drawn in zip(feeds, drawn_O, strict=True):
                feed.request.computed += 1
                outputs += self._accept(feed.request, drawn)
        self._commit(feeds)
        return outputs, len(steps_drawn)

    def _commit(self, feeds: list[Feed]) -> None:
        for feed in feeds:
            if feed.request.row >= 0:
                self._scheduler.commit(feed.request)

    def _run(self, feeds: list[Feed]) -> list[Output]:
        """Compute the feeds in one batch; if that fails, each by itself."""
        for feed in feeds:
            request = feed.request
            if request.mask is not None and feed.wanted and request.id not in self._masks:
                self._masks[request.id] = self._ask(request.mask)
        try:
            logits_OV = self._runner.forward(self._scheduler.batch(feeds))
        except WeightsError as error:
            logger.error("%s", error)
            return self._run_alone(feeds, error)
        except Exception as error:
            logger.exception("the model failed in a batch of %d requests", len(feeds))
            return self._run_alone(feeds, error)
        outputs = self._verify(feeds, logits_OV)
        self._commit(feeds)
        return outputs

    def _run_alone(self, feeds: list[Feed], error: Exception) -> list[Output]:
        if len(feeds) == 1:
            return [self._fail(feeds[0].request, error)]
        return [output for feed in feeds for output in self._run([feed])]

    def _ask(self, mask: Mask) -> Future[np.ndarray]:
        """Have a mask filled, beside the forward pass if it takes long."""
        if self._fill_seconds > QUICK_FILL:
            return self._filler.submit(self._fill, mask)
        filled: Future[np.ndarray] = Future()
        try:
            filled.set_result(self._fill(mask))
        except Exception as error:  # noqa: BLE001  -- its request fails where it is read
            filled.set_exception(error)
        return filled

    def _fill(self, mask: Mask) -> np.ndarray:
        began = time.thread_time()
        bits_W = np.zeros(-(-self._runner.vocab_size // 32), np.uint32)
        mask.fill(bits_W)
        taken = time.thread_time() - began
        self._fill_seconds = max(taken, (self._fill_seconds + taken) / 2)
        return bits_W

    def _verify(self, feeds: list[Feed], logits_OV: np.ndarray) -> list[Output]:
        """Sample each request's next token, and go on while it is the drafted one."""
        outputs: list[Output] = []
        live: list[tuple[Feed, int]] = []
        row = 0
        for feed in feeds:
            wanted = feed.wanted
            if wanted:
                live.append((feed, row))
                row += wanted
            feed.request.computed += feed.count
            feed.request.drafted += len(feed.drafts)
        place = 0
        while live:
            matched: list[tuple[Feed, int]] = []
            drawn = self._sample(live, logits_OV)
            for (feed, row), token in zip(live, drawn, strict=True):
                accepted = self._accept(feed.request, token)
                outputs += accepted
                output = accepted[0]
                if isinstance(output, Failure) or place == len(feed.drafts):
                    continue
                if output.id == feed.drafts[place]:
                    feed.request.accepted += 1
                    if output.finish_reason is None:
                        feed.request.computed += 1
                        matched.append((feed, row + 1))
            live = matched
            place += 1
        return outputs

    def _sample(
        self, live: list[tuple[Feed, int]], logits_OV: np.ndarray
    ) -> Sequence[Drawn | Exception]:
        rows = [row for _, row in live]
        states = [feed.request.state for feed, _ in live]
        chosen_OV = logits_OV if len(rows) == len(logits_OV) else logits_OV[rows]
        try:
            masks = None
            if self._masks:
                masks = [self._allowed(feed.request) for feed, _ in live]
            draws = self._sampler.sample(chosen_OV, states, masks=masks)
        except Exception as error:
            logger.exception("sampling failed in a batch of %d requests", len(live))
            if len(live) == 1:
                return [error]
            return [drawn for one in live for drawn in self._sample([one], logits_OV)]
        return draws.each()

    def _allowed(self, request: Request) -> np.ndarray | None:
        filled = self._masks.get(request.id)
        return None if filled is None else filled.result()

    def _accept(self, request: Request, drawn: Drawn | Exception) -> list[Output]:
        """Append a drawn token to the answer, and what the grammar leaves no choice about."""
        if isinstance(drawn, Exception):
            return [self._fail(request, drawn)]
        token_id, logprob, top, draw = drawn
        if not math.isfinite(logprob):
            return [self._fail(request, NotFiniteError(masked=request.mask is not None))]
        mask = request.mask
        if mask is None:
            return [self._append(request, token_id, logprob, top, draw)]
        until = mask.until
        outputs: list[Output] = []
        try:
            mask.accept(token_id)
            outputs.append(self._append(request, token_id, logprob, top, draw))
            if until is None or token_id in until:
                self._masks.pop(request.id, None)
                outputs += self._jump(request, mask)
        except Exception as error:
            logger.exception("the mask of request %d failed", request.id)
            outputs.append(self._fail(request, error))
        return outputs

    def _jump(self, request: Request, mask: Mask) -> Iterator[Token]:
        if request.sampling.logprobs or request.id not in self._requests:
            return
        for token_id in mask.jump():
            if request.id in self._requests:
                yield self._append(request, token_id, 0.0, ())

    def _append(
        self,
        request: Request,
        token_id: int,
        logprob: float,
        top: tuple[tuple[int, float], ...],
        draw: Draw | None = None,
    ) -> Token:
        request.state.accept(token_id)
        reason = request.append(token_id, self._stop_ids)
        if reason is not None:
            self._scheduler.commit(request)
            self._scheduler.remove(request)
            self._masks.pop(request.id, None)
            del self._requests[request.id]
        told = reason, request.cached_tokens, top, draw, self.version
        return Token(request.id, token_id, logprob, *told)

    def _fail(self, request: Request, error: Exception) -> Failure:
        if request.row < 0:
            self._scheduler.remove(request)
        else:
            self._scheduler.discard(request)
        self._masks.pop(request.id, None)
        del self._requests[request.id]
        return Failure(request.id, GenerationFailedError(request.id, error))
