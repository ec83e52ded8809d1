import base64
import itertools
import json
import unicodedata
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

import openk2
from openk2.text import tokenizer as module
from openk2.text.tokenizer import PATTERN, SPECIAL_OFFSETS, Tokenizer, TokenizerFileError

NANO = Path(openk2.__file__).parent / "assets" / "nano"
TOKENIZER = Tokenizer.load(NANO)
FIRST_SPECIAL = min(TOKENIZER.specials.values())

MIXED = (
    "日本語カタカナ 漢字ABC中文mixed한국어 ไทย ÀÉ İı ǅ ʰ a\u0301 I'M we'LL\r\n\r\n  \t x "
    "\u3000中\u3000 １２３４ ٣ 〇々〆 𠮷 \U0001f600!!\n\n def f(x):\n        return x ** 12345\n"
    '{"a":[1,2.5e3,null]}'
)
TEXTS = st.text() | st.text(alphabet="aA中1 \n\t.'s-ا\u0301\U0001f600")


def test_nano_vocabulary_is_a_multiple_of_64():
    assert TOKENIZER.vocab_size == 8192
    assert TOKENIZER.vocab_size % 64 == 0
    assert TOKENIZER.pad == TOKENIZER.vocab_size - 1


@given(TEXTS)
@settings(deadline=None)
def test_text_round_trips(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(st.binary() | TEXTS.map(str.encode) | st.binary().map(lambda data: data + "中文".encode()))
@settings(deadline=None)
def test_bytes_round_trip(data):
    ids = TOKENIZER.encode_bytes(data)
    assert TOKENIZER.decode_bytes(ids) == data
    assert b"".join(TOKENIZER.token_bytes(token) for token in ids) == data


@given(st.lists(st.sampled_from([*TOKENIZER.specials, " ", "x", "中"])))
@settings(deadline=None)
def test_text_never_becomes_a_special_token(parts):
    text = "".join(parts)
    ids = TOKENIZER.encode(text)
    assert all(token < FIRST_SPECIAL for token in ids)
    assert TOKENIZER.decode(ids) == text


def test_lone_surrogates_become_replacement_characters():
    assert TOKENIZER.decode(TOKENIZER.encode("a\ud800b")) == "a\ufffdb"
    assert TOKENIZER.decode(TOKENIZER.encode("x" * 30_000 + "\udfff")) == "x" * 30_000 + "\ufffd"


@pytest.mark.parametrize(
    "unit", ["a", "A", "aA", " ", "\n", "中", "か", "1", "!", "的人", "\u0301"]
)
def test_long_runs_of_one_class_encode(unit):
    text = unit * (120_000 // len(unit))
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def published_split(text, limit):
    """K2's remote tokenizer, character by character: the slow twin of the cuts."""
    length, is_space, start = 0, text[:1].isspace(), 0
    for index, char in enumerate(text):
        if is_space ^ char.isspace():
            length, is_space = 1, char.isspace()
            continue
        length += 1
        if length > limit:
            yield text[start:index]
            start, length = index, 1
    yield text[start:]


@given(st.text(alphabet="ab \n中", max_size=60))
def test_cuts_are_those_of_the_published_tokenizer(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MAX_CHUNK_CHARS", 20)
        patch.setattr(module, "_MAX_RUN_CHARS", 3)
        cut = list(module._bounded_pieces(text))
    chunks = [text[start : start + 20] for start in range(0, len(text), 20)]
    assert cut == [piece for chunk in chunks for piece in published_split(chunk, 3)]


# Regex engines carry different Unicode versions; characters of Unicode 3.2 are the same in all.
SETTLED = st.characters(exclude_categories=["Cs"]).filter(
    lambda char: unicodedata.ucd_3_2_0.category(char) != "Cn"
)


@given(st.text(SETTLED, min_size=1) | st.text(alphabet="aA中1 \n\t.'s-ا\u0301", min_size=1))
@settings(deadline=None)
def test_training_and_encoding_split_alike(text):
    # The trainer's regex engine (Oniguruma) and Python's `regex` V1 must read `&&` the same way.
    trained = pre_tokenizers.Split(Regex(PATTERN), "isolated").pre_tokenize_str(text)
    assert [word for word, _ in trained] == regex.compile(PATTERN, regex.V1).findall(text)


def test_split_pattern_on_mixed_scripts():
    pieces = regex.compile(PATTERN, regex.V1).findall(MIXED)
    assert "".join(pieces) == MIXED
    assert {"漢字", "ABC", "中文", " I'M", " we'LL", "123", "45", "\r\n\r\n"} <= set(pieces)
    # No token may span two pieces: encoding the pieces alone gives the same ids.
    assert TOKENIZER.encode(MIXED) == [t for piece in pieces for t in TOKENIZER.encode(piece)]


def test_save_and_load_give_the_same_tokenizer(tmp_path):
    TOKENIZER.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.specials == TOKENIZER.specials
    assert again.encode(MIXED) == TOKENIZER.encode(MIXED)
    for name in ("tiktoken.model", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (NANO / name).read_bytes()


def test_special_tokens_decode_to_their_names():
    for name, token in TOKENIZER.specials.items():
        assert TOKENIZER.token_bytes(token) == name.encode()
    assert set(SPECIAL_OFFSETS) <= set(TOKENIZER.specials)


def test_tool_tokens_are_not_hidden_by_skip_special_tokens():
    config = json.loads((NANO / "tokenizer_config.json").read_text(encoding="utf-8"))
    special = {e["content"]: e["special"] for e in config["added_tokens_decoder"].values()}
    assert not special["<|tool_call_begin|>"]
    assert not special["</think>"]
    assert special["<|im_end|>"]


def test_a_directory_of_the_published_size_loads(tmp_path):
    tokens = itertools.chain.from_iterable(
        map(bytes, itertools.product(range(256), repeat=length)) for length in (1, 2, 3)
    )
    with (tmp_path / "tiktoken.model").open("wb") as file:
        for rank, token in enumerate(itertools.islice(tokens, 163_584)):
            file.write(base64.b64encode(token) + b" %d\n" % rank)
    names = {163584: "[BOS]", 163585: "[EOS]", 163586: "<|im_end|>", 163839: "[PAD]"}
    added = {str(id_): {"content": name, "special": True} for id_, name in names.items()}
    config = json.dumps({"added_tokens_decoder": added})
    (tmp_path / "tokenizer_config.json").write_text(config, encoding="utf-8")
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.vocab_size == 163_840
    assert (tokenizer.bos, tokenizer.im_end, tokenizer.pad) == (163584, 163586, 163839)
    assert tokenizer.specials["<|reserved_token_163605|>"] == 163605
    assert tokenizer.decode(tokenizer.encode(MIXED)) == MIXED


def test_published_offsets():
    ranks = {bytes((byte,)): byte for byte in range(256)}
    shift = 163_584 - 256
    specials = Tokenizer.from_ranks(ranks, 256).specials
    assert specials["<|im_middle|>"] + shift == 163601
    assert specials["<|tool_call_end|>"] + shift == 163599
    assert (specials["<think>"] + shift, specials["</think>"] + shift) == (163606, 163607)
    assert (specials["[UNK]"] + shift, specials["[PAD]"] + shift) == (163838, 163839)


@pytest.mark.parametrize(
    ("ranks", "config", "problem"),
    [
        ("not base64\n", "{}", "line 1"),
        ("YQ== 0\n", '{"added_tokens_decoder": {}}', "lacks the single byte"),
        ("YQ== 1\n", '{"added_tokens_decoder": {}}', "are not 0..0"),
        ("YQ== 0\n", "[]", "added_tokens_decoder"),
        ("YQ== 0\n", "{", "added_tokens_decoder"),
    ],
)
def test_broken_directories_say_what_is_wrong(tmp_path, ranks, config, problem):
    (tmp_path / "tiktoken.model").write_text(ranks, encoding="ascii")
    (tmp_path / "tokenizer_config.json").write_text(config, encoding="utf-8")
    with pytest.raises(TokenizerFileError, match=problem):
        Tokenizer.load(tmp_path)


def test_specials_may_not_share_ids_with_text():
    ranks = {bytes((byte,)): byte for byte in range(256)}
    with pytest.raises(ValueError, match="own ids"):
        Tokenizer(ranks, {"[BOS]": 255})
