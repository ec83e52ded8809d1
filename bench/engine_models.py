"""The models of the engine's benchmark: random weights in every form that somebody loads.

In: a preset's name and where files may lie. Out: a BF16 directory, an INT4 directory, and GGUF
files in Q4_0, all of the same weights. What is there already is not written again.
Must not know: what is measured.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openk2.model.config import K2Config, preset

if TYPE_CHECKING:
    from torch import Tensor

SEED = 0
ROUTER_FACTOR = 4.0
"""On the preset's `initializer_range`. Which experts win does not depend on it (the largest stay
the largest), but the distance between them does: rounding weights to 4 bits then moves few tokens
to other experts, and every contender reads the same ones."""
BLOCK_BYTES = 18 / 32
"""Of one INT4 weight with the float16 scale of its group of 32."""


@dataclass(frozen=True, slots=True)
class Models:
    """The same weights, in the forms that the contenders read."""

    config: K2Config
    bf16: Path
    int4: Path
    gguf: Path
    """As `llama-quantize MODEL Q4_0` writes it: everything Q4_0, the head Q6_K."""
    gguf_pure: Path
    """The same with the head in Q4_0: `llama-quantize --pure MODEL Q4_0`."""


def make(directory: Path, name: str) -> Models:
    """Write what is missing of one preset's files."""
    models = Models(
        preset(name),
        directory / name,
        directory / f"{name}-int4",
        directory / f"{name}-q4_0.gguf",
        directory / f"{name}-q4_0-pure.gguf",
    )
    directory.mkdir(parents=True, exist_ok=True)
    if not (models.bf16 / "config.json").exists():
        shutil.rmtree(models.bf16, ignore_errors=True)
        _write_bf16(models.bf16, models.config)
    if not (models.int4 / "config.json").exists():
        shutil.rmtree(models.int4, ignore_errors=True)
        _write_int4(models.bf16, models.int4)
    if not (models.gguf.exists() and models.gguf_pure.exists()):
        _write_gguf(models)
    return models


def bytes_per_token(config: K2Config) -> float:
    """Return what one decoded token must read of the INT4 weights, context and activations aside.

    Router and norms are float32; of the embedding, one row counts as nothing.
    """
    from openk2.model.transformer import count_parameters

    active = count_parameters(config).active_inner + config.vocab_size * config.hidden_size
    sparse_layers = config.num_hidden_layers - config.first_k_dense_replace
    router = sparse_layers * config.n_routed_experts * (config.hidden_size + 1)
    return (active - router) * BLOCK_BYTES + router * 4


def _write_bf16(directory: Path, config: K2Config) -> None:
    import torch

    from openk2.model import weights
    from openk2.model.transformer import Transformer

    generator = torch.Generator().manual_seed(SEED)
    model = Transformer(config)
    model.reset_parameters(generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("mlp.gate.weight"):
                parameter.mul_(ROUTER_FACTOR)
    weights.save(model, directory, torch.bfloat16)
    shipped = Path(__file__).parents[1] / "openk2" / "assets" / "nano"
    for name in ("tiktoken.model", "tokenizer_config.json"):
        shutil.copy(shipped / name, directory)


def _write_int4(source: Path, out: Path) -> None:
    from openk2.export.hf import export_hf

    export_hf(source, out, format="int4-all")


def _write_gguf(models: Models) -> None:
    """Export in F16 and let llama.cpp's own quantiser do the rest.

    Our own Q4_0 export is not what a llama.cpp user has: it keeps all but the routed experts in
    Q8_0, which is almost twice the bytes per token.
    """
    from openk2.export.gguf import export_gguf

    half = models.gguf.with_name(f"{models.bf16.name}-f16.gguf")
    export_gguf(models.bf16, half, format="f16", force=True)
    for out, is_pure in ((models.gguf, False), (models.gguf_pure, True)):
        _quantise(half, out, is_pure)
    half.unlink()


def _quantise(source: Path, out: Path, is_pure: bool) -> None:
    import ctypes

    from bench.engine_peers import quiet_llama_cpp

    llama_cpp = quiet_llama_cpp()
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
    settings.pure = is_pure
    failed = llama_cpp.llama_model_quantize(
        str(source).encode(), str(out).encode(), ctypes.byref(settings)
    )
    if failed:
        raise RuntimeError(f"llama.cpp could not quantise {source}: is the disk full?")


def expert_loads(models: Models, tokens: int = 512) -> list[float]:
    """Return each expert's share of random tokens over an even one, all layers' experts in turn.

    Says whether routing is spread: 1 everywhere would be perfectly even.
    """
    import torch

    from openk2.model import weights

    model = weights.load(models.bf16)
    ids_BT: Tensor = torch.randint(
        0, models.config.vocab_size, (1, tokens), generator=torch.Generator().manual_seed(SEED)
    )
    with torch.inference_mode():
        load_ME = model(ids_BT).load_ME.float()
    return (load_ME / load_ME.mean(-1, keepdim=True)).flatten().tolist()
