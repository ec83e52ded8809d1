"""The training loop that pre-training and fine-tuning share.

In: a model, an endless stream of packed rows, settings, and a function that measures held-out
quality. Out: trained weights in place, a metrics log, resume checkpoints. Must not know: what the
rows say, where they came from, what is evaluated.

Legend: B rows, T tokens, N tokens with a loss, D hidden size, L layers, H heads, M MoE layers, E
experts.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from openk2.kernels.head_loss import head_loss
from openk2.kernels.int4 import Scales
from openk2.kernels.precision import fast_matmul_dtype
from openk2.kernels.workers import Workers
from openk2.model.transformer import TrainOutput, Transformer
from openk2.text.packing import Batch, Mixture
from openk2.train import checkpoint
from openk2.train.balance import load_metrics, update_biases
from openk2.train.metrics import MetricsLog
from openk2.train.muonclip import MuonClip, MuonClipConfig, check_logits, qk_clip
from openk2.train.pointers import PointerConfig, PointerLoss
from openk2.train.qat import FakeInt4, Qat
from openk2.train.schedule import Decay, ScheduleConfig, lr_factor
from openk2.train.terminal import progress, stop_requested

Metrics = dict[str, float]
StopReason = Literal["finished", "signal", "time"]

_MAX_SKIPPED = 5
"""Steps in a row with gradients that are not finite before the run gives up."""

_TOKENS_PER_WORKER = 2048
"""What a thread of its own is worth: fewer tokens leave each expert only a handful."""

_AT_LEAST_1 = (
    "steps",
    "batch_tokens",
    "micro_batch_tokens",
    "save_every",
    "keep_checkpoints",
    "eval_every",
    "head_chunk",
)


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How long, how large and how fast a run is."""

    steps: int
    """Optimizer steps of the whole run, those before a resume included."""
    batch_tokens: int = 8192
    """Tokens per optimizer step, padding included."""
    micro_batch_tokens: int = 8192
    """Tokens per forward and backward; gradients add up to `batch_tokens`."""
    workers: int | None = None
    """Forwards and backwards that run side by side on a CPU, each with its share of the cores; none
    means as many as get 2,048 tokens each. The sum's rounding, nothing else, depends on it."""
    seed: int = 0
    """Fixes the initial weights and the order of the data."""
    warmup_steps: int = 30
    """Steps in which the learning rate rises to its peak."""
    decay_from: int | None = None
    """First step of the decay; none means the last 30 % of the run. Set it to lengthen a run
    that is resumed: warm-up, stable, decay needs no total length until the decay begins."""
    decay: Decay = "cosine"
    """Shape of the decay."""
    floor: float = 0.02
    """Learning rate at the end as a share of the peak."""
    qk_clip_tau: float = 100.0
    """Cap on attention logits; K2's value."""
    bias_rate: float = 1e-3
    """Step of the expert-balance bias (DeepSeek-V3's value); short runs need more."""
    max_minutes: float | None = None
    """Stop with a checkpoint after this long; resume continues."""
    save_every: int = 500
    """Steps between resume checkpoints."""
    keep_checkpoints: int = 2
    """Resume checkpoints that stay on disk."""
    eval_every: int = 200
    """Steps between evaluations; the last step has one anyway."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products; weights stay float32. auto: bfloat16 on a GPU that has it."""
    device: str = "auto"
    """As PyTorch names it; auto: the first GPU, else the CPU."""
    compile: bool = False
    """Run the model through torch.compile: slow to start, faster after. bfloat16 only."""
    head_chunk: int = 1024
    """Tokens whose logits live at one time."""
    qat: Qat = "none"
    """Learn with the weights that INT4 will leave, as Kimi K2 Thinking did after pre-training:
    `experts` rounds what `openk2 quantize --format int4-experts` does, `linears` what
    `--format int4` does. The unrounded weights are what learns and what is saved."""
    qat_scales: Scales = "absmax"
    """Scales of `qat`; quantise the result with the same `--scales`."""
    frozen: tuple[str, ...] = ()
    """Parts of parameter names, as `experts`: what they name keeps its weights."""
    pointers: PointerConfig = field(default_factory=PointerConfig)
    """Which attention heads are shown where to look."""
    optimizer: MuonClipConfig = field(
        default_factory=lambda: MuonClipConfig(muon_lr=4e-3, adamw_lr=3e-3)
    )
    """How parameters are updated."""

    def __post_init__(self) -> None:
        """Refuse values that no run can have."""
        for name in _AT_LEAST_1:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("warmup_steps", "bias_rate", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, but is {getattr(self, name)}")
        if self.decay_from is not None and self.decay_from < 0:
            raise ValueError(f"decay_from must not be negative, but is {self.decay_from}")
        if not self.qk_clip_tau > 0:
            raise ValueError(f"qk_clip_tau must be greater than 0, not {self.qk_clip_tau}")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be at least 1 or none, not {self.workers}")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise ValueError(f"max_minutes must be greater than 0 or none, not {self.max_minutes}")
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor must lie between 0 and 1, not {self.floor}")

    def schedule(self) -> ScheduleConfig:
        """Return the learning-rate schedule of the whole run.

        Raises:
            ValueError: Warm-up and decay do not fit.
        """
        start = self.decay_from if self.decay_from is not None else round(self.steps * 0.7)
        start = max(start, min(self.warmup_steps, self.steps))
        return ScheduleConfig(
            total_steps=self.steps,
            warmup_steps=min(self.warmup_steps, self.steps),
            decay_steps=max(0, self.steps - start),
            floor=self.floor,
            decay=self.decay,
        )


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended."""

    step: int
    reason: StopReason
    metrics: Metrics
    """The last values, held-out ones included."""


@dataclass(slots=True)
class _Part:
    """What some of a step's rows give."""

    loss: float
    gradients: list[Tensor | None]
    max_logit_LH: Tensor
    load_ME: Tensor

    def add(self, other: _Part) -> None:
        """Take another part's rows in."""
        self.loss += other.loss
        for i, (mine, theirs) in enumerate(zip(self.gradients, other.gradients, strict=True)):
            if mine is None:
                self.gradients[i] = theirs
            elif theirs is not None:
                mine.add_(theirs)
        self.max_logit_LH = torch.maximum(self.max_logit_LH, other.max_logit_LH)
        self.load_ME = self.load_ME + other.load_ME


class Trainer:
    """A model with its optimizer and position: what a checkpoint holds."""

    def __init__(self, model: Transformer, config: LoopConfig, start: str = "") -> None:
        """Move the model to its device and start with fresh optimizer state.

        Args:
            model: What to train.
            config: How.
            start: Digest of the files that the model came from; a run resumes from its own only.

        Raises:
            ValueError: The settings do not go together.
        """
        self.config, self.start = config, start
        self.device = pick_device(config.device)
        self.dtype = pick_dtype(config.dtype, self.device)
        if config.compile and self.dtype is torch.float32:
            raise ValueError(
                "`loop.compile` needs bfloat16, as torch cannot trace grouped products in float32: "
                "set `loop.dtype` to bfloat16 or `loop.compile` to false"
            )
        self.model = model.to(self.device).train()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not any(part in name for part in config.frozen))
        self.pointers: PointerLoss | None = None
        """A further loss of every micro-batch."""
        self.forward: Callable[..., TrainOutput] = torch.compile(model) if config.compile else model
        self.workers = Workers(_pick_workers(config, self.device))
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = MuonClip(model.named_parameters(), config.optimizer, workers=self.workers)
        self.fake_int4 = FakeInt4(self.model, config.qat, config.qat_scales)
        self.biases = [
            buffer
            for name, buffer in model.named_buffers()
            if name.endswith("e_score_correction_bias")
        ]
        self.schedule = config.schedule()
        self.step = 0
        """Finished optimizer steps."""
        self.rows = 0
        """Rows of the data stream that were used."""
        self.tokens = 0
        """Tokens that were used."""

    def train_step(self, batch: Batch) -> Metrics:
        """Learn from one batch and return the step's metrics.

        Raises:
            FloatingPointError: A gradient or attention logit is not finite; nothing was changed.
        """
        lr_scale = lr_factor(self.step, self.schedule)
        self.optimizer.zero_grad()
        with self.fake_int4.rounded():
            loss, max_logit_LH, load_ME = self.accumulate(batch)
        check_logits(max_logit_LH)
        grad_norm = self.optimizer.step(lr_scale)
        clipped = qk_clip(
            dict(self.model.named_parameters()),
            self.model.config,
            max_logit_LH,
            self.config.qk_clip_tau,
        )
        update_biases(self.biases, load_ME, self.config.bias_rate)
        load = load_metrics(load_ME)
        shown = self.pointers.metrics if self.pointers is not None else {}
        return {
            **shown,
            "loss": loss,
            "lr": self.config.optimizer.muon_lr * lr_scale,
            "grad_norm": grad_norm,
            "max_logit": float(max_logit_LH.max()),
            "clipped_heads": clipped,
            "load_max": load.max_over_mean,
            "load_worst": load.worst_max_over_mean,
            "dead_experts": load.dead_experts,
        }

    def accumulate(self, batch: Batch) -> tuple[float, Tensor, Tensor]:
        """Add up gradients over micro-batches: loss, largest logits and loads of the step."""
        # One total for all micro-batches: they may carry unequal weight.
        total_weight = float(batch.weight_BT.sum(dtype="float64"))
        if total_weight == 0:
            raise ValueError("no token of this batch has a loss weight: check the shards' masks")
        n_rows, seq_len = batch.ids_BT.shape
        fair_rows = -(-n_rows // self.workers.count)
        micro_rows = max(1, min(self.config.micro_batch_tokens // seq_len, fair_rows))
        starts = range(0, n_rows, micro_rows)
        # Which worker takes what is fixed, so that the same run always adds in the same order.
        shares = [
            starts[w :: self.workers.count] for w in range(min(len(starts), self.workers.count))
        ]
        parts = self.workers.map(
            lambda share: self._accumulate(
                batch, [slice(start, start + micro_rows) for start in share], total_weight
            ),
            shares,
        )
        total = parts[0]
        for part in parts[1:]:
            total.add(part)
        for parameter, gradient in zip(self.parameters, total.gradients, strict=True):
            parameter.grad = gradient
        return total.loss, total.max_logit_LH, total.load_ME

    def _accumulate(self, batch: Batch, micro_batches: list[slice], total_weight: float) -> _Part:
        """Do one worker's share of a step."""
        part: _Part | None = None
        for rows in micro_batches:
            ids_BT, doc_BT, target_BT, weight_BT = self.tensors(batch, rows)
            target_N, weight_N = target_BT.flatten(), weight_BT.flatten() / total_weight
            wanted_N = None
            # A GPU would wait for the count, and a compiled model be compiled anew for each.
            if self.device.type == "cpu" and not self.config.compile:
                wanted_N = weight_N.nonzero().squeeze(1)
                target_N, weight_N = target_N[wanted_N], weight_N[wanted_N]
            with self.autocast():
                output = self.forward(ids_BT, doc_BT, wanted_N)
                hidden_ND = output.hidden_BTD.flatten(0, -2)
                head_VD = self.model.lm_head.weight
                loss = head_loss(hidden_ND, head_VD, target_N, weight_N, self.config.head_chunk)
            said = loss.item()
            if self.pointers is not None:
                of_all = len(ids_BT) / len(batch.ids_BT)
                loss = loss + of_all * self.pointers(ids_BT, doc_BT, target_BT, weight_BT)
            gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
            new = _Part(
                said, list(gradients), output.max_logit_LH.detach(), output.load_ME.detach()
            )
            if part is None:
                part = new
            else:
                part.add(new)
        assert part is not None
        return part

    def tensors(self, batch: Batch, rows: slice = slice(None)) -> list[Tensor]:
        """Return ids, documents, targets and weights of some rows on the device."""
        arrays = (batch.ids_BT, batch.doc_BT, batch.target_BT, batch.weight_BT)
        return [torch.from_numpy(array[rows]).to(self.device) for array in arrays]

    def autocast(self) -> torch.autocast:
        """Return the context in which the model runs in its compute dtype."""
        low = self.dtype is not torch.float32
        return torch.autocast(self.device.type, dtype=self.dtype if low else None, enabled=low)

    def save(self, directory: Path) -> Path:
        """Write a resume checkpoint."""
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        tensors |= {f"optimizer.{name}": t for name, t in self.optimizer.state_dict().items()}
        tensors["rng.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        state = {"rows": self.rows, "tokens": self.tokens, "start": self.start}
        return checkpoint.save(
            directory, self.step, tensors, state, keep=self.config.keep_checkpoints
        )

    def load(self, path: Path) -> None:
        """Continue from a resume checkpoint, bit for bit on the same machine, on the CPU.

        Raises:
            CheckpointError: It is damaged, of another model or began from another one.
        """
        tensors, state = checkpoint.load(path)
        if state.get("start", self.start) != self.start:
            raise checkpoint.CheckpointError(
                f"checkpoint {path} began from another model than this run does: "
                "start over with --fresh, or bring the model back that it began from"
            )
        groups: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "rng": {}}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            groups[kind][rest] = tensor
        try:
            self.model.load_state_dict(groups["model"])
            self.optimizer.load_state_dict(groups["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise checkpoint.CheckpointError(
                f"checkpoint {path} is of another model: {error}"
            ) from error
        torch.set_rng_state(groups["rng"]["cpu"])
        if self.device.type == "cuda" and "cuda" in groups["rng"]:
            torch.cuda.set_rng_state(groups["rng"]["cuda"], self.device)
        self.step, self.rows, self.tokens = state["step"], state["rows"], state["tokens"]


def train(
    trainer: Trainer,
    mixture: Mixture,
    seq_len: int,
    out: Path,
    evaluate: Callable[[Trainer], Mapping[str, float]],
    *,
    resume: bool = True,
    show_progress: bool = False,
) -> Result:
    """Run to the last step, a signal or the time limit; always leaves a checkpoint.

    Args:
        trainer: Model, optimizer and position.
        mixture: The rows; where to continue is the trainer's `rows`.
        seq_len: Tokens per row.
        out: Receives `metrics.jsonl` and `checkpoints/`.
        evaluate: Measures held-out quality; the model is in eval mode without gradients.
        resume: Continue from the newest checkpoint in `out` if there is one; otherwise delete
            what is there.
        show_progress: Draw a progress bar on stderr.
    """
    config, checkpoints = trainer.config, out / "checkpoints"
    if not resume:  # or a later run would resume from them
        shutil.rmtree(checkpoints, ignore_errors=True)
    found = checkpoint.latest(checkpoints)
    if found is not None:
        trainer.load(found)
    n_rows = max(1, config.batch_tokens // seq_len)
    stop_at = time.monotonic() + 60 * (config.max_minutes or math.inf)
    reason: StopReason = "finished"
    metrics: Metrics = {}
    with (
        MetricsLog(out / "metrics.jsonl", resume_step=trainer.step) as log,
        stop_requested() as stop,
        progress(config.steps, trainer.step, show_progress) as advance,
    ):
        while trainer.step < config.steps and reason == "finished":
            row = _one_step(trainer, mixture, n_rows)
            last = trainer.step == config.steps
            if last or trainer.step % config.eval_every == 0:
                row |= run_evaluation(trainer, evaluate)
            log.write(row)
            metrics |= row
            advance(row)
            if not last and stop.is_set():
                reason = "signal"
            elif not last and time.monotonic() > stop_at:
                reason = "time"
            if last or reason != "finished" or trainer.step % config.save_every == 0:
                trainer.save(checkpoints)
    return Result(trainer.step, reason, metrics)


def _one_step(trainer: Trainer, mixture: Mixture, n_rows: int) -> Metrics:
    """Train on the next rows, passing over batches whose gradients are not finite."""
    for attempt in range(_MAX_SKIPPED):
        began = time.monotonic()
        batch = mixture.batch(trainer.rows, n_rows)
        trainer.rows += n_rows
        try:
            metrics = trainer.train_step(batch)
        except FloatingPointError:
            if attempt == _MAX_SKIPPED - 1:
                raise
            continue
        trainer.step += 1
        trainer.tokens += batch.ids_BT.size
        seconds = time.monotonic() - began
        return {
            "step": trainer.step,
            "tokens": trainer.tokens,
            **metrics,
            "skipped_batches": attempt,
            "tokens_per_s": round(batch.ids_BT.size / seconds, 1),
        }
    raise AssertionError("unreachable")


def run_evaluation(
    trainer: Trainer, evaluate: Callable[[Trainer], Mapping[str, float]]
) -> Mapping[str, float]:
    """Call `evaluate` with the model in eval mode, rounded if it trains so, without gradients."""
    trainer.model.eval()
    try:
        with trainer.fake_int4.rounded(), torch.inference_mode(), trainer.autocast():
            return evaluate(trainer)
    finally:
        trainer.model.train()


def pick_device(name: str) -> torch.device:
    """Return the named device; `auto` is the first GPU, else the CPU."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _pick_workers(config: LoopConfig, device: torch.device) -> int:
    """Return how many threads work side by side; a GPU and a compiled model take one."""
    if device.type != "cpu" or config.compile:
        return 1
    if config.workers is not None:
        return config.workers
    return max(1, min(torch.get_num_threads(), config.batch_tokens // _TOKENS_PER_WORKER))


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the compute dtype; `auto` is bfloat16 only on a GPU that has it."""
    if name == "auto":
        return fast_matmul_dtype(device) if device.type == "cuda" else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32
