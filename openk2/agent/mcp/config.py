"""Which MCP servers there are, in the `mcpServers` form that coding agents share.

In: a JSON document, a folder that relative paths start at, an environment for `${NAME}`.
Out: frozen server descriptions, and a sentence for every entry that cannot be used.
Must not know: the protocol, or how a server is started.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

Transport = Literal["stdio", "http", "sse"]

TOO_LONG = "its answer has more than"
"""How a transport begins to say that a message was longer than `message_bytes`."""

_TRANSPORTS: Mapping[str, Transport] = {
    "stdio": "stdio",
    "http": "http",
    "streamable-http": "http",
    "streamable_http": "http",
    "streamableHttp": "http",
    "sse": "sse",
}
_KNOWN = frozenset(
    ("type", "command", "args", "env", "cwd", "url", "headers", "timeout", "disabled", "sandbox")
)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_SECRET = 6  # shorter values (ports, flags) are no secrets, and hiding them would garble texts


class McpConfigError(ValueError):
    """A file of servers cannot be read at all; the message says which and why."""


@dataclass(frozen=True, slots=True)
class McpSettings:
    """Limits on servers that nobody here wrote."""

    connect_seconds: float = 30.0
    """From the start of a server to its list of tools; `npx` may download it first."""
    call_seconds: float = 120.0
    """Per call, where a server's entry has no `timeout`."""
    close_seconds: float = 2.0
    """What a server has to end by itself, and then again after SIGTERM; the protocol's advice."""
    message_bytes: int = 16 << 20
    """Longest message that is read; a longer answer fails its call."""
    description_chars: int = 1200
    """Longest description of a tool; the rest is cut off."""
    schema_bytes: int = 24 << 10
    """Largest argument schema; descriptions in it go first, then the tool is left out."""
    tools_per_server: int = 200
    """More are left out."""
    shown_tokens: int = 12_000
    """Above this many tokens of tool descriptions, tools are found by `find_tools` first."""
    found_tools: int = 6
    """Most tools that one search brings."""
    retry_seconds: float = 1.0
    """Wait after a first failure; doubled after each that follows it."""
    longest_retry_seconds: float = 300.0
    """Longest wait between two attempts."""
    failures_tolerated: int = 3
    """After this many in a row, a server's tools are hidden until it answers again."""
    healthy_seconds: float = 10.0
    """A connection that lasted this long ends a row of failures."""
    cache_seconds: float = 7 * 24 * 3600.0
    """Tools on disk younger than this are offered before their server runs."""
    lazy: bool = True
    """A server whose tools are on disk is started by the first call."""
    log_bytes: int = 1 << 20
    """Most of a server's error output that is kept, per connection."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """What a server in a sandbox may use besides its own folder."""

    network: bool = False
    """Whether it reaches the network."""
    readable: tuple[Path, ...] = ()
    """Files and folders that it may read: its program, if that is not the system's."""
    writable: tuple[Path, ...] = ()
    """Files and folders that it may change."""


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """How to reach one server."""

    name: str
    transport: Transport
    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """All that its process gets besides PATH, HOME and LANG."""
    cwd: Path | None = None
    url: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    timeout: float | None = None
    """Seconds per call."""
    sandbox: Isolation | None = None
    """How its process is isolated; None is not at all."""

    @property
    def host(self) -> str:
        """Where its requests go, empty for a process."""
        return urlsplit(self.url).hostname or ""

    @property
    def shown(self) -> str:
        """What people are told: never a header, a value of the environment, or a query."""
        return self.command or f"{urlsplit(self.url).scheme}://{urlsplit(self.url).hostname}"

    def digest(self) -> str:
        """Name everything that decides which tools there are."""
        parts = [
            self.transport,
            self.command,
            list(self.args),
            dict(self.env),
            str(self.cwd),
            str(self.sandbox),
        ]
        text = json.dumps([*parts, self.url, dict(self.headers)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def hide_secrets(self, text: str) -> str:
        """Blank out what the configuration holds in confidence."""
        values = [*self.env.values(), *self.headers.values(), urlsplit(self.url).query]
        # `Bearer TOKEN` is said without its first word, too.
        words = {word for value in values for word in (value, *value.split()[1:])}
        for value in sorted(words, key=len, reverse=True):
            if len(value) >= _SECRET:
                text = text.replace(value, "[hidden]")
        return text


@dataclass(frozen=True, slots=True)
class McpServers:
    """Every server, and what is wrong with the entries that are left out."""

    servers: tuple[ServerEntry, ...] = ()
    problems: tuple[str, ...] = ()


def read_config(path: Path, environment: Mapping[str, str]) -> McpServers:
    """Read a file of servers.

    Args:
        path: A JSON file with an object `mcpServers`.
        environment: What `${NAME}` in it stands for.

    Raises:
        McpConfigError: The file is missing, not JSON, or has no `mcpServers`.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise McpConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise McpConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict) or "mcpServers" not in document:
        raise McpConfigError(
            f'{path} has no "mcpServers"; it needs the form '
            '{"mcpServers": {"NAME": {"command": "...", "args": []}}}'
        )
    return parse_servers(document["mcpServers"], path.resolve().parent, environment)


def parse_servers(entries: Any, folder: Path, environment: Mapping[str, str]) -> McpServers:
    """Turn the object `mcpServers` into descriptions; a bad entry never takes others with it.

    Args:
        entries: From a server's name to its entry.
        folder: Where a relative `cwd` starts.
        environment: What `${NAME}` stands for.

    Raises:
        McpConfigError: It is not an object.
    """
    if not isinstance(entries, dict):
        raise McpConfigError('"mcpServers" must be an object from names to servers')
    servers: list[ServerEntry] = []
    problems: list[str] = []
    slugs: dict[str, str] = {}
    for name, entry in cast("dict[str, Any]", entries).items():
        if isinstance(entry, dict) and cast("dict[str, Any]", entry).get("disabled") is True:
            continue
        try:
            server = _server(name, entry, folder, environment)
            rival = slugs.setdefault(slug(name), name)
            if rival != name:
                raise ValueError(f"its name is too like {rival!r}; rename one of them")
        except ValueError as error:
            problems.append(f"MCP server {name!r} is left out: {error}.")
            continue
        servers.append(server)
        unknown = sorted(cast("dict[str, Any]", entry).keys() - _KNOWN)
        if unknown:
            problems.append(f"MCP server {name!r}: unknown and ignored: {', '.join(unknown)}.")
    return McpServers(tuple(servers), tuple(problems))


def slug(server: str) -> str:
    """Return the part before `__` in the names of a server's tools.

    It never holds `__` nor ends with `_`, so a tool's name tells its server without doubt. A name
    that had to be changed carries a piece of its hash, so that two never become one.
    """
    plain = re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9_-]", "_", server)).strip("_-")[:24]
    plain = plain.rstrip("_-")
    named = plain[:1].isalpha()
    if named and plain == server:
        return plain
    mark = hashlib.sha256(server.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{plain}_{mark}" if named else f"mcp_{mark}"


def _server(name: str, entry: Any, folder: Path, environment: Mapping[str, str]) -> ServerEntry:
    if not isinstance(entry, dict):
        raise ValueError("its entry must be an object")
    table = cast("dict[str, Any]", entry)
    kind = table.get("type", "stdio" if "command" in table else "http")
    if not isinstance(kind, str) or kind not in _TRANSPORTS:
        raise ValueError(f'type is {kind!r}; it must be "stdio", "http" or "sse"')
    transport = _TRANSPORTS[kind]
    timeout = table.get("timeout")
    if timeout is not None and not (_number(timeout) and timeout > 0):
        raise ValueError("timeout must be a number of seconds above 0")
    seconds = None if timeout is None else float(timeout)
    sandbox = _isolation(table.get("sandbox"), folder, environment)
    if transport == "stdio":
        cwd = _text(table, "cwd", environment)
        return ServerEntry(
            name,
            transport,
            command=_text(table, "command", environment, required=True),
            args=_texts(table.get("args", []), "args", environment),
            env=_table(table.get("env", {}), "env", environment),
            cwd=(folder / Path(cwd).expanduser()) if cwd else None,
            timeout=seconds,
            sandbox=sandbox,
        )
    url = _text(table, "url", environment, required=True)
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise ValueError("url must begin with http:// or https:// and name a host")
    if sandbox is not None:
        raise ValueError("sandbox is for servers that have a command")
    headers = _table(table.get("headers", {}), "headers", environment)
    return ServerEntry(name, transport, url=url, headers=headers, timeout=seconds)


def _isolation(value: Any, folder: Path, environment: Mapping[str, str]) -> Isolation | None:
    if value is None or value is False:
        return None
    if value is True:
        return Isolation()
    if not isinstance(value, dict):
        raise ValueError("sandbox must be true, or an object with network, readable and writable")
    table = cast("dict[str, Any]", value)
    unknown = sorted(table.keys() - {"network", "readable", "writable"})
    if unknown or not isinstance(table.get("network", False), bool):
        raise ValueError("sandbox must be true, or an object with network, readable and writable")
    readable, writable = (
        tuple(
            folder / Path(path).expanduser()
            for path in _texts(table.get(key, []), f"sandbox.{key}", environment)
        )
        for key in ("readable", "writable")
    )
    return Isolation(table.get("network", False), readable, writable)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(
    table: Mapping[str, Any], key: str, environment: Mapping[str, str], *, required: bool = False
) -> str:
    value = table.get(key, "")
    if not isinstance(value, str) or (required and not value) or "\0" in value:
        raise ValueError(f"{key} must be a text")
    return _expand(value, key, environment)


def _texts(value: Any, key: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{key} must be a list of texts")
    items = cast("list[Any]", value)
    if not all(isinstance(item, str) and "\0" not in item for item in items):
        raise ValueError(f"{key} must be a list of texts")
    return tuple(_expand(item, key, environment) for item in items)


def _table(value: Any, key: str, environment: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"{key} must be an object of texts")
    items = cast("dict[str, Any]", value)
    if not all(isinstance(item, str) and "\0" not in item for item in items.values()):
        raise ValueError(f"{key} must be an object of texts")
    return {name: _expand(item, f"{key}.{name}", environment) for name, item in items.items()}


def _expand(text: str, key: str, environment: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] in environment:
            return environment[match[1]]
        if match.lastindex == 1:  # without `:-default`
            raise ValueError(f"{key} needs the environment variable {match[1]}, which is not set")
        return match[2]

    return _VARIABLE.sub(value, text)
