"""How a judge's reply becomes a probability: from two tokens of our engine, or from words.

In: an engine with its tokenizer, or any chat model. Out: a `Verdict`.
Must not know: rubrics, what is judged, scores.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from openk2.agent.model import ChatModel, ModelError, ModelRequest
from openk2.agent.models.retry import Patience, ask_with_patience
from openk2.engine.request import PromptTooLongError, QueueFullError
from openk2.engine.thread import EngineThread
from openk2.rl.question import FIRST, NEITHER, SECOND
from openk2.text.template import render
from openk2.text.tokenizer import Tokenizer
from openk2.types import Message, Sampling

Verdict = Callable[[Sequence[Message]], Coroutine[Any, Any, float | None]]
"""A question of `question.py` in, the probability that its first letter is right out; None: the
judge gave no verdict that can be read."""

MOST_OPEN = 32
"""Questions at one time: as an endpoint bears, and fewer than an engine lets wait."""

_TOPS = 20
_QUEUE_SECONDS = 0.02
_REPLY = re.compile(
    r"(?:(?:the )?(?:answer|verdict|reply|回答|答案|选择)(?: is|是|为)?)?\W*([ABC])\W*",
    re.IGNORECASE,
)
_WORTH = {FIRST: 1.0, NEITHER: 0.5, SECOND: 0.0}


def token_verdict(
    engine: EngineThread, tokenizer: Tokenizer, most_open: int = MOST_OPEN
) -> Verdict:
    """Judge by the log-probabilities of the two letters as the next token.

    A small model says more this way than with the letter it would draw, and never misses the form.

    Args:
        engine: Runs the judge.
        tokenizer: Its vocabulary.
        most_open: Most questions at one time, whoever asks; one event loop does.

    Raises:
        ValueError: The vocabulary does not have each letter as one token.
    """
    (first, second) = (_letter(letter, tokenizer) for letter in (FIRST, SECOND))

    slots = asyncio.Semaphore(most_open)

    async def logprobs(prompt: Sequence[int], token: int) -> dict[int, float]:
        sampling = Sampling(max_tokens=1, forced=(token,), logprobs=True, top_logprobs=_TOPS)
        while True:
            try:
                stream = engine.generate(prompt, sampling)
                break
            except QueueFullError:  # episodes wait there, too
                await asyncio.sleep(_QUEUE_SECONDS)
        drawn = await anext(stream)
        return {**dict(drawn.top), drawn.id: drawn.logprob}

    async def verdict(question: Sequence[Message]) -> float | None:
        prompt = render(question, (), tokenizer)
        async with slots:
            try:
                known = await logprobs(prompt, first)
                if second not in known:
                    known |= await logprobs(prompt, second)
            except PromptTooLongError:
                return None
        return 1 / (1 + math.exp(min(700.0, known[second] - known[first])))

    return verdict


def spoken_verdict(
    model: ChatModel,
    sampling: Sampling | None = None,
    patience: Patience | None = None,
    most_open: int = MOST_OPEN,
) -> Verdict:
    """Judge by what a chat model writes: one letter, after whatever thinking it does.

    Args:
        model: The judge.
        sampling: How it is asked; None: greedily.
        patience: How often it is asked again when it does not answer; None: as a run would.
        most_open: Most questions at one time, whoever asks; one event loop does.

    Returns:
        A verdict that raises `ModelError` where the endpoint refuses, since it would refuse every
        question. A question that is too long, or that got no answer, has no verdict.
    """
    asked = sampling or Sampling(temperature=0.0)
    slots = asyncio.Semaphore(most_open)

    async def verdict(question: Sequence[Message]) -> float | None:
        request = ModelRequest(tuple(question), sampling=asked)
        async with slots:
            try:
                reply = await ask_with_patience(model, request, patience=patience)
            except ModelError as error:
                if error.fault == "refused":
                    raise
                return None
        return read_letter(reply.message.content)

    return verdict


def read_letter(text: str) -> float | None:
    """Read a reply whose whole last line is the verdict; None if it is anything else."""
    lines = [line for line in text.splitlines() if line.strip()]
    found = _REPLY.fullmatch(lines[-1].strip().strip("*`[]()。.\"' ")) if lines else None
    return _WORTH[found[1].upper()] if found else None


def _letter(letter: str, tokenizer: Tokenizer) -> int:
    ids = tokenizer.encode(letter)
    if len(ids) != 1:
        raise ValueError(f"{letter!r} is {len(ids)} tokens in this vocabulary; it must be one")
    return ids[0]
