"""Our engine as a contender of its benchmark: requests in, seconds out.

In: a model directory and a thread count. Out: seconds that some tokens took, through
`Engine.submit` and `Engine.step` as every caller uses them: scheduling and sampling are inside.
Must not know: rounds, goals, or peers.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from openk2.cli.tree import share_cores

CONTEXT = 4096
MAX_BATCH = 32
PROMPT = 2
"""Tokens before a decoding run: as good as an empty context, which the peers start from."""
TAIL = 32
"""Tokens of its own that every request with a shared prefix has."""


class OpenK2:
    """`load_engine` and what is measured of it.

    Decoding draws at temperature 1: a random model's greedy answer soon repeats itself, and would
    read the same few experts again and again. So our tokens are drawn, logprobs included, while
    llama.cpp's are handed to it: that is strict on us.
    """

    def load(self, path: Path, threads: int) -> None:
        """Open a model directory, as `openk2 serve` does, with `threads` for its products."""
        share_cores()
        import torch

        from openk2.engine.loading import load_engine
        from openk2.model.checkpoint import Checkpoint

        torch.set_num_threads(threads)
        began = time.perf_counter()
        self._vocab = Checkpoint(path).config.vocab_size
        self.engine = load_engine(
            path,
            stop_ids=frozenset(),
            vocab_size=self._vocab,
            max_batch=MAX_BATCH,
            context=CONTEXT,
            threads=threads,
        ).engine
        self._path, self._load_s = path, time.perf_counter() - began
        self._random = random.Random(0)

    @property
    def facts(self) -> dict[str, Any]:
        """What was measured."""
        return {
            "directory": self._path.name,
            "load_s": round(self._load_s, 2),
            "sampling": "temperature 1, included",
        }

    def decode(self, tokens: int) -> float:
        """Time `tokens` steps of one request after its first token."""
        return self.streams(1, tokens)

    def streams(self, streams: int, tokens: int) -> float:
        """Time `tokens` steps of several requests together, after the first token of each."""
        requests = [self._submit(self._prompt(PROMPT), tokens + 1) for _ in range(streams)]
        got = dict.fromkeys(requests, 0)
        while min(got.values()) == 0:  # some may be ahead of the others: their tokens do not count
            self._step(got)
        missing = streams * (tokens + 1) - sum(got.values())
        began = time.perf_counter()
        while self.engine.busy:
            self._step(got)
        seconds = time.perf_counter() - began
        return seconds * streams * tokens / missing

    def prefill(self, tokens: int) -> float:
        """Time from a new prompt's submission to its first token."""
        return self._first_tokens([self._prompt(tokens)])[0]

    def first_tokens_shared(self, requests: int, prefix: int) -> float:
        """Mean time to first token of requests together whose prefix an earlier one has read."""
        shared = self._prompt(prefix)
        self._first_tokens([shared + self._prompt(TAIL)])
        return self.first_tokens_cold(requests, shared)

    def first_tokens_unshared(self, requests: int, prefix: int) -> float:
        """The same where each request has a prefix of its own."""
        return fmean(self._first_tokens([self._prompt(prefix + TAIL) for _ in range(requests)]))

    def first_tokens_cold_shared(self, requests: int, prefix: int) -> float:
        """The same where all have one prefix, and nobody has read it before."""
        return self.first_tokens_cold(requests, self._prompt(prefix))

    def first_tokens_cold(self, requests: int, prefix: list[int]) -> float:
        """Mean time to first token of requests that begin with `prefix`, submitted together."""
        return fmean(self._first_tokens([prefix + self._prompt(TAIL) for _ in range(requests)]))

    def _first_tokens(self, prompts: list[list[int]]) -> list[float]:
        began = time.perf_counter()
        got = {self._submit(prompt, 1): 0 for prompt in prompts}
        first: list[float] = []
        while self.engine.busy:
            tokens = self._step(got)  # before the clock is read
            first += [time.perf_counter() - began] * tokens
        return first

    def _submit(self, prompt: list[int], tokens: int) -> int:
        from openk2.types import Sampling

        seed = self._random.getrandbits(32)
        return self.engine.submit(prompt, Sampling(temperature=1, seed=seed, max_tokens=tokens))

    def _step(self, got: dict[int, int]) -> int:
        from openk2.engine.request import Failure

        outputs = self.engine.step()
        for output in outputs:
            if isinstance(output, Failure):
                raise output.error
            got[output.request_id] += 1
        return len(outputs)

    def _prompt(self, tokens: int) -> list[int]:
        return [self._random.randrange(self._vocab) for _ in range(tokens)]
