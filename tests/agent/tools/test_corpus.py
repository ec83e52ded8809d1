"""An offline corpus finds what it holds, in English and Chinese, whatever the query looks like."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openk2.agent.tools.corpus import (
    CorpusError,
    Document,
    OfflineCorpus,
    build_corpus,
    read_documents,
    segment,
    snippet,
)

PAGES = [
    Document("http://a.example/k2", "Kimi K2", "K2 is a mixture of experts model. " * 20, "en"),
    Document(
        "http://a.example/muon",
        "MuonClip",
        "Filler text comes first. " * 30 + "The optimizer clips queries and keys. " + "More. " * 90,
        "en",
    ),
    Document(
        "http://b.example/remote", "远程工作", "远程工作的薪资研究:数据科学家在家办公。", "zh"
    ),
    Document("http://b.example/games", "五子棋", "一个可以玩的网页游戏,带技能系统。", "zh"),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> OfflineCorpus:
    path = tmp_path_factory.mktemp("corpus") / "pages.sqlite"
    assert build_corpus(PAGES, path) == len(PAGES)
    return OfflineCorpus(path)


def urls(corpus: OfflineCorpus, query: str, count: int = 8) -> list[str]:
    return [hit.url.rpartition("/")[2] for hit in asyncio.run(corpus.search(query, count))]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("mixture of experts", "k2"),
        ("EXPERT", "k2"),
        ("clipping optimizers", "muon"),
        ("远程工作 薪资", "remote"),
        ("薪", "remote"),
        ("公", "remote"),
        ("技能系统", "games"),
        ("棋", "games"),
        ("Ｋ２ model", "k2"),
        ("网页 game 游戏", "games"),
    ],
)
def test_the_page_that_says_it_comes_first(corpus: OfflineCorpus, query: str, first: str):
    assert urls(corpus, query)[0] == first


def test_a_word_that_no_page_has_finds_nothing(corpus: OfflineCorpus):
    assert urls(corpus, "zebra") == urls(corpus, "斑马") == urls(corpus, "!?") == []


def test_no_more_than_asked_for_comes_back(corpus: OfflineCorpus):
    assert len(urls(corpus, "the 的 工作 游戏 model", 1)) == 1


@pytest.mark.parametrize(
    "query",
    [
        '"',
        "a AND",
        "NOT",
        "k2 NEAR/2 model",
        "title:k2",
        "k2*",
        "^k2",
        "(((",
        "a -b",
        "\0",
        "\ud800",
    ],
)
def test_the_syntax_of_the_index_is_text(corpus: OfflineCorpus, query: str):
    found = urls(corpus, query)
    assert len(found) == len(set(found))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_a_query(corpus: OfflineCorpus, query: str):
    urls(corpus, query)


def test_a_query_of_ten_thousand_words_is_answered(corpus: OfflineCorpus):
    assert urls(corpus, "experts " + " ".join(f"w{number}" for number in range(10_000))) == ["k2"]


EN = st.text("abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=9)
ZH = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(word=EN | ZH, place=st.integers(0, 9), script=st.sampled_from("ez"))
def test_a_document_with_a_word_of_its_own_is_found_by_it(
    tmp_path_factory: pytest.TempPathFactory, word: str, place: int, script: str
):
    filler = list("0123456789" if script == "e" else "０１２３４５６７８９")
    holder = [*filler[:place], word, *filler[place:]]
    path = tmp_path_factory.mktemp("unique") / "pages.sqlite"
    pages = [
        Document("http://a.example/1", "filler", " ".join(filler)),
        Document("http://a.example/2", "filler", " , ".join(holder)),
        Document("http://a.example/3", "filler", "，".join(filler)),
    ]
    build_corpus(pages, path)
    if word != "filler":
        assert urls(OfflineCorpus(path), word) == ["2"]


def test_the_snippet_shows_the_words_that_were_asked_for(corpus: OfflineCorpus):
    (hit,) = asyncio.run(corpus.search("clipped queries keys", 8))
    assert "clips queries and keys" in hit.snippet and len(hit.snippet) < 260
    assert hit.page == "2"
    (hit, *_) = asyncio.run(corpus.search("数据科学家", 8))
    assert "数据科学家" in hit.snippet


@given(st.text(max_size=400), st.text(max_size=40), st.integers(20, 100))
def test_a_snippet_is_short_whatever_the_text(text: str, query: str, chars: int):
    terms = [piece.lower() for piece in segment(query)]
    assert len(snippet(text, terms, chars)) <= chars + 4


def test_pages_come_back_whole_by_their_address(corpus: OfflineCorpus):
    assert asyncio.run(corpus.page("http://b.example/games#top")) == PAGES[3]
    assert asyncio.run(corpus.page("http://b.example/games/")) == PAGES[3]
    assert asyncio.run(corpus.page("http://b.example/none")) is None


def test_the_same_documents_give_the_same_bytes(tmp_path: Path):
    for name in ("one", "two"):
        build_corpus(iter(PAGES), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_documents_with_odd_characters_are_kept(tmp_path: Path):
    build_corpus([Document("http://a.example/", "\ud800", "a\0b zebra \ud800")], tmp_path / "c")
    assert len(asyncio.run(OfflineCorpus(tmp_path / "c").search("zebra", 3))) == 1


def test_a_build_that_fails_leaves_the_old_corpus(tmp_path: Path):
    path = tmp_path / "c"
    build_corpus(PAGES[:1], path)
    before = path.read_bytes()
    with pytest.raises(CorpusError, match="twice"):
        build_corpus([PAGES[1], PAGES[1]], path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_no_corpus_is_named(tmp_path: Path):
    with pytest.raises(CorpusError, match="there is no corpus"):
        OfflineCorpus(tmp_path / "none")
    (tmp_path / "text").write_text("text " * 1000)
    with pytest.raises(CorpusError, match="is no corpus"):
        OfflineCorpus(tmp_path / "text")
    build_corpus(PAGES, tmp_path / "old")
    with sqlite3.connect(tmp_path / "old") as database:
        database.execute("PRAGMA user_version = 7")
    database.close()
    with pytest.raises(CorpusError, match="version 7"):
        OfflineCorpus(tmp_path / "old")


def test_documents_are_read_from_json_lines(tmp_path: Path):
    file = tmp_path / "pages.jsonl"
    file.write_text("\n".join(json.dumps(asdict(page)) for page in PAGES) + "\n\n")
    assert list(read_documents(file)) == PAGES
    file.write_text('{"url": "http://a.example/", "title": "t", "text": "x"}\n')
    assert list(read_documents(file)) == [Document("http://a.example/", "t", "x")]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[1]", "line 2 is no document"),
        ("{", "line 2 is no document"),
        ('{"url": "u", "title": "t"}', "line 2 is no document: .*text"),
        ('{"url": "u", "title": "t", "text": "x", "more": 1}', "line 2 is no document: .*more"),
        ('{"url": "u", "title": null, "text": "x"}', "line 2: title is no text"),
    ],
)
def test_a_line_that_is_no_document_is_named(tmp_path: Path, line: str, problem: str):
    (tmp_path / "pages.jsonl").write_text(f"\n{line}\n")
    with pytest.raises(CorpusError, match=problem):
        build_corpus(read_documents(tmp_path / "pages.jsonl"), tmp_path / "c")
    assert not (tmp_path / "c").exists()
