from __future__ import annotations

import pytest

from openk2.grammar.vocabulary import Vocabulary
from tests.grammar import plain


@pytest.fixture(scope="session")
def small() -> Vocabulary:
    """Some hundred tokens."""
    return plain.vocabulary()
