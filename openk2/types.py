"""The shared nouns: what a conversation, a tool call and a generation are made of.

In: nothing but the standard library. Out: frozen dataclasses that every room may import.
Must not know: tokens, tensors, HTTP, or which API dialect a value came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
FinishReason = Literal["stop", "length", "tool_calls", "cancelled"]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool that the model may call."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(
        default_factory=lambda: {"type": "object", "properties": {}}
    )
    """JSON Schema of the arguments; the root is an object."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool by the model."""

    id: str
    """K2's conversation-global form is `functions.NAME:IDX`; a client may use any other."""
    name: str
    arguments: str
    """JSON text exactly as the model wrote it."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str = ""
    reasoning: str = ""
    """Thinking that precedes `content`; assistant only."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Assistant only."""
    tool_call_id: str | None = None
    """Which call this answers; role `tool` only, and required there."""
    name: str | None = None


class HistoryError(ValueError):
    """A message history breaks an invariant; `index` and `field` say where."""

    def __init__(self, index: int, field: str, problem: str) -> None:
        """Remember where the history is broken."""
        super().__init__(f"messages[{index}].{field}: {problem}")
        self.index = index
        self.field = field
        self.problem = problem


def validate_history(messages: Sequence[Message]) -> None:
    """Check that every tool call is answered once, in the next tool turns, and no turn is empty.

    An assistant turn may be empty: a model can end its answer without a word.
    The last assistant message may have open calls: they are what the caller is about to answer.

    Raises:
        HistoryError: The first message that breaks the rule.
    """
    open_calls: dict[str, int] = {}
    for index, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id is None:
                raise HistoryError(index, "tool_call_id", "is required on a tool message")
            if message.tool_call_id not in open_calls:
                raise HistoryError(
                    index,
                    "tool_call_id",
                    f"{message.tool_call_id!r} answers no open tool call of the assistant "
                    "message before it",
                )
            del open_calls[message.tool_call_id]
            continue
        if open_calls:
            call_id, asked_at = next(iter(open_calls.items()))
            raise HistoryError(
                asked_at, "tool_calls", f"{call_id!r} has no tool message that answers it"
            )
        _validate_turn(index, message)
        open_calls = {call.id: index for call in message.tool_calls}


def _validate_turn(index: int, message: Message) -> None:
    if message.tool_call_id is not None:
        raise HistoryError(index, "tool_call_id", f"is not allowed on a {message.role} message")
    if message.role != "assistant" and (message.tool_calls or message.reasoning):
        part = "tool_calls" if message.tool_calls else "reasoning"
        raise HistoryError(index, part, "is only allowed on an assistant message")
    if message.role != "assistant" and not message.content:
        raise HistoryError(index, "content", "is empty")
    ids = [call.id for call in message.tool_calls]
    if len(set(ids)) != len(ids):
        raise HistoryError(index, "tool_calls", "has two calls with the same id")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen and when a generation ends."""

    temperature: float = 0.6
    """0 is greedy. 0.6 is K2 Instruct's recommendation."""
    top_p: float = 1.0
    seed: int | None = None
    """Same seed, prompt and settings give the same tokens, whatever else is in the batch."""
    max_tokens: int | None = None
    """None: up to the context window."""
    stop: tuple[str, ...] = ()
    """Strings that end the text; a match is not part of the output."""
    top_k: int = 0
    """Only the this many most likely tokens can be drawn; 0 is off."""
    min_p: float = 0.0
    """Only tokens at least this many times as likely as the best one can be drawn; 0 is off."""
    presence_penalty: float = 0.0
    """Subtracted from the logit of every token that the answer already has."""
    frequency_penalty: float = 0.0
    """Subtracted from a token's logit as often as the answer already has it."""
    repetition_penalty: float = 1.0
    """Logits of tokens in prompt or answer: positive ones are divided by it, others multiplied."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Added to the logits of these token ids before anything else."""
    logprobs: bool = False
    """Whether the caller wants each token's log-probability."""
    top_logprobs: int = 0
    """How many of the most likely tokens are reported with each token, 0 to 20."""
    priority: int = 0
    """Higher goes first."""
    cache_key: str | None = None
    """Requests with the same key are kept together in the cache; None shares with everybody."""
    forced: tuple[int, ...] = ()
    """Token ids that the answer begins with; they are emitted with their log-probabilities."""
    draws: bool = False
    """Whether each token tells with which log-probability it was drawn: `engine` has `Draw`."""
    place: int = 0
    """Tokens of this answer that the prompt ends with: one that was interrupted goes on with the
    noise of its own place."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a generation read and wrote."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """The part of the prompt that was already in the cache."""
    reasoning_tokens: int = 0
    """The part of the completion that was thinking."""


@dataclass(frozen=True, slots=True)
class PromptRead:
    """The model has read the prompt and begins to write: a generation's first event."""

    prompt_tokens: int
    cached_tokens: int = 0
    """The part of the prompt that was already in the cache."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token of the visible answer with its log-probability and those of its rivals."""

    token: bytes
    """May be a part of a character."""
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()
    """The most likely tokens at this place, best first."""


@dataclass(frozen=True, slots=True)
class Logprobs:
    """The tokens that the next `TextDelta` is made of, or that are still waiting for its rest."""

    tokens: tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of thinking."""

    text: str


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the visible answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """The model begins call number `index` of this turn."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallArguments:
    """A piece of the JSON arguments of call number `index`."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The generation ended; always the last event but one, `Usage` follows."""

    reason: FinishReason
    stop_sequence: str | None = None
    """The stop string that ended it."""


Event = (
    PromptRead
    | Logprobs
    | ReasoningDelta
    | TextDelta
    | ToolCallStart
    | ToolCallArguments
    | Finish
    | Usage
)
"""What a generation is: a stream of these. Every API dialect encodes the same stream."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens of one origin: the prompt, a tool's result, or what one policy version emitted."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()
    """As served, one per id, of the distribution that was drawn from; empty: not sampled."""
    version: int = 0
    """The policy version that emitted it."""
    kept: tuple[float, ...] = ()
    """Logarithm of the share of its distribution that a grammar left the model to draw from, one
    per id; empty: all of it, everywhere."""

    def __post_init__(self) -> None:
        """Refuse numbers that do not belong to the tokens one by one."""
        for name, values in (("log-probabilities", self.logprobs), ("kept shares", self.kept)):
            if values and len(values) != len(self.ids):
                raise ValueError(
                    f"a segment of {len(self.ids)} tokens has {len(values)} {name}; "
                    "give one for each, or none for tokens that nobody sampled"
                )

    @property
    def emitted(self) -> bool:
        """Whether the policy drew it."""
        return bool(self.logprobs)

    @property
    def own(self) -> tuple[float, ...]:
        """The policy's own log-probabilities at the temperature of the draw, without any grammar.

        A forward pass of the model gives these numbers again; `logprobs` it can only give where
        the grammar left everything.
        """
        if not self.kept:
            return self.logprobs
        return tuple(drawn + kept for drawn, kept in zip(self.logprobs, self.kept, strict=True))


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One episode as tokens: what training reads."""

    problem: str
    """The problem's id."""
    family: str
    segments: tuple[Segment, ...]
    """In order; the concatenation is exactly what the engine read and wrote."""
    messages: tuple[Message, ...]
    """The same as messages."""
    reward: float
    parts: Mapping[str, float]
    """What the reward is made of."""
    finish: FinishReason
    """Of the last turn; "length": the budget ran out."""
    seconds: float = 0.0
