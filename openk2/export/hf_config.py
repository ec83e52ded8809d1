"""The JSON files beside the weights: what a reader must know about their shape and number format.

In: a source's configuration and what is stored how. Out: `config.json` and
`generation_config.json` that transformers reads without remote code.
Must not know: tensors' values, or how they are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from openk2.kernels import fp8, int4
from openk2.model.checkpoint import MAX_CONFIG_BYTES
from openk2.model.config import K2Config
from openk2.model.names import is_routed_expert
from openk2.model.untrusted import read_json
from openk2.text.tokenizer import Tokenizer

GENERATION_FILE = "generation_config.json"

_INT4_IGNORE = (
    "lm_head",
    "re:.*self_attn.*",
    "re:.*shared_experts.*",
    r"re:.*mlp\.(gate|up|gate_up|down)_proj.*",
)
"""What Kimi K2 Thinking leaves unquantised: every matrix but the routed experts'."""
_ROUTERS = r"re:.*mlp\.gate$"
"""A linear layer to some readers; openk2 never rounds one."""


def config_json(
    config: K2Config, dtype: torch.dtype, quantization: dict[str, Any] | None
) -> dict[str, Any]:
    """Return `config.json`: K2's shape under the name of the architecture that transformers has.

    Args:
        config: The shape, with the tokenizer's ids.
        dtype: Storage type of what is not quantised.
        quantization: The `quantization_config`, if anything is.
    """
    values = {**config.to_dict(), "torch_dtype": str(dtype).removeprefix("torch.")}
    return values if quantization is None else {**values, "quantization_config": quantization}


def fp8_config(kept: Sequence[str]) -> dict[str, Any]:
    """Return the `quantization_config` of FP8 weights as DeepSeek-V3 and Kimi K2 publish it.

    Args:
        kept: Matrices that stay unquantised although the format quantises them: usually none.
    """
    values: dict[str, Any] = {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "weight_block_size": [fp8.BLOCK, fp8.BLOCK],
        "activation_scheme": "dynamic",
    }
    # Readers leave the head alone by themselves, but only if they are given no list.
    return {**values, "modules_to_not_convert": ["lm_head", *_modules(kept)]} if kept else values


def int4_config(kept: Sequence[str], *, only_experts: bool = True) -> dict[str, Any]:
    """Return the `quantization_config` of INT4, as Kimi K2 Thinking publishes its experts.

    Args:
        kept: All matrices that are not quantised, the head included.
        only_experts: Nothing but routed experts is.
    """
    weights = {
        "num_bits": 4,
        "type": "int",
        "symmetric": True,
        "strategy": "group",
        "group_size": int4.GROUP,
        "dynamic": False,
        "actorder": None,
        "block_structure": None,
        "observer": "minmax",
        "observer_kwargs": {},
    }
    if only_experts:
        ignore = [*_INT4_IGNORE, *_modules(name for name in kept if is_routed_expert(name))]
    else:  # not the published layout: every module by its name
        ignore = [_ROUTERS, *_modules(kept)]
    group = {
        "targets": ["Linear"],
        "weights": weights,
        "input_activations": None,
        "output_activations": None,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ignore,
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }


def generation_json(source: Path, config: K2Config, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Return `generation_config.json`: the source's sampling, and the tokens that end an answer.

    Raises:
        ValueError: The source's file is no JSON object.
    """
    path = source / GENERATION_FILE
    values: Any = read_json(path, MAX_CONFIG_BYTES) if path.exists() else {}
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a JSON object")
    ids = {
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }
    values = {**{key: id_ for key, id_ in ids.items() if id_ is not None}, **values}
    if tokenizer is not None:  # the configuration's end is the end of a document, not of a turn
        values["eos_token_id"] = [tokenizer.im_end, tokenizer.eos]
    return values


def _modules(weights: Iterable[str]) -> list[str]:
    return [name.removesuffix(".weight") for name in weights]
