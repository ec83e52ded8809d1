"""The feed-forward layers: dense SwiGLU, and the mixture of experts with its router.

In: hidden states. Out: hidden states, and how many tokens each expert took.
Must not know: attention, optimizers, or how the selection bias is updated. DeepSeek-V3
report (arXiv 2412.19437), equations 12–16.

Shapes: T tokens, D model width, I inner width, E experts, K experts per token, G groups.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openk2.kernels.experts import experts, swiglu
from openk2.model.config import K2Config


class SwiGLU(nn.Module):
    """A dense feed-forward layer; gate and up are stacked so that they are one product."""

    def __init__(self, hidden_size: int, inner_size: int) -> None:
        """Allocate weights; their values come from `Transformer` or a checkpoint."""
        super().__init__()
        self.gate_up = nn.Parameter(torch.empty(2, inner_size, hidden_size))
        self.down = nn.Parameter(torch.empty(hidden_size, inner_size))

    def forward(self, x_TD: Tensor) -> Tensor:
        """Map [..., D] to [..., D]."""
        return F.linear(swiglu(F.linear(x_TD, self.gate_up.flatten(0, 1))), self.down)


class Router(nn.Module):
    """Choose experts by sigmoid score plus bias; weigh them by the score alone."""

    e_score_correction_bias: Tensor

    def __init__(self, config: K2Config) -> None:
        """Allocate the router; it stays fp32 in any model, for near-ties flip experts."""
        super().__init__()
        self.config = config
        E, D = config.n_routed_experts, config.hidden_size
        self.weight = nn.Parameter(torch.empty(E, D, dtype=torch.float32))
        self.register_buffer("e_score_correction_bias", torch.zeros(E, dtype=torch.float32))

    def forward(self, x_TD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the chosen experts [T, K] and their float32 gate weights [T, K]."""
        c = self.config
        with torch.autocast(x_TD.device.type, enabled=False):
            score_TE = F.linear(x_TD.float(), self.weight.float()).sigmoid()
        key_TE = (score_TE + self.e_score_correction_bias).detach()
        if c.n_group > 1:
            key_TE = self._limit_to_groups(key_TE)
        expert_TK = key_TE.topk(c.num_experts_per_tok, dim=-1, sorted=False).indices
        gate_TK = score_TE.gather(1, expert_TK)
        if c.norm_topk_prob:
            gate_TK = gate_TK / (gate_TK.sum(-1, keepdim=True) + 1e-20)
        return expert_TK, gate_TK * c.routed_scaling_factor

    def _limit_to_groups(self, key_TE: Tensor) -> Tensor:
        """Keep only the groups whose two best keys sum highest (DeepSeek-V3; K2 has one group)."""
        c = self.config
        key_TGe = key_TE.unflatten(1, (c.n_group, -1))
        group_TG = key_TGe.topk(min(2, key_TGe.shape[-1]), dim=-1).values.sum(-1)
        keep_TG = torch.zeros_like(group_TG, dtype=torch.bool)
        keep_TG.scatter_(1, group_TG.topk(c.topk_group, dim=-1).indices, True)
        return key_TGe.masked_fill(~keep_TG[..., None], -torch.inf).flatten(1)


class MoE(nn.Module):
    """Shared experts for all tokens plus the routed ones."""

    def __init__(self, config: K2Config) -> None:
        """Allocate router, stacked experts and shared experts."""
        super().__init__()
        D, E, inner = config.hidden_size, config.n_routed_experts, config.moe_intermediate_size
        self.gate = Router(config)
        self.experts_gate_up = nn.Parameter(torch.empty(E, 2, inner, D))
        self.experts_down = nn.Parameter(torch.empty(E, D, inner))
        self.shared_experts = SwiGLU(D, inner * config.n_shared_experts)

    def forward(
        self,
        x_BTD: Tensor,
        padding_BT: Tensor | None = None,
        wanted_N: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the layer's output and the number of tokens per expert [E], padding left out.

        All tokens are routed and counted; with `wanted_N`, indices into them, only those are
        computed, and the output is [N, D].
        """
        x_TD = x_BTD.flatten(0, -2)
        expert_TK, gate_TK = self.gate(x_TD)
        E = self.experts_down.shape[0]
        counted_TK = expert_TK
        if padding_BT is not None:  # one more expert takes the padding and is not reported
            counted_TK = expert_TK.masked_fill(padding_BT.flatten()[:, None], E)
        load_E = torch.bincount(counted_TK.flatten(), minlength=E + 1)[:E]
        if wanted_N is not None:
            x_TD, expert_TK, gate_TK = (
                t.index_select(0, wanted_N) for t in (x_TD, expert_TK, gate_TK)
            )
        routed_TD = experts(x_TD, expert_TK, gate_TK, self.experts_gate_up, self.experts_down)
        y_TD = routed_TD + self.shared_experts(x_TD)
        return (y_TD.view_as(x_BTD) if wanted_N is None else y_TD), load_E
