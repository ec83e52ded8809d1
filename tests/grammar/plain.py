"""The slow twins: a small vocabulary, masks of one token after the other, random answers.

The plain mask asks the automaton about every token, and about the shortest end after it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import numpy as np

from openk2.grammar.answer import Grammar
from openk2.grammar.masks import Masks
from openk2.grammar.matcher import Matcher, move
from openk2.grammar.vocabulary import Vocabulary

SPECIALS = (
    *("<|im_end|>", "<|im_user|>", "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    *("<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"),
    *("<think>", "</think>"),
)
PIECES = (
    *(
        '", "',
        '": "',
        '":',
        ' "',
        '"}',
        '"}}',
        '{"',
        '[{"',
        '["',
        '",',
        ", ",
        '"a',
        "a",
        "ab",
        "abc",
    ),
    *(
        "12",
        "123",
        "0.",
        ".5",
        "e1",
        "-1",
        "1, 2",
        "1}",
        "0]",
        "true",
        "rue",
        "alse}",
        "null",
        "nul",
    ),
    *(
        '\\"',
        "\\u",
        "\\ud83d",
        '\\n"',
        '"]',
        '"], "',
        "}, {",
        '}, {"',
        "}]}",
        "[]",
        "{}",
        "[[",
        "]]",
    ),
    *(
        "名",
        "前",
        "Größe",
        "ß",
        "🙂",
        " ",
        "  ",
        "\n",
        "\t",
        "kind",
        'kind": "',
        "name",
        "x-",
        "2024-",
    ),
    *(
        "functions",
        "functions.",
        ".get",
        ":0",
        ":1",
        "get",
        "functions.get:0",
        "hello",
        " world",
        "\x01",
    ),
)
BROKEN = (b"\xe5\x90", b'\x8d"', b"\x9f", b"\xf0\x9f", b"\x99\x82", b"\xed\xa0", b"\xc3", b"\xff")


def vocabulary() -> Vocabulary:
    """Make a vocabulary of all bytes, what JSON is made of, and pieces of characters."""
    longer = dict.fromkeys((*(piece.encode() for piece in PIECES), *BROKEN))
    tokens = [bytes((byte,)) for byte in range(256)]
    tokens += [token for token in longer if len(token) > 1]
    ids = {token: id for id, token in enumerate(tokens)}
    longest = max(map(len, tokens))

    def encode(data: bytes) -> list[int]:
        found = []
        while data:
            n = next(n for n in range(min(longest, len(data)), 0, -1) if data[:n] in ids)
            found.append(ids[data[:n]])
            data = data[n:]
        return found

    specials = {name: len(tokens) + i for i, name in enumerate(SPECIALS)}
    return Vocabulary([*tokens, *[None] * len(SPECIALS)], specials, encode)


def allowed(bits_W: np.ndarray) -> list[int]:
    """List the ids whose bits are set."""
    return np.flatnonzero(np.unpackbits(bits_W.view(np.uint8), bitorder="little")).tolist()


def filled(matcher: Matcher, vocabulary: Vocabulary) -> list[int]:
    """List what a matcher allows."""
    bits_W = np.full(vocabulary.words, 0xFFFFFFFF, np.uint32)
    matcher.fill(bits_W)
    return allowed(bits_W)


def plain_mask(masks: Masks, state: tuple, most: int) -> list[int]:
    """Ask about every token: is it allowed, and can the answer end with `most` more?"""
    found = []
    for token in range(masks.vocabulary.size):
        after = move(masks, state, token)
        last = any(c.rest is None and getattr(c.node, "id", None) == token for c in state)
        if last or (after and masks.least(after) <= most):
            found.append(token)
    return found


Choose = Callable[[random.Random, list[int], Vocabulary], int]


def uniform(rng: random.Random, ids: list[int], vocabulary: Vocabulary) -> int:
    """Draw any token: what a model with random weights does."""
    return rng.choice(ids)


def endless(rng: random.Random, ids: list[int], vocabulary: Vocabulary) -> int:
    """Draw tokens that close nothing, as long as there are any."""
    ids = rng.sample(ids, min(len(ids), 40))
    opening = [v for v in ids if not set(vocabulary.token_bytes[v] or b'"') & set(b'"]}')]
    return rng.choice(opening or ids)


def opening(rng: random.Random, ids: list[int], vocabulary: Vocabulary) -> int:
    """Draw tokens that open values inside values."""
    ids = rng.sample(ids, min(len(ids), 40))
    found = [v for v in ids if set(vocabulary.token_bytes[v] or b"") & set(b"[{,")]
    return rng.choice(found or ids)


def answer(
    grammar: Grammar,
    vocabulary: Vocabulary,
    budget: int,
    rng: random.Random,
    choose: Choose = uniform,
    jump: bool = True,
) -> list[int]:
    """Write one answer, and check that it keeps its budget and that a mask is never empty."""
    matcher = grammar.matcher(budget)
    ids = list(matcher.jump()) if jump else []
    while not matcher.complete and len(ids) < budget:
        choices = filled(matcher, vocabulary)
        assert choices, spell(ids, vocabulary)
        ids.append(choose(rng, choices, vocabulary))
        matcher.accept(ids[-1])
        if jump:
            ids += matcher.jump()
    assert len(ids) <= budget
    return ids


def spell(ids: list[int], vocabulary: Vocabulary) -> str:
    """Return the text of tokens, special ones by name."""
    names = {id: name.encode() for name, id in vocabulary.specials.items()}
    return b"".join(vocabulary.token_bytes[v] or names[v] for v in ids).decode(errors="replace")


def document(ids: list[int], vocabulary: Vocabulary) -> object:
    """Read the JSON of an answer that has ended."""
    text = spell(ids, vocabulary)
    assert text.endswith("<|im_end|>"), text
    return json.loads(text.removesuffix("<|im_end|>"))
