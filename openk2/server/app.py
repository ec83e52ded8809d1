"""The HTTP application: routes, limits, and errors that every client can read.

In: an engine's async front, a tokenizer, a name. Out: an ASGI app.
Must not know: how the model was loaded, or what a dialect's fields mean.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from openk2.engine.request import (
    EngineBrokenError,
    EngineClosedError,
    EngineError,
    GenerationFailedError,
    InvalidRequestError,
    QueueFullError,
)
from openk2.server import openai, openai_events
from openk2.server.errors import ApiError
from openk2.server.generation import (
    ContextOverflowError,
    Prompt,
    TokenSource,
    check_fits,
    check_size,
    generate,
    longest_token,
    read_prompt,
)
from openk2.server.request import ChatRequest, Model
from openk2.server.sse import EventStream, data_frame, while_connected
from openk2.text.tokenizer import Tokenizer
from openk2.types import Event, Message, Sampling

MIN_BODY_BYTES, MAX_BODY_BYTES = 2**20, 32 * 2**20
"""The limit on a request's body lies between these, as the context window needs it."""

BODY_PER_TEXT = 8
"""JSON around a text and escapes in it: `\\u00e9` has three times the bytes of what it says."""

# Unlike the standard library's, this parser refuses deep nesting and half surrogate pairs.
_JSON: TypeAdapter[object] = TypeAdapter(object)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """What the routes answer with."""

    source: TokenSource
    tokenizer: Tokenizer
    model_id: str
    created: int
    """Seconds since 1970."""
    longest_token: int
    """Bytes of the vocabulary's longest token."""
    thinking: bool
    """Whether conversations are written in the Thinking template."""

    @property
    def max_body(self) -> int:
        """The largest request body in bytes: more could not fit the context window."""
        window = self.source.max_len * self.longest_token
        return min(MAX_BODY_BYTES, max(MIN_BODY_BYTES, BODY_PER_TEXT * window))


def create_app(
    source: TokenSource,
    tokenizer: Tokenizer,
    model_id: str,
    *,
    thinking: bool = False,
    on_ready: Callable[[], None] | None = None,
) -> FastAPI:
    """Build the application for one model.

    Args:
        source: The engine's async front; the caller starts and closes it.
        tokenizer: The vocabulary that the model was trained with.
        model_id: The name that clients use.
        thinking: Write conversations in the Thinking template and not in Instruct's.
        on_ready: Called once the model is warm and requests are about to be accepted.
    """
    created, longest = int(time.time()), longest_token(tokenizer)
    service = Service(source, tokenizer, model_id, created, longest, thinking)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        await _warm_up(service)
        if on_ready is not None:
            on_ready()
        yield

    app = FastAPI(
        title="openk2", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.router.redirect_slashes = False
    _add_routes(app, service)
    _add_error_handlers(app)
    return app


async def _warm_up(service: Service) -> None:
    # The first pass through a model allocates and picks kernels; no client should wait for that.
    greeting = [Message("user", "Hello")]
    prompt = read_prompt(greeting, (), service.tokenizer, thinking=service.thinking)
    async for _ in generate(
        service.source, service.tokenizer, prompt, Sampling(temperature=1.0, max_tokens=2)
    ):
        pass


# Routes -----------------------------------------------------------------------------------------


def _add_routes(app: FastAPI, service: Service) -> None:
    model = openai_events.encode_model(
        Model(service.model_id, service.source.max_len, service.created, service.thinking)
    )

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        if not service.source.alive:
            raise ApiError(503, "The engine has stopped; the server's log says why.")
        return {"status": "ok"}

    @app.get("/v1/models")
    async def list_models() -> openai_events.Json:
        return {"object": "list", "data": [model]}

    @app.get("/v1/models/{model_id:path}")
    async def retrieve_model(model_id: str) -> openai_events.Json:
        _check_model(service, model_id)
        return model

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await _chat_completions(service, request)


async def _chat_completions(service: Service, request: Request) -> Response:
    data = await _read_body(request, service.max_body)
    # Decoding and tokenizing a long conversation takes a while; other answers go on meanwhile.
    chat, options, prompt = await asyncio.to_thread(_decode, service, data)
    max_calls = 0 if chat.tool_choice == "none" else None if chat.parallel_tool_calls else 1
    events = generate(service.source, service.tokenizer, prompt, chat.sampling, max_calls=max_calls)
    head = openai_events.Head(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), service.model_id)
    if options.stream:
        encoder = openai_events.ChunkEncoder(head, options)
        return EventStream(_frames(encoder, events), _error_frame)
    collected = await while_connected(request.receive, _collect(events))
    if collected is None:
        return Response(status_code=499)  # nobody reads it: the client went away
    return JSONResponse(openai_events.encode_response(head, [(0, event) for event in collected]))


def _decode(service: Service, data: bytes) -> tuple[ChatRequest, openai.ChatOptions, Prompt]:
    chat, options = openai.decode_request(_parse_json(data))
    _check_model(service, chat.model)
    window = service.source.max_len
    tools = () if chat.tool_choice == "none" else chat.tools
    try:
        check_size(chat.messages, tools, service.longest_token, window)
        prompt = read_prompt(chat.messages, tools, service.tokenizer, thinking=service.thinking)
        check_fits(prompt, chat.sampling, window)
    except ContextOverflowError as error:
        field = "messages" if error.prompt_too_long else chat.limit_field
        raise ApiError(
            400, f"{field}: {error}.", param=field, code="context_length_exceeded"
        ) from None
    return chat, options, prompt


async def _collect(events: AsyncGenerator[Event, None]) -> list[Event]:
    async with aclosing(events):
        return [event async for event in events]


async def _frames(
    encoder: openai_events.ChunkEncoder, events: AsyncGenerator[Event, None]
) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        async for event in events:
            for chunk in encoder.encode(0, event):
                yield data_frame(chunk)
    yield b"data: [DONE]\n\n"


# Checks -----------------------------------------------------------------------------------------


async def _read_body(request: Request, limit: int) -> bytes:
    data = bytearray()
    size = 0
    # An oversized body is read to its end but not kept: a client that is still sending would
    # see a broken connection instead of the answer.
    async for piece in request.stream():
        size += len(piece)
        if size <= limit:
            data += piece
        elif size > 4 * MAX_BODY_BYTES:
            break
    if size > limit:
        raise ApiError(
            413,
            f"The request body is larger than {limit / 2**20:.3g} MiB; send less.",
            code="request_too_large",
        )
    return bytes(data)


def _parse_json(data: bytes) -> object:
    try:
        return _JSON.validate_json(data)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise ApiError(400, f"The request body cannot be read. {problem}.") from None


def _check_model(service: Service, name: str | None) -> None:
    if name is not None and name != service.model_id:
        raise ApiError(
            404,
            f"The model {name!r} does not exist here; this server has {service.model_id!r}.",
            param="model",
            code="model_not_found",
        )


# Errors -----------------------------------------------------------------------------------------


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    @app.exception_handler(EngineError)
    @app.exception_handler(HTTPException)
    @app.exception_handler(ClientDisconnect)
    @app.exception_handler(Exception)
    async def answer(request: Request, error: Exception) -> Response:
        if isinstance(error, GenerationFailedError):
            _log.error("a generation failed", exc_info=error)
        wrapped = _as_api_error(error, f"{request.method} {request.url.path}")
        return JSONResponse(openai_events.encode_error(wrapped), wrapped.status, wrapped.headers)


def _error_frame(error: Exception) -> bytes:
    wrapped = _as_api_error(error)
    if wrapped.status == 500:
        _log.error("a stream broke off", exc_info=error)
    return data_frame(openai_events.encode_error(wrapped))


def _as_api_error(error: Exception, what: str = "This") -> ApiError:
    match error:
        case ApiError():
            return error
        case HTTPException(status_code=404):
            return ApiError(404, f"{what} does not exist here.", code="unknown_url")
        case HTTPException(status_code=405):
            allowed = dict(error.headers or {})
            methods = allowed.get("Allow", "another method")
            message = f"{what} is not allowed; use {methods}."
            return ApiError(405, message, code="method_not_allowed", headers=allowed)
        case ClientDisconnect():
            return ApiError(499, "The client went away.")
        case HTTPException():
            return ApiError(error.status_code, str(error.detail))
        case QueueFullError():
            return ApiError(
                429, f"{error}.", code="engine_overloaded", headers={"Retry-After": "1"}
            )
        case EngineBrokenError():
            return ApiError(
                503, "The engine has stopped; the server's log says why. Start the server again."
            )
        case EngineClosedError():
            return ApiError(503, "The server is shutting down; try again later.")
        case InvalidRequestError():
            return ApiError(400, f"{error}.")
        case _:
            # The cause may quote the conversation or a path: it belongs in the log.
            return ApiError(500, "The server failed while answering; its log says why.")
