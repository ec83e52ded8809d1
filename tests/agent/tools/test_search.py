"""The search tool speaks to a corpus and to a SearXNG server, well or badly behaved."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from openk2.agent.tool import Call, ToolError, ToolResult
from openk2.agent.tools.corpus import Document, OfflineCorpus, build_corpus
from openk2.agent.tools.search import SearxngSearch, web_search

CALL = Call("1", Path("/nowhere"), 30.0)


def test_results_are_numbered_and_untrusted(tmp_path: Path):
    pages = [Document(f"http://a.example/{n}", f"Page {n}", "zebra " * n) for n in (1, 2, 3)]
    build_corpus(pages, tmp_path / "c")
    tool = web_search(OfflineCorpus(tmp_path / "c"))
    result = asyncio.run(tool.run({"query": "zebra", "count": 2}, CALL))
    assert result.untrusted
    assert result.content.startswith("1. Page ") and "\n2. Page " in result.content
    assert len(result.details["results"]) == 2
    assert tool.access({"query": "zebra"}, tmp_path).hosts == ()


def test_nothing_found_says_what_to_try(tmp_path: Path):
    build_corpus([], tmp_path / "c")
    result = asyncio.run(web_search(OfflineCorpus(tmp_path / "c")).run({"query": "zebra"}, CALL))
    assert "Nothing was found" in result.content and not result.untrusted


def ask(answer: Callable[[web.Request], Awaitable[web.StreamResponse]], **settings) -> ToolResult:
    async def run() -> ToolResult:
        application = web.Application()
        application.router.add_post("/sub/search", answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        tool = web_search(SearxngSearch(f"http://127.0.0.1:{port}/sub/", **settings))
        try:
            assert tool.access({"query": "x"}, Path("/")).hosts == ("127.0.0.1",)
            return await tool.run({"query": "K2 'model' 模型", "count": 2}, CALL)
        finally:
            assert tool.close is not None
            await tool.close()
            await runner.cleanup()

    return asyncio.run(run())


def test_searxng_is_asked_by_its_json_format():
    async def answer(request: web.Request) -> web.Response:
        form = await request.post()
        assert form["q"] == "K2 'model' 模型" and form["format"] == "json"
        results = [
            {"url": "https://a.example/", "title": "A\n title", "content": "about  K2"},
            "no result",
            {"title": "no address"},
            {"url": "javascript:alert(1)", "title": "not a page"},
            {"url": "https://b.example/", "title": None, "content": None},
            {"url": "https://c.example/", "title": "one too many"},
        ]
        return web.json_response({"results": results})

    result = ask(answer)
    assert result.untrusted
    assert result.content == (
        "1. A title\n   https://a.example/\n   about K2\n"
        "2. https://b.example/\n   https://b.example/"
    )


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (200, "<html>", "not JSON"),
        (200, "[" * 100_000, "not JSON"),
        (200, "[]", "no list of results"),
        (200, '{"results": {}}', "no list of results"),
        (200, " " * 5_000_000, "longer than"),
        (302, "", "answered 302"),
        (403, "", "search.formats"),
        (429, "", "wait a minute"),
        (500, "", "answered 500"),
    ],
)
def test_a_bad_answer_is_an_unavailable_tool(status: int, body: str, problem: str):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=body, headers={"Location": "http://127.0.0.1:1/"})

    with pytest.raises(ToolError, match=problem) as broken:
        ask(answer)
    assert broken.value.kind == "unavailable"


def test_a_silent_server_is_given_up():
    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    with pytest.raises(ToolError, match=r"no answer within 0\.2 s"):
        ask(answer, seconds=0.2)


def test_a_server_that_is_not_there_is_unavailable():
    async def run() -> None:
        backend = SearxngSearch("http://127.0.0.1:1")
        try:
            await backend.search("x", 1)
        finally:
            await backend.close()

    with pytest.raises(ToolError, match=r"127\.0\.0\.1:1") as broken:
        asyncio.run(run())
    assert broken.value.kind == "unavailable"
