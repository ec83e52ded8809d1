"""The short way to an endpoint answers what the framework's way does."""

from __future__ import annotations

import re

import httpx
import pytest

from openk2.server.app import create_app
from openk2.server.local.backend import LocalBackend
from openk2.server.openapi import document
from openk2.server.shortcut import endpoints_of

HI = [{"role": "user", "content": "hi"}]
REQUESTS = [
    ("/v1/chat/completions", {"messages": HI}),
    ("/v1/chat/completions", {"messages": HI, "stream": True}),
    ("/v1/chat/completions", {"messages": []}),
    ("/v1/chat/completions", {"messages": HI, "model": "nobody"}),
    ("/v1/responses", {"input": "hi"}),
    ("/v1/responses", {"input": 1}),
    ("/v1/messages", {"messages": HI, "max_tokens": 9}),
    ("/anthropic/v1/messages", {"messages": HI, "max_tokens": 9, "stream": True}),
    ("/v1/messages", {"messages": HI}),
    ("/v1/messages/count_tokens", {"messages": HI}),
    ("/v1/tokenizers/estimate-token-count", {"messages": HI}),
    ("/v1/completions", {"prompt": "hi"}),
    ("/v1/nothing", {}),
    ("/v1/models", {}),
]


@pytest.fixture(scope="module")
def ways(listen, script, tokenizer):
    """The same application, with the short way and without it, and with the slow HTTP parser."""

    def app():
        return create_app(LocalBackend(script("Hello"), tokenizer, "nano"), key=b"k")

    long = app()
    long.take_shortcuts(None)
    with listen(app()) as short_url, listen(long, http="h11") as long_url:
        yield short_url, long_url


@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_both_ways_answer_alike(ways, path, body):
    def ask(url: str) -> tuple[int, list[str], str]:
        headers = {"x-request-id": "r1"}
        root = url.removesuffix("/v1")
        sent = httpx.post(f"{root}{path}", json=body, headers=headers, timeout=30, verify=False)
        said = re.sub(r"(chatcmpl-|msg_|resp_)\w+|\d{10,}(\.\d+)?", "", sent.text)
        kept = [name for name in sent.headers if name != "content-length"]
        return sent.status_code, sorted(kept), said

    short, long = map(ask, ways)
    assert short == long


def test_every_post_route_has_its_short_way(ways, script, tokenizer):
    app = create_app(LocalBackend(script("Hello"), tokenizer, "nano"))
    paths = document(app.routes)["paths"]
    assert set(endpoints_of(app.routes)) == {path for path in paths if "post" in paths[path]}
