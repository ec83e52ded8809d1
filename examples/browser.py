"""Opens a page that a model wrote in a real Chromium that cannot reach anything.

In: an HTML file. Out: a page to look at and to play with, and everything that went wrong on it.
Must not know: what the page is about.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from examples.checks import MOST_BYTES, Wrong, require
from openk2.agent.tool import ToolError
from openk2.agent.tools.chromium import BrowserSettings, find_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

ADDRESS = "http://artefact.test/"
NOBODY = 65534
FITS = "document.documentElement.scrollWidth <= innerWidth + 1"
RUNNING: ContextVar[Browser | None] = ContextVar("RUNNING", default=None)


@dataclass(slots=True)
class Opened:
    """A page with what it complained about."""

    page: Page
    problems: list[str] = field(default_factory=list[str])
    """Console errors, exceptions, and requests for anything but the file itself."""


def browser_path() -> str | None:
    """Find the system's Chromium."""
    try:
        return find_chromium(BrowserSettings())
    except ToolError:
        return None


def as_nobody(chromium: str, folder: Path) -> str:
    """Return a program that starts Chromium as an ordinary user, in whose profile it also lives.

    Chromium's own sandbox refuses to run as root, and pages of strangers do not run without it.
    """
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        return chromium
    script = folder / "chromium"
    script.write_text(f"""#!/bin/sh
for argument in "$@"; do
    case $argument in
    --user-data-dir=*)
        HOME=${{argument#*=}} TMPDIR=${{argument#*=}}
        export HOME TMPDIR
        chown -R {NOBODY}:{NOBODY} "$HOME" ;;
    esac
done
exec {setpriv} --reuid={NOBODY} --regid={NOBODY} --clear-groups --inh-caps=-all \\
    --bounding-set=-all --no-new-privs {shlex.quote(chromium)} "$@"
""")
    script.chmod(0o755)
    return str(script)


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
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=as_nobody(chromium, Path(folder)),
            chromium_sandbox=True,
            args=["--disable-gpu", "--disable-dev-shm-usage"],
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
    from playwright.sync_api import TimeoutError as TooLate

    for width in (page.viewport_size or {"width": 1280})["width"], 390:
        page.set_viewport_size({"width": width, "height": 844})
        try:  # charts follow their window a moment later
            page.wait_for_function(FITS, timeout=5_000)
        except TooLate:
            wide = page.evaluate("document.documentElement.scrollWidth")
            raise Wrong(f"at a width of {width} the page is {wide} wide") from None


def shown_pictures(page: Page, least_width: int = 400) -> int:
    """Count the pictures that are loaded, visible, and not tiny."""
    return page.evaluate(
        """least => [...document.images].filter(image => image.complete
            && image.naturalWidth >= least && image.getBoundingClientRect().width > 100).length""",
        least_width,
    )
