"""Compare three mixtures of training data on domains that none of them has.

In: the model of `configs/copy-nano.toml`, conversations of `openk2 synth`, and others of its
held-out domains. Out: bench/records/mixtures.json. All runs start from one model and read equally
many tokens; they are measured under teacher forcing (would greedy decoding write the gold call?)
and by tasks done.

    openk2 synth -n 9000 --out out/synth
    openk2 synth -n 400 --domains clinic,hotels,library,rentals --out out/held-out
    python -m runs.mixtures
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import record
from openk2 import config as settings
from openk2.train import sft, shards
from openk2.train.metrics import read

CONFIG = Path("configs/bind-nano.toml")
COPYING = ("copy_calls", "copy_tasks", "copy_documents")
MIXTURES = {
    "packs, copy tasks, synthesis": (True, True),
    "packs, synthesis": (False, True),
    "packs, copy tasks": (True, False),
}
"""Whether a mixture has copy tasks, and synthesised conversations."""
SYNTHESIS_WEIGHT = 42.0
PUBLIC = ("nlu_calls_test", "sgd_test")


def mixture(options: argparse.Namespace, copying: bool, synthesis: bool) -> sft.SftConfig:
    """Return the settings of one run."""
    base = settings.load(sft.SftConfig, CONFIG)
    texts, conversations = dict(base.data.texts), dict(base.data.conversations)
    for name in () if copying else COPYING:
        texts.pop(name, None)
        conversations.pop(name, None)
    data = replace(
        base.data,
        texts=texts,
        conversations=conversations,
        files=base.data.files | ({str(options.data): SYNTHESIS_WEIGHT} if synthesis else {}),
        measured=(str(options.held_out / "eval.jsonl"), *PUBLIC),
    )
    loop = replace(
        base.loop,
        steps=options.steps,
        decay_from=options.steps // 2,
        floor=0.05,
        eval_every=options.steps,
        save_every=options.steps,
    )
    out = options.out / f"{'copy' if copying else 'no-copy'}-{'synth' if synthesis else 'no-synth'}"
    return replace(
        base, data=data, loop=loop, model=options.model, out=out, eval_calls_documents=200
    )


def tasks_done(options: argparse.Namespace, model: Path) -> dict[str, Any]:
    """Let a model do tasks of the held-out domains, its calls constrained as a server's are."""
    command = [sys.executable, "-m", "openk2.cli", "eval", "--json", "--limit", str(options.limit)]
    command += ["--tasks", str(options.held_out / "eval.jsonl"), "--model", str(model)]
    command += ["--out", str(model.parent / "tasks")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    """Train, measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="out/copy-nano/model", help="all runs start from it")
    parser.add_argument("--data", type=Path, default=Path("out/synth/train.jsonl"))
    parser.add_argument("--held-out", type=Path, default=Path("out/held-out"))
    parser.add_argument("--out", type=Path, default=Path("out/mixtures"))
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--limit", type=int, default=40, help="tasks of each group; 0: none")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for name, (copying, synthesis) in MIXTURES.items():
        config = mixture(options, copying, synthesis)
        shards.prepare(config.data)
        if sft.run(config, show_progress=True).reason != "finished":
            raise SystemExit(f"{config.out} is not finished: type the same command again")
        last = read(config.out / "metrics.jsonl")[-1]
        found[name] = {
            "weights": config.data.weights,
            "steps": last["step"],
            "held_out": {k: round(v, 4) for k, v in last.items() if "/" in k},
            "tasks": tasks_done(options, config.out / "model") if options.limit else None,
        }
    command = f"python -m runs.mixtures --steps {options.steps} --limit {options.limit}"
    print(record.write("mixtures", command, found))


if __name__ == "__main__":
    main()
