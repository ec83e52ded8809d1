"""Headers that every response has: the request's id and the rate limits.

In: an ASGI app. Out: one that names each request, in its state and in its response's headers.
Must not know: routes, dialects, or what was answered.

Both vendors' names are sent to everybody: OpenAI's clients read `x-request-id` and
`x-ratelimit-*`, Anthropic's `request-id` and `anthropic-ratelimit-*`.
"""

from __future__ import annotations

import re
import secrets
import time
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

UNLIMITED = "1000000000"
"""Clients read these headers as whole numbers, so no limit is one that nobody reaches."""

RawHeaders = list[tuple[bytes, bytes]]
"""Headers as ASGI has them, the names in lower case."""

_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class NamedRequests:
    """Gives each request an id: the client's own `x-request-id`, if it is short and printable."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand in front of `app`."""
        self._app = app
        self._second = -1
        self._limits: RawHeaders = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; its id is `request.state.id`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _name_of(scope["headers"])
        scope.setdefault("state", {})["id"] = request_id

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                own: RawHeaders = list(message.get("headers", ()))
                known = {name for name, _ in own}
                common = _names(request_id) + self._limits_now()
                own += [header for header in common if header[0] not in known]
                message["headers"] = own
            await send(message)

        await self._app(scope, receive, send_named)

    def _limits_now(self) -> RawHeaders:
        # They name the second, and are otherwise always the same.
        now = int(time.time())
        if now != self._second:
            self._limits = _limits(now)
            self._second = now
        return self._limits


def _name_of(headers: RawHeaders) -> str:
    for name, value in headers:
        if name == b"x-request-id":
            if _ID.fullmatch(value):
                return value.decode("ascii")
            break
    return f"req_{secrets.token_hex(16)}"


def common_headers(request_id: str) -> dict[str, str]:
    """Return the headers of every response; this server has no rate limits."""
    headers = _names(request_id) + _limits(int(time.time()))
    return {name.decode(): value.decode() for name, value in headers}


def _names(request_id: str) -> RawHeaders:
    value = request_id.encode()
    return [(b"x-request-id", value), (b"request-id", value)]


def _limits(now: int) -> RawHeaders:
    reset = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    headers: list[tuple[str, str]] = []
    for kind in ("requests", "tokens"):
        headers += [
            (f"x-ratelimit-limit-{kind}", UNLIMITED),
            (f"x-ratelimit-remaining-{kind}", UNLIMITED),
            (f"x-ratelimit-reset-{kind}", "0s"),
        ]
    for kind in ("requests", "tokens", "input-tokens", "output-tokens"):
        headers += [
            (f"anthropic-ratelimit-{kind}-limit", UNLIMITED),
            (f"anthropic-ratelimit-{kind}-remaining", UNLIMITED),
            (f"anthropic-ratelimit-{kind}-reset", reset),
        ]
    return [(name.encode(), value.encode()) for name, value in headers]
