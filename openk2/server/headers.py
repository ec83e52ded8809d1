"""Headers that every response has: the request's id and the rate limits.

In: an ASGI app. Out: one that names each request, in its state and in its response's headers.
Must not know: routes, dialects, or what was answered.

Both vendors' names are sent to everybody: OpenAI's clients read `x-request-id` and
`x-ratelimit-*`, Anthropic's `request-id` and `anthropic-ratelimit-*`.
"""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UNLIMITED = "1000000000"
"""Clients read these headers as whole numbers, so no limit is one that nobody reaches."""

_ID = re.compile(r"[\x21-\x7e]{1,128}")


class NamedRequests:
    """Gives each request an id: the client's own `x-request-id`, if it is short and printable."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand in front of `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; its id is `request.state.id`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        theirs = Headers(scope=scope).get("x-request-id", "")
        request_id = theirs if _ID.fullmatch(theirs) else f"req_{uuid.uuid4().hex}"
        scope.setdefault("state", {})["id"] = request_id

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in common_headers(request_id).items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_named)


def common_headers(request_id: str) -> dict[str, str]:
    """Return the headers of every response; this server has no rate limits."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    headers = {"x-request-id": request_id, "request-id": request_id}
    for kind in ("requests", "tokens"):
        headers[f"x-ratelimit-limit-{kind}"] = UNLIMITED
        headers[f"x-ratelimit-remaining-{kind}"] = UNLIMITED
        headers[f"x-ratelimit-reset-{kind}"] = "0s"
    for kind in ("requests", "tokens", "input-tokens", "output-tokens"):
        headers[f"anthropic-ratelimit-{kind}-limit"] = UNLIMITED
        headers[f"anthropic-ratelimit-{kind}-remaining"] = UNLIMITED
        headers[f"anthropic-ratelimit-{kind}-reset"] = now
    return headers
