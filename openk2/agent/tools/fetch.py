"""Fetch: an address in, the page as Markdown or a file in the workspace out.

In: an http or https address. Out: what stands there: HTML as Markdown, text as it is, anything
else saved as a file. Only the public internet is reached, and what was granted.
Must not know: how pages are found, or scripts: a page that needs them is the browser's.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import socket
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from openk2.agent.tool import Access, Call, Tool, ToolError, ToolResult
from openk2.agent.tools import page_text
from openk2.agent.tools.addresses import Reach, WebAddress, parse_address
from openk2.agent.tools.confined import absolute, reach
from openk2.agent.tools.corpus import OfflineCorpus
from openk2.types import ToolSpec

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from aiohttp.abc import AbstractResolver


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """What fetch may reach and how much of it."""

    reach: Reach = field(default_factory=Reach)
    """Which addresses are connected to."""
    offline: bool = False
    """Only the corpus answers; the network is never asked."""
    page_bytes: int = 10 << 20
    """Longest page that is read, after decompression."""
    file_bytes: int = 100 << 20
    """Longest file that is saved."""
    seconds: float = 45.0
    """Longest time for an address with all its redirects."""
    redirects: int = 10
    """Most redirects that are followed, as browsers and curl have it to an order of magnitude."""
    convert_seconds: int = 20
    """Processor time for turning a page into Markdown."""
    convert_bytes: int = 2 << 30
    """Memory for it."""
    user_agent: str = "Mozilla/5.0 (compatible; openk2)"
    """What servers are told; many answer nothing to what does not begin like this."""


_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "url": {
            "type": "string",
            "minLength": 1,
            "maxLength": 4000,
            "description": "The http or https address.",
        },
        "save_as": {
            "type": "string",
            "minLength": 1,
            "maxLength": 400,
            "description": "Save the bytes, unchanged, to this file of the workspace instead of "
            "returning text: for data that code will read.",
        },
    },
    "required": ["url"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class _Answer:
    address: WebAddress
    kind: str
    """The media type, lower case, without parameters; empty where the server is silent."""
    charset: str
    body: bytes


def fetch(settings: FetchSettings = FetchSettings(), corpus: OfflineCorpus | None = None) -> Tool:
    """Make the tool that reads an address; pages of the corpus come from the corpus."""

    async def run(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        address = parse_address(str(arguments["url"]))
        save_as: str | None = arguments.get("save_as")
        if save_as is not None:
            with reach(call.workspace, save_as, create=True):
                pass  # a path that leads out is refused before anybody is asked
        if corpus is not None:
            page = await corpus.page(str(arguments["url"])) or await corpus.page(str(address))
            if page is not None:
                body = page.text.encode()
                if save_as is not None:
                    return _saved(call, save_as, body, "text/markdown", page.url)
                return _text(page.title, page.url, page.text)
        if settings.offline:
            raise ToolError(
                f"{address} is not in the corpus, and this run has no network; fetch an address "
                "that web_search returned",
                "refused",
            )
        most = settings.page_bytes if save_as is None else settings.file_bytes
        try:
            async with asyncio.timeout(min(settings.seconds, call.seconds)):
                answer = await _get(address, settings, most)
        except TimeoutError as error:
            raise ToolError(
                f"{address} was not read within {min(settings.seconds, call.seconds):g} s; try "
                "again later or use another source",
                "timeout",
            ) from error
        if save_as is not None:
            return _saved(call, save_as, answer.body, answer.kind, str(answer.address))
        return await _shown(answer, call, settings)

    def access(arguments: Mapping[str, Any], workspace: Path) -> Access:
        try:
            host = parse_address(str(arguments["url"])).host
        except ToolError:  # run says so, too, and asks nobody
            host = "*"
        saved = arguments.get("save_as")
        writes = absolute(workspace, str(saved)) if saved else ()
        return Access(hosts=() if settings.offline else (host,), writes=writes)

    return Tool(
        spec=ToolSpec(
            "fetch",
            "Read a web page or file. Returns HTML as Markdown with its links and tables, text "
            "and JSON as they are; PDFs and other binaries are saved in the workspace and named. "
            "Pages that need scripts or clicks: use browser.",
            _PARAMETERS,
        ),
        run=run,
        writes=False,
        capability="read_page",
        timeout=90.0,
        access=access,
    )


async def _get(address: WebAddress, settings: FetchSettings, most: int) -> _Answer:
    """Follow redirects, with every hop's address checked, to an answer."""
    for _ in range(settings.redirects + 1):
        numbers = await settings.reach.resolve(address.host, address.port)
        answer = await _hop(address, numbers, settings, most)
        if isinstance(answer, _Answer):
            return answer
        address = answer
    raise ToolError(
        f"more than {settings.redirects} redirects, the last to {address}; the site is broken or "
        "wants cookies: use browser",
        "failed",
    )


async def _hop(
    address: WebAddress, numbers: tuple[str, ...], settings: FetchSettings, most: int
) -> _Answer | WebAddress:
    """Ask one server; where it redirects, the next address."""
    import aiohttp

    connector = aiohttp.TCPConnector(resolver=_pinned(numbers), use_dns_cache=False)
    headers = {
        "User-Agent": settings.user_agent,
        "Accept": "text/html,application/xhtml+xml,text/*;q=0.9,*/*;q=0.8",
        "Accept-Encoding": "gzip, deflate",
    }
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=15),
            ) as session,
            session.get(str(address), headers=headers, allow_redirects=False) as response,
        ):
            if response.status in (301, 302, 303, 307, 308) and "Location" in response.headers:
                return parse_address(response.headers["Location"], address)
            if response.status != 200:
                raise await _refused(address, response)
            body = await _body(address, response, most)
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            return _Answer(address, kind, response.charset or "", body)
    except aiohttp.ClientSSLError as error:
        raise ToolError(f"{address}: its certificate is not trusted ({error})") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # aiohttp's own timeout is the connection's; the other is the caller's clock.
        if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ServerTimeoutError):
            raise
        raise ToolError(
            f"{address} could not be read ({type(error).__name__}: {error}); check the address or "
            "use another source"
        ) from error


def _pinned(numbers: tuple[str, ...]) -> AbstractResolver:
    """Answer every name with the addresses that were checked."""
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Pinned(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            return [
                ResolveResult(
                    hostname=host,
                    host=number,
                    port=port,
                    family=socket.AF_INET6 if ":" in number else socket.AF_INET,
                    proto=0,
                    flags=socket.AI_NUMERICHOST,
                )
                for number in numbers
            ]

        async def close(self) -> None:
            return None

    return Pinned()


async def _refused(address: WebAddress, response: ClientResponse) -> ToolError:
    told = ""
    if "Content-Encoding" not in response.headers:
        start = page_text.decode(await response.content.read(4000), response.charset or "")
        told = " ".join(re.sub(r"<style.*?</style>|<[^<>]*>", " ", start, flags=re.DOTALL).split())
    advice = {
        401: "it wants a login; use another source",
        403: "it refuses programs; try browser or another source",
        404: "there is no such page; check the address or search again",
        429: "it asks for fewer questions; wait or use another source",
    }.get(response.status, "try again later" if response.status >= 500 else "check the address")
    return ToolError(f"{address} answered {response.status}: {advice}. {told[:300]}".rstrip())


async def _body(address: WebAddress, response: ClientResponse, most: int) -> bytes:
    """Read and unpack an answer, never more than `most` bytes of it."""
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip", "deflate"):
        raise ToolError(f"{address} is compressed with {coding}, which was not asked for")
    too_long = ToolError(
        f"{address} is longer than {most} bytes; look for a shorter page, or a part of it"
    )
    # 47: gzip or zlib, whichever the header shows.
    unpack = zlib.decompressobj(47) if coding != "identity" else None
    body = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        if unpack is None:
            body += chunk
        else:
            try:
                # A kilobyte may hold a gigabyte: never more is unpacked than may be kept.
                body += unpack.decompress(chunk, most + 1 - len(body))
            except zlib.error as error:
                raise ToolError(f"{address} cannot be decompressed ({error})") from error
        if len(body) > most:
            raise too_long
        if unpack is not None and unpack.eof:
            break
    if unpack is not None and body and not unpack.eof:
        raise ToolError(f"{address} ends in the middle of its compressed body; try again")
    return bytes(body)


_TEXTS = re.compile(
    r"text/.*|application/(json|xml|javascript|x-javascript|yaml|x-yaml|toml|sql|x-sh|ndjson|csv)"
    r"|[\w.-]+/[\w.-]+\+(json|xml)"
)
_PAGES = ("text/html", "application/xhtml+xml")


async def _shown(answer: _Answer, call: Call, settings: FetchSettings) -> ToolResult:
    """Turn an answer into what a model reads."""
    kind = answer.kind
    if kind in ("", "application/octet-stream"):  # what servers say that do not know
        kind = _guess(answer.body)
    url = str(answer.address)
    if kind in _PAGES:
        page = await _converted(page_text.decode(answer.body, answer.charset), url, settings)
        text: str = page["markdown"] or (
            "(The page has no text of its own; it may be built by scripts: use browser.)"
        )
        return _text(page["title"], url, text)
    if _TEXTS.fullmatch(kind) and b"\0" not in answer.body[:1000].replace(b"\xff\xfe", b""):
        return _text("", url, page_text.decode(answer.body, answer.charset or "utf-8"))
    return _saved(call, _file_name(answer.address, kind), answer.body, kind, url)


def _text(title: str, url: str, text: str) -> ToolResult:
    head = f"{title}\n{url}\n\n" if title else f"{url}\n\n"
    return ToolResult(head + text, untrusted=True, details={"url": url, "title": title})


def _saved(call: Call, path: str, body: bytes, kind: str, url: str) -> ToolResult:
    with reach(call.workspace, path, create=True) as place:
        place.write(body)
        name = place.shown
    hint = " Read it with code." if kind == "application/pdf" else ""
    return ToolResult(
        f"{url} ({kind or 'no type'}, {len(body)} bytes) was saved to {name}.{hint}",
        artifacts=(call.workspace / name,),
        untrusted=True,
        details={"url": url, "path": name, "bytes": len(body)},
    )


def _guess(body: bytes) -> str:
    start = body[:1000].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "text/html"
    binary = re.search(rb"[\x00-\x08\x0e-\x1a]", start)
    return "application/octet-stream" if binary else "text/plain"


_ENDINGS = {
    "application/pdf": ".pdf",
    "application/zip": ".zip",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/svg+xml": ".svg",
}


def _file_name(address: WebAddress, kind: str) -> str:
    """Name a file after its address: the same address is the same file when it is read again."""
    last = PurePosixPath(unquote(address.path.partition("?")[0])).name
    plain = PurePosixPath(re.sub(r"[^\w.-]+", "-", last).strip("-.")[:80] or "file")
    ending = _ENDINGS.get(kind) or plain.suffix or ".bin"
    mark = hashlib.sha256(str(address).encode()).hexdigest()[:8]
    return f"downloads/{plain.stem}-{mark}{ending}"


async def _converted(page: str, url: str, settings: FetchSettings) -> dict[str, Any]:
    """Convert a page in a process of its own: a page can make any parser take for ever."""
    limits = (str(settings.convert_bytes), str(settings.convert_seconds))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", page_text.__file__, url, *limits),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
    )
    try:
        async with asyncio.timeout(settings.convert_seconds * 3):
            out, _ = await process.communicate(page.encode("utf-8", "replace"))
    except TimeoutError:
        out = b""
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode == 0:
        return json.loads(out)
    # Not one more parser: what took minutes here would take the host's own time there.
    plain = re.sub(r"<[^<>]{0,2000}>", " ", page[:1_000_000])
    return {"title": "", "markdown": f"(The page is malformed; this is its bare text.)\n{plain}"}
