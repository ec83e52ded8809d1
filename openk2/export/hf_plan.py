"""What becomes of every weight in an exported directory, decided before anything is written.

In: an opened checkpoint and a number format. Out: each weight's new tensors by name, type and
shape, and the description of the format that `config.json` carries.
Must not know: values or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from openk2.export.hf_config import fp8_config, int4_config
from openk2.export.place import ExportError
from openk2.export.safetensors_writer import Spec
from openk2.kernels import fp8, int4
from openk2.model.checkpoint import HEAD, Checkpoint
from openk2.model.names import is_linear, is_routed_expert, published_shapes
from openk2.model.safetensors_file import DTYPES

Format = Literal["bf16", "f32", "f16", "fp8", "int4", "int4-all"]
"""`int4` is Kimi K2 Thinking's layout: routed experts. `int4-all`: every product's matrix."""
Quantised = Literal["fp8", "int4"]
Form = Literal["stored", "fp8", "int4"] | torch.dtype
"""What is done to one weight: copied as it is stored, quantised, or expanded to a type."""

FLOATS = {"bf16": torch.bfloat16, "f32": torch.float32, "f16": torch.float16}


@dataclass(frozen=True, slots=True)
class Weight:
    """What becomes of one weight of the model."""

    name: str
    form: Form
    quantised: Quantised | None
    """How its values lie in the new directory."""
    parts: tuple[Spec, ...]
    """The tensors that it is written as."""
    scales: int4.Scales = "absmax"
    """How the scales are chosen if it is rounded to INT4."""

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        return sum(part.nbytes for part in self.parts)


@dataclass(frozen=True, slots=True)
class Plan:
    """An exported directory that has not been written."""

    weights: tuple[Weight, ...]
    """In the order that the model computes with them."""
    dtype: torch.dtype
    """Storage type of what is not quantised."""
    quantization: dict[str, Any] | None
    """The `quantization_config` of what is."""

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(weight.nbytes for weight in self.weights)

    @property
    def notes(self) -> tuple[str, ...]:
        """What readers of the format do not get right."""
        fp8s = [weight for weight in self.weights if weight.quantised == "fp8"]
        partial = [w.name for w in fp8s if any(side % fp8.BLOCK for side in w.parts[0].shape)]
        if not partial:
            return ()
        return (
            f"{len(partial)} matrices have a side that is no multiple of {fp8.BLOCK}, {partial[0]} "
            "first: transformers cannot read partial FP8 blocks on a CPU: export bf16 for it",
        )


def make_plan(
    checkpoint: Checkpoint, format: Format | None, scales: int4.Scales = "absmax"
) -> Plan:
    """Decide what becomes of every weight of a complete checkpoint.

    Args:
        checkpoint: The source.
        format: Number format of the weights; as they are stored if None.
        scales: How the scales of what is rounded to INT4 are chosen.

    Raises:
        ExportError: The format cannot hold one of them.
    """
    weights = tuple(
        replace(_plan_weight(checkpoint, name, shape, format), scales=scales)
        for name, shape in published_shapes(checkpoint.config).items()
    )
    embedding = next(w for w in weights if w.name == "model.embed_tokens.weight")
    return Plan(weights, embedding.parts[0].dtype, _quantization(weights))


def _plan_weight(
    checkpoint: Checkpoint, name: str, shape: tuple[int, ...], format: Format | None
) -> Weight:
    stored = _stored_as(checkpoint, name)
    form = _form(name, stored, format)
    if form == "stored":
        quantised = None if isinstance(stored, torch.dtype) else stored
        return Weight(name, form, quantised, _stored_parts(checkpoint, name, stored))
    if isinstance(form, torch.dtype):
        return Weight(name, form, None, (Spec(name, form, shape),))
    outputs, inputs = shape
    if form == "fp8":
        scale = Spec(f"{name}_scale_inv", torch.float32, fp8.scale_shape((outputs, inputs)))
        return Weight(name, form, form, (Spec(name, torch.float8_e4m3fn, shape), scale))
    if inputs % int4.GROUP:
        raise ExportError(
            f"{name} has {inputs} inputs and INT4 needs a multiple of {int4.GROUP}: "
            "choose --format fp8 or bf16"
        )
    parts = (
        Spec(f"{name}_packed", torch.int32, (outputs, inputs // int4.PER_WORD)),
        Spec(f"{name}_scale", torch.bfloat16, (outputs, inputs // int4.GROUP)),
        _shape_spec(name),
    )
    return Weight(name, form, form, parts)


def _stored_as(checkpoint: Checkpoint, name: str) -> Quantised | torch.dtype:
    if f"{name}_packed" in checkpoint.entries:
        return "int4"
    dtype = DTYPES[checkpoint.entries[name].dtype]
    return "fp8" if dtype == torch.float8_e4m3fn else dtype


def quantised_as(name: str, format: Format) -> Quantised | None:
    """Return what a format rounds a weight to; None if it leaves it as a float."""
    match format:
        case "fp8" if is_linear(name):
            return "fp8"
        case "int4" if is_routed_expert(name):
            return "int4"
        case "int4-all" if is_linear(name) or name == HEAD:
            return "int4"
        case _:
            return None


def _form(name: str, stored: Quantised | torch.dtype, format: Format | None) -> Form:
    if format is None:
        head_in_int4 = name == HEAD and stored == "int4"
        if not isinstance(stored, torch.dtype) and not is_linear(name) and not head_in_int4:
            raise ExportError(f"no reader expects {name} in {stored}: choose a --format")
        return "stored"
    if wanted := quantised_as(name, format):
        return "stored" if stored == wanted else wanted
    # A rounded router chooses other experts where two are nearly equal, and costs little as it is.
    if stored == torch.float32 and ".mlp.gate." in name:
        return "stored"
    return FLOATS.get(format, torch.bfloat16)


def _stored_parts(
    checkpoint: Checkpoint, name: str, stored: Quantised | torch.dtype
) -> tuple[Spec, ...]:
    suffixes = {"int4": ("_packed", "_scale", "_shape"), "fp8": ("", "_scale_inv")}
    names = (name + s for s in (("",) if isinstance(stored, torch.dtype) else suffixes[stored]))
    found = ((part, checkpoint.entries.get(part)) for part in names)
    return tuple(
        Spec(part, DTYPES[entry.dtype], entry.shape) if entry else _shape_spec(name)
        for part, entry in found
    )


def _shape_spec(name: str) -> Spec:
    """The unpacked shape: the layout can do without, compressed-tensors cannot."""
    return Spec(f"{name}_shape", torch.int32, (2,))


def _quantization(weights: Sequence[Weight]) -> dict[str, Any] | None:
    matrices = [weight for weight in weights if is_linear(weight.name) or weight.name == HEAD]
    kinds = {weight.quantised for weight in matrices} - {None}
    kept = [weight.name for weight in matrices if not weight.quantised]
    if len(kinds) > 1:
        raise ExportError("the source holds FP8 and INT4 weights: choose a --format")
    if "fp8" in kinds:
        return fp8_config([name for name in kept if name != HEAD])
    if "int4" in kinds:
        quantised = (weight.name for weight in matrices if weight.quantised)
        return int4_config(kept, only_experts=all(map(is_routed_expert, quantised)))
    return None
