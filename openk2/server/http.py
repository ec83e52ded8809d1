"""What every route does with HTTP: bodies in, and any failure as an `ApiError`.

In: requests, exceptions. Out: decoded JSON, `ApiError`s.
Must not know: dialects, or what a body's fields mean.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import cast

from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import Receive

from openk2.engine.request import (
    EngineBrokenError,
    EngineClosedError,
    InvalidRequestError,
    QueueFullError,
)
from openk2.server.errors import ApiError
from openk2.server.wire_json import write_wire
from openk2.types import Sampling

MIN_BODY_BYTES, MAX_BODY_BYTES = 2**20, 32 * 2**20
"""The limit on a request's body lies between these, as the context window needs it."""

BODY_PER_TEXT = 8
"""JSON around a text and escapes in it: `\\u00e9` has three times the bytes of what it says."""

SETTINGS = frozenset(field.name for field in fields(Sampling))

# What a number has to look like that is too large for a float; text in a body may look like it too.
_HUGE = re.compile(rb"\d[eE]\+?\d{3}|\d{309}")


class JsonResponse(JSONResponse):
    """A response of JSON, written fast."""

    def render(self, content: object) -> bytes:
        """Return the body."""
        return write_wire(content)


def body_limit(window: int, longest_token: int) -> int:
    """Return the largest request body in bytes: more could not fit the context window."""
    return min(MAX_BODY_BYTES, max(MIN_BODY_BYTES, BODY_PER_TEXT * window * longest_token))


async def read_body(receive: Receive, limit: int) -> bytes:
    """Read a request's body.

    Raises:
        ApiError: 413, it is larger than `limit` bytes.
        ClientDisconnect: The client went away before its end.
    """
    data = bytearray()
    size = 0
    more = True
    # An oversized body is read to its end but not kept: a client that is still sending would
    # see a broken connection instead of the answer.
    while more and size <= 4 * MAX_BODY_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(piece)
        if size <= limit:
            data += piece
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
        ApiError: 400, it is no JSON, or has a number that nobody could write as JSON again.
    """
    try:
        # Unlike the standard library's, this parser refuses deep nesting and half surrogate pairs.
        body = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"The request body cannot be read: it is no JSON, {error}.") from None
    if _HUGE.search(data) and (path := next(_infinities(body, ""), None)) is not None:
        problem = "the number is too large; send a smaller one"
        raise ApiError(400, f"{path or 'The request body'}: {problem}.", param=path[:200] or None)
    return body


def _infinities(value: object, path: str) -> Iterator[str]:
    """Yield the paths of numbers that are not finite."""
    if isinstance(value, float) and math.isinf(value):
        yield path
    elif isinstance(value, dict):
        for name, item in cast("dict[str, object]", value).items():
            yield from _infinities(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[object]", value)):
            yield from _infinities(item, f"{path}[{index}]")


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
