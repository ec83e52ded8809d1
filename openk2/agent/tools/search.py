"""Search: a question in, addresses with the sentences that answer to it out.

In: what the model wants to know. Out: titles, addresses and snippets, from whichever backend the
run has: an offline corpus (`corpus.py`) or a SearXNG server.
Must not know: what is done with a result, or how a page is fetched.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urlsplit

from openk2.agent.tool import Access, Call, Tool, ToolError, ToolResult
from openk2.types import ToolSpec

if TYPE_CHECKING:
    from aiohttp import ClientSession


@dataclass(frozen=True, slots=True)
class Hit:
    """One page that answers to a query."""

    url: str
    title: str
    snippet: str
    page: str = ""
    """The backend's own name of the page, where it has one."""


class SearchBackend(Protocol):
    """Anything that finds pages."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Hosts that learn the query."""
        ...

    async def search(self, query: str, count: int) -> Sequence[Hit]:
        """Find at most this many pages, best first.

        Raises:
            ToolError: The backend is out of reach or broken; never because of the query's text.
        """
        ...

    async def close(self) -> None:
        """End connections."""
        ...


_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "query": {
            "type": "string",
            "minLength": 1,
            "maxLength": 1000,
            "description": "What to look for: a few telling words, in the language of the pages.",
        },
        "count": {
            "type": "integer",
            "minimum": 1,
            "maximum": 20,
            "description": "Most results to return; 8 where it is left out.",
        },
    },
    "required": ["query"],
    "additionalProperties": False,
}


def web_search(backend: SearchBackend) -> Tool:
    """Make the tool that finds pages with this backend."""

    async def run(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        query = str(arguments["query"])
        hits = await backend.search(query, int(arguments.get("count", 8)))
        if not hits:
            return ToolResult(
                f"Nothing was found for {query!r}. Try fewer or other words, or another language.",
                details={"results": []},
            )
        lines = [
            f"{rank}. {hit.title}\n   {hit.url}\n   {hit.snippet}".rstrip()
            for rank, hit in enumerate(hits, 1)
        ]
        results = [
            {"url": hit.url, "title": hit.title, "snippet": hit.snippet, "page": hit.page}
            for hit in hits
        ]
        return ToolResult("\n".join(lines), untrusted=True, details={"results": results})

    def access(arguments: Mapping[str, Any], workspace: Path) -> Access:
        return Access(hosts=backend.hosts)

    return Tool(
        spec=ToolSpec(
            "web_search",
            "Find web pages about something. Returns numbered results, each with title, address "
            "and a snippet; use fetch to read a page whole.",
            _PARAMETERS,
        ),
        run=run,
        writes=False,
        capability="search",
        timeout=30.0,
        access=access,
        close=backend.close,
    )


@dataclass
class SearxngSearch:
    """A SearXNG server; its JSON format must be switched on (`search.formats` in its settings)."""

    url: str
    """Where it is, without `/search`. Whoever configures it vouches for it: it may be private."""
    seconds: float = 15.0
    """Longest wait for an answer; metasearch asks slower engines in turn."""
    answer_bytes: int = 4 << 20
    """Longest answer that is read."""

    def __post_init__(self) -> None:
        """Connect only when there is something to ask."""
        self._session: ClientSession | None = None

    @property
    def hosts(self) -> tuple[str, ...]:
        """The server."""
        return (urlsplit(self.url).hostname or "",)

    async def search(self, query: str, count: int) -> Sequence[Hit]:
        """Ask the server."""
        answer = await self._ask(query)
        fields = cast(dict[str, Any], answer) if isinstance(answer, dict) else {}
        results = fields.get("results")
        if not isinstance(results, list):
            raise self._broken("its answer has no list of results")
        return [hit for item in cast(list[Any], results) if (hit := _hit(item))][:count]

    async def _ask(self, query: str) -> Any:
        import aiohttp

        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self.seconds)
            self._session = aiohttp.ClientSession(
                timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
            )
        where = self.url.rstrip("/") + "/search"
        # A form instead of a query string: what is asked stays out of access logs.
        form = {"q": query.encode("utf-8", "replace").decode("utf-8"), "format": "json"}
        try:
            async with self._session.post(where, data=form, allow_redirects=False) as response:
                if response.status == 429:
                    raise self._broken("it asks for fewer questions (429); wait a minute")
                if response.status == 403:
                    raise self._broken("it refuses JSON (403): add json to its search.formats")
                if response.status != 200:
                    raise self._broken(f"it answered {response.status}")
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > self.answer_bytes:
                        raise self._broken(f"its answer is longer than {self.answer_bytes} bytes")
        except TimeoutError as error:
            raise self._broken(f"no answer within {self.seconds:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._broken(f"{type(error).__name__}: {error}") from error
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self._broken("its answer is not JSON") from error

    def _broken(self, problem: str) -> ToolError:
        return ToolError(
            f"the search server at {self.url} gave no results: {problem}; go on with other "
            "sources or try later",
            "unavailable",
        )

    async def close(self) -> None:
        """End the connection."""
        if self._session is not None:
            await self._session.close()
            # aiohttp closes its sockets one turn of the event loop later.
            await asyncio.sleep(0)
            self._session = None


def _hit(item: Any) -> Hit | None:
    if not isinstance(item, dict):
        return None
    fields = cast(dict[str, Any], item)
    url, title, snippet = (fields.get(name) for name in ("url", "title", "content"))
    if not isinstance(url, str) or urlsplit(url[:8]).scheme not in ("http", "https"):
        return None
    return Hit(
        url.split("\n")[0][:2000],
        " ".join(title.split())[:300] if isinstance(title, str) else url[:300],
        " ".join(snippet.split())[:1000] if isinstance(snippet, str) else "",
    )
