"""A model in this process as the agent talks to one.

In: a backend that the caller starts and ends. Out: a `ChatModel`.
Must not know: how the model was loaded, or what the agent does with its answers.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openk2.agent.model import ModelError, ModelRequest, Price
    from openk2.server.errors import ApiError
    from openk2.server.request import Backend, ChatRequest
    from openk2.types import Event


class LocalChat:
    """Asks a backend in this process; `ChatModel`."""

    def __init__(self, backend: Backend, price: Price | None = None) -> None:
        """Ask the backend's default model; None costs nothing."""
        from openk2.agent.model import Price

        self._backend = backend
        self._model = backend.models[0]
        self._price = price or Price()

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model.id

    @property
    def context_window(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._model.context_length

    @property
    def price(self) -> Price:
        """What its tokens cost."""
        return self._price

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Event, None]:
        """Answer once; the last events are `Finish` and `Usage`.

        Raises:
            ModelError: The request cannot be answered, or the engine failed.
        """
        from openk2.engine.request import EngineError
        from openk2.server.errors import ApiError

        try:
            generation = await self._backend.prepare(_asked(request))
            async with aclosing(generation.events()) as events:
                async for _, event in events:
                    yield event
        except ApiError as error:
            raise self._refusal(error) from error
        except EngineError as error:
            raise self._failure(error) from error

    async def count_tokens(self, request: ModelRequest) -> int:
        """Count the prompt's tokens, exactly.

        Raises:
            ModelError: The tokens cannot be counted.
        """
        from openk2.server.errors import ApiError

        try:
            return await self._backend.count_tokens(_asked(request))
        except ApiError as error:
            raise self._refusal(error) from error

    async def close(self) -> None:
        """Do nothing: whoever started the backend ends it."""

    def _refusal(self, error: ApiError) -> ModelError:
        from openk2.agent.model import ModelError

        if error.code == "context_length_exceeded" or error.status == 413:
            fault = "too_long"
        elif error.status == 429:
            fault = "busy"
        else:
            fault = "server" if error.status >= 500 else "refused"
        return ModelError(f"{self.name}: {error.message}", fault)

    def _failure(self, error: Exception) -> ModelError:
        from openk2.agent.model import ModelError
        from openk2.engine.request import (
            GenerationFailedError,
            PromptTooLongError,
            QueueFullError,
        )

        if isinstance(error, PromptTooLongError):
            fault = "too_long"
        elif isinstance(error, QueueFullError):
            fault = "busy"
        else:  # an engine that is closed or broken answers nothing any more
            fault = "server" if isinstance(error, GenerationFailedError) else "refused"
        return ModelError(f"{self.name}: {error}", fault)


def _asked(request: ModelRequest) -> ChatRequest:
    from openk2.server.request import ChatRequest
    from openk2.types import Sampling

    return ChatRequest(
        request.messages,
        request.sampling or Sampling(),
        default_temperature=request.sampling is None,
        tools=request.tools,
        tool_choice=request.tool_choice,
    )
