"""The HTTP application: routes, limits, and errors that every client can read.

In: a backend, and the names under which its models are known. Out: an ASGI app.
Must not know: who writes the answers, or what a dialect's fields mean.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Protocol

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from openk2 import __version__
from openk2.engine.request import EngineError, GenerationFailedError
from openk2.server.dialects import completions
from openk2.server.dialects.anthropic_events import encode_count
from openk2.server.dialects.dialect import (
    Asked,
    Chat,
    CompletionReply,
    Dialect,
    Json,
    Messages,
    Reply,
    Responses,
    Secrets,
)
from openk2.server.dialects.models import encode_model, encode_models
from openk2.server.errors import ApiError
from openk2.server.headers import NamedRequests, RawHeaders
from openk2.server.http import (
    MAX_BODY_BYTES,
    JsonResponse,
    as_api_error,
    parse_json,
    read_body,
)
from openk2.server.openapi import document
from openk2.server.request import Backend, Generation
from openk2.server.routing import resolve, unknown_model
from openk2.server.shortcut import ErrorHandler, Shortcut, endpoints_of
from openk2.server.sse import COMMENT, EventStream, while_connected
from openk2.types import Event

SESSION_HEADERS = (b"x-claude-code-session-id", b"session-id", b"session_id")
"""Where clients name the session whose requests share a prefix."""

ANTHROPIC = "/anthropic"
"""The Messages routes are also here: where the Kimi platform has them."""

SMALL_BODY = 16 * 1024
"""Bodies of up to so many bytes are decoded where they are: a thread would cost more."""

EXPECTED = (ApiError, EngineError, HTTPException, ClientDisconnect)
"""Errors that say all about themselves; others are logged with their traceback."""

_log = logging.getLogger(__name__)

INSTRUCT_TEMPERATURE_SCALE = 0.6
"""What K2's README multiplies the Messages dialect's temperatures with, so that its default of 1
is what K2 Instruct was made for; K2 Thinking wants 1."""


class RawPrompts(Protocol):
    """Whoever continues prompts that are no conversations."""

    async def prepare(self, request: completions.CompletionRequest) -> Generation:
        """Make ready to answer.

        Raises:
            ApiError: The request cannot be answered.
        """
        ...


class Service:
    """What the routes answer with."""

    def __init__(
        self,
        backend: Backend,
        aliases: Mapping[str, str | None],
        max_body: int,
        dialects_key: bytes,
        raw: RawPrompts | None,
    ) -> None:
        """Answer in every dialect; `dialects_key` signs what clients keep for the server."""
        secrets_ = Secrets(dialects_key)
        self.backend = backend
        self.aliases = aliases
        self.max_body = max_body
        self.raw = raw
        self.chat = Chat(secrets_)
        self.responses = Responses(secrets_)
        self.messages = Messages(secrets_, self._temperature_scale)
        self.counting = Messages(secrets_, self._temperature_scale, count_only=True)

    def _temperature_scale(self) -> float:
        return 1.0 if self.backend.models[0].reasoning else INSTRUCT_TEMPERATURE_SCALE

    def dialect_of(self, request: Request) -> Dialect:
        """Return the dialect in which a client understands an error."""
        path = request.url.path
        theirs = (
            path.startswith(("/v1/messages", ANTHROPIC)) or "anthropic-version" in request.headers
        )
        return self.messages if theirs else self.chat


def create_app(
    backend: Backend,
    *,
    aliases: Mapping[str, str | None] | None = None,
    max_body: int = MAX_BODY_BYTES,
    key: bytes | None = None,
    raw: RawPrompts | None = None,
    running: AbstractAsyncContextManager[object] | None = None,
    on_ready: Callable[[], None] | None = None,
) -> FastAPI:
    """Build the application for one backend.

    Args:
        backend: Writes the answers.
        aliases: Other names of models; None stands for the default model.
        max_body: The largest request body in bytes.
        key: Signs reasoning that clients keep for the server; by default one of this process.
        raw: Continues prompts that are no conversations; None refuses them.
        running: Entered before the first request and left after the last one.
        on_ready: Called when requests are about to be accepted.
    """
    service = Service(backend, aliases or {}, max_body, key or secrets.token_bytes(32), raw)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        async with running or nullcontext():
            if on_ready is not None:
                on_ready()
            yield

    app = Application(
        title="openk2", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.router.redirect_slashes = False
    _add_model_routes(app, service)
    _add_answer_routes(app, service)
    answer_error = _add_error_handlers(app, service)

    @app.get("/openapi.json")
    async def openapi() -> Json:
        return described

    described = document(app.routes)
    app.take_shortcuts(answer_error)
    return app


class Application(FastAPI):
    """All routes, each request with a name, and a short way to the routes that answer."""

    _front: ASGIApp | None = None

    def take_shortcuts(self, handle: ErrorHandler | None) -> None:
        """Call endpoints directly, errors answered by `handle`; None: by the framework as usual."""
        whole = super().__call__
        short = handle and Shortcut(whole, endpoints_of(self.routes), EXPECTED, handle)
        self._front = NamedRequests(short or whole)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await (self._front or super().__call__)(scope, receive, send)


# Routes -----------------------------------------------------------------------------------------


def _add_model_routes(app: FastAPI, service: Service) -> None:
    backend = service.backend

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        if not backend.alive:
            raise ApiError(503, "The engine has stopped; the server's log says why.")
        return {"status": "ok"}

    @app.api_route("/", methods=["GET", "HEAD"])
    @app.api_route(ANTHROPIC, methods=["GET", "HEAD"])
    async def hello() -> Json:
        # Claude Code looks here before it asks anything.
        return {"name": "openk2", "version": __version__}

    @app.get("/v1/models")
    @app.get(f"{ANTHROPIC}/v1/models")
    async def list_models() -> Json:
        return encode_models(backend.models)

    @app.get("/v1/models/{model_id:path}")
    @app.get(ANTHROPIC + "/v1/models/{model_id:path}")
    async def retrieve_model(request: Request, model_id: str) -> Json:
        found = {model.id: model for model in backend.models}
        lenient = service.dialect_of(request).lenient
        name = resolve(model_id, list(found), service.aliases, lenient=lenient)
        if name not in found:
            raise unknown_model(model_id, backend.models)
        return encode_model(found[name])


def _add_answer_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await _answer(service, service.chat, request)

    @app.post("/v1/responses")
    async def responses(request: Request) -> Response:
        return await _answer(service, service.responses, request)

    @app.post("/v1/messages")
    @app.post(f"{ANTHROPIC}/v1/messages")
    async def messages(request: Request) -> Response:
        return await _answer(service, service.messages, request)

    @app.post("/v1/messages/count_tokens")
    @app.post(f"{ANTHROPIC}/v1/messages/count_tokens")
    async def count_tokens(request: Request) -> Response:
        asked = await _read(service, service.counting, request)
        return JsonResponse(encode_count(await service.backend.count_tokens(asked.request)))

    @app.post("/v1/completions")
    async def complete(request: Request) -> Response:
        data = await read_body(request.receive, service.max_body)
        asked = completions.decode_request(parse_json(data))
        if service.raw is None:
            problem = "prompts without a conversation are not continued here"
            raise ApiError(404, f"POST /v1/completions: {problem}; ask /v1/chat/completions.")
        known = [model.id for model in service.backend.models]
        name = resolve(asked.model, known, service.aliases, lenient=False)
        generation = await service.raw.prepare(replace(asked, model=name))
        reply = CompletionReply.begin(asked, generation.model)
        filler = COMMENT if asked.stream else None
        return await _send(request, reply, generation, (), filler)

    @app.post("/v1/tokenizers/estimate-token-count")
    async def estimate_token_count(request: Request) -> Response:
        asked = await _read(service, service.chat, request)
        count = await service.backend.count_tokens(asked.request)
        return JsonResponse({"data": {"total_tokens": count}})


async def _answer(service: Service, dialect: Dialect, request: Request) -> Response:
    asked = await _read(service, dialect, request)
    generation = await service.backend.prepare(asked.request)
    reply = dialect.reply(asked, generation.model)
    filler = dialect.filler if asked.stream else None
    return await _send(request, reply, generation, asked.warnings, filler)


async def _send(
    request: Request,
    reply: Reply,
    generation: Generation,
    warnings: Sequence[str],
    filler: bytes | None,
) -> Response:
    """Answer whole, or as a stream if there is a filler for its silent moments."""
    if filler is not None:
        request_id: str = request.state.id

        def failure(error: Exception) -> bytes:
            return reply.failure(_logged(error), request_id)

        headers = _warning([*warnings, *generation.warnings])
        frames = _frames(reply, generation.events())
        return EventStream(frames, failure, headers=headers, filler=filler)
    collected = await while_connected(request.receive, _collect(generation.events()))
    if collected is None:
        return Response(status_code=499)  # nobody reads it: the client went away
    # Only now: some things are found out while the answer is read.
    headers = _warning([*warnings, *generation.warnings])
    return JsonResponse(reply.whole(collected), headers=headers)


async def _read(service: Service, dialect: Dialect, request: Request) -> Asked:
    data = await read_body(request.receive, service.max_body)

    def decode() -> Asked:
        return dialect.decode(parse_json(data))

    # Decoding a long conversation takes a while; other answers go on meanwhile.
    asked = decode() if len(data) <= SMALL_BODY else await asyncio.to_thread(decode)
    chat = asked.request
    known = [model.id for model in service.backend.models]
    model = resolve(chat.model, known, service.aliases, lenient=dialect.lenient)
    sampling = chat.sampling
    if not sampling.cache_key and (session := _session(request.scope["headers"])):
        sampling = replace(sampling, cache_key=session)
    if model == chat.model and sampling is chat.sampling:
        return asked
    return replace(asked, request=replace(chat, model=model, sampling=sampling))


def _session(headers: RawHeaders) -> str | None:
    found = {name: value for name, value in headers if value and name in SESSION_HEADERS}
    first = next((found[name] for name in SESSION_HEADERS if name in found), None)
    return None if first is None else first.decode("latin-1")


def _warning(warnings: Sequence[str]) -> dict[str, str]:
    if not warnings:
        return {}
    # Names out of schemas can hold anything, and nobody sends or reads control characters.
    text = re.sub(r"[^\x20-\x7e]", "?", " ".join("; ".join(warnings).split()))
    return {"x-openk2-warning": text[:1000]}


async def _collect(
    events: AsyncGenerator[tuple[int, Event], None],
) -> list[tuple[int, Event]]:
    async with aclosing(events):
        return [item async for item in events]


async def _frames(
    reply: Reply, events: AsyncGenerator[tuple[int, Event], None]
) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        async for choice, event in events:
            for frame in reply.frames(choice, event):
                yield frame
    for frame in reply.last_frames():
        yield frame


# Errors -----------------------------------------------------------------------------------------


def _add_error_handlers(app: FastAPI, service: Service) -> ErrorHandler:
    async def answer(request: Request, error: Exception) -> Response:
        if isinstance(error, GenerationFailedError):
            _log.error("a generation failed", exc_info=error)
        wrapped = as_api_error(error, f"{request.method} {request.url.path}")
        status, body = service.dialect_of(request).encode_error(wrapped, request.state.id)
        return JsonResponse(body, status, dict(wrapped.headers))

    for kind in (*EXPECTED, Exception):
        app.add_exception_handler(kind, answer)
    return answer


def _logged(error: Exception) -> ApiError:
    wrapped = as_api_error(error)
    if wrapped.status == 500:
        _log.error("a stream broke off", exc_info=error)
    return wrapped
