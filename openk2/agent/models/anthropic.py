"""Any endpoint that speaks Anthropic's Messages API.

In: an address, a model's name, requests. Out: streams of events, counts of tokens.
Must not know: trying again, tools, what an answer is for.

Thinking goes back to this API signed or not at all. `Message` has no place for a signature, so the
client remembers those it has seen; a conversation that comes from elsewhere, or from a process that
ended, goes without its old thinking.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from openk2.agent.model import ModelError, ModelRequest, Price
from openk2.agent.models.estimate import Counted, corrected
from openk2.agent.models.prices import is_kimi, price_of
from openk2.agent.models.wire.endpoint import Endpoint, TimeLimits, drain, parse_base_url
from openk2.agent.models.wire.listing import find_model
from openk2.agent.models.wire.messages_request import (
    Blocks,
    MessagesStyle,
    encode_prompt,
    encode_request,
)
from openk2.agent.models.wire.messages_stream import MessagesDecoder
from openk2.types import Event, Message, Usage

Json = dict[str, Any]

CONTEXT_WINDOW = 200_000
"""Tokens, where nobody says otherwise: that of Anthropic's models."""

VERSION = "2023-06-01"
"""Of the API; what came later is by headers of its own."""

_REMEMBERED = 4096
"""Turns whose signed thinking is kept: more than a run has."""

_TurnKey = tuple[str, tuple[str, ...]]


class AnthropicMessages:
    """One model behind one endpoint."""

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        key_header: Literal["x-api-key", "bearer"] = "x-api-key",
        context_window: int = CONTEXT_WINDOW,
        price: Price | None = None,
        style: MessagesStyle | None = None,
        limits: TimeLimits | None = None,
    ) -> None:
        """Speak to one model; nothing is sent yet.

        Args:
            base_url: As in ANTHROPIC_BASE_URL: what comes before `/v1/messages`.
            model: The name that the endpoint knows.
            api_key: None sends none.
            key_header: bearer for what Claude Code calls ANTHROPIC_AUTH_TOKEN.
            context_window: Most tokens of prompt and answer together.
            price: None is what Kimi publishes if this is Kimi's endpoint, else nothing.
            style: What the endpoint wants otherwise than others.
            limits: How long to wait.

        Raises:
            ValueError: `base_url` is no address.
        """
        base = parse_base_url(base_url).removesuffix("/messages").removesuffix("/v1")
        headers = {"anthropic-version": VERSION}
        if api_key:
            bearer = key_header == "bearer"
            name, value = (
                ("Authorization", f"Bearer {api_key}") if bearer else (key_header, api_key)
            )
            headers[name] = value
        self._endpoint = Endpoint(
            f"{model} at {urlsplit(base).netloc}", base, headers, api_key, limits or TimeLimits()
        )
        self._model = model
        self._window = context_window
        kimi = is_kimi(base)
        self._price = price if price is not None else price_of(model) if kimi else Price()
        style = style or MessagesStyle()
        # Half of a small window stays for the prompt.
        self._style = replace(style, max_tokens=min(style.max_tokens, context_window // 2))
        self._thinking: OrderedDict[_TurnKey, Blocks] = OrderedDict()
        self._counts = True  # until the endpoint says that it cannot count
        self._last: Counted | None = None

    @classmethod
    async def discover(
        cls,
        base_url: str,
        model: str | None = None,
        *,
        api_key: str | None = None,
        key_header: Literal["x-api-key", "bearer"] = "x-api-key",
        context_window: int | None = None,
        price: Price | None = None,
        style: MessagesStyle | None = None,
        limits: TimeLimits | None = None,
    ) -> AnthropicMessages:
        """Ask the endpoint for what the caller leaves out: its default model, and the window.

        Raises:
            ValueError: `base_url` is no address.
            ModelError: It cannot be reached, or no model was named and it lists none.
        """
        name = model or "the default model"
        probe = cls(base_url, name, api_key=api_key, key_header=key_header, limits=limits)
        try:
            found = await find_model(probe._endpoint, "/v1/models", model)
        finally:
            await probe.close()
        return cls(
            base_url,
            found.id,
            api_key=api_key,
            key_header=key_header,
            context_window=context_window or found.window or CONTEXT_WINDOW,
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

        Raises:
            ModelError: The endpoint refused, failed, or broke off.
        """
        endpoint = self._endpoint
        decoder = MessagesDecoder(request, endpoint.name, endpoint.key)
        body = encode_request(request, self._model, self._style, self._signed)
        async with aclosing(endpoint.stream("/v1/messages", body)) as pieces:
            async for piece in pieces:
                for event in decoder.feed(piece):
                    yield event
                if decoder.done:
                    await drain(pieces)
        for event in decoder.close():
            if isinstance(event, Usage):
                self._last = Counted(request, event.prompt_tokens)
                self._remember(decoder)
            yield event

    async def count_tokens(self, request: ModelRequest) -> int:
        """Count the prompt's tokens: exactly where the endpoint counts, else estimated."""
        if self._counts:
            body = encode_prompt(request, self._model, self._style, self._signed)
            try:
                counted = await self._endpoint.document("/v1/messages/count_tokens", body)
                return _total(counted)
            except ModelError as error:
                # A busy endpoint may count the next time; one without the path never.
                self._counts = error.fault not in ("refused", "broken_stream")
        return corrected(request, self._last)

    async def close(self) -> None:
        """End connections."""
        await self._endpoint.close()

    def _remember(self, decoder: MessagesDecoder) -> None:
        signed = tuple(block for block in decoder.thinking if _is_signed(block))
        if signed:
            self._thinking[decoder.key] = signed
            if len(self._thinking) > _REMEMBERED:
                self._thinking.popitem(last=False)

    def _signed(self, message: Message) -> Blocks:
        key = message.reasoning, tuple(call.id for call in message.tool_calls)
        return self._thinking.get(key, ())


def _is_signed(block: Json) -> bool:
    return bool(block.get("signature") or block.get("data"))


def _total(document: object) -> int:
    fields = cast(Json, document) if isinstance(document, dict) else {}
    total = fields.get("input_tokens")
    if not isinstance(total, int) or total < 0:
        raise ModelError("the count of tokens has no input_tokens", "refused")
    return total
