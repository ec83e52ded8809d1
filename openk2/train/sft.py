"""Supervised fine-tuning: the pre-training loop on conversations.

In: a config that names a model directory and conversation packs. Out: a model directory. The loss
covers what the assistant says; held-out quality is the loss and the share of exactly right tool
calls. Must not know: how a step works, how a conversation becomes tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from openk2.text.packing import Shard
from openk2.text.tokenizer import Tokenizer
from openk2.train.heldout import HeldOut
from openk2.train.loop import LoopConfig, Result, Trainer
from openk2.train.pretrain import Evaluate, run_stage
from openk2.train.shards import DataConfig
from openk2.train.toolcall_eval import CallTokens, evaluate_calls


@dataclass(frozen=True, slots=True)
class SftConfig:
    """One fine-tuning run."""

    data: DataConfig
    """What the model reads."""
    loop: LoopConfig
    """How it learns."""
    model: str = "out/pretrain/model"
    """Directory of the model to start from, or a preset for one from scratch."""
    out: Path = Path("out/sft")
    """Receives metrics, checkpoints and, in `model/`, the result."""
    held_out_rows: int = 64
    """Rows that an evaluation of the loss reads, spread over the packs."""
    eval_calls_documents: int = 100
    """Conversations with tool calls that an evaluation reads from each pack."""


def run(config: SftConfig, *, resume: bool = True, show_progress: bool = False) -> Result:
    """Fine-tune and leave the model in `out/model`.

    Args:
        config: The run.
        resume: Continue from the newest checkpoint in `out`.
        show_progress: Draw a progress bar on stderr.

    Raises:
        FileNotFoundError: The shards are missing: prepare the data first.
    """

    def make_evaluate(
        held_out: HeldOut, shards: Mapping[str, Shard], tokenizer: Tokenizer
    ) -> Evaluate:
        tokens = CallTokens.of(tokenizer)

        def evaluate(trainer: Trainer) -> dict[str, float]:
            head_VD = trainer.model.lm_head.weight
            limit = config.eval_calls_documents
            calls = evaluate_calls(trainer.forward, head_VD, shards, tokens, limit)
            return {**held_out.evaluate(trainer), **calls}

        return evaluate

    return run_stage(config, make_evaluate, resume=resume, show_progress=show_progress)
