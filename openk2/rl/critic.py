"""The critic is kept honest by problems whose answers a program can check.

Of the policy's own episodes, a right and a wrong answer to one problem make a question whose
verdict is known. Some of these questions train the critic; on the others its agreement with the
truth is measured, and while it is not surely above chance, its judgements are no reward at all.

In: groups of episodes with their rewards; a `Verdict`. Out: conversations to train on, agreement.
Must not know: how the policy is trained, which families there are.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from openk2.evals.bootstrap import Estimate, estimates
from openk2.rl.judge import STANDARD, decided
from openk2.rl.question import FIRST, SECOND, compare, mark_of, transcript
from openk2.rl.rubrics import Rubric, length
from openk2.rl.verdict import Verdict
from openk2.text.conversations import Conversation
from openk2.text.corpus import held_out
from openk2.text.packing import PADDING, Batch, IntArray, collate
from openk2.text.template import render_training
from openk2.text.tokenizer import Tokenizer
from openk2.types import Message, Trajectory


@dataclass(frozen=True, slots=True)
class CriticSettings:
    """How the critic is trained, measured and trusted."""

    weight: float = 1.0
    """What a judgement's score is multiplied by as a reward, once the critic is trusted."""
    least_pairs: int = 20
    """Fewest held-out pairs with which it can be trusted."""
    pairs_per_problem: int = 2
    """Most pairs from one problem, so that one with many answers does not outweigh the others."""
    held_out: float = 0.25
    """Part of the problems whose pairs only measure."""

    def __post_init__(self) -> None:
        """Refuse what measures nothing, or trusts without measuring."""
        for name in ("least_pairs", "pairs_per_problem"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.held_out <= 1:
            raise ValueError(f"held_out must be greater than 0 and at most 1, not {self.held_out}")
        if not self.weight >= 0:
            raise ValueError(f"weight must not be negative, but is {self.weight}")


@dataclass(frozen=True, slots=True)
class KnownPair:
    """Two answers to one problem of which a program knows the better one."""

    problem: str
    family: str
    asked: tuple[Message, ...]
    right: str
    wrong: str


def known_pairs(
    groups: Iterable[Sequence[Trajectory]], settings: CriticSettings, seed: int = 0
) -> list[KnownPair]:
    """Pair right with wrong answers to the same problem.

    Args:
        groups: Episodes of one problem each; right is what earned 1 from its family, wrong what
            earned 0. What is in between is left out: a judge may weigh its faults differently.
        settings: How many pairs of a problem are taken.
        seed: Of which.
    """
    found: list[KnownPair] = []
    for group in groups:
        by_reward = {reward: _answers(group, reward) for reward in (1.0, 0.0)}
        both = [(right, wrong) for right in by_reward[1.0] for wrong in by_reward[0.0]]
        if not both:
            continue
        one = group[0]
        draw = random.Random(f"{seed} {one.problem}")
        chosen = draw.sample(both, min(settings.pairs_per_problem, len(both)))
        asked, _ = _parts(one.messages)
        found += [KnownPair(one.problem, one.family, asked, *pair) for pair in chosen]
    return found


def split(
    pairs: Iterable[KnownPair], settings: CriticSettings
) -> tuple[list[KnownPair], list[KnownPair]]:
    """Part pairs into those that train and those that measure; a problem is always on one side."""
    sides: tuple[list[KnownPair], list[KnownPair]] = ([], [])
    for pair in pairs:
        sides[held_out(f"critic {pair.problem}", settings.held_out)].append(pair)
    return sides


def conversations(
    pairs: Iterable[KnownPair], rubrics: Sequence[Rubric] = STANDARD
) -> Iterator[Conversation]:
    """Yield each pair's question in both orders with its verdict, the only turn that is learned."""
    for pair in pairs:
        for question, letter in zip(_questions(pair, rubrics), (FIRST, SECOND), strict=True):
            yield Conversation(
                (*question, Message("assistant", letter)), source="critic", key=pair.problem
            )


def batches(
    pairs: Iterable[KnownPair],
    tokenizer: Tokenizer,
    seq_len: int,
    rows: int,
    rubrics: Sequence[Rubric] = STANDARD,
) -> tuple[list[Batch], int]:
    """Pack verdicts into batches for training.

    Args:
        pairs: What is learned from.
        tokenizer: The model's.
        seq_len: Tokens of a row.
        rows: Most rows of a batch.
        rubrics: As the judge will have them.

    Returns:
        The batches, and how many questions were too long for a row and left out.
    """
    open_row: list[tuple[list[int], list[bool]]] = []
    full: list[list[tuple[list[int], list[bool]]]] = [open_row]
    too_long = 0
    for one in conversations(pairs, rubrics):
        ids, learn = render_training(one.messages, one.tools, tokenizer)
        if len(ids) > seq_len + 1:
            too_long += 1
            continue
        if sum(len(row_ids) for row_ids, _ in open_row) + len(ids) > seq_len + 1:
            open_row = []
            full.append(open_row)
        open_row.append((ids, learn))
    packed = [_row(documents, seq_len + 1) for documents in full if documents]
    return [collate(packed[i : i + rows], 0.0) for i in range(0, len(packed), rows)], too_long


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often a critic is right where the truth is known."""

    overall: Estimate | None
    """Share of pairs whose right answer won, with the interval over problems; a tie counts half
    and a missing verdict as wrong. None: there were no pairs."""
    families: Mapping[str, Estimate]
    against_length: Estimate | None
    """The same over pairs whose shorter answer is the right one if mostly the longer is, else the
    other way round: what is left when judging by length alone fails."""
    by_length: float
    """Share that the better of the rules "longer" and "shorter" gets right."""
    first: float
    """How often the answer that was shown first won: 0.5 without a preference for a place."""
    missing: float
    """Share of questions without a verdict."""
    pairs: int
    settings: CriticSettings

    @property
    def distrust(self) -> str:
        """Say why the critic must not be trusted; empty if it may be."""
        if self.overall is None or self.pairs < self.settings.least_pairs:
            return f"{self.pairs} held-out pairs, fewer than {self.settings.least_pairs}"
        if self.overall.low <= 0.5:
            return (
                f"agreement {self.overall.value:.3f} with interval {self.overall.low:.3f} to "
                f"{self.overall.high:.3f} is not above chance"
            )
        return ""

    @property
    def weight(self) -> float:
        """Return what its scores are multiplied by as rewards: 0 while it is not trusted."""
        return 0.0 if self.distrust else self.settings.weight

    def metrics(self) -> dict[str, float]:
        """Return everything as numbers by name."""
        found = {
            "critic/trusted": float(not self.distrust),
            "critic/weight": self.weight,
            "critic/pairs": float(self.pairs),
            "critic/first_wins": self.first,
            "critic/missing": self.missing,
            "critic/by_length": self.by_length,
        }
        named = {f"critic/agreement/{family}": value for family, value in self.families.items()}
        named |= {"critic/agreement": self.overall, "critic/against_length": self.against_length}
        for name, value in named.items():
            if value is not None:
                found |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        return found


async def agreement(
    verdict: Verdict,
    pairs: Sequence[KnownPair],
    settings: CriticSettings,
    rubrics: Sequence[Rubric] = STANDARD,
    seed: int = 0,
) -> Agreement:
    """Measure a critic on pairs that it was not trained on.

    Args:
        verdict: The critic.
        pairs: From `split`.
        settings: When it is trusted.
        rubrics: As the judge will have them.
        seed: Of the intervals.
    """
    questions = [question for pair in pairs for question in _questions(pair, rubrics)]
    said = await asyncio.gather(*map(verdict, questions))
    forward, backward = said[::2], said[1::2]
    right = [
        0.0 if a is None or b is None else decided((a + 1 - b) / 2)
        for a, b in zip(forward, backward, strict=True)
    ]
    longer = [decided(_longer(pair)) for pair in pairs]
    by_length = sum(longer) / len(longer) if longer else 0.5
    fails = 0.0 if by_length >= 0.5 else 1.0
    against = [(p, r) for p, r, long in zip(pairs, right, longer, strict=True) if long == fails]
    whole = _by_problem(zip(pairs, right, strict=True), seed)
    heard = [decided(one) for one in said if one is not None]
    return Agreement(
        overall=whole.pop("", None),
        families=whole,
        against_length=_by_problem(against, seed).get(""),
        by_length=max(by_length, 1 - by_length),
        first=sum(heard) / len(heard) if heard else 0.5,
        missing=1 - len(heard) / len(said) if said else 0.0,
        pairs=len(pairs),
        settings=settings,
    )


def _by_problem(scored: Iterable[tuple[KnownPair, float]], seed: int) -> dict[str, Estimate]:
    """Average by family and, under the name "", over all; the interval resamples problems."""
    by_problem: dict[tuple[str, str], list[float]] = {}
    for pair, right in scored:
        by_problem.setdefault((pair.family, pair.problem), []).append(right)
    means = {key: sum(values) / len(values) for key, values in by_problem.items()}
    parts = {family: [m for (f, _), m in means.items() if f == family] for family, _ in means}
    if means:
        parts[""] = list(means.values())
    return {
        name: estimates([{"right": value} for value in values], {}, seed=seed)["right"]
        for name, values in parts.items()
    }


def _questions(pair: KnownPair, rubrics: Sequence[Rubric]) -> tuple[tuple[Message, ...], ...]:
    """Ask with the right answer first, and second."""
    mark = mark_of(pair.asked, (pair.right, pair.wrong))
    return (
        compare(pair.asked, pair.right, pair.wrong, rubrics, mark),
        compare(pair.asked, pair.wrong, pair.right, rubrics, mark),
    )


def _longer(pair: KnownPair) -> float:
    right, wrong = length(pair.right), length(pair.wrong)
    return 0.5 if right == wrong else float(right > wrong)


def _answers(group: Sequence[Trajectory], reward: float) -> list[str]:
    """Return the different answers that earned so much; an empty one teaches a judge nothing."""
    # Shaping has changed the reward by how the answer was written; what it earned is right or not.
    earned = [(one, one.parts.get("earned", one.reward)) for one in group]
    texts = [transcript(_parts(one.messages)[1]) for one, worth in earned if worth == reward]
    return [text for text in dict.fromkeys(texts) if text.strip()]


def _parts(messages: Sequence[Message]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """Part an episode before the first turn of the assistant."""
    turns = (i for i, message in enumerate(messages) if message.role == "assistant")
    at = next(turns, len(messages))
    return tuple(messages[:at]), tuple(messages[at:])


def _row(
    documents: Sequence[tuple[list[int], list[bool]]], width: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Lay documents side by side: ids, document numbers and learn mask."""
    ids, learn = np.zeros(width, np.int64), np.zeros(width, np.uint8)
    doc = np.full(width, PADDING, np.int64)
    at = 0
    for number, (document, mask) in enumerate(documents):
        end = at + len(document)
        ids[at:end], learn[at:end], doc[at:end] = document, mask, number
        at = end
    return ids, doc, learn
