"""The policy learns: one iteration's trajectories in, better weights out.

In: a model, groups of rewarded trajectories of the same problem, and rows of curated text. Out:
the weights, updated in place, numbers about the update, and the trainer's own log-probabilities of
emitted tokens. Must not know: how trajectories came about, what rewards mean, who serves the model.

An iteration, after Kimi k1.5 (arXiv 2501.12599, §2.3.2): the policy of its start is what the
objective holds on to, the optimizer begins without memory, and a few updates follow.

Legend: B rows, T tokens, N tokens with a loss, D hidden size, V vocabulary, L layers, H heads, M
MoE layers, E experts, S trajectories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from openk2.kernels.head_loss import head_loss
from openk2.kernels.int4 import Scales
from openk2.kernels.workers import Workers
from openk2.model.transformer import TrainOutput, Transformer
from openk2.rl import tally
from openk2.rl.objective import (
    ObjectiveConfig,
    Tokens,
    advantages,
    shares,
    slopes,
)
from openk2.rl.rows import Row, Sampled, pack, sampled
from openk2.rl.tally import Metrics
from openk2.text.packing import Batch, IntArray
from openk2.train.balance import update_biases
from openk2.train.loop import pick_device, pick_dtype
from openk2.train.muonclip import MuonClip, MuonClipConfig, check_logits, qk_clip
from openk2.train.qat import FakeInt4, Qat
from openk2.types import Trajectory

Groups = Sequence[Sequence[Trajectory]]


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """How the policy learns from trajectories."""

    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """What is minimised."""
    optimizer: MuonClipConfig = field(default_factory=MuonClipConfig)
    """How parameters are updated."""
    reset_optimizer: bool = True
    """Forget momentum at the start of each iteration, as k1.5 does: the policy that the objective
    refers to is another one."""
    passes: int = 1
    """How often an iteration learns from its trajectories. Behind the first update the policy is no
    longer the one that drew them: `objective.tau` or the clipping then holds it back."""
    parts: int = 1
    """Updates per pass, each from another part of the problems."""
    ptx_weight: float = 0.1
    """Weight of the curated rows' mean loss per token (K2's PTX loss); K2 does not say its own."""
    max_age: int | None = None
    """Tokens of policies more than this many versions behind the newest have no loss; none takes
    all. They came from partial rollouts."""
    micro_batch_tokens: int = 2048
    """Tokens per forward and backward; a longer trajectory goes alone. Gradients add up."""
    workers: int | None = None
    """Forwards and backwards that run side by side on a CPU, each with its share of the cores; none
    means one per core that PyTorch uses. The sum's rounding, nothing else, depends on it."""
    head_chunk: int = 1024
    """Tokens whose logits live at one time."""
    qk_clip_tau: float = 100.0
    """Cap on attention logits; K2's value."""
    bias_rate: float = 0.0
    """Step of the expert-balance bias. Off: it changes which experts the policy asks, and so its
    log-probabilities, in a way that no gradient answers for."""
    qat: Qat = "none"
    """Learn with the weights that INT4 will leave, as `loop.qat` does: for rollouts in INT4."""
    qat_scales: Scales = "absmax"
    """Scales of `qat`; roll out with the same."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products; weights stay float32. auto: bfloat16 on a GPU that has it."""
    device: str = "auto"
    """As PyTorch names it; auto: the first GPU, else the CPU."""

    def __post_init__(self) -> None:
        """Refuse values that no update can have."""
        for name in ("passes", "parts", "micro_batch_tokens", "head_chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("ptx_weight", "bias_rate"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, but is {getattr(self, name)}")
        if self.max_age is not None and self.max_age < 0:
            raise ValueError(f"max_age must be at least 0 or none, not {self.max_age}")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be at least 1 or none, not {self.workers}")
        if not self.qk_clip_tau > 0:
            raise ValueError(f"qk_clip_tau must be greater than 0, not {self.qk_clip_tau}")


@dataclass(frozen=True, slots=True)
class _Lesson:
    """What one update learns from."""

    every: Sequence[Sampled]
    advantage_S: Tensor
    share_S: Tensor
    start: Sequence[Tensor] | None
    """Log-probabilities at the iteration's start; none: the update is the first, they are now's."""
    temperature: float
    newest: int
    """Version of the policy that served last."""

    def tokens(self, row: Row, now_N: Tensor) -> Tokens:
        """Return a row's tokens with their log-probabilities of then and now."""
        start_N = now_N
        if self.start is not None:
            start_N = torch.cat([self.start[member] for member in row.members_S])
        return Tokens(
            sequence_N=_to(row.sequence_N, now_N.device),
            now_N=now_N,
            start_N=start_N,
            served_N=_to(row.served_N, now_N.device).to(now_N.dtype),
        )


@dataclass(slots=True)
class _Part:
    """What some rows give."""

    gradients: list[Tensor | None] | None
    """None: they teach nothing."""
    max_logit_LH: Tensor
    load_ME: Tensor
    sums: dict[str, float]

    def add(self, other: _Part) -> None:
        """Take other rows in."""
        if self.gradients is None:
            self.gradients = other.gradients
        elif other.gradients is not None:
            for i, (mine, theirs) in enumerate(zip(self.gradients, other.gradients, strict=True)):
                if mine is None:
                    self.gradients[i] = theirs
                elif theirs is not None:
                    mine.add_(theirs)
        self.max_logit_LH = torch.maximum(self.max_logit_LH, other.max_logit_LH)
        self.load_ME = self.load_ME + other.load_ME
        for name, value in other.sums.items():
            mine = self.sums.get(name, 0.0)
            self.sums[name] = max(mine, value) if name.endswith("_max") else mine + value


class PolicyTrainer:
    """A model that learns from its own trajectories."""

    def __init__(self, model: Transformer, config: PolicyConfig) -> None:
        """Move the model to its device and start with fresh optimizer state."""
        self.config = config
        self.device = pick_device(config.device)
        self.dtype = pick_dtype(config.dtype, self.device)
        self.model = model.to(self.device).train()
        cores = torch.get_num_threads() if config.workers is None else config.workers
        self.workers = Workers(cores if self.device.type == "cpu" else 1)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.fake_int4 = FakeInt4(model, config.qat, config.qat_scales)
        self.biases = [
            buffer
            for name, buffer in model.named_buffers()
            if name.endswith("e_score_correction_bias")
        ]
        self.optimizer = self._fresh_optimizer()

    def update(
        self, groups: Groups, ptx: Batch | None = None, *, temperature: float = 1.0
    ) -> Metrics:
        """Learn from one iteration's trajectories and return the means over its updates.

        Args:
            groups: The trajectories of each problem: rewards are compared within a group.
            ptx: Curated rows, divided between the updates.
            temperature: What the trajectories were drawn with: log-probabilities are of the
                distribution that was drawn from.

        Raises:
            FloatingPointError: A gradient or attention logit is not finite; that update was not
                made, those before it were.
            ValueError: There is less to learn from than there are updates.
        """
        self._check(groups, ptx, temperature)
        if self.config.reset_optimizer:
            self.optimizer = self._fresh_optimizer()
        newest = max((s.version for g in groups for t in g for s in t.segments), default=0)
        oldest = 0 if self.config.max_age is None else newest - self.config.max_age
        read = [[sampled(trajectory, oldest) for trajectory in group] for group in groups]
        parts, count = self.config.parts, self.config.parts * self.config.passes
        start: Sequence[Sequence[Tensor]] | None = None
        if count > 1:
            found = iter(self._logprobs([one for group in read for one in group], temperature))
            start = [[next(found) for _ in group] for group in read]
        made: list[Metrics] = []
        for number in range(count):
            mine = slice(number % parts, None, parts)
            earned = [[trajectory.reward for trajectory in group] for group in groups[mine]]
            then = None if start is None else start[mine]
            lesson = self._lesson(read[mine], earned, then, temperature, newest)
            share = None if ptx is None else _rows(ptx, slice(number, None, count))
            made.append(self._update(lesson, share))
        return tally.over_updates(made) | {
            "reward": float(np.mean([t.reward for g in groups for t in g]))
        }

    def logprobs(
        self, trajectories: Sequence[Trajectory], *, temperature: float = 1.0
    ) -> list[IntArray]:
        """Return the log-probability of every emitted token, trajectory by trajectory.

        Args:
            trajectories: Any; one without emitted tokens has an empty array.
            temperature: Of the distribution whose log-probabilities are wanted.
        """
        every = [sampled(trajectory) for trajectory in trajectories]
        return [found_N.cpu().numpy() for found_N in self._logprobs(every, temperature)]

    def _check(self, groups: Groups, ptx: Batch | None, temperature: float) -> None:
        parts, passes = self.config.parts, self.config.passes
        if not temperature > 0:
            raise ValueError(
                f"trajectories drawn at temperature {temperature} have no log-probabilities to "
                "learn from: draw them at a temperature above 0"
            )
        if len(groups) < parts or not all(groups):
            raise ValueError(
                f"{len(groups)} groups of trajectories for {parts} parts: every part needs a "
                "group and every group a trajectory"
            )
        if ptx is not None and len(ptx.ids_BT) < parts * passes:
            raise ValueError(
                f"{len(ptx.ids_BT)} curated rows for {parts * passes} updates: give each at least "
                "one, or set `parts` and `passes` lower"
            )

    def _fresh_optimizer(self) -> MuonClip:
        named = self.model.named_parameters()
        return MuonClip(named, self.config.optimizer, workers=self.workers)

    def _lesson(
        self,
        groups: Sequence[Sequence[Sampled]],
        rewards: Sequence[Sequence[float]],
        start: Sequence[Sequence[Tensor]] | None,
        temperature: float,
        newest: int,
    ) -> _Lesson:
        objective = self.config.objective
        lengths = [[len(one.at_N) for one in group] for group in groups]
        return _Lesson(
            every=[one for group in groups for one in group],
            advantage_S=advantages(rewards, objective).to(self.device),
            share_S=shares(lengths, objective).to(self.device),
            start=None if start is None else [x_N for group in start for x_N in group],
            temperature=temperature,
            newest=newest,
        )

    def _update(self, lesson: _Lesson, ptx: Batch | None) -> Metrics:
        """Make one step of the optimizer, or none if neither rewards nor rows say which."""
        with self.fake_int4.rounded():
            total = self._accumulate(lesson, ptx)
        metrics = tally.means(total.sums) | {"attention_max": total.max_logit_LH.max().item()}
        if total.gradients is None:
            return metrics | {"updates": 0.0, "grad_norm": 0.0, "clipped_heads": 0.0}
        check_logits(total.max_logit_LH)
        for parameter, gradient in zip(self.parameters, total.gradients, strict=True):
            parameter.grad = gradient
        grad_norm = self.optimizer.step()
        self.optimizer.zero_grad()
        clipped = qk_clip(
            dict(self.model.named_parameters()),
            self.model.config,
            total.max_logit_LH,
            self.config.qk_clip_tau,
        )
        update_biases(self.biases, total.load_ME, self.config.bias_rate)
        return metrics | {"updates": 1.0, "grad_norm": grad_norm, "clipped_heads": float(clipped)}

    def _accumulate(self, lesson: _Lesson, ptx: Batch | None) -> _Part:
        """Add up gradients and numbers over all rows of an update."""
        jobs: list[Callable[[], _Part]] = []
        # Trajectories that teach nothing share rows, which then have no backward.
        quiet_S = (lesson.advantage_S == 0).tolist()
        for members in (np.flatnonzero(quiet_S), np.flatnonzero(np.logical_not(quiet_S))):
            rows = self._pack(lesson.every, members.tolist())
            jobs += [partial(self._learn, row, lesson) for row in rows]
        if ptx is not None and self.config.ptx_weight:
            weight = float(ptx.weight_BT.sum(dtype="float64"))
            if weight == 0:
                raise ValueError("no token of the curated rows has a loss weight: check their mask")
            at_once = max(1, self.config.micro_batch_tokens // ptx.ids_BT.shape[1])
            starts = range(0, len(ptx.ids_BT), at_once)
            slices = [slice(start, start + at_once) for start in starts]
            jobs += [partial(self._imitate, _rows(ptx, rows), weight) for rows in slices]
        if not jobs:
            raise ValueError("no trajectory has an emitted token: there is nothing to learn from")
        # Which worker takes what is fixed, so that the same update always adds in the same order.
        queues = [jobs[w :: self.workers.count] for w in range(min(len(jobs), self.workers.count))]
        parts = self.workers.map(lambda queue: _added(job() for job in queue), queues)
        return _added(parts)

    def _pack(self, every: Sequence[Sampled], members: Sequence[int]) -> list[Row]:
        """Put trajectories into rows: as long as allowed, but enough rows for every worker."""
        tokens = sum(len(every[member].ids_T) for member in members)
        fair = -(-tokens // self.workers.count)
        return pack(every, members, max(1, min(self.config.micro_batch_tokens, fair)))

    def _learn(self, row: Row, lesson: _Lesson) -> _Part:
        """Find the gradient of a row of trajectories, and what there is to tell about it."""
        with self._autocast():
            output = self.model(
                _to(row.ids_T, self.device)[None],
                _to(row.doc_T, self.device)[None],
                _to(row.wanted_N, self.device),
            )
            hidden_ND = output.hidden_BTD / lesson.temperature
            target_N = _to(row.target_N, self.device)
            now_N, entropy_N = self._read(hidden_ND, target_N)
            tokens = lesson.tokens(row, now_N)
            members_S = _to(row.members_S, self.device)
            found = slopes(
                tokens,
                lesson.advantage_S[members_S],
                lesson.share_S[members_S],
                self.config.objective,
            )
            gradients = None
            if found.slope_N.any():
                # The head's loss is -log p: weighed so, its gradient is that of the objective.
                weight_N, chunk = -found.slope_N, self.config.head_chunk
                head_VD = self.model.lm_head.weight
                loss = head_loss(hidden_ND, head_VD, target_N, weight_N, chunk)
                gradients = self._gradients(loss)
        sums = tally.sums(
            tokens, found, entropy_N, _to(row.version_N, self.device) == lesson.newest
        )
        return _part(gradients, output, sums)

    def _imitate(self, rows: Batch, total_weight: float) -> _Part:
        """Find the gradient of some curated rows' loss."""
        arrays = (rows.ids_BT, rows.doc_BT, rows.target_BT, rows.weight_BT)
        ids_BT, doc_BT, target_BT, weight_BT = (_to(array, self.device) for array in arrays)
        weight_N = weight_BT.flatten() / total_weight
        wanted_N = weight_N.nonzero().squeeze(1)
        with self._autocast():
            output = self.model(ids_BT, doc_BT, wanted_N)
            loss = head_loss(
                output.hidden_BTD,
                self.model.lm_head.weight,
                target_BT.flatten()[wanted_N],
                weight_N[wanted_N],
                self.config.head_chunk,
            )
            gradients = self._gradients(self.config.ptx_weight * loss)
        return _part(gradients, output, {"ptx_loss": loss.item()})

    def _gradients(self, loss: Tensor) -> list[Tensor | None]:
        return list(torch.autograd.grad(loss, self.parameters, allow_unused=True))

    @torch.no_grad()
    def _read(self, hidden_ND: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return each target's log-probability and each place's entropy, some logits at a time."""
        head_VD = self.model.lm_head.weight.to(hidden_ND.dtype)
        now: list[Tensor] = []
        entropy: list[Tensor] = []
        chunk = self.config.head_chunk
        for x_ND, id_N in zip(hidden_ND.split(chunk), target_N.split(chunk), strict=True):
            log_p_NV = (x_ND @ head_VD.T).float().log_softmax(-1)
            now.append(log_p_NV.gather(1, id_N[:, None]).squeeze(1))
            entropy.append(-(log_p_NV.exp() * log_p_NV).sum(-1))
        return torch.cat(now), torch.cat(entropy)

    def _logprobs(self, every: Sequence[Sampled], temperature: float) -> list[Tensor]:
        """Return each trajectory's log-probabilities [N] as the policy is now."""
        found = [torch.empty(len(one.at_N), device=self.device) for one in every]
        rows = self._pack(every, range(len(every)))
        with self.fake_int4.rounded():
            read = self.workers.map(lambda row: self._read_row(row, temperature), rows)
        for row, now_N in zip(rows, read, strict=True):
            counts = [len(every[member].at_N) for member in row.members_S]
            for member, part_N in zip(row.members_S, now_N.split(counts), strict=True):
                found[member] = part_N
        return found

    @torch.no_grad()
    def _read_row(self, row: Row, temperature: float) -> Tensor:
        arrays = (row.ids_T, row.doc_T, row.wanted_N, row.target_N)
        ids_T, doc_T, wanted_N, target_N = (_to(array, self.device) for array in arrays)
        with self._autocast():
            hidden_ND = self.model(ids_T[None], doc_T[None], wanted_N).hidden_BTD
            return self._read(hidden_ND / temperature, target_N)[0]

    def _autocast(self) -> torch.autocast:
        low = self.dtype is not torch.float32
        return torch.autocast(self.device.type, dtype=self.dtype if low else None, enabled=low)


def _part(
    gradients: list[Tensor | None] | None, output: TrainOutput, sums: dict[str, float]
) -> _Part:
    return _Part(gradients, output.max_logit_LH.detach(), output.load_ME.detach(), sums)


def _added(parts: Iterable[_Part]) -> _Part:
    """Return the sum of parts, each of which is gone as soon as it is in."""
    every = iter(parts)
    total = next(every)
    for part in every:
        total.add(part)
    return total


def _rows(batch: Batch, rows: slice) -> Batch:
    return Batch(
        batch.ids_BT[rows], batch.doc_BT[rows], batch.target_BT[rows], batch.weight_BT[rows]
    )


def _to(array: IntArray, device: torch.device) -> Tensor:
    return torch.from_numpy(array).to(device)
