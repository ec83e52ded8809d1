"""How good a model directory is: bits per byte of prose, and tool calls under teacher forcing.

In: a directory in any number format, and the repository's data. Out: numbers that compare between
the formats of one model. Nothing here was trained on. Must not know: how the weights were rounded,
or how they are served.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from openk2.kernels.head_loss import head_loss
from openk2.model.checkpoint import Checkpoint
from openk2.model.mapped import map_model
from openk2.model.transformer import Transformer
from openk2.text.conversations import Conversation
from openk2.text.copy_spelling import CopySpelling
from openk2.text.copy_tasks import copy_conversations
from openk2.text.copy_values import load_word_bank
from openk2.text.corpus import read_rows
from openk2.text.packing import Document, Shard, write_shard
from openk2.text.packs import conversations
from openk2.text.template import render_training
from openk2.text.tokenizer import Tokenizer
from openk2.train.toolcall_eval import CallTokens, evaluate_calls

PROSE = "eval/wikitext2_valid_test.jsonl.zst"
CALL_SETS = ("nlu_calls_test", "copy_tasks_unseen", "sgd_test")
TOKENS = 40_000
"""Tokens read of the prose, about, and of each set of conversations."""
BYTES_PER_TOKEN = 3
"""Of prose, so that models with different vocabularies read the same."""
ROW = 1024
"""Tokens of prose that the model reads at a time."""
LONGEST = 4096
"""Tokens of a conversation; longer ones are passed over."""


@torch.inference_mode()
def measure(directory: Path, data: Path, tokens: int = TOKENS) -> dict[str, float]:
    """Measure a model directory.

    Args:
        directory: The model, with its tokenizer.
        data: The repository's `data/` folder.
        tokens: How many to read of the prose, about, and of each set of conversations.

    Returns:
        `bits_per_byte`, and what `evaluate_calls` returns.

    Raises:
        WeightsError: A tensor is missing or damaged.
        ValueError: Configuration or tokenizer do not describe a K2 model.
        FileNotFoundError: The data or the tokenizer are not there.
    """
    text = prose(data, BYTES_PER_TOKEN * tokens)
    tokenizer, checkpoint = Tokenizer.load(directory), Checkpoint(directory)
    checkpoint.check_complete()
    model = map_model(checkpoint)
    found = {"bits_per_byte": bits_per_byte(model, tokenizer, text)}
    with tempfile.TemporaryDirectory() as folder:
        shards = {
            name: _shard(Path(folder) / name, call_conversations(data, name), tokenizer, tokens)
            for name in CALL_SETS
        }
        most = max(map(len, shards.values()))
        head_VD, marks = model.lm_head.weight, CallTokens.of(tokenizer)
        return found | evaluate_calls(model, head_VD, shards, marks, most)


def prose(data: Path, n_bytes: int) -> str:
    """Return the beginning of Wikipedia articles that training never read."""
    rows = {row["split"]: row["text"] for row in read_rows(data / PROSE)}
    return rows["test"].encode()[:n_bytes].decode(errors="ignore")


def call_conversations(data: Path, name: str) -> Iterator[Conversation]:
    """Yield the conversations of a set that training never read."""
    if name in ("copy_tasks_unseen", "copy_calls_unseen"):
        bank = load_word_bank(data, unseen=True)
        return copy_conversations(bank, seed=1, short=name == "copy_calls_unseen")
    return conversations(data, name)


@torch.inference_mode()
def bits_per_byte(model: Transformer, tokenizer: Tokenizer, text: str) -> float:
    """Return how well a text is predicted, in rows of `ROW` tokens."""
    ids = torch.tensor(tokenizer.encode(text))
    head_VD = model.lm_head.weight
    nll, targets = 0.0, 0
    for row in ids.split(ROW):
        hidden_TD = model(row[None, :-1]).hidden_BTD[0]
        nll += float(head_loss(hidden_TD, head_VD, row[1:], torch.ones(len(row) - 1)))
        targets += len(row) - 1
    # A row's first token is not predicted: the bytes are the predicted tokens' share.
    return nll / math.log(2) / (len(text.encode()) * targets / len(ids))


def _shard(
    directory: Path, source: Iterator[Conversation], tokenizer: Tokenizer, tokens: int
) -> Shard:
    """Tokenise conversations until there are enough tokens."""
    documents: list[Document] = []
    spelling = CopySpelling(tokenizer)
    for conversation in source:
        rendered = render_training(conversation.messages, conversation.tools, tokenizer)
        ids, learn = spelling.respell(*rendered)
        if len(ids) <= LONGEST:
            documents.append(Document(ids, learn))
            tokens -= len(ids)
        if tokens <= 0:
            break
    write_shard(directory, documents, tokenizer.vocab_size)
    return Shard(directory)
