"""Only the public internet is reached, however an address is written, and what was granted."""

from __future__ import annotations

import asyncio
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.tool import ToolError
from openk2.agent.tools.addresses import Reach, closed_reason, parse_address

INSIDE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.1.1",
    "168.63.129.16",
    "169.254.169.254",
    "172.31.255.255",
    "192.0.0.192",
    "192.168.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001:0:1::1",
    "2002:7f00:1::",
    "2001:db8::1",
]
OUTSIDE = ["1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", INSIDE)
def test_an_inner_address_is_closed(address: str):
    assert closed_reason(address)


@pytest.mark.parametrize("address", OUTSIDE)
def test_a_public_address_is_open(address: str):
    assert closed_reason(address) is None


@given(st.ip_addresses())
def test_what_is_open_is_global_to_python_too(address: ipaddress.IPv4Address):
    if closed_reason(str(address)) is None and not str(address).startswith("64:ff9b:"):
        assert address.is_global and not address.is_multicast


@pytest.mark.parametrize(
    "host",
    ["127.1", "0x7f000001", "2130706433", "017700000001", "localhost", "::1", "0", "127.0.0.1."],
)
def test_another_way_to_write_this_machine_is_refused(host: str):
    with pytest.raises(ToolError) as refused:
        asyncio.run(Reach().resolve(host, 80))
    # A resolver that does not know the form finds nothing, which is as good.
    assert refused.value.kind in ("refused", "failed")


def test_what_was_granted_is_reached_at_that_port_only():
    reach = Reach(allow_private=("127.0.0.1:8080",))
    assert asyncio.run(reach.resolve("127.0.0.1", 8080)) == ("127.0.0.1",)
    with pytest.raises(ToolError, match=r"127\.0\.0\.1:8081"):
        asyncio.run(reach.resolve("127.0.0.1", 8081))


def test_one_inner_address_among_public_ones_is_enough_to_refuse():
    async def lookup(host: str, port: int) -> list[str]:
        return ["1.1.1.1", "192.168.1.1"]

    with pytest.raises(ToolError, match=r"192\.168\.1\.1 is private"):
        asyncio.run(Reach(lookup=lookup).resolve("mixed.example", 443))


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("http://Example.com", "http://example.com/"),
        ("https://example.com:443/a b?q=ä#part", "https://example.com/a%20b?q=%C3%A4"),
        ("http://例子.测试/路径", "http://xn--fsqu00a.xn--0zwm56d/%E8%B7%AF%E5%BE%84"),
        ("http://[::FFFF:127.0.0.1]:81/", "http://[::ffff:7f00:1]:81/"),
        ("https://a.example/x%20y?z=%41", "https://a.example/x%20y?z=%41"),
    ],
)
def test_addresses_are_written_in_one_way(text: str, parsed: str):
    assert str(parse_address(text)).replace("::ffff:127.0.0.1", "::ffff:7f00:1") == parsed
    assert parse_address(str(parse_address(text))) == parse_address(text)


def test_a_relative_address_is_joined_to_its_page():
    page = parse_address("https://a.example/x/y?z")
    assert str(parse_address("../w?v#u", page)) == "https://a.example/w?v"
    assert str(parse_address("//b.example", page)) == "https://b.example/"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "ftp://a.example/",
        "http://",
        "http://a.example:99999/",
        "http://user:secret@a.example/",
        "http://1.1.1.1\\@127.0.0.1/",
        "http://a.example\\.evil/",
        "http://[::1/",
        "http://fe80::1%25eth0/",
        "http://-/",
        "http://" + "a" * 300 + "/",
    ],
)
def test_what_is_no_web_address_is_refused(text: str):
    with pytest.raises(ToolError) as refused:
        parse_address(text)
    assert refused.value.kind in ("bad_arguments", "refused")
    assert "secret" not in str(refused.value)


@given(st.text())
def test_any_text_is_an_address_or_an_error(text: str):
    for candidate in (text, "http://" + text, "http://a.example/" + text):
        try:
            address = parse_address(candidate)
        except ToolError:
            continue
        assert parse_address(str(address)) == address
        assert str(address).isascii() and not set(str(address)) & set(" \t\r\n")
