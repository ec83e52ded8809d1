"""The critic's part of an iteration: rewards where no program can check, and how far it is right.

In: an iteration's episodes, a `Verdict`. Out: the same with rewards for the families that are
judged; what the critic can learn from; its agreement with the truth. Must not know: who judges,
how verdicts come about, what is learned from rewards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from openk2.rl.critic import CriticSettings, KnownPair, agreement, known_pairs, split
from openk2.rl.judge import STANDARD, JudgeSettings, controlled_effect, judge, metrics
from openk2.rl.practice import Practice
from openk2.rl.question import transcript
from openk2.rl.rubrics import Rubric, read_rubrics
from openk2.rl.state import Pending
from openk2.rl.verdict import Verdict
from openk2.types import Trajectory


@dataclass(frozen=True, slots=True)
class CritiqueConfig:
    """How families without a verifier are rewarded."""

    rubrics: Path | None = None
    """TOML file of rubrics that a person wrote, beside those that always hold."""
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    """How answers are compared."""
    critic: CriticSettings = field(default_factory=CriticSettings)
    """How far the critic is trusted, from the problems that a program can check."""
    every: int = 10
    """Iterations between two measurements of the critic. Between them it is trusted as it was;
    each asks about all `remembered` pairs, twice."""
    remembered: int = 64
    """Most pairs with a known verdict that the critic is measured on: the newest ones."""
    rows: int = 0
    """Most rows of verdicts with a known truth that an iteration also learns from, beside
    `ptx_rows` and as long as those; 0 leaves the critic as the rewards make it."""

    def __post_init__(self) -> None:
        """Refuse counts that mean nothing."""
        for name, least in (("every", 1), ("remembered", 1), ("rows", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")


class Critique:
    """A judge, and the pairs that it is measured on."""

    def __init__(self, verdict: Verdict, config: CritiqueConfig, judged: frozenset[str]) -> None:
        """Read the rubrics.

        Args:
            verdict: Who judges.
            config: How.
            judged: The families whose answers are compared; the others have verifiers.

        Raises:
            ValueError: The file of rubrics is wrong.
        """
        own = read_rubrics(config.rubrics) if config.rubrics else ()
        self.rubrics: tuple[Rubric, ...] = (*STANDARD, *own)
        self.known: list[KnownPair] = []
        """Pairs whose better answer is known, the newest last."""
        self.trust = 0.0
        """What a judgement counts as a reward, by the last measurement."""
        self._verdict, self._config, self._judged = verdict, config, judged

    async def reward(
        self, problems: Sequence[Pending], practice: Practice, step: int
    ) -> tuple[list[Pending], list[KnownPair], dict[str, float]]:
        """Measure the critic, and reward the families that are judged.

        Args:
            problems: With all their episodes.
            practice: Whose problems.
            step: The iteration; the choice of pairs follows from it.

        Returns:
            The problems with rewards; pairs that the critic may learn from; numbers.

        Raises:
            ModelError: The judge's endpoint refuses every question.
        """
        config = self._config
        verified = [one.episodes for one in problems if one.family not in self._judged]
        learned, measured = split(known_pairs(verified, config.critic, step), config.critic)
        self.known = [*self.known, *measured][-config.remembered :]
        found: dict[str, float] = {}
        if step % config.every == 0:
            right = await agreement(self._verdict, self.known, config.critic, self.rubrics, step)
            found, self.trust = right.metrics(), right.weight
            if right.overall is not None:
                found["critic_agreement"] = right.overall.value
        compared = [one for one in problems if one.family in self._judged]
        if not compared:
            return list(problems), learned, found
        judgements = await asyncio.gather(
            *(
                judge(
                    self._verdict,
                    practice.problem(one.family, one.number),
                    [_answer(practice, one, episode) for episode in one.episodes],
                    self.rubrics,
                    config.judge,
                    step,
                )
                for one in compared
            )
        )
        effect = controlled_effect(judgements, config.judge)
        rewarded = {
            (one.family, one.number): _rewarded(one, judgement.scores(effect), self.trust)
            for one, judgement in zip(compared, judgements, strict=True)
        }
        kept = [rewarded.get((one.family, one.number), one) for one in problems]
        return kept, learned, found | metrics(judgements)


def _answer(practice: Practice, problem: Pending, episode: Trajectory) -> str:
    asked = practice.problem(problem.family, problem.number).messages
    return transcript(episode.messages[len(asked) :])


def _rewarded(problem: Pending, scores: Sequence[float], weight: float) -> Pending:
    """Put the judge's scores in the place of what the family said; that stays as a part.

    What the family gives nothing for, a judge cannot make worth something: gates stay shut.
    """
    episodes = tuple(
        replace(
            episode,
            reward=weight * score if episode.reward > 0 else 0.0,
            parts={**episode.parts, "verified": episode.reward, "judged": score},
        )
        for episode, score in zip(problem.episodes, scores, strict=True)
    )
    return replace(problem, episodes=episodes)
