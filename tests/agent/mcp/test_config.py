"""Files of servers as other agents write them, and as people get them wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.mcp.config import (
    Isolation,
    McpConfigError,
    McpServers,
    parse_servers,
    read_config,
    slug,
)

FOLDER = Path("/somewhere")


def parse(entries: Any, **environment: str) -> McpServers:
    return parse_servers(entries, FOLDER, environment)


def test_the_common_form():
    config = parse(
        {
            "files": {"command": "npx", "args": ["-y", "server-files", "/tmp"], "env": {"A": "1"}},
            "there": {"type": "http", "url": "https://example.org/mcp", "headers": {"X": "y"}},
            "old": {"type": "sse", "url": "http://example.org/sse", "timeout": 5},
            "off": {"command": "x", "disabled": True},
            "here": {"type": "stdio", "command": "x", "cwd": "sub", "autoApprove": ["all"]},
        }
    )
    files, there, old, here = config.servers
    assert (files.transport, files.command, files.args) == (
        "stdio",
        "npx",
        ("-y", "server-files", "/tmp"),
    )
    assert (there.transport, there.host, there.headers) == ("http", "example.org", {"X": "y"})
    assert (old.transport, old.timeout) == ("sse", 5.0)
    assert here.cwd == FOLDER / "sub"
    assert config.problems == ("MCP server 'here': unknown and ignored: autoApprove.",)


def test_variables_stand_for_the_environment():
    entry = {
        "url": "https://${HOST:-example.org}/mcp",
        "headers": {"Authorization": "Bearer ${TOKEN}"},
    }
    (server,) = parse({"a": entry}, TOKEN="abcdefgh").servers
    assert server.url == "https://example.org/mcp"
    assert server.headers == {"Authorization": "Bearer abcdefgh"}
    missing = parse({"a": entry, "b": {"command": "x"}})
    assert [server.name for server in missing.servers] == ["b"]
    assert "environment variable TOKEN, which is not set" in missing.problems[0]


def test_secrets_are_hidden():
    headers = {"Authorization": "Bearer abcdefgh"}
    (server,) = parse({"a": {"url": "https://h.org/?key=topsecret", "headers": headers}}).servers
    assert server.hide_secrets("got abcdefgh, Bearer abcdefgh") == "got [hidden], [hidden]"
    assert "topsecret" not in server.hide_secrets("at https://h.org/?key=topsecret")
    assert "abcdefgh" not in repr(server) and "topsecret" not in repr(server) + server.shown


def test_a_sandbox_says_what_it_lets_through():
    lets = {"network": True, "readable": ["data"], "writable": ["/tmp/x"]}
    some, none = parse(
        {"some": {"command": "x", "sandbox": lets}, "none": {"command": "x", "sandbox": True}}
    ).servers
    assert some.sandbox == Isolation(True, (FOLDER / "data",), (Path("/tmp/x"),))
    assert none.sandbox == Isolation()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("npx", "must be an object"),
        ({}, "url must be a text"),
        ({"command": 3}, "command must be a text"),
        ({"command": ""}, "command must be a text"),
        ({"command": "x", "args": "y"}, "args must be a list"),
        ({"command": "x", "args": [1]}, "args must be a list"),
        ({"command": "x\0y"}, "command must be a text"),
        ({"command": "x", "env": {"A": 1}}, "env must be an object of texts"),
        ({"type": "carrier-pigeon", "url": "http://x"}, "type is 'carrier-pigeon'"),
        ({"type": ["http"], "url": "http://x"}, "type is"),
        ({"url": "ftp://x/y"}, "must begin with http"),
        ({"url": "http:///mcp"}, "name a host"),
        ({"command": "x", "timeout": 0}, "timeout must be"),
        ({"command": "x", "timeout": True}, "timeout must be"),
        ({"url": "http://x", "sandbox": True}, "sandbox is for servers that have a command"),
        ({"command": "x", "sandbox": "yes"}, "sandbox must be true"),
        ({"command": "x", "sandbox": {"net": True}}, "sandbox must be true"),
    ],
)
def test_a_bad_entry_is_told_and_takes_no_other_with_it(entry: Any, words: str):
    config = parse({"bad": entry, "good": {"command": "x"}})
    assert [server.name for server in config.servers] == ["good"]
    assert words in config.problems[0] and "'bad' is left out" in config.problems[0]


def test_a_file_that_is_none(tmp_path: Path):
    file = tmp_path / "mcp.json"
    with pytest.raises(McpConfigError, match="cannot be read"):
        read_config(file, {})
    for text, words in (("{", "is not JSON"), ("[]", "mcpServers"), ('{"servers": {}}', "needs")):
        file.write_text(text)
        with pytest.raises(McpConfigError, match=words):
            read_config(file, {})
    file.write_text('{"mcpServers": []}')
    with pytest.raises(McpConfigError, match="must be an object"):
        read_config(file, {})
    file.write_text(json.dumps({"mcpServers": {"a": {"command": "x", "cwd": "."}}}))
    assert read_config(file, {}).servers[0].cwd == tmp_path


@given(st.text(), st.text())
def test_a_slug_is_legal_and_tells_its_server(one: str, other: str):
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", slug(one)) and len(slug(one)) <= 32
    assert "__" not in slug(one) and not slug(one).endswith("_")
    assert one == other or slug(one) != slug(other)


def test_two_servers_with_one_slug_are_not_confused():
    rival = slug("my server")
    config = parse({"my server": {"command": "x"}, rival: {"command": "y"}})
    assert [server.name for server in config.servers] == ["my server"]
    assert "too like 'my server'" in config.problems[0]
