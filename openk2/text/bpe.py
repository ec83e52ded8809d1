"""Train a byte-level BPE vocabulary with K2's split pattern.

In: a stream of texts. Out: tiktoken-style ranks, bytes to rank.
Must not know: special tokens, data packs, where the texts come from.
Needs the `train` extra (`tokenizers`), imported only when called.
"""

from __future__ import annotations

from collections.abc import Iterable

from openk2.text.tokenizer import PATTERN


def train_ranks(texts: Iterable[str], n_ranks: int) -> dict[bytes, int]:
    """Learn `n_ranks` tokens: the 256 bytes, then merges in the order they were learned.

    BPE is greedy, so the first `k` ranks are the vocabulary of size `k`.

    Raises:
        ValueError: `n_ranks` is below 256, or the texts have too few repeated pairs to reach it.
    """
    if n_ranks < 256:
        raise ValueError(f"n_ranks is {n_ranks}; a byte-level vocabulary needs at least 256")
    ranks = {bytes((byte,)): byte for byte in range(256)}
    for left, right in _learn_merges(texts, n_ranks):
        # Two different pairs may spell one token; tiktoken knows tokens, not pairs.
        ranks.setdefault(left + right, len(ranks))
    if len(ranks) < n_ranks:
        raise ValueError(
            f"the texts gave {len(ranks)} tokens, not {n_ranks}: add text or ask for fewer"
        )
    return {token: rank for token, rank in ranks.items() if rank < n_ranks}


def _learn_merges(texts: Iterable[str], n_ranks: int) -> list[tuple[bytes, bytes]]:
    import json

    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=n_ranks,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    to_byte = _byte_level_alphabet()
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [
        (bytes(to_byte[char] for char in left), bytes(to_byte[char] for char in right))
        for left, right in merges
    ]


def _byte_level_alphabet() -> dict[str, int]:
    # GPT-2's printable stand-ins: visible Latin-1 bytes are themselves, the rest follow U+0100.
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(visible)]
    return {chr(byte): byte for byte in visible} | {
        chr(0x100 + index): byte for index, byte in enumerate(hidden)
    }
