"""Guesses at what a request will say next, which the engine verifies in one pass.

In: requests as they decode. Out: for each a few likely next tokens, or none where they do not pay.
Must not know: the target model's logits, who verifies the guesses, or what else is in the step.

Two sources. `PromptLookup` continues the latest place where the request's last tokens occurred in
its own prompt and answer (Saxena, Prompt Lookup Decoding, 2023); it is worth having wherever an
answer repeats its prompt. `DraftModel` asks a smaller model of the same vocabulary.

How long a draft pays (after Leviathan et al., ICML 2023, section 3.5, extended to batches): let a
step over T tokens cost 1 + c (T - 1) steps over one, and let B requests decode together. A draft
of k tokens whose i-th is right with probability p_i, given that those before it were, yields
A(k) = p_1 + p_1 p_2 + ... + p_1 ... p_k more tokens and costs k c more (and k d, if a token of a
draft costs d to make). The step then gives

    (B + A(k)) / (1 + c (B - 1) + k (c + d))

tokens per unit of time. A fraction grows by (a / b) exactly where a / b exceeds the fraction, so
one more token pays while p_1 ... p_k+1 / (c + d) exceeds the quotient above; the first that does
not is the end. Alone, a first token pays from p > c + d on; in a batch of 8 with c = 0.3 and d = 0
from p > 0.77 on, because a batch uses better what a lone request leaves idle.

Shapes: T tokens of a request, N blocks of a draft's cache.
"""

from __future__ import annotations

import logging
import math
import weakref
from collections import deque

import numpy as np

from openk2.engine.blocks import BlockPool
from openk2.engine.request import Request
from openk2.engine.runner import BLOCK, Batch, Runner
from openk2.engine.sampler import RowState, Sampler

logger = logging.getLogger(__name__)

COMPILED_COST = 0.3
"""c of `CompiledRunner` on one core: a step over 2, 3, 5 and 9 tokens of a sequence costs 1.31,
1.74, 2.16 and 3.03 times one over 1 for BF16 weights, and 1.28, 1.61, 1.95 and 2.73 for INT4."""
LONGEST = 16
"""Tokens of the longest draft."""
HESITATION = 4
"""Tokens after which a repetition that did not pay yet is looked at again."""
N_GRAMS = (6, 2)
"""Of the request's last tokens, in the order in which they are looked up: longest first."""
TOKEN = np.dtype(np.int32).itemsize
WINDOW = 1 << 14
"""Tokens that are always searched, the latest; the index holds at most twice as many."""
PACE = 1 / 16
"""How much one guess that was right or wrong moves the estimate."""
EXPECTED = (0.2, 0.35, 0.5, 0.7, 0.85, 0.9)
"""Chances of a guess before anything is known of a request, one per class of `RUN_CLASS`."""
RUN_CLASS = (0, 0, 0, 1, 2, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 5)
"""The class of a guess after so many tokens that agreed: 0-2, 3, 4, 5-7, 8-15, or more."""


class Odds:
    """How often guesses about one request are right, by how many tokens before them agreed."""

    __slots__ = ("rates",)

    def __init__(self, expected: tuple[float, ...] = EXPECTED) -> None:
        """Begin with what is usual."""
        self.rates = list(expected)

    def learn(self, run: int, right: bool) -> None:
        """Count a guess after `run` tokens that agreed."""
        index = RUN_CLASS[run] if run < len(RUN_CLASS) else -1
        self.rates[index] += PACE * (right - self.rates[index])

    def best_length(self, run: int, rows: int, verify: float, make: float = 0.0) -> int:
        """Return how many tokens to draft now; the rule is derived above.

        Args:
            run: Tokens that agreed so far.
            rows: Requests that decode together.
            verify: c, the cost of a token that is verified.
            make: d, the cost of a token that is guessed.
        """
        tokens, cost, gain = float(rows), 1 + verify * (rows - 1), 1.0
        for length in range(LONGEST):
            place = run + length
            gain *= self.rates[RUN_CLASS[place] if place < len(RUN_CLASS) else -1]
            if gain * cost <= (verify + make) * tokens:
                return length
            tokens += gain
            cost += verify + make
        return LONGEST


class Crowd:
    """Estimates how many requests decode together from who asks for drafts in which order."""

    def __init__(self) -> None:
        """Assume that one does."""
        self.rows = 1
        self._step = 0
        self._calls = 0

    def join(self, last_step: int) -> int:
        """Count a call by somebody who was last told `last_step`; who asks again begins a step."""
        if last_step == self._step:
            self.rows, self._calls = max(1, self._calls), 0
            self._step += 1
        self._calls += 1
        return self._step


class NGrams:
    """Where the n-grams of a growing sequence ended last; takes constant time per token."""

    __slots__ = ("_begin", "_end", "_ends")

    def __init__(self) -> None:
        """Know nothing."""
        self._ends: dict[bytes, int] = {}
        self._begin = self._end = 0

    def __len__(self) -> int:
        """How many different n-grams are known."""
        return len(self._ends)

    def find(self, ids_T: np.ndarray, length: int) -> tuple[int, int]:
        """Return where the last tokens occurred last, and how many; (0, 0) if nowhere.

        Indexes what has come since the last call, so `length` may only grow; forgets the oldest
        tokens when there are too many.
        """
        if length - self._begin > 2 * WINDOW:
            self._ends = {}
            self._begin = self._end = length - WINDOW
        start = max(self._begin, self._end + 1 - N_GRAMS[0])
        raw = ids_T[start:length].tobytes()
        for n in N_GRAMS:
            first = max(self._end + 1, start + n)
            at, size = (first - start) * TOKEN, n * TOKEN  # in `raw`
            for end in range(first, length):
                self._ends[raw[at - size : at]] = end
                at += TOKEN
        self._end = length - 1
        found = 0, 0
        for n in reversed(N_GRAMS):  # where the short one is new, the long one is
            size = n * TOKEN
            end = self._ends.get(raw[-size:]) if len(raw) >= size else None
            if end is None:
                break
            found = end, n
        return found


def find_slow(ids_T: np.ndarray, length: int, begin: int = 0) -> tuple[int, int]:
    """Search all of `ids_T[begin:length]` for what `NGrams.find` looks up: its slow twin."""
    for n in N_GRAMS:
        last_n = ids_T[length - n : length] if length - begin >= n else ids_T[:0]
        for end in range(length - 1, begin + n - 1, -1):
            if len(last_n) and (ids_T[end - n : end] == last_n).all():
                return end, n
    return 0, 0


class PromptLookup:
    """Drafts from a request's own tokens; a source for `Engine(draft=)`.

    It learns at every step whether it would have been right, drafted or not, so it costs nothing
    but the look-up where it does not pay, and notices at once where it begins to.
    """

    def __init__(self, cost: float = COMPILED_COST) -> None:
        """Take c, the cost of verifying a token; 0 drafts whenever something is found."""
        self._cost = cost
        self._crowd = Crowd()
        # A Request cannot be referred to weakly; what sampling knows of it lives exactly as long.
        self._known: weakref.WeakKeyDictionary[RowState, _Repeats] = weakref.WeakKeyDictionary()

    def __len__(self) -> int:
        """How many requests it remembers: those that have not ended."""
        return len(self._known)

    def __call__(self, request: Request) -> list[int]:
        """Return what followed the same tokens before, as far as that pays."""
        known = self._known.get(request.state)
        if known is None:
            known = self._known[request.state] = _Repeats()
        known.step = self._crowd.join(known.step)
        known.advance(request.ids_T, request.length)
        if not known.end:
            return []
        length = known.odds.best_length(known.run, self._crowd.rows, self._cost)
        return known.copy(request.ids_T, length) if length else []

    def patience(self, request: Request) -> int:
        """Return a few tokens where a repetition may have begun, many where there is none."""
        known = self._known.get(request.state)
        return HESITATION if known is not None and known.end else LONGEST


class _Repeats:
    """Where one request repeats itself."""

    __slots__ = ("_grams", "_length", "end", "odds", "run", "step")

    def __init__(self) -> None:
        self._grams = NGrams()
        self._length = 0
        self.odds = Odds()
        self.end = 0
        """What is repeated goes on here; 0 if nothing is."""
        self.run = 0
        """Tokens that agreed up to there."""
        self.step = -1

    def advance(self, ids_T: np.ndarray, length: int) -> None:
        """Compare the last guess with what came, and look for the next one."""
        if self.end:
            for place in range(length - self._length):
                right = bool(ids_T[self.end + place] == ids_T[self._length + place])
                self.odds.learn(self.run + place, right)
                if not right:
                    break
        end, run = self._grams.find(ids_T, length)
        if end and self.end and length - end == self._length - self.end:
            run = self.run + length - self._length  # the same repetition, continued
        self._length, self.end, self.run = length, end, run

    def copy(self, ids_T: np.ndarray, count: int) -> list[int]:
        """Return the next tokens of the repetition, which may repeat itself in turn."""
        copied: list[int] = ids_T[self.end : min(self.end + count, self._length)].tolist()
        distance = self._length - self.end
        while len(copied) < count:
            copied.append(copied[-distance])
        return copied


FIRST_PAUSE, LAST_PAUSE = 8, 256
"""Steps without drafts before a model is tried again; doubled each time, then it is given up."""
HOPEFUL = (0.7,) * len(EXPECTED)
"""Chances of a draft model's guesses before anything is known."""


class DraftModel:
    """Drafts from a smaller model of the same vocabulary; a source for `Engine(draft=)`.

    It draws with the noise that the target's sampling will draw with, so that a model which agrees
    about the probabilities mostly agrees about the token, too. Where it fails it goes silent: it
    never takes a step down.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        vocab_size: int,
        blocks: int,
        verify: float,
        make: float,
        chunk: int = 512,
    ) -> None:
        """Allocate its own cache.

        Args:
            runner: Belongs to this source from here on.
            vocab_size: The target's.
            blocks: Size of its cache; requests that find no room get no drafts.
            verify: What the target takes to verify a token, in steps of the target.
            make: What `runner` takes for a token, in steps of the target.
            chunk: Tokens of a prompt that it reads per step.

        Raises:
            ValueError: The vocabularies differ.
        """
        if runner.vocab_size != vocab_size:
            raise ValueError(
                f"the draft model has {runner.vocab_size} tokens and the target {vocab_size}; "
                "use a draft model with the target's tokenizer"
            )
        self._runner = runner
        self._pool = BlockPool(blocks)
        self._sampler = Sampler(vocab_size, 1)
        self._verify, self._make, self._chunk = verify, make, chunk
        self._crowd = Crowd()
        self._calls = 0
        self._failed = False
        self._caches: weakref.WeakKeyDictionary[RowState, _Cache] = weakref.WeakKeyDictionary()
        # Requests may be dropped on any thread; their blocks are taken back on the engine's.
        self._dropped: deque[_Cache] = deque()
        runner.allocate(blocks)

    @property
    def used_blocks(self) -> int:
        """Blocks of its cache that requests own."""
        self._take_back()
        return self._pool.used

    def __call__(self, request: Request) -> list[int]:
        """Return the model's continuation, as far as that pays."""
        self._take_back()
        if self._failed:
            return []
        cache = self._cache_of(request)
        cache.step = self._crowd.join(cache.step)
        cache.compare(request)
        length = self._length(cache, request)
        if not length or not self._has_room(cache, request.length + length - 1):
            return []
        try:
            return self._draft(cache, request, length)
        except Exception:
            logger.exception("the draft model failed and is not asked again; the target goes on")
            self._failed = True
            return []

    def patience(self, request: Request) -> int:
        """Return 1: the model may have something to say about every token."""
        cache = self._caches.get(request.state)
        silent = self._failed or (cache is not None and cache.paused < 0)
        return LONGEST if silent else 1

    def _take_back(self) -> None:
        while self._dropped:
            self._free(self._dropped.popleft())

    def _free(self, cache: _Cache) -> None:
        self._pool.drop(cache.block_N)
        cache.block_N = cache.block_N[:0]
        cache.read = 0

    def _cache_of(self, request: Request) -> _Cache:
        cache = self._caches.get(request.state)
        if cache is None:
            cache = self._caches[request.state] = _Cache()
            weakref.finalize(request.state, self._dropped.append, cache).atexit = False
        self._calls += 1
        return cache

    def _length(self, cache: _Cache, request: Request) -> int:
        """Choose how many tokens to draft, beginning afresh after a pause."""
        if cache.paused:
            cache.paused -= 1
            if cache.paused:
                return 0
            cache.odds = Odds(HOPEFUL)
        room = request.max_new - request.generated - 1
        room = min(room, self._runner.max_positions - request.length + 1)
        if room <= 0:
            return 0
        rows = self._crowd.rows
        length = cache.odds.best_length(cache.run, rows, self._verify, self._make)
        if not length:
            cache.paused, cache.pause = cache.pause, 2 * cache.pause
            if cache.paused > LAST_PAUSE:
                cache.paused = -1  # for good
                self._free(cache)
        return min(length, room)

    def _has_room(self, cache: _Cache, tokens: int) -> bool:
        """Make its cache hold so many tokens, taking blocks of requests that ask no more."""
        missing = -(-tokens // BLOCK) - len(cache.block_N)
        if missing > 0:
            idle = self._calls - 2 * len(self._caches)
            others = sorted(self._caches.values(), key=lambda other: other.used_at)
            for other in others:
                if missing <= self._pool.free or other.used_at >= idle:
                    break
                if other is not cache:
                    self._free(other)
            if missing > self._pool.free:
                return False
            cache.block_N = np.concatenate([cache.block_N, self._pool.take(missing)])
        cache.used_at = self._calls
        return True

    def _draft(self, cache: _Cache, request: Request, length: int) -> list[int]:
        begin, end = cache.read, min(request.length, cache.read + self._chunk)
        logits_OV = self._forward(cache, request.ids_T[begin:end], begin)
        cache.read = end
        if end < request.length:
            return []
        drafts = cache.drafts
        while True:
            draws = self._sampler.sample(logits_OV, [request.state.after(drafts)])
            if not math.isfinite(draws.logprobs[0]):
                return drafts.copy()
            drafts.append(int(draws.ids[0]))
            if len(drafts) == length:
                return drafts.copy()
            logits_OV = self._forward(cache, np.array(drafts[-1:], np.int32), cache.read)
            cache.read += 1

    def _forward(self, cache: _Cache, ids_T: np.ndarray, begin: int) -> np.ndarray:
        count = len(ids_T)
        position_T = np.arange(begin, begin + count, dtype=np.int32)
        wanted_O = np.array([count - 1], np.int32)
        row_T = np.zeros(count, np.int32)
        return self._runner.forward(Batch(ids_T, position_T, row_T, cache.block_N[None], wanted_O))


class _Cache:
    """One request's part of a draft model's cache, and what came of its drafts."""

    __slots__ = (
        *("block_N", "drafts", "length", "odds", "pause", "paused", "read", "run", "step"),
        *("used_at",),
    )

    def __init__(self) -> None:
        self.block_N = np.zeros(0, np.int32)
        self.read = 0
        """Tokens whose latents are there; those behind the request's own are of drafts."""
        self.drafts: list[int] = []
        self.length = 0
        """Of the request when it was last called."""
        self.run = 0
        """Drafted tokens that were right since the last wrong one."""
        self.odds = Odds(HOPEFUL)
        self.pause, self.paused = FIRST_PAUSE, 0
        self.used_at = 0
        self.step = -1

    def compare(self, request: Request) -> None:
        """Learn from the last drafts and keep the latents of those that were right."""
        came = request.ids_T[self.length : request.length].tolist()
        agreed = 0
        for guess, token in zip(self.drafts, came, strict=False):
            right = guess == token
            self.odds.learn(self.run, right)
            self.run = self.run + 1 if right else 0
            if not right:
                break
            agreed += 1
        # At least one token is read for its logits: the target may have been preempted after it
        # had asked, and asks the same again.
        self.read = min(self.read, self.length + agreed, request.length - 1)
        self.drafts, self.length = [], request.length
