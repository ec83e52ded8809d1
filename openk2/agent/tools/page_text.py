"""Bytes of a web page in, Markdown that a model can read out.

In: HTML of strangers. Out: its title and its text with headings, lists, links and tables.
Must not know: where it came from, or openk2: this file runs as a program of its own, because a page
may take a parser minutes, or all memory, and only a process can be ended.
"""

from __future__ import annotations

import codecs
import html
import json
import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

_BOMS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
# What browsers decode (encoding.spec.whatwg.org), by Python's names. Python has other text codecs
# that a page must not be able to choose: idna, punycode, unicode_escape, utf-7.
_CHARSETS = frozenset(
    codecs.lookup(name).name
    for name in (
        *("utf-8", "utf-16", "utf-16-le", "utf-16-be", "gbk", "gb18030", "big5", "big5hkscs"),
        *("euc_jp", "iso2022_jp", "shift_jis", "cp932", "euc_kr", "cp949", "koi8-r", "koi8-u"),
        *("cp866", "mac-roman", "mac-cyrillic", "tis-620", "cp874", "ascii"),
        *(f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)),
        *(f"cp125{page}" for page in range(9)),
    )
)
# Pages that say gb2312 or latin-1 mean what browsers read instead.
_MEANT = {"gb2312": "gb18030", "gbk": "gb18030", "iso8859-1": "cp1252", "ascii": "cp1252"}
_DECLARED = re.compile(
    rb"<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*[\"']?([\w:.-]{2,30})"
)
_HAN = re.compile(r"[\u4e00-\u9fff]")


def decode(body: bytes, charset: str = "") -> str:
    """Decode a page the way a browser would.

    Args:
        body: The bytes.
        charset: What the HTTP header says; a byte order mark goes before it, `<meta>` after it.
    """
    for mark, name in _BOMS.items():
        if body.startswith(mark):
            return body[len(mark) :].decode(name, "replace")
    declared = _DECLARED.search(body[:4096])
    for name in (charset, declared[1].decode("ascii") if declared else ""):
        known = _known(name)
        if known:
            return body.decode(known, "replace")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:  # most bytes of Latin text are no GB 18030, and what is has no Han characters to speak of
        text = body.decode("gb18030")
        if len(_HAN.findall(text)) * 4 > sum(byte > 0x7F for byte in body):
            return text
    except UnicodeDecodeError:
        pass
    return body.decode("cp1252", "replace")


def _known(name: str) -> str | None:
    try:
        plain = codecs.lookup(name.strip().strip("\"'")).name if name else ""
    except (LookupError, ValueError):
        return None
    plain = _MEANT.get(plain, plain)
    return plain if plain in _CHARSETS else None


_SKIPPED = {"script", "style", "noscript", "template", "svg", "iframe", "object", "select"}
_BLOCKS = frozenset(
    (
        *(
            "address",
            "article",
            "aside",
            "blockquote",
            "body",
            "caption",
            "center",
            "dd",
            "details",
        ),
        *("dialog", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form"),
        *("header", "hr", "html", "legend", "li", "main", "menu", "nav", "ol", "p", "pre"),
        *(
            "section",
            "summary",
            "tbody",
            "tfoot",
            "thead",
            "ul",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
        ),
    )
)
_SPAN = 50
"""Most rows or columns that one cell is repeated over."""
_CELLS = 200_000
"""Most cells of one table: spans of spans multiply."""


@dataclass
class _Table:
    rows: list[list[str]] = field(default_factory=list[list[str]])
    below: dict[int, tuple[int, str]] = field(default_factory=dict[int, tuple[int, str]])
    """Column → how many rows more a cell from above covers, and its text."""
    span: tuple[int, int] = (1, 1)
    cells: int = 0

    def start_row(self) -> None:
        """Begin a row with what hangs down from above."""
        self.rows.append([])
        self._hang()

    def add(self, text: str) -> None:
        """Add a cell of this row; a spanning one is repeated in every place that it covers."""
        if not self.rows:
            self.start_row()
        down, across = self.span
        for _ in range(across):
            if self.cells >= _CELLS:
                return
            if down > 1:
                self.below[len(self.rows[-1])] = (down - 1, text)
            self.rows[-1].append(text)
            self.cells += 1
        self._hang()

    def _hang(self) -> None:
        row = self.rows[-1]
        while len(row) in self.below and self.cells < _CELLS:
            left, text = self.below.pop(len(row))
            if left > 1:
                self.below[len(row)] = (left - 1, text)
            row.append(text)
            self.cells += 1

    def markdown(self) -> str:
        """Write the table; one that has a single column was only layout."""
        rows = [row for row in self.rows if any(row)]
        width = max(map(len, rows), default=0)
        if width < 2:
            return "\n\n".join(row[0] for row in rows)
        lines = [
            "| "
            + " | ".join([*(cell.replace("|", "\\|") for cell in row)])
            + " |" * (1 + width - len(row))
            for row in rows
        ]
        lines.insert(1, "|" + "---|" * width)
        return "\n".join(lines)


class Reader(HTMLParser):
    """Writes a page as Markdown, all of it, without judging what matters."""

    def __init__(self, url: str) -> None:
        """Start a page that stands at this address."""
        super().__init__(convert_charrefs=True)
        self.url = url
        self.title = ""
        self.cells: list[str] = []
        self._out: list[list[str]] = [[]]
        """What is written; a cell and a link's text are collected on top."""
        self._tables: list[_Table | None] = []
        self._skip = 0
        self._pre = 0
        self._lists = 0
        self._link: str | None = None
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        if tag in _SKIPPED:
            self._skip += 1
        if self._skip:
            return
        values = {name: value or "" for name, value in attrs}
        if tag == "title":
            self._in_title = not self.title
        elif tag in ("td", "th", "tr", "table"):
            self._start_table_part(tag, values)
        elif tag == "br":
            self._out[-1].append("\n" if self._pre else " " if self._tables else "\n")
        elif tag in _BLOCKS:
            self._start_block(tag)
        elif tag == "a" and self._link is None and values.get("href"):
            self._link = values["href"]
            self._out.append([])
        elif tag == "img" and values.get("alt"):
            self._out[-1].append(f"[image: {values['alt']}]")
        elif tag in ("sup", "sub"):
            self._out[-1].append("^" if tag == "sup" else "_")

    def _start_block(self, tag: str) -> None:
        self._end_link()
        self._out[-1].append(" " if self._tables else "\n\n")
        if tag == "pre" and not self._tables:
            self._pre += 1
            self._out[-1].append("```\n")
        elif tag in ("ul", "ol"):
            self._lists += 1
        elif tag == "li" and not self._tables:
            self._out[-1][-1] = "\n" + "  " * (min(self._lists, 9) - 1) + "- "
        elif tag[0] == "h" and tag[1:].isdigit() and not self._tables:
            self._out[-1].append("#" * int(tag[1]) + " ")

    def _start_table_part(self, tag: str, values: dict[str, str]) -> None:
        self._end_link()
        if tag == "table":
            # A table in a cell is read as the cell's text.
            inner = bool(self._tables)
            self._tables.append(None if inner else _Table())
            if not inner:
                self._out.append([])
            return
        table = self._tables[-1] if self._tables else None
        if table is None:
            self._out[-1].append(" ")
            return
        self._end_cell(table)
        if tag == "tr":
            table.start_row()
            return
        table.span = (_span(values.get("rowspan")), _span(values.get("colspan")))
        self._out.append([])

    def _end_cell(self, table: _Table) -> None:
        if len(self._out) > 2:  # the page's text, the table's own, the cell's
            text = " ".join("".join(self._out.pop()).split())
            self.cells.append(text)
            table.add(text)

    def handle_endtag(self, tag: str) -> None:
        """Close an element; what was left open inside is forgiven."""
        if tag in _SKIPPED:
            self._skip = max(0, self._skip - 1)
        if self._skip:
            return
        if tag == "title":
            self._in_title = False
        elif tag == "a":
            self._end_link()
        elif tag == "table" and self._tables:
            self._end_link()
            table = self._tables.pop()
            if table is not None:
                self._end_cell(table)
                loose = "".join(self._out.pop())  # a caption, and text between the cells
                self._out[-1] += ["\n\n", " ".join(loose.split()), "\n\n", table.markdown(), "\n\n"]
        elif tag == "pre" and self._pre:
            self._pre -= 1
            self._out[-1].append("\n```\n\n")
        elif tag in _BLOCKS:
            self._end_link()
            if tag in ("ul", "ol"):
                self._lists = max(0, self._lists - 1)
            self._out[-1].append(" " if self._tables else "\n\n" if tag != "li" else "\n")

    def _end_link(self) -> None:
        if self._link is None:
            return
        text = " ".join("".join(self._out.pop()).split())
        try:
            target = urljoin(self.url, self._link.strip())
        except ValueError:
            target = ""
        web = target.startswith(("http://", "https://")) and not re.search(r"[\s()<>]", target)
        self._out[-1].append(f"[{text}]({target})" if text and web else text)
        self._link = None

    def handle_data(self, data: str) -> None:
        """Take text."""
        if self._in_title:
            self.title += data
        elif not self._skip:
            self._out[-1].append(data if self._pre else re.sub(r"\s+", " ", data))

    def finish(self) -> str:
        """Close everything; the whole page as Markdown."""
        self.close()
        self._skip = 0  # a script that nobody closed skips no more
        self._end_link()
        while self._tables:
            self.handle_endtag("table")
        text = "".join(self._out[0]) + "\n```" * bool(self._pre)
        parts = text.split("```")  # every other one is preformatted
        parts[::2] = (re.sub(r"[ \t]*\n[ \t]+(?!-|[ \t])", "\n", part) for part in parts[::2])
        parts[::2] = (re.sub(r"\n{3,}", "\n\n", part) for part in parts[::2])
        return "```".join(parts).strip()


def _span(value: str | None) -> int:
    return min(int(value), _SPAN) or 1 if value and value.isascii() and value.isdigit() else 1


_MATH = re.compile(r"<math\b[^>]*?\balttext=\"([^\"]*)\"[^>]*>.*?</math\s*>", re.DOTALL | re.I)


def to_markdown(page: str, url: str) -> dict[str, Any]:
    """Convert a page: its main part where trafilatura finds it, else all of it.

    Returns:
        `title`, `markdown`, and `whole`: whether menus and the like are still in it.
    """
    # A formula's own TeX says more than the letters that it is drawn with.
    page = _MATH.sub(lambda math: f" ${html.escape(html.unescape(math[1]))}$ ", page)
    reader = Reader(url)
    reader.feed(page)
    everything = reader.finish()
    title = " ".join(reader.title.split())[:300]
    try:
        import trafilatura
    except ImportError:
        return {"title": title, "markdown": everything, "whole": True}
    main: str | None = trafilatura.extract(  # pyright: ignore[reportUnknownMemberType]
        page,
        url=url,
        output_format="markdown",
        include_tables=True,
        include_links=True,
        include_formatting=True,
        favor_recall=True,
    )
    if main is None or not _keeps(main, everything, reader.cells):
        return {"title": title, "markdown": everything, "whole": True}
    return {"title": title, "markdown": main, "whole": False}


def _keeps(main: str, everything: str, cells: list[str]) -> bool:
    """Whether an extract has a fair part of the words, nearly all of the tables, and their form."""
    if len(main) * 5 < len(everything):
        return False
    for mark in ("#", "|", "```"):
        if f"\n{mark}" in f"\n{everything}" and f"\n{mark}" not in f"\n{main}":
            return False
    plain = [re.sub(r"\W+", "", cell) for cell in cells]
    text = re.sub(r"\W+", "", main)
    return sum(cell in text for cell in plain) >= 0.9 * len(plain)


def _program() -> None:
    """Read a page from the standard input, write its Markdown as JSON."""
    url, memory, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    page = sys.stdin.buffer.read().decode("utf-8", "replace")
    read = to_markdown(page, url)
    # Spans repeat cells: what is read must not be many times what was sent.
    read["markdown"] = read["markdown"][: 4 * len(page) + 1000]
    sys.stdout.buffer.write(json.dumps(read).encode())


if __name__ == "__main__":
    _program()
