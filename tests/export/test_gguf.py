"""A GGUF file, read back with the gguf package: every value, what it says, what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, TokenType, quants
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from openk2.cli import SHIPPED_MODEL, app
from openk2.export.gguf import export_gguf
from openk2.export.gguf_tensors import (
    GROUP,
    GgufError,
    encoded,
    gguf_tensors,
    q4_0_from_int4,
)
from openk2.export.hf import export_hf
from openk2.export.place import ExportError
from openk2.kernels import int4
from openk2.model import weights
from openk2.model.checkpoint import Checkpoint
from openk2.model.config import YarnConfig
from openk2.model.names import is_routed_expert, published_names
from openk2.model.transformer import Transformer
from openk2.text.tokenizer import Tokenizer
from tests.model.test_parity import TINY

N_SPECIALS = 32
SMALL = replace(TINY, vocab_size=300)
WIDE = replace(
    SMALL,
    moe_intermediate_size=64,
    q_lora_rank=32,
    kv_lora_rank=32,
    qk_nope_head_dim=32,
    qk_rope_head_dim=32,
    v_head_dim=32,
)
"""Every row is a multiple of 32, as in K2."""


def write_model(directory: Path, config, seed=0, dtype=torch.bfloat16) -> Path:
    """A random model with a tokenizer of single bytes, as a published directory."""
    torch.manual_seed(seed)
    model = Transformer(config)
    for layer in model.layers[config.first_k_dense_replace :]:
        layer.mlp.gate.e_score_correction_bias.normal_(0, 0.1)
    weights.save(model, directory, dtype)
    ranks = {bytes((byte,)): byte for byte in range(256)}
    Tokenizer.from_ranks(ranks, N_SPECIALS).save(directory)
    return directory


def read_back(path: Path, config) -> dict[str, torch.Tensor]:
    """Published names and float32 values of a file, expanded by the gguf package."""
    stored = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    state: dict[str, torch.Tensor] = {}
    keys: dict[str, torch.Tensor] = {}
    for spec in gguf_tensors(config, "f32"):
        tensor = stored.pop(spec.name)
        values = np.array(quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        value = torch.from_numpy(values).reshape(spec.shape)
        if "attn_k_b" in spec.name:
            keys[spec.sources[0]] = value.transpose(1, 2)
        elif "attn_v_b" in spec.name:
            source = spec.sources[0]
            state[source] = torch.cat((keys[source], value), dim=1).flatten(0, 1)
        elif len(spec.shape) == 3:
            state |= dict(zip(spec.sources, value, strict=True))
        else:
            state[spec.sources[0]] = value
    assert not stored, "a tensor that the model does not have"
    return state


def model_of(state: dict[str, torch.Tensor], config) -> Transformer:
    model = Transformer(config).eval()
    with torch.no_grad():
        for name, parameter in model.state_dict().items():
            for published, index in published_names(name, parameter):
                parameter[index].copy_(state[published])
    return model


def fields(path: Path) -> dict[str, object]:
    return {name: field.contents() for name, field in GGUFReader(path).fields.items()}


@pytest.mark.parametrize("stored", ["bf16", "f32", "f16", "fp8", "int4"])
def test_f32_holds_what_any_checkpoint_holds(stored, tmp_path):
    plain = write_model(tmp_path / "plain", WIDE)
    export_hf(plain, tmp_path / "source", format=stored)
    export_gguf(tmp_path / "source", tmp_path / "out.gguf", format="f32")
    checkpoint = Checkpoint(tmp_path / "source")
    state = read_back(tmp_path / "out.gguf", WIDE)
    for name, value in state.items():
        assert torch.equal(value, checkpoint.dense(name)), name
    assert len(state) == len(weights.published_state(Transformer(WIDE)))


@pytest.mark.parametrize("format", ["f16", "q8_0", "q4_0"])
def test_matrices_are_what_the_gguf_package_makes_of_them(format, tmp_path):
    source = write_model(tmp_path / "source", WIDE)
    done = export_gguf(source, tmp_path / "out.gguf", format=format)
    checkpoint = Checkpoint(source)
    state = read_back(tmp_path / "out.gguf", WIDE)
    around = "q8_0" if format == "q4_0" else format
    for name, value in state.items():
        dense = checkpoint.dense(name)
        is_exact = dense.dim() == 1 or ".mlp.gate." in name
        kind = "f32" if is_exact else format if is_routed_expert(name) else around
        if "kv_b_proj" in name and kind == "q8_0":  # grouped along the keys' width, not the latent
            keys, values = dense.unflatten(0, (4, -1)).split((32, 32), dim=1)
            keys = rounded(keys.transpose(1, 2).contiguous(), kind).transpose(1, 2)
            expected = torch.cat((keys, rounded(values.contiguous(), kind)), dim=1).flatten(0, 1)
        else:
            expected = rounded(dense, kind)
        assert torch.equal(value, expected), name
    assert not done.fallback


def rounded(value: torch.Tensor, kind: str) -> torch.Tensor:
    kind = GGMLQuantizationType[kind.upper()]
    data = quants.quantize(value.numpy(), kind)
    return torch.from_numpy(np.array(quants.dequantize(data, kind))).reshape(value.shape)


def test_published_int4_experts_stay_as_they_are(tmp_path):
    plain = write_model(tmp_path / "plain", WIDE)
    export_hf(plain, tmp_path / "source", format="int4")
    export_gguf(tmp_path / "source", tmp_path / "out.gguf", format="q4_0")
    checkpoint = Checkpoint(tmp_path / "source")
    state = read_back(tmp_path / "out.gguf", WIDE)
    experts = [name for name in state if is_routed_expert(name)]
    assert len(experts) == 2 * 8 * 3
    for name in experts:
        assert torch.equal(state[name], checkpoint.dense(name)), name


@given(st.data())
def test_q4_0_has_the_nibbles_and_scales_of_int4(data):
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 4)))
    seed = data.draw(st.integers(0, 2**31))
    exponent = data.draw(st.integers(-14, 15))
    generator = torch.Generator().manual_seed(seed)
    value = torch.randint(-8, 8, (shape[0], shape[1] * GROUP), generator=generator)
    scale = ((1 + torch.rand(shape, generator=generator)) * 2.0**exponent).bfloat16()
    scale = scale.clamp(max=65280.0)
    packed = int4.pack(value.to(torch.int8))
    groups = q4_0_from_int4(packed, scale, "here")
    back = quants.dequantize(groups, GGMLQuantizationType.Q4_0)
    assert torch.equal(torch.from_numpy(back), int4.dequantize(packed, scale))


def test_a_scale_below_float16_is_rounded_and_one_above_is_refused():
    packed = int4.pack(torch.full((1, GROUP), 7, dtype=torch.int8))
    small = torch.tensor([[3.1e-8]]).bfloat16()
    back = quants.dequantize(q4_0_from_int4(packed, small, "x"), GGMLQuantizationType.Q4_0)
    assert np.abs(back - 7 * small.float().numpy()).max() <= 7 * 2.0**-25
    with pytest.raises(GgufError, match=r"layers\.1\.x: a scale exceeds float16's 65504.*f16"):
        q4_0_from_int4(packed, torch.tensor([[7e4]]).bfloat16(), "layers.1.x")


def test_values_beyond_float16_are_refused_by_name(tmp_path):
    source = write_model(tmp_path / "source", SMALL)
    model = weights.load(source)
    model.layers[0].self_attn.o_proj.weight.data[0, 0] = 1e5
    weights.save(model, source)
    for format in ("f16", "q8_0"):  # its rows of 48 are no multiple of 32: F16 in both
        with pytest.raises(GgufError, match=r"layers\.0\.self_attn\.o_proj\.weight.*--format f32"):
            export_gguf(source, tmp_path / "out.gguf", format=format)
    assert [file.name for file in tmp_path.iterdir()] == ["source"]


def test_rows_that_no_group_divides_fall_back_to_f16_and_are_named(tmp_path):
    source = write_model(tmp_path / "source", SMALL)
    done = export_gguf(source, tmp_path / "out.gguf", format="q8_0")
    kinds = {t.name: t.tensor_type.name for t in GGUFReader(tmp_path / "out.gguf").tensors}
    # Rows of 24, 8 and 48; those of 64, 96 and 32 are Q8_0.
    assert kinds["blk.0.attn_q_b.weight"] == kinds["blk.0.attn_k_b.weight"] == "F16"
    assert kinds["blk.0.attn_output.weight"] == "F16"
    assert kinds["blk.0.ffn_down.weight"] == kinds["blk.1.ffn_down_exps.weight"] == "Q8_0"
    assert set(done.fallback) == {name for name, kind in kinds.items() if kind == "F16"}
    assert done.nbytes == (tmp_path / "out.gguf").stat().st_size


def test_a_stack_of_experts_is_written_expert_by_expert(tmp_path):
    checkpoint = Checkpoint(write_model(tmp_path, WIDE))
    stacks = [t for t in gguf_tensors(WIDE, "f32") if t.name.endswith("_exps.weight")]
    assert len(stacks) == 2 * 3
    for stack in stacks:
        pieces = [data.nbytes for data in encoded(checkpoint, WIDE, stack)]
        assert pieces == [stack.nbytes // WIDE.n_routed_experts] * WIDE.n_routed_experts


def test_what_the_file_says_about_the_model(tmp_path):
    yarn = YarnConfig(32.0, 128, 2.0, 1.0)
    config = replace(SMALL, rope_scaling=yarn, n_group=4, topk_group=2, rms_norm_eps=1e-5)
    export_gguf(write_model(tmp_path / "m", config), tmp_path / "tiny.gguf", format="q8_0")
    said = fields(tmp_path / "tiny.gguf")
    general = {"architecture": "deepseek2", "name": "tiny", "file_type": 7}
    assert {key: said[f"general.{key}"] for key in general} == general
    expected = {
        "vocab_size": 300,
        "context_length": 512,
        "block_count": 3,
        "embedding_length": 64,
        "feed_forward_length": 96,
        "leading_dense_block_count": 1,
        "attention.head_count": 4,
        "attention.head_count_kv": 1,
        "attention.q_lora_rank": 24,
        "attention.kv_lora_rank": 16,
        "attention.key_length": 24,
        "attention.value_length": 16,
        "attention.key_length_mla": 16,
        "attention.value_length_mla": 12,
        "attention.layer_norm_rms_epsilon": pytest.approx(1e-5),
        "expert_feed_forward_length": 32,
        "expert_count": 8,
        "expert_used_count": 2,
        "expert_shared_count": 1,
        "expert_weights_scale": pytest.approx(2.827),
        "expert_weights_norm": True,
        "expert_gating_func": 2,
        "expert_group_count": 4,
        "expert_group_used_count": 2,
        "rope.dimension_count": 8,
        "rope.freq_base": 50000.0,
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 32.0,
        "rope.scaling.original_context_length": 128,
        "rope.scaling.yarn_log_multiplier": pytest.approx(0.1),
        "rope.scaling.yarn_beta_fast": 2.0,
        "rope.scaling.yarn_beta_slow": 1.0,
    }
    found = {key.removeprefix("deepseek2."): said[key] for key in said if "deepseek2." in key}
    assert found == expected


def test_vocabulary_is_spelled_as_gpt2_does(tmp_path):
    export_gguf(SHIPPED_MODEL, tmp_path / "nano.gguf", format="q4_0")
    said = fields(tmp_path / "nano.gguf")
    tokenizer = Tokenizer.load(SHIPPED_MODEL)
    tokens, types = said["tokenizer.ggml.tokens"], said["tokenizer.ggml.token_type"]
    assert len(tokens) == len(types) == len(set(tokens)) == 8192
    assert tokens[tokenizer.encode(" the")[0]] == "Ġthe"
    assert tokens[tokenizer.encode("\n")[0]] == "Ċ"
    by_name = {name: TokenType(types[id_]).name for name, id_ in tokenizer.specials.items()}
    assert all(tokens[id_] == name for name, id_ in tokenizer.specials.items())
    assert {name for name, kind in by_name.items() if kind == "USER_DEFINED"} == {
        "<think>",
        "</think>",
        "<|tool_calls_section_begin|>",
        "<|tool_calls_section_end|>",
        "<|tool_call_begin|>",
        "<|tool_call_argument_begin|>",
        "<|tool_call_end|>",
    }
    assert by_name["<|im_end|>"] == by_name["[BOS]"] == "CONTROL"
    assert by_name["<|reserved_token_8165|>"] == "UNUSED"
    assert set(types[:8160]) == {TokenType.NORMAL}
    assert said["tokenizer.ggml.eos_token_id"] == tokenizer.im_end
    assert said["tokenizer.ggml.bos_token_id"] == tokenizer.bos
    assert said["tokenizer.ggml.add_bos_token"] is False
    assert said["tokenizer.ggml.pre"] == "kimi-k2"
    assert "<|im_assistant|>" in said["tokenizer.chat_template"]
    known = set(tokens)
    for merge in said["tokenizer.ggml.merges"]:
        left, right = merge.split(" ")
        assert {left, right, left + right} <= known


def test_a_models_own_template_goes_first(tmp_path):
    source = write_model(tmp_path / "m", SMALL)
    settings = json.loads((source / "tokenizer_config.json").read_text())
    (source / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": "old"}))
    export_gguf(source, tmp_path / "a.gguf", format="f16")
    (source / "chat_template.jinja").write_text("new")
    export_gguf(source, tmp_path / "b.gguf", format="f16")
    templates = [
        fields(tmp_path / name)["tokenizer.chat_template"] for name in ("a.gguf", "b.gguf")
    ]
    assert templates == ["old", "new"]


def test_places_where_no_file_can_be_are_named_before_anything_is_written(tmp_path, monkeypatch):
    source = write_model(tmp_path / "m", SMALL)
    with pytest.raises(GgufError, match="nowhere is not a directory; make it first"):
        export_gguf(source, tmp_path / "nowhere" / "out.gguf", format="f16")
    with pytest.raises(GgufError, match="m is a directory; name a file in it"):
        export_gguf(source, source, format="f16", force=True)
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(ExportError, match="has 1,000 left"):
        export_gguf(source, tmp_path / "out.gguf", format="f16")
    assert [file.name for file in tmp_path.iterdir()] == ["m"]


def test_a_file_is_replaced_only_when_asked_and_complete(tmp_path):
    source = write_model(tmp_path / "m", SMALL)
    out = tmp_path / "out.gguf"
    out.write_text("precious")
    with pytest.raises(GgufError, match="exists; replace it with --force"):
        export_gguf(source, out, format="f16")

    def interrupt(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_gguf(source, out, format="f16", force=True, on_progress=interrupt)
    assert out.read_text() == "precious"
    seen = []
    export_gguf(source, out, format="f16", force=True, on_progress=lambda *step: seen.append(step))
    assert GGUFReader(out).tensors
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    assert {file.name for file in tmp_path.iterdir()} == {"m", "out.gguf"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": 27}, "27 layers as one without q_lora_rank"),
        ({"n_group": 8, "topk_group": 2}, "groups of one"),
        ({"vocab_size": 280}, "the tokenizer has 288 ids"),
    ],
)
def test_what_llama_cpp_would_misread_is_refused(change, message, tmp_path):
    source = write_model(tmp_path / "m", replace(SMALL, **change))
    with pytest.raises(GgufError, match=message):
        export_gguf(source, tmp_path / "out.gguf", format="f16")
    assert not (tmp_path / "out.gguf").exists()


def test_the_command_says_what_it_wrote_and_what_llama_cpp_must_be_told(tmp_path):
    config = replace(SMALL, rope_scaling=YarnConfig(32.0))
    source = str(write_model(tmp_path / "m", config))
    out = str(tmp_path / "out.gguf")
    arguments = ["export", "gguf", source, out, "--format", "q8_0"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "start it with --yarn-beta-fast 1 --yarn-beta-slow 1" in result.output
    assert "in f16" in result.output
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2
    assert "out.gguf exists" in again.output
    forced = CliRunner().invoke(app, [*arguments, "--force", "--json"])
    said = json.loads(forced.stdout)
    assert said["nbytes"] == Path(out).stat().st_size
    nowhere = CliRunner().invoke(
        app, ["export", "gguf", str(tmp_path / "none"), out, "--format", "f16", "--force"]
    )
    assert nowhere.exit_code == 2
