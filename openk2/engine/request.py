"""The nouns of the engine: a request's progress, what it produces, and how it is refused.

In: prompt ids and `Sampling`. Out: dataclasses and errors that the rest of the room uses.
Must not know: the model, the cache's tensors, or who is waiting for the tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from openk2.model.safetensors_file import WeightsError
from openk2.types import FinishReason, Sampling


class EngineError(Exception):
    """The base of every error that the engine reports to a caller."""


class InvalidRequestError(EngineError, ValueError):
    """A prompt or a sampling setting is outside what the engine accepts."""


class PromptTooLongError(InvalidRequestError):
    """The prompt leaves no room for a single new token."""

    def __init__(self, prompt_tokens: int, max_len: int) -> None:
        """Remember both numbers."""
        super().__init__(
            f"the prompt has {prompt_tokens} tokens, but the context window is {max_len} tokens "
            f"and must also hold the answer; shorten the prompt to at most {max_len - 1}"
        )
        self.prompt_tokens = prompt_tokens
        self.max_len = max_len


class QueueFullError(EngineError):
    """As many requests wait for a slot as the engine is willing to hold."""

    def __init__(self, max_waiting: int) -> None:
        """Remember the limit."""
        super().__init__(f"{max_waiting} requests are already waiting for a slot; retry later")
        self.max_waiting = max_waiting


class GenerationFailedError(EngineError):
    """The model raised, or gave numbers that cannot be sampled, while computing this request."""

    def __init__(self, request_id: int, cause: Exception) -> None:
        """Keep the cause as `__cause__`."""
        if isinstance(cause, WeightsError):
            super().__init__(f"request {request_id} needs damaged weights: {cause}")
        else:
            super().__init__(
                f"request {request_id} failed inside the model "
                f"({type(cause).__name__}: {cause}); the engine goes on, send the request again"
            )
        self.request_id = request_id
        self.__cause__ = cause


class EngineClosedError(EngineError):
    """The engine was shut down."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("the engine is shut down and takes no requests; start a new one")


class EngineBrokenError(EngineError):
    """The scheduler stopped on an error that it did not expect."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("the engine has stopped, its log says why; start a new one")


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token of one request."""

    request_id: int
    id: int
    logprob: float
    """The model's own: at temperature 1 and without top-p, however the token was drawn."""
    finish_reason: FinishReason | None = None
    """Set on a request's last token: `stop` after a stop id (this token), `length` at a limit."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that ended without a last token."""

    request_id: int
    error: GenerationFailedError


Output = Token | Failure
"""What a step says about a request. The last one is a `Failure` or a `Token` that finishes."""


@dataclass(slots=True)
class Request:
    """A request's settings and its progress; lives from submission to its end."""

    id: int
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    max_new: int
    """Tokens it may generate: its own limit or what the context window has room for."""
    generator: torch.Generator
    """The request's own, so that nobody else's draws change its tokens."""
    slot: int = -1
    """The row of the cache that it owns; -1 while it waits."""
    cached: int = 0
    """Leading tokens of prompt and answer whose latents are in the cache."""
    generated: int = 0
    last_id: int = -1
    """The newest generated token: not in the cache yet, the next step feeds it."""

    @property
    def prefilling(self) -> bool:
        """Whether a part of the prompt is still to be read."""
        return self.cached < len(self.prompt_ids)

    def accept(self, token_id: int, logprob: float, stop_ids: frozenset[int]) -> Token:
        """Append a sampled token and say whether it is the last one."""
        self.generated += 1
        self.last_id = token_id
        reason: FinishReason | None = None
        if token_id in stop_ids:
            reason = "stop"
        elif self.generated >= self.max_new:
            reason = "length"
        return Token(self.id, token_id, logprob, reason)


def check_sampling(sampling: Sampling) -> None:
    """Refuse settings that have no meaning.

    Raises:
        InvalidRequestError: Names the first field that is out of range.
    """
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise InvalidRequestError(f"temperature is {sampling.temperature}; use a number >= 0")
    if not 0 < sampling.top_p <= 1:
        raise InvalidRequestError(f"top_p is {sampling.top_p}; use a number in (0, 1]")
    if sampling.max_tokens is not None and sampling.max_tokens < 1:
        raise InvalidRequestError(f"max_tokens is {sampling.max_tokens}; use 1 or more")
