"""Held-out quality of a model directory: known numbers for models whose answers are known."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from openk2.cli import SHIPPED_MODEL
from openk2.model import weights
from openk2.model.config import K2Config
from openk2.model.transformer import Transformer
from openk2.text.tokenizer import Tokenizer
from openk2.train.quality import ROW, bits_per_byte, measure, prose

TOKENIZER = Tokenizer.from_ranks({bytes((byte,)): byte for byte in range(256)}, 32)
DATA = Path("data")
TINY = K2Config(
    vocab_size=TOKENIZER.vocab_size,
    hidden_size=32,
    intermediate_size=32,
    moe_intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    n_routed_experts=2,
    num_experts_per_tok=1,
    q_lora_rank=16,
    kv_lora_rank=16,
    qk_nope_head_dim=8,
    qk_rope_head_dim=8,
    v_head_dim=16,
)


def model(head: float) -> Transformer:
    """A model whose head is scaled: with 0 all tokens are as likely."""
    torch.manual_seed(1)
    made = Transformer(TINY).eval()
    made.lm_head.weight.data *= head
    return made


@pytest.mark.parametrize("n_bytes", [ROW - 1, ROW, 3 * ROW + 17])
def test_a_model_that_knows_nothing_needs_all_bits(n_bytes):
    text = "x" * n_bytes
    expected = math.log2(TOKENIZER.vocab_size)
    assert bits_per_byte(model(0.0), TOKENIZER, text) == pytest.approx(expected, rel=1e-5)


def test_two_bytes_to_a_character_count_as_two():
    expected = math.log2(TOKENIZER.vocab_size)
    assert bits_per_byte(model(0.0), TOKENIZER, "é" * 300) == pytest.approx(expected, rel=1e-5)


def test_the_prose_ends_where_it_is_cut_and_is_always_the_same():
    text = prose(DATA, 1000)
    assert 990 < len(text.encode()) <= 1000
    assert prose(DATA, 2000).startswith(text)


@pytest.mark.slow
def test_a_directory_is_measured_on_prose_and_on_calls(tmp_path):
    words = Tokenizer.load(SHIPPED_MODEL)
    made = Transformer(replace(TINY, vocab_size=words.vocab_size))
    made.lm_head.weight.data.zero_()
    weights.save(made, tmp_path)
    words.save(tmp_path)
    found = measure(tmp_path, DATA, tokens=2000)
    text = prose(DATA, 6000)
    n_bits = math.log2(words.vocab_size) * len(words.encode(text))
    assert found["bits_per_byte"] == pytest.approx(n_bits / len(text.encode()), rel=1e-4)
    assert found["both_right"] == 0
    sets = [key for key in found if key.startswith("calls/")]
    assert len(sets) >= 2
    assert sum(found[key] for key in sets) == found["calls"] > 0
