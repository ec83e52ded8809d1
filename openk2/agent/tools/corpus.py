"""An offline corpus: pages in one SQLite file, found by BM25, in English and in Chinese.

In: documents, then queries. Out: a file that is the same for the same documents, hits with
snippets, and whole pages by their address.
Must not know: the web, or who asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sqlite3
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from openk2.agent.tool import ToolError
from openk2.agent.tools.search import Hit

_FORMAT = 1
"""`user_version` of the files that are written and read here."""

# Scripts that put no spaces between words: Han, kana, and Hangul for its endings.
_UNSPACED = (
    r"\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    r"\U00020000-\U0003ffff"
)
_RUN = re.compile(rf"([{_UNSPACED}]+)|([^\W_{_UNSPACED}]+)")


class CorpusError(ValueError):
    """A corpus cannot be built or opened; the message says why."""


@dataclass(frozen=True, slots=True)
class Document:
    """One page of a corpus."""

    url: str
    title: str
    text: str
    """What the page says, as text or Markdown."""
    lang: str = ""
    """Its language, `en` or `zh`; empty where it is not known."""


def segment(text: str) -> list[str]:
    """Cut text into what is indexed: words, and for unspaced scripts every pair of characters.

    A run's last character stands alone as well, so each character begins exactly one piece and
    a single character is found as a prefix.
    """
    pieces: list[str] = []
    for match in _RUN.finditer(unicodedata.normalize("NFKC", text)):
        unspaced, word = match.groups()
        if unspaced:
            pieces.extend(unspaced[start : start + 2] for start in range(len(unspaced)))
        else:
            pieces.append(word)
    return pieces


def read_documents(path: Path) -> Iterator[Document]:
    """Read documents from JSON lines, each with `url`, `title`, `text` and perhaps `lang`.

    Raises:
        CorpusError: A line is no document; the message says which and why.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
                document = Document(**fields)
            except (ValueError, TypeError, RecursionError) as error:
                raise CorpusError(f"{path}, line {number} is no document: {error}") from error
            wrong = [name for name, value in asdict(document).items() if not isinstance(value, str)]
            if wrong:
                raise CorpusError(f"{path}, line {number}: {wrong[0]} is no text")
            yield document


def build_corpus(documents: Iterable[Document], path: Path) -> int:
    """Write a corpus file, whole or not at all; the same documents in order give the same bytes.

    Args:
        documents: Pages; two with one address are a mistake.
        path: The file; an older one is replaced.

    Returns:
        The number of pages.

    Raises:
        CorpusError: An address is there twice, or this Python's SQLite has no FTS5.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    os.close(handle)
    try:
        with contextlib.closing(sqlite3.connect(name)) as database:
            count = _fill(database, documents)
        os.replace(name, path)  # noqa: PTH105 - the temporary file's name is a string
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return count


def _fill(database: sqlite3.Connection, documents: Iterable[Document]) -> int:
    try:
        database.executescript(
            f"""
            PRAGMA journal_mode = OFF;
            PRAGMA user_version = {_FORMAT};
            CREATE TABLE pages (
                id INTEGER PRIMARY KEY, url TEXT UNIQUE, title TEXT, text TEXT, lang TEXT
            );
            CREATE VIRTUAL TABLE words USING fts5(
                title, text, content = '', tokenize = 'porter unicode61 remove_diacritics 2'
            );
            BEGIN;
            """
        )
    except sqlite3.OperationalError as error:
        raise CorpusError(
            f"this Python's SQLite cannot index text ({error}); use one with FTS5"
        ) from error
    count = 0
    for count, document in enumerate(documents, 1):
        url, title, text, lang = (
            # A lone surrogate has no UTF-8; a NUL ends a string in SQLite's own functions.
            value.encode("utf-8", "replace").decode("utf-8").replace("\0", " ")
            for value in (document.url, document.title, document.text, document.lang)
        )
        try:
            database.execute(
                "INSERT INTO pages VALUES (?,?,?,?,?)", (count, url, title, text, lang)
            )
        except sqlite3.IntegrityError as error:
            raise CorpusError(f"{url} is in the documents twice") from error
        database.execute(
            "INSERT INTO words (rowid, title, text) VALUES (?, ?, ?)",
            (count, " ".join(segment(title)), " ".join(segment(text))),
        )
    database.execute("INSERT INTO words (words) VALUES ('optimize')")
    database.commit()
    database.execute("VACUUM")
    return count


@dataclass(frozen=True)
class OfflineCorpus:
    """A corpus file as a search backend and as a small web of its own."""

    path: Path
    title_weight: float = 5.0
    """How much more a word in a title counts; BM25's column weight."""
    snippet_chars: int = 240
    """Length of a snippet."""
    query_terms: int = 64
    """Most different pieces of a query that are looked for; more tell nothing and cost time."""

    def __post_init__(self) -> None:
        """Open it once, so that a wrong file is known before the run.

        Raises:
            CorpusError: It is missing or is no corpus of this version.
        """
        if not self.path.is_file():
            raise CorpusError(f"there is no corpus at {self.path}; build_corpus makes one")
        try:
            with self._open() as database:
                (version,) = database.execute("PRAGMA user_version").fetchone()
                database.execute("SELECT count(*) FROM words WHERE words MATCH '\"a\"'")
        except sqlite3.Error as error:
            raise CorpusError(f"{self.path} is no corpus ({error}); build it again") from error
        if version != _FORMAT:
            raise CorpusError(
                f"{self.path} has version {version}, this program reads {_FORMAT}: build it again"
            )

    @property
    def hosts(self) -> tuple[str, ...]:
        """None: nothing leaves the machine."""
        return ()

    async def search(self, query: str, count: int) -> Sequence[Hit]:
        """Find pages by BM25; pages that are equally good come in the order they were added."""
        return await asyncio.to_thread(self._search, query, count)

    def _search(self, query: str, count: int) -> Sequence[Hit]:
        terms = list(dict.fromkeys(piece.lower() for piece in segment(query)))[: self.query_terms]
        if not terms:
            return []
        # Quoted, every piece is a string to FTS5 and never syntax; pieces hold no quote.
        match = " OR ".join(f'"{term}"' + "*" * _alone(term) for term in terms)
        try:
            with self._open() as database:
                rows = database.execute(
                    "SELECT id, url, pages.title, pages.text FROM words "
                    "JOIN pages ON pages.id = words.rowid WHERE words MATCH ? "
                    "ORDER BY bm25(words, ?, 1.0), id LIMIT ?",
                    (match, self.title_weight, count),
                ).fetchall()
        except sqlite3.Error as error:
            raise self._broken(error) from error
        return [
            Hit(url, title or url, snippet(text, terms, self.snippet_chars), str(number))
            for number, url, title, text in rows
        ]

    async def page(self, url: str) -> Document | None:
        """Return the page at an address, if the corpus has it."""
        return await asyncio.to_thread(self._page, url)

    def _page(self, url: str) -> Document | None:
        plain = url.partition("#")[0].encode("utf-8", "replace").decode("utf-8")
        try:
            with self._open() as database:
                row = database.execute(
                    "SELECT url, title, text, lang FROM pages WHERE url IN (?, ?, ?)",
                    (plain, plain.rstrip("/"), plain + "/"),
                ).fetchone()
        except sqlite3.Error as error:
            raise self._broken(error) from error
        return Document(*row) if row else None

    @contextlib.contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        # A connection belongs to one thread, and opening a file that is never written is cheap.
        address = self.path.absolute().as_uri() + "?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as database:
            yield database

    def _broken(self, error: sqlite3.Error) -> ToolError:
        return ToolError(
            f"the corpus {self.path.name} cannot be read ({error}); go on without it",
            "unavailable",
        )

    async def close(self) -> None:
        """Nothing is kept open."""


def _alone(term: str) -> bool:
    return len(term) == 1 and re.match(f"[{_UNSPACED}]", term) is not None


def snippet(text: str, terms: Sequence[str], chars: int) -> str:
    """Cut out the stretch of a page that has the most of the query's terms, the first such."""
    found: list[tuple[int, str]] = []
    for term in terms:
        # The index has stems: without its ending a word is found in its other forms, too.
        stem = term if len(term) < 5 else term[: max(4, len(term) - 3)]
        places = re.finditer(re.escape(stem), text, re.IGNORECASE)
        found.extend((match.start(), stem) for match, _ in zip(places, range(200), strict=False))
    found.sort()
    best, most, first = 0, 0, 0
    inside: Counter[str] = Counter()
    for place, stem in found:
        inside[stem] += 1
        while found[first][0] < place - chars * 3 // 4:
            inside[found[first][1]] -= 1
            first += 1
        if (different := len(+inside)) > most:
            best, most = found[first][0], different
    begin = max(0, best - chars // 4)
    if begin:  # at the next space, where there is one before the term
        space = text.find(" ", begin, best)
        begin = space + 1 if space >= 0 else begin
    cut = " ".join(text[begin : begin + chars].split())
    return ("… " if begin else "") + cut + (" …" if begin + chars < len(text) else "")
