"""Fetch reads pages of real servers, well and badly behaved, and never reaches inside."""

from __future__ import annotations

import asyncio
import gzip
import shutil
import ssl
import subprocess
import time
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.tool import Call, ToolError, ToolResult
from openk2.agent.tools.addresses import Reach
from openk2.agent.tools.browser import browser
from openk2.agent.tools.corpus import Document, OfflineCorpus, build_corpus
from openk2.agent.tools.fetch import FetchSettings, fetch

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
PARAGRAPH = "<p>数据科学家在家办公的薪资，与在办公室工作的人相比，没有明显的差别。</p>"
PAGE = f"<html><head><title>远程工作</title></head><body><h1>研究</h1>{PARAGRAPH * 8}</body></html>"


def get(
    answers: Answer | Mapping[str, Answer],
    workspace: Path,
    path: str = "/",
    granted: bool = True,
    **settings: Any,
) -> ToolResult:
    """Fetch from a server that answers so; `{port}` in a path is its port."""

    async def run() -> ToolResult:
        application = web.Application()
        table = answers if isinstance(answers, Mapping) else {"/{rest:.*}": answers}
        for place, answer in table.items():
            application.router.add_get(place, answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        reach = Reach(allow_private=(f"127.0.0.1:{port}",) if granted else ())
        settings.setdefault("reach", reach)
        arguments = {"url": f"http://127.0.0.1:{port}{path}"}
        if "save_as" in settings:
            arguments["save_as"] = settings.pop("save_as")
        try:
            return await fetch(FetchSettings(**settings)).run(
                arguments, Call("1", workspace, seconds=30.0)
            )
        finally:
            await runner.cleanup()

    return asyncio.run(run())


def sends(body: bytes | str, kind: str | None = "text/plain", **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        data = body.encode() if isinstance(body, str) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=data, headers=named | ({"Content-Type": kind} if kind else {}))

    return answer


def redirects(location: str) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        to = location.replace("{port}", str(request.url.port))
        return web.Response(status=302, headers={"Location": to})

    return answer


def test_a_chinese_page_becomes_markdown(tmp_path: Path):
    result = get(sends(PAGE.encode("gbk"), "text/html; charset=gb2312"), tmp_path)
    assert result.content.startswith("远程工作\nhttp://127.0.0.1:")
    assert "# 研究" in result.content and "没有明显的差别" in result.content
    assert result.untrusted and result.details["title"] == "远程工作"


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ("a,b\n1,2\n", "text/csv", "a,b\n1,2\n"),
        ('{"a": "é"}', "application/json", '{"a": "é"}'),
        ("<rss/>", "application/rss+xml", "<rss/>"),
        ("plain <b>text</b>", "text/plain", "plain <b>text</b>"),
        ("no type", None, "no type"),
    ],
)
def test_text_is_returned_as_it_is(tmp_path: Path, body: str, kind: str | None, text: str):
    assert get(sends(body, kind), tmp_path).content.partition("\n\n")[2] == text


def test_a_pdf_is_saved_and_named(tmp_path: Path):
    body = b"%PDF-1.7 \0 ..."
    result = get(sends(body, "application/pdf"), tmp_path, "/papers/K2%20report.pdf?v=1")
    (file,) = result.artifacts
    assert file.read_bytes() == body and file.parent == tmp_path / "downloads"
    assert file.name.startswith("K2-report-") and file.suffix == ".pdf"
    assert file.relative_to(tmp_path).as_posix() in result.content and result.untrusted


def test_data_is_saved_where_it_was_asked_for(tmp_path: Path):
    result = get(sends("a,b\n", "text/csv"), tmp_path, save_as="data/prices.csv")
    assert (tmp_path / "data/prices.csv").read_text() == "a,b\n"
    assert "saved to data/prices.csv" in result.content


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x"])
def test_nothing_is_saved_outside_the_workspace(tmp_path: Path, path: str):
    with pytest.raises(ToolError, match="leads out of the workspace"):
        get(sends("x"), tmp_path, save_as=path)


def test_a_path_of_the_web_is_no_path_of_the_workspace(tmp_path: Path):
    (tmp_path / "run").mkdir()
    for path in ("/..%2f..%2fevil", "/a/%2e%2e", "/%00", "/" + "x" * 900, "/-rf"):
        result = get(sends(b"\0", "image/png"), tmp_path / "run", path)
        (file,) = result.artifacts
        assert file.parent == tmp_path / "run" / "downloads" and file.suffix == ".png"


def test_an_inner_server_is_not_reached_unless_granted(tmp_path: Path):
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text="secret")

    with pytest.raises(ToolError, match="not on the public internet") as refused:
        get(answer, tmp_path, granted=False)
    assert refused.value.kind == "refused" and asked == []


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost:{port}/inner",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:127.0.0.1]:{port}/inner",
        "http://0.0.0.0:{port}/inner",
        "http://127.0.0.1:1/inner",
        "//127.1:{port}/inner",
        "file:///etc/passwd",
        "http://user:pass@127.0.0.1:{port}/inner",
    ],
)
def test_a_redirect_inside_is_not_followed(tmp_path: Path, location: str):
    asked: list[str] = []

    async def inner(request: web.Request) -> web.Response:
        asked.append(request.host)
        return web.Response(text="secret")

    with pytest.raises(ToolError):
        get({"/": redirects(location), "/inner": inner}, tmp_path)
    assert asked == []


def test_redirects_are_followed_to_the_end(tmp_path: Path):
    table = {"/": redirects("a?x=1#y"), "/a": redirects("//127.0.0.1:{port}/b"), "/b": sends("end")}
    result = get(table, tmp_path)
    assert result.content.endswith("/b\n\nend") and result.details["url"].endswith("/b")


def test_a_ring_of_redirects_ends(tmp_path: Path):
    with pytest.raises(ToolError, match="more than 3 redirects"):
        get({"/": redirects("/")}, tmp_path, redirects=3)


def test_a_name_that_changes_its_address_reaches_the_checked_one_only(tmp_path: Path):
    """The second answer of a rebinding name server is never asked for."""
    asked: list[str] = []

    async def lookup(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    async def run() -> ToolResult:
        application = web.Application()
        application.router.add_get("/", sends("the checked one"))
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        reach = Reach(allow_private=(f"rebind.test:{port}",), lookup=lookup)
        try:
            return await fetch(FetchSettings(reach=reach)).run(
                {"url": f"http://rebind.test:{port}/"}, Call("1", tmp_path, 30.0)
            )
        finally:
            await runner.cleanup()

    assert asyncio.run(run()).content.endswith("the checked one")
    assert asked == ["rebind.test"]


def test_no_cookie_and_no_secret_is_sent(tmp_path: Path):
    seen: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        response = web.Response(status=302, headers={"Location": "/again"})
        response.set_cookie("id", "1")
        return response if len(seen) == 1 else web.Response(text="done")

    get(answer, tmp_path)
    assert len(seen) == 2
    allowed = {"Host", "User-Agent", "Accept", "Accept-Encoding"}
    assert all(set(headers) <= allowed for headers in seen)


@pytest.mark.parametrize("level", [0, 9])
def test_a_compressed_page_is_unpacked(tmp_path: Path, level: int):
    body = gzip.compress(b"text " * 10_000, level)
    assert len(get(sends(body, Content_Encoding="gzip"), tmp_path).content) > 50_000
    body = zlib.compress(b"text " * 10_000, level)
    assert len(get(sends(body, Content_Encoding="deflate"), tmp_path).content) > 50_000


def test_a_bomb_is_not_unpacked(tmp_path: Path):
    bomb = gzip.compress(bytes(200_000_000), 9)
    start = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(ToolError, match="longer than 1000000 bytes"):
            get(sends(bomb, Content_Encoding="gzip"), tmp_path, page_bytes=1_000_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # One chunk of it alone would become 65 MB.
    assert peak < 20_000_000
    assert len(bomb) < 300_000 and time.perf_counter() - start < 30


@pytest.mark.parametrize(
    ("body", "coding", "problem"),
    [
        (b"no gzip", "gzip", "cannot be decompressed"),
        (gzip.compress(b"text" * 100, mtime=0)[:-9], "gzip", "in the middle"),
        (b"x", "br", "compressed with br"),
    ],
)
def test_a_broken_compression_is_told(tmp_path: Path, body: bytes, coding: str, problem: str):
    with pytest.raises(ToolError, match=problem):
        get(sends(body, Content_Encoding=coding), tmp_path)


def test_a_body_without_end_is_cut_off(tmp_path: Path):
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    with pytest.raises(ToolError, match="longer than 1000000 bytes"):
        get(answer, tmp_path, page_bytes=1_000_000)


def test_a_slow_body_is_given_up(tmp_path: Path):
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b"x")
            await asyncio.sleep(0.05)
        return response

    with pytest.raises(ToolError, match=r"within 0\.3 s") as late:
        get(answer, tmp_path, seconds=0.3)
    assert late.value.kind == "timeout"


@pytest.mark.parametrize(
    ("status", "advice"), [(404, "no such page"), (403, "browser"), (429, "wait"), (503, "later")]
)
def test_a_status_says_what_to_do(tmp_path: Path, status: int, advice: str):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text="<h1>the server's words</h1>")

    with pytest.raises(ToolError, match=f"answered {status}: .*{advice}.*the server's words"):
        get(answer, tmp_path)


def test_a_page_that_breaks_parsers_still_comes_back(tmp_path: Path):
    page = "<html>" + "<!--" * 300_000 + "needle"
    start = time.perf_counter()
    result = get(sends(page, "text/html"), tmp_path, convert_seconds=1)
    assert result.content and time.perf_counter() - start < 40


def test_a_page_of_scripts_says_so(tmp_path: Path):
    result = get(sends("<html><script>render()</script></html>", "text/html"), tmp_path)
    assert "use browser" in result.content


@pytest.fixture
def corpus(tmp_path: Path) -> OfflineCorpus:
    build_corpus(
        [Document("https://a.example/paper", "A paper", "# A paper\n\ntext")], tmp_path / "c"
    )
    return OfflineCorpus(tmp_path / "c")


def test_a_page_of_the_corpus_needs_no_network(tmp_path: Path, corpus: OfflineCorpus):
    tool = fetch(FetchSettings(offline=True), corpus)
    call = Call("1", tmp_path, 30.0)
    result = asyncio.run(tool.run({"url": "https://a.example/paper#results"}, call))
    assert result.content == "A paper\nhttps://a.example/paper\n\n# A paper\n\ntext"
    assert result.untrusted
    asyncio.run(tool.run({"url": "https://a.example/paper", "save_as": "p.md"}, call))
    assert (tmp_path / "p.md").read_text() == "# A paper\n\ntext"
    with pytest.raises(ToolError, match="not in the corpus"):
        asyncio.run(tool.run({"url": "https://b.example/"}, call))


def test_a_call_says_which_host_it_would_reach(tmp_path: Path):
    tool = fetch()
    assert tool.access({"url": "https://a.example:8443/x"}, tmp_path).hosts == ("a.example",)
    assert tool.access({"url": "http://[::1"}, tmp_path).hosts == ("*",)
    saved = tool.access({"url": "https://a.example/", "save_as": "x.csv"}, tmp_path)
    assert saved.writes == (tmp_path / "x.csv",)
    offline = fetch(FetchSettings(offline=True))
    assert offline.access({"url": "https://a.example/"}, tmp_path).hosts == ()


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl to make a certificate")
    made = (str(tmp_path / "key"), str(tmp_path / "certificate"))
    command = (
        f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {made[0]} -out {made[1]}"
    )
    subprocess.run([openssl, *command.split()], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made[1], made[0])

    async def run() -> None:
        application = web.Application()
        application.router.add_get("/", sends("secret"))
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        port = runner.addresses[0][1]
        reach = Reach(allow_private=(f"127.0.0.1:{port}",))
        try:
            await fetch(FetchSettings(reach=reach)).run(
                {"url": f"https://127.0.0.1:{port}/"}, Call("1", tmp_path, 30.0)
            )
        finally:
            await runner.cleanup()

    with pytest.raises(ToolError, match="certificate"):
        asyncio.run(run())


def test_a_server_that_is_not_there_is_named(tmp_path: Path):
    reach = Reach(allow_private=("127.0.0.1:1",))
    with pytest.raises(ToolError, match=r"http://127\.0\.0\.1:1/ could not be read"):
        asyncio.run(
            fetch(FetchSettings(reach=reach)).run(
                {"url": "http://127.0.0.1:1"}, Call("1", tmp_path, 30.0)
            )
        )


@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://[", "workspace://", "file:"]))
def test_what_a_call_would_touch_is_known_of_any_text(text: str, before: str):
    fetch().access({"url": before + text, "save_as": text}, Path("/run"))
    browser().access({"action": "open", "url": before + text}, Path("/run"))
    browser().access({"action": "press", "key": text}, Path("/run"))


def test_a_granted_server_of_ipv6_is_reached(tmp_path: Path):
    async def run() -> ToolResult:
        application = web.Application()
        application.router.add_get("/", sends("six"))
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "::1", 0).start()
        except OSError:
            await runner.cleanup()
            pytest.skip("this machine has no IPv6")
        port = runner.addresses[0][1]
        reach = Reach(allow_private=(f"[::1]:{port}",))
        try:
            return await fetch(FetchSettings(reach=reach)).run(
                {"url": f"http://[::1]:{port}/"}, Call("1", tmp_path, 30.0)
            )
        finally:
            await runner.cleanup()

    assert asyncio.run(run()).content.endswith("six")
