"""What another server refuses, said so that the client knows whose fault it is.

In: a status, headers and a body, or an exception of the connection. Out: `ApiError`.
Must not know: requests, streams.

The client's key is not the server's: 401 and 403 from there are the operator's to mend. The
server's messages are passed on only where the client can act on them, cut and without its key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from openk2.server.errors import ApiError

NO_SUCH_ADDRESS = "upstream_no_such_address"
"""The code of an error that says that the server has nothing at the address that was asked."""

UNREACHABLE = "upstream_unreachable"
"""The code of an error that says that there was no connection."""

_LONGEST = 600
_CONTEXT = re.compile(
    r"context.{0,10}(length|window|size)|token limit|input.{0,20}too long|too many tokens", re.I
)
_CLIENTS = {400, 413, 422}
_BEHIND = "The server behind this one"


def refusal(status: int, headers: Mapping[str, str], body: bytes, key: str | None) -> ApiError:
    """Translate a response that is no answer."""
    error = _error_object(body)
    message = _message(error, key)
    if status in _CLIENTS:
        return _bad_request(status, error, message)
    if status in (401, 403):
        return ApiError(
            502,
            f"{_BEHIND} does not accept its key (HTTP {status}); whoever runs this one has to put "
            "a valid key into the environment variable that --upstream-key-env names.",
            code="upstream_key_refused",
        )
    if status == 404 and "model" in message.lower():
        return ApiError(404, message, param="model", code="model_not_found")
    if status == 429:
        wait = _retry_after(headers)
        told = message or f"{_BEHIND} takes no more requests for now; try again later."
        return ApiError(429, told, code=_code(error) or "rate_limit_exceeded", headers=wait)
    return _their_fault(status, headers)


def _their_fault(status: int, headers: Mapping[str, str]) -> ApiError:
    code = NO_SUCH_ADDRESS if status in (404, 405) else "upstream_error"
    if status in (404, 405):
        problem = "has no chat completions at this address; check that --upstream ends as /v1 does"
    elif 300 <= status < 400:
        problem = f"sends requests elsewhere (HTTP {status}); give --upstream the final address"
    elif status == 402:
        problem = "asks for payment (HTTP 402); whoever runs this one has to see to its account"
    else:
        problem = f"failed (HTTP {status}); try again, and if it stays so look into its log"
    return ApiError(502, f"{_BEHIND} {problem}.", code=code, headers=_retry_after(headers))


def error_in_stream(error: object, key: str | None) -> ApiError:
    """Translate an error object that came in place of a chunk."""
    fields = cast("dict[str, Any]", error) if isinstance(error, dict) else {"message": error}
    status, message = fields.get("code"), _message(fields, key)
    if status in _CLIENTS:
        return _bad_request(cast("int", status), fields, message)
    said = f": {message}" if message else ""
    return ApiError(502, f"{_BEHIND} broke its answer off{said}", code="upstream_error")


def broke_off() -> ApiError:
    """Say that the connection ended before the answer did."""
    return ApiError(
        502, f"{_BEHIND} went away before its answer ended; try again.", code="upstream_error"
    )


def unreadable(what: str) -> ApiError:
    """Say that what came is no Chat Completions answer."""
    return ApiError(
        502,
        f"{_BEHIND} sent {what}; check that --upstream is an OpenAI-compatible server.",
        code="upstream_error",
    )


def unreachable(problem: str) -> ApiError:
    """Say that there is no connection."""
    return ApiError(
        502,
        f"{_BEHIND} cannot be reached ({problem}); check that it runs and what --upstream says.",
        code=UNREACHABLE,
    )


def silent(seconds: float) -> ApiError:
    """Say that nothing came for too long."""
    return ApiError(
        504,
        f"{_BEHIND} said nothing for {seconds:g} seconds; try again later.",
        code="upstream_timeout",
    )


def stopping() -> ApiError:
    """Say that this server, and not the other one, ends the answer."""
    return ApiError(503, "The server is shutting down; try again later.")


def _bad_request(status: int, error: Mapping[str, Any], message: str) -> ApiError:
    param = error.get("param")
    code = "context_length_exceeded" if _CONTEXT.search(message) else _code(error)
    return ApiError(
        413 if status == 413 else 400,
        message or f"{_BEHIND} refuses this request (HTTP {status}) and does not say why.",
        param=param[:200] if isinstance(param, str) and param.isprintable() else None,
        code=code,
    )


def _error_object(body: bytes) -> dict[str, Any]:
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        return {"message": ""}
    if not isinstance(value, dict):
        return {"message": value}
    fields = cast("dict[str, Any]", value)
    inner = fields.get("error")
    if isinstance(inner, dict):
        return cast("dict[str, Any]", inner)
    return fields if inner is None else {"message": inner}


def _message(error: Mapping[str, Any], key: str | None) -> str:
    said = error.get("message", error.get("detail", ""))
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    if key:
        text = text.replace(key, "***")
    text = " ".join(text.encode("utf-8", "replace").decode().split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _code(error: Mapping[str, Any]) -> str | None:
    code = error.get("code")
    return code[:64] if isinstance(code, str) and code and code.isprintable() else None


def _retry_after(headers: Mapping[str, str]) -> dict[str, str]:
    value = headers.get("retry-after", "")
    return {"Retry-After": value} if re.fullmatch(r"[\x21-\x7e ]{1,40}", value) else {}
