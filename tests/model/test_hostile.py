"""Directories made to do harm: refused in one sentence, at once, without memory or side effects."""

from __future__ import annotations

import copy
import json
import os
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.model.checkpoint import INDEX_FILE, Checkpoint, read_config
from openk2.model.config import ConfigError
from openk2.model.inspect import inspect
from openk2.model.inspection_text import lines, plain
from openk2.model.safetensors_file import WeightsError
from openk2.model.verify import check_scales
from tests.model import sparse_checkpoint
from tests.model.sparse_checkpoint import SMALL
from tests.model.test_formats import ANY_JSON

FIRST = "model-00001-of-000002.safetensors"
SHARD = "model-00002-of-000002.safetensors"
NUMBERS = (
    *(-1, 0, 1, 2**16, 2**31, 10**9, 2**63, 10**12, 10**400),
    *(0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), float("-inf")),
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    sparse_checkpoint.write(tmp_path, SMALL, "FP8", shards=2)
    return tmp_path


def open_all(directory: Path) -> None:
    checkpoint = Checkpoint(directory)
    checkpoint.check_complete()
    check_scales(checkpoint)


def refusal(directory: Path) -> str:
    """Open a directory that must be refused; return the one sentence, reached without memory."""
    tracemalloc.start()
    try:
        with pytest.raises((ConfigError, WeightsError)) as caught:
            open_all(directory)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.isprintable() and len(message) < 1000
    look(directory)
    return message


def look(directory: Path) -> None:
    """Inspect a directory: whatever is in it, that ends in a report or in a refusal by name."""
    try:
        it = inspect(directory, 64)
    except ConfigError:
        return
    json.dumps(plain(it))
    assert len(list(lines(it))) < 200


def settings(directory: Path, **values: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def index(directory: Path, change) -> None:
    path = directory / INDEX_FILE
    values = json.loads(path.read_text())
    change(values["weight_map"])
    path.write_text(json.dumps(values))


def test_the_model_that_the_others_are_made_from_is_good(model):
    open_all(model)
    assert inspect(model, 64).loads


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"hidden_size": 10**9}, ["config.json: hidden_size"]),
        ({"hidden_size": 2**17}, [FIRST, "model.embed_tokens.weight", "131072"]),
        ({"intermediate_size": 10**9}, ["config.json: intermediate_size"]),
        ({"moe_intermediate_size": 10**9}, ["config.json: moe_intermediate_size"]),
        ({"vocab_size": 10**12}, ["config.json: vocab_size"]),
        ({"vocab_size": 2**24}, [FIRST, "model.embed_tokens.weight", "16777216"]),
        ({"num_hidden_layers": 10**6}, ["config.json: num_hidden_layers"]),
        ({"num_hidden_layers": 2**12}, ["143 tensors", "config.json asks for more"]),
        ({"n_routed_experts": 10**9}, ["config.json: n_routed_experts"]),
        ({"n_routed_experts": 2**14}, ["143 tensors", "config.json asks for more"]),
        (
            {"num_hidden_layers": 2**10, "n_routed_experts": 2**10},
            ["config.json: num_hidden_layers times n_routed_experts"],
        ),
        ({"n_shared_experts": 10**9}, ["config.json: n_shared_experts"]),
        ({"num_attention_heads": 10**9}, ["config.json: num_attention_heads"]),
        ({"kv_lora_rank": 10**9}, ["config.json: kv_lora_rank"]),
        ({"q_lora_rank": 10**9}, ["config.json: q_lora_rank"]),
        ({"qk_rope_head_dim": 10**9}, ["config.json: qk_rope_head_dim"]),
        ({"max_position_embeddings": 10**12}, ["config.json: max_position_embeddings"]),
        ({"num_experts_per_tok": 10**9}, ["config.json: num_experts_per_tok"]),
        ({"n_group": 10**9}, ["config.json: n_group"]),
        ({"rope_theta": 10**400}, ["config.json: rope_theta"]),
        ({"rms_norm_eps": float("nan")}, ["config.json: rms_norm_eps"]),
        ({"rms_norm_eps": -1.0}, ["config.json: rms_norm_eps"]),
        ({"rope_theta": float("inf")}, ["config.json: rope_theta"]),
        ({"rope_theta": 0.0}, ["config.json: rope_theta"]),
        ({"routed_scaling_factor": float("nan")}, ["config.json: routed_scaling_factor"]),
        ({"hidden_size": True}, ["config.json: hidden_size"]),
        ({"hidden_size": "64"}, ["config.json: hidden_size"]),
        ({"hidden_size": 64.0}, ["config.json: hidden_size"]),
        ({"hidden_size": None}, ["config.json: hidden_size"]),
        ({"norm_topk_prob": 1}, ["config.json: norm_topk_prob"]),
        (
            {"rope_scaling": {"type": "yarn", "factor": float("nan")}},
            ["config.json: rope_scaling.factor"],
        ),
        ({"rope_scaling": {"type": "yarn", "factor": 0}}, ["config.json: rope_scaling.factor"]),
        ({"rope_scaling": {"type": "yarn"}}, ["config.json: rope_scaling", "no factor"]),
        (
            {"rope_scaling": {"type": "yarn", "factor": 2, "original_max_position_embeddings": 0}},
            ["config.json: rope_scaling.original_max_position_embeddings"],
        ),
        (
            {"rope_scaling": {"type": "yarn", "factor": 2, "beta_fast": -1}},
            ["config.json: rope_scaling.beta_fast"],
        ),
        ({"rope_scaling": {"type": ["yarn"], "factor": 2}}, ["config.json: rope_scaling"]),
        ({"model_type": {"a": 1}}, ["config.json: model_type"]),
        ({"model_type": "x" * 100_000}, ["config.json: model_type"]),
    ],
    ids=lambda case: (
        ",".join(f"{k}={str(v)[:20]}" for k, v in case.items()) if isinstance(case, dict) else ""
    ),
)
def test_an_absurd_configuration_is_refused_before_it_costs_anything(model, values, words):
    settings(model, **values)
    message = refusal(model)
    assert str(model) in message and all(word in message for word in words), message


@pytest.mark.parametrize("name", ["config.json", INDEX_FILE, SHARD])
@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "folder", "unreadable"])
def test_what_is_no_regular_file_is_refused_at_once(model, name, kind):
    path = model / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch(mode=0)
        if os.access(path, os.R_OK):
            pytest.skip("this user reads everything")
    assert name in refusal(model)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "7", "null", "{", '{"a": ', '"x"', "[" * 200_000, '{"a":' * 200_000),
        *('{"hidden_size": 64, "hidden_size": 64}', '{"a": ' + "9" * 10_000 + "}", "\ufeff{}"),
    ],
    ids=lambda text: repr(text[:8]),
)
@pytest.mark.parametrize("name", ["config.json", INDEX_FILE])
def test_json_that_is_none_is_refused(model, name, text):
    (model / name).write_text(text)
    assert name in refusal(model)


@pytest.mark.parametrize("name", ["config.json", INDEX_FILE])
def test_a_huge_file_is_refused_by_its_size(model, name):
    os.truncate(model / name, 2**30)
    assert "larger than" in refusal(model)


def test_an_index_of_millions_is_refused_before_it_is_parsed(model):
    entry = b'"%d":"a",' % 7
    (model / INDEX_FILE).write_bytes(b'{"weight_map":{' + entry * 4_100_000 + b'"z":"a"}}')
    with pytest.raises(WeightsError, match="more than 4,000,000 values"):
        Checkpoint(model)


def test_an_index_of_many_lost_files_is_not_compared_with_itself(model):
    index(model, lambda places: places.update({f"t{n}": f"{n}.safetensors" for n in range(50_000)}))
    it = inspect(model, 64)
    assert len(it.missing_files) == 50_000
    assert any("50,000 files are missing" in problem for problem in it.problems)


@pytest.mark.parametrize(
    "file",
    [
        "../x.safetensors",
        "/etc/x.safetensors",
        "sub/x.safetensors",
        "..",
        "",
        ".",
        "x.bin",
        "x\0.safetensors",
        "x\n.safetensors",
        "\udc80.safetensors",
        "x" * 300 + ".safetensors",
        None,
        7,
        ["x.safetensors"],
        {"x": 1},
    ],
)
def test_an_index_names_files_beside_it_and_nothing_else(model, file):
    index(model, lambda places: places.update({"lm_head.weight": file}))
    message = refusal(model)
    assert INDEX_FILE in message and "lm_head.weight" in message


def test_an_index_that_names_a_lost_file_or_a_wrong_one_is_refused(model):
    index(model, lambda places: places.update({"lm_head.weight": "lost.safetensors"}))
    assert "lost.safetensors" in refusal(model)
    index(model, lambda places: places.update({"lm_head.weight": FIRST}))
    message = refusal(model)
    assert "lm_head.weight" in message and SHARD in message
    index(model, lambda places: places.pop("lm_head.weight"))
    assert "lm_head.weight" in refusal(model)
    index(model, lambda places: places.update({"ghost": SHARD, "lm_head.weight": SHARD}))
    message = refusal(model)
    assert "ghost" in message and SHARD in message


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "\udc80", "n" * 100_000])
def test_names_in_messages_cannot_write_on_the_terminal(model, name):
    index(model, lambda places: places.update({name: SHARD}))
    message = refusal(model)
    assert message.isprintable() and len(message) < 1000


def test_what_is_no_directory_is_refused(model, tmp_path):
    for path in (model / "config.json", model / "nothing", model / ("n" * 300), Path("nul\0")):
        assert "no directory" in refusal(path)
    (model / "empty").mkdir()
    assert "no config.json" in refusal(model / "empty")


def test_remote_code_is_never_imported(model):
    proof = model / "proof"
    code = f"from pathlib import Path\nPath({str(proof)!r}).touch()\n"
    for name in ("modeling_deepseek.py", "configuration_deepseek.py", "tokenization_kimi.py"):
        (model / name).write_text(code)
    auto = {"AutoModelForCausalLM": "modeling_deepseek.DeepseekV3ForCausalLM"}
    settings(model, auto_map={**auto, "AutoConfig": "configuration_deepseek.DeepseekV3Config"})
    open_all(model)
    assert "never imported" in inspect(model, 64).notes[0]
    assert not proof.exists()
    assert not {"modeling_deepseek", "configuration_deepseek"} & set(sys.modules)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Return the path of every value in a JSON tree."""
    found = [path] if path else []
    children = value.items() if isinstance(value, dict) else ()
    return found + [deeper for key, child in children for deeper in places(child, (*path, key))]


def put(tree: Any, path: tuple, value: object) -> None:
    for key in path[:-1]:
        tree = tree.get(key)
        if not isinstance(tree, dict):
            return  # an earlier change replaced it
    tree[path[-1]] = value


@given(st.data())
def test_random_configurations_are_used_or_refused(tmp_path_factory, data):
    directory = tmp_path_factory.mktemp("model")
    sparse_checkpoint.write(directory, SMALL, "INT4")
    path = directory / "config.json"
    values = json.loads(path.read_text())
    values["rope_scaling"] = {"type": "yarn", "factor": 2.0, "beta_fast": 1.0}
    all_places = places(values)
    for _ in range(data.draw(st.integers(1, 3))):
        value = data.draw(st.sampled_from(NUMBERS) | ANY_JSON)
        put(values, data.draw(st.sampled_from(all_places)), value)
    path.write_text(json.dumps(values))
    try:
        config, _ = read_config(directory)
        assert config.softmax_scale >= 0
        if config.num_hidden_layers * config.n_routed_experts < 1000:
            open_all(directory)
    except (ConfigError, WeightsError) as error:
        assert len(str(error)) < 1000
    else:
        look(directory)


@given(st.data())
def test_random_headers_and_indexes_are_used_or_refused(tmp_path_factory, data):
    directory = tmp_path_factory.mktemp("model")
    sparse_checkpoint.write(directory, SMALL, "FP8")
    (shard,) = directory.glob("*.safetensors")
    whole = shard.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    trees = {
        "header": json.loads(whole[8 : 8 + length]),
        "index": json.loads((directory / INDEX_FILE).read_text()),
    }
    for _ in range(data.draw(st.integers(1, 3))):
        tree = trees[data.draw(st.sampled_from(["header", "index"]))]
        place = data.draw(st.sampled_from(places(tree)))
        put(tree, place, data.draw(st.sampled_from(NUMBERS) | ANY_JSON))
    header = json.dumps(trees["header"]).encode()
    shard.write_bytes(len(header).to_bytes(8, "little") + header + whole[8 + length :])
    (directory / INDEX_FILE).write_text(json.dumps(trees["index"]))
    opened = True
    try:
        open_all(directory)
    except WeightsError as error:
        opened = False
        assert str(directory) in str(error) and len(str(error)) < 1000
    look(directory)
    assert inspect(directory, 64).loads is opened


def test_places_are_those_of_a_tree():
    tree = {"a": {"b": 1}, "c": [2]}
    assert places(tree) == [("a",), ("a", "b"), ("c",)]
    changed = copy.deepcopy(tree)
    put(changed, ("a", "b"), 5)
    assert changed == {"a": {"b": 5}, "c": [2]}
