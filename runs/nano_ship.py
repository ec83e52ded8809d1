"""Put the trained nano where the package ships it, and record how it was trained.

In: the output folders of the stages of `runs/nano.sh`, then of `runs/ship.sh`, which goes on from
what the former shipped. Out: openk2/assets/nano with experts in INT4, as its last stage trained
them, docs/images/nano-*.png, bench/records/nano-training.json, where the stages before stay as they
were recorded.

    python -m runs.nano_ship
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

from bench import record
from openk2.export.hf import export_hf
from openk2.text.tokenizer import Tokenizer

CURVE_POINTS = 40
STAGES = ("attend", "copy", "tools", "bind", "ship")
GENERATION = {"temperature": 0.6, "top_p": 1.0, "do_sample": True}


def main() -> None:
    """Ship the weights and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--stages", nargs="+", default=STAGES, help="in their order")
    parser.add_argument("--begin", action="store_true", help="forget the stages before")
    parser.add_argument("--to", type=Path, default=Path("openk2/assets/nano"))
    options = parser.parse_args()
    tokenizer = Tokenizer.load(options.to)
    stages = {name: options.out / f"{name}-nano" for name in options.stages}
    made_from = record.commit()
    with tempfile.TemporaryDirectory() as folder:
        rounded = Path(folder) / "model"
        export_hf(stages[options.stages[-1]] / "model", rounded, format="int4", scales="absmax")
        for name in ("config.json", "model.safetensors"):
            shutil.copyfile(rounded / name, options.to / name)
    ids = {"bos": tokenizer.bos, "eos": [tokenizer.im_end, tokenizer.eos], "pad": tokenizer.pad}
    generation = GENERATION | {f"{name}_token_id": value for name, value in ids.items()}
    text = json.dumps(generation, indent=2) + "\n"
    (options.to / "generation_config.json").write_text(text, "utf-8")
    images = Path("docs/images")
    images.mkdir(exist_ok=True)
    for name in ("bind", "ship") if "bind" in stages else stages:
        shutil.copyfile(stages[name] / "metrics.png", images / f"nano-{name}.png")
    path = record.RECORDS / "nano-training.json"
    result: dict[str, Any] = {} if options.begin else json.loads(path.read_text("utf-8"))["result"]
    result |= {name: stage(folder) for name, folder in stages.items()}
    result["shipped_from_commit"] = made_from
    print(record.write("nano-training", "bash runs/nano.sh; bash runs/ship.sh", result))


def stage(folder: Path) -> dict[str, Any]:
    """Summarise one stage: its settings, what it read, its curve, its last held-out values."""
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    rows: list[dict[str, float]] = [json.loads(line) for line in lines]
    config = json.loads((folder / "config.json").read_text("utf-8"))
    last_measured = next(row for row in reversed(rows) if is_measured(row))
    return {
        "config": config,
        "steps": rows[-1]["step"],
        "tokens": rows[-1]["tokens"],
        "training_minutes": round(minutes(rows), 1),
        "tokens_per_s_median": sorted(row["tokens_per_s"] for row in rows)[len(rows) // 2],
        "largest_attention_logit": max(row["max_logit"] for row in rows),
        "dead_experts_at_the_end": rows[-1]["dead_experts"],
        "expert_load_max_over_mean_at_the_end": rows[-1]["load_max"],
        "held_out": {key: round(value, 4) for key, value in last_measured.items() if "/" in key}
        | {key: last_measured[key] for key in HELD_OUT if key in last_measured},
        "curve_step_loss": [
            (row["step"], round(row["loss"], 4))
            for row in rows[:: max(1, math.ceil(len(rows) / CURVE_POINTS))]
        ],
        "held_out_curve": [
            {key: row[key] for key in ("step", *HELD_OUT) if key in row}
            for row in rows
            if is_measured(row)
        ],
    }


HELD_OUT = ("bits_per_byte", "held_out_loss", "name_right", "arguments_right", "both_right")


def is_measured(row: dict[str, float]) -> bool:
    """Whether a step's row has held-out values."""
    return "held_out_loss" in row


def minutes(rows: list[dict[str, float]]) -> float:
    """Add up the time that the steps took, evaluations left out."""
    before = [0.0, *(row["tokens"] for row in rows)]
    steps = zip(rows, before, strict=False)
    return sum((row["tokens"] - start) / row["tokens_per_s"] for row, start in steps) / 60


if __name__ == "__main__":
    main()
