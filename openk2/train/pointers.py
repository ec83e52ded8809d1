"""A loss that shows attention where to look: at the tokens that the next one is copied from.

Copying needs a head that looks at the token before, and one after it that finds where the same
tokens stood (an induction head, arXiv 2209.11895). Left to itself that pair appears late in
training, because neither half is of use without the other; here each has its own loss.

In: a model, and the tokens of a micro-batch after its forward. Out: a loss, differentiable in the
attention weights. Must not know: the language-model loss, the optimizer, what the tokens say.

Legend: B rows, T tokens, N positions asked for, H heads, q width of queries and keys.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from openk2.model.mla import LatentAttention
from openk2.model.transformer import Layer, Transformer
from openk2.text.copy_sources import CopySources

_ASKED = 256
"""About how many positions of a row are asked whether they look back."""


@dataclass(frozen=True, slots=True)
class PointerConfig:
    """Which heads are shown where to look, and how strongly."""

    weight: float = 0.0
    """Weight of this loss beside the language model's; 0 leaves it out."""
    previous_layer: int = 1
    """Its first heads look back 1, 2, … tokens. Not 0: there, nothing tells positions apart but
    the tokens themselves."""
    previous_heads: int = 2
    """How many heads look back so."""
    copy_layers: tuple[int, ...] = (3, 4)
    """Layers whose first heads look at what comes next, where it can be copied."""
    copy_heads: int = 2
    """How many heads of each of those layers."""
    start_weight: float = 4.0
    """Weight of a copy's first token beside the ones that follow it: they are found by the token
    before them, the first only by what is asked for."""

    def __post_init__(self) -> None:
        """Refuse negative weights."""
        for name in ("weight", "start_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, but is {getattr(self, name)}")


class PointerLoss:
    """The loss of one model; ask it after each forward."""

    def __init__(self, model: Transformer, config: PointerConfig, sources: CopySources) -> None:
        """Listen to the layers that are shown something.

        Raises:
            ValueError: The model has no such layer or head.
        """
        self._config, self._sources = config, sources
        heads, layers = model.config.num_attention_heads, model.config.num_hidden_layers
        used = (config.previous_layer, *config.copy_layers)
        if max(used) >= layers or max(config.previous_heads, config.copy_heads) > heads:
            raise ValueError(
                f"loop.pointers names layers {used} and up to "
                f"{max(config.previous_heads, config.copy_heads)} heads, but the model has "
                f"{layers} layers of {heads} heads"
            )
        self._attention: dict[int, LatentAttention] = {}
        # Micro-batches run side by side, each forward and its loss on one thread.
        self._local = threading.local()
        for number in used:
            layer = model.layers[number]
            assert isinstance(layer, Layer)
            self._attention[number] = layer.self_attn
            layer.self_attn.register_forward_hook(self._listener(number))
        self.metrics: dict[str, float] = {}
        """Of the last micro-batch: how much attention falls where it should."""

    def _listener(self, number: int):  # noqa: ANN202  # a hook, whose type torch leaves open
        def listen(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
            if module.training:
                self._inputs[number] = (inputs[0], inputs[1], inputs[2])

        return listen

    @property
    def _inputs(self) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
        """What the layers of this thread's last forward were given."""
        if not hasattr(self._local, "inputs"):
            self._local.inputs = {}
        return self._local.inputs

    def __call__(
        self, ids_BT: Tensor, doc_BT: Tensor, target_BT: Tensor, weight_BT: Tensor
    ) -> Tensor:
        """Return the weighted mean of −log(attention on the right tokens)."""
        config = self._config
        total = self._looking_back(doc_BT)
        arrays = (x.cpu().numpy() for x in (ids_BT, doc_BT, target_BT, weight_BT))
        source_BTT = torch.from_numpy(self._sources.find(*arrays)).to(ids_BT.device)
        copied_BT = source_BTT.any(-1)
        source_NT = source_BTT[copied_BT]
        if len(source_NT):
            parts_HN: list[Tensor] = []
            for layer in config.copy_layers:
                logp_HNT = self._log_attention(layer, config.copy_heads, doc_BT, copied_BT)
                parts_HN.append(logp_HNT.masked_fill(~source_NT, -torch.inf).logsumexp(-1))
            found_HN = torch.cat(parts_HN)
            start_N = _starts(source_BTT)[copied_BT]
            weight_N = torch.where(start_N, config.start_weight, 1.0)
            total = total - (found_HN * weight_N).mean() / weight_N.mean()
            seen_N = found_HN.detach().exp().mean(0)
            self.metrics["attention_on_sources"] = float(seen_N.mean())
            self.metrics["attention_on_starts"] = float(seen_N[start_N].mean())
        self._inputs.clear()
        return config.weight * total

    def _looking_back(self, doc_BT: Tensor) -> Tensor:
        config, T = self._config, doc_BT.shape[1]
        at_T = torch.arange(T, device=doc_BT.device)
        asked_BT = ((at_T % max(1, T // _ASKED)) == 0) & (doc_BT >= 0)
        logp_HNT = self._log_attention(
            config.previous_layer, config.previous_heads, doc_BT, asked_BT
        )
        row_N, position_N = asked_BT.nonzero(as_tuple=True)
        total = logp_HNT.new_zeros(())
        seen = 0.0
        for back, logp_NT in enumerate(logp_HNT, 1):
            before_N = (position_N - back).clamp_min(0)
            inside_N = (position_N >= back) & (doc_BT[row_N, before_N] == doc_BT[row_N, position_N])
            looked_N = logp_NT.gather(1, before_N[:, None])[:, 0][inside_N]
            if not len(looked_N):  # no document here is that long
                continue
            total = total - looked_N.mean() / config.previous_heads
            seen += float(looked_N.detach().exp().mean()) / config.previous_heads
        self.metrics["attention_on_previous"] = seen
        return total

    def _log_attention(self, layer: int, heads: int, doc_BT: Tensor, asked_BT: Tensor) -> Tensor:
        """Compute the log of the attention of a layer's first heads once more, [H, N, T].

        N are the positions that are asked for, row by row: all T of them would cost as much as
        the layers' own attention.
        """
        attention, (x_BTD, cos, sin) = self._attention[layer], self._inputs[layer]
        q_BTHq, k_BTHq, _ = attention.heads(x_BTD, cos, sin)
        at_T = torch.arange(doc_BT.shape[1], device=doc_BT.device)
        parts_HNT: list[Tensor] = []
        for row, asked_T in enumerate(asked_BT):
            doc_T, position_N = doc_BT[row], at_T[asked_T]
            q_HNq = q_BTHq[row, position_N, :heads].transpose(0, 1)
            score_HNT = (q_HNq @ k_BTHq[row, :, :heads].permute(1, 2, 0)).float()
            sees_NT = (at_T <= position_N[:, None]) & (doc_T == doc_T[position_N][:, None])
            parts_HNT.append(score_HNT.masked_fill(~sees_NT, -torch.inf).log_softmax(-1))
        return torch.cat(parts_HNT, 1)


def _starts(source_BTT: Tensor) -> Tensor:
    """Tell which positions do not go on with the copy of the position before them, [B, T]."""
    goes_on_BTT = source_BTT[:, 1:, 1:] & source_BTT[:, :-1, :-1]
    return ~nn.functional.pad(goes_on_BTT.any(-1), (1, 0))
