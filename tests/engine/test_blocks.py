from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from openk2.engine.blocks import BlockPool, PrefixTree
from openk2.engine.runner import BLOCK

COUNT = 12


def ids_of(letters):
    """One block per letter: its 16 ids differ in the last place only."""
    ids = np.zeros((len(letters), BLOCK), np.int32)
    ids[:, -1] = letters
    return ids.ravel()


def blocks_of(nodes):
    return np.array([node.block for node in nodes], np.int32)


class Machine(RuleBasedStateMachine):
    """Owners come, write what is not cached, and go; a dictionary says what each block holds."""

    def __init__(self):
        super().__init__()
        self.pool = BlockPool(COUNT)
        self.tree = PrefixTree(self.pool)
        self.owners = []
        self.holds = {}
        self.clock = 0
        self.used_at = {}

    @rule(
        namespace=st.sampled_from([None, "a"]),
        letters=st.lists(st.integers(0, 2), max_size=5),
        offered=st.integers(0, 5),
    )
    def enter(self, namespace, letters, offered):
        """Take the cached prefix, write the rest, and offer the first blocks of it."""
        ids = ids_of(letters)
        nodes = self.tree.match(self.tree.root, namespace, ids, len(letters))
        prefix = [(namespace, *letters[: depth + 1]) for depth in range(len(letters))]
        assert [self.holds[node.block] for node in nodes] == prefix[: len(nodes)]
        cached = {self.holds[node.block] for node in self.nodes()}
        assert prefix[len(nodes) : len(nodes) + 1] == [] or prefix[len(nodes)] not in cached
        shared = blocks_of(nodes)
        self.pool.share(shared)
        missing = len(letters) - len(nodes)
        if missing > self.pool.available:
            self.pool.drop(shared)
            return
        self.tree.evict(missing - self.pool.free)
        blocks = np.concatenate([shared, self.pool.take(missing)])
        self.holds |= dict(zip(blocks.tolist(), prefix, strict=True))
        node = nodes[-1] if nodes else self.tree.root
        for depth in range(len(nodes), min(len(letters), len(nodes) + offered)):
            node = self.tree.insert(node, namespace, ids, int(blocks[depth]))
            assert node.block == blocks[depth]
        self.owners.append((blocks, node))

    @precondition(lambda self: self.owners)
    @rule(index=st.integers(0, 9), forget=st.booleans())
    def leave(self, index, forget):
        blocks, node = self.owners.pop(index % len(self.owners))
        self.pool.drop(blocks)
        self.clock += 1
        above = node
        while above.depth:
            self.used_at[above.block] = self.clock
            above = above.parent
        self.tree.touch(node)
        if forget:
            self.tree.forget(node)
            assert node.depth == 0 or node.block < 0 or node.children or self.references(node.block)

    @rule(count=st.integers(0, COUNT))
    def evict(self, count):
        free = self.pool.free
        before = {node.block for node in self.nodes()}
        idle = self.pool.available - free
        if count > idle:
            with pytest.raises(RuntimeError, match="all are in use"):
                self.tree.evict(count)
            count = idle
        else:
            self.tree.evict(count)
        assert self.pool.free == free + count
        gone = before - {node.block for node in self.nodes()}
        # The longest unused go first, and only because of their age: a younger leaf stays.
        leaves = [n for n in self.nodes() if not n.children and not self.references(n.block)]
        if gone and leaves:
            oldest_left = min(self.used_at[leaf.block] for leaf in leaves)
            assert max(self.used_at[block] for block in gone) <= oldest_left

    def references(self, block):
        return sum(block in blocks.tolist() for blocks, _ in self.owners)

    def nodes(self):
        stack = list(self.tree.root.children.values())
        while stack:
            node = stack.pop()
            stack += node.children.values()
            yield node

    @invariant()
    def every_block_is_free_or_cached_or_used_and_counted(self):
        cached = [node.block for node in self.nodes()]
        used = {block for blocks, _ in self.owners for block in blocks.tolist()}
        free = self.pool._free
        assert len(set(cached)) == len(cached) == len(self.tree)
        assert len(set(free)) == len(free) == self.pool.free
        assert sorted({*cached, *used}) == sorted(set(range(COUNT)) - set(free))
        assert self.pool.used == len(used) and self.pool.available == COUNT - len(used)
        for block in range(COUNT):
            assert self.pool.references(block) == self.references(block)

    @invariant()
    def every_owner_still_has_its_prefix(self):
        for blocks, node in self.owners:
            assert [len(self.holds[block]) - 1 for block in blocks.tolist()] == [
                depth + 1 for depth in range(len(blocks))
            ]
            for above in range(node.depth, 0, -1):
                assert node.block == blocks[above - 1]
                node = node.parent
            assert node is self.tree.root

    @invariant()
    def the_list_of_idle_leaves_stays_small(self):
        assert len(self.tree._idle) <= 2 * COUNT + 64


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_an_equal_block_is_found_and_not_cached_twice():
    pool = BlockPool(2)
    tree = PrefixTree(pool)
    first, second = pool.take(2).tolist()
    ids = ids_of([1])
    node = tree.insert(tree.root, None, ids, first)
    assert tree.insert(tree.root, None, ids, second) is node
    assert node.block == first and len(tree) == 1
    pool.drop(np.array([first, second], np.int32))
    assert pool.free == 1


def test_namespaces_share_nothing():
    pool = BlockPool(2)
    tree = PrefixTree(pool)
    ids = ids_of([1])
    tree.insert(tree.root, "a", ids, int(pool.take(1)[0]))
    assert len(tree.match(tree.root, "a", ids, 1)) == 1
    assert tree.match(tree.root, "b", ids, 1) == tree.match(tree.root, None, ids, 1) == []


def test_the_limit_keeps_a_part_of_the_prompt_to_compute():
    pool = BlockPool(3)
    tree = PrefixTree(pool)
    ids = ids_of([1, 2, 3])
    node = tree.root
    for block in pool.take(3).tolist():
        node = tree.insert(node, None, ids, block)
    assert [node.depth for node in tree.match(tree.root, None, ids, 2)] == [1, 2]


def test_exhaustion_and_a_double_release_are_refused():
    pool = BlockPool(1)
    block = pool.take(1)
    with pytest.raises(RuntimeError, match="1 blocks were asked for and 0 are free"):
        pool.take(1)
    pool.drop(block)
    with pytest.raises(RuntimeError, match="block 0 was released but nobody uses it"):
        pool.drop(block)
    with pytest.raises(RuntimeError, match="is not in it"):
        pool.uncache(0)
    assert pool.take(0).size == 0 and pool.free == 1


def test_entries_of_forgotten_leaves_do_not_pile_up():
    pool = BlockPool(2)
    tree = PrefixTree(pool)
    for letter in range(300):
        block = pool.take(1)
        node = tree.insert(tree.root, None, ids_of([letter]), int(block[0]))
        pool.drop(block)
        tree.touch(node)
        tree.forget(node)
    assert len(tree) == 0 and pool.free == 2
    assert len(tree._idle) < 100


def test_a_leaf_that_was_used_again_is_younger_than_one_that_was_not():
    pool = BlockPool(2)
    tree = PrefixTree(pool)
    nodes = []
    for letter in (1, 2):
        block = pool.take(1)
        nodes.append(tree.insert(tree.root, None, ids_of([letter]), int(block[0])))
        pool.drop(block)
        tree.touch(nodes[-1])
    again = blocks_of(tree.match(tree.root, None, ids_of([1]), 1))
    pool.share(again)
    pool.drop(again)
    tree.touch(nodes[0])
    tree.evict(1)
    assert [node.block >= 0 for node in nodes] == [True, False]
