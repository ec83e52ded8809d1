"""Quantisation-aware training: forward and backward with the weights that INT4 will leave.

In: a model and which of its matrices will be rounded. Out: while a context lasts, a model whose
matrices hold rounded values. Kimi K2 Thinking trained so after pre-training, experts only. Must
not know: the loss, the optimizer, or how the rounded model is written.

A gradient that is formed with the rounded weights is the master weights' as it stands, so the
optimizer moves those (straight-through estimator, arXiv 1308.3432) until another value is nearer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from openk2.kernels import int4
from openk2.model.checkpoint import HEAD
from openk2.model.names import is_linear, is_routed_expert, published_names

Qat = Literal["none", "experts", "linears"]


class FakeInt4:
    """The matrices of one model that take part as what they will be rounded to."""

    def __init__(self, model: nn.Module, qat: Qat, scales: int4.Scales) -> None:
        """Choose the matrices and make room for their rounded values.

        Args:
            model: On the device it is trained on.
            qat: experts: what `openk2 quantize --format int4-experts` rounds. linears: what
                `--format int4` rounds.
            scales: How a group's scale is chosen.

        Raises:
            ValueError: A matrix cannot be divided into groups.
        """
        self._scales: int4.Scales = scales
        chosen = {name: p for name, p in model.named_parameters() if _takes_part(name, p, qat)}
        for name, p in chosen.items():
            if p.shape[-1] % int4.GROUP:
                raise ValueError(
                    f"INT4 needs a multiple of {int4.GROUP} inputs and {name} has {p.shape[-1]}: "
                    "set `loop.qat` to none"
                )
        self._chosen = list(chosen.values())
        self._rounded = [torch.empty_like(p.data) for p in self._chosen]

    @contextmanager
    def rounded(self) -> Iterator[None]:
        """Let the model compute with rounded weights; its masters come back at the end.

        The optimizer must not step inside.
        """
        masters = [p.data for p in self._chosen]
        for p, rounded in zip(self._chosen, self._rounded, strict=True):
            int4.fake_quantize_into(
                rounded.flatten(0, -2), p.data.flatten(0, -2), scales=self._scales
            )
        try:
            for p, rounded in zip(self._chosen, self._rounded, strict=True):
                p.data = rounded
            yield
        finally:
            for p, master in zip(self._chosen, masters, strict=True):
                p.data = master


def _takes_part(name: str, parameter: nn.Parameter, qat: Qat) -> bool:
    published, _ = next(published_names(name, parameter))
    match qat:
        case "none":
            return False
        case "experts":
            return is_routed_expert(published)
        case "linears":
            return is_linear(published) or published == HEAD
