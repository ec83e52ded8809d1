"""Opens a page that a model wrote in a real Chromium that cannot reach anything.

In: an HTML file. Out: a page to look at and to play with, and everything that went wrong on it.
Must not know: what the page is about.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from examples.checks import MOST_BYTES, Wrong, require

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

ADDRESS = "http://artefact.test/"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
RUNNING: ContextVar[Browser | None] = ContextVar("RUNNING", default=None)


@dataclass(slots=True)
class Opened:
    """A page with what it complained about."""

    page: Page
    problems: list[str] = field(default_factory=list[str])
    """Console errors, exceptions, and requests for anything but the file itself."""


def browser_path() -> str | None:
    """Find the system's Chromium."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


@contextmanager
def one_browser() -> Iterator[Browser]:
    """Start a browser that every page within the block shares.

    Raises:
        Wrong: There is no browser here.
    """
    from playwright.sync_api import sync_playwright

    if (shared := RUNNING.get()) is not None:
        yield shared
        return
    chromium = browser_path()
    if chromium is None:
        raise Wrong("no Chromium here to look at it with: run `make system-deps`")
    with sync_playwright() as play:
        # Chromium's own sandbox refuses to run as root; there, only the page's origin is closed.
        browser = play.chromium.launch(
            executable_path=chromium, chromium_sandbox=os.geteuid() != 0, args=["--disable-gpu"]
        )
        token = RUNNING.set(browser)
        try:
            yield browser
        finally:
            RUNNING.reset(token)
            browser.close()


@contextmanager
def opened(file: Path, width: int = 1280, height: int = 900) -> Iterator[Opened]:
    """Open a file; every request but the one for it is refused and noted.

    Args:
        file: An HTML file that needs nothing else.
        width: Of the window.
        height: Of the window.

    Raises:
        Wrong: There is no such file, or no browser.
    """
    require(file.is_file() and not file.is_symlink(), f"there is no page {file.name}")
    require(file.stat().st_size <= MOST_BYTES, f"{file.name} has {file.stat().st_size} bytes")
    with one_browser() as browser:
        context = browser.new_context(viewport={"width": width, "height": height})
        try:
            page = context.new_page()
            page.set_default_timeout(30_000)
            look = Opened(page)
            listen(look, file)
            page.goto(ADDRESS, wait_until="load")
            yield look
        finally:
            context.close()


def listen(look: Opened, file: Path) -> None:
    """Answer the one request for the page, and note every complaint."""

    def answer(route: Route) -> None:
        if route.request.url == ADDRESS:
            route.fulfill(body=file.read_bytes(), content_type="text/html; charset=utf-8")
        elif route.request.url.endswith("/favicon.ico"):
            route.fulfill(status=204)
        else:
            look.problems.append(f"asks for {route.request.url[:120]}")
            route.abort()

    look.page.context.route("**/*", answer)
    look.page.on("pageerror", lambda error: look.problems.append(f"exception: {error.message}"))
    look.page.on(
        "console",
        lambda message: (
            look.problems.append(f"console: {message.text}") if message.type == "error" else None
        ),
    )


def require_quiet(look: Opened) -> None:
    """Go on only if nothing went wrong on the page.

    Raises:
        Wrong: Something did.
    """
    require(not look.problems, "; ".join(look.problems[:5]))


def require_fits(page: Page) -> None:
    """Go on only if nothing sticks out sideways, at this width and on a phone.

    Raises:
        Wrong: One would have to scroll sideways.
    """
    for width in (page.viewport_size or {"width": 1280})["width"], 390:
        page.set_viewport_size({"width": width, "height": 844})
        wide = page.evaluate("document.documentElement.scrollWidth")
        require(wide <= width + 1, f"at a width of {width} the page is {wide} wide")


def shown_pictures(page: Page, least_width: int = 400) -> int:
    """Count the pictures that are loaded, visible, and not tiny."""
    return page.evaluate(
        """least => [...document.images].filter(image => image.complete
            && image.naturalWidth >= least && image.getBoundingClientRect().width > 100).length""",
        least_width,
    )
