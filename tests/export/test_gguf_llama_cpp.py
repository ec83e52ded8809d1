"""What we write as GGUF, computed by llama.cpp: the same tokens, logits and continuations.

llama.cpp is built from source (`make test-all` does it where there is a compiler and cmake).
What it computes differently, and why, is asserted here too, so that we notice when it changes.
"""

import itertools
import random
import re
import unicodedata
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from gguf import GGUFWriter

from openk2.cli import SHIPPED_MODEL
from openk2.export.gguf import export_gguf
from openk2.export.gguf_metadata import add_model, add_vocabulary
from openk2.export.hf import export_hf
from openk2.model import weights
from openk2.model.checkpoint import Checkpoint, read_config
from openk2.model.config import YarnConfig
from openk2.text.template import render
from openk2.text.tokenizer import Tokenizer
from openk2.types import Message
from tests.export.test_gguf import SMALL, model_of, read_back, write_model
from tests.text.test_published_tokenizer import THINKING, made_up_ranks, write_published

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        find_spec("llama_cpp") is None,
        reason="llama-cpp-python is not installed: `make test-all` builds it, given C++ and cmake",
    ),
]

PEER = "llama.cpp"
F32 = 0
"""llama.cpp's number of the type; its own choice for the cache of keys is float16."""

PROMPTS = (
    "Once upon a time",
    "The little girl went to the park and",
    "从前有一个小女孩",
    "def add(a, b):\n    return",
    "One day, Tom found a big red",
    "今天天气很好，",
    "import json\n\n",
    "The capital of France is",
)
QUESTIONS = (
    "Hello",
    "Who are you?",
    "你好",
    "你是谁？",
    "Tell me a short story.",
    "What is 2 + 3?",
    "讲一个故事。",
    "Write a Python function that adds two numbers.",
    "Why is the sky blue?",
    "What is the weather in Paris?",
    "Thank you!",
    "再见",
)


def opened(path, **settings):
    from llama_cpp import Llama

    settings = {"n_ctx": 512, "logits_all": True, "verbose": False, "n_threads": 1, **settings}
    return Llama(str(path), **settings)


def llama_logits(llama, ids) -> np.ndarray:
    llama.reset()
    llama.eval(ids)
    return np.array(llama.scores[: len(ids)])


@torch.no_grad()
def our_logits(model, ids) -> np.ndarray:
    return model.logits(model(torch.tensor([ids])).hidden_BTD)[0].numpy()


def largest_error(a, b) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def rms_error(a, b) -> float:
    return float(np.sqrt(np.square(a - b).mean() / np.square(b).mean()))


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.load(SHIPPED_MODEL)


@pytest.fixture(scope="module")
def prompts(tokenizer) -> list[list[int]]:
    chats = [render([Message("user", question)], [], tokenizer) for question in QUESTIONS]
    return [tokenizer.encode(prompt) for prompt in PROMPTS] + chats


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("gguf")
    for format in ("f32", "f16", "q8_0", "q4_0"):
        export_gguf(SHIPPED_MODEL, directory / f"{format}.gguf", format=format)
    return directory


def continued(llama, prompt: list[int], n: int) -> list[int]:
    llama.reset()
    llama.eval(prompt)
    ids = list(prompt)
    for _ in range(n):
        ids.append(int(np.argmax(llama.scores[len(ids) - 1])))
        llama.eval(ids[-1:])
    return ids[len(prompt) :]


def departures(model, prompt: list[int], continuation: list[int]) -> list[float]:
    """How far below our best token llama.cpp's choice lies, wherever the two differ."""
    logits = our_logits(model, prompt + continuation)[len(prompt) - 1 : -1]
    gaps = logits.max(-1) - np.take_along_axis(logits, np.array(continuation)[:, None], 1)[:, 0]
    return [float(gap) for gap in gaps if gap > 0]


@pytest.mark.parametrize(
    "format",
    [
        pytest.param(
            format,
            marks=pytest.mark.parity(
                format=f"GGUF {format.upper()}",
                direction="out",
                peer=PEER,
                claim="20 greedy continuations of 32 tokens identical, with llama.cpp's defaults",
            ),
        )
        for format in ("f32", "f16")
    ],
)
def test_greedy_continuations_are_ours(format, files, prompts):
    ours, llama = weights.load(SHIPPED_MODEL), opened(files / f"{format}.gguf")
    for prompt in prompts:
        assert departures(ours, prompt, continued(llama, prompt, 32)) == []


@pytest.mark.parametrize(
    "format",
    [
        pytest.param(
            format,
            marks=pytest.mark.parity(
                format=f"GGUF {format.upper()}",
                direction="out",
                peer=PEER,
                claim="98 % of 640 greedy tokens ours with the same rounded weights, the others "
                "within 0.5 of our best logit",
            ),
        )
        for format in ("q8_0", "q4_0")
    ],
)
def test_greedy_tokens_of_quantised_files(format, files, prompts):
    # llama.cpp rounds activations to 8 bits before it multiplies by quantised weights; we do not.
    config = read_config(SHIPPED_MODEL)[0]
    ours = model_of(read_back(files / f"{format}.gguf", config), config)
    llama = opened(files / f"{format}.gguf", type_k=F32, type_v=F32)
    gaps = [g for prompt in prompts for g in departures(ours, prompt, continued(llama, prompt, 32))]
    assert len(gaps) <= 0.02 * 32 * len(prompts)
    assert max(gaps, default=0.0) < 0.5


@pytest.mark.parity(
    format="GGUF F32", direction="out", peer=PEER, claim="logits to 1e-5 of the largest, fp32 cache"
)
def test_logits_of_an_f32_file(files, prompts):
    ours = weights.load(SHIPPED_MODEL)
    llama = opened(files / "f32.gguf", type_k=F32, type_v=F32)
    for prompt in prompts:
        assert largest_error(llama_logits(llama, prompt), our_logits(ours, prompt)) < 1e-5


@pytest.mark.parametrize(
    ("format", "median", "rms"),
    [
        pytest.param(
            format,
            median,
            rms,
            marks=pytest.mark.parity(
                format=f"GGUF {format.upper()}",
                direction="out",
                peer=PEER,
                claim=f"logits of the median token to {median:g} of the largest, rms {rms:g}; ours "
                "with the same rounded weights",
            ),
        )
        for format, median, rms in (("f16", 3e-4, 0.01), ("q8_0", 5e-3, 0.03), ("q4_0", 5e-3, 0.03))
    ],
)
def test_logits_of_rounded_files(format, median, rms, files, prompts):
    """The median: where a chosen expert leads by less than 1e-4, another one may be chosen."""
    config = read_config(SHIPPED_MODEL)[0]
    ours = model_of(read_back(files / f"{format}.gguf", config), config)
    llama = opened(files / f"{format}.gguf", type_k=F32, type_v=F32)
    theirs = np.concatenate([llama_logits(llama, prompt) for prompt in prompts])
    expected = np.concatenate([our_logits(ours, prompt) for prompt in prompts])
    errors = np.abs(theirs - expected).max(-1) / np.abs(expected).max()
    assert np.median(errors) < median
    assert rms_error(theirs, expected) < rms


@pytest.mark.parametrize("stored", ["fp8", "int4"])
@pytest.mark.parity(
    format="GGUF F32",
    direction="out",
    peer=PEER,
    claim="from FP8 and INT4 checkpoints: logits to 1e-5 of the largest",
)
def test_logits_from_quantised_checkpoints(stored, tmp_path, prompts):
    export_hf(SHIPPED_MODEL, tmp_path / stored, format=stored)
    export_gguf(tmp_path / stored, tmp_path / "out.gguf", format="f32")
    checkpoint = Checkpoint(tmp_path / stored)
    names = read_back(tmp_path / "out.gguf", checkpoint.config)
    ours = model_of({name: checkpoint.dense(name) for name in names}, checkpoint.config)
    llama = opened(tmp_path / "out.gguf", type_k=F32, type_v=F32)
    for prompt in prompts[::4]:
        assert largest_error(llama_logits(llama, prompt), our_logits(ours, prompt)) < 1e-5


# Shapes ------------------------------------------------------------------------------------------

ROPE_64 = replace(SMALL, qk_rope_head_dim=64)
"""The rotary width and base of K2: YaRN's ramp lies where K2's does."""
SHORT = {"original_max_position_embeddings": 64}
SHAPES = {
    "plain": SMALL,
    "no query latent": replace(SMALL, q_lora_rank=None),
    "two shared experts": replace(SMALL, n_shared_experts=2),
    "two dense layers, top 3": replace(SMALL, first_k_dense_replace=2, num_experts_per_tok=3),
    "expert groups": replace(SMALL, n_group=4, topk_group=2),
    "all expert groups": replace(SMALL, n_group=4, topk_group=4),
    "gates not normalised": replace(SMALL, norm_topk_prob=False),
    "27 layers": replace(SMALL, num_hidden_layers=27, q_lora_rank=None),
    "K2: yarn 32, betas 1/1": replace(ROPE_64, rope_scaling=YarnConfig(32.0)),
    "K2: yarn 64, betas 1/1": replace(ROPE_64, rope_scaling=YarnConfig(64.0)),
    "yarn 64, betas 32/1": replace(ROPE_64, rope_scaling=YarnConfig(64.0, beta_fast=32.0)),
    "yarn 32 beyond 64": replace(ROPE_64, rope_scaling=YarnConfig(32.0, **SHORT)),
    "yarn 64, betas 32/1, beyond 64": replace(
        ROPE_64, rope_scaling=YarnConfig(64.0, beta_fast=32.0, **SHORT)
    ),
    "yarn 1": replace(SMALL, rope_scaling=YarnConfig(1.0)),
    "mscales 0.707": replace(
        SMALL, rope_scaling=YarnConfig(40.0, mscale=0.707, mscale_all_dim=0.707, **SHORT)
    ),
    "mscales that differ": replace(SMALL, rope_scaling=YarnConfig(40.0, mscale=0.7, **SHORT)),
    "mscales left out": replace(
        SMALL, rope_scaling=YarnConfig(32.0, mscale=0.0, mscale_all_dim=0.0, **SHORT)
    ),
    "mscale left out": replace(SMALL, rope_scaling=YarnConfig(32.0, mscale=0.0, **SHORT)),
}
N_TOKENS = 400


def both_logits(tmp_path, config, **settings) -> tuple[np.ndarray, np.ndarray]:
    """llama.cpp's logits of 400 random tokens, and ours, of a random model."""
    source = write_model(tmp_path / "m", config, dtype=torch.float32)
    export_gguf(source, tmp_path / "m.gguf", format="f32")
    ids = torch.randint(0, 300, (N_TOKENS,), generator=torch.Generator().manual_seed(1)).tolist()
    llama = opened(tmp_path / "m.gguf", type_k=F32, type_v=F32, **settings)
    return llama_logits(llama, ids), our_logits(weights.load(source), ids)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parity(
    format="GGUF F32",
    direction="out",
    peer=PEER,
    claim="18 random shapes, 400 tokens, also beyond the original context: logits to 2e-5 of the "
    "largest; YaRN betas other than 32/1 given as options",
)
def test_logits_of_random_shapes(name, tmp_path):
    yarn = SHAPES[name].rope_scaling or YarnConfig(1.0, beta_fast=32.0)
    betas = {"yarn_beta_fast": yarn.beta_fast, "yarn_beta_slow": yarn.beta_slow}
    theirs, expected = both_logits(tmp_path, SHAPES[name], **betas)
    assert largest_error(theirs, expected) < 2e-5


def test_llama_cpp_ignores_the_betas_of_a_file(tmp_path):
    """Its deepseek2 loader reads no YaRN betas: without the options K2's 1/1 become 32/1."""
    theirs, expected = both_logits(tmp_path, SHAPES["K2: yarn 32, betas 1/1"], yarn_beta_fast=-1.0)
    assert rms_error(theirs, expected) > 0.05
    # The first tokens are near the position 0, where all frequencies agree.
    assert largest_error(theirs[:1], expected[:1]) < 2e-5


def test_llama_cpp_gives_the_latent_norms_the_layers_eps(tmp_path):
    """DeepSeek's code keeps 1e-6 there, whatever rms_norm_eps says, and so do we."""
    theirs, expected = both_logits(tmp_path, replace(SMALL, rms_norm_eps=1e-5))
    assert 3e-6 < largest_error(theirs, expected) < 1e-3


# Text --------------------------------------------------------------------------------------------

WORDS = (
    *("hello", "World", "HTTPServer", "camelCase", "don't", "WE'RE", "I'll", "naïve", "Ünïcode"),
    *("русский", "Ελληνικά", "中文", "漢字", "かな", "カタカナ", "한국어", "123", "4567", "3.14"),
    *("\n", "\r\n", "\t", "\n\n", "!", "?!", "--", "/", "...", "_", "snake_case", "(x)", "{", "}"),
    *(
        '"a"',
        "'s",
        "'S",
        "😀",
        "👩‍👩‍👧",
        "é",
        "%",
        "$5",
        "，",
        "。",
        "    ",
        "\u00a0",
        "\u3000",
        "１２３",
    ),
    *("def f(x):\n    return x", "http://a.b/c?d=e&f=g", "½", "Ⅷ", "<|im_end|>", "[BOS]", "[EOT]"),
)
VISIBLE = ("<think>", "</think>", "<|tool_call_begin|>", "<|tool_calls_section_end|>")
# Han characters that llama.cpp's table of ranges lacks.
_OTHER_HAN = re.compile("[々〇〡-〩〸-〻⺀-⿕\U00016fe2\U00016fe3\U00030000-\U0003ffff]")


def their_ids(llama, text: str) -> list[int]:
    return llama.tokenize(text.encode(), add_bos=False, special=False)


def split_otherwise(text: str) -> bool:
    """Whether llama.cpp's hand-written splitter may cut `text` elsewhere than K2's pattern."""
    kinds = [unicodedata.category(char) for char in text]
    has_mark = any(kind.startswith("M") for kind in kinds)
    pairs = itertools.pairwise(kinds)
    has_hump = any(a in ("Ll", "Lm", "Lo") and b in ("Lu", "Lt") for a, b in pairs)
    return has_mark or has_hump or "ſ" in text or _OTHER_HAN.search(text) is not None


def opened_vocabulary(directory, tokenizer):
    """A file without tensors of the tokenizer in `directory`, read by llama.cpp."""
    config = replace(SMALL, vocab_size=tokenizer.vocab_size)
    writer = GGUFWriter(directory / "vocabulary.gguf", "deepseek2")
    add_model(writer, config)
    add_vocabulary(writer, config, directory)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    return opened(directory / "vocabulary.gguf", vocab_only=True)


@pytest.fixture(scope="module")
def every_pair(tmp_path_factory):
    """A vocabulary of all pairs of bytes, in which hardly a cut goes unseen; ours and llama's."""
    ranks = {bytes((byte,)): byte for byte in range(256)}
    for byte in range(256):
        ranks |= {bytes((byte, other)): len(ranks) + other for other in range(256)}
    directory = tmp_path_factory.mktemp("pairs")
    tokenizer = Tokenizer.from_ranks(ranks, 32)
    tokenizer.save(directory)
    return tokenizer, opened_vocabulary(directory, tokenizer)


@pytest.mark.parity(
    format="tokenizer",
    direction="out",
    peer=PEER,
    claim="nano's vocabulary in a GGUF file: ids of 4,000 strings without combining marks",
)
def test_nanos_ids_are_ours(files, tokenizer):
    llama = opened(files / "q4_0.gguf", vocab_only=True)
    chance = random.Random(0)
    for _ in range(4000):
        words = chance.choices(WORDS, k=chance.randint(1, 12))
        text = "".join(word + chance.choice(("", "", " ", "  ")) for word in words)
        assert their_ids(llama, text) == tokenizer.encode(text), text


@pytest.mark.parity(
    format="tokenizer",
    direction="out",
    peer=PEER,
    claim="163,840 made-up tokens in K2's layout: ids of 2,000 strings without combining marks",
)
def test_ids_of_a_vocabulary_of_k2s_size(tmp_path):
    write_published(tmp_path, made_up_ranks(), THINKING)
    tokenizer = Tokenizer.load(tmp_path)
    llama = opened_vocabulary(tmp_path, tokenizer)
    chance = random.Random(0)
    for _ in range(2000):
        words = chance.choices(WORDS, k=chance.randint(1, 8))
        words += ["".join(chance.choices("etaoinshr", k=chance.randint(1, 9))) for _ in range(4)]
        words += [chr(chance.randint(0x4E00, 0x9000)) for _ in range(4)]
        chance.shuffle(words)
        text = "".join(word + " " * chance.choice((0, 0, 1, 40)) for word in words)
        assert their_ids(llama, text) == tokenizer.encode(text), text


def test_texts_are_cut_where_k2s_pattern_cuts_them(every_pair):
    """3,000 strings over Unicode, without the four classes that `split_otherwise` names."""
    tokenizer, llama = every_pair
    old = unicodedata.ucd_3_2_0  # known to everybody's tables
    known = [chr(c) for c in range(0x21, 0x2FA1E) if old.category(chr(c)) not in ("Cn", "Cs", "Co")]
    chance = random.Random(0)
    compared = 0
    while compared < 3000:
        alphabet = chance.sample(known, 6) + list("aZ 1,.\n'中")
        text = "".join(chance.choices(alphabet, k=chance.randint(1, 10)))
        if not split_otherwise(text):
            compared += 1
            assert their_ids(llama, text) == tokenizer.encode(text), text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("aB", id="a capital after a small letter: K2 cuts before it, llama.cpp not"),
        pytest.param("e\u0301a", id="a combining mark: K2 keeps it in the word"),
        pytest.param("中々", id="Han outside llama.cpp's ranges: K2 keeps it in the run"),
        pytest.param("it'ſa", id="the long s: K2 takes it for the s of a contraction"),
    ],
)
def test_what_llama_cpp_cuts_otherwise(text, every_pair):
    tokenizer, llama = every_pair
    found = their_ids(llama, text)
    assert tokenizer.decode(found) == text
    assert found != tokenizer.encode(text)


def test_text_that_spells_a_visible_token_becomes_it_in_llama_cpp(files, tokenizer):
    """`special: false` is llama.cpp's user-defined token, found in any text; ours never are."""
    llama = opened(files / "q4_0.gguf", vocab_only=True)
    for name in VISIBLE:
        assert their_ids(llama, name) == [tokenizer.specials[name]]
        assert len(tokenizer.encode(name)) > 1


def test_llama_cpp_ends_a_turn_where_we_do(files, tokenizer):
    from llama_cpp import llama_vocab_is_eog

    llama = opened(files / "q4_0.gguf", vocab_only=True)
    assert llama.token_eos() == tokenizer.im_end
    assert llama.token_bos() == tokenizer.bos
    # [EOT] and [PAD] by their names; no answer of ours contains them.
    ends = {tokenizer.im_end, tokenizer.eos, tokenizer.specials["[EOT]"], tokenizer.pad}
    vocabulary = llama._model.vocab
    assert {id_ for id_ in range(8192) if llama_vocab_is_eog(vocabulary, id_)} == ends


@pytest.mark.parity(
    format="chat template",
    direction="out",
    peer=PEER,
    claim="prompts of 12 conversations from the template in the file: ids identical",
)
def test_the_template_in_the_file_makes_our_prompts(files, tokenizer):
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    llama = opened(files / "q4_0.gguf", vocab_only=True)
    formatter = Jinja2ChatFormatter(
        llama.metadata["tokenizer.chat_template"], eos_token="<|im_end|>", bos_token="[BOS]"
    )
    for first, second in zip(QUESTIONS, reversed(QUESTIONS), strict=True):
        turns = [("system", "Be brief."), ("user", first), ("assistant", "Yes."), ("user", second)]
        prompt = formatter(
            messages=[{"role": role, "content": text} for role, text in turns]
        ).prompt
        ids = llama.tokenize(prompt.encode(), add_bos=False, special=True)
        assert ids == render([Message(role, text) for role, text in turns], [], tokenizer)
