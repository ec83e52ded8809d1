"""Weights that lie in shards on many ranks into the engine of each rank, a bucket at a time.

In: each rank's shard, over a torch.distributed group. Out: on every rank all tensors, one after the
other, as views of a buffer that is soon used again. Must not know: engines, or who trains.

The scheme of Moonshot's checkpoint engine (Kimi K2 report, arXiv 2507.20534, appendix G): a rank
owns some of the tensors; every tensor goes to all ranks, and each of their engines takes what it
needs. Tensors travel in buckets, and three things happen at once: one bucket is on the wire, the
next one is being staged by its owner, and the last one is being taken over by the engines. Beside
the weights, a rank therefore holds three buckets, however large the model is.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

BUCKET_BYTES = 16 << 20
"""Three of them are held; a tensor that is larger travels alone, in buckets of its size."""
ALIGNMENT = 16
"""Bytes that every tensor's place in a bucket is a multiple of: any type can be read there."""
TIMEOUT = 60.0
"""Seconds that a rank waits for a bucket before it takes the others for dead."""


class BroadcastError(RuntimeError):
    """Another rank is gone, or does not send what was agreed."""


@dataclass(frozen=True, slots=True)
class Item:
    """One tensor's place in a bucket."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    start: int
    """Its first byte."""

    @property
    def nbytes(self) -> int:
        """Its size."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


@dataclass(slots=True)
class Bucket:
    """What travels together."""

    owner: int
    """The rank that has it."""
    items: list[Item] = field(default_factory=list[Item])
    nbytes: int = 0


def shard_of(weights: Mapping[str, Tensor], rank: int, ranks: int) -> dict[str, Tensor]:
    """Return the tensors of one rank such that all have about as many bytes: largest first."""
    load = [0] * ranks
    mine: dict[str, Tensor] = {}
    for name in sorted(weights, key=lambda name: (-weights[name].nbytes, name)):
        owner = load.index(min(load))
        load[owner] += weights[name].nbytes
        if owner == rank:
            mine[name] = weights[name]
    return mine


Contents = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""Shapes and types of a shard's tensors."""


def plan(shards: Sequence[Contents], bucket_bytes: int) -> list[Bucket]:
    """Pack every rank's tensors into buckets, and let the owners take turns.

    Args:
        shards: Of all ranks, in their order.
        bucket_bytes: No bucket of several tensors is larger.

    Raises:
        BroadcastError: Two ranks have a tensor of the same name.
    """
    seen: dict[str, int] = {}
    by_owner: list[list[Bucket]] = []
    for owner, shard in enumerate(shards):
        buckets: list[Bucket] = []
        for name, (shape, dtype) in shard.items():
            if name in seen:
                raise BroadcastError(
                    f"{name} is in the shards of rank {seen[name]} and rank {owner}: give each "
                    "tensor one owner"
                )
            seen[name] = owner
            nbytes = Item(name, shape, dtype, 0).nbytes
            if not buckets or buckets[-1].nbytes + nbytes > bucket_bytes:
                buckets.append(Bucket(owner))
            bucket = buckets[-1]
            bucket.items.append(Item(name, shape, dtype, bucket.nbytes))
            bucket.nbytes += -(-nbytes // ALIGNMENT) * ALIGNMENT
        by_owner.append(buckets)
    # In turns: while one rank sends, the next one stages.
    rounds = max(map(len, by_owner), default=0)
    return [of[i] for i in range(rounds) for of in by_owner if i < len(of)]


def broadcast(
    shard: Mapping[str, Tensor],
    *,
    bucket_bytes: int = BUCKET_BYTES,
    timeout: float = TIMEOUT,
    group: Any = None,
) -> Generator[tuple[str, Tensor]]:
    """Yield all tensors of all shards, the same ones in the same order on every rank.

    Every rank of the group calls this at the same time and takes everything. A tensor is a view of
    a buffer: it is valid until the next one is asked for. What is yielded can be given to
    `openk2.rl.sync.replace`, so that the engine writes one bucket while the next one travels.

    Args:
        shard: The tensors that this rank owns.
        bucket_bytes: Size of each of the three buffers, or that of the largest tensor.
        timeout: Seconds that a bucket may take.
        group: The ranks; None is all of them.

    Raises:
        BroadcastError: A rank died, was too late, or owns what another one owns.
    """
    wire = _Wire(timeout, group)
    buckets = plan(wire.agree(shard), bucket_bytes)
    largest = max((bucket.nbytes for bucket in buckets), default=0)
    device = next((tensor.device for tensor in shard.values()), torch.device("cpu"))
    buffers = [torch.empty(largest, dtype=torch.uint8, device=device) for _ in range(3)]
    _stage(buckets[:1], wire.rank, shard, buffers[0])
    for turn, bucket in enumerate(buckets):
        sent = wire.send(buffers[turn % 3][: bucket.nbytes], bucket.owner)
        _stage(buckets[turn + 1 : turn + 2], wire.rank, shard, buffers[(turn + 1) % 3])
        if turn:
            yield from tensors(buckets[turn - 1], buffers[(turn - 1) % 3])
        wire.wait(sent, f"bucket {turn + 1} of {len(buckets)} from rank {bucket.owner}")
    if buckets:
        yield from tensors(buckets[-1], buffers[(len(buckets) - 1) % 3])
    wire.meet()


class _Wire:
    """The group's messages, with an end to every wait."""

    def __init__(self, timeout: float, group: Any) -> None:
        self.rank = dist.get_rank(group)
        self._limit = timedelta(seconds=timeout)
        self._group = group

    def agree(self, shard: Mapping[str, Tensor]) -> list[Contents]:
        """Tell all ranks what this one owns, and hear the same of them."""
        mine = {name: [list(t.shape), str(t.dtype)] for name, t in shard.items()}
        said = torch.tensor(list(json.dumps(mine).encode()), dtype=torch.uint8)
        length = [int(one) for one in self._gather(torch.tensor([len(said)]))]
        padded = torch.cat([said, said.new_zeros(max(length) - len(said))])
        heard = zip(self._gather(padded), length, strict=True)
        return [_contents(json.loads(bytes(one[:size].tolist()))) for one, size in heard]

    def _gather(self, mine: Tensor) -> list[Tensor]:
        found = [torch.empty_like(mine) for _ in range(dist.get_world_size(self._group))]
        with self._explained("the list of what each rank owns"):
            sent: Any = dist.all_gather(found, mine, self._group, async_op=True)
            sent.wait(self._limit)
        return found

    def send(self, buffer: Tensor, owner: int) -> Any:
        source = owner if self._group is None else dist.get_global_rank(self._group, owner)
        with self._explained(f"a bucket of rank {owner}"):
            return dist.broadcast(buffer, source, self._group, async_op=True)

    def wait(self, sent: Any, what: str) -> None:
        with self._explained(what):
            sent.wait(self._limit)

    def meet(self) -> None:
        """Wait for the others: nobody goes on with weights that another one did not get."""
        with self._explained("the end of the broadcast"):
            sent: Any = dist.all_reduce(torch.zeros(1), group=self._group, async_op=True)
            sent.wait(self._limit)

    @contextlib.contextmanager
    def _explained(self, what: str) -> Generator[None]:
        try:
            yield
        except (RuntimeError, ValueError) as error:  # gloo has no kinds of its own
            raise BroadcastError(
                f"rank {self.rank} waited for {what} in vain: another rank has died or hangs; end "
                f"all of them and start again ({str(error).splitlines()[0]})"
            ) from error


def _contents(said: Mapping[str, tuple[Sequence[int], str]]) -> Contents:
    return {
        name: (tuple(shape), getattr(torch, dtype.removeprefix("torch.")))
        for name, (shape, dtype) in said.items()
    }


def _stage(
    buckets: Sequence[Bucket], rank: int, shard: Mapping[str, Tensor], buffer: Tensor
) -> None:
    """Copy this rank's tensors into the buffer of a bucket that it will send."""
    for bucket in buckets:
        if bucket.owner == rank:
            for item, view in zip(bucket.items, tensors(bucket, buffer), strict=True):
                view[1].copy_(shard[item.name].detach())


def tensors(bucket: Bucket, buffer: Tensor) -> Generator[tuple[str, Tensor]]:
    """Yield a bucket's tensors as views of a buffer of bytes."""
    for item in bucket.items:
        stored = buffer[item.start : item.start + item.nbytes]
        yield item.name, stored.view(item.dtype).view(item.shape)
