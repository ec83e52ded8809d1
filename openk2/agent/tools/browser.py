"""The browser as a tool: one page, read as an accessibility snapshot, acted on by its references.

In: an action. Out: what the page looks like after it, and what went wrong on it.
Must not know: how Chromium is started (`chromium.py`), or kept and guarded (`browser_page.py`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from openk2.agent.tool import Access, Call, Tool, ToolError, ToolResult
from openk2.agent.tools.addresses import parse_address
from openk2.agent.tools.browser_page import BrowserPage, reason, workspace_path
from openk2.agent.tools.chromium import BrowserSettings
from openk2.agent.tools.confined import absolute
from openk2.types import ToolSpec

if TYPE_CHECKING:
    from playwright.async_api import Locator

T = TypeVar("T")

_ACTIONS: dict[str, tuple[str, ...]] = {
    "open": ("url",),
    "snapshot": (),
    "click": ("ref",),
    "type": ("ref", "text"),
    "select": ("ref", "text"),
    "press": ("key",),
    "scroll": (),
    "back": (),
    "screenshot": (),
    "wait": (),
}
"""Action → the arguments that it cannot do without."""

_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "action": {
            "type": "string",
            "enum": list(_ACTIONS),
            "description": "What to do: open a url; snapshot the page again; click a ref; type "
            "text into a ref; select the option text of a ref; press a key; scroll; go back; take "
            "a screenshot; wait for seconds or until text shows.",
        },
        "url": {
            "type": "string",
            "maxLength": 4000,
            "description": "open: an http(s) address, or the path of a file in the workspace.",
        },
        "ref": {
            "type": "string",
            "pattern": "^(f[0-9]+)?e[0-9]+$",
            "description": "The element, by its [ref=…] in the latest snapshot.",
        },
        "text": {
            "type": "string",
            "maxLength": 100_000,
            "description": "type: the new text; select: the option's label; wait: what must show.",
        },
        "submit": {"type": "boolean", "description": "type: press Enter afterwards."},
        "key": {
            "type": "string",
            "maxLength": 40,
            "description": "press: a key such as Enter, ArrowLeft, a, or Control+a.",
        },
        "seconds": {
            "type": "number",
            "minimum": 0,
            "maximum": 30,
            "description": "wait: how long; press: how long the key is held.",
        },
        "pixels": {
            "type": "integer",
            "minimum": -20_000,
            "maximum": 20_000,
            "description": "scroll: how far down; negative is up; 600 where it is left out.",
        },
        "full_page": {
            "type": "boolean",
            "description": "screenshot: the whole page instead of what is visible.",
        },
        "dialogs": {
            "type": "string",
            "enum": ["accept", "dismiss"],
            "description": "How dialogs that this action opens are answered; accept by default.",
        },
    },
    "required": ["action"],
    "additionalProperties": False,
}


def browser(settings: BrowserSettings | None = None) -> Tool:
    """Make the tool that looks at pages and works with them."""
    state = _State(settings or BrowserSettings())
    offline = state.settings.offline

    async def run(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        try:
            async with asyncio.timeout(call.seconds):
                return await state.act(arguments, call)
        except TimeoutError as error:
            raise ToolError(
                f"{arguments['action']} was not done within {call.seconds:g} s; take a snapshot to "
                "see where the page stands",
                "timeout",
            ) from error

    return Tool(
        spec=ToolSpec(
            "browser",
            "Look at a page in a real browser and work with it: forms, scripts, games, several "
            f"pages. Opens {'' if offline else 'web addresses and '}files of the workspace (which "
            "have no network). "
            "Returns the page as a tree whose elements have a ref to act on, with the errors of "
            "the page and its console. To read a plain page, fetch is cheaper.",
            _PARAMETERS,
        ),
        run=run,
        capability="" if offline else "read_page",
        cost=5.0,
        timeout=120.0,
        access=_access,
        close=state.close,
    )


def _access(arguments: Mapping[str, Any], workspace: Path) -> Access:
    """Say where words of the model may go: by an address, or by what is typed into a page.

    It looks at nothing but the arguments, so the answer is the same when a run is replayed.
    """
    match arguments.get("action"):
        case "open":
            try:
                target = str(arguments.get("url", ""))
                local = workspace_path(target)
                if local is None:
                    return Access(hosts=(parse_address(target).host,))
                return Access(executes=True, reads=absolute(workspace, local[0]))
            except ToolError:  # run says so, too, and opens nothing
                return Access()
        case "type" | "select":
            return Access(hosts=("*",))
        case "press":
            return Access(hosts=("*",) if len(str(arguments.get("key", ""))) == 1 else ())
        case _:
            return Access()


@dataclass
class _State:
    """The browser between calls."""

    settings: BrowserSettings
    browser: BrowserPage | None = None

    async def close(self) -> None:
        """End the browser."""
        if self.browser is not None:
            await self.browser.close()
            self.browser = None

    async def act(self, arguments: Mapping[str, Any], call: Call) -> ToolResult:
        """Do one action and look at the page."""
        action = str(arguments["action"])
        missing = [name for name in _ACTIONS[action] if name not in arguments]
        if missing:
            raise ToolError(f"{action} needs {' and '.join(missing)}", "bad_arguments")
        if self.browser is None or self.browser.workspace != call.workspace:
            await self.close()
            self.browser = BrowserPage(call.workspace, self.settings)
        browser = self.browser
        browser.events.clear()
        browser.saved.clear()
        browser.dialogs = arguments.get("dialogs", "accept")
        pictures = await _guarded(browser, action, _do(browser, action, arguments))
        part = arguments.get("ref") if action == "snapshot" else None
        tree = await _guarded(browser, "snapshot", _snapshot(browser, part))
        title = await _guarded(browser, "snapshot", browser.page.title())
        return _result(browser, browser.page.url, title, tree, pictures)


async def _guarded(browser: BrowserPage, action: str, work: Awaitable[T]) -> T:
    """Do something with a page that may hang, crash or be gone; say which of these it is."""
    try:
        return await work
    except ToolError:
        raise
    except Exception as error:
        # Not before: where it is missing, the work above has said so.
        from playwright.async_api import Error

        if not isinstance(error, Error):
            raise
        said = reason(error)
        if "crash" in str(error).lower():
            raise ToolError(f"the page crashed during {action}; open it again") from error
        if browser.gone:
            raise ToolError(
                f"{browser.gone} during {action}; the next open starts a new one"
            ) from error
        if "Timeout" in said and not await browser.answers():
            raise ToolError(
                f"the page hangs: its scripts do not give the browser back, so {action} could not "
                "be done; it was closed, open it again or another one",
                "timeout",
            ) from error
        if "Timeout" in said and action == "snapshot":
            raise ToolError(
                f"the page is too large to be read in {browser.settings.action_seconds:g} s; read "
                "it with fetch, or look at a screenshot",
                "failed",
            ) from error
        blocked = re.search(r"- (<.*> intercepts pointer events)", str(error))
        if blocked or "Timeout" in said:
            why = blocked[1] if blocked else "it is hidden, covered, disabled or gone"
            raise ToolError(
                f"{action} waited {browser.settings.action_seconds:g} s in vain: {why}; take a "
                "snapshot and use a ref from it",
                "failed",
            ) from error
        raise ToolError(f"{action} did not work: {said}; take a snapshot and try again") from error


async def _do(browser: BrowserPage, action: str, arguments: Mapping[str, Any]) -> tuple[Path, ...]:
    """Do one action; the pictures that it took."""
    limit = browser.settings.action_seconds * 1000
    if action == "open":
        await browser.open(str(arguments["url"]))
    elif action == "screenshot":
        return (await browser.screenshot(bool(arguments.get("full_page"))),)
    elif action != "snapshot":
        if action in ("click", "type", "select"):
            element = await _element(browser, str(arguments["ref"]))
            await _do_to_element(element, action, arguments, limit)
        else:
            await _do_to_page(browser, action, arguments, limit)
        await browser.settle()
    return ()


async def _do_to_element(
    element: Locator, action: str, arguments: Mapping[str, Any], limit: float
) -> None:
    match action:
        case "click":
            await element.click(timeout=limit)
        case "type":
            await element.fill(str(arguments["text"]), timeout=limit)
            if arguments.get("submit"):
                await element.press("Enter", timeout=limit)
        case _:
            await element.select_option(label=str(arguments["text"]), timeout=limit)


async def _do_to_page(
    browser: BrowserPage, action: str, arguments: Mapping[str, Any], limit: float
) -> None:
    page = browser.page
    seconds = float(arguments.get("seconds", 0))
    match action:
        case "press":
            if "ref" in arguments:
                element = await _element(browser, str(arguments["ref"]))
                await element.focus(timeout=limit)
            await page.keyboard.press(str(arguments["key"]), delay=seconds * 1000)
        case "scroll":
            await page.mouse.wheel(0, int(arguments.get("pixels", 600)))
        case "back":
            if await page.go_back(wait_until="domcontentloaded", timeout=limit) is None:
                raise ToolError("there is no earlier page to go back to")
        case "wait" if "text" in arguments:
            text = page.get_by_text(str(arguments["text"])).first
            await text.wait_for(timeout=(seconds or 10) * 1000)
        case _:
            await asyncio.sleep(seconds or 1)


async def _element(browser: BrowserPage, ref: str) -> Locator:
    element = browser.page.locator(f"aria-ref={ref}")
    if await element.count() == 0:
        raise ToolError(f"there is no {ref} on the page now; take a snapshot and use a ref from it")
    return element


async def _snapshot(browser: BrowserPage, ref: str | None) -> str:
    """Read the page, or a part of it, as a tree with references."""
    limit = browser.settings.action_seconds * 1000
    if ref is None:
        return await browser.page.aria_snapshot(mode="ai", timeout=limit)
    return await (await _element(browser, ref)).aria_snapshot(mode="ai", timeout=limit)


def _result(
    browser: BrowserPage, url: str, title: str, tree: str, pictures: tuple[Path, ...]
) -> ToolResult:
    most = browser.settings.snapshot_chars
    if len(tree) > most:
        tree = tree[: tree.rfind("\n", 0, most) + 1 or most] + (
            f"(cut: {len(tree) - most} characters more; snapshot with the ref of a part shows it)"
        )
    lines = [f"Page: {title or 'without a title'}\nAddress: {url}"]
    lines += [f"! {event}" for event in browser.events]
    lines += [f"Saved {file.relative_to(browser.workspace).as_posix()}" for file in pictures]
    lines.append(tree or "(The page is empty.)")
    return ToolResult(
        "\n".join(lines),
        artifacts=(*pictures, *browser.saved),
        # A page of the workspace has no network: it shows nothing that was not in the run before.
        untrusted=not browser.local or browser.settings.workspace_network,
        details={"url": url, "title": title, "events": list(browser.events)},
    )
