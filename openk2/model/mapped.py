"""A model for inference whose weights stay on disk in their stored form, mapped into memory.

In: an opened checkpoint. Out: a `Transformer` that computes in float32 and expands one block of a
matrix at a time. Pages are read when a product needs them and given back by the system when memory
is short; an expert that no token was routed to is never read.
Must not know: training, the engine, or where a checkpoint comes from.

Shapes: T tokens, K experts per token, D model width, I inner width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openk2.kernels.stored import FloatMatrix, Scratch, StoredMatrix, dense, linear
from openk2.model.checkpoint import Checkpoint
from openk2.model.moe import Router
from openk2.model.names import is_routed_expert, published_shapes
from openk2.model.transformer import Layer, Transformer

COMPUTE = torch.float32
"""Whatever the weights are stored as: CPUs without bfloat16 instructions are faster so, and a
stored value expands to it exactly."""
EMBEDDING = "model.embed_tokens.weight"
CONVERT_BELOW = 1 << 27
"""Bytes of a checkpoint whose bfloat16 matrices are converted once, when they are opened, and not
in every product: a quarter more tokens a second, for memory that nobody misses."""


class StoredLinear(nn.Module):
    """A linear layer over a stored matrix."""

    def __init__(self, matrix: StoredMatrix, scratch: Scratch) -> None:
        """Keep the matrix as it is."""
        super().__init__()
        self.matrix, self.scratch = matrix, scratch

    @property
    def weight(self) -> Tensor:
        """The expanded matrix, made anew each time: for MLA, which needs its halves."""
        return dense(self.matrix, COMPUTE)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., N] to [..., O]."""
        return linear(x, self.matrix, self.scratch)


class StoredEmbedding(nn.Module):
    """An embedding that reads the rows it is asked for."""

    def __init__(self, table_VD: Tensor) -> None:
        """Keep the table as it is."""
        super().__init__()
        self.table_VD = table_VD

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids [...] to [..., D]."""
        return self.table_VD[ids].to(COMPUTE)


class StoredSwiGLU(nn.Module):
    """A dense feed-forward layer over stored matrices."""

    def __init__(
        self, gate: StoredMatrix, up: StoredMatrix, down: StoredMatrix, scratch: Scratch
    ) -> None:
        """Keep the matrices as they are."""
        super().__init__()
        self.gate, self.up, self.down, self.scratch = gate, up, down, scratch

    def forward(self, x_TD: Tensor) -> Tensor:
        """Map [..., D] to [..., D]."""
        gate_TI = linear(x_TD, self.gate, self.scratch)
        hidden_TI = F.silu(gate_TI, inplace=True).mul_(linear(x_TD, self.up, self.scratch))
        return linear(hidden_TI, self.down, self.scratch)


class StoredMoE(nn.Module):
    """Routed experts that are opened when the first token comes to them, and the shared ones."""

    def __init__(self, opener: _Opener, prefix: str) -> None:
        """Read the router; open the shared experts, and no routed one."""
        super().__init__()
        config = opener.checkpoint.config
        with torch.device("meta"):
            self.gate = Router(config)
        weight = opener.vector(f"{prefix}.gate.weight")
        self.gate.weight = nn.Parameter(weight, requires_grad=False)
        self.gate.e_score_correction_bias = opener.vector(f"{prefix}.gate.e_score_correction_bias")
        self.shared_experts = opener.swiglu(f"{prefix}.shared_experts")
        self._opener = opener
        self._prefix = prefix
        self._opened: dict[int, StoredSwiGLU] = {}

    def forward(self, x_BTD: Tensor, padding_BT: Tensor | None = None) -> tuple[Tensor, None]:
        """Return the layer's output; loads are for training and are not counted."""
        del padding_BT
        x_TD = x_BTD.flatten(0, -2)
        expert_TK, gate_TK = self.gate(x_TD)
        out_TD = self.shared_experts(x_TD)
        chosen = expert_TK.unique().tolist()
        for expert in chosen:
            # The disk reads all of them side by side while the first one computes; page by page,
            # as products would ask for them, it takes ten times as long.
            if self._opener.streaming or expert not in self._opened:
                self._opener.will_need(f"{self._prefix}.experts.{expert}")
        if len(x_TD) == 1:  # decoding: nothing to sort
            for expert, gate in zip(expert_TK[0].tolist(), gate_TK[0], strict=True):
                out_TD.addcmul_(self.expert(expert)(x_TD), gate)
            return out_TD.view_as(x_BTD), None
        for expert in chosen:
            token, slot = torch.where(expert_TK == expert)
            y = self.expert(expert)(x_TD[token])
            out_TD.index_add_(0, token, gate_TK[token, slot, None] * y)
        return out_TD.view_as(x_BTD), None

    @property
    def streaming(self) -> bool:
        """Whether experts are read from disk again and again, because memory has no room."""
        return self._opener.streaming

    def expert(self, expert: int) -> StoredSwiGLU:
        """Return a routed expert, opened when it is first asked for."""
        if expert not in self._opened:
            self._opened[expert] = self._opener.swiglu(f"{self._prefix}.experts.{expert}")
        return self._opened[expert]


class _Opener:
    """Opens a checkpoint's weights as modules on a device."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, streaming: bool) -> None:
        self.checkpoint = checkpoint
        self.device = device
        self.streaming = streaming
        self.converts = checkpoint.nbytes < CONVERT_BELOW
        self.scratch = Scratch()

    def vector(self, name: str) -> Tensor:
        """A small tensor: copied, because its page would be read for every token anyway."""
        return self.checkpoint.dense(name, COMPUTE).to(self.device, copy=True)

    def matrix(self, name: str) -> StoredMatrix:
        matrix = self.checkpoint.matrix(name).to(self.device)
        if self.converts and isinstance(matrix, FloatMatrix):
            return FloatMatrix(matrix.weight.to(COMPUTE))
        return matrix

    def swiglu(self, prefix: str) -> StoredSwiGLU:
        gate, up, down = (
            self.matrix(f"{prefix}.{part}_proj.weight") for part in ("gate", "up", "down")
        )
        return StoredSwiGLU(gate, up, down, self.scratch)

    def will_need(self, prefix: str) -> None:
        """Announce that an expert will be read."""
        for part in ("gate", "up", "down"):
            self.checkpoint.will_need(f"{prefix}.{part}_proj.weight")


def map_model(
    checkpoint: Checkpoint, device: torch.device | str = "cpu", *, streaming: bool = False
) -> Transformer:
    """Build a model for inference over a checkpoint's mapped weights.

    Args:
        checkpoint: Complete: see `Checkpoint.check_complete`.
        device: Where it computes; other devices than the CPU get copies in the stored form.
        streaming: The weights do not fit in memory: announce every read, and not only the first.

    Raises:
        WeightsError: A tensor that every token needs is missing or damaged.
    """
    checkpoint.map_files()
    for name in published_shapes(checkpoint.config):
        if not is_routed_expert(name) and name != EMBEDDING:
            checkpoint.will_need(name)
    with torch.device("meta"):
        model = Transformer(checkpoint.config)
    opener = _Opener(checkpoint, torch.device(device), streaming)
    table = checkpoint.tensor(EMBEDDING).to(opener.device)
    model.embed_tokens = StoredEmbedding(table)  # pyright: ignore[reportAttributeAccessIssue]
    for index, layer in enumerate(model.layers):
        assert isinstance(layer, Layer)
        _map_layer(layer, opener, f"model.layers.{index}")
    _map_norm(model.norm, opener, "model.norm")
    head = StoredLinear(opener.matrix("lm_head.weight"), opener.scratch)
    model.lm_head = head  # pyright: ignore[reportAttributeAccessIssue]
    return model.eval()


def _map_layer(layer: Layer, opener: _Opener, prefix: str) -> None:
    for name, module in list(layer.self_attn.named_children()):
        published = f"{prefix}.self_attn.{name}"
        if isinstance(module, nn.RMSNorm):
            _map_norm(module, opener, published)
        else:
            matrix = opener.matrix(f"{published}.weight")
            setattr(layer.self_attn, name, StoredLinear(matrix, opener.scratch))
    _map_norm(layer.input_layernorm, opener, f"{prefix}.input_layernorm")
    _map_norm(layer.post_attention_layernorm, opener, f"{prefix}.post_attention_layernorm")
    mlp = opener.swiglu(f"{prefix}.mlp") if layer.is_dense else StoredMoE(opener, f"{prefix}.mlp")
    layer.mlp = mlp  # pyright: ignore[reportAttributeAccessIssue]


def _map_norm(norm: nn.RMSNorm, opener: _Opener, prefix: str) -> None:
    norm.weight = nn.Parameter(opener.vector(f"{prefix}.weight"), requires_grad=False)
