"""Which request gets which tokens computed in the next step, and where their latents lie.

In: requests. Out: feeds — a request and how many of its tokens are computed now — and the ragged
batch of them. Must not know: the model, logits, sampling, or who waits for the tokens.

A step is planned in this order:

1. Every decoding request gets its newest token, and the tokens that were drafted after it. When no
   block is left for them, the lowest-ranked running request gives up its blocks and waits again,
   in front of all that arrived after it. It will read its prompt and its answer so far, most of
   which the prefix tree still has, and go on as if nothing had happened.
2. Waiting requests are admitted by priority, then arrival, while a row and blocks for all that they
   have to read are there. Nobody is preempted to admit another.
3. The readers share `prefill_chunk` tokens evenly. A long prompt thus delays running streams by at
   most one chunk, and a short one never waits for a long one. A reader whose next block is being
   read by another one waits for it instead of reading it twice.

Shapes: T tokens of a batch, O wanted logits, S rows (running requests), N blocks per row.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from openk2.engine.blocks import BlockPool, Edge, Node, PrefixTree
from openk2.engine.request import Request
from openk2.engine.runner import BLOCK, Batch


class Draft(Protocol):
    """Proposes the tokens that follow a request's last one; they are verified, so any will do."""

    def __call__(self, request: Request) -> Sequence[int]:
        """Return what may come next."""
        ...

    def patience(self, request: Request) -> int:
        """Return after how many tokens it is worth asking again."""
        ...


class Feed:
    """What one request gets computed in a step."""

    __slots__ = ("count", "drafts", "request", "wanted")

    def __init__(self, request: Request, count: int, drafts: Sequence[int] = ()) -> None:
        """Compute `count` known tokens, from `request.computed` on, and `drafts` after them."""
        self.request = request
        self.count = count
        self.drafts = drafts
        self.wanted = 1 + len(drafts) if count == request.unread else 0
        """Logits: of the newest token and of every draft, none in the middle of a prompt."""


class Scheduler:
    """Owns the queue, the blocks and the block table."""

    def __init__(
        self, *, rows: int, blocks: int, max_len: int, prefill_chunk: int, draft: Draft | None
    ) -> None:
        """Begin empty.

        Args:
            rows: Requests that run together.
            blocks: Size of the cache; it holds at least one sequence of `max_len` tokens.
            max_len: Tokens of the longest sequence.
            prefill_chunk: Prompt tokens read per step; every reader gets at least one.
            draft: Where decoding requests get proposals from.
        """
        self.pool = BlockPool(blocks)
        self.tree = PrefixTree(self.pool)
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        """Both by rank."""
        self.epoch = 0
        """Counts replacements of the weights: prefixes of another epoch are nobody's."""
        self.arriving = 0
        """Of those that wait, how many have never run."""
        self.table_SN = np.full((rows, -(-max_len // BLOCK)), -1, np.int32)
        self._free_rows = list(range(rows - 1, -1, -1))
        self._prefill_chunk = prefill_chunk
        self._draft = draft
        self._buffer_3T = np.empty((3, rows + prefill_chunk), np.int32)
        self._blocked: tuple[int, int] | None = None

    def submit(self, request: Request) -> None:
        """Queue a request."""
        bisect.insort(self.waiting, request, key=_rank)
        self.arriving += not request.preempted

    def plan(self) -> list[Feed]:
        """Choose what is computed next; the step's outcome is told with `computed`."""
        feeds = self._decode()
        self._admit()
        return feeds + self._read({feed.request.id for feed in feeds})

    def reserve(self, feeds: Sequence[Feed], tokens: int) -> int:
        """Make room for `tokens` of each request that decodes, or for as many as there is room."""
        for feed in feeds:
            request = feed.request
            if not self._has_room(request, tokens):
                tokens = min(tokens, request.blocks * BLOCK - request.computed)
        return tokens

    # Step 1: decoding

    def _decode(self) -> list[Feed]:
        feeds: list[Feed] = []
        index = 0
        while index < len(self.running):
            request = self.running[index]
            index += 1
            reads = request.unread > 1
            if not reads and self._draft is None and request.computed < request.blocks * BLOCK:
                feeds.append(Feed(request, 1))  # all but one step in 16
                continue
            # A reader has blocks for its prompt, and may need more for what its grammar has added.
            drafts = () if reads else self._drafts(request)
            while not self._has_room(request, request.unread + len(drafts)):
                if drafts:
                    drafts = drafts[: max(0, request.blocks * BLOCK - request.length)]
                    continue
                self._preempt(self.running[-1])
                if request.row < 0:
                    break
            else:
                if not reads:
                    feeds.append(Feed(request, 1, drafts))
        return feeds

    def _drafts(self, request: Request) -> Sequence[int]:
        # What a grammar allows after a draft is not known before the draft is accepted.
        if self._draft is None or request.mask is not None:
            return ()
        # The last token that it may generate is never fed.
        room = request.max_new - request.generated - 1
        return self._draft(request)[:room] if room > 0 else ()

    def _has_room(self, request: Request, count: int) -> bool:
        """Make its row hold `count` more tokens, if the blocks are there."""
        missing = -(-(request.computed + count) // BLOCK) - request.blocks
        if missing > self.pool.available:
            return False
        if missing > 0:
            self._extend(request, missing)
        return True

    def _preempt(self, request: Request) -> None:
        self._leave(request)
        request.computed = 0
        request.preempted = True
        self.submit(request)

    # Step 2: admission

    def _admit(self) -> None:
        while self.waiting and self._free_rows:
            request = self.waiting[0]
            # Matching a long prompt takes a while: not again before a block is given back.
            if self._blocked is not None:
                blocked_id, used = self._blocked
                if blocked_id == request.id and self.pool.used >= used:
                    return
            if not self._enter(request):
                self._blocked = request.id, self.pool.used
                return
            self._blocked = None
            del self.waiting[0]
            self.arriving -= not request.preempted
            bisect.insort(self.running, request, key=_rank)

    def _enter(self, request: Request) -> bool:
        """Give a request a row with the prefix that is cached and blocks for the rest of it."""
        request.epoch = self.epoch
        nodes = self._match(request, self.tree.root)
        block_N = np.array([node.block for node in nodes], np.int32)
        self.pool.share(block_N)
        missing = -(-request.length // BLOCK) - len(nodes)
        # Running requests will soon want another block each: with none to spare, the newcomer
        # would be the first to be preempted.
        if missing + len(self.running) > self.pool.available:
            self.pool.drop(block_N)
            return False
        request.row = self._free_rows.pop()
        request.node = nodes[-1] if nodes else self.tree.root
        request.blocks = len(nodes)
        self.table_SN[request.row, : len(nodes)] = block_N
        self._advance(request, len(nodes) * BLOCK)
        self._extend(request, missing)
        return True

    def _match(self, request: Request, node: Node) -> list[Node]:
        # One token at least is computed, for its logits.
        limit = (request.length - 1) // BLOCK
        return self.tree.match(node, _namespace(request), request.ids_T, limit)

    def _advance(self, request: Request, computed: int) -> None:
        """Count tokens that somebody else has computed."""
        request.computed = computed
        if not request.preempted:
            request.cached_tokens = computed

    def _extend(self, request: Request, count: int) -> None:
        self.tree.evict(count - self.pool.free)
        end = request.blocks + count
        self.table_SN[request.row, request.blocks : end] = self.pool.take(count)
        request.blocks = end

    # Step 3: reading

    def _read(self, decoding: set[int]) -> list[Feed]:
        readers = [request for request in self.running if request.id not in decoding]
        if not readers:
            return []
        readers = self._without_followers(readers)
        counts = {request.id: 0 for request in readers}
        budget = self._prefill_chunk
        for index, request in enumerate(sorted(readers, key=lambda request: request.unread)):
            share = max(1, budget // (len(readers) - index))
            counts[request.id] = min(share, request.unread)
            budget -= counts[request.id]
        for request in readers:
            rest = max(0, min(budget, request.unread - counts[request.id]))
            counts[request.id] += rest
            budget -= rest
        return [Feed(request, counts[request.id]) for request in readers]

    def _without_followers(self, readers: list[Request]) -> list[Request]:
        """Skip what has been cached since admission; leave out whose next block is being read."""
        reading: set[tuple[int, Edge]] = set()
        leaders: list[Request] = []
        for request in readers:
            node = request.node
            assert node is not None
            if request.computed == node.depth * BLOCK:
                node = self._jump(request, node)
            if (node.depth + 1) * BLOCK <= request.length:
                edge = self.tree.edge(node, _namespace(request), request.ids_T)
                follows = (
                    (id(node), edge) in reading
                    and request.computed == node.depth * BLOCK
                    and node.depth < (request.length - 1) // BLOCK
                )
                if follows:
                    continue
                reading.add((id(node), edge))
            leaders.append(request)
        return leaders

    def _jump(self, request: Request, node: Node) -> Node:
        nodes = self._match(request, node)
        for node in nodes:
            self._swap(request, node)
        if nodes:
            request.node = node
            self._advance(request, node.depth * BLOCK)
        return node

    def _swap(self, request: Request, node: Node) -> None:
        """Use the tree's block for a prefix instead of the request's own."""
        place = self.table_SN[request.row, node.depth - 1 : node.depth]
        if place[0] != node.block:
            self.pool.drop(place.copy())
            place[0] = node.block
            self.pool.share(place)

    def renew(self, *, reread: bool) -> None:
        """Begin an epoch: what lies in the cache was computed with other weights.

        Args:
            reread: Make running requests read all that they know again, in the order in which they
                run; or else they go on over what they have, which they share with none that comes.
        """
        for request in self.running[::-1] if reread else ():
            self._preempt(request)
        self.epoch += 1
        self._blocked = None
        self.tree.evict(self.pool.count - self.pool.used - self.pool.free)

    # The outcome of a step

    def commit(self, request: Request) -> None:
        """Offer the blocks that are full and computed by now to everybody."""
        node = request.node
        assert node is not None
        while (node.depth + 1) * BLOCK <= request.computed:
            block = int(self.table_SN[request.row, node.depth])
            node = self.tree.insert(node, _namespace(request), request.ids_T, block)
            self._swap(request, node)
            request.node = node

    def remove(self, request: Request) -> None:
        """Free what a request has: it has ended or was cancelled."""
        if request.row < 0:
            self.waiting.remove(request)
            self.arriving -= not request.preempted
        else:
            self._leave(request)

    def discard(self, request: Request) -> None:
        """Free what a failed request has, and what it alone had offered to others."""
        node = request.node
        self._leave(request)
        if node is not None:
            self.tree.forget(node)

    def _leave(self, request: Request) -> None:
        assert request.node is not None
        self.running.remove(request)
        row_N = self.table_SN[request.row, : request.blocks]
        self.pool.drop(row_N)
        row_N.fill(-1)
        self.tree.touch(request.node)
        if request.epoch != self.epoch:
            self.tree.forget(request.node)
        self._free_rows.append(request.row)
        request.row, request.blocks, request.node = -1, 0, None

    def batch(self, feeds: Sequence[Feed]) -> Batch:
        """Return what a runner needs to compute these feeds; valid until the next call."""
        total = sum(feed.count + len(feed.drafts) for feed in feeds)
        if total > self._buffer_3T.shape[1]:
            self._buffer_3T = np.empty((3, 2 * total), np.int32)
        ids_T, position_T, sequence_T = self._buffer_3T[:, :total]
        wanted: list[int] = []
        start = 0
        for feed in feeds:
            request, computed = feed.request, feed.request.computed
            middle = start + feed.count
            end = middle + len(feed.drafts)
            if end == start + 1:
                ids_T[start] = request.ids_T[computed]
                position_T[start] = computed
                sequence_T[start] = request.row
            else:
                ids_T[start:middle] = request.ids_T[computed : computed + feed.count]
                ids_T[middle:end] = feed.drafts
                position_T[start:end] = np.arange(computed, computed + end - start)
                sequence_T[start:end] = request.row
            wanted += range(end - feed.wanted, end)
            start = end
        return Batch(ids_T, position_T, sequence_T, self.table_SN, np.array(wanted, np.int32))


def _namespace(request: Request) -> tuple[int, str | None]:
    return request.epoch, request.sampling.cache_key


def _rank(request: Request) -> tuple[int, int]:
    return request.rank
