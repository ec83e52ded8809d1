"""The loop: draw problems, play them, shape what they earned, learn from it, push, measure.

    gym → rollout → trajectory → shaping → objective → update → push

In: settings. Out: a trained model in `OUT/model`, `metrics.jsonl`, `episodes.jsonl`, a picture,
and checkpoints from which an interrupted run goes on with the same episodes. Must not know: what
any family asks, how tokens are drawn, how a step changes weights.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections import ChainMap
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from openk2 import config as settings
from openk2.agent.canonical import to_json
from openk2.model import weights
from openk2.rl import state
from openk2.rl.config import RlConfig
from openk2.rl.critic import KnownPair, batches
from openk2.rl.metrics import Row, episode_numbers, held_out_numbers, lag, of_machine, rounded
from openk2.rl.plot import plot
from openk2.rl.policy import PolicyTrainer
from openk2.rl.practice import Practice
from openk2.rl.schedule import temperature
from openk2.rl.shaping import shape
from openk2.rl.stage import OpenJudge, Players, Stage, open_stage
from openk2.rl.state import Collected, Progress
from openk2.rl.view import View
from openk2.text.packing import Batch, Mixture
from openk2.text.tokenizer import Tokenizer
from openk2.train import checkpoint
from openk2.train.loop import StopReason
from openk2.train.metrics import MetricsLog, read
from openk2.train.pretrain import start_digest, start_model
from openk2.train.shards import open_mixture
from openk2.train.terminal import stop_requested
from openk2.types import Trajectory


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended."""

    step: int
    """Finished iterations."""
    reason: StopReason
    metrics: Row
    """The last values, held-out ones included."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run is made of."""

    stage: Stage
    """Plays episodes with the policy as it was pushed last."""
    trainer: PolicyTrainer
    """Learns from them."""
    practice: Practice
    """Has the problems."""
    exam: Practice
    """Has the held-out ones."""
    mixture: Mixture | None
    """Text to learn from beside them."""


class Run:
    """A run and where it is; `iterate` is the loop's body."""

    def __init__(self, config: RlConfig, parts: Parts, view: View, start: str) -> None:
        """Begin at the beginning.

        Args:
            config: The settings.
            parts: The run's own.
            view: Who watches.
            start: Digest of the model that the run begins from; it resumes from its own only.
        """
        self.config, self.parts, self.view, self.start = config, parts, view, start
        self.progress = Progress()
        self._ahead: Collected | None = None
        """The next iteration's episodes, if they were played beside the last update."""

    def iterate(self, episodes: MetricsLog) -> Row:
        """Play, learn, push, and return the iteration's row."""
        began, step = time.monotonic(), self.progress.iteration
        played = self._ahead or self._play(step).result()
        waited = time.monotonic() - began
        self.progress.carried = played.carried
        self.parts.practice.observe(played.whole)
        groups = [shape(problem.episodes, self.config.shaping) for problem in played.whole]
        self._ahead = None
        more = self.config.overlap and step + 1 < self.config.iterations
        coming = self._play(step + 1) if more else None
        self.view.phase("learning")
        row = {
            "step": step + 1,
            "version": self.progress.version,
            "lag": lag(groups, self.progress.version),
            "temperature": self._temperature(step),
            "carried": len(played.carried),
            "lost": played.lost,
            **episode_numbers(groups, self.config.shaping),
            **played.numbers,
        }
        learning = time.monotonic()
        row |= self._learn(groups, played.lessons, step)
        learned = time.monotonic()
        if coming is not None:
            self._ahead = coming.result()
            waited += time.monotonic() - learned
        syncing = time.monotonic()
        self.parts.stage.push(self.parts.trainer.model, self.progress.version)
        times = {
            "iteration": time.monotonic() - began,
            "rollout": waited,
            "update": learned - learning,
            "sync": time.monotonic() - syncing,
            "tokens_per_s": row["tokens"] / max(played.seconds, 1e-9),
            "utilisation": self.parts.stage.utilisation(played),
        }
        self.progress.iteration = step + 1
        _write_episodes(episodes, step + 1, groups)
        return of_machine(rounded(row), rounded(times))

    def _learn(
        self, groups: Sequence[Sequence[Trajectory]], lessons: Sequence[KnownPair], step: int
    ) -> Row:
        if len(groups) < self.config.policy.parts:  # the others wait for the next policy
            return {}
        text = self._text(lessons)
        numbers = self.parts.trainer.update(groups, text, temperature=self._temperature(step))
        self.progress.version += 1
        return {name: value for name, value in numbers.items() if name != "reward"}

    def _text(self, lessons: Sequence[KnownPair]) -> Batch | None:
        """Return what is learned beside rewards: curated rows, and verdicts with a known truth."""
        config, found = self.config, list[Batch]()
        if self.parts.mixture is not None:
            found.append(self.parts.mixture.batch(self.progress.ptx_rows, config.ptx_rows))
            self.progress.ptx_rows += config.ptx_rows
        if config.critique.rows and lessons:
            tokenizer = self.parts.stage.policy.tokenizer
            width = config.data.seq_len if config.data else config.context
            verdicts, _ = batches(lessons, tokenizer, width, config.critique.rows)
            found += verdicts[:1]
        updates = config.policy.parts * config.policy.passes
        if sum(len(one.ids_BT) for one in found) < updates:  # each has its share of the rows
            return None
        names = ("ids_BT", "doc_BT", "target_BT", "weight_BT")
        return Batch(*(np.concatenate([getattr(one, name) for one in found]) for name in names))

    def _temperature(self, step: int) -> float:
        return temperature(step, self.config.iterations, self.config.temperature)

    def _play(self, step: int) -> Future[Collected]:
        """Begin an iteration's episodes: those that were paused, and new ones."""
        drawn = self.parts.practice.draw(self.config.problems, self.progress.turns)
        self.view.phase("playing")
        return self.parts.stage.collect(
            self.parts.practice,
            (*self.progress.carried, *drawn),
            replace(self.config.rollout, temperature=self._temperature(step)),
            self.config.samples,
            step,
            lambda done, of: self.view.phase("playing", done, of),
        )

    def evaluate(self, log: MetricsLog) -> Row:
        """Try the held-out problems with the policy as it is now, and log each one's reward."""
        began, config = time.monotonic(), self.config.held_out
        exam = self.parts.exam
        problems = [found for name in exam.families for found in exam.first(name, config.problems)]
        tried = self.parts.stage.examine(
            exam,
            problems,
            replace(self.config.rollout, temperature=config.temperature),
            config.samples,
            lambda done, of: self.view.phase("measuring", done, of),
        )
        groups = [one.episodes for one in tried.whole]
        for episode in (episode for group in groups for episode in group):
            log.write(
                {
                    "step": self.progress.iteration,
                    "problem": episode.problem,
                    "family": episode.family,
                    "earned": episode.reward,
                }
            )
        row = rounded(held_out_numbers(groups, self.config.seed))
        return {**row, "machine": {"evaluation": time.monotonic() - began}}

    def save(self) -> None:
        """Write a checkpoint."""
        self.progress.curriculum = self.parts.practice.state()
        self.progress.ahead = self._ahead
        critique = self.parts.stage.critique
        self.progress.known, self.progress.trust = tuple(critique.known), critique.trust
        trainer = self.parts.trainer
        tensors = {f"model.{name}": t for name, t in trainer.model.state_dict().items()}
        if not trainer.config.reset_optimizer:
            optimizer = trainer.optimizer.state_dict()
            tensors |= {f"optimizer.{name}": t for name, t in optimizer.items()}
        state.save(
            self.config.out / "checkpoints",
            self.progress,
            tensors,
            self.start,
            self.config.keep_checkpoints,
        )

    def resume(self) -> bool:
        """Go on from the newest checkpoint, if there is one.

        Raises:
            CheckpointError: It is damaged, or of a run that began from another model.
        """
        found = checkpoint.latest(self.config.out / "checkpoints")
        if found is None:
            return False
        self.progress, tensors = state.load(found, self.start)
        groups: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            groups[kind][rest] = tensor
        try:
            self.parts.trainer.model.load_state_dict(groups["model"])
            if groups["optimizer"]:
                self.parts.trainer.optimizer.load_state_dict(groups["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise state.CheckpointError(f"{found} is of another model: {error}") from error
        self.parts.practice.resume(self.progress.curriculum)
        self._ahead = self.progress.ahead
        critique = self.parts.stage.critique
        critique.known, critique.trust = list(self.progress.known), self.progress.trust
        self.parts.stage.push(self.parts.trainer.model, self.progress.version)
        return True


def run(
    config: RlConfig,
    *,
    resume: bool = True,
    view: View,
    judge: OpenJudge | None = None,
    players: Players | None = None,
) -> Result:
    """Practise, and leave the model in `out/model`.

    Args:
        config: The run.
        resume: Go on from the newest checkpoint in `out`; otherwise delete what is there.
        view: Who watches.
        judge: Opens the model that judges; none: the policy judges itself.
        players: Who plays the episodes; none: this process.

    Raises:
        FileNotFoundError: There is no such model directory, or data is not prepared.
        ValueError: The settings do not go together, or there is no such family.
        WorkersError: Workers died again and again.
        CheckpointError: The checkpoint is damaged or of another run.
    """
    if not resume:  # or a later run would resume from them
        shutil.rmtree(config.out / "checkpoints", ignore_errors=True)
    _record(config)
    tokenizer = Tokenizer.load(Path(config.model))
    model = start_model(config.model, config.seed, tokenizer.vocab_size)
    with open_stage(config, players or Players(), judge) as stage:
        data = config.data if config.ptx_rows else None
        parts = Parts(
            stage,
            PolicyTrainer(model, config.policy),
            Practice(config.families, config.seed, config.difficulty),
            Practice(config.families, config.seed, held_out=True),
            None if data is None else open_mixture(data, config.seed),
        )
        this = Run(config, parts, view, start_digest(config.model))
        this.resume()
        result = _to_the_end(this)
    directory = config.out / "model"
    directory.mkdir(parents=True, exist_ok=True)
    weights.save(model, directory)
    tokenizer.save(directory)
    plot(config.out / "metrics.jsonl", config.out / "metrics.png")
    return result


def _to_the_end(this: Run) -> Result:
    """Iterate until the last iteration, a signal or the time limit; always leave a checkpoint."""
    config, progress = this.config, this.progress
    stop_at = time.monotonic() + 60 * (config.max_minutes or math.inf)
    at, reason = progress.iteration, "finished"
    with (
        MetricsLog(config.out / "metrics.jsonl", resume_step=at) as log,
        MetricsLog(config.out / "episodes.jsonl", resume_step=at) as episodes,
        MetricsLog(config.out / "held_out.jsonl", resume_step=at) as held_out,
        stop_requested() as stop,
        closing(this.view),
    ):
        rows = read(config.out / "metrics.jsonl")
        metrics: Row = dict(ChainMap(*reversed(rows)))
        this.view.begin(rows, config.iterations)
        if at == 0:
            before = {"step": 0, **this.evaluate(held_out)}
            log.write(before)
            this.view.row(before)
        while progress.iteration < config.iterations and reason == "finished":
            row = this.iterate(episodes)
            last = row["step"] == config.iterations
            if last or row["step"] % config.held_out.every == 0:
                measured = this.evaluate(held_out)
                row = row | measured | {"machine": row["machine"] | measured["machine"]}
            log.write(row)
            this.view.row(row)
            metrics |= row
            if not last and stop.is_set():
                reason = "signal"
            elif not last and time.monotonic() > stop_at:
                reason = "time"
            if last or reason != "finished" or row["step"] % config.save_every == 0:
                this.save()
    return Result(progress.iteration, reason, metrics)


def _record(config: RlConfig) -> None:
    """Write the settings of a run beside its results."""
    config.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(settings.to_mapping(config), indent=1)
    (config.out / "config.json").write_text(text + "\n", encoding="utf-8")


def _write_episodes(log: MetricsLog, step: int, groups: Sequence[Sequence[Trajectory]]) -> None:
    """Write what was said and what it earned: whoever wants to know what is rewarded reads this."""
    for group in groups:
        for episode in group:
            log.write(
                {
                    "step": step,
                    "problem": episode.problem,
                    "reward": episode.reward,
                    "parts": dict(episode.parts),
                    "finish": episode.finish,
                    "versions": sorted({one.version for one in episode.segments if one.emitted}),
                    "ids": [list(one.ids) for one in episode.segments if one.emitted],
                    "messages": [to_json(message) for message in episode.messages],
                }
            )
