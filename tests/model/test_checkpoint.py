"""Opening model directories: the three stored forms, completeness, and the index."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from openk2.kernels import fp8, int4
from openk2.kernels.stored import FloatMatrix, Fp8Matrix, Int4Matrix, dense
from openk2.model.checkpoint import INDEX_FILE, Checkpoint, HeaderBudget, expected_parts
from openk2.model.config import ConfigError
from openk2.model.inspect import inspect
from openk2.model.mapped import map_model
from openk2.model.names import is_linear, is_routed_expert, published_shapes
from openk2.model.safetensors_file import WeightsError
from openk2.model.verify import check_scales, verify
from tests.model import sparse_checkpoint
from tests.model.sparse_checkpoint import SMALL

EXPERT = "model.layers.2.mlp.experts.1.gate_proj.weight"


def states(form: str) -> dict[str, torch.Tensor]:
    """Return random weights of the small shape, stored in `form`."""
    torch.manual_seed(0)
    state: dict[str, torch.Tensor] = {}
    for name, shape in published_shapes(SMALL).items():
        weight = torch.randn(shape)
        if form == "FP8" and is_linear(name):
            state[name], state[f"{name}_scale_inv"] = fp8.quantize(weight)
        elif form == "INT4" and is_routed_expert(name):
            state[f"{name}_packed"], state[f"{name}_scale"] = int4.quantize(weight)
            state[f"{name}_shape"] = torch.tensor(shape, dtype=torch.int32)
        else:
            state[name] = weight.bfloat16()
    return state


def write(directory: Path, form: str, state: dict[str, torch.Tensor]) -> Path:
    directory.mkdir(exist_ok=True)
    settings = {**SMALL.to_dict(), "quantization_config": sparse_checkpoint.DECLARED[form]}
    (directory / "config.json").write_text(json.dumps(settings))
    save_file(state, directory / "model.safetensors")
    return directory


@pytest.mark.parametrize("form", ["BF16", "FP8", "INT4"])
def test_each_form_is_complete_and_expands_to_what_was_stored(tmp_path, form):
    state = states(form)
    checkpoint = Checkpoint(write(tmp_path, form, state))
    checkpoint.check_complete()
    assert check_scales(checkpoint)
    matrix = checkpoint.matrix(EXPERT)
    kind = {"BF16": FloatMatrix, "FP8": Fp8Matrix, "INT4": Int4Matrix}[form]
    assert isinstance(matrix, kind) and matrix.shape == (32, 64)
    assert torch.equal(checkpoint.dense(EXPERT), dense(matrix))
    for suffix in ("", "_scale_inv", "_packed", "_scale", "_shape"):
        if EXPERT + suffix in state:
            assert EXPERT + suffix in checkpoint.parts(EXPERT)
            stored, found = state[EXPERT + suffix], checkpoint.tensor(EXPERT + suffix)
            assert torch.equal(stored.view(torch.uint8), found.view(torch.uint8))
    assert checkpoint.nbytes == sum(t.nbytes for t in state.values())


@pytest.mark.parametrize(
    ("form", "name", "value", "words"),
    [
        ("BF16", EXPERT, None, ["no tensor", EXPERT]),
        ("BF16", EXPERT, torch.zeros(32, 63), [EXPERT, "[32, 63]", "[32, 64]"]),
        ("BF16", EXPERT, torch.zeros(32, 64).int(), [EXPERT, "I32"]),
        ("BF16", "model.norm.weight", torch.zeros(64, 1), ["model.norm.weight", "[64, 1]"]),
        ("FP8", f"{EXPERT}_scale_inv", None, ["no tensor", f"{EXPERT}_scale_inv"]),
        ("FP8", f"{EXPERT}_scale_inv", torch.ones(2, 1), [f"{EXPERT}_scale_inv", "[1, 1]"]),
        ("FP8", f"{EXPERT}_scale_inv", torch.ones(1, 1).int(), ["_scale_inv", "I32"]),
        ("FP8", "lm_head.weight", torch.ones(64, 63).to(torch.float8_e4m3fn), ["lm_head.weight"]),
        ("INT4", f"{EXPERT}_scale", None, ["no tensor", f"{EXPERT}_scale"]),
        ("INT4", f"{EXPERT}_scale", torch.ones(32, 3), [f"{EXPERT}_scale", "[32, 2]"]),
        ("INT4", f"{EXPERT}_scale", torch.ones(32, 2).int(), [f"{EXPERT}_scale", "I32"]),
        ("INT4", f"{EXPERT}_packed", torch.ones(32, 8).long(), ["_packed", "I64"]),
        ("INT4", f"{EXPERT}_packed", torch.ones(32, 7).int(), ["_packed", "[32, 7]"]),
        ("INT4", f"{EXPERT}_shape", torch.ones(3).int(), [f"{EXPERT}_shape", "[2]"]),
    ],
)
def test_a_wrong_tensor_is_named_with_its_file(tmp_path, form, name, value, words):
    state = states(form)
    del state[name]
    if value is not None:
        state[name] = value
    checkpoint = Checkpoint(write(tmp_path, form, state))
    with pytest.raises(WeightsError) as caught:
        checkpoint.check_complete()
    assert str(tmp_path) in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    "name",
    ["model.embed_tokens.weight", "model.layers.1.mlp.gate.weight", "model.norm.weight"],
)
@pytest.mark.parametrize("form", ["FP8", "INT4"])
def test_what_no_product_reads_must_be_stored_as_plain_numbers(tmp_path, form, name):
    state = states(form)
    weight = state.pop(name).float()
    if form == "FP8":
        state[name] = weight.to(torch.float8_e4m3fn)
        state[f"{name}_scale_inv"] = torch.ones(1, 1)
    else:
        packed = int4.quantize(weight.view(-1, 32))
        state[f"{name}_packed"], state[f"{name}_scale"] = packed
    directory = write(tmp_path, form, state)
    with pytest.raises(WeightsError) as caught:
        Checkpoint(directory).check_complete()
    assert name in str(caught.value) and str(tmp_path) in str(caught.value)
    problems = inspect(directory, 64).problems
    assert any(name in problem or label(name) in problem for problem in problems)


def label(name: str) -> str:
    """Return how a report groups a missing tensor."""
    return "layer 1 gate" if "layers" in name else name


@pytest.mark.parametrize("form", ["FP8", "INT4"])
def test_the_head_may_be_quantised(tmp_path, form):
    state = states(form)
    name, weight = "lm_head.weight", state.pop("lm_head.weight").float()
    if form == "FP8":
        state[name], state[f"{name}_scale_inv"] = fp8.quantize(weight)
    else:
        state[f"{name}_packed"], state[f"{name}_scale"] = int4.quantize(weight)
    checkpoint = Checkpoint(write(tmp_path, form, state))
    checkpoint.check_complete()
    assert inspect(tmp_path, 64).loads
    error = (map_model(checkpoint).lm_head.weight - weight).abs().max()
    assert 0 < error < 0.5


def two_names_of_one_shard(directory: Path) -> None:
    sparse_checkpoint.write(directory, SMALL, "BF16", shards=2)
    first, second = sorted(directory.glob("*.safetensors"))
    second.unlink()
    second.symlink_to(first.name)


def test_a_shard_under_two_names_is_read_once_and_refused(tmp_path):
    two_names_of_one_shard(tmp_path)
    words = r"model-00002-of-000002\.safetensors is the same file as model-00001-of-000002"
    with pytest.raises(WeightsError, match=words):
        Checkpoint(tmp_path)
    assert any(re.search(words, problem) for problem in inspect(tmp_path, 64).problems)


def test_headers_that_are_too_large_together_are_refused_unread(tmp_path):
    sparse_checkpoint.write(tmp_path, SMALL, "BF16", shards=4)
    for path in sorted(tmp_path.glob("*.safetensors"))[1:]:
        with path.open("wb") as file:  # reading it would say that it is no JSON
            file.write((30_000_000).to_bytes(8, "little") + b"{")
            file.truncate(30_000_100)
    with pytest.raises(WeightsError, match="is not JSON"):
        Checkpoint(tmp_path)
    budget = HeaderBudget()
    for path in sorted(tmp_path.glob("*.safetensors"))[:3]:
        budget.take(path)
    with pytest.raises(WeightsError, match=r"model-00004-of-000004.*64,000,000 bytes"):
        budget.take(tmp_path / "model-00004-of-000004.safetensors")
    assert any("64,000,000 bytes" in problem for problem in inspect(tmp_path, 64).problems)


def test_int4_needs_whole_groups(tmp_path):
    config = replace(SMALL, hidden_size=48)
    sparse_checkpoint.write(tmp_path, config, "INT4")
    with pytest.raises(WeightsError, match="multiple of 32 inputs"):
        Checkpoint(tmp_path).check_complete()
    assert expected_parts({}, EXPERT, (1, 48))[EXPERT].shape == (1, 48)


def test_verify_compares_the_shape_that_a_matrix_says_it_has(tmp_path):
    state = states("INT4")
    checkpoint = Checkpoint(write(tmp_path / "good", "INT4", state))
    assert list(verify(checkpoint.entries)) == []
    state[f"{EXPERT}_shape"] = torch.tensor([64, 32], dtype=torch.int32)
    checkpoint = Checkpoint(write(tmp_path / "bad", "INT4", state))
    checkpoint.check_complete()
    (finding,) = verify(checkpoint.entries)
    assert f"{EXPERT}_shape says [64, 32], its packed weight is [32, 64]" in str(finding)


def test_a_missing_shape_tensor_is_forgiven(tmp_path):
    state = {n: t for n, t in states("INT4").items() if not n.endswith("_shape")}
    Checkpoint(write(tmp_path, "INT4", state)).check_complete()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("form", ["FP8", "INT4"])
def test_a_scale_that_is_no_number_is_refused_by_name(tmp_path, form, value):
    state = states(form)
    name = f"{EXPERT}_scale_inv" if form == "FP8" else f"{EXPERT}_scale"
    state[name].view(-1)[-1] = value
    checkpoint = Checkpoint(write(tmp_path, form, state))
    with pytest.raises(WeightsError, match=name) as caught:
        check_scales(checkpoint)
    assert "model.safetensors" in str(caught.value)
    assert not check_scales(checkpoint, limit=100), "too many to read eagerly"


def test_shards_may_be_links_out_of_the_directory(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    write(blobs, "BF16", states("BF16"))
    for number, path in enumerate(sorted(blobs.iterdir())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(number))
    Checkpoint(snapshot).check_complete()


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    state = states("BF16")
    write(tmp_path, "BF16", state)
    (tmp_path / "model.safetensors").rename(tmp_path / "a.safetensors")
    shutil.copy(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    places = {name: "ab"[n % 2] + ".safetensors" for n, name in enumerate(state)}
    (tmp_path / INDEX_FILE).write_text(json.dumps({"weight_map": places}))
    with pytest.raises(WeightsError, match=r"a\.safetensors holds .* in b\.safetensors"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "no model.safetensors"),
        (["pytorch_model.bin"], "only pickle files"),
        (["consolidated.00.pth", "tokenizer.json"], "only pickle files"),
        (["model-00001-of-000002.safetensors"], "shards without their"),
    ],
)
def test_a_directory_without_weights_says_what_it_has_instead(tmp_path, files, words):
    (tmp_path / "config.json").write_text(json.dumps(SMALL.to_dict()))
    for file in files:
        (tmp_path / file).touch()
    with pytest.raises(WeightsError, match=words):
        Checkpoint(tmp_path)


def test_another_stored_form_is_refused_when_the_directory_is_opened(tmp_path):
    settings = {**SMALL.to_dict(), "quantization_config": {"quant_method": "gptq"}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=r"config\.json: .*'gptq' is not read"):
        Checkpoint(tmp_path)
