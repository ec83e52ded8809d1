"""Pre-training: prepared shards → a run → a model directory.

In: a config. Out: a trained model in the published format, with its tokenizer. Must not know: how
a step works, how packs become shards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from openk2 import config as settings
from openk2.model import weights
from openk2.model.config import PRESETS, preset
from openk2.model.transformer import Transformer
from openk2.text.copy_sources import CopySources
from openk2.text.packing import Shard
from openk2.text.tokenizer import Tokenizer
from openk2.train.heldout import HeldOut
from openk2.train.loop import LoopConfig, Result, Trainer, train
from openk2.train.metrics import plot
from openk2.train.pointers import PointerLoss
from openk2.train.shards import DataConfig, open_held_out, open_mixture


@dataclass(frozen=True, slots=True)
class PretrainConfig:
    """One pre-training run."""

    data: DataConfig
    """What the model reads."""
    loop: LoopConfig
    """How it learns."""
    model: str = "nano"
    """A preset, or the directory of a model to continue from."""
    out: Path = Path("out/pretrain")
    """Receives metrics, checkpoints and, in `model/`, the result."""
    held_out_rows: int = 96
    """Rows that an evaluation reads, spread over the packs."""


def run(config: PretrainConfig, *, resume: bool = True, show_progress: bool = False) -> Result:
    """Train and leave the model in `out/model`.

    Args:
        config: The run.
        resume: Continue from the newest checkpoint in `out`.
        show_progress: Draw a progress bar on stderr.

    Raises:
        FileNotFoundError: The shards are missing: prepare the data first.
    """
    return run_stage(
        config,
        lambda held_out, shards, tokenizer: held_out.evaluate,
        resume=resume,
        show_progress=show_progress,
    )


class Stage(Protocol):
    """The settings that every stage has; `PretrainConfig` says what they mean."""

    @property
    def data(self) -> DataConfig:
        """What the model reads."""
        ...

    @property
    def loop(self) -> LoopConfig:
        """How it learns."""
        ...

    @property
    def model(self) -> str:
        """What it starts from."""
        ...

    @property
    def out(self) -> Path:
        """Where results go."""
        ...

    @property
    def held_out_rows(self) -> int:
        """Rows that an evaluation reads."""
        ...


Evaluate = Callable[[Trainer], Mapping[str, float]]
MakeEvaluate = Callable[[HeldOut, Mapping[str, Shard], Tokenizer], Evaluate]


def run_stage(
    config: Stage, make_evaluate: MakeEvaluate, *, resume: bool, show_progress: bool
) -> Result:
    """Run any stage; stages differ in what they are measured on.

    Args:
        config: The run.
        make_evaluate: Builds the measurement from the held-out rows, their shards, the tokenizer.
        resume: Continue from the newest checkpoint in `out`.
        show_progress: Draw a progress bar on stderr.

    Raises:
        FileNotFoundError: The shards are missing: prepare the data first.
    """
    data = config.data
    tokenizer = Tokenizer.load(data.tokenizer)
    model = start_model(config.model, config.loop.seed, tokenizer.vocab_size)
    shares = data.weights
    names = [name for name, weight in shares.items() if weight > 0] + list(data.measured)
    shards = open_held_out(data, names)
    held_out = HeldOut(shards, data.seq_len, config.held_out_rows, shares)
    trainer = Trainer(model, config.loop, start_digest(config.model))
    if config.loop.pointers.weight > 0:
        trainer.pointers = PointerLoss(model, config.loop.pointers, CopySources(tokenizer))
    record_config(config, trainer, config.out)
    result = train(
        trainer,
        open_mixture(data, config.loop.seed),
        data.seq_len,
        config.out,
        make_evaluate(held_out, shards, tokenizer),
        resume=resume,
        show_progress=show_progress,
    )
    finish(model, tokenizer, config.out)
    return result


def check_start(name: str) -> None:
    """Refuse a model directory that does not exist.

    Raises:
        FileNotFoundError: There is no such directory.
    """
    if len(Path(name).parts) > 1 and name not in PRESETS and not Path(name).is_dir():
        raise FileNotFoundError(f"there is no model directory {name}: pre-train first")


def start_digest(name: str) -> str:
    """Return a digest of a model directory's configuration and weights; of a preset, nothing."""
    if not Path(name).is_dir():
        return ""
    digest = hashlib.sha256()
    for path in (Path(name) / "config.json", *sorted(Path(name).glob("*.safetensors"))):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def start_model(name: str, seed: int, vocab_size: int) -> Transformer:
    """Load a model directory, or make a fresh model from a preset.

    Raises:
        FileNotFoundError: There is no such directory.
        ValueError: The tokenizer has more tokens than the model.
    """
    check_start(name)
    if Path(name).is_dir():
        model = weights.load(Path(name), torch.float32, "cpu")
    else:
        torch.manual_seed(seed)
        model = Transformer(preset(name))
    if vocab_size > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {vocab_size} tokens but model {name!r} only "
            f"{model.config.vocab_size}: use the tokenizer that belongs to it"
        )
    return model


def record_config(config: object, trainer: Trainer, out: Path) -> None:
    """Write the settings of a run, and what it runs on, beside its results."""
    out.mkdir(parents=True, exist_ok=True)
    machine = {
        "device": str(trainer.device),
        "dtype": str(trainer.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
    text = json.dumps({**settings.to_mapping(config), "run": machine}, indent=1)
    (out / "config.json").write_text(text + "\n", encoding="utf-8")


def finish(model: Transformer, tokenizer: Tokenizer, out: Path) -> None:
    """Write the model in the published format with its tokenizer, and draw the run."""
    directory = out / "model"
    directory.mkdir(parents=True, exist_ok=True)
    weights.save(model, directory)
    tokenizer.save(directory)
    plot(out / "metrics.jsonl", out / "metrics.png")
