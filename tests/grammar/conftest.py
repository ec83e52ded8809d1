from __future__ import annotations

from pathlib import Path

import pytest

import openk2
from openk2.grammar.vocabulary import Vocabulary
from openk2.text.tokenizer import Tokenizer
from tests.grammar import plain


@pytest.fixture(scope="session")
def small() -> Vocabulary:
    """Some hundred tokens."""
    return plain.vocabulary()


@pytest.fixture(scope="session")
def nano() -> tuple[Tokenizer, Vocabulary]:
    """The shipped model's tokenizer."""
    tokenizer = Tokenizer.load(Path(openk2.__file__).parent / "assets" / "nano")
    special = set(tokenizer.specials.values())
    tokens = [
        None if v in special else tokenizer.token_bytes(v) for v in range(tokenizer.vocab_size)
    ]
    return tokenizer, Vocabulary(tokens, tokenizer.specials, tokenizer.encode_bytes)
