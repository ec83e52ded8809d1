"""Where another server is, and how long to wait for it.

In: what a user typed. Out: `Address`, `TimeLimits`.
Must not know: requests, sockets.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Address:
    """Where another server is."""

    base: str
    """Up to and including `/v1`, or what it has in its place."""

    @property
    def root(self) -> str:
        """The part before `/v1`."""
        return self.base.removesuffix("/v1")

    @property
    def host(self) -> str:
        """The host's name."""
        return urlsplit(self.base).hostname or ""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read what a user typed: with or without `/v1`, or the whole path to completions.

        Raises:
            ValueError: It is no http or https URL, or it holds more than an address.
        """
        try:
            parts = urlsplit(url.strip())
            port_known = parts.port is None or parts.port > 0
        except ValueError:
            port_known = False
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname or not port_known:
            raise ValueError(f"{url!r} is no URL such as http://127.0.0.1:8000/v1")
        if parts.username is not None or parts.password is not None:
            raise ValueError("a URL with a name or a password in it; give the key in a variable")
        if parts.query or parts.fragment:
            raise ValueError(f"{url!r} has more than an address in it")
        path = parts.path.rstrip("/").removesuffix("/chat/completions")
        return cls(f"{parts.scheme}://{parts.netloc}{path or '/v1'}")


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long to wait for another server."""

    connect: float = 10.0
    """Seconds until there is a connection."""
    idle: float = 600.0
    """Seconds without a single byte: a long prompt is read in silence."""
    document: float = 20.0
    """Seconds for a list of models or a count of tokens, all in all."""
