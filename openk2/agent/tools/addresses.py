"""Which addresses of the web a tool may connect to: the public internet, and what was granted.

In: an address that a model or a page wrote. Out: its parts, and the numeric addresses that were
checked and may be connected to. Who connects must use these and never resolve the name again:
a name may answer differently the second time.
Must not know: HTTP, the browser, or what is fetched.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from openk2.agent.tool import ToolError

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port in, numeric addresses out; raises OSError."""

# The registries of special-purpose addresses (RFC 6890 and its successors at IANA), written out:
# what `ipaddress` calls global differs between versions of Python.
_CLOSED_V4 = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "shared by a carrier (and one cloud's metadata)",
    "127.0.0.0/8": "this machine",
    "168.63.129.16/32": "one cloud's metadata",
    "169.254.0.0/16": "link-local (and clouds' metadata)",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "reserved",
    "192.0.2.0/24": "for documentation",
    "192.88.99.0/24": "reserved",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "for benchmarks",
    "198.51.100.0/24": "for documentation",
    "203.0.113.0/24": "for documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}
_CLOSED_V6 = {
    "2001::/23": "reserved (Teredo among it)",
    "2001:db8::/32": "for documentation",
    "2002::/16": "6to4, an IPv4 address in disguise",
    "3fff::/20": "for documentation",
}
_V4 = [(ipaddress.IPv4Network(network), why) for network, why in _CLOSED_V4.items()]
_V6 = [(ipaddress.IPv6Network(network), why) for network, why in _CLOSED_V6.items()]
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.?")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class WebAddress:
    """The parts of an http or https address, in a form that every parser reads alike."""

    scheme: str
    host: str
    """Lower case, in ASCII; an IPv6 address without brackets."""
    port: int
    path: str
    """Path and query; begins with a slash. The fragment is dropped."""

    def __str__(self) -> str:
        """Write it without what is the default."""
        host = _bracketed(self.host)
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def parse_address(text: str, base: WebAddress | None = None) -> WebAddress:
    """Take an address apart.

    Args:
        text: What the model, or a redirect, says.
        base: The page that a relative address is relative to.

    Raises:
        ToolError: It is no http or https address, or it carries a user name.
    """
    try:
        parts = urlsplit(urljoin(str(base), text.strip()) if base else text.strip())
        if parts.scheme not in _PORTS:
            raise ValueError("it does not begin with http:// or https://, and only these are read")
        port = parts.port
        host = _plain_host(parts.hostname or "")
    except ValueError as error:
        raise ToolError(
            f"{text[:200]!r} is no web address ({error}); write http:// or https://, a host, "
            "and a path",
            "bad_arguments",
        ) from error
    if parts.username is not None or parts.password is not None:
        raise ToolError(
            "an address with a user name or password is not reached: leave them out", "refused"
        )
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    query = "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?[]{}|\"<>`^\\") if parts.query else ""
    return WebAddress(parts.scheme, host, port or _PORTS[parts.scheme], path + query)


def _plain_host(host: str) -> str:
    if ":" in host:
        return str(ipaddress.IPv6Address(host))
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    host = host.lower()
    if not _HOST.fullmatch(host) or len(host) > 253:
        raise ValueError("its host is not a name")
    return host


def closed_reason(address: str) -> str | None:
    """Say why a numeric address is not on the public internet; None: it is."""
    number = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(number, ipaddress.IPv6Address):
        if number.ipv4_mapped is not None:
            return closed_reason(str(number.ipv4_mapped))
        if number in _NAT64:
            return closed_reason(str(ipaddress.IPv4Address(int(number) & 0xFFFFFFFF)))
        if number not in _GLOBAL_V6:
            return "this machine" if number.is_loopback else "not public"
        return next((why for network, why in _V6 if number in network), None)
    return next((why for network, why in _V4 if number in network), None)


async def system_lookup(host: str, port: int) -> Sequence[str]:
    """Ask the operating system for a host's addresses."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(answer[4][0]) for answer in found]


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be connected to."""

    allow_private: tuple[str, ...] = ()
    """`host:port` as addresses write it (`[::1]:80`): reached although it is not public."""
    lookup: Lookup = system_lookup
    """Answers names with numeric addresses."""

    async def resolve(self, host: str, port: int) -> tuple[str, ...]:
        """Look up and check a host; connect to one of these addresses and to nothing else.

        Raises:
            ToolError: The name has no address, or one that is not public and not granted.
        """
        try:
            found = tuple(dict.fromkeys(await self.lookup(host, port)))
        except (OSError, UnicodeError) as error:
            raise ToolError(
                f"{host} has no address ({error}); check the name or use another source", "failed"
            ) from error
        if not found:
            raise ToolError(f"{host} has no address; check the name", "failed")
        place = f"{_bracketed(host)}:{port}"
        if place in self.allow_private:
            return found
        # One closed address among public ones is how rebinding begins: no part of it is trusted.
        for address in found:
            reason = closed_reason(address)
            if reason is not None:
                raise ToolError(
                    f"{place} is not on the public internet ({address} is {reason}) and is not "
                    f'reached; whoever runs the agent may grant it: allow_private "{place}"',
                    "refused",
                )
        return found
