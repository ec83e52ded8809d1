"""Pages become Markdown with their tables, and bytes become text as browsers would read them."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.tools.page_text import Reader, decode, to_markdown

CHINESE = "远程工作的薪资研究：数据科学家在家办公。" * 5


@pytest.mark.parametrize(
    ("body", "header", "text"),
    [
        (b"\xef\xbb\xbfabc", "latin-1", "abc"),
        ("abc".encode("utf-16"), "", "abc"),
        (CHINESE.encode("gb18030"), "gb2312", CHINESE),
        (CHINESE.encode("big5", "ignore"), "big5", CHINESE.encode("big5", "ignore").decode("big5")),
        (b"<meta charset=gbk>" + CHINESE.encode("gbk"), "", "<meta charset=gbk>" + CHINESE),
        (CHINESE.encode("gb18030"), "", CHINESE),
        (CHINESE.encode(), "", CHINESE),
        ("naïve café".encode("latin-1"), "", "naïve café"),
        ("日本語のページ".encode("shift_jis"), "Shift_JIS", "日本語のページ"),
        (b"price \x80 5", "iso-8859-1", "price € 5"),
        ("é".encode(), "no-such-charset", "é"),
        (b"+ADw-script+AD4-", "utf-7", "+ADw-script+AD4-"),
        (rb"\x41", "unicode_escape", r"\x41"),
    ],
)
def test_bytes_are_read_as_browsers_read_them(body: bytes, header: str, text: str):
    assert decode(body, header) == text


@given(st.binary(), st.text())
def test_any_bytes_are_text(body: bytes, header: str):
    named = b"<meta charset=" + header.encode("utf-8", "replace")[:40] + b">"
    assert isinstance(decode(body, header), str)
    assert isinstance(decode(named + body), str)


def whole(page: str) -> str:
    reader = Reader("http://a.example/dir/page")
    reader.feed(page)
    return reader.finish()


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<h2>A<b>b</b></h2><p>one<p>two", "## Ab\n\none\n\ntwo"),
        ("<a href='../x?a=1&amp;b=2'>to <i>x</i></a>", "[to x](http://a.example/x?a=1&b=2)"),
        ("<a href='javascript:void(0)'>no link</a><a href=x><img alt=''></a>", "no link"),
        ("<ul><li>a<li>b<ol><li>c</ol></ul>", "- a\n- b\n\n  - c"),
        ("<pre>  a\n    b</pre>", "```\n  a\n    b\n```"),
        ("<script>var a='<p>x'</script><style>p{}</style>text", "text"),
        ("10<sup>3</sup> m<sub>e</sub>", "10^3 m_e"),
        ("<img src=x alt='a plot'>", "[image: a plot]"),
        ("<title>not here</title>body", "body"),
        ("<table><td>a<td>b<svg>never closed", "| a | b |\n|---|---|"),
        ("<table><tr><td>a<td>b<tr><td>c|d", "| a | b |\n|---|---|\n| c\\|d | |"),
        ("<table><tr><td>layout <b>only</b></table>after", "layout only\n\nafter"),
        (
            "<table><caption>T</caption><tr><th rowspan=2>M<th colspan=2>S<tr><th>x<th>y"
            "<tr><td>a<td>1<td><table><tr><td>i<td>j</table></table>",
            "T\n\n| M | S | S |\n|---|---|---|\n| M | x | y |\n| a | 1 | i j |",
        ),
    ],
)
def test_a_whole_page_keeps_its_form(page: str, text: str):
    assert whole(page) == text


def test_spans_of_spans_do_not_multiply():
    cells = "<td colspan=65000 rowspan=65000>x</td>" * 200
    assert len(whole(f"<table>{f'<tr>{cells}' * 100}</table>")) < 2_000_000


TAGS = ["table", "tr", "td", "th", "a", "li", "ul", "p", "pre", "h1", "title", "script", "br"]
MARKUP = st.lists(
    st.sampled_from([f"<{tag}>" for tag in TAGS] + [f"</{tag}>" for tag in TAGS] + ["<a href=x>"])
    | st.text("ab \n&#|`é文", max_size=5),
    max_size=40,
).map("".join)


@given(MARKUP)
def test_any_markup_is_a_page(page: str):
    assert isinstance(whole(page), str)


@given(MARKUP)
def test_text_survives_any_tags_before_it(tags: str):
    assert "needle" in whole(tags + "</script></title></script>" * 40 + "<p>needle</p>")


PARAGRAPH = (
    "<p>This paragraph says something about the results that were found by the people who wrote "
    "it, with <a href='/x'>a link</a> and <code>code</code>.</p>"
)
TABLE = (
    "<table><tr><th>Model</th><th>Score</th></tr><tr><td>small</td><td>61.25</td></tr>"
    "<tr><td>large</td><td>70.5 ± 0.3</td></tr></table>"
)


def test_the_main_part_of_an_article_is_kept_with_its_tables_and_formulas():
    pytest.importorskip("trafilatura")
    math = '<p>where <math alttext="x^2 + 3"><mi>x</mi></math> is the bound of the error.</p>'
    menu = "<nav>" + "<a href='/m'>menu entry</a>" * 20 + "</nav>"
    page = (
        f"<html><head><title>A paper</title></head><body>{menu}<main><h1>A paper</h1>"
        f"{PARAGRAPH * 3}{math}<h2>Results</h2>{PARAGRAPH}{TABLE}{PARAGRAPH * 2}"
        "</main></body></html>"
    )
    read = to_markdown(page, "http://a.example/p")
    assert read["title"] == "A paper" and not read["whole"]
    assert "menu entry" not in read["markdown"]
    assert "| large | 70.5 ± 0.3 |" in read["markdown"]
    assert "[a link](http://a.example/x)" in read["markdown"] and "$x^2 + 3$" in read["markdown"]


def test_a_page_that_is_a_table_stays_one():
    read = to_markdown(f"<title>T</title><h1>Scores</h1>{TABLE}", "http://a.example/")
    assert read["markdown"].startswith(
        "# Scores\n\n| Model | Score |\n|---|---|\n| small | 61.25 |"
    )


def test_without_trafilatura_the_page_is_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    read = to_markdown(f"<nav>menu</nav><h1>A</h1>{PARAGRAPH * 9}", "http://a.example/")
    assert read["whole"] and "menu" in read["markdown"] and "# A" in read["markdown"]
