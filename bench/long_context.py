"""Needles in a document of 256K tokens: found or not, how fast, how large.

In: nothing; the weights are written so that the answer is known (bench/needle.py), and rounded to
INT4. Out: bench/records/long-context.json and a picture, both written anew after every length.

- `filled`: nano's shape; speed and memory at every length, behind a cache that was filled.
- `thin`: two layers with one head; a document is read to every length and asked for its needles.
- `nano`: the same with nano's shape, which takes hours at the longest: attention is quadratic.

A wrong answer ends a part. A part that is measured again leaves the others in the record.

    OMP_NUM_THREADS=1 python -m bench.long_context --dir /tmp/openk2-needle
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import record
from bench.needle import needle_model

LENGTHS = (1024, 4096, 16384, 65536, 131072, 262144)
PARTS = ("filled", "thin", "nano")
RECORD = "long-context"
PICTURE = record.ROOT / "docs" / "images" / "long-context.png"


def main() -> None:
    """Measure the parts one after the other, and write the record after every length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="Where 200 MB of files may lie.")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=PARTS)
    parser.add_argument("--lengths", type=_numbers, default=LENGTHS)
    parser.add_argument("--child", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        for row in measured(options.child, options.dir, options.lengths):
            print(json.dumps(row), flush=True)
        return
    for part in options.parts:
        write_model(options.dir, part)
        rows: list[dict[str, Any]] = []
        told = {"commit": record.commit(), "shape": shape(options.dir, part)}
        for row in child(part, options):
            print(time.strftime("%H:%M:%S"), part, json.dumps(row), flush=True)
            rows.append(row)
            left = [length for length in options.lengths if length > row["length"]]
            write(part, told | {"lengths": rows, "not_reached": left})


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def shape_of(part: str) -> str:
    """Return the shape of the model that a part measures."""
    return "thin" if part == "thin" else "nano"


def rounded(directory: Path, part: str) -> Path:
    """Return where the model of a part lies in INT4."""
    return directory / shape_of(part) / "int4-all"


def shape(directory: Path, part: str) -> dict[str, Any]:
    """Return what attention costs and how its positions are made, from the files of the model."""
    config = json.loads((rounded(directory, part) / "config.json").read_text("utf-8"))
    keys = ("num_hidden_layers", "num_attention_heads", "kv_lora_rank", "qk_rope_head_dim")
    return {key: config[key] for key in (*keys, "max_position_embeddings", "rope_scaling")}


def write(part: str, found: dict[str, Any]) -> None:
    """Put what was found into the record beside the other parts, and draw all of it."""
    path = record.RECORDS / f"{RECORD}.json"
    old = json.loads(path.read_text("utf-8"))["result"] if path.exists() else {}
    parts = {name: old[name] for name in PARTS if name in old} | {part: found}
    result = {"format": "int4-all", "threads": 1} | {
        name: parts[name] for name in PARTS if name in parts
    }
    command = "OMP_NUM_THREADS=1 python -m bench.long_context --dir DIR"
    record.write(RECORD, command, result)
    if "filled" in result and "nano" in result:
        plot(result["filled"]["lengths"], result["nano"]["lengths"], PICTURE)


def write_model(directory: Path, part: str) -> None:
    """Write the constructed weights, unless they are there."""
    import torch

    from openk2.export.hf import export_hf
    from openk2.model import weights

    full, small = directory / shape_of(part) / "bf16", rounded(directory, part)
    if not (full / "config.json").exists():
        weights.save(needle_model(max(LENGTHS), shape_of(part)), full, torch.bfloat16)
    if not (small / "config.json").exists():
        # The tokenizer of the shipped model is not theirs: these ids mean nothing.
        export_hf(full, small, format="int4-all", with_tokenizer=False)


def child(part: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure in a fresh process, whose memory holds nothing else.

    Raises:
        RuntimeError: It failed, or an answer was wrong.
    """
    lengths = ",".join(map(str, options.lengths))
    command = [sys.executable, "-m", "bench.long_context", "--child", part, "--lengths", lengths]
    with subprocess.Popen(
        [*command, "--dir", str(options.dir)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise RuntimeError(f"{part}: the measuring process failed; its message is above")


def measured(part: str, directory: Path, lengths: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Measure one part in this process."""
    from openk2.cli.tree import share_cores

    share_cores()  # as `openk2 serve` does
    from bench import depths

    measure = depths.filled if part == "filled" else depths.read
    return measure(rounded(directory, part), lengths)


def plot(filled: list[dict[str, Any]], read: list[dict[str, Any]], png: Path) -> None:
    """Draw speed and memory over the length."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    reading, decoding, memory = figure.subplots(1, 3)
    for axes, key, title in (
        (reading, "read_tokens_per_cpu_s_here", "reading, tokens per CPU second"),
        (decoding, "decode_tokens_per_cpu_s", "decoding, tokens per CPU second"),
    ):
        for rows, label, mark in ((filled, "cache filled", "-"), (read, "document read", "o")):
            axes.plot(
                [row["length"] for row in rows], [row[key] for row in rows], mark, label=label
            )
        axes.set_title(title, fontsize=10)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
    length = [row["length"] / 1024 for row in filled]
    latents = [row["length"] * row["cache_bytes_per_token"] / 1e6 for row in filled]
    memory.plot(length, latents, label="the latents alone")
    for rows, label, mark in ((filled, "cache filled", "x"), (read, "document read", "o")):
        base = rows[0]["rss_bytes"] - rows[0]["length"] * rows[0]["cache_bytes_per_token"]
        grown = [(row["rss_bytes"] - base) / 1e6 for row in rows]
        memory.plot([row["length"] / 1024 for row in rows], grown, mark, label=label)
    memory.set_title("memory that the context takes, MB", fontsize=10)
    for axes, unit in ((reading, ""), (decoding, ""), (memory, "K ")):
        axes.set_xlabel(f"{unit}tokens in the context")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(png, dpi=110)


if __name__ == "__main__":
    main()
