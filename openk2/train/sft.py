"""Supervised fine-tuning: the pre-training loop on conversations.

In: a config that names a model directory and conversation packs. Out: a model directory. The loss
covers what the assistant says; held-out quality is the loss and the share of exactly right tool
calls. Must not know: how a step works, how a conversation becomes tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from openk2.text.tokenizer import Tokenizer
from openk2.train.heldout import HeldOut
from openk2.train.loop import LoopConfig, Result, Trainer, train
from openk2.train.pretrain import finish, record_config, start_digest, start_model
from openk2.train.shards import DataConfig, open_held_out, open_mixture
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
    data = config.data
    tokenizer = Tokenizer.load(data.tokenizer)
    tokens = CallTokens.of(tokenizer)
    model = start_model(config.model, config.loop.seed, tokenizer.vocab_size)
    shares = {**data.texts, **data.conversations}
    names = [name for name, weight in shares.items() if weight > 0] + list(data.measured)
    shards = open_held_out(data, names)
    held_out = HeldOut(shards, data.seq_len, config.held_out_rows, shares)

    def evaluate(trainer: Trainer) -> dict[str, float]:
        head_VD = trainer.model.lm_head.weight
        limit = config.eval_calls_documents
        calls = evaluate_calls(trainer.forward, head_VD, shards, tokens, limit)
        return {**held_out.evaluate(trainer), **calls}

    trainer = Trainer(model, config.loop, start_digest(config.model))
    record_config(config, trainer, config.out)
    result = train(
        trainer,
        open_mixture(data, config.loop.seed),
        data.seq_len,
        config.out,
        evaluate,
        resume=resume,
        show_progress=show_progress,
    )
    finish(model, tokenizer, config.out)
    return result
