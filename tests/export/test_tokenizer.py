"""The written tokenizer.json, loaded by transformers without any network, against our encoder."""

import json
import random
import shutil
import socket
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer
from transformers import AutoTokenizer

import openk2
from openk2.export.place import ExportError
from openk2.export.tokenizer import (
    added_tokens,
    byte_level,
    chat_template,
    load_tokenizer,
    merges,
    tokenizer_files,
    tokenizer_json,
)
from openk2.text.corpus import read_rows
from openk2.text.tokenizer import Tokenizer, TokenizerFileError
from tests.text.test_published_tokenizer import THINKING, made_up_ranks, write_published

NANO = Path(openk2.__file__).parent / "assets" / "nano"
DATA = Path(openk2.__file__).parent.parent / "data"
TOKENIZER = Tokenizer.load(NANO)
ENTRIES = added_tokens(TOKENIZER, json.loads((NANO / "tokenizer_config.json").read_text("utf-8")))
SPECIAL = [entry["content"] for entry in ENTRIES if entry["special"]]
VISIBLE = [entry["content"] for entry in ENTRIES if not entry["special"]]

SCRIPTS = (
    "the quick brown fox ", "The HTTPServer didn't; WE'LL they'Re ſ'ſ ", "世界你好，今天天气不错。",
    "日本語のカタカナとひらがな々〆〇", "한국어 문장입니다 ", "👩‍👩‍👧‍👦👍🏽🇫🇷✈️ ",
    "שלום עולם مرحبا بالعالم ",
    "e\u0301a\u0308\u0323o\u20d7ก็ํ ", "हिन्दी বাংলা தமிழ் ", "def f(x):\n    return x**2\n",
    '{"a": [1, 2.5e-3, null], "b": "\\n"}', "3.14159265358979 1,234,567 ٣٤٥ １２３４ ½ Ⅻ ",
    "\u2028\u2029\u0085\x0b\x0c\x1c\x00\x7f\ufeff\u200b\u00ad", "ǅǈʰªº İıẞß ﬀﬁ ꙮ𝔘𝕟𝕚 ",
    "𠮷𠀀⺀⼀〡㐀",
    "\r\n", "\n", "\t", " ", "\u3000", "\xa0", "'s'S'T'll'LL'Ve'm'D'rE",
)  # fmt: skip


def write_tokenizer(source, out):
    files = tokenizer_files(source, load_tokenizer(source), 4096)
    out.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (out / name).write_bytes(data)


def varied(count, seed=20):
    """Give `count` strings of many scripts, of the data files, and of random Unicode."""
    rng = random.Random(seed)
    files = (
        "pretrain/zh_mix",
        "pretrain/python_code",
        "pretrain/docs_en",
        "instruct/nl2sql_wikisql_20k",
    )
    samples = [
        json.dumps(row, ensure_ascii=rng.random() < 0.1)
        for name in files
        for _, row in zip(range(200), read_rows(DATA / f"{name}.jsonl.zst"), strict=False)
    ]
    kinds = (
        lambda: tail(rng, rng.choice(samples))[:200],
        lambda: "".join(tail(rng, rng.choice(SCRIPTS)) for _ in range(rng.randint(1, 8))),
        lambda: "".join(rng.choice("".join(SCRIPTS)) for _ in range(rng.randint(1, 60))),
        lambda: "".join(any_char(rng) for _ in range(rng.randint(1, 30))),
        lambda: rng.choice("aAeoxが中é1!.-=*\n\r\t  \u0301ـ") * rng.randint(1, 200),
        lambda: "".join(rng.choice(" \n\r\tx") for _ in range(rng.randint(1, 40))),
        lambda: "".join(rng.choice((*SPECIAL, " ", "x", "中", "<|", "[")) for _ in range(9)),
    )  # fmt: skip
    return [kinds[index % len(kinds)]() for index in range(count)]


def tail(rng, text):
    return text[rng.randrange(len(text)) :]


def any_char(rng):
    code = rng.randrange(rng.choice((0x80, 0x3000, 0x11_0000)))
    return "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)


def refuse(*_):
    raise AssertionError("a tokenizer that is on disk needs no network")


def load_offline(directory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        return AutoTokenizer.from_pretrained(directory)


def peer_ids(peer, texts):
    return peer(texts, split_special_tokens=True)["input_ids"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("exported")
    write_tokenizer(NANO, directory)
    shutil.copyfile(NANO / "config.json", directory / "config.json")
    return directory


@pytest.fixture(scope="module")
def peer(exported):
    return load_offline(exported)


@pytest.mark.parity(
    format="tokenizer",
    direction="out",
    peer="transformers",
    claim="10,000 varied strings: the same ids, and the text back",
)
def test_transformers_gives_the_same_ids_and_the_text_back(peer):
    texts = varied(10_000)
    theirs = peer_ids(peer, texts)
    differ = [
        text for text, ids in zip(texts, theirs, strict=True) if ids != TOKENIZER.encode(text)
    ]
    assert differ == []
    assert [peer.decode(ids) for ids in theirs] == texts


def test_only_we_cut_runs_of_more_than_25_000_characters(peer):
    text = "ab1" * 10_000
    halves = peer_ids(peer, [text[:25_000], text[25_000:]])
    assert TOKENIZER.encode(text) == halves[0] + halves[1]


# The seams: look-ahead at the end, whole words that are tokens, ties among repeated letters.
@given(st.text() | st.text(alphabet="aAsſ'1中の \n\r\t\u0301.ـ"))
@example("a" * 24_999)
@example("ab" * 2_000 + " " * 3_000 + "\n")
@settings(max_examples=300)
def test_any_text_encodes_alike(peer, text):
    assert peer_ids(peer, [text])[0] == TOKENIZER.encode(text)
    assert peer.decode(TOKENIZER.encode(text)) == text


@given(st.lists(st.integers(0, TOKENIZER.vocab_size - 1), max_size=12))
def test_any_ids_decode_alike(peer, ids):
    # Cut characters included: both write U+FFFD for what is not UTF-8.
    assert peer.decode(ids) == TOKENIZER.decode(ids)


def test_special_tokens_are_read_from_text_unless_split(peer):
    for entry in ENTRIES:
        assert peer.convert_tokens_to_ids(entry["content"]) == entry["id"]
        assert peer.encode(entry["content"]) == [entry["id"]]
    assert peer_ids(peer, SPECIAL) == [TOKENIZER.encode(name) for name in SPECIAL]
    # Published as `special: false`: found whatever the caller asks for.
    assert peer_ids(peer, VISIBLE) == [[TOKENIZER.specials[name]] for name in VISIBLE]
    assert len(VISIBLE) == 7


def test_the_peer_knows_the_roles_and_adds_nothing(peer):
    assert len(peer) == TOKENIZER.vocab_size
    assert (peer.bos_token_id, peer.eos_token_id) == (TOKENIZER.bos, TOKENIZER.eos)
    assert (peer.pad_token_id, peer.unk_token) == (TOKENIZER.pad, "[UNK]")
    assert peer.model_max_length == 4096
    assert peer("Hi")["input_ids"] == TOKENIZER.encode("Hi")
    shown = [*TOKENIZER.encode("a ,b 's"), TOKENIZER.im_end, TOKENIZER.specials[VISIBLE[0]]]
    assert peer.decode(shown, skip_special_tokens=True) == f"a ,b 's{VISIBLE[0]}"


def test_we_read_what_we_wrote_and_write_it_again(exported, tmp_path):
    again = Tokenizer.load(exported)
    assert dict(again.specials) == dict(TOKENIZER.specials)
    assert dict(again.ranks) == dict(TOKENIZER.ranks)
    write_tokenizer(exported, tmp_path)
    shutil.copyfile(NANO / "config.json", tmp_path / "config.json")
    for path in exported.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_a_directory_may_be_completed_in_place(exported, tmp_path):
    for name in ("config.json", "tiktoken.model", "tokenizer_config.json"):
        shutil.copyfile(NANO / name, tmp_path / name)
    write_tokenizer(tmp_path, tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == (exported / "tokenizer.json").read_bytes()


def test_merges_are_every_split_into_two_tokens_by_rank():
    ranks = dict(TOKENIZER.ranks)
    found = merges(TOKENIZER)
    splits = {(a, b) for a, b in found}
    assert len(splits) == len(found)
    joined = [ranks[a + b] for a, b in found]
    assert joined == sorted(joined)
    for token in list(ranks)[256:]:
        cuts = [(token[:at], token[at:]) for at in range(1, len(token))]
        assert {cut for cut in cuts if cut in splits} == {
            (a, b) for a, b in cuts if a in ranks and b in ranks
        }


def test_the_byte_level_alphabet_is_gpt2s():
    from tokenizers.pre_tokenizers import ByteLevel

    spelled = [byte_level(bytes((byte,))) for byte in range(256)]
    assert sorted(spelled) == sorted(ByteLevel.alphabet())
    assert byte_level("é \n中".encode()) == "Ã©ĠĊä¸Ń"


letters = st.text(alphabet="ab", min_size=1, max_size=24)


@given(st.lists(st.text(alphabet="ab", min_size=2, max_size=7), unique=True, max_size=9), letters)
@example(["aa", "aaa"], "a" * 23)
@example(["aba", "ab", "ba"], "abababa")
@settings(max_examples=100)
def test_any_vocabulary_merges_alike(words, text):
    # tiktoken has no order among the splits of one token and joins the leftmost first: with
    # words that overlap themselves, in any rank order, the list of merges must not show.
    ranks = {bytes((byte,)): byte for byte in range(256)}
    for word in words:
        ranks[word.encode()] = len(ranks)
    tokenizer = Tokenizer.from_ranks(ranks, 64)
    described = tokenizer_json(tokenizer, [])
    peer = FastTokenizer.from_str(json.dumps(described))
    for string in (text, text * 3, f"{text} {text}"):
        assert peer.encode(string).ids == tokenizer.encode(string)


@pytest.mark.parity(
    format="tokenizer",
    direction="out",
    peer="transformers",
    claim="163,840 entries in the published layout: 2,000 strings, the same ids",
)
def test_a_published_layout_needs_no_remote_code(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    write_published(source, made_up_ranks(), THINKING)
    write_tokenizer(source, out)
    shutil.copyfile(NANO / "config.json", out / "config.json")
    assert "auto_map" not in json.loads((out / "tokenizer_config.json").read_text("utf-8"))
    ours, peer = Tokenizer.load(out), load_offline(out)
    assert dict(ours.specials) == dict(Tokenizer.load(source).specials)
    assert len(peer) == ours.vocab_size == 163_840
    assert peer.convert_tokens_to_ids("<|reserved_token_163605|>") == 163605
    written = json.loads((out / "tokenizer.json").read_text("utf-8"))["added_tokens"]
    shown = [entry["id"] for entry in written if not entry["special"]]
    assert (len(written), shown) == (256, list(range(163595, 163600)))
    texts = varied(2_000)
    assert peer_ids(peer, texts) == [ours.encode(text) for text in texts]


def test_a_malformed_source_is_refused(tmp_path):
    (tmp_path / "tiktoken.model").write_text("YQ== 0\n")
    (tmp_path / "tokenizer_config.json").write_text('{"added_tokens_decoder": {}}')
    with pytest.raises(TokenizerFileError, match="incomplete"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("data", [b"\xff", b"{{ x }}" * 200_000], ids=["no text", "too large"])
def test_a_chat_template_that_is_none_is_named(data, tmp_path):
    (tmp_path / "chat_template.jinja").write_bytes(data)
    with pytest.raises(ExportError, match=r"chat_template\.jinja is no chat template: .*remove it"):
        chat_template(tmp_path, {})


def test_a_models_own_template_goes_first(tmp_path):
    assert "<|im_assistant|>" in chat_template(tmp_path, {})
    assert chat_template(tmp_path, {"chat_template": "inline"}) == "inline"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert chat_template(tmp_path, {"chat_template": "inline"}) == "file"
