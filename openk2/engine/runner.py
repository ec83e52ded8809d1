"""What the engine asks of a model: the logits of a ragged batch over a paged cache.

In: new tokens of many sequences, and which blocks hold what came before. Out: logits.
Must not know: requests, who owns a block, sampling, or text.

Shapes: T new tokens of all sequences, S rows of the block table, N blocks per row, O logits
wanted, V vocabulary, L layers, P blocks of the cache, R cached values per token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from openk2.model.replace import Places, module_places
from openk2.model.transformer import Transformer, latent_blocks

BLOCK = 16
"""Tokens per block of the cache."""


@dataclass(slots=True)
class Batch:
    """New tokens of all sequences, one sequence after the other; int32, contiguous."""

    ids_T: np.ndarray
    position_T: np.ndarray
    """Of each token in its own sequence; a sequence's new tokens are consecutive."""
    sequence_T: np.ndarray
    """The row of the table that each token belongs to; not every row needs a token."""
    table_SN: np.ndarray
    """Position p of a sequence lies in block `table[s, p // 16]`, row p % 16; unused are -1."""
    wanted_O: np.ndarray
    """Indices into T whose next-token logits are wanted, ascending."""


class Runner(Protocol):
    """A model over its own paged cache."""

    vocab_size: int
    max_positions: int

    def allocate(self, blocks: int) -> None:
        """Make room for so many blocks; memory is taken when a block is written."""
        ...

    def block_bytes(self) -> int:
        """Bytes of one block over all layers."""
        ...

    def forward(self, batch: Batch) -> np.ndarray:
        """Write the new tokens' latents and return float32 logits [O, V].

        The result is valid until the next call. A token sees its own sequence up to itself;
        whatever else lies in the cache, NaN included, changes nothing.
        """
        ...


class Native(NamedTuple):
    """A forward pass that compiled code can make: it reads the batch anew at each call."""

    run: int
    """Address of a function of 11 int64 that returns how many threads took part."""
    arguments: tuple[int, ...]
    logits_OV: np.ndarray
    """Where it leaves the logits; C-contiguous."""


@runtime_checkable
class RepeatingRunner(Runner, Protocol):
    """A runner whose batch can be run again, with other ids and positions, by compiled code."""

    @property
    def repeats(self) -> bool:
        """Whether it can with this model."""
        ...

    def repeat(self, batch: Batch, loop: Callable[[Native], tuple[int, int]]) -> int:
        """Call `loop`, which returns how often it ran the batch and on how many threads at last.

        Returns:
            How often.
        """
        ...


class TorchRunner:
    """Any `Transformer` on any device, mapped ones included; the compiled runner's slow twin."""

    def __init__(self, model: Transformer) -> None:
        """Run `model`, which changes while requests run through `places` alone."""
        self.model = model
        self.vocab_size = model.config.vocab_size
        self.max_positions = model.config.max_position_embeddings
        self._latent_LPxR = self._blocks(1)
        self._places: Places | None = None

    def allocate(self, blocks: int) -> None:
        """Make room for so many blocks; what the old ones held is lost."""
        self._latent_LPxR = self._blocks(blocks)

    def places(self) -> Places:
        """Return where it holds each tensor.

        Raises:
            CannotReplaceError: Experts are read from disk whenever they are needed.
        """
        if self._places is None:
            self._places = module_places(self.model)
        return self._places

    def block_bytes(self) -> int:
        """Bytes of one block over all layers."""
        config = self.model.config
        values = config.num_hidden_layers * BLOCK * config.latent_dim
        return values * self.model.dtype.itemsize

    def forward(self, batch: Batch) -> np.ndarray:
        """Write the new tokens' latents and return float32 logits [O, V]."""
        ids_T, position_T, sequence_T, table_SN, wanted_O = (
            torch.from_numpy(array)
            for array in (
                batch.ids_T,
                batch.position_T,
                batch.sequence_T,
                batch.table_SN,
                batch.wanted_O,
            )
        )
        logits_OV = self.model.infer(
            ids_T, position_T, sequence_T, table_SN, self._latent_LPxR, wanted_O
        )
        return logits_OV.cpu().numpy()

    def _blocks(self, count: int) -> torch.Tensor:
        model = self.model
        return latent_blocks(model.config, count, BLOCK, model.dtype, model.device)


def check_context(max_len: int, runner: Runner) -> None:
    """Refuse a context window that a runner has no positions for.

    Raises:
        ValueError: Says which ones it has.
    """
    if not 2 <= max_len <= runner.max_positions:
        raise ValueError(
            f"max_len is {max_len}; use 2 (one token in, one out) to "
            f"{runner.max_positions}, the model's max_position_embeddings"
        )


def check_sizes(sizes: Mapping[str, int | None]) -> None:
    """Refuse sizes below 1; None is a default.

    Raises:
        ValueError: Names the first one.
    """
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise ValueError(f"{name} is {size}; use 1 or more")
