"""What rounding a model's weights costs: bits per byte and exact tool calls, format by format.

In: a model directory and the repository's data. Out: bench/records/quantization.json. Every format
is written as `openk2 quantize` writes it, INT4 with both scale rules, and measured as `--measure`.

    python -m bench.quantization --model openk2/assets/nano
    python -m bench.quantization --model out/plain-nano/model --qat out/ship-nano/model

With `--qat`, the model of a twin run that trained with rounded experts stands beside it, as it is
and rounded as it was trained.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from bench import record
from openk2.cli.quantizing import LAYOUTS
from openk2.export.hf import export_hf
from openk2.kernels.int4 import Scales
from openk2.train.quality import BYTES_PER_TOKEN, CALL_SETS, PROSE, TOKENS, measure

CASES: tuple[tuple[str, Scales], ...] = (
    ("fp8", "absmax"),
    ("int4-experts", "absmax"),
    ("int4-experts", "mse"),
    ("int4", "absmax"),
    ("int4", "mse"),
)


def main() -> None:
    """Measure the model as it is and in every format, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("openk2/assets/nano"))
    parser.add_argument("--qat", type=Path, help="the same run with loop.qat = experts")
    parser.add_argument("--data", type=Path, default=Path("data"))
    options = parser.parse_args()
    result: dict[str, Any] = {
        "prose": f"{PROSE}, first {BYTES_PER_TOKEN * TOKENS:,} bytes of its test part",
        "calls": f"teacher-forced; {TOKENS:,} tokens each of {', '.join(CALL_SETS)}",
        "as it is": shown(measure(options.model, options.data)),
    }
    print("as it is", json.dumps(result["as it is"]), flush=True)
    for format, scales in CASES:
        name = format if format == "fp8" else f"{format}, {scales} scales"
        result[name] = rounded(options.model, options.data, format, scales)
        print(name, json.dumps(result[name]), flush=True)
    command = f"python -m bench.quantization --model {options.model}"
    if options.qat:
        command += f" --qat {options.qat}"
        result["qat, as it is"] = shown(measure(options.qat, options.data))
        name = "qat, int4-experts, absmax scales"
        result[name] = rounded(options.qat, options.data, "int4-experts", "absmax")
        print(name, json.dumps(result[name]), flush=True)
    print(record.write("quantization", command, result))


def rounded(model: Path, data: Path, format: str, scales: Scales) -> dict[str, Any]:
    """Write a model in a format and measure that."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        written = export_hf(model, out, format=LAYOUTS[format], scales=scales)
        return {"weight_bytes": written.nbytes, **shown(measure(out, data))}


def shown(found: dict[str, float]) -> dict[str, float]:
    """Round what was measured to the digits that mean something."""
    return {key: round(value, 4) for key, value in found.items()}


if __name__ == "__main__":
    main()
