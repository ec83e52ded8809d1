"""A short way to the routes that answer: their endpoints are called without the framework.

In: the application's own routes. Out: an ASGI app that answers them, and hands on all else.
Must not know: what the endpoints do, or how errors are said.

FastAPI passes a request through seven layers, finds its route, resolves what its endpoint depends
on and validates what it returns. An endpoint that takes a request and returns a response needs none
of it, and all of it takes longer than everything else that is done with a small request. The routes
stay declared where the application has them, so that its document, its 404s and its 405s are about
them, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[Response]]
ErrorHandler = Callable[[Request, Exception], Awaitable[Response]]


class Shortcut:
    """Calls the endpoints of `POST` routes directly."""

    def __init__(
        self,
        app: ASGIApp,
        endpoints: dict[str, Endpoint],
        expected: tuple[type[Exception], ...],
        handle: ErrorHandler,
    ) -> None:
        """Stand in front of `app`, which answers what is not in `endpoints`.

        Args:
            app: All routes.
            endpoints: By path.
            expected: Errors that say all about themselves; others are raised once they are
                answered, for the server to log.
            handle: Says an error.
        """
        self._app = app
        self._endpoints = endpoints
        self._expected = expected
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        endpoint = None
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self._endpoints.get(scope["path"])
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await endpoint(request)
            await response(scope, receive, send)
        except Exception as error:
            # A stream raises only before it has sent anything.
            response = await self._handle(request, error)
            await response(scope, receive, send)
            if not isinstance(error, self._expected):
                raise


def endpoints_of(routes: Iterable[BaseRoute]) -> dict[str, Endpoint]:
    """Return, by path, the endpoints of the `POST` routes; each takes a `Request` alone."""
    return {
        route.path: route.endpoint
        for route in routes
        if isinstance(route, APIRoute) and route.methods == {"POST"}
    }
