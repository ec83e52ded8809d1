"""A mask is what asking about every token gives; close to the budget it allows less."""

from __future__ import annotations

import random

import numpy as np
import pytest

from openk2.grammar.answer import AnswerRule, compile_answer
from openk2.grammar.dfa import FAR
from openk2.grammar.vocabulary import Vocabulary
from openk2.grammar.walk import CLOSED
from tests.grammar.plain import endless, filled, opening, plain_mask, spell, uniform
from tests.grammar.schemas import SCHEMAS


def walk(grammar, vocabulary, budget, rng, choose, check):
    """Write an answer without jumping and check every mask on the way."""
    matcher = grammar.matcher(budget)
    ids = []
    while not matcher.complete:
        choices = filled(matcher, vocabulary)
        check(matcher, choices, ids)
        ids.append(choose(rng, choices, vocabulary))
        matcher.accept(ids[-1])


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_mask_is_what_asking_about_every_token_gives(name, small: Vocabulary):
    grammar = compile_answer(AnswerRule(answer_schema=SCHEMAS[name]), small)
    masks = grammar._masks
    seen = set()

    def check(matcher, choices, ids):
        if matcher._forced or matcher._left - 1 < masks.worst(matcher._state):
            return
        if matcher._state not in seen and len(seen) < 60:
            seen.add(matcher._state)
            assert choices == plain_mask(masks, matcher._state, FAR), spell(ids, small)

    for seed in range(3):
        choose = (uniform, endless, opening)[seed]
        walk(grammar, small, 400 if seed == 0 else 120, random.Random(seed), choose, check)
    assert seen


@pytest.mark.parametrize("name", ["plain", "lengths", "arrays", "anyOf", "tree", "questions"])
def test_close_to_the_budget_a_mask_allows_only_what_can_still_end(name, small: Vocabulary):
    grammar = compile_answer(AnswerRule(answer_schema=SCHEMAS[name]), small)
    masks = grammar._masks
    tight = []

    def check(matcher, choices, ids):
        if matcher._forced or matcher._left - 1 >= masks.worst(matcher._state):
            return
        first = masks.plan(matcher._state)[0]
        exact = {first, *plain_mask(masks, matcher._state, matcher._left - 1)}
        assert first in choices and set(choices) <= exact, spell(ids, small)
        tight.append(len(ids))

    least = masks.least(grammar._plan.strict)
    for budget in (least, least + 10, least + 30):
        walk(grammar, small, budget, random.Random(budget), endless, check)
    assert tight


def test_masks_are_the_same_before_and_after_everything_was_forgotten(small: Vocabulary):
    grammar = compile_answer(AnswerRule(answer_schema=SCHEMAS["questions"]), small)
    matcher = grammar.matcher(200)
    before = filled(matcher, small)
    arena = grammar._masks.arena
    arena._nodes, arena._cells, arena._closed = {}, {}, {}
    grammar._masks._found = {}
    assert filled(matcher, small) == before


def test_within_a_string_nothing_changes_until_a_token_leaves_it(small: Vocabulary):
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    grammar = compile_answer(AnswerRule(answer_schema=schema), small)
    matcher = grammar.matcher(300)
    for token in small.encode(b'{"a": "'):
        assert matcher.until is None
        matcher.accept(token)
    inside = filled(matcher, small)
    until = matcher.until
    assert until is not None
    staying = [v for v in inside if v not in until]
    assert {small.token_bytes[v] for v in staying} >= {b"a", b" world", b"[[", b"abc"}
    assert {small.token_bytes[v] for v in until} >= {b'"', b"\\", b"\xf0\x9f", b'"}'}
    for left in range(300 - len(small.encode(b'{"a": "')), 3, -1):
        assert matcher.until is None or filled(matcher, small) == inside
        assert matcher.until is None or left > 16 + len(small.encode(b'"}')) + 1
        matcher.accept(staying[left % len(staying)])
    assert len(filled(matcher, small)) < len(inside)


def test_words_beyond_the_vocabulary_are_cleared(small: Vocabulary):
    grammar = compile_answer(AnswerRule(answer_schema=SCHEMAS["map"]), small)
    bits_W = np.full(small.words + 3, 0xFFFFFFFF, np.uint32)
    grammar.matcher(100).fill(bits_W)
    assert not bits_W[small.words :].any() and bits_W.any()
    text = compile_answer(AnswerRule(), small).matcher(100)
    bits_W[:] = 0xFFFFFFFF
    text.fill(bits_W)
    assert not bits_W[small.words :].any() and bits_W.any()


# The compiled walk ------------------------------------------------------------------------------


def plain_run(dfa, start, data):
    """Run one text: (True, None) if it is read to its end, (False, place) if it is left."""
    state, fewest, most = start
    count = 0
    for place, byte in enumerate(data):
        to = dfa.next(state, byte)
        kind = dfa.kinds[to] if to >= 0 else 0
        refused = to < 0 or (count < fewest if kind == CLOSED else count >= most)
        if refused:
            leaves = place > 0 and state in dfa.finals and count >= fewest
            return False, place if leaves else None
        state, count = to, count + (kind == 1)
    return True, None


@pytest.mark.parametrize("limits", [(0, FAR), (0, 2), (2, FAR), (1, 1), (3, 5), (0, 0)])
def test_the_compiled_walk_is_the_plain_one(limits, small: Vocabulary):
    dfa = small.any_body
    lexicon = small.lexicon
    for state in range(len(dfa.rows)):
        start = (state, *limits)
        inside_N, end_N, left_N, place_N = lexicon.run(dfa, start, 0, len(lexicon.texts), 0)
        found = [plain_run(dfa, start, text) for text in lexicon.texts]
        assert inside_N.tolist() == [t for t, (inside, _) in enumerate(found) if inside]
        for t, end in zip(inside_N.tolist(), end_N.tolist(), strict=True):
            after = state
            for byte in lexicon.texts[t]:
                after = dfa.next(after, byte)
            assert after == end
        left = [(t, place) for t, (_, place) in enumerate(found) if place is not None]
        assert list(zip(left_N.tolist(), place_N.tolist(), strict=True)) == left


def test_a_range_is_found_by_its_beginning(small: Vocabulary):
    lexicon = small.lexicon
    assert lexicon.texts == sorted(lexicon.texts)
    for prefix in (b'"', b'": "', b"functions", b"\xff", b"zz", b"\xf0\x9f"):
        low, longer, high = lexicon.starting(prefix, 0, len(lexicon.texts))
        assert lexicon.texts[low:high] == [t for t in lexicon.texts if t.startswith(prefix)]
        assert lexicon.texts[low:longer] == [t for t in lexicon.texts if t == prefix]
