"""The synchronous engine: requests of different lengths advance together, one step at a time.

In: a model and requests as token ids. Out: per step, at most one token per request.
Must not know: text, stop strings (the caller cancels on a match), threads, or who listens.

One step admits waiting requests into free cache slots first come first served, reads at most
`prefill_chunk` prompt tokens (so a long prompt delays the running streams by one chunk at a time),
then decodes every running row in one batch. All calls must come from one thread.

The same request gives the same tokens whatever shares its batch, as far as the model gives the
same logits: a matrix product may round the last bits differently in another batch size. The
sampler is built so that this almost never shows (see there); a near-tie in an expert router, where
one bit chooses another expert, is the one place where it can grow.

Shapes: B rows, T tokens per row, V vocabulary.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections import OrderedDict
from collections.abc import Generator, Sequence

import torch

from openk2.engine.cache import SlotPool
from openk2.engine.request import (
    Failure,
    GenerationFailedError,
    InvalidRequestError,
    Output,
    PromptTooLongError,
    QueueFullError,
    Request,
    Token,
    check_sampling,
)
from openk2.engine.sampler import sample
from openk2.model.safetensors_file import WeightsError
from openk2.model.transformer import LatentCache, Transformer
from openk2.types import Sampling

logger = logging.getLogger(__name__)


class Engine:
    """Continuous batching over one model and one latent cache."""

    def __init__(
        self,
        model: Transformer,
        *,
        max_batch: int,
        max_len: int,
        stop_ids: frozenset[int],
        max_waiting: int = 64,
        prefill_chunk: int = 512,
    ) -> None:
        """Allocate the cache, on the model's device and in its number format.

        Args:
            model: Not changed, and not to be changed while requests run.
            max_batch: Sequences that decode together; each owns a row of the cache.
            max_len: Context window: prompt and answer together.
            stop_ids: Tokens that end an answer.
            max_waiting: Requests that may wait for a row; one more is refused.
            prefill_chunk: Prompt tokens read per step, over all prompts.

        Raises:
            ValueError: A size is out of range.
        """
        sizes = {"max_batch": max_batch, "max_waiting": max_waiting, "prefill_chunk": prefill_chunk}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} is {size}; use 1 or more")
        if not 2 <= max_len <= model.config.max_position_embeddings:
            raise ValueError(
                f"max_len is {max_len}; use 2 (one token in, one out) to "
                f"{model.config.max_position_embeddings}, the model's max_position_embeddings"
            )
        self.max_len = max_len
        self.max_waiting = max_waiting
        self._model = model
        self._stop_ids = stop_ids
        self._prefill_chunk = prefill_chunk
        self._device = model.device
        self._cache = LatentCache(model.config, max_batch, max_len, model.dtype, self._device)
        self._slots = SlotPool(max_batch)
        self._stale: dict[int, int] = {}
        self._waiting: OrderedDict[int, Request] = OrderedDict()
        self._running: dict[int, Request] = {}
        self._next_id = itertools.count()

    @property
    def waiting(self) -> int:
        """How many requests wait for a slot."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many requests own a slot."""
        return len(self._running)

    @property
    def free_slots(self) -> int:
        """How many slots nobody owns."""
        return self._slots.free

    @property
    def busy(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self._waiting or self._running)

    def check(self, prompt_ids: Sequence[int], sampling: Sampling) -> None:
        """Refuse a request that could never run; reads only what never changes.

        Raises:
            InvalidRequestError: Empty prompt, an id outside the vocabulary, bad sampling settings.
            PromptTooLongError: No room in the context window for a single new token.
        """
        check_sampling(sampling)
        if not prompt_ids:
            raise InvalidRequestError("the prompt has no tokens; send at least one")
        if len(prompt_ids) >= self.max_len:
            raise PromptTooLongError(len(prompt_ids), self.max_len)
        vocab_size = self._model.config.vocab_size
        for token_id in (min(prompt_ids), max(prompt_ids)):
            if not 0 <= token_id < vocab_size:
                raise InvalidRequestError(
                    f"prompt token {token_id} is outside the vocabulary of {vocab_size}; "
                    "encode the prompt with this model's tokenizer"
                )

    def submit(self, prompt_ids: Sequence[int], sampling: Sampling) -> int:
        """Queue a request and return its id.

        Raises:
            QueueFullError: `max_waiting` requests are waiting already.
            InvalidRequestError: See `check`.
        """
        self.check(prompt_ids, sampling)
        if len(self._waiting) >= self.max_waiting:
            raise QueueFullError(self.max_waiting)
        room = self.max_len - len(prompt_ids)
        max_new = room if sampling.max_tokens is None else min(room, sampling.max_tokens)
        request = Request(
            id=next(self._next_id),
            prompt_ids=tuple(prompt_ids),
            sampling=sampling,
            max_new=max_new,
            generator=self._seeded(sampling.seed),
        )
        self._waiting[request.id] = request
        return request.id

    def cancel(self, request_id: int) -> bool:
        """Drop a request and free its slot now; false if it had already ended."""
        return self._waiting.pop(request_id, None) is not None or self._release(request_id)

    @torch.inference_mode()
    def step(self) -> list[Output]:
        """Advance every running request; a request's outputs end with a finish or a failure."""
        while self._waiting and self._slots.free:
            _, request = self._waiting.popitem(last=False)
            request.slot = self._slots.acquire()
            self._running[request.id] = request
        reading = [request for request in self._running.values() if request.prefilling]
        decoding = [request for request in self._running.values() if not request.prefilling]
        outputs = self._prefill(reading)
        if decoding:
            outputs += self._forward(decoding, [[request.last_id] for request in decoding])
        return outputs

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

    def _prefill(self, reading: list[Request]) -> list[Output]:
        outputs: list[Output] = []
        budget = self._prefill_chunk
        for request in reading:
            if budget == 0:
                break
            chunk = request.prompt_ids[request.cached : request.cached + budget]
            budget -= len(chunk)
            # One prompt at a time: its latents then do not depend on what else arrived.
            outputs += self._forward([request], [chunk])
        return outputs

    def _forward(self, requests: list[Request], ids_BT: list[Sequence[int]]) -> list[Output]:
        """Feed every row's new tokens; sample a token for the rows whose prompt is then read."""
        new_tokens = len(ids_BT[0])
        samples = requests[0].cached + new_tokens >= len(requests[0].prompt_ids)
        try:
            if requests[0].cached == 0:
                self._wipe(requests[0].slot)
            logits_BV = self._model.infer(
                self._tensor(ids_BT),
                self._cache,
                self._tensor([request.slot for request in requests]),
                self._tensor([request.cached for request in requests]),
                self._tensor([new_tokens] * len(requests)),
            )
            chosen = self._sample(requests, logits_BV) if samples else []
        except WeightsError as error:
            logger.error("%s", error)
            return [self._fail(request, error) for request in requests]
        except Exception as error:
            logger.exception("the model failed in a step of %d requests", len(requests))
            return [self._fail(request, error) for request in requests]
        for request in requests:
            request.cached += new_tokens
        if not samples:
            return []
        return [
            self._accept(request, token_id, logprob)
            for request, (token_id, logprob) in zip(requests, chosen, strict=True)
        ]

    def _seeded(self, seed: int | None) -> torch.Generator:
        generator = torch.Generator(self._device)
        if seed is None:
            generator.seed()
        else:
            # Any integer is a seed for an API client; torch takes 64 bits.
            generator.manual_seed(seed % 2**64)
        return generator

    def _wipe(self, slot: int) -> None:
        # Attention multiplies what a row must not see by zero, and zero times a NaN that a failed
        # request left there is NaN.
        self._cache.latent_LNSR[:, slot, : self._stale.pop(slot, 0)].zero_()

    def _tensor(self, values: Sequence[object]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._device)

    def _sample(self, requests: list[Request], logits_BV: torch.Tensor) -> list[tuple[int, float]]:
        settings = [(r.sampling.temperature, r.sampling.top_p) for r in requests]
        temperature_B, top_p_B = torch.tensor(settings, dtype=torch.float64, device=self._device).T
        noise_BV = torch.ones_like(logits_BV, dtype=torch.float64)
        for request, noise_V in zip(requests, noise_BV, strict=True):
            if request.sampling.temperature > 0:
                noise_V.exponential_(generator=request.generator)
        token_B, logprob_B = sample(logits_BV, temperature_B, top_p_B, noise_BV)
        return list(zip(token_B.tolist(), logprob_B.tolist(), strict=True))

    def _accept(self, request: Request, token_id: int, logprob: float) -> Output:
        if not math.isfinite(logprob):
            error = FloatingPointError(
                "the logits are not finite: the weights may be damaged; "
                "`openk2 inspect --verify` reads every tensor and names the one"
            )
            return self._fail(request, error)
        token = request.accept(token_id, logprob, self._stop_ids)
        if token.finish_reason is not None:
            self._release(request.id)
        return token

    def _fail(self, request: Request, error: Exception) -> Failure:
        self._release(request.id)
        return Failure(request.id, GenerationFailedError(request.id, error))

    def _release(self, request_id: int) -> bool:
        request = self._running.pop(request_id, None)
        if request is None:
            return False
        # A chunk may have been written and not counted when the model raised; an owner that left
        # before its first chunk has wiped nothing, so what was stale before it still is.
        written = request.cached + self._prefill_chunk
        self._stale[request.slot] = max(written, self._stale.get(request.slot, 0))
        self._slots.release(request.slot)
        return True
