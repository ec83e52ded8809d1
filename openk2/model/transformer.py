"""The K2 transformer: embedding, pre-norm layers of MLA and feed-forward, untied head.

In: token ids. Out: hidden states with the training statistics, or logits over a latent cache.
Must not know: text, sampling, losses, or files. Kimi K2 report
(arXiv 2507.20534), §2.3.

Shapes: B batch, T tokens, D model width, V vocabulary, L layers, M layers with experts, E experts,
H heads, N wanted tokens. Over the cache: S sequences, Q new tokens of one, K tokens of its context,
O wanted logits, N blocks per sequence, P blocks of the cache, x tokens per block, R cached values
per token.
"""

from __future__ import annotations

import math
import mmap
from typing import NamedTuple

import torch
from torch import Tensor, nn

from openk2.kernels.attention import document_mask
from openk2.model.config import K2Config
from openk2.model.mla import AttentionGroup, LatentAttention
from openk2.model.moe import MoE, SwiGLU
from openk2.model.norm import RMSNorm
from openk2.model.rope import rope_angles


class TrainOutput(NamedTuple):
    """What a training forward returns."""

    hidden_BTD: Tensor
    """After the final norm; the loss applies the head itself. [N, D] if only some were wanted."""
    max_logit_LH: Tensor
    """Largest softmax input per layer and head, padding left out."""
    load_ME: Tensor
    """Tokens that each expert took, padding left out."""


def latent_blocks(
    config: K2Config,
    blocks: int,
    block: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return room for MLA's compressed keys and values, [L, blocks, block, R], zero at first."""
    shape = (config.num_hidden_layers, blocks, block, config.latent_dim)
    if torch.device(device).type == "cpu":
        return _zeros_on_demand(shape, dtype)
    return torch.zeros(shape, dtype=dtype, device=device)


def _zeros_on_demand(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros that take memory only where they are written; `torch.zeros` touches all of it."""
    memory = mmap.mmap(-1, max(1, math.prod(shape)) * dtype.itemsize)
    return torch.frombuffer(memory, dtype=dtype, count=math.prod(shape)).view(shape)


class Layer(nn.Module):
    """`h += MLA(norm(h)); h += FFN(norm(h))`."""

    def __init__(self, config: K2Config, index: int) -> None:
        """Build layer `index`; the first `first_k_dense_replace` are dense."""
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = LatentAttention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.is_dense = index < config.first_k_dense_replace
        self.mlp = (
            SwiGLU(config.hidden_size, config.intermediate_size) if self.is_dense else MoE(config)
        )

    def feed_forward(
        self,
        h_BTD: Tensor,
        padding_BT: Tensor | None = None,
        wanted_N: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the residual stream after the feed-forward half, and the experts' load.

        With `wanted_N` the stream is [N, D]: of those tokens, the others' is not computed.
        """
        x_BTD = self.post_attention_layernorm(h_BTD)
        if wanted_N is not None:
            h_BTD = h_BTD.flatten(0, 1).index_select(0, wanted_N)
        if self.is_dense:
            if wanted_N is not None:
                x_BTD = x_BTD.flatten(0, 1).index_select(0, wanted_N)
            return h_BTD + self.mlp(x_BTD), None
        # Stored experts only serve: nothing is learned with them, and they know no wanted tokens.
        arguments = (x_BTD, padding_BT) if wanted_N is None else (x_BTD, padding_BT, wanted_N)
        y_BTD, load_E = self.mlp(*arguments)
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
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
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

    def forward(
        self, ids_BT: Tensor, doc_BT: Tensor | None = None, wanted_N: Tensor | None = None
    ) -> TrainOutput:
        """Run whole sequences without a cache.

        Args:
            ids_BT: Token ids.
            doc_BT: Document of each token in a packed row; tokens see only their own document.
                Negative on padding, which the statistics leave out.
            wanted_N: Tokens, counted through all rows, whose hidden state is wanted, in rising
                order. The last feed-forward layer, which no other token reads, computes only those.
        """
        padding_BT = None if doc_BT is None else doc_BT < 0
        doc_BT = torch.zeros_like(ids_BT) if doc_BT is None else doc_BT
        position_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        cos_BTP, sin_BTP = rope_angles(self.config, position_T[None])
        h_BTD = self.embed_tokens(ids_BT)
        mask = document_mask(doc_BT, _compute_dtype(h_BTD))
        max_logits: list[Tensor] = []
        loads: list[Tensor] = []
        for layer in self.layers:
            assert isinstance(layer, Layer)
            x_BTD = layer.input_layernorm(h_BTD)
            y_BTD, max_logit_H = layer.self_attn(x_BTD, cos_BTP, sin_BTP, mask, padding_BT)
            wanted = wanted_N if layer is self.layers[-1] else None
            h_BTD, load_E = layer.feed_forward(h_BTD + y_BTD, padding_BT, wanted)
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
        self,
        ids_T: Tensor,
        position_T: Tensor,
        sequence_T: Tensor,
        table_SN: Tensor,
        latent_LPxR: Tensor,
        wanted_O: Tensor,
    ) -> Tensor:
        """Extend cached sequences and return float32 next-token logits [O, V].

        Args:
            ids_T: New tokens, one sequence after the other. All indices are on the CPU.
            position_T: Where each stands in its sequence, consecutive within one.
            sequence_T: The row of the table that each belongs to.
            table_SN: Position p of sequence s lies in block `table[s, p // x]`, row `p % x`.
            latent_LPxR: The cache, from `latent_blocks`; the new tokens' latents are written.
            wanted_O: The tokens whose logits are wanted.
        """
        block = latent_LPxR.shape[2]
        block_T = table_SN[sequence_T.long(), position_T.long() // block].long()
        row_T = (block_T * block + position_T % block).to(self.device)
        groups = _attention_groups(position_T, sequence_T, table_SN, block, self.device)
        cos_TP, sin_TP = rope_angles(self.config, position_T.to(self.device))
        h_TD = self.embed_tokens(ids_T.to(self.device).long())
        for layer, latent_NR in zip(self.layers, latent_LPxR.flatten(1, 2), strict=True):
            assert isinstance(layer, Layer)
            x_TD = layer.input_layernorm(h_TD)
            new_TR = layer.self_attn.project_latents(x_TD, cos_TP, sin_TP)
            latent_NR[row_T] = new_TR.to(latent_NR.dtype)
            y_TD = layer.self_attn.infer(x_TD, cos_TP, sin_TP, latent_NR, groups)
            h_TD, _ = layer.feed_forward(h_TD + y_TD)
        return self.logits(self.norm(h_TD[wanted_O.to(self.device).long()]))


def _attention_groups(
    position_T: Tensor, sequence_T: Tensor, table_SN: Tensor, block: int, device: torch.device
) -> list[AttentionGroup]:
    """Put sequences together that are about as long: less than half of each group is padding."""
    sequences, counts = (x.tolist() for x in sequence_T.unique_consecutive(return_counts=True))
    members: dict[tuple[int, int], list[tuple[int, int, int, int]]] = {}
    start = 0
    for sequence, count in zip(sequences, counts, strict=True):
        first = int(position_T[start])
        key = ((count - 1).bit_length(), (first + count - 1).bit_length())
        members.setdefault(key, []).append((sequence, start, count, first))
        start += count
    return [_attention_group(rows, table_SN, block, device) for rows in members.values()]


def _attention_group(
    rows: list[tuple[int, int, int, int]], table_SN: Tensor, block: int, device: torch.device
) -> AttentionGroup:
    sequence_S, start_S, count_S, first_S = torch.tensor(rows).T
    step_Q = torch.arange(int(count_S.max()))
    valid_SQ = step_Q < count_S[:, None]
    token_SQ = start_S[:, None] + step_Q * valid_SQ
    context_K = torch.arange(int((first_S + count_S).max()))
    block_SK = table_SN[sequence_S][:, context_K // block].long().clamp(min=0)
    return AttentionGroup(
        token_SQ.to(device),
        valid_SQ.to(device),
        (first_S[:, None] + step_Q * valid_SQ).to(device),
        (block_SK * block + context_K % block).to(device),
    )


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
