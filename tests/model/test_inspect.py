"""What `openk2 inspect` says of complete, incomplete and odd directories."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from openk2.cli import app
from openk2.model import inspection_text
from openk2.model.config import K2Config, YarnConfig
from openk2.model.inspect import grouped, inspect, ranges
from openk2.model.safetensors_file import read_header
from openk2.model.verify import verify
from tests.model import sparse_checkpoint
from tests.model.sparse_checkpoint import SMALL

K2 = K2Config(rope_scaling=YarnConfig(32.0))
THINKING = K2Config(
    rope_scaling=YarnConfig(64.0), max_position_embeddings=262144, rms_norm_eps=1e-5
)
SHARD = "model-{:05d}-of-000004.safetensors"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    sparse_checkpoint.write(tmp_path, SMALL, "FP8", shards=4)
    return tmp_path


def edit(directory: Path, shard: int, change) -> None:
    """Change a shard's tensors and leave the index as it is."""
    path = directory / SHARD.format(shard)
    length = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + length])
    tensors = {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}
    change(tensors)
    sparse_checkpoint.write_shard(path, tensors)


def drop(directory: Path, unwanted) -> None:
    """Remove tensors from the shards and from the index."""
    path = directory / "model.safetensors.index.json"
    weight_map = json.loads(path.read_text())["weight_map"]
    for shard in range(1, 5):
        edit(directory, shard, lambda t: [t.pop(n) for n in list(t) if unwanted(n)])
    kept = {name: file for name, file in weight_map.items() if not unwanted(name)}
    path.write_text(json.dumps({"weight_map": kept}))


@pytest.mark.parametrize(
    ("config", "form", "shards", "tensors", "nbytes", "context_bytes"),
    [
        (K2, "FP8", 61, 139_583, 1_028.9e9, 9_210_691_584),
        pytest.param(
            *(THINKING, "INT4", 62, 208_215, 594e9, 18_421_383_168), marks=pytest.mark.slow
        ),
    ],
)
def test_the_published_layouts_add_up(
    tmp_path, config, form, shards, tensors, nbytes, context_bytes
):
    assert len(sparse_checkpoint.write(tmp_path, config, form, shards)) == tensors
    it = inspect(tmp_path, 163_840)
    assert it.problems == [] and it.notes == []
    assert it.parameters == 1_026_408_232_448
    assert it.active_parameters == pytest.approx(32.86e9, rel=1e-4)
    assert inspection_text.total_bytes(it) == pytest.approx(nbytes, rel=0.01)
    assert it.cache_bytes_per_token == 70_272
    assert it.cache_bytes_per_token * config.max_position_embeddings == context_bytes
    assert (it.shards, it.found, it.declared) == (shards, form, form)
    routed = sum(it.bytes["routed experts"].values())
    assert routed / inspection_text.total_bytes(it) > 0.95
    assert it.bytes["embedding"] == it.bytes["head"] == {"BF16": 2 * 163840 * 7168}
    if form == "INT4":
        assert it.bytes["routed experts"]["INT4 packed"] == 60 * 384 * 44_040_192 // 2
        assert set(it.bytes["attention"]) == {"BF16"}
    else:
        scales = 60 * 384 * 3 * (2048 // 128) * (7168 // 128) * 4
        assert it.bytes["routed experts"]["FP8 scales"] == scales


def test_an_incomplete_download_says_what_is_missing(small):
    whole = inspect(small, 64)
    assert whole.loads and whole.missing_bytes == 0
    for shard in (2, 4):
        (small / SHARD.format(shard)).unlink()
    it = inspect(small, 64)
    assert it.missing_files == [SHARD.format(2), SHARD.format(4)]
    present = inspection_text.total_bytes(it)
    assert it.missing_bytes == inspection_text.total_bytes(whole) - present > 0
    (problem,) = it.problems
    assert problem.startswith("2 files are missing") and SHARD.format(4) in problem


@pytest.mark.parametrize("form", ["BF16", "FP8", "INT4"])
def test_missing_bytes_are_estimated_where_the_index_gives_no_total(tmp_path, form):
    sparse_checkpoint.write(tmp_path, SMALL, form, shards=4)
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": json.loads(path.read_text())["weight_map"]}))
    whole = inspection_text.total_bytes(inspect(tmp_path, 64))
    (tmp_path / SHARD.format(3)).unlink()
    it = inspect(tmp_path, 64)
    missing = whole - inspection_text.total_bytes(it)
    assert it.missing_bytes == pytest.approx(missing, rel=0.05)


def test_a_shard_that_is_cut_short_is_said_with_the_bytes_it_lacks(small):
    path = small / SHARD.format(2)
    path.write_bytes(path.read_bytes()[:-1000])
    it = inspect(small, 64)
    assert it.missing_bytes == 1000
    (problem,) = it.problems
    assert SHARD.format(2) in problem and "copy or download it again" in problem


def test_what_the_index_does_not_name_is_not_used(small):
    path = small / "model.safetensors.index.json"
    values = json.loads(path.read_text())
    values["weight_map"].pop("model.norm.weight")
    path.write_text(json.dumps(values))
    it = inspect(small, 64)
    assert it.problems == ["model.norm.weight missing"]
    assert "the index does not name" in it.notes[0] and "model.norm.weight" in it.notes[0]


def test_a_lost_index_is_said_and_the_numbering_names_the_lost_shards(small):
    (small / "model.safetensors.index.json").unlink()
    (small / SHARD.format(3)).unlink()
    it = inspect(small, 64)
    assert it.missing_files == [SHARD.format(3)]
    assert any("without their model.safetensors.index.json" in p for p in it.problems)


def test_missing_tensors_are_grouped_by_layer_and_expert(small):
    drop(small, lambda name: ".experts." in name and "down_proj" in name)
    it = inspect(small, 64)
    assert it.problems == ["layers 1-3 experts.*.down_proj missing (9 tensors)"]


def test_missing_scales_are_grouped_apart(small):
    drop(small, lambda name: "layers.2.self_attn.o_proj.weight_scale_inv" in name)
    assert inspect(small, 64).problems == ["layer 2 self_attn.o_proj.weight_scale_inv missing"]


def test_a_wrong_shape_names_file_and_tensor_once_for_all_alike(small):
    def halve(tensors):
        for name, (dtype, shape) in tensors.items():
            if ".experts." in name and name.endswith("up_proj.weight"):
                tensors[name] = (dtype, (shape[0] // 2, shape[1]))

    edit(small, 3, halve)
    (problem,) = inspect(small, 64).problems
    assert SHARD.format(3) in problem and "[16, 64]" in problem and "2 others of layer 2" in problem


def test_extra_tensors_are_told_from_known_ones(small):
    extra = {
        "model.layers.4.eh_proj.weight": ("BF16", (64, 128)),
        "model.layers.0.self_attn.rotary_emb.inv_freq": ("F32", (4,)),
        "model.layers.2.adapter.weight": ("F32", (4,)),
        "bell\x07": ("F32", (4,)),
    }
    edit(small, 4, lambda tensors: tensors.update(extra))
    path = small / "model.safetensors.index.json"
    weight_map = json.loads(path.read_text())["weight_map"]
    weight_map |= dict.fromkeys(extra, SHARD.format(4))
    path.write_text(json.dumps({"weight_map": weight_map}))
    it = inspect(small, 64)
    assert it.loads
    assert sum("layer 4 predicts a second token" in note for note in it.notes) == 1
    assert any("layer 2 adapter (1 tensor)" in note for note in it.notes)
    assert any(r"'bell\x07'" in note for note in it.notes)
    assert not any("inv_freq" in note for note in it.notes)


@pytest.mark.parametrize(("declared", "stored"), [("FP8", "BF16"), ("BF16", "INT4")])
def test_a_format_other_than_declared_is_said(tmp_path, declared, stored):
    sparse_checkpoint.write(tmp_path, SMALL, stored)
    path = tmp_path / "config.json"
    settings = json.loads(path.read_text())
    settings["quantization_config"] = sparse_checkpoint.DECLARED[declared]
    path.write_text(json.dumps(settings))
    (note,) = inspect(tmp_path, 64).notes
    assert note.startswith(f"config.json declares {declared}, but the tensors are ")
    assert stored in note


def test_the_tokenizer_must_fit_the_vocabulary(small):
    assert inspect(small, 64).loads
    for size in (63, 65):
        (problem,) = inspect(small, size).problems
        assert f"the tokenizer has {size} tokens" in problem and "different models" in problem
    assert inspect(small, "there is none").problems == ["there is none"]


@pytest.mark.parametrize("name", ["[EOS]", "<|im_end|>", "<|im_middle|>", "<|im_system|>"])
def test_a_tokenizer_that_serving_could_not_use_is_a_problem(nano, name):
    path = nano / "tokenizer_config.json"
    path.write_text(path.read_text("utf-8").replace(f'"content": "{name}"', '"content": "x"'))
    looked = CliRunner().invoke(app, ["inspect", str(nano)])
    assert looked.exit_code == 1 and f"names no {name} token" in looked.stdout
    served = CliRunner().invoke(app, ["chat", "--model", str(nano)], input="")
    assert served.exit_code == 2 and f"names no {name} token" in served.stderr


@pytest.mark.parametrize("file", ["tiktoken.model", "tokenizer_config.json"])
def test_a_pipe_for_a_tokenizer_file_is_a_problem_at_once(nano, file):
    (nano / file).unlink()
    os.mkfifo(nano / file)
    looked = CliRunner().invoke(app, ["inspect", str(nano)])
    assert looked.exit_code == 1 and f"{file} is not a regular file" in looked.stdout


def test_pickles_and_code_are_listed_and_never_opened(small):
    (small / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    (small / "modeling_kimi.py").write_text("raise SystemExit")
    for path in small.glob("*.??*"):
        if path.suffix in (".bin", ".py"):
            path.chmod(0)
    it = inspect(small, 64)
    assert it.loads
    assert list(it.ignored.values()) == [["pytorch_model.bin"], ["modeling_kimi.py"]]


def test_ranges_and_groups_stay_short():
    assert ranges([3]) == "layer 3"
    assert ranges([4, 1, 2, 3, 7]) == "layers 1-4, 7"
    assert len(ranges(range(0, 10_000, 2))) < 200
    groups = grouped(f"odd.{number}" for number in range(100_000))
    assert len(groups) <= 21 and sum(map(len, groups.values())) == 100_000


@pytest.fixture
def nano(tmp_path) -> Path:
    from openk2.cli import SHIPPED_MODEL

    shutil.copytree(SHIPPED_MODEL, tmp_path / "nano")
    return tmp_path / "nano"


def spoil(directory: Path, name: str, value: float) -> None:
    state = load_file(directory / "model.safetensors")
    state[name].view(-1)[-1] = value
    save_file(state, directory / "model.safetensors")


@pytest.mark.parametrize(("value", "words"), [(float("nan"), "NaN"), (float("-inf"), "infinite")])
def test_verify_names_the_tensor_that_is_no_number(nano, value, words):
    spoil(nano, "model.layers.3.mlp.shared_experts.up_proj.weight", value)
    read: list[int] = []
    it = inspect(nano, 8192)
    (finding,) = verify(it.entries, read.append)
    assert finding.is_refused and words in str(finding)
    assert "model.layers.3.mlp.shared_experts.up_proj.weight" in str(finding)
    assert "model.safetensors" in str(finding)
    assert sum(read) == sum(entry.nbytes for entry in it.entries.values())


@pytest.mark.parametrize("code", [0x7F, 0xFF, 0x7E, 0xFE])
def test_verify_knows_the_codes_of_fp8(tmp_path, code):
    weight = torch.full((3, 5), 0x7E, dtype=torch.uint8)
    weight[2, 4] = code
    save_file({"w.weight": weight.view(torch.float8_e4m3fn)}, tmp_path / "model.safetensors")
    entries = read(tmp_path)
    assert [f.is_refused for f in verify(entries)] == ([True] if code & 0x7F == 0x7F else [])


@pytest.mark.parametrize(("value", "refused"), [(0.0, False), (-1.0, False), (float("inf"), True)])
def test_verify_suspects_scales_that_are_not_positive(tmp_path, value, refused):
    scale = torch.ones(4, 4)
    scale[1, 1] = value
    save_file({"w.weight_scale_inv": scale}, tmp_path / "model.safetensors")
    (finding,) = verify(read(tmp_path))
    assert finding.is_refused is refused


def test_verify_says_that_a_file_ends_too_early(nano):
    it = inspect(nano, 8192)
    last = max(it.entries, key=lambda name: it.entries[name].begin)
    path = nano / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    (finding,) = verify(it.entries)
    assert finding.tensor == last
    assert finding.is_refused and "ends too early" in str(finding)


def read(directory: Path):
    return read_header(directory / "model.safetensors")


def test_the_command_ends_with_zero_only_for_what_loads(nano, small):
    run = CliRunner().invoke
    good = run(app, ["inspect", str(nano), "--verify"])
    assert good.exit_code == 0 and "would load" in good.stdout
    assert "22,008,352" in good.stdout
    bad = run(app, ["inspect", str(small)])
    assert bad.exit_code == 1 and "no tiktoken.model" in bad.stdout
    none = run(app, ["inspect", str(small / "nothing")])
    assert none.exit_code == 1 and "no directory here" in none.stderr
    (nano / "model.safetensors").unlink()
    (nano / "pytorch_model.bin").touch()
    pickled = run(app, ["inspect", str(nano)])
    assert pickled.exit_code == 1 and "only pickle files" in pickled.stdout


def test_json_has_everything_that_the_text_has(nano):
    spoil(nano, "lm_head.weight", float("nan"))
    done = CliRunner().invoke(app, ["inspect", str(nano), "--json", "--verify"])
    values = json.loads(done.stdout)
    assert done.exit_code == 1 and values["loads"] is False
    assert "lm_head.weight holds NaN" in values["problems"][0]
    assert values["parameters"] == 22_008_352 and values["tokenizer"] == 8192
    assert values["cache_bytes_full_context"] == 960 * 4096
    assert sum(values["bytes"]["router"].values()) == values["bytes"]["router"]["F32"]


def test_a_model_of_two_dense_layers_has_no_idle_experts(tmp_path):
    config = replace(SMALL, first_k_dense_replace=SMALL.num_hidden_layers)
    sparse_checkpoint.write(tmp_path, config, "BF16")
    it = inspect(tmp_path, 64)
    assert it.loads and it.active_parameters == it.parameters
