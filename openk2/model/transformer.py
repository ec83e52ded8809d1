"""The K2 transformer: embedding, pre-norm layers of MLA and feed-forward, untied head.

In: token ids. Out: hidden states with the training statistics, or logits over a latent cache.
Must not know: text, sampling, losses, or files. Kimi K2 report
(arXiv 2507.20534), §2.3.

Shapes: B batch, T tokens, S cached tokens, D model width, V vocabulary, L layers, M layers with
experts, E experts, H heads, N cache slots, R cached values per token.
"""

from __future__ import annotations

import math
import mmap
from typing import NamedTuple

import torch
from torch import Tensor, nn

from openk2.kernels.attention import document_bias
from openk2.model.config import K2Config
from openk2.model.mla import LatentAttention
from openk2.model.moe import MoE, SwiGLU
from openk2.model.rope import rope_angles


class TrainOutput(NamedTuple):
    """What a training forward returns."""

    hidden_BTD: Tensor
    """After the final norm; the loss applies the head itself."""
    max_logit_LH: Tensor
    """Largest softmax input per layer and head, padding left out."""
    load_ME: Tensor
    """Tokens that each expert took, padding left out."""


class LatentCache:
    """MLA's compressed keys and values for a fixed number of sequences."""

    def __init__(
        self,
        config: K2Config,
        slots: int,
        max_len: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Allocate `slots` rows of `max_len` tokens."""
        shape = (config.num_hidden_layers, slots, max_len, config.latent_dim)
        if torch.device(device).type == "cpu":
            self.latent_LNSR = _zeros_on_demand(shape, dtype)
        else:
            self.latent_LNSR = torch.zeros(shape, dtype=dtype, device=device)

    @property
    def max_len(self) -> int:
        """Tokens that one slot holds."""
        return self.latent_LNSR.shape[2]


def _zeros_on_demand(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros that take memory only where they are written; `torch.zeros` touches all of it."""
    memory = mmap.mmap(-1, max(1, math.prod(shape)) * dtype.itemsize)
    return torch.frombuffer(memory, dtype=dtype, count=math.prod(shape)).view(shape)


class Layer(nn.Module):
    """`h += MLA(norm(h)); h += FFN(norm(h))`."""

    def __init__(self, config: K2Config, index: int) -> None:
        """Build layer `index`; the first `first_k_dense_replace` are dense."""
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = LatentAttention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.is_dense = index < config.first_k_dense_replace
        self.mlp = (
            SwiGLU(config.hidden_size, config.intermediate_size) if self.is_dense else MoE(config)
        )

    def feed_forward(
        self, h_BTD: Tensor, padding_BT: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the residual stream after the feed-forward half, and the experts' load."""
        x_BTD = self.post_attention_layernorm(h_BTD)
        if self.is_dense:
            return h_BTD + self.mlp(x_BTD), None
        y_BTD, load_E = self.mlp(x_BTD, padding_BT)
        return h_BTD + y_BTD, load_E


class Transformer(nn.Module):
    """A K2 model of any size."""

    def __init__(self, config: K2Config) -> None:
        """Allocate the weights and fill them with normal noise of `initializer_range`."""
        super().__init__()
        self.config = config
        # Without drawing its rows: PyTorch imports half of itself for normal noise on "meta".
        rows_VD = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding.from_pretrained(rows_VD, freeze=False)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if not rows_VD.is_meta:
            self.reset_parameters()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.norm.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in, whatever its matrices are stored as."""
        return self.norm.weight.dtype

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw matrices from N(0, initializer_range²); norm gains become 1, biases 0."""
        for name, parameter in self.named_parameters():
            if "norm" in name:
                parameter.fill_(1.0)
            else:
                parameter.normal_(0.0, self.config.initializer_range, generator=generator)
        for name, buffer in self.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.zero_()

    def forward(self, ids_BT: Tensor, doc_BT: Tensor | None = None) -> TrainOutput:
        """Run whole sequences without a cache.

        Args:
            ids_BT: Token ids.
            doc_BT: Document of each token in a packed row; tokens see only their own document.
                Negative on padding, which the statistics leave out.
        """
        padding_BT = None if doc_BT is None else doc_BT < 0
        doc_BT = torch.zeros_like(ids_BT) if doc_BT is None else doc_BT
        position_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        cos_BTP, sin_BTP = rope_angles(self.config, position_T[None])
        h_BTD = self.embed_tokens(ids_BT)
        bias_blocks = document_bias(doc_BT, _compute_dtype(h_BTD))
        max_logits: list[Tensor] = []
        loads: list[Tensor] = []
        for layer in self.layers:
            assert isinstance(layer, Layer)
            x_BTD = layer.input_layernorm(h_BTD)
            y_BTD, max_logit_H = layer.self_attn(x_BTD, cos_BTP, sin_BTP, bias_blocks, padding_BT)
            h_BTD, load_E = layer.feed_forward(h_BTD + y_BTD, padding_BT)
            max_logits.append(max_logit_H)
            if load_E is not None:
                loads.append(load_E)
        no_experts = ids_BT.new_zeros(0, self.config.n_routed_experts)
        load_ME = torch.stack(loads) if loads else no_experts
        return TrainOutput(self.norm(h_BTD), torch.stack(max_logits), load_ME)

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """Return float32 logits [..., V]."""
        return self.lm_head(hidden_BTD).float()

    @torch.inference_mode()
    def infer(
        self, ids_BT: Tensor, cache: LatentCache, slot_B: Tensor, start_B: Tensor, length_B: Tensor
    ) -> Tensor:
        """Extend cached sequences and return the next-token logits [B, V] in float32.

        Args:
            ids_BT: New tokens, padded on the right.
            cache: Its rows `slot_B` already hold `start_B` tokens; the new ones are written.
            slot_B: Distinct cache rows.
            start_B: Tokens already in each row.
            length_B: Valid new tokens per row, at least 1.
        """
        T = ids_BT.shape[1]
        position_BT = start_B[:, None] + torch.arange(T, device=ids_BT.device)
        valid_BT = torch.arange(T, device=ids_BT.device) < length_B[:, None]
        S = int((start_B + length_B).max())
        visible_BTS = torch.arange(S, device=ids_BT.device) <= position_BT[..., None]
        row, position = slot_B[:, None].expand_as(ids_BT)[valid_BT], position_BT[valid_BT]
        cos_BTP, sin_BTP = rope_angles(self.config, position_BT)
        h_BTD = self.embed_tokens(ids_BT)
        for layer, latent_NSR in zip(self.layers, cache.latent_LNSR, strict=True):
            assert isinstance(layer, Layer)
            x_BTD = layer.input_layernorm(h_BTD)
            new_BTR = layer.self_attn.project_latents(x_BTD, cos_BTP, sin_BTP)
            latent_NSR[row, position] = new_BTR[valid_BT].to(latent_NSR.dtype)
            cached_BSR = latent_NSR[slot_B, :S].to(x_BTD.dtype)
            y_BTD = layer.self_attn.infer(x_BTD, cos_BTP, sin_BTP, cached_BSR, visible_BTS)
            h_BTD, _ = layer.feed_forward(h_BTD + y_BTD)
        last_BD = h_BTD[torch.arange(len(slot_B), device=ids_BT.device), length_B - 1]
        return self.logits(self.norm(last_BD))


def _compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype that attention scores will have, autocast included."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


class ParameterCount(NamedTuple):
    """How many weights a model has, and how many of them one token uses."""

    total: int
    active: int
    """All but the routed experts that a token does not visit; embedding and head included."""
    active_inner: int
    """The same without embedding and head."""


def count_parameters(config: K2Config) -> ParameterCount:
    """Count weights and selection biases on the meta device, without allocating them."""
    with torch.device("meta"):
        model = Transformer(config)
    total = sum(p.numel() for p in model.parameters()) + sum(b.numel() for b in model.buffers())
    routed = sum(p.numel() for name, p in model.named_parameters() if ".experts_" in name)
    idle = routed // config.n_routed_experts
    active = total - idle * (config.n_routed_experts - config.num_experts_per_tok)
    return ParameterCount(total, active, active - 2 * config.vocab_size * config.hidden_size)
