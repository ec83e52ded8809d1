"""A directory laid out as Kimi K2's are published loads; a malformed one says where it is wrong."""

import base64
import itertools
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.text.parse import StreamParser, assemble
from openk2.text.template import MissingTokenError, render
from openk2.text.tokenizer import Tokenizer, TokenizerFileError
from openk2.types import Message

N_RANKS = 163_584
INSTRUCT = {
    "[BOS]": 163584,
    "[EOS]": 163585,
    "<|im_end|>": 163586,
    "<|im_user|>": 163587,
    "<|im_assistant|>": 163588,
    "<|start_header_id|>": 163590,
    "<|end_header_id|>": 163591,
    "[EOT]": 163593,
    "<|im_system|>": 163594,
    "<|tool_calls_section_begin|>": 163595,
    "<|tool_calls_section_end|>": 163596,
    "<|tool_call_begin|>": 163597,
    "<|tool_call_argument_begin|>": 163598,
    "<|tool_call_end|>": 163599,
    "<|im_middle|>": 163601,
    "[UNK]": 163838,
    "[PAD]": 163839,
}
THINKING = INSTRUCT | {"<think>": 163606, "</think>": 163607}
MIXED = "The café, 漢字とカナ 한국어 ١٢٣٤ 👩‍👩‍👧\r\n\tdef f(x): return 12345  # <think>"


def made_up_ranks(n_ranks=N_RANKS):
    """256 bytes, then distinct tokens that each join two earlier ones: words, Chinese, spaces."""
    letters = [bytes((code,)) for code in b"etaoinshrdlucmfwygpbvkxqjz"]
    tokens = {bytes((byte,)): None for byte in range(256)}
    for length in range(2, 65):
        tokens[b" " * length] = None
    for char in range(0x4E00, 0x9000):
        tokens[chr(char).encode()[:2]] = None
        tokens[chr(char).encode()] = None
    for length in (2, 3, 4):
        for word in itertools.product(letters, repeat=length):
            tokens[b"".join(word)] = None
            if len(tokens) == n_ranks:
                return {token: rank for rank, token in enumerate(tokens)}
    raise AssertionError("too few made-up tokens")


def write_published(directory, ranks, specials):
    directory.mkdir(parents=True, exist_ok=True)
    lines = (f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())
    (directory / "tiktoken.model").write_text("".join(lines), encoding="ascii")
    visible = range(163595, 163600)
    config = {
        "added_tokens_decoder": {
            str(id_): {
                "content": name,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": id_ not in visible,
            }
            for name, id_ in specials.items()
        },
        "additional_special_tokens": ["<|im_end|>", "<|im_user|>", "<|im_middle|>", "[EOT]"],
        "bos_token": "[BOS]",
        "clean_up_tokenization_spaces": False,
        "eos_token": "[EOS]",
        "extra_special_tokens": {},
        "model_max_length": 1000000000000000019884624838656,
        "pad_token": "[PAD]",
        "tokenizer_class": "TikTokenTokenizer",
        "unk_token": "[UNK]",
        "auto_map": {"AutoTokenizer": ["tokenization_kimi.TikTokenTokenizer", None]},
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    # Whoever runs the code that auto_map names fails here.
    (directory / "tokenization_kimi.py").write_text("raise SystemExit('remote code ran')\n")


@pytest.fixture(scope="module")
def instruct(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("instruct")
    write_published(directory, made_up_ranks(), INSTRUCT)
    return directory


@pytest.mark.parametrize("specials", [INSTRUCT, THINKING], ids=["instruct", "thinking"])
def test_ids_are_those_of_the_published_layout(tmp_path, specials):
    write_published(tmp_path, made_up_ranks(), specials)
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.vocab_size == 163_840
    assert tokenizer.im_end == 163586
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad) == (163584, 163585, 163839)
    reserved = {
        f"<|reserved_token_{id_}|>": id_
        for id_ in range(N_RANKS, 163_840)
        if id_ not in specials.values()
    }
    assert dict(tokenizer.specials) == specials | reserved
    assert tokenizer.decode([163605]) == "<|reserved_token_163605|>"


def test_text_round_trips_through_a_published_layout(instruct):
    tokenizer = Tokenizer.load(instruct)
    ids = tokenizer.encode(MIXED)
    assert tokenizer.decode(ids) == MIXED
    assert max(ids) < N_RANKS
    # Whole words are single tokens, so the made-up merges are reached.
    assert len(tokenizer.encode("thes")) == len(tokenizer.encode("好")) == 1


def test_instruct_without_think_tokens_renders_instruct_only(instruct):
    tokenizer = Tokenizer.load(instruct)
    messages = [Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Bye")]
    text = tokenizer.decode(render(messages, [], tokenizer))
    assert text.endswith(
        "<|im_user|>user<|im_middle|>Bye<|im_end|><|im_assistant|>assistant<|im_middle|>"
    )
    with pytest.raises(MissingTokenError, match="no <think> token, which the Thinking template"):
        render(messages, [], tokenizer, thinking=True)


def test_a_tokenizer_without_tool_tokens_says_so():
    ranks = {bytes((byte,)): byte for byte in range(256)}
    with pytest.raises(MissingTokenError, match=r"no <\|im_system\|> token, which this conv"):
        render([Message("user", "Hi")], [], Tokenizer(ranks, {"[BOS]": 256}))


def test_parsing_copes_without_think_tokens(instruct):
    tokenizer = Tokenizer.load(instruct)
    # 163606 is `<think>` elsewhere; here it is reserved, and the text that spells it is text.
    ids = [163606, *tokenizer.encode("a <think>b</think>"), 163607, tokenizer.im_end]
    parser = StreamParser(tokenizer)
    message = assemble([*parser.feed(ids), *parser.finish("stop")])
    assert (message.content, message.reasoning) == ("a <think>b</think>", "")


BYTES = "".join(f"{base64.b64encode(bytes((b,))).decode()} {b}\n" for b in range(256))


@pytest.mark.parametrize(
    ("ranks", "problem"),
    [
        (BYTES + "not base64 256\n", r"tiktoken\.model, line 257: expected `base64 rank`"),
        (BYTES + "YWI=\n", "line 257"),
        (BYTES + "YW*= 256\n", "line 257"),
        (BYTES + "YWI= -1\n", "line 257"),
        (BYTES + "YWI= 1e3\n", "line 257"),
        (BYTES + "YWI= 97\n", "line 257.*rank 97 is on an earlier line"),
        (BYTES + "YQ== 256\n", "line 257.*token b'a' is on an earlier line"),
        (BYTES + f"{base64.b64encode(b'a' * 2000).decode()} 256\n", "line 257.*2000 bytes"),
        (BYTES + f"YWI= {10**12}\n", r"tiktoken\.model are not 0\.\.256"),
        (BYTES + f"YWI= {'9' * 5000}\n", "line 257"),
        (BYTES.replace("AA== 0\n", "YWI= 0\n"), r"tiktoken\.model lacks the single byte 0x00"),
        ("", r"tiktoken\.model lacks the single byte 0x00"),
    ],
)
def test_malformed_ranks_are_refused_with_their_line(tmp_path, ranks, problem):
    (tmp_path / "tiktoken.model").write_text(ranks, encoding="ascii")
    (tmp_path / "tokenizer_config.json").write_text('{"added_tokens_decoder": {}}')
    with pytest.raises(TokenizerFileError, match=problem):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("", "added_tokens_decoder"),
        ("[]", "added_tokens_decoder"),
        ("null", "added_tokens_decoder"),
        ("[" * 100_000, "added_tokens_decoder"),
        ("\ud800", "added_tokens_decoder"),
        ('{"added_tokens_decoder": []}', "added_tokens_decoder"),
        ('{"added_tokens_decoder": {"x": {"content": "[BOS]"}}}', "added_tokens_decoder"),
        ('{"added_tokens_decoder": {"256": "[BOS]"}}', "added_tokens_decoder"),
        ('{"added_tokens_decoder": {"256": {"content": null}}}', "content is None"),
        ('{"added_tokens_decoder": {"256": {"content": ""}}}', "content is ''"),
        (f'{{"added_tokens_decoder": {{"256": {{"content": "{"é" * 513}"}}}}}}', "1024 bytes"),
        ('{"added_tokens_decoder": {"256": {"content": "\\ud800"}}}', "added_tokens_decoder"),
        ('{"added_tokens_decoder": {"-1": {"content": "[BOS]"}}}', "own ids"),
        (f'{{"added_tokens_decoder": {{"{10**12}": {{"content": "[BOS]"}}}}}}', str(10**12)),
        (
            '{"added_tokens_decoder": {"256": {"content": "a"}, "257": {"content": "a"}}}',
            "two ids in `added_tokens_decoder` have one content",
        ),
        (
            '{"added_tokens_decoder": {"257": {"content": "<|reserved_token_256|>"}}}',
            "reserved name of another",
        ),
    ],
)
def test_malformed_configs_are_refused(tmp_path, config, problem):
    (tmp_path / "tiktoken.model").write_text(BYTES, encoding="ascii")
    (tmp_path / "tokenizer_config.json").write_bytes(config.encode("utf-8", "surrogatepass"))
    with pytest.raises(TokenizerFileError, match=problem) as error:
        Tokenizer.load(tmp_path)
    assert "tokenizer_config.json" in str(error.value)


@pytest.mark.parametrize("name", ["tiktoken.model", "tokenizer_config.json"])
def test_a_huge_file_is_refused_unread(tmp_path, name):
    (tmp_path / "tiktoken.model").write_text(BYTES, encoding="ascii")
    (tmp_path / "tokenizer_config.json").write_text('{"added_tokens_decoder": {}}')
    with (tmp_path / name).open("r+b") as file:
        file.truncate(2 << 30)
    with pytest.raises(TokenizerFileError, match=f"{name}: larger than 16 MiB"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("name", ["tiktoken.model", "tokenizer_config.json"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path, name, kind):
    (tmp_path / "tiktoken.model").write_text(BYTES, encoding="ascii")
    (tmp_path / "tokenizer_config.json").write_text('{"added_tokens_decoder": {}}')
    path = tmp_path / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(TokenizerFileError, match=f"{name} is not a regular file"):
        Tokenizer.load(tmp_path)


def test_a_missing_file_is_named_and_what_is_there_instead(tmp_path):
    with pytest.raises(TokenizerFileError, match=r"has no tiktoken\.model: add the one published"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").touch()
    words = r"has no tiktoken\.model, and tokenizer\.json alone is not read: add"
    with pytest.raises(TokenizerFileError, match=words):
        Tokenizer.load(tmp_path)
    (tmp_path / "tiktoken.model").write_text(BYTES, encoding="ascii")
    with pytest.raises(TokenizerFileError, match=r"has no tokenizer_config\.json: add the one"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("attribute", ["bos", "eos", "pad", "im_end"])
def test_a_special_token_that_is_not_there_is_named_when_it_is_asked_for(attribute):
    tokenizer = Tokenizer({bytes((byte,)): byte for byte in range(256)}, {"[UNK]": 256})
    name = "<|im_end|>" if attribute == "im_end" else f"[{attribute.upper()}]"
    with pytest.raises(TokenizerFileError, match=f"names no {re.escape(name)} token"):
        getattr(tokenizer, attribute)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_load_or_are_refused(tmp_path_factory, ranks, config):
    directory = tmp_path_factory.mktemp("any")
    (directory / "tiktoken.model").write_bytes(BYTES.encode() + ranks)
    (directory / "tokenizer_config.json").write_bytes(config)
    with pytest.raises(TokenizerFileError):
        Tokenizer.load(directory)
