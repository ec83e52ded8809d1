"""The stored forms of weights that a `config.json` may declare: bfloat16, FP8 or INT4.

In: the raw settings of a model directory. Out: a checked `Quantization`, or a refusal that says
what to use instead. Must not know: tensors or files. The two forms are those that Kimi K2 is
published in: DeepSeek-V3's FP8 (arXiv 2412.19437, §3.3) and compressed-tensors' packed INT4.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from openk2.model.config import ConfigError
from openk2.model.untrusted import shown

INSTEAD = (
    "openk2 reads bfloat16, FP8 (e4m3, 128x128 blocks) and INT4 (compressed-tensors, groups of "
    "32): use the model's release in one of these"
)


@dataclass(frozen=True, slots=True)
class Quantization:
    """How the large matrices of a model are stored, as its `config.json` declares it."""

    form: Literal["BF16", "FP8", "INT4"]
    """`BF16` stands for no quantisation."""


def read_quantization(settings: Mapping[str, Any]) -> Quantization:
    """Read the `quantization_config` of a `config.json`.

    Raises:
        ConfigError: It declares a form that openk2 does not read.
    """
    # compressed-tensors wrote the second name before transformers settled on the first.
    declared = settings.get("quantization_config") or settings.get("compression_config")
    if declared is None or declared == {}:
        return Quantization("BF16")
    if not isinstance(declared, Mapping):
        raise ConfigError(f"quantization_config must be a table, got {reprlib.repr(declared)}")
    method = declared.get("quant_method")
    if method == "fp8":
        _check_fp8(declared)
        return Quantization("FP8")
    if method == "compressed-tensors":
        _check_int4(declared)
        return Quantization("INT4")
    raise ConfigError(
        f"quantization_config: quant_method {reprlib.repr(method)} is not read; {INSTEAD}"
    )


def _check_fp8(declared: Mapping[str, Any]) -> None:
    defaults = {"fmt": "e4m3", "activation_scheme": "dynamic"}
    # A missing block size means one scale per matrix, which is another form.
    wanted = {**defaults, "weight_block_size": [128, 128]}
    _require({**defaults, **declared}, wanted, "quantization_config")


def _check_int4(declared: Mapping[str, Any]) -> None:
    _require(declared, {"format": "pack-quantized"}, "quantization_config")
    groups = declared.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        raise ConfigError(f"quantization_config.config_groups must be a table; {INSTEAD}")
    for label, group in groups.items():
        where = f"quantization_config.config_groups.{shown(label)}"
        if not isinstance(group, Mapping) or not isinstance(group.get("weights"), Mapping):
            raise ConfigError(f"{where} must hold a table `weights`; {INSTEAD}")
        _require(
            group["weights"],
            {
                "num_bits": 4,
                "type": "int",
                "symmetric": True,
                "strategy": "group",
                "group_size": 32,
                "actorder": None,
            },
            f"{where}.weights",
        )
        _require(group, {"input_activations": None, "output_activations": None}, where)


def _require(table: Mapping[str, Any], wanted: Mapping[str, Any], where: str) -> None:
    for name, value in wanted.items():
        found = table.get(name)
        if found != value or isinstance(found, bool) is not isinstance(value, bool):
            raise ConfigError(f"{where}.{name} is {reprlib.repr(found)}, not {value!r}; {INSTEAD}")
