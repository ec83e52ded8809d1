"""Models on disk: `config.json` and safetensors under the published tensor names.

In: a model, or a directory in bfloat16, FP8 or INT4. Out: a directory, or a model to train, whose
weights are expanded and its own. Serving does not expand them: see `openk2/model/mapped.py`.
Must not know: optimizer state.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from openk2.model.checkpoint import SINGLE_FILE, Checkpoint
from openk2.model.names import published_names
from openk2.model.transformer import Transformer


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


@torch.no_grad()
def load(
    directory: Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Transformer:
    """Build the model of a directory; nothing is unpickled and no remote code runs.

    Raises:
        WeightsError: A file or tensor is missing, damaged or of the wrong shape.
        ConfigError: `config.json` does not describe a K2 model.
    """
    checkpoint = Checkpoint(directory)
    checkpoint.check_complete()
    with torch.device("meta"):
        model = Transformer(checkpoint.config)
    # `to_empty` keeps the meta dtypes: float32 everywhere; only then is the rest cast.
    model = model.to_empty(device=device)
    for module_name, module in model.named_modules():
        if not module_name.endswith("mlp.gate") and not list(module.children()):
            module.to(dtype)
    for name, parameter in model.named_parameters():
        if ".mlp.gate." not in name:
            parameter.data = parameter.data.to(dtype)
    for name, tensor in model.state_dict().items():
        for published, index in published_names(name, tensor):
            tensor[index].copy_(checkpoint.dense(published))
    return model.eval()
