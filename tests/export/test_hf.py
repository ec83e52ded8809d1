"""Exported directories: transformers loads them without remote code, and we load its own."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from openk2.export.hf import export_hf
from openk2.export.place import ExportError
from openk2.model import weights
from openk2.model.checkpoint import Checkpoint
from openk2.model.config import ConfigError, K2Config, YarnConfig
from openk2.model.safetensors_file import WeightsError
from openk2.model.transformer import Transformer

NANO = Path(__file__).parents[2] / "openk2" / "assets" / "nano"
TINY = K2Config(
    vocab_size=160,
    hidden_size=64,
    intermediate_size=96,
    moe_intermediate_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    n_routed_experts=8,
    num_experts_per_tok=2,
    q_lora_rank=24,
    kv_lora_rank=16,
    qk_nope_head_dim=8,
    qk_rope_head_dim=8,
    v_head_dim=12,
    max_position_embeddings=512,
    initializer_range=0.1,
    bos_token_id=0,
    eos_token_id=1,
)
SHAPES = {
    "plain": TINY,
    "no query latent": replace(TINY, q_lora_rank=None),
    "yarn 32": replace(TINY, rope_scaling=YarnConfig(32.0)),
    "yarn 64, betas 32/1, two shared": replace(
        TINY, n_shared_experts=2, rope_scaling=YarnConfig(64.0, beta_fast=32.0)
    ),
    "expert groups": replace(TINY, n_group=4, topk_group=2),
    "two dense layers, eps 1e-5": replace(TINY, first_k_dense_replace=2, rms_norm_eps=1e-5),
}
LARGEST_SHARD = 200_000
BF16_BOUND = 10 * 2**-8
"""Ten roundings of bfloat16 (2**-8 of a value each): a token passes some forty in three layers,
whose errors partly cancel. Measured: 1.4e-2 to 2.5e-2 of the largest logit."""


def source_of(config: K2Config, directory: Path, *, pinned: bool = False, dtype=None) -> Path:
    """Write a random model; `pinned` makes its router choose the same experts at any rounding."""
    torch.manual_seed(config.n_shared_experts)
    model = Transformer(config)
    for layer in model.layers[config.first_k_dense_replace :]:
        bias = layer.mlp.gate.e_score_correction_bias
        # Scores lie between 0 and 1: two apart, the bias alone decides.
        bias.copy_(torch.randperm(len(bias)) * 2.0) if pinned else bias.normal_(0, 0.1)
    weights.save(model, directory, dtype)
    return directory


def our_logits(directory: Path, ids: torch.Tensor, dtype=torch.float32) -> torch.Tensor:
    model = weights.load(directory, dtype)
    with torch.no_grad():
        return model.logits(model(ids).hidden_BTD).float()


def their_logits(directory: Path, ids: torch.Tensor, dtype=torch.float32) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()
    with torch.no_grad():
        return model(ids).logits.float()


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def stored(directory: Path) -> dict[str, torch.Tensor]:
    return {k: v for file in directory.glob("*.safetensors") for k, v in load_file(file).items()}


def assert_same_tensors(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert (a[name].dtype, a[name].shape) == (b[name].dtype, b[name].shape), name
        same = torch.equal(
            *(t.contiguous().flatten().view(torch.uint8) for t in (a[name], b[name]))
        )
        assert same, name


@pytest.mark.parity(
    format="FP32",
    direction="out",
    peer="transformers",
    claim="logits to 1e-5 of the largest, fp32, six shapes",
)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SHAPES)
def test_transformers_computes_the_same_logits_in_float32(name, tmp_path):
    source = source_of(SHAPES[name], tmp_path / "source")
    written = export_hf(
        source, tmp_path / "out", format="f32", shard_bytes=LARGEST_SHARD, with_tokenizer=False
    )
    assert len(written.files) > 1
    ids = torch.randint(0, 160, (2, 70))
    expected = our_logits(source, ids)
    assert relative_error(their_logits(tmp_path / "out", ids), expected) < 1e-5


@pytest.mark.parity(
    format="BF16",
    direction="out",
    peer="transformers",
    claim="logits to 1e-5 of the largest, computed in fp32; to 4e-2 in bf16, routing pinned",
)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SHAPES)
def test_transformers_computes_the_same_logits_from_bfloat16(name, tmp_path):
    source = source_of(SHAPES[name], tmp_path / "source", pinned=True)
    out = tmp_path / "out"
    export_hf(source, out, format="bf16", shard_bytes=LARGEST_SHARD, with_tokenizer=False)
    ids = torch.randint(0, 160, (2, 70))
    exact = our_logits(out, ids)
    assert relative_error(their_logits(out, ids), exact) < 1e-5
    theirs = their_logits(out, ids, torch.bfloat16)
    assert relative_error(theirs, exact) < BF16_BOUND
    assert relative_error(our_logits(out, ids, torch.bfloat16), theirs) < BF16_BOUND


@pytest.mark.filterwarnings("ignore")
def test_the_router_keeps_float32_on_disk_and_its_bias_in_transformers(tmp_path):
    out = tmp_path / "out"
    source = source_of(TINY, tmp_path / "source", dtype=torch.bfloat16)
    export_hf(source, out, format="bf16", with_tokenizer=False)
    gate = "model.layers.1.mlp.gate"
    for name in ("weight", "e_score_correction_bias"):
        assert stored(out)[f"{gate}.{name}"].dtype == torch.float32
    theirs = AutoModelForCausalLM.from_pretrained(out, dtype=torch.bfloat16)
    # transformers rounds the weight with the rest, multiplies in float32, and keeps the bias.
    assert theirs.get_parameter(f"{gate}.weight").dtype == torch.bfloat16
    assert theirs.get_buffer(f"{gate}.e_score_correction_bias").dtype == torch.float32


@pytest.mark.parity(
    format="BF16",
    direction="in",
    peer="transformers",
    claim="every tensor of save_pretrained bit for bit, sharded too; logits to 1e-5, fp32",
)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shard", ["100KB", "5GB"])
def test_a_directory_that_transformers_saved_opens(shard, tmp_path):
    source = source_of(TINY, tmp_path / "source", dtype=torch.bfloat16)
    theirs = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size=shard)
    assert (len(list((tmp_path / "theirs").glob("*.safetensors"))) > 1) == (shard == "100KB")
    checkpoint = Checkpoint(tmp_path / "theirs")
    checkpoint.check_complete()
    tensors = {name: checkpoint.tensor(name) for name in checkpoint.entries}
    assert_same_tensors(tensors, stored(tmp_path / "theirs"))
    rounded = {name: checkpoint.dense(name, torch.bfloat16) for name in tensors}
    expected = {name: t.to(torch.bfloat16) for name, t in stored(source).items()}
    assert_same_tensors(rounded, expected)
    ids = torch.randint(0, 160, (2, 70))
    assert (
        relative_error(our_logits(tmp_path / "theirs", ids), their_logits(tmp_path / "theirs", ids))
        < 1e-5
    )


@pytest.mark.parametrize("form", ["bf16", "fp8", "int4"])
def test_writing_again_changes_no_byte(form, tmp_path):
    source = source_of(TINY, tmp_path / "source")
    for format, at, then in ((form, "source", "a"), (form, "a", "b"), (None, "a", "c")):
        export_hf(tmp_path / at, tmp_path / then, format=format, with_tokenizer=False)
    assert source.exists()
    first = stored(tmp_path / "a")
    assert_same_tensors(stored(tmp_path / "b"), first)
    assert_same_tensors(stored(tmp_path / "c"), first)
    configs = [(tmp_path / at / "config.json").read_text() for at in "abc"]
    assert configs[0] == configs[1] == configs[2]


@pytest.mark.parametrize("form", ["fp8", "int4"])
@pytest.mark.parametrize("format", ["bf16", "f32", "f16"])
def test_quantised_weights_are_expanded(form, format, tmp_path):
    source_of(TINY, tmp_path / "source")
    export_hf(tmp_path / "source", tmp_path / "a", format=form, with_tokenizer=False)
    export_hf(tmp_path / "a", tmp_path / "b", format=format, with_tokenizer=False)
    checkpoint, expanded = Checkpoint(tmp_path / "a"), stored(tmp_path / "b")
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32, "f16": torch.float16}[format]
    for name, tensor in expanded.items():
        kept = torch.float32 if ".mlp.gate." in name else dtype
        assert tensor.dtype == kept, name
        assert torch.equal(tensor, checkpoint.dense(name, kept)), name
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["torch_dtype"] == str(dtype).removeprefix("torch.")


def test_a_kimi_k2_directory_becomes_one_that_transformers_knows(tmp_path):
    source = source_of(TINY, tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    extra = {"model_type": "kimi_k2", "auto_map": {"AutoConfig": "remote.Code"}}
    (source / "config.json").write_text(json.dumps({**config, **extra}))
    export_hf(source, tmp_path / "out", with_tokenizer=False)
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["model_type"] == "deepseek_v3"
    assert written["architectures"] == ["DeepseekV3ForCausalLM"]
    assert "auto_map" not in written


def test_the_index_names_the_shard_of_every_tensor(tmp_path):
    source = source_of(TINY, tmp_path / "source")
    out = tmp_path / "out"
    written = export_hf(source, out, shard_bytes=LARGEST_SHARD, with_tokenizer=False)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == written.nbytes
    assert sorted(set(index["weight_map"].values())) == sorted(written.files)
    for name, file in index["weight_map"].items():
        assert name in load_file(out / file)
    assert all((out / file).stat().st_size < LARGEST_SHARD + 20_000 for file in written.files)
    assert not list(out.glob("*.tmp"))
    Checkpoint(out).check_complete()


@pytest.mark.filterwarnings("ignore")
def test_the_shipped_model_is_exported_with_its_tokenizer_and_stops_at_the_end_of_a_turn(tmp_path):
    from openk2.text.tokenizer import Tokenizer

    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(NANO, source)
    # As published: an answer would go on after its turn.
    (source / "generation_config.json").write_text('{"temperature": 0.6, "eos_token_id": 8161}')
    progress: list[tuple[int, int]] = []
    written = export_hf(source, out, on_progress=lambda done, total: progress.append((done, total)))
    assert progress[-1] == (written.nbytes, written.nbytes)
    assert (out / "tokenizer.json").exists() and (out / "tiktoken.model").exists()
    tokenizer = Tokenizer.load(NANO)
    generation = GenerationConfig.from_pretrained(out)
    assert generation.eos_token_id == [tokenizer.im_end, tokenizer.eos]
    assert generation.temperature == 0.6
    config = json.loads((out / "config.json").read_text())
    ids = (tokenizer.bos, tokenizer.eos, tokenizer.pad)
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == ids
    assert_same_tensors(stored(out), stored(NANO))


@pytest.mark.parity(
    format="BF16",
    direction="out",
    peer="transformers",
    claim="the shipped model's greedy answers to the same tokens, each ended by its generate",
)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("question", ["Hello", "What is 2 + 3?"])
def test_transformers_talks_with_the_exported_model_as_we_do(question, tmp_path):
    export_hf(NANO, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt"
    )["input_ids"]
    answer = theirs.generate(prompt, max_new_tokens=40, do_sample=False)
    assert prompt.shape[1] + 2 < answer.shape[1] < prompt.shape[1] + 40
    assert tokenizer.decode(answer[0]).endswith("<|im_end|>")
    ours = weights.load(NANO)
    with torch.no_grad():
        chosen = ours.logits(ours(answer).hidden_BTD).argmax(-1)
    assert torch.equal(chosen[:, prompt.shape[1] - 1 : -1], answer[:, prompt.shape[1] :])


def test_a_source_without_a_tokenizer_says_which_file_is_missing(tmp_path):
    source = source_of(TINY, tmp_path / "source")
    with pytest.raises(ExportError, match=r"source/tiktoken\.model is missing.*--no-tokenizer"):
        export_hf(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_models_own_template_is_kept(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(NANO, source)
    export_hf(source, tmp_path / "ours")
    settings = json.loads((source / "tokenizer_config.json").read_text())
    (source / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": "old"}))
    export_hf(source, tmp_path / "old")
    (source / "chat_template.jinja").write_text("new")
    export_hf(source, tmp_path / "new")
    found = [(tmp_path / name / "chat_template.jinja").read_text() for name in ("old", "new")]
    assert found == ["old", "new"]
    assert "<|im_assistant|>" in (tmp_path / "ours" / "chat_template.jinja").read_text()
    assert AutoTokenizer.from_pretrained(tmp_path / "old").chat_template == "old"


def test_nothing_is_overwritten(tmp_path):
    source = source_of(TINY, tmp_path / "source")
    before = (source / "config.json").read_bytes()
    (tmp_path / "file").touch()
    for out in (source, tmp_path / "file"):
        with pytest.raises(ExportError, match="exists and is not empty"):
            export_hf(source, out, with_tokenizer=False)
    assert (source / "config.json").read_bytes() == before
    (tmp_path / "empty").mkdir()
    export_hf(source, tmp_path / "empty", with_tokenizer=False)


def changed(source: Path, name: str, tensor: torch.Tensor | None) -> None:
    tensors = stored(source)
    tensors.pop(name, None)
    save_file(
        {**tensors, **({} if tensor is None else {name: tensor})}, source / "model.safetensors"
    )


@pytest.mark.parametrize(
    ("format", "value"), [("f16", 1e5), ("fp8", torch.inf), ("int4", torch.nan), ("f16", torch.inf)]
)
def test_values_that_a_format_cannot_hold_are_named(format, value, tmp_path):
    source = source_of(TINY, tmp_path / "source")
    name = "model.layers.1.mlp.experts.3.up_proj.weight"
    changed(source, name, torch.full((32, 64), value))
    with pytest.raises(WeightsError, match=rf"{name} holds values that are not finite"):
        export_hf(source, tmp_path / "out", format=format, with_tokenizer=False)
    with pytest.raises(ConfigError):
        Checkpoint(tmp_path / "out")


def test_a_missing_tensor_is_named_before_anything_is_written(tmp_path):
    source = source_of(TINY, tmp_path / "source")
    changed(source, "model.norm.weight", None)
    with pytest.raises(WeightsError, match=r"model\.norm\.weight"):
        export_hf(source, tmp_path / "out", with_tokenizer=False)
    assert not (tmp_path / "out").exists()


def test_tensors_that_nobody_asks_for_are_left_out_and_reported(tmp_path):
    source = source_of(TINY, tmp_path / "source")
    changed(source, "model.layers.3.eh_proj.weight", torch.zeros(2))
    written = export_hf(source, tmp_path / "out", with_tokenizer=False)
    assert written.left_out == ("model.layers.3.eh_proj.weight",)
    assert "model.layers.3.eh_proj.weight" not in stored(tmp_path / "out")


def test_int4_needs_whole_groups(tmp_path):
    source = source_of(replace(TINY, moe_intermediate_size=40), tmp_path / "source")
    with pytest.raises(ExportError, match="40 inputs and INT4 needs a multiple of 32"):
        export_hf(source, tmp_path / "out", format="int4", with_tokenizer=False)
    assert not (tmp_path / "out").exists()


def test_a_source_in_two_number_formats_needs_a_choice(tmp_path):
    source = source_of(TINY, tmp_path / "source")
    for format in ("fp8", "int4"):
        export_hf(source, tmp_path / format, format=format, with_tokenizer=False)
    tensors = stored(tmp_path / "fp8")
    experts = {k: v for k, v in stored(tmp_path / "int4").items() if ".experts." in k}
    tensors = {k: v for k, v in tensors.items() if ".mlp.experts." not in k} | experts
    shutil.copytree(tmp_path / "fp8", tmp_path / "both")
    save_file(tensors, tmp_path / "both" / "model.safetensors")
    with pytest.raises(ExportError, match="choose a --format"):
        export_hf(tmp_path / "both", tmp_path / "out", with_tokenizer=False)
    export_hf(tmp_path / "both", tmp_path / "out", format="int4", with_tokenizer=False)
    kept = {k: v for k, v in stored(tmp_path / "out").items() if ".mlp.experts." in k}
    assert_same_tensors(kept, {k: v for k, v in experts.items() if ".mlp.experts." in k})
