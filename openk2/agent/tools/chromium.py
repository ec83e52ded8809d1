"""Start the system's Chromium so that a page that breaks out of it finds nothing.

In: settings and a proxy's port. Out: a browsing context of Playwright, and its end.
Must not know: what pages are opened, or who looks at them.

Chromium's own sandbox stays on. It refuses to run as root, so for root it is started as an
unprivileged user, with a home of its own; nothing of our environment is passed on.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from openk2.agent.tool import ToolError
from openk2.agent.tools.addresses import Reach

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Playwright

WORKSPACE_ORIGIN = "http://workspace.invalid"
"""Where pages of the workspace stand: a name that no name server may ever answer (RFC 6761)."""

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"


@dataclass(frozen=True, slots=True)
class BrowserSettings:
    """How the browser runs and what it may reach."""

    executable: str = ""
    """Chromium or Chrome; empty: the first on the path."""
    reach: Reach = field(default_factory=Reach)
    """Which addresses pages may connect to."""
    offline: bool = False
    """Only files of the workspace are opened; nothing is connected to."""
    workspace_network: bool = False
    """Pages of the workspace may use the network. Off, because their scripts can read the
    workspace, and a model that was talked into it would write one that sends it away."""
    user: int = 65534
    """The user and group that it runs as when we are root; 65534 is `nobody`."""
    unsandboxed: bool = False
    """Start it without its own sandbox where that does not work: only inside another one."""
    width: int = 1280
    """Of the window, in pixels."""
    height: int = 800
    """Of the window, in pixels."""
    script_megabytes: int = 1024
    """Memory for the objects of one page's scripts; a page that wants more crashes."""
    start_seconds: float = 60.0
    """Longest start of the browser."""
    load_seconds: float = 30.0
    """Longest wait for a page."""
    action_seconds: float = 8.0
    """Longest wait for an element to be there and free, and for a page to answer at all."""
    settle_seconds: float = 0.4
    """Pause after an action, for scripts to answer it."""
    snapshot_chars: int = 30_000
    """Longest snapshot that is returned; the rest is cut with a note."""
    file_bytes: int = 100 << 20
    """Longest download that is kept, and longest file of the workspace that is shown."""
    tabs: int = 8
    """Most tabs; what a page opens beyond them is closed."""


@dataclass(frozen=True, slots=True)
class Chromium:
    """A browser that runs."""

    context: BrowserContext
    """Its one profile: cookies and storage begin empty and end with it."""
    home: Path
    """Everything that it may write to."""
    driver: Playwright

    @property
    def downloads(self) -> Path:
        """Where it puts files, under names of its own."""
        return self.home / "downloads"

    async def close(self) -> None:
        """End it, whatever state it is in, and remove what it wrote."""
        try:
            async with asyncio.timeout(10):
                await self.context.close()
        except Exception:  # noqa: BLE001 - a dead or hung browser fails in many ways; it ends below
            pass
        finally:
            # The driver kills the browser's process group when its own pipe closes.
            await self.driver.stop()
            shutil.rmtree(self.home, ignore_errors=True)


def find_chromium(settings: BrowserSettings) -> str:
    """Find the program.

    Raises:
        ToolError: There is none.
    """
    names = (settings.executable,) if settings.executable else (*_NAMES, _MAC)
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise ToolError(
        f"there is no {settings.executable or 'Chromium'} on this machine: `make system-deps` or "
        "`apt install chromium` brings it; use fetch meanwhile",
        "unavailable",
    )


async def launch(settings: BrowserSettings, proxy_port: int) -> Chromium:
    """Start Chromium behind a proxy.

    Raises:
        ToolError: A part is missing, or it does not start.
    """
    try:
        from playwright.async_api import Error, async_playwright
    except ImportError as error:
        raise ToolError(
            "the browser needs Playwright: pip install 'openk2[agent]'; use fetch meanwhile",
            "unavailable",
        ) from error
    program = find_chromium(settings)
    home = Path(tempfile.mkdtemp(prefix="openk2-browser-"))
    driver = await async_playwright().start()
    try:
        context = await driver.chromium.launch_persistent_context(
            home / "profile",
            executable_path=_launcher(program, home, settings),
            chromium_sandbox=not settings.unsandboxed,
            headless=True,
            env=_environment(home),
            downloads_path=home / "downloads",
            proxy={"server": f"socks5://127.0.0.1:{proxy_port}", "bypass": "<-loopback>"},
            args=[*_ARGUMENTS, f"--js-flags=--max-old-space-size={settings.script_megabytes}"],
            viewport={"width": settings.width, "height": settings.height},
            locale="en-US",
            timezone_id="UTC",
            service_workers="block",
            timeout=settings.start_seconds * 1000,
        )
    except BaseException as error:
        await driver.stop()
        shutil.rmtree(home, ignore_errors=True)
        if isinstance(error, Error):
            raise _did_not_start(error, program) from error
        raise
    return Chromium(context, home, driver)


_ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-domain-reliability",
    "--disable-quic",  # it is UDP, which would pass by the proxy
    "--disable-sync",
    "--dns-prefetch-disable",
    # Nobody signs in: who asks for accounts asks a name that cannot exist.
    "--gaia-url=https://accounts.invalid",
    "--no-first-run",
    "--no-pings",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    # Names are the proxy's to look up; the browser knows none.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    # Games and pages under test may use what browsers keep for https.
    f"--unsafely-treat-insecure-origin-as-secure={WORKSPACE_ORIGIN}",
]

# What it would otherwise ask its maker about every page with a form, and at every start.
_PREFERENCES = {
    "alternate_error_pages": {"enabled": False},
    "autofill": {"credit_card_enabled": False, "enabled": False, "profile_enabled": False},
    "credentials_enable_service": False,
    "safebrowsing": {"enabled": False},
    "search": {"suggest_enabled": False},
    "signin": {"allowed": False, "allowed_on_next_startup": False},
    "translate": {"enabled": False},
}


def _environment(home: Path) -> dict[str, str | float | bool]:
    return {
        "HOME": str(home / "user"),
        "TMPDIR": str(home / "user"),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
    }


def _launcher(program: str, home: Path, settings: BrowserSettings) -> str:
    """Prepare the home; for root, write the script that becomes another user first."""
    folders = [home / name for name in ("profile", "downloads", "user")]
    for folder in folders:
        folder.mkdir()
    default = home / "profile" / "Default"
    default.mkdir()
    (default / "Preferences").write_text(json.dumps(_PREFERENCES))
    folders += [default, default / "Preferences"]
    if sys.platform == "win32" or os.geteuid() != 0:
        return program
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ToolError(
            "as root the browser runs as another user, which needs setpriv: `apt install "
            "util-linux`, or run as an ordinary user",
            "unavailable",
        )
    closed = next((folder for folder in home.parents if not folder.stat().st_mode & 1), None)
    if closed is not None:
        raise ToolError(
            f"the browser runs as another user, who cannot enter {closed}: set TMPDIR to a folder "
            "that everybody may pass, such as /tmp",
            "unavailable",
        )
    # The script that root runs stays in a folder that the other user may pass and not change.
    home.chmod(0o711)
    for mine in folders:
        os.chown(mine, settings.user, settings.user)
    script = home / "launch"
    script.write_text(
        "#!/bin/sh\n"
        f"exec {shlex.quote(setpriv)} --reuid={settings.user} --regid={settings.user} "
        f"--clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs "
        f'{shlex.quote(program)} "$@"\n'
    )
    script.chmod(0o755)
    return str(script)


_NO_SANDBOX = ("No usable sandbox", "Failed to move to new namespace", "setuid sandbox")


def _did_not_start(error: Exception, program: str) -> ToolError:
    said = str(error)
    if any(sign in said for sign in _NO_SANDBOX):
        return ToolError(
            "Chromium's sandbox does not work here: this system lets no ordinary user make a user "
            "namespace. Allow that (sysctl kernel.apparmor_restrict_unprivileged_userns=0, or the "
            "container's seccomp profile), or, inside another sandbox, set unsandboxed; use fetch "
            "meanwhile",
            "unavailable",
        )
    # Playwright's first line is the same for everything; the browser's own last one says more.
    lines = re.findall(r"\[err\] (.*)", said) or said.splitlines()
    return ToolError(
        f"{program} did not start ({lines[-1][:300]}); use fetch meanwhile", "unavailable"
    )
