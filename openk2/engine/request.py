"""The nouns of the engine: a request's progress, what it produces, and how it is refused.

In: prompt ids and `Sampling`. Out: dataclasses and errors that the rest of the room uses.
Must not know: the model, the cache's tensors, or who is waiting for the tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from openk2.types import FinishReason, Sampling

if TYPE_CHECKING:
    from openk2.engine.blocks import Node
    from openk2.engine.sampler import Mask, RowState


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
        # Here, because it imports torch, which the processes that compile do not need.
        from openk2.model.safetensors_file import WeightsError

        if isinstance(cause, WeightsError):
            super().__init__(f"request {request_id} needs damaged weights: {cause}")
        else:
            super().__init__(
                f"request {request_id} failed inside the model "
                f"({type(cause).__name__}: {cause}); the engine goes on, send the request again"
            )
        self.request_id = request_id
        self.__cause__ = cause


class NotFiniteError(FloatingPointError):
    """The logits hold NaN, or nothing but minus infinity where a token may be drawn."""

    def __init__(self, *, masked: bool) -> None:
        """Say where to look; `masked` if a grammar chose among them."""
        super().__init__(
            "the grammar allows no token that has a finite logit"
            if masked
            else "the logits are not finite: the weights may be damaged; "
            "`openk2 inspect --verify` reads every tensor and names the one"
        )


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


class Draw(NamedTuple):
    """With which log-probabilities a token was drawn."""

    logprob: float
    """In the distribution that it was drawn from: after bias, penalties, grammar, temperature and
    truncation. 0 at temperature 0."""
    tempered: float
    """The model's own at the same temperature, before all the rest; 0 at temperature 0."""


class Token(NamedTuple):
    """One generated token of one request."""

    request_id: int
    id: int
    logprob: float
    """The model's own: at temperature 1 and without top-p, however the token was drawn."""
    finish_reason: FinishReason | None = None
    """Set on a request's last token: `stop` after a stop id (this token), `length` at a limit."""
    cached_tokens: int = 0
    """How much of the prompt was in the cache already; the same on every token of a request."""
    top: tuple[tuple[int, float], ...] = ()
    """The most likely ids with their log-probabilities, best first: `Sampling.top_logprobs`."""
    draw: Draw | None = None
    """None: not asked for (`Sampling.draws`), or nobody drew it: the caller forced it, or the
    grammar left no choice and it was written without asking the model."""
    version: int = 0
    """Of the weights that it was drawn with: `Engine.version`."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that ended without a last token."""

    request_id: int
    error: GenerationFailedError


Output = Token | Failure
"""What a step says about a request. The last one is a `Failure` or a `Token` that finishes."""


@dataclass(slots=True, eq=False)
class Request:
    """A request's settings and its progress; lives from submission to its end."""

    ids_T: np.ndarray
    """Int32: the prompt, then the answer so far, then room for the rest of it."""
    prompt_length: int
    sampling: Sampling
    max_new: int
    """Tokens it may generate: its own limit or what the context window has room for."""
    state: RowState
    """What sampling knows of it; untouched by preemption."""
    length: int
    """Known tokens: prompt and answer so far."""
    mask: Mask | None = None
    """What its grammar allows next."""
    id: int = -1
    """Counts arrivals; -1 before."""
    computed: int = 0
    """Leading tokens whose latents are in the cache; all but the newest while it decodes."""
    row: int = -1
    """Its row of the block table; -1 while it waits."""
    blocks: int = 0
    """Leading entries of its row that are its own."""
    node: Node | None = None
    """Its longest prefix in the tree, whose blocks its row begins with."""
    cached_tokens: int = 0
    """How much of the prompt others had read before."""
    epoch: int = 0
    """Of the cache that its blocks belong to: replaced weights begin another."""
    preempted: bool = False
    """It ran before and lost its blocks."""
    drafted: int = 0
    """Drafted tokens that the model has looked at, and how many of them it would have written."""
    accepted: int = 0

    @property
    def rank(self) -> tuple[int, int]:
        """Smaller goes first: higher priority, then earlier arrival."""
        return -self.sampling.priority, self.id

    @property
    def generated(self) -> int:
        """Tokens of the answer so far."""
        return self.length - self.prompt_length

    @property
    def unread(self) -> int:
        """Known tokens whose latents are not in the cache: 1 while it decodes."""
        return self.length - self.computed

    def append(self, token_id: int, stop_ids: frozenset[int]) -> FinishReason | None:
        """Append a sampled token and say whether, and why, it is the last one."""
        self.ids_T[self.length] = token_id
        self.length += 1
        if token_id in stop_ids:
            return "stop"
        return "length" if self.length >= self.prompt_length + self.max_new else None
