"""Needles in haystacks of up to 256K tokens on the nano shape: found or not, how fast, how large.

In: nothing; the weights are written so that the answer is known (bench/needle.py), and rounded to
INT4. Out: bench/records/long-context.json. Every length is a process of its own: one request reads
the whole haystack, then answers eight questions in a chain, each needle asking for the next. A
wrong answer ends the bench.

    python -m bench.long_context --dir /tmp/openk2-needle
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench import record
from bench.checkpoints import peak_rss, rss
from bench.needle import KEYS, haystack, needle_model

LENGTHS = (4096, 32768, 131072, 262144)
DECODED = 64
"""Tokens of the answer: the eight needles and whatever follows, for the speed of decoding."""


def main() -> None:
    """Try every length and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="Where 100 MB of files may lie.")
    parser.add_argument("--lengths", type=_numbers, default=LENGTHS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--format", choices=("bf16", "int4-all"), default="int4-all")
    parser.add_argument("--record", default="long-context")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(measured(options.dir / options.format, options.child, options.threads)))
        return
    write_model(options.dir, options.format)
    result: dict[str, Any] = {"format": options.format, "threads": options.threads}
    for length in options.lengths:
        result[str(length)] = child(length, options)
        print(length, json.dumps(result[str(length)]), flush=True)
    lengths = ",".join(map(str, options.lengths))
    command = f"python -m bench.long_context --dir DIR --lengths {lengths}"
    print(record.write(options.record, command, result))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def write_model(directory: Path, form: str) -> None:
    """Write the constructed weights, unless they are there."""
    import torch

    from openk2.export.hf import export_hf
    from openk2.model import weights

    if not (directory / "bf16" / "config.json").exists():
        weights.save(needle_model(max(LENGTHS)), directory / "bf16", torch.bfloat16)
    if form != "bf16" and not (directory / form / "config.json").exists():
        # The tokenizer of the shipped model is not theirs: these ids mean nothing.
        export_hf(directory / "bf16", directory / form, format="int4-all", with_tokenizer=False)


def child(length: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one length in a fresh process.

    Raises:
        RuntimeError: It failed, or the answer was wrong.
    """
    command = [sys.executable, "-m", "bench.long_context", "--dir", str(options.dir)]
    done = subprocess.run(
        [
            *(*command, "--format", options.format, "--threads", str(options.threads)),
            *("--child", str(length)),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(options.threads)},
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{length} tokens: the process failed, its message is above")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measured(directory: Path, length: int, threads: int) -> dict[str, Any]:
    """Read a haystack that fills the context but for the answer, and check the answer."""
    from openk2.cli.tree import share_cores

    share_cores()  # as `openk2 serve` does
    import torch

    from openk2.engine.loading import load_engine
    from openk2.model.checkpoint import Checkpoint
    from openk2.types import Sampling

    torch.set_num_threads(threads)
    vocab_size = Checkpoint(directory).config.vocab_size
    engine = load_engine(
        directory, stop_ids=frozenset(), vocab_size=vocab_size, max_batch=1, context=length
    ).engine
    list(engine.generate([1], Sampling(temperature=0, max_tokens=4)))  # compiles what is compiled
    hay = haystack(length - DECODED, vocab_size, seed=length)
    before = rss()
    began = time.perf_counter()
    tokens = engine.generate(hay.prompt, Sampling(temperature=0, max_tokens=DECODED))
    answer = [next(tokens).id]
    read = time.perf_counter()
    answer += [token.id for token in tokens]
    done = time.perf_counter()
    grown = rss() - before
    if answer[:KEYS] != hay.answer:
        raise RuntimeError(f"{length} tokens: needles {answer[:KEYS]}, expected {hay.answer}")
    return {
        "needles_found": KEYS,
        "prompt_tokens": len(hay.prompt),
        "read_s": round(read - began, 2),
        "read_tokens_per_s": round(len(hay.prompt) / (read - began), 1),
        "decode_tokens_per_s": round((DECODED - 1) / (done - read), 2),
        "cache_bytes_per_token": cache_bytes_per_token(engine),
        "rss_growth_bytes_per_token": round(grown / length),
        "peak_rss_bytes": peak_rss(),
        "load_average_1m": round(os.getloadavg()[0], 1),
    }


def cache_bytes_per_token(engine: Any) -> float:
    """Return what the cache holds for one token over all layers."""
    from openk2.engine.runner import BLOCK

    return engine._runner.block_bytes() / BLOCK


if __name__ == "__main__":
    main()
