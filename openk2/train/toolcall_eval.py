"""Tool calls under teacher forcing: would greedy decoding write exactly the gold call?

In: held-out conversations as token shards, and a model. Out: shares of calls with the right
name, the right arguments, and both. Every gold token being the argmax after its gold prefix is
the same as greedy decoding giving the gold call; another spelling of the same JSON counts as
wrong. Must not know: JSON, the chat template beyond its call tokens.

Legend: B documents, T tokens, D hidden size, V vocabulary, N scored positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from openk2.model.transformer import TrainOutput
from openk2.text.packing import IntArray, Shard
from openk2.text.template import ARGUMENT_BEGIN, CALL_BEGIN, CALL_END, SECTION_BEGIN
from openk2.text.tokenizer import Tokenizer

_TOKENS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class CallTokens:
    """The ids by which a call is found in a token sequence."""

    section_begin: int
    call_begin: int
    argument_begin: int
    call_end: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> CallTokens:
        """Look the ids up by their published names."""
        names = (SECTION_BEGIN, CALL_BEGIN, ARGUMENT_BEGIN, CALL_END)
        return cls(*(tokenizer.specials[name] for name in names))


@dataclass(frozen=True, slots=True)
class CallSpan:
    """Where one call lies in a document; ends are exclusive."""

    begin: int
    """The token that decides to call: the section's begin, or a later call's own."""
    arguments: int
    """The first token after `<|tool_call_argument_begin|>`."""
    end: int
    """After `<|tool_call_end|>`."""


def call_spans(ids: IntArray, learn: IntArray, tokens: CallTokens) -> list[CallSpan]:
    """Find the calls that the assistant must emit; context-only and truncated ones are left out."""
    spans: list[CallSpan] = []
    ends = np.flatnonzero(ids == tokens.call_end)
    splits = np.flatnonzero(ids == tokens.argument_begin)
    for start in np.flatnonzero((ids == tokens.call_begin) & (learn > 0)).tolist():
        split, end = splits[splits > start][:1], ends[ends > start][:1]
        if not (len(split) and len(end) and split[0] < end[0]):
            continue
        first = start > 0 and ids[start - 1] == tokens.section_begin
        spans.append(CallSpan(start - int(first), int(split[0]) + 1, int(end[0]) + 1))
    return spans


@dataclass(slots=True)
class Score:
    """Counts over calls."""

    calls: int = 0
    name: int = 0
    arguments: int = 0
    both: int = 0

    def add(self, name: bool, arguments: bool) -> None:
        """Count one call."""
        self.calls += 1
        self.name += name
        self.arguments += arguments
        self.both += name and arguments

    def shares(self, suffix: str = "") -> dict[str, float]:
        """Return the shares as metrics."""
        calls = max(1, self.calls)
        return {
            f"name_right{suffix}": self.name / calls,
            f"arguments_right{suffix}": self.arguments / calls,
            f"both_right{suffix}": self.both / calls,
            f"calls{suffix}": self.calls,
        }


def evaluate_calls(
    forward: Callable[[Tensor, Tensor], TrainOutput],
    head_VD: Tensor,
    shards: Mapping[str, Shard],
    tokens: CallTokens,
    max_documents: int,
) -> dict[str, float]:
    """Measure every shard that has calls.

    Args:
        forward: The model; call it in eval mode and without gradients (see `run_evaluation`).
        head_VD: The weight of its head.
        shards: Name → held-out shard.
        tokens: Ids that delimit calls.
        max_documents: How many documents with calls are read from each shard.

    Returns:
        `name_right`, `arguments_right`, `both_right` and `calls` over all calls, and each again
        as `…/NAME` of a shard. Names count the decision to call and the call's number too.
    """
    total, found = Score(), {}
    for name, shard in shards.items():
        score = Score()
        picked = _with_calls(shard, tokens, max_documents)
        for batch in _batches(picked):
            rights = _right(forward, head_VD, batch)
            for right_T, (_, spans) in zip(rights, batch, strict=True):
                for span in spans:
                    named = bool(right_T[span.begin : span.arguments].all())
                    filled = bool(right_T[span.arguments : span.end].all())
                    score.add(named, filled)
                    total.add(named, filled)
        if score.calls:
            found |= score.shares(f"/{name}")
    return total.shares() | found if total.calls else {}


Picked = tuple[IntArray, list[CallSpan]]


def _with_calls(shard: Shard, tokens: CallTokens, limit: int) -> list[Picked]:
    picked: list[Picked] = []
    for index in np.random.default_rng(0).permutation(len(shard)).tolist():
        ids, learn = shard.document(index)
        if spans := call_spans(ids, learn, tokens):
            picked.append((ids, spans))
        if len(picked) == limit:
            break
    return picked


def _batches(picked: list[Picked]) -> Iterator[Sequence[Picked]]:
    """Yield documents of similar length together."""
    batch: list[Picked] = []
    for item in sorted(picked, key=lambda item: len(item[0])):
        if batch and len(item[0]) * (len(batch) + 1) > _TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _right(
    forward: Callable[[Tensor, Tensor], TrainOutput], head_VD: Tensor, batch: Sequence[Picked]
) -> list[Tensor]:
    """Return per document which tokens of its calls are the argmax after their prefix."""
    longest = max(len(ids) for ids, _ in batch)
    padded = np.zeros((len(batch), longest), np.int64)
    for row, (ids, _) in enumerate(batch):
        padded[row, : len(ids)] = ids
    ids_BT = torch.from_numpy(padded).to(head_VD.device)
    # Causal attention and per-token experts: padding on the right changes nothing before it.
    hidden_BTD = forward(ids_BT, torch.zeros_like(ids_BT)).hidden_BTD
    wanted_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    for row, (_, spans) in enumerate(batch):
        for span in spans:
            wanted_BT[row, span.begin : span.end] = True
    before_ND = hidden_BTD[:, :-1][wanted_BT[:, 1:]]
    low_VD = head_VD.to(before_ND.dtype)
    argmax_N = torch.cat([(part @ low_VD.T).argmax(-1) for part in before_ND.split(2048)])
    right_BT = torch.zeros_like(wanted_BT)
    right_BT[wanted_BT] = argmax_N == ids_BT[wanted_BT]
    return list(right_BT.cpu())
