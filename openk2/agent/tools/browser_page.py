"""A page in a real browser, for the browser tool and for whoever checks what an agent built.

In: addresses of the web, or paths of a workspace. Out: Playwright's page, and what happened to it:
errors, dialogs, downloads, refusals.
Must not know: models, or the words of a tool.
"""

from __future__ import annotations

import asyncio
import mimetypes
import os
import re
from collections.abc import Awaitable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar
from urllib.parse import quote, unquote, urlsplit

from openk2.agent.tool import ToolError
from openk2.agent.tools.addresses import parse_address
from openk2.agent.tools.chromium import WORKSPACE_ORIGIN, BrowserSettings, Chromium, launch
from openk2.agent.tools.confined import reach
from openk2.agent.tools.gate import Gate

if TYPE_CHECKING:
    from playwright.async_api import ConsoleMessage, Dialog, Download, Page, Route

T = TypeVar("T")
_EVENTS = 30
"""Most events that are kept between two looks at them: a page may log for ever."""
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}


class BrowserPage:
    """One browser with one page in front; it starts at the first use, and again after it died."""

    def __init__(self, workspace: Path, settings: BrowserSettings | None = None) -> None:
        """Take a workspace; nothing runs yet.

        Args:
            workspace: Its files can be opened; downloads and screenshots are put into it.
            settings: How the browser runs and what it may reach; None: the defaults.
        """
        self.workspace = workspace
        self.settings = settings or BrowserSettings()
        self.events: list[str] = []
        """What happened since somebody last emptied it: errors, dialogs, downloads, refusals."""
        self.saved: list[Path] = []
        """Downloads since somebody last emptied it."""
        self.dialogs: Literal["accept", "dismiss"] = "accept"
        """How alerts, questions and warnings on leaving are answered."""
        self.local = False
        """Whether the page in front is the workspace's own."""
        self._gate = Gate(self.settings.reach)
        self._chromium: Chromium | None = None
        self._front: Page | None = None
        self._pages: list[Page] = []
        self._downloading: set[asyncio.Task[None]] = set()
        self._lost = ""

    async def __aenter__(self) -> BrowserPage:
        """Start at the first use."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the browser."""
        await self.close()

    @property
    def page(self) -> Page:
        """The page in front.

        Raises:
            ToolError: Nothing is open, or what was open is gone.
        """
        if self._front is None:
            lost, self._lost = self._lost, ""
            raise ToolError(f"{lost or 'no page is open'}; use open with an address or a path")
        return self._front

    @property
    def gone(self) -> str:
        """Why the page or the browser is not there any more; empty: it is."""
        return self._lost

    async def open(self, target: str) -> Page:
        """Open an address of the web, or a file of the workspace by its path.

        Raises:
            ToolError: It cannot be opened; the message says why.
        """
        local = workspace_path(target)
        address = self._file_address(*local) if local else str(parse_address(target))
        if self.settings.offline and not local:
            raise ToolError(
                f"{address} was not opened: this run has no network; open files of the workspace, "
                "or fetch pages that web_search found",
                "refused",
            )
        page = await self._fresh_page(local is not None)
        await self._go(page, address)
        return self.page

    def _file_address(self, path: str, rest: str) -> str:
        try:
            with reach(self.workspace, path) as place:
                os.close(place.open_file())
                return f"{WORKSPACE_ORIGIN}/{quote(place.shown)}{rest}"
        except ToolError as error:
            raise ToolError(
                f"{error} (An address of the web begins with https://.)", error.kind
            ) from error

    async def _fresh_page(self, local: bool) -> Page:
        """Bring a page of the right side to the front: the sides never share a moment.

        What the workspace's pages read must not travel by a tab, a connection or a request of the
        other side, so the change ends them all.
        """
        chromium = await self._running()
        if self._front is not None and self.local == local:
            return self._front
        for page in tuple(self._pages):
            await self._discard(page)
        settings = self.settings
        self._gate.shut(settings.offline or (local and not settings.workspace_network))
        self.local = local
        async with asyncio.timeout(self.settings.load_seconds):
            self._front = await chromium.context.new_page()
        return self._front

    async def _go(self, page: Page, address: str) -> None:
        from playwright.async_api import Error

        milliseconds = self.settings.load_seconds * 1000
        try:
            answer = await page.goto(address, wait_until="domcontentloaded", timeout=milliseconds)
        except Error as error:
            if "Download is starting" in str(error):
                await self.settle()
                return
            await asyncio.sleep(0.05)  # the gate learns it first, in another task
            parts = urlsplit(address)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            here = f"{(parts.hostname or '').lower()}:{port}"
            problem = None if self.local else self._gate.problems.get(here)
            raise ToolError(
                f"{address} did not open: {problem or reason(error)}",
                problem.kind if problem else "failed",
            ) from error
        if page.url.startswith("chrome-error:"):
            told = f" ({answer.status})" if answer is not None else ""
            raise ToolError(f"{address} did not open: the server's answer cannot be shown{told}")
        if answer is not None and answer.status >= 400:
            self.note(f"the server answered {answer.status}")
        await self.settle()

    async def settle(self) -> None:
        """Let the page's scripts, its loading and its downloads catch up, for a bounded time."""
        from playwright.async_api import Error

        await asyncio.sleep(self.settings.settle_seconds)
        if self._front is not None:
            try:
                await self._front.wait_for_load_state("load", timeout=5000)
            except Error as error:
                if "Timeout" in str(error):
                    self.note("the page is still loading")
        if self._downloading:
            _, late = await asyncio.wait(self._downloading, timeout=self.settings.load_seconds)
            if late:
                self.note("a download is still running")
        for host, problem in self._gate.problems.items():
            # The browser itself asks for favicons of the workspace, and for accounts.
            if problem.kind == "refused" and ".invalid:" not in host:
                self.note(str(problem))
        self._gate.problems.clear()

    async def answers(self) -> bool:
        """Whether the page in front runs its scripts; one that hangs is closed."""
        page = self.page
        try:
            async with asyncio.timeout(self.settings.action_seconds):
                await page.evaluate("1")
        except TimeoutError:
            await self._discard(page)
            return False
        return True

    async def screenshot(self, full_page: bool = False) -> Path:
        """Save a picture of the page; the file."""
        data = await self.page.screenshot(
            full_page=full_page, timeout=self.settings.load_seconds * 1000, animations="disabled"
        )
        taken = self.workspace / "screenshots"
        number = 1
        while (taken / f"page-{number}.png").exists():
            number += 1
        return self._write(f"screenshots/page-{number}.png", data)

    async def _running(self) -> Chromium:
        if self._chromium is None:
            port = await self._gate.start()
            try:
                chromium = await launch(self.settings, port)
            except BaseException:
                await self._gate.close()
                raise
            context = chromium.context
            context.on("close", lambda _: self._died())
            context.on("page", self._opened)
            context.on("dialog", self._answer_dialog)
            context.on("console", self._hear)
            context.on("weberror", lambda error: self.note(f"page error: {error.error}"))
            await context.route(f"{WORKSPACE_ORIGIN}/**", self._serve_file)
            await context.route(re.compile(r"^(file|ftp|filesystem):"), lambda route: route.abort())
            self._chromium = chromium
            for page in context.pages:
                await page.close()
        elif self._lost:
            await self._end()
            self._lost = ""
            return await self._running()
        return self._chromium

    def _died(self) -> None:
        if self._chromium is not None:
            self._lost = "the browser ended unexpectedly"
            self._front = None
            self._pages.clear()

    def _opened(self, page: Page) -> None:
        """A page opened, by us or by another page: it is in front now."""
        if len(self._pages) >= self.settings.tabs:
            self.note(f"one tab more than {self.settings.tabs} was closed")
            self._spawn(self._discard(page))
            return
        if self._pages:
            self.note(f"a new tab opened ({len(self._pages) + 1} are open)")
        self._pages.append(page)
        self._front = page
        page.on("close", self._closed)
        page.on("crash", self._crashed)
        page.on("download", self._download)

    def _closed(self, page: Page) -> None:
        if page in self._pages:
            self._pages.remove(page)
        if page is self._front:
            self._front = self._pages[-1] if self._pages else None

    def _crashed(self, page: Page) -> None:
        self._closed(page)
        self._lost = "the page crashed" if self._front is None else ""
        self.note("the page crashed")
        self._spawn(self._discard(page))

    async def _discard(self, page: Page) -> None:
        """Close a page that may not answer any more."""
        self._closed(page)
        try:
            async with asyncio.timeout(5):
                await page.close()
        except Exception:  # noqa: BLE001 - a dead target fails in many ways; the browser ends then
            self._lost = "the page did not close, and the browser was ended"
            self._front = None

    async def _answer_dialog(self, dialog: Dialog) -> None:
        self.note(f"{dialog.type} dialog {dialog.message!r} was answered: {self.dialogs}")
        try:
            if self.dialogs == "accept" or dialog.type == "beforeunload":
                await dialog.accept(dialog.default_value or None)
            else:
                await dialog.dismiss()
        except Exception as error:  # noqa: BLE001 - its page may be gone by now
            self.note(f"the dialog went away: {reason(error)}")

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            place = message.location
            self.note(f"console error: {message.text} ({place['url']}:{place['lineNumber']})")

    def note(self, event: str) -> None:
        """Keep an event until somebody looks."""
        if len(self.events) < _EVENTS:
            self.events.append(" ".join(event.split())[:500])

    def _download(self, download: Download) -> None:
        self._spawn(self._keep(download))

    async def _keep(self, download: Download) -> None:
        """Copy a finished download into the workspace; what the browser wrote is not followed."""
        assert self._chromium is not None
        plain = re.sub(r"[^\w.-]+", "-", download.suggested_filename).strip("-.")[:100] or "file"
        try:
            async with asyncio.timeout(self.settings.load_seconds * 4):
                written = await download.path()
            data = self._read(self._chromium.downloads, written.name)
            file = self._write(f"downloads/{plain}", data)
        except Exception as error:  # noqa: BLE001 - whatever stopped it, the page goes on
            here = " (files of the workspace need no download)" if self.local else ""
            self.note(f"the download of {plain} failed: {reason(error)}{here}")
            return
        self.saved.append(file)
        self.note(f"{len(data)} bytes were downloaded to downloads/{plain}")

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._downloading.add(task)
        task.add_done_callback(self._downloading.discard)

    async def _serve_file(self, route: Route) -> None:
        """Answer for the workspace, to its own pages only."""
        if not self.local:
            await route.abort("accessdenied")
            return
        path = unquote(urlsplit(route.request.url).path).lstrip("/")
        path += "index.html" if not path or path.endswith("/") else ""
        try:
            data = self._read(self.workspace, path)
        except ToolError as error:
            await route.fulfill(status=404, content_type="text/plain", body=str(error))
            return
        ending = Path(path).suffix.lower()
        kind = _TYPES.get(ending) or mimetypes.guess_type(path)[0] or "application/octet-stream"
        if kind.startswith("text/"):
            kind += "; charset=utf-8"
        await route.fulfill(
            body=data,
            content_type=kind,
            headers={"Cache-Control": "no-store", "Content-Type": kind},
        )

    def _read(self, folder: Path, path: str) -> bytes:
        with reach(folder, path) as place, os.fdopen(place.open_file(), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > self.settings.file_bytes:
                raise ToolError(f"{path} has {size} bytes; {self.settings.file_bytes} are the most")
            return file.read(self.settings.file_bytes)

    def _write(self, path: str, data: bytes) -> Path:
        with reach(self.workspace, path, create=True) as place:
            place.write(data)
            return self.workspace / place.shown

    async def close(self) -> None:
        """End the browser; it may be opened again."""
        await self._end()
        self._lost = ""

    async def _end(self) -> None:
        chromium, self._chromium = self._chromium, None
        self._front = None
        self._pages.clear()
        for task in tuple(self._downloading):
            task.cancel()
        await asyncio.gather(*self._downloading, return_exceptions=True)
        if chromium is not None:
            await chromium.close()
        await self._gate.close()


def workspace_path(target: str) -> tuple[str, str] | None:
    """Read a target as a file of the workspace: its path, and the query and fragment after it.

    Args:
        target: A path, `workspace://PATH`, `file:///PATH`, or an address under `WORKSPACE_ORIGIN`.

    Returns:
        None where the target is an address of the web.
    """
    target = target.strip()
    for prefix in ("workspace://", f"{WORKSPACE_ORIGIN}/", "file://"):
        if target.startswith(prefix):
            target = target.removeprefix(prefix)
            break
    else:
        if re.match(r"[a-zA-Z][\w+.-]*:", target):
            return None
    path = re.split(r"[?#]", target, maxsplit=1)[0]
    return unquote(path), target[len(path) :]


def reason(error: Exception) -> str:
    """Say in a line what Playwright says in many."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return re.sub(r"^\w+(\.\w+)*: ", "", first).split(" at http")[0][:300]
