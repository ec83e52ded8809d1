"""Any endpoint that speaks Chat Completions: our own server, Kimi, and most others.

In: an address, a model's name, requests. Out: streams of events, counts of tokens.
Must not know: trying again, tools, what an answer is for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast
from urllib.parse import urlsplit

from openk2.agent.model import ModelError, ModelRequest, Price
from openk2.agent.models.estimate import Counted, corrected
from openk2.agent.models.prices import is_kimi, price_of
from openk2.agent.models.wire.chat_request import ChatStyle, adapted, encode_chat, encode_prompt
from openk2.agent.models.wire.chat_stream import ChatDecoder
from openk2.agent.models.wire.endpoint import Endpoint, TimeLimits, drain, parse_base_url
from openk2.agent.models.wire.listing import find_model
from openk2.types import Event, Usage

Json = dict[str, Any]

CONTEXT_WINDOW = 131_072
"""Tokens, where an endpoint does not say: K2's first window, and what most now have at least."""

_ADAPTATIONS = 3
"""Most fields that an endpoint may turn out to want otherwise in one answer: each may refuse it."""

_COUNTER = "/tokenizers/estimate-token-count"


class OpenAIChat:
    """One model behind one endpoint."""

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        context_window: int = CONTEXT_WINDOW,
        price: Price | None = None,
        style: ChatStyle | None = None,
        limits: TimeLimits | None = None,
    ) -> None:
        """Speak to one model; nothing is sent yet.

        Args:
            base_url: Up to and including `/v1`, or what the endpoint has in its place; a host
                alone gets it.
            model: The name that the endpoint knows.
            api_key: None sends none.
            context_window: Most tokens of prompt and answer together.
            price: None is what Kimi publishes if this is Kimi's endpoint, else nothing.
            style: What the endpoint wants otherwise than others.
            limits: How long to wait.

        Raises:
            ValueError: `base_url` is no address.
        """
        base = parse_base_url(base_url).removesuffix("/chat/completions")
        if not urlsplit(base).path:
            base += "/v1"
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._endpoint = Endpoint(
            f"{model} at {urlsplit(base).netloc}", base, headers, api_key, limits or TimeLimits()
        )
        self._model = model
        self._window = context_window
        kimi = is_kimi(base)
        self._price = price if price is not None else price_of(model) if kimi else Price()
        self._style = style or ChatStyle()
        self._counts = True  # until the endpoint says that it cannot count
        self._last: Counted | None = None

    @classmethod
    async def discover(
        cls,
        base_url: str,
        model: str | None = None,
        *,
        api_key: str | None = None,
        context_window: int | None = None,
        price: Price | None = None,
        style: ChatStyle | None = None,
        limits: TimeLimits | None = None,
    ) -> OpenAIChat:
        """Ask the endpoint for what the caller leaves out: its default model, and the window.

        Raises:
            ValueError: `base_url` is no address.
            ModelError: It cannot be reached, or no model was named and it lists none.
        """
        probe = cls(base_url, model or "the default model", api_key=api_key, limits=limits)
        try:
            found = await find_model(probe._endpoint, "/models", model)
        finally:
            await probe.close()
        window = context_window or found.window or CONTEXT_WINDOW
        return cls(
            base_url,
            found.id,
            api_key=api_key,
            context_window=window,
            price=price,
            style=style,
            limits=limits,
        )

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model

    @property
    def context_window(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._window

    @property
    def price(self) -> Price:
        """What its tokens cost."""
        return self._price

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Event, None]:
        """Answer once, without trying again; the last events are `Finish` and `Usage`.

        An endpoint that refuses a field is asked in its own way from then on.

        Raises:
            ModelError: The endpoint refused, failed, or broke off.
        """
        for attempt in range(_ADAPTATIONS + 1):
            silent = True
            try:
                async with aclosing(self._answer(request)) as events:
                    async for event in events:
                        silent = False
                        yield event
                return
            except ModelError as error:
                can_adapt = silent and error.fault == "refused" and attempt < _ADAPTATIONS
                style = adapted(self._style, str(error)) if can_adapt else None
                if style is None:
                    raise
                self._style = style

    async def _answer(self, request: ModelRequest) -> AsyncGenerator[Event, None]:
        endpoint = self._endpoint
        decoder = ChatDecoder(request, endpoint.name, endpoint.key)
        body = encode_chat(request, self._model, self._style)
        async with aclosing(endpoint.stream("/chat/completions", body)) as pieces:
            async for piece in pieces:
                for event in decoder.feed(piece):
                    yield event
                if decoder.done:
                    await drain(pieces)
        for event in decoder.close():
            if isinstance(event, Usage):
                self._last = Counted(request, event.prompt_tokens)
            yield event

    async def count_tokens(self, request: ModelRequest) -> int:
        """Count the prompt's tokens: exactly where the endpoint counts, else estimated.

        An estimate is corrected by what the endpoint counted for the answer before.
        """
        if self._counts:
            try:
                body = encode_prompt(request, self._model, self._style)
                return _total(await self._endpoint.document(_COUNTER, body))
            except ModelError as error:
                # A busy endpoint may count the next time; one without the path never.
                self._counts = error.fault not in ("refused", "broken_stream")
        return corrected(request, self._last)

    async def close(self) -> None:
        """End connections."""
        await self._endpoint.close()


def _total(document: object) -> int:
    """Read the count, in Kimi's envelope or bare."""
    fields = cast(Json, document) if isinstance(document, dict) else {}
    inner = fields.get("data")
    total = cast(Json, inner if isinstance(inner, dict) else fields).get("total_tokens")
    if not isinstance(total, int) or total < 0:
        raise ModelError("the count of tokens has no total_tokens", "refused")
    return total
