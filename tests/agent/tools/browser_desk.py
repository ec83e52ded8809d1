"""A web site and a browser tool that a module of tests shares: Chromium takes seconds to start."""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web

from openk2.agent.tool import Call, ToolError, ToolResult
from openk2.agent.tools.addresses import Reach
from openk2.agent.tools.browser import browser
from openk2.agent.tools.chromium import BrowserSettings, find_chromium

PAGES = Path(__file__).parent / "pages"
T = TypeVar("T")


def need_chromium() -> None:
    """Skip where there is no browser to test with."""
    pytest.importorskip("playwright")
    try:
        find_chromium(BrowserSettings())
    except ToolError as error:
        pytest.skip(str(error))


class Desk:
    """The tool, the site that it may reach, and the loop that both live on."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.workspace = folder / "run"
        self.workspace.mkdir()
        self.asked: list[str] = []
        """Paths that the site was asked for."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.site = f"127.0.0.1:{self.await_(self._serve())}"
        self.settings = BrowserSettings(
            reach=Reach(allow_private=(self.site,)), action_seconds=5.0, **settings
        )
        self.tool = browser(self.settings)

    def await_(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(100)

    async def _serve(self) -> int:
        application = web.Application(middlewares=[self._remember])
        application.router.add_post("/order", _order)
        application.router.add_get("/thanks", _thanks)
        application.router.add_get("/inner", _inner)
        application.router.add_get("/gone", _gone)
        application.router.add_get("/slow", _slow)
        application.router.add_static("/", PAGES)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self._runner.addresses[0][1]

    @web.middleware
    async def _remember(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        return await handler(request)

    def do(self, **arguments: Any) -> ToolResult:
        call = Call("1", self.workspace, seconds=60.0)
        return self.await_(self.tool.run(arguments, call))  # type: ignore[arg-type]

    def open(self, page: str) -> ToolResult:
        return self.do(action="open", url=f"http://{self.site}/{page}")

    def put(self, *pages: str) -> None:
        for page in pages:
            shutil.copy(PAGES / page, self.workspace / page)

    def close(self) -> None:
        assert self.tool.close is not None
        self.await_(self.tool.close())  # type: ignore[arg-type]
        self.await_(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def ref(result: ToolResult, element: str) -> str:
    """The reference of the first element whose line in the snapshot begins like this."""
    found = re.search(rf"- {re.escape(element)}[^\n]*?\[ref=(\w+)\]", result.content)
    assert found, f"no {element} in {result.content}"
    return found[1]


async def _order(request: web.Request) -> web.Response:
    form = await request.post()
    response = web.Response(status=303, headers={"Location": "/thanks"})
    response.set_cookie("order", f"{form['city']}-{form['days']}-{form.get('train', 'off')}")
    return response


async def _thanks(request: web.Request) -> web.Response:
    order = request.cookies.get("order", "nothing")
    return web.Response(
        text=f"<title>Thanks</title><h1>Ordered: {order}</h1><a href='/trip.html'>Again</a>",
        content_type="text/html",
    )


async def _gone(request: web.Request) -> web.Response:
    return web.Response(status=410, text="<p>It moved away", content_type="text/html")


async def _slow(request: web.Request) -> web.Response:
    await asyncio.sleep(20)
    return web.Response(text="late")


async def _inner(request: web.Request) -> web.Response:
    """Redirect to a server of this machine that was not granted."""
    raise web.HTTPFound(f"http://localhost:{request.url.port}/secret")
