"""Sources of copied tokens, and calls in the tokens of what they copy."""

from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.text.copy_sources import CopySources
from openk2.text.copy_spelling import CopySpelling
from openk2.text.copy_tasks import copy_conversation
from openk2.text.copy_tokens import repeated_tokens
from openk2.text.copy_values import load_word_bank
from openk2.text.template import render_training
from openk2.text.tokenizer import Tokenizer
from openk2.types import Message, ToolCall, ToolSpec

ROOT = Path(__file__).parents[2]
TOKENIZER = Tokenizer.load(ROOT / "openk2/assets/nano")
SOURCES, SPELLING = CopySources(TOKENIZER), CopySpelling(TOKENIZER)
BANK = load_word_bank(ROOT / "data")


def sources(ids, weight, doc=None):
    """Find the sources of one row whose every token but the last is an input."""
    doc = [0] * len(ids) if doc is None else doc
    rows = [np.array([row]) for row in (ids[:-1], doc[:-1], ids[1:], weight[1:])]
    found = SOURCES.find(*rows)[0]
    return {j + 1: np.flatnonzero(found[j]).tolist() for j in range(len(found)) if found[j].any()}


def ids_of(*texts):
    return [TOKENIZER.encode(text)[0] for text in texts]


def test_a_stretch_is_copied_from_where_it_stood_longest():
    a, b, c, d = ids_of("dog", "house", "ship", "tree")
    row = [a, b, d, a, b, c, d, a, b, c]
    found = sources(row, [0] * 7 + [1, 1, 1])
    assert found == {7: [3], 8: [4], 9: [5]}
    assert sources(row, [0.5] * 10) == {}, "only what is learned in full"
    assert sources(row, [0] * 8 + [1, 1], [0] * 7 + [1] * 3) == {}, "another document"


def test_the_source_of_a_bare_word_is_the_word_after_a_space():
    paris, bare = TOKENIZER.encode(" ship")[0], TOKENIZER.encode("ship")[0]
    assert paris != bare
    rest = ids_of("dog")[0]
    assert sources([paris, rest, bare, rest], [0, 0, 1, 1]) == {2: [0], 3: [1]}


def test_inside_a_call_one_token_is_a_copy():
    word, other = ids_of("ship", "dog")
    begin, end = (TOKENIZER.specials[f"<|tool_calls_section_{s}|>"] for s in ("begin", "end"))
    assert sources([word, other, begin, word, end], [0, 0, 1, 1, 1]) == {3: [0]}
    assert sources([word, other, word], [0, 0, 1]) == {}


@pytest.mark.parametrize("word", ["horst", "around", "midweekly", "hairdo"])
def test_a_copied_word_keeps_its_tokens(word):
    spec = ToolSpec("findIt", "", {"type": "object", "properties": {"q": {"type": "string"}}})
    call = ToolCall("c", "findIt", f'{{"q": "{word}"}}')
    talk = [Message("user", f"find {word} now"), Message("assistant", tool_calls=(call,))]
    ids, learn = render_training(talk, [spec], TOKENIZER)
    assert TOKENIZER.encode(f" {word}")[1:] != TOKENIZER.encode(word)[1:], "or there is no need"
    spelled, _ = SPELLING.respell(ids, learn)
    text = [TOKENIZER.decode([i]) for i in spelled]
    source = [TOKENIZER.decode([i]) for i in TOKENIZER.encode(f" {word}")]
    # The first token loses its space, and may need two tokens without it.
    where = len(text) - 1 - text[::-1].index('"}')
    assert text[where - len(source) + 1 : where] == source[1:]
    assert TOKENIZER.decode(spelled) == TOKENIZER.decode(ids)
    unlearned = SPELLING.respell(ids, [False] * len(ids))
    assert unlearned == (ids, [False] * len(ids)), "what is only read stays as it is read"


@given(st.integers(0, 2**32), st.booleans())
def test_spelling_changes_tokens_and_no_text(seed, short):
    conversation = copy_conversation(Random(seed), BANK, short=short)
    ids, learn = render_training(conversation.messages, conversation.tools, TOKENIZER)
    spelled, mask = SPELLING.respell(ids, learn)
    assert TOKENIZER.decode(spelled) == TOKENIZER.decode(ids)
    learned = [TOKENIZER.decode([i for i, m in zip(*pair, strict=True) if m])
               for pair in ((ids, learn), (spelled, mask))]  # fmt: skip
    assert learned[0] == learned[1]


def test_short_conversations_declare_little():
    made = [copy_conversation(Random(n), BANK, short=True) for n in range(200)]
    assert max(len(c.tools) for c in made) == 2
    specs = [tool for c in made for tool in c.tools]
    assert not any(tool.description for tool in specs)
    assert {len(c.messages) > 2 for c in made} == {True, False}


def test_random_tokens_come_twice_and_only_the_second_time_is_learned():
    made = list(islice(repeated_tokens(64, 3), 50))
    assert made == list(islice(repeated_tokens(64, 3), 50))
    assert made != list(islice(repeated_tokens(64, 4), 50))
    for document in made:
        assert document.learn is not None
        first = list(document.learn).index(True)
        again = list(document.ids[first - 1 :])
        before = list(document.ids[: first - 1])
        assert any(before[i : i + len(again)] == again for i in range(len(before)))
        assert all(document.learn[first:])
