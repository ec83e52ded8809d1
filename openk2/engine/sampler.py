"""Rows and settings to tokens: what a request's sampling remembers, and one call for a whole batch.

In: float32 logits per row and each row's settings, seed and tokens so far. Out: a token id, its
log-probability and the most likely others per row.
Must not know: the arithmetic (`draw.py`), the model, requests, threads, or what a token means.

Shapes: O rows, V vocabulary, W = ceil(V / 32) mask words, E edits of logits, K most likely tokens.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from openk2.engine.draw import BINS, BLOCK, EDIT, ROW, SPAN, min_p_floor, sample_rows
from openk2.engine.request import Draw, InvalidRequestError
from openk2.types import Sampling

MAX_TOPS = 20
"""The most `top_logprobs` that can be asked for: OpenAI's limit."""
BITS_64 = (1 << 64) - 1


class Mask(Protocol):
    """What a grammar allows next; `fill` runs on another thread during the forward pass."""

    @property
    def until(self) -> frozenset[int] | None:
        """The ids before which what is allowed stays as it is now; None: any may change it."""
        ...

    def fill(self, bits_W: np.ndarray) -> None:
        """Set bit v % 32 of uint32 word v // 32 where token v is allowed, clear all others."""
        ...

    def accept(self, token_id: int) -> None:
        """Move on by one token of the answer."""
        ...

    def jump(self) -> Sequence[int]:
        """Return tokens that have to come next, and move on past them."""
        ...


class RowState:
    """One request's settings, seed and token counts; no larger than what its penalties need."""

    def __init__(
        self, sampling: Sampling, prompt_ids: Sequence[int], vocab_size: int, seed64: int
    ) -> None:
        """Count the prompt if a penalty asks for it.

        Raises:
            InvalidRequestError: A setting is out of range.
        """
        check_sampling(sampling, vocab_size)
        self.sampling = sampling
        self.seed64 = seed64
        self.index = 0
        """Of the next token in the answer."""
        self._repeats = sampling.repetition_penalty != 1
        self._counts = bool(sampling.presence_penalty or sampling.frequency_penalty)
        bias = dict(sampling.logit_bias)
        seen = set(prompt_ids) if self._repeats else set[int]()
        ids = sorted(bias.keys() | seen)
        self._slot = {token: slot for slot, token in enumerate(ids)}
        self._edits = np.array([(v, bias.get(v, 0.0), 0, v in seen) for v in ids], EDIT)
        self.record = np.array(
            (
                sampling.temperature,
                sampling.top_p,
                min_p_floor(sampling),
                sampling.presence_penalty,
                sampling.frequency_penalty,
                sampling.repetition_penalty,
                sampling.top_k,
                sampling.top_logprobs,
                seed64,
                *(0, -1, 0, 0),
                sampling.draws,
            ),
            ROW,
        )[()]
        """Its settings as the compiled function reads them."""

    @property
    def steady(self) -> bool:
        """Whether drawing a token changes nothing about how the next ones are drawn."""
        changing = self._repeats or self._counts or self.sampling.top_logprobs
        return not changing and self.index >= len(self.sampling.forced)

    @property
    def edits(self) -> int:
        """How many tokens' logits bias and penalties change."""
        return len(self._slot)

    @property
    def edits_E(self) -> np.ndarray:
        """Those tokens, in any order."""
        return self._edits[: len(self._slot)]

    def accept(self, token_id: int) -> None:
        """Append a token to the answer."""
        self.index += 1
        if not (self._repeats or self._counts):
            return
        slot = self._slot.setdefault(token_id, len(self._slot))
        if slot == len(self._edits):
            grown = np.zeros(max(16, 2 * slot), EDIT)
            grown[:slot] = self._edits
            self._edits = grown
        self._edits[slot]["id"] = token_id
        self._edits[slot]["count"] += 1
        self._edits[slot]["seen"] = 1

    def after(self, token_ids: Sequence[int]) -> RowState:
        """Copy the state and append these tokens: what a later position of a draft sees."""
        copy = RowState.__new__(RowState)
        copy.__dict__.update(self.__dict__)
        if self._repeats or self._counts:
            copy._edits, copy._slot = self._edits.copy(), self._slot.copy()
        for token_id in token_ids:
            copy.accept(token_id)
        return copy


Drawn = tuple[int, float, tuple[tuple[int, float], ...], Draw | None]
"""A sampled token: its id, its log-probability, the most likely ids with theirs, and its draw."""


@dataclass(frozen=True, slots=True)
class Draws:
    """A token per row."""

    ids: np.ndarray
    """Int64 [O]."""
    logprobs: np.ndarray
    """Float64 [O]; NaN where the row has no distribution: NaN, +inf, or nothing left to draw."""
    tops: tuple[tuple[tuple[int, float], ...], ...]
    """Per row the most likely (id, log-probability), best first, lower ids first among equals;
    tokens of probability 0 are not listed."""
    drawn_O2: np.ndarray
    """Float64: per row the two numbers of a `Draw`; NaN where nothing was drawn or asked for."""

    def each(self) -> Sequence[Drawn]:
        """Return the tokens one by one."""
        draws = map(draw_of, self.drawn_O2.tolist())
        return [*zip(self.ids.tolist(), self.logprobs.tolist(), self.tops, draws, strict=True)]


def draw_of(drawn_2: Sequence[float]) -> Draw | None:
    """Return two log-probabilities as a draw; None if they are NaN."""
    return None if math.isnan(drawn_2[0]) else Draw(*drawn_2)


class Sampler:
    """The scratch memory of one scheduler; not for several threads at once."""

    def __init__(self, vocab_size: int, max_rows: int) -> None:
        """Allocate for up to `max_rows` rows a call."""
        self.vocab_size = vocab_size
        self.max_rows = max_rows
        self.row_O = np.zeros(max_rows, ROW)
        self._index_O = self.row_O["index"]
        self._forced_O = self.row_O["forced"]
        self._masked_O = self.row_O["masked"]
        self._edits_O = self.row_O["edits"]
        self.top_OK = np.empty((max_rows, MAX_TOPS), np.int64)
        self.top_logprob_OK = np.empty((max_rows, MAX_TOPS), np.float64)
        self.bits_OW = np.zeros((max_rows, -(-vocab_size // 32)), np.uint32)
        self._no_edits_E = np.zeros(0, EDIT)
        self.scratch = (
            np.empty(vocab_size, np.float32),
            np.empty(vocab_size, np.int64),
            np.empty(vocab_size, np.float32),
            np.empty(vocab_size, np.float64),
            np.empty(vocab_size, np.float32),
            np.empty(vocab_size, np.float64),
            np.empty(vocab_size, np.int32),
            np.empty(BINS, np.float64),
            np.empty(BLOCK, np.float64),
            np.empty(vocab_size // SPAN + 2, np.int64),
            np.empty(vocab_size // SPAN + 2, np.int64),
            np.empty(vocab_size // SPAN + 2, np.float64),
            np.arange(vocab_size),
        )

    def sample(
        self,
        logits_OV: np.ndarray,
        rows: Sequence[RowState],
        indices: Sequence[int] | None = None,
        masks: Sequence[np.ndarray | None] | None = None,
    ) -> Draws:
        """Choose one token per row.

        Args:
            logits_OV: Float32; not changed.
            rows: A row may occur several times, for several positions of its answer.
            indices: Each row's position in its answer; by default `row.index`.
            masks: Allowed tokens as uint32 [W], bit set = allowed; None allows all.
        """
        count = len(rows)
        if logits_OV.shape != (count, self.vocab_size) or count > self.max_rows:
            raise ValueError(
                f"logits are {logits_OV.shape} for {count} rows; the sampler was made for up to "
                f"{self.max_rows} rows of {self.vocab_size}"
            )
        if logits_OV.dtype != np.float32 or not logits_OV.flags.carray:
            # One type of array only, or another one is compiled in the middle of a request.
            logits_OV = np.require(logits_OV, np.float32, ["C", "W"])
        edit_E = self.prepare(rows, indices, masks)
        token_O = np.empty(count, np.int64)
        logprob_O = np.empty(count, np.float64)
        drawn_O2 = np.empty((count, 2), np.float64)
        sample_rows(
            logits_OV,
            self.row_O,
            edit_E,
            self.bits_OW,
            self.scratch,
            token_O,
            logprob_O,
            self.top_OK,
            self.top_logprob_OK,
            drawn_O2,
        )
        return Draws(token_O, logprob_O, tuple(map(self._tops, range(count), rows)), drawn_O2)

    def prepare(
        self,
        rows: Sequence[RowState],
        indices: Sequence[int] | None,
        masks: Sequence[np.ndarray | None] | None,
    ) -> np.ndarray:
        """Write what the compiled function reads of each row; return all rows' edits."""
        edited = []
        for o, row in enumerate(rows):
            index = row.index if indices is None else indices[o]
            self.row_O[o] = row.record
            self._index_O[o] = row.sampling.place + index
            if index < len(row.sampling.forced):
                self._forced_O[o] = row.sampling.forced[index]
            if masks is not None and (mask_W := masks[o]) is not None:
                self.bits_OW[o] = mask_W
                self._masked_O[o] = 1
            if row.edits:
                self._edits_O[o] = row.edits
                edited.append(row.edits_E)
        return np.concatenate(edited) if edited else self._no_edits_E

    def _tops(self, o: int, row: RowState) -> tuple[tuple[int, float], ...]:
        if not row.sampling.top_logprobs:
            return ()
        pairs = zip(self.top_OK[o].tolist(), self.top_logprob_OK[o].tolist(), strict=True)
        return tuple((v, p) for v, p in pairs if v >= 0)


def seed_of(seed: int | None) -> int:
    """Map a request's seed, any integer, to 64 bits; None gives random ones."""
    return secrets.randbits(64) if seed is None else seed & BITS_64


def derive_seed(seed64: int, i: int) -> int:
    """Return the seed of choice `i` of a request with several; choice 0 has the request's own.

    The others are outputs of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    """
    if i == 0:
        return seed64
    z = (seed64 + i * 0x9E3779B97F4A7C15) & BITS_64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & BITS_64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & BITS_64
    return z ^ (z >> 31)


def check_sampling(sampling: Sampling, vocab_size: int) -> None:
    """Refuse settings that have no meaning.

    Raises:
        InvalidRequestError: Names the first field that is out of range.
    """
    s = sampling
    checks = [
        ("temperature", s.temperature, 0 <= s.temperature < math.inf, "a number >= 0"),
        ("top_p", s.top_p, 0 < s.top_p <= 1, "a number in (0, 1]"),
        ("top_k", s.top_k, s.top_k >= 0, "0 (off) or more"),
        ("min_p", s.min_p, 0 <= s.min_p <= 1, "a number in [0, 1]"),
        ("presence_penalty", s.presence_penalty, -2 <= s.presence_penalty <= 2, "-2 to 2"),
        ("frequency_penalty", s.frequency_penalty, -2 <= s.frequency_penalty <= 2, "-2 to 2"),
        (
            "repetition_penalty",
            s.repetition_penalty,
            0 < s.repetition_penalty < math.inf,
            "a number > 0",
        ),
        ("max_tokens", s.max_tokens, s.max_tokens is None or s.max_tokens >= 1, "1 or more"),
        ("place", s.place, s.place >= 0, "0 or more"),
        ("top_logprobs", s.top_logprobs, 0 <= s.top_logprobs <= MAX_TOPS, f"0 to {MAX_TOPS}"),
    ]
    known = f"a token id below {vocab_size}"
    for token, bias in s.logit_bias:
        checks.append(("logit_bias", token, 0 <= token < vocab_size, known))
        checks.append((f"logit_bias[{token}]", bias, -100 <= bias <= 100, "-100 to 100"))
    checks += [("forced", token, 0 <= token < vocab_size, known) for token in s.forced]
    for name, value, fine, allowed in checks:
        if not fine:
            raise InvalidRequestError(f"{name} is {value}; use {allowed}")
    biased = [token for token, _ in s.logit_bias]
    if len(set(biased)) < len(biased):
        raise InvalidRequestError("logit_bias names a token twice; use one value per token")
