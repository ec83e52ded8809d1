"""Pages reach what they may and nothing else, and a browser that dies is told and replaced."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from openk2.agent.tool import Call, Tool, ToolError, ToolResult
from openk2.agent.tools.browser import browser
from openk2.agent.tools.browser_page import BrowserPage
from openk2.agent.tools.chromium import BrowserSettings, find_chromium
from tests.agent.tools.browser_desk import Desk, need_chromium, ref

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    need_chromium()
    desk = Desk(tmp_path_factory.mktemp("guard"))
    (desk.workspace / "secret.txt").write_text("secret")
    desk.put("thief.html")
    yield desk
    desk.close()


def chromium_processes(of: int) -> dict[int, str]:
    """Every process of a browser that this one started: pid → command line."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        below.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found: dict[int, str] = {}
    todo = [of]
    while todo:
        for pid in below.get(todo.pop(), []):
            todo.append(pid)
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if "--user-data-dir=" in line or "--type=" in line:
                found[pid] = line
    return found


@LINUX
def test_no_process_of_the_browser_is_root_and_renderers_are_sandboxed(desk: Desk):
    desk.open("trip.html")
    processes = chromium_processes(os.getpid())
    renderers = 0
    for pid, line in processes.items():
        status = Path(f"/proc/{pid}/status").read_text()
        uids = {int(uid) for uid in re.findall(r"\d+", re.findall(r"Uid:(.*)", status)[0])}
        assert 0 not in uids and "NoNewPrivs:\t1" in status, line
        assert "--no-sandbox" not in line
        if "--type=renderer" in line:
            renderers += 1
            assert "Seccomp:\t2" in status
            assert Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    assert renderers and len(processes) > 3


@LINUX
def test_nothing_of_our_environment_is_passed_on(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    desk.open("trip.html")
    for pid in chromium_processes(os.getpid()):
        # Another user's, and processes that closed themselves off, cannot always be read.
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        assert b"PYTEST" not in environment and b"/root" not in environment


def test_a_page_of_the_workspace_cannot_send_what_it_reads(desk: Desk):
    desk.open("trip.html")
    desk.asked.clear()
    page = desk.do(action="open", url=f"thief.html?to={desk.site}")
    events = page.details["events"]
    for _ in range(4):
        events = events + desk.do(action="wait", seconds=0.4).details["events"]
    assert desk.asked == []
    assert any("pages of the workspace have no network" in event for event in events)
    # The web is back as soon as it is asked for, without the page that had no network.
    assert desk.open("trip.html").details["title"] == "Trip"
    time.sleep(0.5)
    assert [path for path in desk.asked if "stolen" in path] == []


@pytest.mark.slow
def test_with_the_network_granted_the_same_page_reaches_it(desk: Desk):
    """Without this the test above could pass because the page is broken."""

    async def run() -> None:
        settings = dataclasses.replace(desk.settings, workspace_network=True)
        async with BrowserPage(desk.workspace, settings) as other:
            await other.open(f"thief.html?to={desk.site}")
            await asyncio.sleep(1)

    desk.asked.clear()
    desk.await_(run())
    assert "/stolen?secret" in desk.asked and "/stolen?popup" in desk.asked


@pytest.mark.slow
def test_a_page_of_the_web_cannot_read_the_workspace(desk: Desk):
    script = """async url => {
        try { await fetch(url, {mode: "no-cors"}); return "read" } catch (error) { return "not" }
    }"""

    async def try_it(place: str) -> str:
        async with BrowserPage(desk.workspace, desk.settings) as other:
            page = await other.open(place)
            return await page.evaluate(script, "http://workspace.invalid/secret.txt")

    assert desk.await_(try_it("secret.txt")) == "read"
    assert desk.await_(try_it(f"http://{desk.site}/trip.html")) == "not"


def test_a_workspace_link_shows_nothing_outside(desk: Desk, tmp_path: Path):
    (tmp_path / "outside.html").write_text("outside")
    (desk.workspace / "link.html").symlink_to(tmp_path / "outside.html")
    with pytest.raises(ToolError, match="leads out"):
        desk.do(action="open", url="link.html")
    (desk.workspace / "frame.html").write_text("<iframe src='link.html'></iframe><p>frame</p>")
    page = desk.do(action="open", url="frame.html")
    assert "outside" not in page.content.replace("outside.html", "")


@pytest.mark.slow
def test_scripts_cannot_reach_inside(desk: Desk):
    """Files, this machine by another name, WebSockets and WebRTC's UDP."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))
    listener.settimeout(0.5)
    port = desk.site.partition(":")[2]
    tries = f"""async () => {{
        const tries = [
            fetch("file:///etc/passwd"),
            fetch("http://localhost:{port}/secret", {{mode: "no-cors"}}),
            fetch("http://169.254.169.254/latest", {{mode: "no-cors"}}),
            new Promise((won, lost) => {{
                const socket = new WebSocket("ws://localhost:{port}/secret");
                socket.onopen = won; socket.onerror = lost;
            }}),
        ];
        const ends = await Promise.allSettled(tries);
        const peer = new RTCPeerConnection({{
            iceServers: [{{urls: "stun:127.0.0.1:{listener.getsockname()[1]}"}}]}});
        peer.createDataChannel("x");
        await peer.setLocalDescription(await peer.createOffer());
        await new Promise(done => setTimeout(done, 700));
        return ends.map(end => end.status).join(" ");
    }}"""

    async def run() -> tuple[str, list[str]]:
        async with BrowserPage(desk.workspace, desk.settings) as other:
            page = await other.open(f"http://{desk.site}/trip.html")
            ends = await page.evaluate(tries)
            await other.settle()
            return ends, list(other.events)

    desk.asked.clear()
    try:
        ends, events = desk.await_(run())
        assert ends == "rejected rejected rejected rejected"
        assert desk.asked == ["/trip.html"]
        assert any(f"localhost:{port} is not on the public internet" in event for event in events)
        with pytest.raises(TimeoutError):
            listener.recv(2000)
    finally:
        listener.close()


@pytest.mark.slow
def test_going_to_a_file_by_force_shows_nothing(desk: Desk):
    from playwright.async_api import Error

    async def run() -> None:
        async with BrowserPage(desk.workspace, desk.settings) as other:
            page = await other.open(f"http://{desk.site}/trip.html")
            await page.goto("file:///etc/passwd")

    with pytest.raises(Error, match=r"ERR_FAILED|ERR_ABORTED"):
        desk.await_(run())


@LINUX
@pytest.mark.slow
def test_a_browser_that_is_killed_is_told_and_the_next_call_starts_another(desk: Desk):
    page = desk.open("trip.html")
    mine = [pid for pid, line in chromium_processes(os.getpid()).items() if "--type=" not in line]
    assert mine
    for pid in mine:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(ToolError, match=r"the browser ended|use open") as dead:
        desk.do(action="click", ref=ref(page, "button"))
    assert "open" in str(dead.value)
    assert desk.open("trip.html").details["title"] == "Trip"


@LINUX
@pytest.mark.slow
def test_a_page_that_crashes_is_told_and_the_next_one_opens(desk: Desk):
    desk.open("trip.html")
    for pid, line in chromium_processes(os.getpid()).items():
        if "--type=renderer" in line:
            os.kill(pid, signal.SIGKILL)
    with pytest.raises(ToolError, match="the page crashed"):
        desk.do(action="snapshot")
        desk.do(action="snapshot")
    assert desk.open("trip.html").details["title"] == "Trip"


@pytest.mark.slow
def test_pages_that_take_too_much_are_stopped(desk: Desk):
    """Memory, tabs, and time."""
    (desk.workspace / "greedy.html").write_text(
        "<script>const all = []; for (;;) all.push(new Array(1e5).fill(Math.random()))</script>"
    )
    (desk.workspace / "tabs.html").write_text(
        "<script>for (let n = 0; n < 20; n++) open('secret.txt')</script>"
    )

    async def run() -> tuple[str, int, str]:
        settings = dataclasses.replace(desk.settings, script_megabytes=64, load_seconds=6.0)
        tool = browser(settings)
        call = Call("1", desk.workspace, 60.0)

        async def opened(url: str) -> str:
            try:
                return (await tool.run({"action": "open", "url": url}, call)).content
            except ToolError as error:
                return str(error)

        greedy = await opened("greedy.html")
        async with BrowserPage(desk.workspace, settings) as other:
            page = await other.open("tabs.html")
            await asyncio.sleep(1)
            count = len(page.context.pages)
        late = await opened(f"http://{desk.site}/slow")
        assert tool.close is not None
        await tool.close()
        return greedy, count, late

    greedy, count, late = desk.await_(run())
    assert "crashed" in greedy and count <= 8 and "did not open: Timeout" in late


@LINUX
@pytest.mark.slow
def test_closing_leaves_no_process_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    need_chromium()
    before = set(chromium_processes(os.getpid()))
    (tmp_path / "page.html").write_text("<p>page")
    made: list[Path] = []

    async def run() -> None:
        tool = browser()
        await tool.run({"action": "open", "url": "page.html"}, Call("1", tmp_path, 60.0))
        lines = [line for pid, line in chromium_processes(os.getpid()).items() if pid not in before]
        made.extend(
            Path(re.findall(r"--user-data-dir=(\S+)", line)[0]).parent for line in lines[:1]
        )
        assert tool.close is not None
        await tool.close()
        await tool.close()

    asyncio.run(run())
    assert made and not made[0].exists()
    assert set(chromium_processes(os.getpid())) <= before


@pytest.mark.slow
def test_a_call_that_is_cancelled_while_the_browser_starts_leaves_nothing(tmp_path: Path):
    need_chromium()
    (tmp_path / "page.html").write_text("<p>page")
    before = set(chromium_processes(os.getpid())) if sys.platform == "linux" else set()

    async def run() -> None:
        tool = browser()
        with pytest.raises(ToolError, match=r"within 0\.3 s"):
            await tool.run({"action": "open", "url": "page.html"}, Call("1", tmp_path, 0.3))
        assert tool.close is not None
        await tool.close()

    asyncio.run(run())
    if sys.platform == "linux":
        assert set(chromium_processes(os.getpid())) <= before


def test_offline_nothing_of_the_web_is_opened(tmp_path: Path):
    tool = browser(BrowserSettings(offline=True))
    with pytest.raises(ToolError, match="no network") as refused:
        call = Call("1", tmp_path, 60.0)
        asyncio.run(_then_close(tool, {"action": "open", "url": "https://a.example/"}, call))
    assert refused.value.kind == "refused"


async def _then_close(tool: Tool, arguments: dict[str, str], call: Call) -> ToolResult:
    assert tool.close is not None
    try:
        return await tool.run(arguments, call)
    finally:
        await tool.close()


@LINUX
@pytest.mark.skipif(os.geteuid() != 0, reason="only root's browser is another user's")
def test_a_temporary_folder_that_others_cannot_enter_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    need_chromium()
    tmp_path.chmod(0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "page.html").write_text("<p>page")
    call = Call("1", tmp_path, 60.0)
    with pytest.raises(ToolError, match=r"cannot enter .*set TMPDIR"):
        asyncio.run(_then_close(browser(), {"action": "open", "url": "page.html"}, call))
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_missing_browser_is_one_sentence(tmp_path: Path):
    pytest.importorskip("playwright")
    (tmp_path / "page.html").write_text("<p>page")
    tool = browser(BrowserSettings(executable="no-such-browser"))
    with pytest.raises(ToolError, match=r"no no-such-browser.*apt install chromium") as missing:
        asyncio.run(tool.run({"action": "open", "url": "page.html"}, Call("1", tmp_path, 30.0)))
    assert missing.value.kind == "unavailable"


def test_missing_playwright_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "playwright.async_api", None)
    (tmp_path / "page.html").write_text("<p>page")
    with pytest.raises(ToolError, match=r"pip install 'openk2\[agent\]'") as missing:
        asyncio.run(browser().run({"action": "open", "url": "page.html"}, Call("1", tmp_path, 9.0)))
    assert missing.value.kind == "unavailable"


@LINUX
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="makes a system without user namespaces as root")
def test_where_the_sandbox_cannot_work_it_is_refused(tmp_path: Path):
    need_chromium()
    if subprocess.run(["bwrap", "--version"], capture_output=True).returncode:
        pytest.skip("bubblewrap is missing")
    # Not below pytest's folder, which it closes to other users.
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o711)
    script = folder / "chromium"
    script.write_text(
        "#!/bin/sh\nexec bwrap --dev-bind / / --unshare-user --disable-userns "
        f'{find_chromium(BrowserSettings())} "$@"\n'
    )
    script.chmod(0o755)
    (tmp_path / "page.html").write_text("<p>page")
    tool = browser(BrowserSettings(executable=str(script)))
    try:
        with pytest.raises(ToolError, match="no ordinary user make a user namespace") as refused:
            asyncio.run(tool.run({"action": "open", "url": "page.html"}, Call("1", tmp_path, 60.0)))
    finally:
        shutil.rmtree(folder)
    assert refused.value.kind == "unavailable"
