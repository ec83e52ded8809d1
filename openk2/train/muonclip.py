"""MuonClip: Muon for matrices, AdamW for the rest, QK-Clip on attention (Kimi K2, Algorithm 1).

In: named float32 parameters with gradients, and each step's largest attention logits. Out: the
parameters, updated in place. Must not know the loss, the data or where checkpoints live.

The last two dimensions of a parameter are a matrix, leading ones a batch of matrices, so every
expert and each of gate and up is orthogonalised by itself.

Shapes: S matrices in a stack, N rows, M columns; L layers, H heads, D head dim, R latent width.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from openk2.kernels.newton_schulz import STEPS, matrices_at_once, newton_schulz
from openk2.kernels.precision import fast_matmul_dtype
from openk2.kernels.workers import Workers
from openk2.model.config import K2Config

_ADAMW_MATRICES = ("embed_tokens", "lm_head")


@dataclass(frozen=True, slots=True)
class MuonClipConfig:
    """How parameters are updated."""

    muon_lr: float = 2e-4
    """Peak rate of hidden matrices. 2e-4 is K2's (section 2.5)."""
    adamw_lr: float = 2e-4
    """Peak rate of embedding, head and norm gains. Muon's update has AdamW's size, so it may equal
    `muon_lr` (arXiv 2502.16982, section 2.2)."""
    weight_decay: float = 0.1
    """Decoupled, on every parameter. Norm gains too: Moonlight found it crucial (appendix D)."""
    momentum: float = 0.95
    """Share of the gradients' running sum that Muon keeps from step to step."""
    nesterov: bool = True
    """Moonlight looks ahead; K2's report does not say. False is its Algorithm 1 as printed."""
    update_rms: float = 0.2
    """Root mean square of a full-rank update before the rate; AdamW's is 0.2 to 0.4."""
    newton_schulz_steps: int = STEPS
    """Iterations of the orthogonalisation."""
    adamw_betas: tuple[float, float] = (0.9, 0.95)
    """Decay of AdamW's running means of gradients and of their squares."""
    adamw_eps: float = 1e-8
    """Added to AdamW's denominator."""
    max_grad_norm: float | None = 1.0
    """Gradients are scaled down to this global norm; None leaves them."""

    def __post_init__(self) -> None:
        """Refuse values that no run can have."""
        for name in ("muon_lr", "adamw_lr", "weight_decay", "update_rms", "adamw_eps"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, but is {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be at least 0 and less than 1, not {self.momentum}")
        if not all(0 <= beta < 1 for beta in self.adamw_betas):
            raise ValueError(f"adamw_betas must be at least 0 and less than 1: {self.adamw_betas}")
        if self.newton_schulz_steps < 1:
            raise ValueError(
                f"newton_schulz_steps must be at least 1, not {self.newton_schulz_steps}"
            )
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(
                f"max_grad_norm must be greater than 0 or none, not {self.max_grad_norm}"
            )


class MuonClip:
    """Updates the parameters of one model.

    State lives in plain tensors by parameter name, so a checkpoint needs no pickle.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        config: MuonClipConfig,
        *,
        matmul_dtype: torch.dtype | None = None,
        workers: Workers | None = None,
    ) -> None:
        """Sort parameters into Muon's and AdamW's and start with empty momentum.

        Args:
            named_parameters: `model.named_parameters()`; those without gradients are left out.
            config: How to update.
            matmul_dtype: What Newton-Schulz runs in; None picks the device's fastest.
            workers: Who updates the matrices on a CPU; None means the caller's thread.

        Raises:
            ValueError: A parameter is not a float32 master weight, or there is none.
        """
        trained = {name: p for name, p in named_parameters if p.requires_grad}
        _check_master_weights(trained)
        self.config = config
        self.muon = {name: p for name, p in trained.items() if _is_hidden_matrix(name, p)}
        self.adamw = {name: p for name, p in trained.items() if name not in self.muon}
        self._matmul_dtype = matmul_dtype
        self._workers = workers or Workers(1)
        self._momentum = {name: torch.zeros_like(p) for name, p in self.muon.items()}
        self._adamw = _make_adamw(self.adamw, config) if self.adamw else None

    @torch.no_grad()
    def step(self, lr_scale: float = 1.0) -> float:
        """Clip gradients, update every parameter that has one, and return the norm before clipping.

        Args:
            lr_scale: The schedule's factor on both peak rates.

        Raises:
            FloatingPointError: A gradient is not finite; nothing was updated.
        """
        norm = self._gradient_norm()
        limit = self.config.max_grad_norm
        # The factor of `torch.nn.utils.clip_grad_norm_`, its epsilon included.
        clip = 1.0 if limit is None else min(1.0, limit / (norm + 1e-6))
        muon_lr = self.config.muon_lr * lr_scale
        self._workers.map(lambda batch: self._step_muon(batch, muon_lr, clip), self._batches())
        if self._adamw is not None:
            for p in self.adamw.values():
                if p.grad is not None:
                    p.grad *= clip
            self._adamw.param_groups[0]["lr"] = self.config.adamw_lr * lr_scale
            self._adamw.step()
        return norm

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for p in (*self.muon.values(), *self.adamw.values()):
            p.grad = None

    def state_dict(self) -> dict[str, Tensor]:
        """Return the live state by name; `load_state_dict` continues from it bit for bit."""
        state = {f"momentum.{name}": m for name, m in self._momentum.items()}
        if self._adamw is not None:
            for name, p in self.adamw.items():
                for key in ("step", "exp_avg", "exp_avg_sq"):
                    state[f"{key}.{name}"] = self._adamw.state[p][key]
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy a saved state into this optimizer.

        Raises:
            ValueError: The state is of another model.
        """
        own = self.state_dict()
        if own.keys() != state.keys():
            odd = min(own.keys() ^ state.keys())
            raise ValueError(
                f"optimizer state and model differ, first at {odd!r}: "
                "load the state that was saved with this model."
            )
        for name, tensor in own.items():
            if tensor.shape != state[name].shape:
                raise ValueError(
                    f"optimizer state {name!r} has shape {tuple(state[name].shape)}, the model "
                    f"needs {tuple(tensor.shape)}: load the state that was saved with this model."
                )
            tensor.copy_(state[name])

    def _gradient_norm(self) -> float:
        """Return the norm of all gradients together.

        Raises:
            FloatingPointError: It is not finite.
        """
        parameters = {**self.muon, **self.adamw}
        gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
        norms = self._workers.map(torch.linalg.vector_norm, gradients.values())
        norm = torch.linalg.vector_norm(torch.stack(norms)).item() if norms else 0.0
        if not math.isfinite(norm):
            bad = [name for name, g in gradients.items() if not torch.isfinite(g).all()]
            raise FloatingPointError(
                f"the gradient norm is {norm}, not finite in {', '.join(bad) or 'the sum'}: "
                "nothing was updated, so skip this batch or go back to a checkpoint."
            )
        return norm

    def _batches(self) -> Iterator[list["_Stack"]]:
        """Group matrices that are updated together.

        On a CPU as many of one parameter as fit the cache, so that a matrix comes from memory once
        for the whole update; elsewhere all of equal shape, whichever layers or experts they are of.
        """
        groups: dict[tuple[object, ...], list[_Stack]] = {}
        for name, p in self.muon.items():
            if p.grad is None:
                continue
            matrix = p.shape[-2:]
            stack = _Stack(
                weight_SNM=p.detach().view(-1, *matrix),
                gradient_SNM=p.grad.reshape(-1, *matrix),
                momentum_SNM=self._momentum[name].view(-1, *matrix),
            )
            if p.device.type == "cpu":
                yield from (
                    [part] for part in stack.split(matrices_at_once(stack.weight_SNM, p.dtype))
                )
            else:
                groups.setdefault((*matrix, p.device, p.dtype), []).append(stack)
        yield from groups.values()

    @torch.no_grad()
    def _step_muon(self, batch: list["_Stack"], lr: float, clip: float) -> None:
        config, device = self.config, batch[0].weight_SNM.device
        ahead_SNM = torch.cat([_advance(stack, config, clip) for stack in batch])
        update_SNM = newton_schulz(
            ahead_SNM,
            self._matmul_dtype or fast_matmul_dtype(device),
            steps=config.newton_schulz_steps,
        )
        # An orthogonal N x M matrix has RMS 1 / sqrt(max(N, M)) (arXiv 2502.16982, Lemma 1).
        scale = config.update_rms * math.sqrt(max(update_SNM.shape[1:]))
        parts = update_SNM.split([len(stack.weight_SNM) for stack in batch])
        for stack, part_SNM in zip(batch, parts, strict=True):
            stack.weight_SNM.mul_(1 - lr * config.weight_decay).add_(part_SNM, alpha=-lr * scale)


def check_logits(max_logit_LH: Tensor) -> None:
    """Refuse attention logits that are not finite; ask before the optimizer's step.

    Raises:
        FloatingPointError: A logit is NaN or infinite.
    """
    fine_LH = max_logit_LH < math.inf  # -inf is fine: a head that saw nothing but padding
    if not fine_LH.all():
        layer, head = (~fine_LH).nonzero()[0].tolist()
        raise FloatingPointError(
            f"the largest attention logit of layer {layer}, head {head} is not finite: "
            "go back to a checkpoint and lower the learning rate or tau."
        )


@torch.no_grad()
def qk_clip(
    parameters: Mapping[str, Tensor], config: K2Config, max_logit_LH: Tensor, tau: float
) -> int:
    """Shrink the query and key weights of every head whose largest logit exceeds `tau`.

    Afterwards the logits of such a head are `tau / max_logit` times what they were; all other
    heads, the shared rotary key and the values stay as they are (Kimi K2, section 2.1). Call it
    after the optimizer's step.

    Args:
        parameters: Master weights by name: `dict(model.named_parameters())`.
        config: Gives the head dimensions.
        max_logit_LH: Largest scaled attention logit of the step, over all its micro-batches.
        tau: The cap; K2 used 100.

    Returns:
        How many heads were clipped.

    Raises:
        FloatingPointError: A logit is NaN or infinite; nothing was changed.
    """
    check_logits(max_logit_LH)
    over_LH = max_logit_LH > tau
    gamma_LH = torch.where(over_LH, tau / max_logit_LH, 1.0)
    for layer in over_LH.any(dim=1).nonzero().flatten().tolist():
        attention = f"layers.{layer}.self_attn"
        q = parameters.get(f"{attention}.q_b_proj.weight")
        if q is None:
            q = parameters[f"{attention}.q_proj.weight"]
        _scale_heads(q, parameters[f"{attention}.kv_b_proj.weight"], config, gamma_LH[layer])
    return int(over_LH.sum())


def _scale_heads(q: Tensor, kv: Tensor, config: K2Config, gamma_H: Tensor) -> None:
    nope = config.qk_nope_head_dim
    gamma_H11 = gamma_H.to(q)[:, None, None]
    q_HDR = q.unflatten(0, (config.num_attention_heads, -1))
    k_HDR = kv.unflatten(0, (config.num_attention_heads, -1))[:, :nope]
    q_HDR[:, :nope] *= gamma_H11.sqrt()
    k_HDR *= gamma_H11.sqrt()
    # All heads share the rotary key, so the query carries that part's whole factor.
    q_HDR[:, nope:] *= gamma_H11


@dataclass(frozen=True, slots=True)
class _Stack:
    """Views of one parameter, its gradient and its momentum as stacks of matrices."""

    weight_SNM: Tensor
    gradient_SNM: Tensor
    momentum_SNM: Tensor

    def split(self, size: int) -> Iterator["_Stack"]:
        """Return the same views, `size` matrices at a time."""
        views = (self.weight_SNM, self.gradient_SNM, self.momentum_SNM)
        return map(_Stack, *(view.split(size) for view in views))


def _advance(stack: _Stack, config: MuonClipConfig, clip: float) -> Tensor:
    gradient_SNM = stack.gradient_SNM * clip
    momentum_SNM = stack.momentum_SNM.mul_(config.momentum).add_(gradient_SNM)
    if not config.nesterov:
        return momentum_SNM
    return gradient_SNM.add_(momentum_SNM, alpha=config.momentum)


def _is_hidden_matrix(name: str, p: Tensor) -> bool:
    return p.ndim >= 2 and not any(part in _ADAMW_MATRICES for part in name.split("."))


def _check_master_weights(parameters: Mapping[str, Tensor]) -> None:
    if not parameters:
        raise ValueError("no parameter requires a gradient: MuonClip has nothing to update.")
    for name, p in parameters.items():
        if p.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"parameter {name!r} is {p.dtype}, in which small updates vanish: "
                "keep master weights in float32 and cast them in the forward pass."
            )


def _make_adamw(
    parameters: Mapping[str, nn.Parameter], config: MuonClipConfig
) -> torch.optim.AdamW:
    adamw = torch.optim.AdamW(
        list(parameters.values()),
        lr=config.adamw_lr,
        betas=config.adamw_betas,
        eps=config.adamw_eps,
        weight_decay=config.weight_decay,
        fused=True,  # 3 to 15 times faster on a CPU than foreach
    )
    for p in parameters.values():  # made now, not at the first step, so a state can be loaded
        adamw.state[p] = {
            "step": torch.zeros((), dtype=torch.float32, device=p.device),
            "exp_avg": torch.zeros_like(p),
            "exp_avg_sq": torch.zeros_like(p),
        }
    return adamw
