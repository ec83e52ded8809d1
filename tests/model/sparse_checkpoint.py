"""Model directories with real headers and no data: sparse files of the full size."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from openk2.model.config import K2Config
from openk2.model.names import is_linear, is_routed_expert, published_shapes
from openk2.model.safetensors_file import DTYPES

FP8 = {
    "quant_method": "fp8",
    "fmt": "e4m3",
    "activation_scheme": "dynamic",
    "weight_block_size": [128, 128],
}
INT4 = {
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
                "dynamic": False,
                "actorder": None,
                "observer": "minmax",
            },
            "input_activations": None,
            "output_activations": None,
        }
    },
    "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*"],
}
DECLARED = {"BF16": None, "FP8": FP8, "INT4": INT4}

SMALL = K2Config(
    vocab_size=64,
    hidden_size=64,
    intermediate_size=96,
    moe_intermediate_size=32,
    num_hidden_layers=4,
    num_attention_heads=2,
    n_routed_experts=3,
    num_experts_per_tok=2,
    q_lora_rank=24,
    kv_lora_rank=16,
    qk_nope_head_dim=8,
    qk_rope_head_dim=8,
    v_head_dim=12,
)

Stored = dict[str, tuple[str, tuple[int, ...]]]


def stored_tensors(config: K2Config, form: str) -> Stored:
    """Return type and shape of every tensor, as the model is published in `form`."""
    stored: Stored = {}
    for name, shape in published_shapes(config).items():
        if form == "FP8" and is_linear(name):
            stored[name] = ("F8_E4M3", shape)
            stored[f"{name}_scale_inv"] = ("F32", tuple(-(-side // 128) for side in shape))
        elif form == "INT4" and is_routed_expert(name):
            stored[f"{name}_packed"] = ("I32", (shape[0], shape[1] // 8))
            stored[f"{name}_scale"] = ("BF16", (shape[0], shape[1] // 32))
            stored[f"{name}_shape"] = ("I32", (2,))
        else:
            stored[name] = ("F32" if name.endswith("bias") else "BF16", shape)
    return stored


def write(directory: Path, config: K2Config, form: str, shards: int = 1) -> Stored:
    """Write a complete directory: a layer per shard as far as they go, all zeros."""
    stored = stored_tensors(config, form)
    files: list[Stored] = [{} for _ in range(shards)]
    for name, tensor in stored.items():
        words = name.split(".")
        layer = int(words[2]) if words[1] == "layers" else 0 if "embed" in name else shards - 1
        files[min(layer, shards - 1)][name] = tensor
    weight_map: dict[str, str] = {}
    for number, tensors in enumerate(files, start=1):
        file = f"model-{number:05d}-of-{shards:06d}.safetensors"
        write_shard(directory / file, tensors)
        weight_map |= dict.fromkeys(tensors, file)
    total = sum(nbytes(*tensor) for tensor in stored.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    settings = {**config.to_dict(), "quantization_config": DECLARED[form]}
    (directory / "config.json").write_text(json.dumps(settings))
    return stored


def write_shard(path: Path, tensors: Stored) -> None:
    """Write a file's header and stretch the file to the size that it asks for."""
    header, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + nbytes(dtype, shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    data = json.dumps(header).encode()
    data += b" " * (-len(data) % 8)
    with path.open("wb") as file:
        file.write(len(data).to_bytes(8, "little") + data)
        try:
            file.truncate(8 + len(data) + end)
        except OSError as error:
            pytest.skip(f"no sparse files here: {error}")
    if path.stat().st_blocks * 512 > len(data) + 1_000_000:
        pytest.skip("this file system fills sparse files")


def nbytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Return the bytes of a tensor."""
    return math.prod(shape) * DTYPES[dtype].itemsize
