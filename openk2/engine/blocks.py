"""Who owns which block of the paged cache, and which blocks hold a prefix that was read before.

In: token ids, 16 to a block. Out: block numbers, shared by all requests with the same prefix.
Must not know: what is written in a block, requests, or the model.

A block is *used* while requests refer to it, *cached* while the tree knows what it holds, and free
when neither. Cached blocks that nobody uses are what is taken back when free ones run out: the
leaf that was used longest ago first. Whoever uses a block uses all blocks above it in the tree, so
taking leaves never cuts a prefix that is in use.

Shapes: N blocks.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable

import numpy as np

from openk2.engine.runner import BLOCK

Namespace = Hashable
"""Prefixes of different ones are never shared."""
Edge = bytes | tuple[Namespace, bytes]
"""The ids of one block; below the root together with their namespace."""


class BlockPool:
    """Counts the references to the blocks 0 … count - 1."""

    def __init__(self, count: int) -> None:
        """Begin with every block free."""
        self.count = count
        self._references_N = np.zeros(count, np.int32)
        self._cached_N = np.zeros(count, np.bool_)
        # Reversed, so that the lowest free block is lent first and little memory is touched.
        self._free = list(range(count - 1, -1, -1))
        self._used = 0

    @property
    def free(self) -> int:
        """Blocks that nobody uses and that hold nothing worth keeping."""
        return len(self._free)

    @property
    def used(self) -> int:
        """Blocks that requests refer to."""
        return self._used

    @property
    def available(self) -> int:
        """Blocks that can be taken now, those that must be taken from the tree included."""
        return self.count - self._used

    def references(self, block: int) -> int:
        """How many requests use a block."""
        return int(self._references_N[block])

    def take(self, count: int) -> np.ndarray:
        """Lend free blocks, with one reference each.

        Raises:
            RuntimeError: So many are not free; take some from the tree first.
        """
        if count > len(self._free):
            raise RuntimeError(
                f"{count} blocks were asked for and {len(self._free)} are free; evict first"
            )
        block_N = np.array(self._free[len(self._free) - count :][::-1], np.int32)
        del self._free[len(self._free) - count :]
        self._references_N[block_N] = 1
        self._used += count
        return block_N

    def share(self, block_N: np.ndarray) -> None:
        """Add a reference to each of these distinct, cached blocks."""
        self._used += int(np.count_nonzero(self._references_N[block_N] == 0))
        self._references_N[block_N] += 1

    def drop(self, block_N: np.ndarray) -> None:
        """Take a reference from each of these distinct blocks; the last one frees it.

        Raises:
            RuntimeError: A block has no reference, so two owners may believe that it is theirs.
        """
        left_N = self._references_N[block_N] - 1
        if left_N.size and left_N.min() < 0:
            raise RuntimeError(f"block {block_N[left_N < 0][0]} was released but nobody uses it")
        self._references_N[block_N] = left_N
        unused_N = block_N[left_N == 0]
        self._used -= len(unused_N)
        self._free += unused_N[~self._cached_N[unused_N]].tolist()[::-1]

    def cache(self, block: int) -> None:
        """Keep a block when its last reference goes."""
        self._cached_N[block] = True

    def uncache(self, block: int) -> None:
        """Undo `cache`; a block without references is free at once.

        Raises:
            RuntimeError: The block is not cached.
        """
        if not self._cached_N[block]:
            raise RuntimeError(f"block {block} was taken from the tree but is not in it")
        self._cached_N[block] = False
        if self._references_N[block] == 0:
            self._free.append(block)


class Node:
    """One cached block: a prefix that ends with it."""

    __slots__ = ("block", "children", "depth", "edge", "parent", "queued", "used_at")

    def __init__(self, parent: Node | None, edge: Edge, block: int) -> None:
        """Hang a block under its prefix."""
        self.parent = parent
        self.edge = edge
        self.block = block
        self.depth: int = 0 if parent is None else parent.depth + 1
        """Blocks in the prefix, this one included."""
        self.children: dict[Edge, Node] = {}
        self.used_at = 0
        self.queued = False


class PrefixTree:
    """A radix tree over full blocks of token ids."""

    def __init__(self, pool: BlockPool) -> None:
        """Begin without any prefix."""
        self.root = Node(None, b"", -1)
        self._pool = pool
        self._size = 0
        self._clock = itertools.count(1)
        # Leaves that nobody uses, once each, by when they were used; an entry may be out of date.
        self._idle: list[tuple[int, int, Node]] = []

    def __len__(self) -> int:
        """How many blocks the tree knows."""
        return self._size

    def edge(self, node: Node, namespace: Namespace, ids: np.ndarray) -> Edge:
        """Return what the block after `node` is found by; `ids` begin with the whole prompt."""
        start = node.depth * BLOCK
        block = ids[start : start + BLOCK].tobytes()
        return block if node.depth else (namespace, block)

    def match(self, node: Node, namespace: Namespace, ids: np.ndarray, limit: int) -> list[Node]:
        """Return the nodes below `node` that continue its prefix.

        Args:
            node: Where to begin; `root` is the empty prefix.
            namespace: Prefixes of different namespaces are never shared.
            ids: Int32, contiguous, from the beginning of the prompt.
            limit: Blocks that the whole prefix may have at most.
        """
        if node.depth >= limit or not node.children:
            return []
        child = node.children.get(self.edge(node, namespace, ids))
        found: list[Node] = []
        start = (node.depth + 1) * BLOCK
        # Converted and cut as bytes: five times as fast as to cut the array for each block.
        rest = ids[start : limit * BLOCK].tobytes() if child is not None else b""
        at, width = 0, BLOCK * ids.itemsize
        while child is not None:
            found.append(child)
            child = child.children.get(rest[at : at + width])
            at += width
        return found

    def insert(self, node: Node, namespace: Namespace, ids: np.ndarray, block: int) -> Node:
        """Cache the block that follows `node`; returns the node of an equal one if there is one."""
        edge = self.edge(node, namespace, ids)
        child = node.children.get(edge)
        if child is None:
            child = node.children[edge] = Node(node, edge, block)
            self._pool.cache(block)
            self._size += 1
        return child

    def touch(self, node: Node) -> None:
        """Note that the prefix that ends at `node` was used until now; its owner has left it."""
        now = next(self._clock)
        last = node
        while node.parent is not None:
            node.used_at = now
            node = node.parent
        self._queue(last)

    def evict(self, count: int) -> None:
        """Free the blocks of leaves that nobody uses, those used longest ago first.

        Raises:
            RuntimeError: There are not so many.
        """
        while count > 0:
            if not self._idle:
                raise RuntimeError(f"{count} more blocks were to be freed and all are in use")
            used_at, _, node = heapq.heappop(self._idle)
            node.queued = False
            if node.used_at != used_at:  # used again since
                self._queue(node)
            elif self._is_idle(node):
                self._remove(node)
                count -= 1

    def forget(self, node: Node) -> None:
        """Free the blocks of a prefix, from its end up to the first that others need."""
        while self._is_idle(node):
            assert node.parent is not None
            self._remove(node)
            node = node.parent

    def _is_idle(self, node: Node) -> bool:
        return node.block >= 0 and not node.children and not self._pool.references(node.block)

    def _queue(self, node: Node) -> None:
        if self._is_idle(node) and not node.queued:
            node.queued = True
            heapq.heappush(self._idle, (node.used_at, id(node), node))
            if len(self._idle) > 2 * self._size + 64:  # most entries are of nodes that are gone
                self._idle = [entry for entry in self._idle if entry[2].block >= 0]
                heapq.heapify(self._idle)

    def _remove(self, node: Node) -> None:
        assert node.parent is not None
        del node.parent.children[node.edge]
        self._pool.uncache(node.block)
        self._size -= 1
        node.block = -1
        self._queue(node.parent)
