"""What a client asks for, whatever dialect it said it in, and who answers.

In: what a dialect's decoder found in a body. Out: `ChatRequest`, and the `Backend` protocol that
turns one into events.
Must not know: JSON bodies, HTTP, or any dialect's field names but for errors.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from openk2.types import Event, Message, Sampling, ToolSpec


@dataclass(frozen=True, slots=True)
class NamedTool:
    """The answer must call this tool."""

    name: str


ToolChoice = Literal["auto", "none", "required"] | NamedTool


@dataclass(frozen=True, slots=True)
class JsonAnswer:
    """The visible answer must be one JSON value."""

    schema: Mapping[str, Any] | None = None
    """JSON Schema of it; None: any object."""


@dataclass(frozen=True, slots=True)
class Thinking:
    """The one notion of `thinking`, `reasoning_effort` and Anthropic's budgets."""

    enabled: bool | None = None
    """None: as the model does by itself."""
    budget: int | None = None
    """Most tokens of reasoning; then the block is closed and the answer begins."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A valid request for an answer to a conversation."""

    messages: tuple[Message, ...]
    """Tool calls keep the client's ids: the template rewrites them for the model."""
    sampling: Sampling
    default_temperature: bool = False
    """The client leaves the temperature to the model; that of `sampling` stands in for it."""
    model: str | None = None
    """None: the client leaves the choice to the server."""
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    """False: the answer has at most one call."""
    answer_format: JsonAnswer | None = None
    thinking: Thinking = Thinking()
    partial: bool = False
    """The last message is the assistant's, and the answer continues it."""
    n: int = 1
    """Answers to the same prompt."""
    whole: bool = False
    """The client waits for all of the answer: nobody reads it as it is written."""
    trajectories: int = 1
    """Heavy mode: so many attempts, of which one answer is made."""
    limit_field: str = "max_tokens"
    """The name under which the client set `sampling.max_tokens`."""
    prompt_field: str = "messages"
    """The name under which the client sent the conversation."""
    schema_field: str = "response_format"
    """The name under which the client sent the schema of `answer_format`."""


@dataclass(frozen=True, slots=True)
class Model:
    """What `GET /v1/models` says about one model."""

    id: str
    context_length: int
    created: int
    """Seconds since 1970."""
    reasoning: bool = False
    """Whether it can think."""


class Generation(Protocol):
    """An accepted request."""

    @property
    def model(self) -> str:
        """The id of the model that answers, after routing."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """What could not be obeyed to the letter: simplified keywords of a schema."""
        ...

    def events(self) -> AsyncGenerator[tuple[int, Event], None]:
        """Stream the answers: (choice, event); closing the stream cancels them.

        Every choice begins with `PromptRead` and ends with `Finish` and `Usage`.
        """
        ...


class Backend(Protocol):
    """Whoever writes the answers: the engine here, or a server elsewhere."""

    @property
    def alive(self) -> bool:
        """Whether it takes requests."""
        ...

    @property
    def models(self) -> Sequence[Model]:
        """What it serves, the default first."""
        ...

    async def prepare(self, request: ChatRequest) -> Generation:
        """Check what only the model knows, and make ready to answer.

        Raises:
            ApiError: The request cannot be answered: unknown model, too long, unusable schema.
        """
        ...

    async def count_tokens(self, request: ChatRequest) -> int:
        """Count the tokens of the prompt.

        Raises:
            ApiError: The model is unknown, or the count cannot be had.
        """
        ...
