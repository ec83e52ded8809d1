"""Tiles hold every stored value of a checkpoint exactly, where the kernels look for it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from openk2.export.hf import export_hf
from openk2.kernels.cpu.products import BF16, FLOAT32, INT4
from openk2.kernels.cpu.tiles import GROUP_BYTES, WORD_BYTES
from openk2.model import weights
from openk2.model.checkpoint import Checkpoint
from openk2.model.config import K2Config, YarnConfig
from openk2.model.safetensors_file import WeightsError
from openk2.model.tiled import CannotTileError, check_shapes, tile_model
from openk2.model.transformer import Transformer

TINY = K2Config(
    vocab_size=77,
    hidden_size=96,
    intermediate_size=160,
    moe_intermediate_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    n_routed_experts=6,
    num_experts_per_tok=2,
    q_lora_rank=32,
    kv_lora_rank=64,
    qk_nope_head_dim=16,
    qk_rope_head_dim=16,
    v_head_dim=32,
    max_position_embeddings=1024,
    initializer_range=0.15,
)
SHAPES = {
    "plain": TINY,
    "no query latent": replace(TINY, q_lora_rank=None),
    "yarn": replace(TINY, rope_scaling=YarnConfig(32.0), qk_nope_head_dim=32),
    "yarn without mscales": replace(
        TINY, rope_scaling=YarnConfig(8.0, beta_fast=32.0, mscale=0.0, mscale_all_dim=0.0)
    ),
    "two shared, three heads, eps 1e-3": replace(
        TINY, n_shared_experts=2, num_attention_heads=3, vocab_size=65, rms_norm_eps=1e-3
    ),
    "groups of 18 experts": replace(
        TINY, n_routed_experts=18, n_group=3, topk_group=2, num_experts_per_tok=4, vocab_size=33
    ),
    "groups of one": replace(TINY, n_group=6, topk_group=3, num_experts_per_tok=3),
    "two dense layers, not normalised": replace(
        TINY, first_k_dense_replace=2, norm_topk_prob=False, routed_scaling_factor=1.5
    ),
    "no dense layer, every expert": replace(
        TINY, first_k_dense_replace=0, num_experts_per_tok=6, vocab_size=80
    ),
    "dense throughout": replace(TINY, first_k_dense_replace=3, v_head_dim=64),
}
FORMS = ("float32", "bfloat16", "int4", "int4-all")


def write(root, config, form, poison=()):
    """Save a random model in a stored form and return its directory.

    `poison` are embedding rows that become NaN.
    """
    torch.manual_seed(0)
    model = Transformer(config)
    for layer in model.layers[config.first_k_dense_replace :]:
        layer.mlp.gate.e_score_correction_bias.normal_(0, 0.1)
    for name, norm in model.named_parameters():
        if "norm" in name:
            norm.data.uniform_(0.5, 1.5)
    for row in poison:
        model.embed_tokens.weight.data[row] = torch.nan
    weights.save(model, root / "float", None if form == "float32" else torch.bfloat16)
    if form in ("float32", "bfloat16"):
        return root / "float"
    export_hf(root / "float", root / form, format=form, with_tokenizer=False)
    return root / form


def rows_at(model, address, form, M, N):
    """Read a matrix [M, N] back from its tiles, by their definition, in float64."""
    B = -(-M // 16)
    start = next(a for a in model.keep if a.ctypes.data <= address < a.ctypes.data + max(1, a.size))
    found = start[address - start.ctypes.data :]
    if form != INT4:
        width = 2 if form == BF16 else 4
        tiles = found[: 16 * B * N * width].view(np.uint16 if form == BF16 else np.uint32)
        bits = tiles.astype(np.uint32) << (16 if form == BF16 else 0)
        floats = bits.view(np.float32).reshape(B, N, 16)
        return floats.transpose(0, 2, 1).reshape(-1, N)[:M].astype(np.float64)
    groups = found[: B * (N // 32) * GROUP_BYTES].reshape(B, -1, GROUP_BYTES)
    words = np.ascontiguousarray(groups[..., :WORD_BYTES]).view(np.uint32).reshape(B, -1, 4, 16)
    nibbles = (words[..., None] >> np.arange(0, 32, 4, dtype=np.uint32)) & 15
    scale_bits = np.ascontiguousarray(groups[..., WORD_BYTES:]).view(np.uint16).astype(np.uint32)
    scale = (scale_bits << 16).view(np.float32).astype(np.float64)
    value = (nibbles.astype(np.int64) - 8) * scale[:, :, None, :, None]
    return value.transpose(0, 3, 1, 2, 4).reshape(16 * B, N)[:M]


def units(gate, up):
    """Stack 32 rows of the one, 32 of the other."""
    return np.concatenate(
        [part[i : i + 32] for i in range(0, len(gate), 32) for part in (gate, up)]
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", ["plain", "no query latent", "two shared, three heads, eps 1e-3"])
def test_every_value_is_where_the_kernels_read_it(shape, form, tmp_path):
    config = SHAPES[shape]
    checkpoint = Checkpoint(write(tmp_path, config, form))
    model = tile_model(checkpoint)

    def stored(name):
        return checkpoint.dense(f"{name}.weight").double().numpy()

    def same(address, form_of, expected):
        assert np.array_equal(rows_at(model, int(address), form_of, *expected.shape), expected)

    whole, floats = FORMS.index(form), {"float32": FLOAT32}.get(form, BF16)
    linear = INT4 if whole == 3 else floats
    for index, row in enumerate(model.layers):
        prefix = f"model.layers.{index}"
        attention = f"{prefix}.self_attn"
        parts = ["q_a_proj", "kv_a_proj_with_mqa"][config.q_lora_rank is None :]
        latents = np.concatenate([stored(f"{attention}.{part}") for part in parts])
        assert (row["latents_form"], row["q_form"], row["o_form"]) == (linear, linear, linear)
        same(row["latents"], linear, latents)
        same(row["q"], linear, stored(f"{attention}.{'q_b_proj' if len(parts) > 1 else 'q_proj'}"))
        same(row["o"], linear, stored(f"{attention}.o_proj"))
        halves = checkpoint.dense(f"{attention}.kv_b_proj.weight")
        halves = halves if form == "float32" else halves.bfloat16().float()
        halves = halves.unflatten(0, (config.num_attention_heads, -1)).double().numpy()
        n = config.qk_nope_head_dim
        assert row["up_form"] == floats
        same(row["k_up"], floats, halves[:, :n].transpose(0, 2, 1).reshape(-1, n))
        same(row["v_up"], floats, halves[:, n:].reshape(-1, config.kv_lora_rank))
        if index < config.first_k_dense_replace:
            shared, form_of = f"{prefix}.mlp", linear
        else:
            shared, form_of = f"{prefix}.mlp.shared_experts", linear
            experts = [f"{prefix}.mlp.experts.{e}" for e in range(config.n_routed_experts)]
            ups = [units(stored(f"{e}.gate_proj"), stored(f"{e}.up_proj")) for e in experts]
            routed = floats if whole < 2 else INT4
            assert row["experts_form"] == routed
            same(row["gate_up"], routed, np.concatenate(ups))
            same(row["down"], routed, np.concatenate([stored(f"{e}.down_proj") for e in experts]))
            same(row["router"], FLOAT32, stored(f"{prefix}.mlp.gate"))
        assert row["shared_form"] == form_of
        gate, up = (stored(f"{shared}.{part}_proj") for part in ("gate", "up"))
        same(row["shared_gate_up"], form_of, units(gate, up))
        same(row["shared_down"], form_of, stored(f"{shared}.down_proj"))
    assert model.head_form == linear and model.embedding_form == floats
    same(model.head, linear, stored("lm_head"))
    assert model.nbytes == sum(array.nbytes for array in model.keep)


@pytest.mark.parametrize(
    ("name", "value"),
    {
        "hidden_size": 80,
        "moe_intermediate_size": 48,
        "intermediate_size": 100,
        "v_head_dim": 16,
        "kv_lora_rank": 24,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 12,
        "q_lora_rank": 48,
    }.items(),
)
def test_a_shape_that_does_not_fill_tiles_is_named(name, value):
    with pytest.raises(CannotTileError, match=rf"{name} is {value}, .*multiple of (16|32)"):
        check_shapes(replace(TINY, **{name: value}))


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_that_fill_tiles_pass(shape):
    check_shapes(SHAPES[shape])


def changed(directory, change):
    state = load_file(directory / "model.safetensors")
    change(state)
    save_file(state, directory / "model.safetensors")
    return Checkpoint(directory)


def test_fp8_has_no_kernel(tmp_path):
    write(tmp_path, TINY, "bfloat16")
    export_hf(tmp_path / "float", tmp_path / "fp8", format="fp8", with_tokenizer=False)
    with pytest.raises(CannotTileError, match="Fp8Matrix"):
        tile_model(Checkpoint(tmp_path / "fp8"))


EXPERT = "model.layers.1.mlp.experts.3"


def test_scales_finer_than_bfloat16_are_refused_and_others_are_kept(tmp_path):
    directory = write(tmp_path, TINY, "int4")
    scale = f"{EXPERT}.up_proj.weight_scale"

    def widen(state):
        for name in [name for name in state if name.endswith("_scale")]:
            state[name] = state[name].float()

    tile_model(changed(directory, widen))

    def refine(state):
        state[scale][3, 1] *= 1 + 2**-20

    with pytest.raises(CannotTileError, match="finer than bfloat16"):
        tile_model(changed(directory, refine))


@pytest.mark.parametrize("part", ["gate_proj", "up_proj", "down_proj"])
def test_an_expert_of_mixed_forms_is_refused(part, tmp_path):
    directory = write(tmp_path, TINY, "int4")
    expanded = Checkpoint(directory).dense(f"{EXPERT}.{part}.weight", torch.bfloat16)

    def expand(state):
        for suffix in ("packed", "scale", "shape"):
            state.pop(f"{EXPERT}.{part}.weight_{suffix}")
        state[f"{EXPERT}.{part}.weight"] = expanded

    with pytest.raises(CannotTileError):
        tile_model(changed(directory, expand))


def test_float16_is_kept_exactly_in_float32(tmp_path):
    directory = write(tmp_path, TINY, "float32")

    def narrow(state):
        for name in list(state):
            if name != "model.embed_tokens.weight" and state[name].ndim == 2:
                state[name] = state[name].half()

    checkpoint = changed(directory, narrow)
    model = tile_model(checkpoint)
    head = checkpoint.dense("lm_head.weight").double().numpy()
    assert model.head_form == FLOAT32
    assert np.array_equal(rows_at(model, model.head, FLOAT32, *head.shape), head)


def test_a_missing_tensor_is_named(tmp_path):
    directory = write(tmp_path, TINY, "bfloat16")
    with pytest.raises(WeightsError, match=rf"{EXPERT}.down_proj"):
        tile_model(changed(directory, lambda state: state.pop(f"{EXPERT}.down_proj.weight")))
