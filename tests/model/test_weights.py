import copy
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from openk2.model import weights
from openk2.model.checkpoint import read_config
from openk2.model.config import ConfigError, K2Config, YarnConfig, preset
from openk2.model.rope import rope_angles
from openk2.model.safetensors_file import WeightsError
from openk2.model.transformer import Transformer
from tests.model.test_parity import TINY


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = Transformer(TINY)
    weights.save(model, tmp_path)
    return tmp_path, model


def test_names_on_disk_are_the_published_ones(saved):
    names = set(load_file(saved[0] / "model.safetensors"))
    assert {
        "model.embed_tokens.weight",
        "model.norm.weight",
        "lm_head.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.1.mlp.gate.weight",
        "model.layers.1.mlp.gate.e_score_correction_bias",
        "model.layers.2.mlp.experts.7.down_proj.weight",
        "model.layers.2.mlp.shared_experts.up_proj.weight",
        "model.layers.0.self_attn.kv_a_proj_with_mqa.weight",
        "model.layers.0.self_attn.q_a_layernorm.weight",
    } <= names
    per_layer = 2 * (2 + 3 * 8 + 3) + 3 + 3 * 9
    assert len(names) == per_layer + 3


def test_bfloat16_keeps_the_router_in_float32(saved, tmp_path):
    weights.save(saved[1], tmp_path / "half", torch.bfloat16)
    stored = load_file(tmp_path / "half" / "model.safetensors")
    kinds = {name: tensor.dtype for name, tensor in stored.items()}
    assert {k for n, k in kinds.items() if ".mlp.gate." in n} == {torch.float32}
    assert {k for n, k in kinds.items() if ".mlp.gate." not in n} == {torch.bfloat16}
    model = weights.load(tmp_path / "half", torch.bfloat16)
    assert model.layers[1].mlp.gate.weight.dtype == torch.float32
    assert model.layers[1].mlp.experts_down.dtype == torch.bfloat16


def test_shards_with_an_index_load(saved):
    directory, model = saved
    state = load_file(directory / "model.safetensors")
    names = sorted(state)
    index = {}
    for shard, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{shard:05d}-of-000002.safetensors"
        save_file({n: state[n] for n in part}, directory / file)
        index |= dict.fromkeys(part, file)
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    loaded = weights.load(directory)
    for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def _rewrite(directory, change):
    state = load_file(directory / "model.safetensors")
    change(state)
    save_file(state, directory / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("model.norm.weight"), ["model.norm.weight", "no tensor"]),
        (lambda s: s.update({"lm_head.weight": torch.zeros(3, 3)}), ["lm_head.weight", "[3, 3]"]),
        (
            lambda s: s.update({"lm_head.weight": s["lm_head.weight"].int()}),
            ["lm_head.weight", "I32"],
        ),
        (
            lambda s: s.update({"lm_head.weight": s["lm_head.weight"].to(torch.float8_e4m3fn)}),
            ["lm_head.weight_scale_inv", "no tensor"],
        ),
    ],
)
def test_a_damaged_checkpoint_names_its_tensor(saved, change, words):
    _rewrite(saved[0], change)
    with pytest.raises(WeightsError) as caught:
        weights.load(saved[0])
    assert all(word in str(caught.value) for word in words)


def test_a_saved_model_has_the_permissions_of_any_new_file(saved):
    (saved[0] / "plain").touch()
    modes = {path.stat().st_mode for path in saved[0].iterdir()}
    assert len(modes) == 1


def test_a_truncated_file_is_refused_by_name(saved):
    path = saved[0] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        weights.load(saved[0])


def test_an_index_cannot_point_outside_its_folder(saved):
    index = saved[0] / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "../secret.safetensors"}}))
    with pytest.raises(WeightsError, match="no shard beside it"):
        weights.load(saved[0])


def test_config_survives_the_round_trip():
    for config in (preset("k2"), preset("nano"), replace(TINY, q_lora_rank=None)):
        assert K2Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_both_spellings_of_rope_scaling_are_read():
    old = K2Config.from_dict(
        {"rope_theta": 10000.0, "rope_scaling": {"type": "yarn", "factor": 64.0, "mscale": 1.0}}
    )
    new = K2Config.from_dict(
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "factor": 64.0,
                "mscale": 1.0,
                "rope_theta": 10000.0,
            }
        }
    )
    assert old == new
    assert old.rope_theta == 10000.0
    # Where a config leaves them out, transformers' defaults hold: the whole context, betas 32/1,
    # no mscale_all_dim.
    assert old.rope_scaling == YarnConfig(64.0, 131072, beta_fast=32.0, mscale_all_dim=0.0)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"model_type": "llama"}, "model_type"),
        ({"hidden_size": "7168"}, "hidden_size"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"attention_bias": True}, "attention_bias"),
        ({"scoring_func": "softmax"}, "scoring_func"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
        ({"num_experts_per_tok": 500}, "num_experts_per_tok"),
        ({"n_group": 5}, "n_group"),
        ({"q_lora_rank": 0}, "q_lora_rank"),
        ({"rope_scaling": "yarn"}, "rope_scaling"),
        ({"rope_parameters": [1]}, "rope_parameters"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0, "truncate": False}}, "truncate"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0, "truncate": None}}, "truncate"),
        (
            {"rope_scaling": {"type": "yarn", "factor": 2.0, "attention_factor": 1.5}},
            r"rope_scaling\.attention_factor = 1\.5 is not supported",
        ),
        ({"rope_scaling": {"type": "yarn", "factor": "2"}}, r"rope_scaling\.factor"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_interleave": None}, "rope_interleave"),
        (
            {"rope_parameters": {"rope_theta": 1e4}, "rope_scaling": {"rope_theta": 1e5}},
            "both given and differ",
        ),
        ({"eos_token_id": ["a", 2]}, "eos_token_id"),
    ],
)
def test_a_config_that_is_not_k2_is_refused_by_field(values, word):
    with pytest.raises(ConfigError, match=word):
        K2Config.from_dict(values)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("table", "outside"),
    [
        ({"factor": 4.0}, {}),
        ({"factor": 4.0, "beta_fast": None, "mscale": None, "mscale_all_dim": 1.0}, {}),
        ({"factor": 4.0, "beta_fast": 8, "original_max_position_embeddings": 256}, {}),
        (
            {"factor": 4.0, "original_max_position_embeddings": 256, "mscale": 0.7},
            {"original_max_position_embeddings": 64},
        ),
        ({"factor": 4.0, "attention_factor": None, "truncate": True}, {}),
    ],
)
def test_what_a_yarn_table_leaves_out_is_what_transformers_makes_of_it(table, outside):
    from transformers import DeepseekV3Config
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = replace(TINY, qk_rope_head_dim=32, rope_theta=500.0)
    values = {**config.to_dict(), **outside, "rope_scaling": {"type": "yarn", **table}}
    ours = K2Config.from_dict(copy.deepcopy(values))
    frequency, magnitude = ROPE_INIT_FUNCTIONS["yarn"](DeepseekV3Config(**values))
    cos, sin = rope_angles(ours, torch.tensor([1]))
    assert torch.allclose(cos[0], frequency.cos() * magnitude, atol=1e-6)
    assert torch.allclose(sin[0], frequency.sin() * magnitude, atol=1e-6)


@pytest.mark.parametrize(
    "names", [("hidden_size",), ("rope_theta",), ("q_lora_rank", "n_group"), None]
)
def test_a_config_file_that_leaves_the_shape_open_is_refused_by_the_missing_keys(saved, names):
    path = saved[0] / "config.json"
    values = json.loads(path.read_text())
    kept = {name: v for name, v in values.items() if names is not None and name not in names}
    path.write_text(json.dumps(kept))
    with pytest.raises(ConfigError, match=r"config\.json: .* missing") as caught:
        weights.load(saved[0])
    for name in names or ("hidden_size", "num_hidden_layers", "vocab_size", "rope_theta"):
        assert name in str(caught.value)
    if names is not None:
        assert "rms_norm_eps" not in str(caught.value) and "v_head_dim" not in str(caught.value)


def test_keys_that_every_program_fills_alike_may_be_left_out(saved):
    path = saved[0] / "config.json"
    values = json.loads(path.read_text())
    for name in ("rms_norm_eps", "initializer_range", "rope_scaling", "bos_token_id"):
        del values[name]
    values["rope_parameters"] = {"rope_type": "default", "rope_theta": values.pop("rope_theta")}
    path.write_text(json.dumps({**values, "eos_token_id": [7, 8]}))
    config = read_config(saved[0])[0]
    same = replace(TINY, initializer_range=0.02, bos_token_id=None, eos_token_id=7)
    assert config == same
    path.write_text(json.dumps({**values, "rope_parameters": {"hidden_size": 1}}))
    with pytest.raises(ConfigError, match="rope_theta is missing"):
        read_config(saved[0])


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match="'nano'"):
        preset("nanno")
