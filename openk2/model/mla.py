"""Multi-head latent attention: materialised for training, absorbed over the latent cache.

In: hidden states, rotary angles, and either document masks or cache rows. Out: hidden states.
Must not know: the feed-forward half, sampling, or how cache rows are allotted. DeepSeek-V2
report (arXiv 2405.04434), §2.1; `docs/concepts/mla.md`.

Shapes: B batch, T new tokens, D model width, H heads, n unrotated width, r rotary width,
q = n + r, v value width, C latent width, R = C + r cached
values per token, N rows of the cache, S sequences of a group, Q new tokens and K tokens of context
of each, P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from openk2.kernels.attention import DocumentMask, attention
from openk2.model.config import K2Config
from openk2.model.norm import RMSNorm
from openk2.model.rope import rotate

LATENT_NORM_EPS = 1e-6
"""Fixed, whatever `rms_norm_eps` says: transformers builds these norms with the class default,
and K2-Thinking's published eps of 1e-5 does not reach them."""


MAX_SCORES = 1 << 26
"""Attention scores that exist at once over the cache: a long context is read in fewer queries."""


class AttentionGroup(NamedTuple):
    """Sequences whose attention over the cache is computed together, padded to the longest."""

    token_SQ: Tensor
    """The new tokens of each; padding repeats the first."""
    valid_SQ: Tensor
    position_SQ: Tensor
    """Where they stand; a token sees the positions up to its own."""
    row_SK: Tensor
    """The cache rows of positions 0, 1, …; anything behind a sequence's end."""


class LatentAttention(nn.Module):
    """MLA with query and key-value latents and one rotary key shared by all heads."""

    def __init__(self, config: K2Config) -> None:
        """Allocate weights; without `q_lora_rank` queries come straight from the input."""
        super().__init__()
        self.config = config
        D, H, C = config.hidden_size, config.num_attention_heads, config.kv_lora_rank
        queries = H * config.qk_head_dim
        if config.q_lora_rank is None:
            self.q_proj = nn.Linear(D, queries, bias=False)
        else:
            self.q_a_proj = nn.Linear(D, config.q_lora_rank, bias=False)
            self.q_a_layernorm = RMSNorm(config.q_lora_rank, eps=LATENT_NORM_EPS)
            self.q_b_proj = nn.Linear(config.q_lora_rank, queries, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(D, config.latent_dim, bias=False)
        self.kv_a_layernorm = RMSNorm(C, eps=LATENT_NORM_EPS)
        keys_and_values = H * (config.qk_nope_head_dim + config.v_head_dim)
        self.kv_b_proj = nn.Linear(C, keys_and_values, bias=False)
        self.o_proj = nn.Linear(H * config.v_head_dim, D, bias=False)

    def _queries(self, x_BTD: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        c = self.config
        if c.q_lora_rank is None:
            q_BTx = self.q_proj(x_BTD)
        else:
            q_BTx = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x_BTD)))
        q_BTHq = q_BTx.unflatten(-1, (c.num_attention_heads, c.qk_head_dim))
        nope_BTHn, rope_BTHr = q_BTHq.split((c.qk_nope_head_dim, c.qk_rope_head_dim), dim=-1)
        return nope_BTHn, rotate(rope_BTHr, cos, sin)

    def _latents(self, x_BTD: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the cache keeps: the normalised latent and the rotated shared key."""
        c = self.config
        latent_BTC, key_BTr = self.kv_a_proj_with_mqa(x_BTD).split(
            (c.kv_lora_rank, c.qk_rope_head_dim), dim=-1
        )
        key_BTr = rotate(key_BTr[..., None, :], cos, sin).squeeze(-2)
        return self.kv_a_layernorm(latent_BTC), key_BTr

    def heads(
        self, x_BTD: Tensor, cos_BTP: Tensor, sin_BTP: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return every head's scaled queries, its keys and its values, [B, T, H, q or v]."""
        c = self.config
        q_nope, q_rope = self._queries(x_BTD, cos_BTP, sin_BTP)
        latent_BTC, key_BTr = self._latents(x_BTD, cos_BTP, sin_BTP)
        kv_BTHx = self.kv_b_proj(latent_BTC).unflatten(-1, (c.num_attention_heads, -1))
        k_nope, v_BTHv = kv_BTHx.split((c.qk_nope_head_dim, c.v_head_dim), dim=-1)
        k_rope = key_BTr[:, :, None].expand(-1, -1, c.num_attention_heads, -1)
        q_BTHq = torch.cat((q_nope, q_rope), -1) * c.softmax_scale
        return q_BTHq, torch.cat((k_nope, k_rope), -1), v_BTHv

    def forward(
        self,
        x_BTD: Tensor,
        cos_BTP: Tensor,
        sin_BTP: Tensor,
        mask: DocumentMask,
        padding_BT: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attend with keys and values materialised per head.

        Returns:
            The output [B, T, D] and each head's largest softmax input [H], padding left
            out, for QK-Clip.
        """
        q_BTHq, k_BTHq, v_BTHv = self.heads(x_BTD, cos_BTP, sin_BTP)
        q_BHTq, k_BHTq, v_BHTv = (t.transpose(1, 2).contiguous() for t in (q_BTHq, k_BTHq, v_BTHv))
        mixed_BHTv, top_BH = attention(q_BHTq, k_BHTq, v_BHTv, mask, padding_BT)
        return self.o_proj(mixed_BHTv.transpose(1, 2).flatten(2)), top_BH.amax(0)

    def project_latents(self, x_TD: Tensor, cos_TP: Tensor, sin_TP: Tensor) -> Tensor:
        """Return the cache rows [T, R] of new tokens."""
        return torch.cat(self._latents(x_TD, cos_TP, sin_TP), dim=-1)

    def infer(
        self,
        x_TD: Tensor,
        cos_TP: Tensor,
        sin_TP: Tensor,
        latent_NR: Tensor,
        groups: Sequence[AttentionGroup],
    ) -> Tensor:
        """Attend in the latent space itself: keys and values are never materialised.

        Args:
            x_TD: The new tokens of all sequences.
            cos_TP: Cosines of their rotary angles.
            sin_TP: Sines of their rotary angles.
            latent_NR: The cache, with the new tokens' own latents.
            groups: Which rows of the cache each of them may see; each is in one group.
        """
        c = self.config
        q_nope_THn, q_rope_THr = self._queries(x_TD, cos_TP, sin_TP)
        wkv_HxC = self.kv_b_proj.weight.unflatten(0, (c.num_attention_heads, -1))
        wk_HnC, wv_HvC = wkv_HxC.split((c.qk_nope_head_dim, c.v_head_dim), dim=1)
        q_latent_THC = torch.einsum("thn,hnc->thc", q_nope_THn, wk_HnC)
        q_THR = torch.cat((q_latent_THC, q_rope_THr), -1) * c.softmax_scale
        mixed_THC = torch.empty_like(q_latent_THC)
        for group in groups:
            mixed_SQHC = self._mix(q_THR, latent_NR, group)
            mixed_THC[group.token_SQ[group.valid_SQ]] = mixed_SQHC[group.valid_SQ]
        mixed_THv = torch.einsum("thc,hvc->thv", mixed_THC, wv_HvC)
        return self.o_proj(mixed_THv.flatten(1))

    def _mix(self, q_THR: Tensor, latent_NR: Tensor, group: AttentionGroup) -> Tensor:
        """Return the latents that each query sees, weighed by the softmax."""
        key_SKR = latent_NR[group.row_SK].to(q_THR.dtype)
        # What a token must not see is multiplied by zero, and zero times NaN is NaN. A NaN that it
        # does see is not hidden: its score is NaN as well.
        value_SKR = key_SKR[..., : self.config.kv_lora_rank].nan_to_num(0.0, 0.0, 0.0)
        position_K = torch.arange(key_SKR.shape[1], device=key_SKR.device)
        S, Q = group.token_SQ.shape
        scores = S * q_THR.shape[1] * len(position_K)
        mixed: list[Tensor] = []
        for part_SQ in torch.arange(Q, device=key_SKR.device).split(max(1, MAX_SCORES // scores)):
            q_SHQR = q_THR[group.token_SQ[:, part_SQ]].transpose(1, 2)
            hidden_SQK = position_K > group.position_SQ[:, part_SQ, None]
            score_SHQK = q_SHQR @ key_SKR[:, None].transpose(-1, -2)
            score_SHQK = score_SHQK.masked_fill(hidden_SQK[:, None], -torch.inf)
            prob_SHQK = score_SHQK.softmax(-1, dtype=torch.float32).to(q_THR.dtype)
            mixed.append((prob_SHQK @ value_SKR[:, None]).transpose(1, 2))
        return torch.cat(mixed, 1)
