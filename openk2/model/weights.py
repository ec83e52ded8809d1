"""Models on disk: `config.json` and safetensors under the published tensor names.

In: a model or a directory. Out: a directory or a model. One table maps our stacked tensors to the
published per-expert ones. Quantised weights are refused. Must not know: optimizer state.

Shapes: E experts, I inner width, D model width.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from openk2.model.config import ConfigError, K2Config
from openk2.model.transformer import Transformer

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


class WeightsError(ValueError):
    """A model directory that cannot be loaded; the message names the file and the tensor."""


def published_names(name: str, parameter: Tensor) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield each published tensor that `parameter` holds, with its index in the stack."""
    prefix, _, last = name.rpartition(".")
    prefix = prefix if prefix.startswith("lm_head") else f"model.{prefix}"
    if last == "experts_gate_up":
        for e in range(parameter.shape[0]):
            yield f"{prefix}.experts.{e}.gate_proj.weight", (e, 0)
            yield f"{prefix}.experts.{e}.up_proj.weight", (e, 1)
    elif last == "experts_down":
        for e in range(parameter.shape[0]):
            yield f"{prefix}.experts.{e}.down_proj.weight", (e,)
    elif last == "gate_up":
        yield f"{prefix}.gate_proj.weight", (0,)
        yield f"{prefix}.up_proj.weight", (1,)
    elif last == "down":
        yield f"{prefix}.down_proj.weight", ()
    else:
        yield f"{prefix}.{last}", ()


def published_state(model: Transformer) -> dict[str, Tensor]:
    """Return all weights under their published names, as views of the model's own."""
    return {
        published: tensor[index]
        for name, tensor in model.state_dict().items()
        for published, index in published_names(name, tensor)
    }


def save(model: Transformer, directory: Path, dtype: torch.dtype | None = None) -> None:
    """Write `config.json` and `model.safetensors`, replacing older files only when complete.

    Args:
        model: The model to write.
        directory: Created if missing.
        dtype: Storage type of the weights; as it is if None. The router stays float32.
    """
    directory.mkdir(parents=True, exist_ok=True)
    state = {
        name: _stored(name, tensor, dtype).contiguous()
        for name, tensor in published_state(model).items()
    }
    stored = str(dtype or next(model.parameters()).dtype).removeprefix("torch.")
    config = {**model.config.to_dict(), "torch_dtype": stored}
    weights, settings = directory / (SINGLE_FILE + ".tmp"), directory / "config.json.tmp"
    save_file(state, weights, metadata={"format": "pt"})
    settings.write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    shutil.copymode(settings, weights)  # safetensors leaves files that only their owner may read
    weights.replace(directory / SINGLE_FILE)
    settings.replace(directory / "config.json")


def _stored(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor if dtype is None or ".mlp.gate." in name else tensor.to(dtype)


def load(
    directory: Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Transformer:
    """Build the model of a directory; nothing is unpickled and no remote code runs.

    Raises:
        WeightsError: A file or tensor is missing, damaged or of the wrong shape.
        ConfigError: `config.json` does not describe a K2 model.
    """
    config = read_config(directory)
    with torch.device("meta"):
        model = Transformer(config)
    # `to_empty` keeps the meta dtypes: float32 everywhere; only then is the rest cast.
    model = model.to_empty(device=device)
    files = _tensor_files(directory)
    state = model.state_dict()
    for file, names in _by_file(state, files, directory).items():
        _read_file(directory / file, names)
    for module_name, module in model.named_modules():
        if not module_name.endswith("mlp.gate") and not list(module.children()):
            module.to(dtype)
    for name, parameter in model.named_parameters():
        if ".mlp.gate." not in name:
            parameter.data = parameter.data.to(dtype)
    return model.eval()


def read_config(directory: Path) -> K2Config:
    """Read `config.json` of a model directory.

    Raises:
        ConfigError: It is missing, is not JSON, or does not describe a K2 model.
    """
    path = directory / "config.json"
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{directory} has no config.json; is it a model directory?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a JSON object")
    if values.get("quantization_config") is not None:
        raise ConfigError(
            f"{path}: quantization_config is not supported yet: use a copy of the model in bfloat16"
        )
    try:
        return K2Config.from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _tensor_files(directory: Path) -> dict[str, str]:
    """Return the file that holds each published tensor."""
    index = directory / INDEX_FILE
    if not index.exists():
        with _opened(directory / SINGLE_FILE) as tensors:
            return dict.fromkeys(tensors.keys(), SINGLE_FILE)
    try:
        weight_map = json.loads(index.read_text("utf-8"))["weight_map"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise WeightsError(f"{index} is not an index of safetensors shards") from None
    for name, file in weight_map.items():
        if (
            not isinstance(file, str)
            or Path(file).name != file
            or not file.endswith(".safetensors")
        ):
            raise WeightsError(f"{index} places {name} in {file!r}, which is no shard beside it")
    return weight_map


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except (FileNotFoundError, SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}") from None


def _by_file(
    state: dict[str, Tensor], files: dict[str, str], directory: Path
) -> dict[str, list[tuple[str, Tensor]]]:
    """Group the model's tensors by the shard that they are read from."""
    wanted: dict[str, list[tuple[str, Tensor]]] = {}
    for name, tensor in state.items():
        for published, index in published_names(name, tensor):
            if published not in files:
                raise WeightsError(
                    f"{directory} has no tensor {published}; config.json asks for it"
                )
            wanted.setdefault(files[published], []).append((published, tensor[index]))
    return wanted


def _read_file(path: Path, names: list[tuple[str, Tensor]]) -> None:
    with _opened(path) as tensors:
        present = set(tensors.keys())
        for name, target in names:
            if name not in present:
                raise WeightsError(f"{path} has no tensor {name}, although the index says so")
            stored = tensors.get_tensor(name)
            if stored.shape != target.shape:
                raise WeightsError(
                    f"{path}: {name} has shape {list(stored.shape)}, config.json makes it "
                    f"{list(target.shape)}"
                )
            if not stored.is_floating_point():
                raise WeightsError(f"{path}: {name} is {stored.dtype}, not a floating-point tensor")
            if stored.dtype.itemsize == 1:  # without its scales such a tensor says nothing
                raise WeightsError(
                    f"{path}: {name} is {stored.dtype}, and quantised weights are not supported "
                    "yet: use a copy of the model in bfloat16"
                )
            target.copy_(stored)
