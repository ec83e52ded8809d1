"""What every route does with HTTP: bodies in, and any failure as an `ApiError`.

In: requests, exceptions. Out: decoded JSON, `ApiError`s.
Must not know: dialects, or what a body's fields mean.
"""

from __future__ import annotations

import re
from dataclasses import fields

from fastapi import Request
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from openk2.engine.request import (
    EngineBrokenError,
    EngineClosedError,
    InvalidRequestError,
    QueueFullError,
)
from openk2.server.errors import ApiError
from openk2.types import Sampling

MIN_BODY_BYTES, MAX_BODY_BYTES = 2**20, 32 * 2**20
"""The limit on a request's body lies between these, as the context window needs it."""

BODY_PER_TEXT = 8
"""JSON around a text and escapes in it: `\\u00e9` has three times the bytes of what it says."""

SETTINGS = frozenset(field.name for field in fields(Sampling))

# Unlike the standard library's, this parser refuses deep nesting and half surrogate pairs.
_JSON: TypeAdapter[object] = TypeAdapter(object)


def body_limit(window: int, longest_token: int) -> int:
    """Return the largest request body in bytes: more could not fit the context window."""
    return min(MAX_BODY_BYTES, max(MIN_BODY_BYTES, BODY_PER_TEXT * window * longest_token))


async def read_body(request: Request, limit: int) -> bytes:
    """Read a request's body.

    Raises:
        ApiError: 413, it is larger than `limit` bytes.
    """
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


def parse_json(data: bytes) -> object:
    """Decode a body.

    Raises:
        ApiError: 400, it is no JSON.
    """
    try:
        return _JSON.validate_json(data)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise ApiError(400, f"The request body cannot be read. {problem}.") from None


def as_api_error(error: Exception, what: str = "This") -> ApiError:
    """Say any failure in words for a client; what only the log may tell becomes a plain 500."""
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
            # The engine's sentences begin with the setting that is wrong.
            named = re.split(r"\W", str(error), maxsplit=1)[0]
            setting = named if named in SETTINGS else None
            return ApiError(400, f"{error}.", param=setting)
        case _:
            # The cause may quote the conversation or a path: it belongs in the log.
            return ApiError(500, "The server failed while answering; its log says why.")
