"""INT4 experts against compressed-tensors, the library that defines their layout, both ways."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.pack_quantized import unpack_from_int32
from compressed_tensors.quantization import QuantizationConfig
from compressed_tensors.quantization.utils import calculate_qparams
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from openk2.export.hf import export_hf
from openk2.kernels import int4
from openk2.model import weights
from openk2.model.checkpoint import Checkpoint
from openk2.model.config import K2Config
from openk2.model.inspect import inspect as look
from openk2.model.mapped import map_model
from openk2.model.names import is_linear, published_shapes
from openk2.model.safetensors_file import WeightsError
from openk2.model.transformer import Transformer

TINY = K2Config(
    vocab_size=160,
    hidden_size=96,
    intermediate_size=64,
    moe_intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    n_routed_experts=4,
    num_experts_per_tok=2,
    q_lora_rank=24,
    kv_lora_rank=16,
    qk_nope_head_dim=8,
    qk_rope_head_dim=8,
    v_head_dim=12,
    max_position_embeddings=512,
    initializer_range=0.1,
)


def exported(root: Path) -> Path:
    torch.manual_seed(3)
    weights.save(Transformer(TINY), root / "source")
    export_hf(root / "source", root / "int4", format="int4", with_tokenizer=False)
    return root / "int4"


def their_scheme(directory: Path):
    config = json.loads((directory / "config.json").read_text())["quantization_config"]
    return QuantizationConfig.model_validate(config)


def packed_modules(tensors: dict[str, torch.Tensor]) -> list[str]:
    suffix = ".weight_packed"
    return [name.removesuffix(suffix) for name in tensors if name.endswith(suffix)]


def test_routed_experts_and_nothing_else_are_packed(tmp_path):
    tensors = load_file(exported(tmp_path) / "model.safetensors")
    modules = packed_modules(tensors)
    assert len(modules) == TINY.n_routed_experts * 3
    assert all(".mlp.experts." in module for module in modules)
    for module in modules:
        outputs, inputs = tensors[f"{module}.weight_shape"].tolist()
        assert tensors[f"{module}.weight_packed"].shape == (outputs, inputs // 8)
        assert tensors[f"{module}.weight_packed"].dtype == torch.int32
        assert tensors[f"{module}.weight_scale"].shape == (outputs, inputs // 32)
        assert tensors[f"{module}.weight_scale"].dtype == torch.bfloat16
    for name, tensor in tensors.items():
        if not any(name.startswith(f"{module}.") for module in modules):
            assert tensor.dtype == (torch.float32 if ".mlp.gate." in name else torch.bfloat16), name


@pytest.mark.parity(
    format="INT4",
    direction="out",
    peer="compressed-tensors",
    claim="every value that its pack-quantized decompressor gives, bit for bit",
)
def test_compressed_tensors_reads_every_packed_tensor_to_our_values(tmp_path):
    out = exported(tmp_path)
    config = their_scheme(out)
    scheme = config.config_groups["group_0"]
    decompressor = BaseCompressor.get_value_from_registry(config.format)
    checkpoint, tensors = Checkpoint(out), load_file(out / "model.safetensors")
    for module in packed_modules(tensors):
        parts = {
            name.removeprefix(f"{module}."): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{module}.")
        }
        theirs = decompressor.decompress(parts, scheme)["weight"]
        # It multiplies in the scales' type: our exact product, rounded once.
        assert theirs.dtype == torch.bfloat16
        assert torch.equal(checkpoint.dense(f"{module}.weight", torch.bfloat16), theirs)
        values = unpack_from_int32(parts["weight_packed"], 4, parts["weight_shape"])
        assert torch.equal(int4.unpack(parts["weight_packed"]), values)
        exact = values.double() * parts["weight_scale"].double().repeat_interleave(32, 1)
        assert torch.equal(checkpoint.dense(f"{module}.weight").double(), exact)


@pytest.mark.parity(
    format="INT4",
    direction="out",
    peer="transformers",
    claim="logits to 1e-5 of the largest, fp32, experts rounded to bfloat16 as it loads them",
)
@pytest.mark.filterwarnings("ignore")
def test_transformers_loads_the_directory_and_computes_our_logits(tmp_path):
    from transformers import AutoModelForCausalLM

    out = exported(tmp_path)
    export_hf(out, tmp_path / "bf16", format="bf16", with_tokenizer=False)
    theirs = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    experts = "model.layers.1.mlp.experts"
    # Expanded in the scales' type, whatever type is asked for; `float` makes the products exact.
    assert theirs.get_parameter(f"{experts}.down_proj").dtype == torch.bfloat16
    theirs.get_submodule(experts).float()
    ours = weights.load(tmp_path / "bf16")
    ids = torch.randint(0, 160, (2, 50))
    with torch.no_grad():
        expected = theirs(ids).logits
        logits = ours.logits(ours(ids).hidden_BTD)
    assert (logits - expected).abs().max() < 1e-5 * expected.abs().max()
    checkpoint = Checkpoint(out)
    for expert, down in enumerate(theirs.get_parameter(f"{experts}.down_proj")):
        stored = checkpoint.dense(f"{experts}.{expert}.down_proj.weight", torch.bfloat16)
        assert torch.equal(down, stored.float())


@pytest.mark.parity(
    format="INT4",
    direction="in",
    peer="compressed-tensors",
    claim="every value of a checkpoint quantised and packed by it, bit for bit",
)
@pytest.mark.parametrize("scale_dtype", [torch.bfloat16, torch.float32])
def test_a_checkpoint_that_compressed_tensors_packed_opens(scale_dtype, tmp_path):
    out = exported(tmp_path)
    config = their_scheme(out)
    scheme = config.config_groups["group_0"]
    compressor = BaseCompressor.get_value_from_registry(config.format)
    source = load_file(tmp_path / "source" / "model.safetensors")
    tensors, expected = {}, {}
    for name, weight in source.items():
        if ".mlp.experts." not in name:
            tensors[name] = weight
            continue
        groups = weight.view(weight.shape[0], -1, 32)
        scale, _ = calculate_qparams(groups.amin(-1), groups.amax(-1), scheme.weights)
        assert torch.allclose(scale, groups.abs().amax(-1) / 7.5)
        parts = {"weight": weight.to(scale_dtype), "weight_scale": scale.to(scale_dtype)}
        packed = compressor.compress(parts, scheme)
        expected[name] = compressor.decompress(packed, scheme)["weight"]
        prefix = name.removesuffix("weight")
        tensors |= {prefix + suffix: part for suffix, part in packed.items()}
    (tmp_path / "theirs").mkdir()
    save_file(tensors, tmp_path / "theirs" / "model.safetensors")
    (tmp_path / "theirs" / "config.json").write_text((out / "config.json").read_text())
    checkpoint = Checkpoint(tmp_path / "theirs")
    checkpoint.check_complete()
    lowest = min(int(int4.unpack(t).min()) for n, t in tensors.items() if n.endswith("_packed"))
    assert lowest == -8, "the value that our own quantiser never writes"
    for name, weight in expected.items():
        assert torch.equal(checkpoint.dense(name, scale_dtype), weight), name
    for format in (None, "int4"):
        out = tmp_path / f"again-{format}"
        export_hf(tmp_path / "theirs", out, format=format, with_tokenizer=False)
        again = load_file(out / "model.safetensors")
        assert again.keys() == tensors.keys()
        experts = [name for name in tensors if format is None or ".mlp.experts." in name]
        assert all(torch.equal(again[name], tensors[name]) for name in experts)


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 4))
def test_any_nibbles_are_unpacked_as_compressed_tensors_does(seed, rows, groups):
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(-(2**31), 2**31, (rows, groups * 4), generator=generator)
    packed = words.to(torch.int32)
    shape = torch.Size((rows, groups * 32))
    assert torch.equal(int4.unpack(packed), unpack_from_int32(packed, 4, shape))
    assert torch.equal(int4.pack(int4.unpack(packed)), packed)


def test_the_shape_that_a_source_leaves_out_is_written(tmp_path):
    out = exported(tmp_path)
    tensors = load_file(out / "model.safetensors")
    rest = {name: tensor for name, tensor in tensors.items() if not name.endswith("_shape")}
    save_file(rest, out / "model.safetensors")
    export_hf(out, tmp_path / "again", with_tokenizer=False)
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)


def test_matrices_packed_outside_of_the_experts_are_named_to_readers(tmp_path):
    out = exported(tmp_path)
    tensors = load_file(out / "model.safetensors")
    name = "model.layers.0.mlp.gate_proj.weight"
    packed, scale = int4.quantize(tensors.pop(name))
    tensors |= {f"{name}_packed": packed, f"{name}_scale": scale}
    save_file(tensors, out / "model.safetensors")
    export_hf(out, tmp_path / "again", with_tokenizer=False)
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    ignore = config["quantization_config"]["ignore"]
    assert "model.layers.0.mlp.up_proj" in ignore
    assert "model.layers.0.mlp.gate_proj" not in ignore
    assert [module for module in ignore if module.startswith("re:")] == [r"re:.*mlp\.gate$"]


def test_the_published_layout_is_described_as_it_is_published(tmp_path):
    config = json.loads((exported(tmp_path) / "config.json").read_text())
    quantization = config["quantization_config"]
    assert (quantization["quant_method"], quantization["format"]) == (
        "compressed-tensors",
        "pack-quantized",
    )
    assert quantization["ignore"] == [
        "lm_head",
        "re:.*self_attn.*",
        "re:.*shared_experts.*",
        r"re:.*mlp\.(gate|up|gate_up|down)_proj.*",
    ]
    group = quantization["config_groups"]["group_0"]
    expected = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group"}
    assert group["targets"] == ["Linear"]
    assert {key: group["weights"][key] for key in expected} == expected
    assert (group["weights"]["group_size"], group["weights"]["actorder"]) == (32, None)
    assert config["torch_dtype"] == "bfloat16"


# Every linear layer -----------------------------------------------------------------------------

WHOLE = replace(TINY, q_lora_rank=32, kv_lora_rank=32, v_head_dim=16)


def all_packed(root: Path) -> Path:
    torch.manual_seed(4)
    weights.save(Transformer(WHOLE), root / "source", torch.bfloat16)
    export_hf(root / "source", root / "int4", format="int4-all", with_tokenizer=False)
    return root / "int4"


def test_every_product_is_packed_and_nothing_else(tmp_path):
    out = all_packed(tmp_path)
    tensors = load_file(out / "model.safetensors")
    modules = {f"{module}.weight" for module in packed_modules(tensors)}
    linear = {name for name in published_shapes(WHOLE) if is_linear(name)}
    assert modules == linear | {"lm_head.weight"}
    floats = {name for name in tensors if ".weight_" not in name}
    assert floats == set(published_shapes(WHOLE)) - modules
    Checkpoint(out).check_complete()
    found = look(out, WHOLE.vocab_size)
    assert (found.loads, found.found, found.notes) == (True, "INT4", [])


@pytest.mark.parametrize("form", ["as stored", "int4-all"])
def test_a_directory_packed_throughout_is_copied_as_it_is(form, tmp_path):
    out = all_packed(tmp_path)
    format = None if form == "as stored" else form
    export_hf(out, tmp_path / "again", format=format, with_tokenizer=False)
    tensors, again = (load_file(d / "model.safetensors") for d in (out, tmp_path / "again"))
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)
    assert (tmp_path / "again" / "config.json").read_text() == (out / "config.json").read_text()


def test_packed_throughout_and_expanded_give_the_same_logits(tmp_path):
    out = all_packed(tmp_path)
    export_hf(out, tmp_path / "f32", format="f32", with_tokenizer=False)
    mapped, expanded = map_model(Checkpoint(out)), weights.load(tmp_path / "f32")
    ids = torch.randint(0, 160, (2, 20))
    with torch.no_grad():
        logits, expected = (m.logits(m(ids).hidden_BTD) for m in (mapped, expanded))
    assert torch.allclose(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("suffix", ["_scale", "_packed"])
def test_a_packed_head_that_is_not_whole_is_refused(suffix, tmp_path):
    out = all_packed(tmp_path)
    tensors = load_file(out / "model.safetensors")
    tensors[f"lm_head.weight{suffix}"] = tensors[f"lm_head.weight{suffix}"][:-1].contiguous()
    save_file(tensors, out / "model.safetensors")
    with pytest.raises(WeightsError, match=rf"lm_head\.weight{suffix} has shape \[159"):
        Checkpoint(out).check_complete()


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "model.layers.1.mlp.gate.weight"])
def test_a_packed_embedding_or_router_is_refused(name, tmp_path):
    out = all_packed(tmp_path)
    tensors = load_file(out / "model.safetensors")
    packed, scale = int4.quantize(tensors.pop(name))
    tensors |= {f"{name}_packed": packed, f"{name}_scale": scale}
    save_file(tensors, out / "model.safetensors")
    with pytest.raises(WeightsError, match=re.escape(name)):
        Checkpoint(out).check_complete()


def test_the_least_error_scales_are_what_is_written(tmp_path):
    source = all_packed(tmp_path).parent / "source"
    export_hf(source, tmp_path / "mse", format="int4", scales="mse", with_tokenizer=False)
    tensors = load_file(tmp_path / "mse" / "model.safetensors")
    plain = load_file(source / "model.safetensors")
    for module in packed_modules(tensors):
        packed, scale = int4.quantize(plain[f"{module}.weight"], scales="mse")
        assert torch.equal(tensors[f"{module}.weight_packed"], packed)
        assert torch.equal(tensors[f"{module}.weight_scale"], scale)


@pytest.mark.parity(
    format="INT4",
    direction="out",
    peer="transformers",
    claim="logits to 1e-5 of the largest, fp32, every linear layer and lm_head packed",
)
@pytest.mark.filterwarnings("ignore")
def test_transformers_loads_a_directory_that_is_packed_throughout(tmp_path):
    from transformers import AutoModelForCausalLM

    out = all_packed(tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    assert "lm_head.weight_packed" in dict(theirs.named_parameters())
    theirs.get_submodule("model.layers.1.mlp.experts").float()
    ours = weights.load(out)
    for name, parameter in ours.named_parameters():
        if ".experts_" in name:  # it expands these alone in the scales' type
            parameter.data = parameter.data.bfloat16().float()
    ids = torch.randint(0, 160, (2, 50))
    with torch.no_grad():
        expected = theirs(ids).logits
        logits = ours.logits(ours(ids).hidden_BTD)
    assert (logits - expected).abs().max() < 1e-5 * expected.abs().max()
