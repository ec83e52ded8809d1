"""Our eager engine and trainer beside transformers on the same weights, in the same run.

In: a model directory. Out: bench/records/transformers.json: tokens per second of greedy decoding
and of a training step's forward and backward, alternating A B A B, as medians and their ratio.

    python -m bench.peers
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import DeepseekV3ForCausalLM, DynamicCache

from bench import record
from openk2.engine.engine import Engine
from openk2.engine.runner import TorchRunner
from openk2.kernels.head_loss import head_loss
from openk2.model import weights
from openk2.train.heap import keep_heap
from openk2.types import Sampling

ROUNDS = 5
NEW_TOKENS = 64
ROWS, LENGTH = 8, 512


def main() -> None:
    """Measure both pairs and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("openk2/assets/nano"))
    directory = parser.parse_args().model
    keep_heap()
    ours = weights.load(directory)
    theirs = DeepseekV3ForCausalLM.from_pretrained(directory, dtype=torch.float32)
    ids_BT = torch.randint(0, ours.config.vocab_size, (ROWS, LENGTH + 1))
    engine = Engine(TorchRunner(ours), max_batch=1, max_len=512, stop_ids=frozenset())
    prompt = ids_BT[0, :32].tolist()
    result = {
        "decode_greedy_batch_1": alternate(
            lambda: list(engine.generate(prompt, Sampling(0, max_tokens=NEW_TOKENS))),
            lambda: greedy(theirs, prompt),
            NEW_TOKENS,
        ),
        f"train_forward_backward_{ROWS}x{LENGTH}": alternate(
            lambda: our_step(ours, ids_BT), lambda: their_step(theirs, ids_BT), ROWS * LENGTH
        ),
        "dtype": "float32",
        "rounds": ROUNDS,
    }
    print(record.write("transformers", "python -m bench.peers", result), result)


def alternate(
    ours: Callable[[], object], theirs: Callable[[], object], tokens: int
) -> dict[str, float]:
    """Time two ways in turn, after one round to warm up."""
    speeds: list[tuple[float, float]] = []
    for _ in range(ROUNDS + 1):
        seconds: list[float] = []
        for way in (ours, theirs):
            began = time.perf_counter()
            way()
            seconds.append(time.perf_counter() - began)
        speeds.append((tokens / seconds[0], tokens / seconds[1]))
    a, b = (statistics.median(column) for column in zip(*speeds[1:], strict=True))
    return {
        "openk2_tokens_per_s": round(a, 1),
        "transformers_tokens_per_s": round(b, 1),
        "ratio": round(a / b, 2),
    }


@torch.inference_mode()
def greedy(model: DeepseekV3ForCausalLM, prompt: list[int]) -> None:
    """Decode with the key-value cache, without the overhead of `generate`."""
    cache = DynamicCache(config=model.config)
    ids = torch.tensor([prompt])
    for _ in range(NEW_TOKENS):
        logits = model(ids, past_key_values=cache, logits_to_keep=1).logits
        ids = logits[:, -1:].argmax(-1)


def our_step(model: weights.Transformer, ids_BT: torch.Tensor) -> None:
    """One forward and backward of the trainer, without the optimizer."""
    hidden_BTD = model(ids_BT[:, :-1]).hidden_BTD
    target_N = ids_BT[:, 1:].flatten()
    weight_N = torch.full(target_N.shape, 1 / target_N.numel())
    head_loss(hidden_BTD.flatten(0, 1), model.lm_head.weight, target_N, weight_N).backward()
    model.zero_grad(set_to_none=True)


def their_step(model: DeepseekV3ForCausalLM, ids_BT: torch.Tensor) -> None:
    """The same with transformers' model and plain cross-entropy."""
    logits = model(ids_BT[:, :-1], use_cache=False).logits
    F.cross_entropy(logits.flatten(0, 1), ids_BT[:, 1:].flatten()).backward()
    model.zero_grad(set_to_none=True)


if __name__ == "__main__":
    main()
