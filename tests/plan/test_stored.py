"""Bytes by arithmetic against bytes of tensors that exist."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openk2.kernels import fp8, int4
from openk2.kernels.stored import FloatMatrix, Fp8Matrix, Int4Matrix
from openk2.model.checkpoint import Checkpoint
from openk2.model.transformer import latent_blocks
from openk2.plan.counts import Format, count, stored_bytes
from openk2.plan.memory import cache_bytes_per_token

NANO = Path(__file__).parents[2] / "openk2" / "assets" / "nano"
EXPERT = "model.layers.1.mlp.experts.0.up_proj.weight"


@given(st.integers(1, 300), st.integers(1, 9))
def test_a_quantised_matrix_takes_what_its_parts_take(rows, groups):
    weight = torch.randn(rows, 32 * groups)
    stored: dict[Format, FloatMatrix | Fp8Matrix | Int4Matrix] = {
        "bf16": FloatMatrix(weight.bfloat16()),
        "fp8": Fp8Matrix(*fp8.quantize(weight)),
        "int4": Int4Matrix(*int4.quantize(weight)),
    }
    for form, matrix in stored.items():
        held = sum(part.nbytes for part in matrix.parts.values())
        assert held == stored_bytes(EXPERT, tuple(weight.shape), form)


def test_the_shipped_model_is_as_large_as_counted():
    checkpoint = Checkpoint(NANO)
    held = sum(entry.nbytes for entry in checkpoint.entries.values())
    routers = [
        e.shape for name, e in checkpoint.entries.items() if name.endswith("mlp.gate.weight")
    ]
    # Ours keeps routers in float32, the published checkpoints in BF16: 0.2 % of nano.
    wider = 2 * sum(math.prod(shape) for shape in routers)
    assert wider == 81_920
    assert held == count(checkpoint.config).all.int4_bytes + wider


def test_the_engines_cache_is_as_large_as_counted():
    config = Checkpoint(NANO).config
    latent_LPxR = latent_blocks(config, 3, 16, torch.bfloat16)
    assert latent_LPxR.nbytes == 3 * 16 * cache_bytes_per_token(config)


@pytest.mark.parametrize(
    ("name", "shape", "form", "held"),
    [
        ("model.layers.1.mlp.gate.weight", (384, 7168), "fp8", 2 * 384 * 7168),
        ("model.layers.1.mlp.gate.e_score_correction_bias", (384,), "int4", 4 * 384),
        ("model.layers.1.self_attn.o_proj.weight", (7168, 8192), "int4", 2 * 7168 * 8192),
        ("model.layers.0.mlp.up_proj.weight", (18432, 7168), "int4", 2 * 18432 * 7168),
        ("model.layers.1.input_layernorm.weight", (7168,), "fp8", 2 * 7168),
        ("model.embed_tokens.weight", (163840, 7168), "fp8", 2 * 163840 * 7168),
    ],
)
def test_what_the_published_layouts_leave_in_floating_point(name, shape, form, held):
    assert stored_bytes(name, shape, form) == held
