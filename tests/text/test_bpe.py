import pytest

from openk2.text.bpe import train_ranks
from openk2.text.tokenizer import Tokenizer

ENGLISH = "The small cat sat on the warm mat while seven quiet friends told the long story. "
CHINESE = "我们好。我们在。我们来。我们去。"
TEXTS = [(ENGLISH + CHINESE) * 3, "def double(number):\n    return number * 2024\n" * 5]


def test_ranks_are_the_bytes_then_merges_in_order():
    ranks = train_ranks(TEXTS, 300)
    assert list(ranks.values()) == list(range(300))
    assert [ranks[bytes((byte,))] for byte in range(256)] == list(range(256))
    for token, rank in ranks.items():
        if rank >= 256:
            parts = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
            assert any(max(ranks.get(a, rank), ranks.get(b, rank)) < rank for a, b in parts)


def test_a_smaller_vocabulary_is_a_prefix_of_a_larger_one():
    large = train_ranks(TEXTS, 310)
    assert train_ranks(TEXTS, 290) == {t: r for t, r in large.items() if r < 290}


def test_frequent_words_become_one_token():
    tokenizer = Tokenizer.from_ranks(train_ranks(TEXTS, 320), 32)
    assert len(tokenizer.encode(" the")) == 1
    assert len(tokenizer.encode("我们")) == 1


def test_merges_do_not_cross_the_split_pattern():
    ranks = train_ranks(["ab12 ab12 ab12 中a中a中a"], 261)
    assert b"ab" in ranks
    assert not [token for token in ranks if b"b1" in token or "中a".encode() in token]


def test_too_little_text_is_an_error():
    with pytest.raises(ValueError, match="add text"):
        train_ranks(["ab"], 400)


def test_fewer_ranks_than_bytes_is_an_error():
    with pytest.raises(ValueError, match="256"):
        train_ranks(TEXTS, 255)
