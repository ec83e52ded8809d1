import json
import re
from itertools import islice
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from openk2.text.chat_packs import fairytaleqa
from openk2.text.corpus import (
    TEXT_PACKS,
    DamagedPackError,
    document,
    document_key,
    documents,
    held_out,
    held_out_keys,
    read_rows,
)

DATA = Path(__file__).parents[2] / "data"
PACKS = sorted(p for p in DATA.rglob("*") if p.is_file() and p.name != "README.md")
MAX_BYTES = 40_000_000


def names(paths):
    return [str(path.relative_to(DATA)) for path in paths]


def test_every_pretraining_pack_is_named():
    assert {p.name.removesuffix(".jsonl.zst") for p in (DATA / "pretrain").iterdir()} == {
        *TEXT_PACKS
    }


def test_data_fits_its_budget():
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) <= MAX_BYTES


def test_readme_lists_every_file_with_a_licence_and_nothing_else():
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    cells = [line.split("|") for line in readme.splitlines() if line.startswith("| `")]
    licence_of = {row[1].strip(" `"): row[4].strip() for row in cells}
    assert sorted(licence_of) == names(PACKS)
    known = re.compile(r"CC|Apache|MIT|BSD|Public domain|WordNet|PSF|MPL|CDLA")
    assert [name for name, licence in licence_of.items() if not known.search(licence)] == []


def test_readme_states_the_number_of_rows_of_every_file():
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    cells = [line.split("|") for line in readme.splitlines() if line.startswith("| `")]
    stated = {row[1].strip(" `"): int(row[3].replace(" ", "")) for row in cells}
    # Parsing all of it takes seconds: the small packs are counted here, the rest in the slow test.
    small = [path for path in PACKS if path.stat().st_size < 400_000]
    assert {n: stated[n] for n in names(small)} == {
        name: sum(1 for _ in read_rows(path))
        for name, path in zip(names(small), small, strict=True)
    }


@pytest.mark.parametrize("path", PACKS, ids=names(PACKS))
def test_every_pack_starts_with_good_rows(path):
    rows = list(islice(read_rows(path), 20))
    assert rows
    assert all(rows)


@pytest.mark.slow
@pytest.mark.parametrize("path", PACKS, ids=names(PACKS))
def test_every_pack_parses_to_the_end(path):
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    stated = re.search(rf"^\| `{re.escape(names([path])[0])}` \|[^|]*\| ([\d ]+) \|", readme, re.M)
    assert stated is not None
    assert sum(1 for _ in read_rows(path)) == int(stated.group(1).replace(" ", ""))


@pytest.mark.parametrize("path", sorted((DATA / "pretrain").iterdir()), ids=lambda p: p.name)
def test_documents_are_text_without_carriage_returns(path):
    texts = [text for _, text in islice(documents(path), 30)]
    assert all(len(text) > 20 for text in texts)
    assert not any("\r" in text for text in texts)


def test_rows_of_one_work_have_one_key():
    article = {"src": "onestop-english-ele", "title": "Climate change -ele", "text": "a"}
    harder = {"src": "onestop-english-int", "title": "climate change-int", "text": "b"}
    assert document_key(article) == document_key(harder) == "climate change"
    assert document_key({"src": "books", "title": "The Cat", "text": "a"}) == "cat"
    assert document_key({"src": "python", "path": "a/b.py", "text": "a"}) == "a/b.py"
    assert document_key({"src": "wordnet", "title": "WordNet", "text": "ice: b"}) == "ice: b"
    assert document_key({"src": "zh", "title": "雪 人", "text": "x"}) == "雪 人"
    assert document_key({"src": "zh", "title": "！", "text": "x"}) == "！"


def test_no_work_is_on_both_sides_of_the_split():
    names = ("books_en_pd", "stories_en", "simple_en_extra")
    packs = {name: list(documents(DATA / f"pretrain/{name}.jsonl.zst")) for name in names}
    keys = {name: [key for key, _ in pairs] for name, pairs in packs.items()}
    keys["fairytaleqa"] = [c.key for c in fairytaleqa(DATA)]
    assert set(keys["fairytaleqa"]) < set(keys["stories_en"])
    assert len(set(keys["books_en_pd"])) == 64
    assert len(set(keys["simple_en_extra"])) < 420
    for share in (0.01, 0.2):
        held = {name: held_out_keys(found, share) for name, found in keys.items()}
        kept = {name: set(found) - held[name] for name, found in keys.items()}
        assert all(held.values())
        assert frozenset().union(*held.values()).isdisjoint(set().union(*kept.values()))


@given(st.lists(st.text(), min_size=2, unique=True), st.floats(0.001, 0.5))
def test_a_small_pack_has_something_held_out(keys, share):
    held = held_out_keys(keys, share)
    assert held
    assert held <= set(keys)
    assert held == held_out_keys(reversed(keys), share)
    assert not held_out_keys(keys, 0.0)
    assert {key for key in keys if held_out(key, share)} <= held


def test_a_document_has_its_title_once():
    assert document({"src": "wiki", "title": "Ice", "text": "Ice is cold."}) == "Ice is cold."
    assert document({"src": "wiki", "title": "Ice", "text": "It is cold."}) == "Ice\n\nIt is cold."
    assert document({"src": "tldr", "title": "linux/ls", "text": "# ls"}) == "# ls"


def test_a_damaged_line_names_its_file_and_line(tmp_path):
    pack = tmp_path / "pack.jsonl.zst"
    pack.write_bytes(zstandard.compress(b'{"a": 1}\n{"a": \n'))
    with pytest.raises(DamagedPackError, match=r"pack\.jsonl\.zst:2: "):
        list(read_rows(pack))
    pack.write_bytes(zstandard.compress(b'{"a": 1}\n[1]\n'))
    with pytest.raises(DamagedPackError, match=r"pack\.jsonl\.zst:2: "):
        list(read_rows(pack))


def test_a_broken_archive_is_an_error(tmp_path):
    pack = tmp_path / "pack.jsonl.zst"
    whole = zstandard.compress("\n".join(json.dumps({"a": i}) for i in range(5000)).encode())
    pack.write_bytes(b"\x00" + whole[1:])
    with pytest.raises(DamagedPackError, match="pack"):
        list(read_rows(pack))
    pack.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedPackError, match="pack"):
        list(read_rows(pack))


def test_half_a_character_is_an_error(tmp_path):
    pack = tmp_path / "pack.jsonl"
    pack.write_bytes(b'{"a": 1}\n{"a": "\xe4\xbd"}\n')
    with pytest.raises(DamagedPackError, match=r"pack\.jsonl:"):
        list(read_rows(pack))


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_hold_out_contains_the_smaller(key, one, two):
    small, large = sorted((one, two))
    assert held_out(key, large) or not held_out(key, small)


def test_hold_out_takes_its_share_and_never_changes():
    part = [n for n in range(20_000) if held_out(f"key {n}", 0.1)]
    assert 0.09 < len(part) / 20_000 < 0.11
    assert part[:5] == [2, 10, 20, 25, 27]
    assert not any(held_out(str(n), 0.0) for n in range(100))
    assert all(held_out(str(n), 1.0) for n in range(100))
