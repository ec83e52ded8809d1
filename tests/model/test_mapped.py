"""A mapped model computes what the expanded one does, and reads only what it needs."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from openk2.kernels import fp8, int4
from openk2.model import weights
from openk2.model.checkpoint import Checkpoint
from openk2.model.mapped import map_model
from openk2.model.names import is_linear, is_routed_expert
from openk2.model.safetensors_file import WeightsError
from openk2.model.transformer import Transformer
from tests.model.test_parity import SHAPES, TINY
from tests.model.test_transformer import Cached

WIDE = replace(TINY, moe_intermediate_size=64, kv_lora_rank=136, intermediate_size=160)
FORMS = ("float32", "bfloat16", "fp8", "int4")


def write(directory, config, form, dtype=torch.float32):
    """Save a random model and store its matrices in the published form `form`."""
    torch.manual_seed(0)
    model = Transformer(config)
    for layer in model.layers[config.first_k_dense_replace :]:
        layer.mlp.gate.e_score_correction_bias.normal_(0, 0.1)
    weights.save(model, directory, torch.bfloat16 if form != "float32" else None)
    file = directory / "model.safetensors"
    state = load_file(file)
    for name in list(state):
        if form == "fp8" and is_linear(name):
            state[name], state[name + "_scale_inv"] = fp8.quantize(state[name])
        elif form == "int4" and is_routed_expert(name):
            weight = state.pop(name)
            state[name + "_packed"], state[name + "_scale"] = int4.quantize(weight)
            state[name + "_shape"] = torch.tensor(weight.shape)
    save_file(state, file)
    settings = json.loads((directory / "config.json").read_text())
    settings["model_type"] = "kimi_k2"
    if form in QUANTIZATION:
        settings["quantization_config"] = QUANTIZATION[form]
    (directory / "config.json").write_text(json.dumps(settings))
    return directory


QUANTIZATION = {
    "fp8": {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "weight_block_size": [128, 128],
        "activation_scheme": "dynamic",
    },
    "int4": {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {
                    "num_bits": 4,
                    "type": "int",
                    "symmetric": True,
                    "strategy": "group",
                    "group_size": 32,
                },
                "input_activations": None,
                "output_activations": None,
            }
        },
        "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*"],
    },
}


def read(model, ids_BT):
    """Feed a batch in two steps, as an engine does, and return the logits after each."""
    cached = Cached(model, len(ids_BT), 64)
    first = cached.feed({row: ids_T[:-1] for row, ids_T in enumerate(ids_BT)})
    second = cached.feed({row: ids_T[-1:] for row, ids_T in enumerate(ids_BT)})
    return torch.stack((first, second))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", ["wide", *SHAPES])
def test_mapped_and_expanded_give_the_same_logits(shape, form, tmp_path):
    config = WIDE if shape == "wide" else SHAPES[shape]
    directory = write(tmp_path, config, form)
    checkpoint = Checkpoint(directory)
    checkpoint.check_complete()
    mapped, expanded = map_model(checkpoint), weights.load(directory)
    for rows in (1, 3):
        ids = torch.randint(0, config.vocab_size, (rows, 12))
        assert torch.allclose(read(mapped, ids), read(expanded, ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_an_expert_that_was_not_chosen_changes_nothing(form, tmp_path):
    directory = write(tmp_path, WIDE, form)
    checkpoint = Checkpoint(directory)
    ids = torch.randint(0, WIDE.vocab_size, (1, 2))
    model = map_model(checkpoint)
    expected = read(model, ids)
    chosen = {
        (index, expert)
        for index, layer in enumerate(model.layers)
        if not layer.is_dense
        for expert in layer.mlp._opened
    }
    file = directory / "model.safetensors"
    poisoned = bytearray(file.read_bytes())
    for name, entry in checkpoint.entries.items():
        _, _, layer, kind, *rest = name.split(".") if ".experts." in name else (0, 0, -1, "", 0)
        if kind == "mlp" and (int(layer), int(rest[1])) not in chosen:
            poisoned[entry.begin : entry.begin + entry.nbytes] = b"\xff" * entry.nbytes
    assert poisoned != file.read_bytes()
    file.write_bytes(poisoned)
    assert torch.equal(read(map_model(Checkpoint(directory)), ids), expected)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is resident")
def test_an_expert_that_was_not_chosen_is_never_read(tmp_path):
    config = replace(WIDE, hidden_size=512, moe_intermediate_size=512, n_routed_experts=32)
    checkpoint = Checkpoint(write(tmp_path, config, "bfloat16"))
    model = map_model(checkpoint)
    before = resident(tmp_path)
    read(model, torch.tensor([[1, 2]]))
    opened = [e for layer in model.layers[1:] for e in layer.mlp._opened.values()]
    used = sum(2 * m.weight.numel() for e in opened for m in (e.gate, e.up, e.down))
    assert 0 < used < checkpoint.nbytes / 4
    # The system maps the neighbours of a page that it has anyway, up to 64 KiB on each side.
    assert used <= resident(tmp_path) - before < used + 3 * len(opened) * (1 << 17)


def resident(directory):
    """Return the bytes of our read-only mappings of a directory's files that are in memory."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            inside = str(directory) in line and " r--s " in line
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) << 10
    return total


@pytest.mark.parametrize("form", ["fp8", "int4"])
def test_quantised_matrices_stay_as_they_are(form, tmp_path):
    checkpoint = Checkpoint(write(tmp_path, WIDE, form))
    model = map_model(checkpoint)
    read(model, torch.randint(0, WIDE.vocab_size, (1, 20)))
    for layer in model.layers[1:]:
        assert layer.mlp._opened
        for expert in layer.mlp._opened.values():
            for part in (expert.gate, expert.up, expert.down):
                assert not any(
                    t.is_floating_point() and t.itemsize == 4 and t.numel() > 64
                    for t in part.parts.values()
                )


@pytest.mark.parametrize(("form", "suffix"), [("fp8", "_scale_inv"), ("int4", "_scale")])
def test_a_scale_that_is_no_number_is_named_before_it_is_used(form, suffix, tmp_path):
    directory = write(tmp_path, WIDE, form)
    state = load_file(directory / "model.safetensors")
    for expert in range(WIDE.n_routed_experts):
        state[f"model.layers.2.mlp.experts.{expert}.up_proj.weight{suffix}"][-1, -1] = torch.nan
    save_file(state, directory / "model.safetensors")
    model = map_model(Checkpoint(directory))
    with pytest.raises(
        WeightsError, match=rf"model\.safetensors: model\.layers\.2.*up_proj.*{suffix}"
    ):
        read(model, torch.tensor([[1, 2]]))


def test_a_damaged_scale_of_a_matrix_that_all_need_is_refused_at_once(tmp_path):
    directory = write(tmp_path, WIDE, "fp8")
    state = load_file(directory / "model.safetensors")
    state["model.layers.0.self_attn.o_proj.weight_scale_inv"][0, 0] = torch.inf
    save_file(state, directory / "model.safetensors")
    with pytest.raises(WeightsError, match=r"o_proj\.weight_scale_inv"):
        map_model(Checkpoint(directory))


def test_announcing_reads_changes_nothing(tmp_path):
    checkpoint = Checkpoint(write(tmp_path, WIDE, "int4"))
    ids = torch.randint(0, WIDE.vocab_size, (2, 12))
    assert torch.equal(
        read(map_model(checkpoint, streaming=True), ids), read(map_model(checkpoint), ids)
    )
