"""`openk2 quantize`.

In: a model directory and a number format. Out: the same model in fewer bits, and what that costs.
Must not know: how anything is rounded or measured.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from openk2.cli.checkpoints import bytes_bar, interrupted
from openk2.cli.tree import app, fail, share_cores

if TYPE_CHECKING:
    from collections.abc import Callable

    from openk2.export.hf_plan import Format

LAYOUTS: dict[str, Format] = {"int4-experts": "int4", "int4": "int4-all", "fp8": "fp8"}
"""What the exporter calls each format."""
REPORT = "quantization.json"


@app.command()
def quantize(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="Model directory, in any stored form.")
    ],
    out: Annotated[Path, typer.Argument(help="Directory to write; new or empty.")],
    format: Annotated[
        Literal["int4-experts", "int4", "fp8"],
        typer.Option(help="What is rounded, and to what."),
    ],
    scales: Annotated[
        Literal["absmax", "mse"],
        typer.Option(help="INT4 scales: of the largest value, or of least squared error."),
    ] = "mse",
    measured: Annotated[
        bool,
        typer.Option("--measure/--no-measure", help="Measure before and after; takes minutes."),
    ] = False,
    data: Annotated[Path, typer.Option(help="The repository's data/, to measure on.")] = Path(
        "data"
    ),
    tokens: Annotated[
        int, typer.Option(min=1000, help="How much of each kind of text to measure on.")
    ] = 40_000,
    with_tokenizer: Annotated[
        bool, typer.Option("--tokenizer/--no-tokenizer", help="Write the tokenizer, too.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print quantization.json.")] = False,
) -> None:
    """Round a model's weights to 4 or 8 bits.

    int4-experts rounds the routed experts alone, as Kimi K2 Thinking is published. int4 rounds
    every linear layer and lm_head; routers, norms and the embedding stay as they are. Both have
    one scale per 32 inputs, in the layout of compressed-tensors. fp8 rounds every linear layer to
    e4m3 with a scale per 128 x 128 block, as Kimi K2 is published; lm_head stays.

    --measure writes what it costs into OUT/quantization.json: bits per byte of prose and exact tool
    calls, before and after, on text of the repository that training never read.

        openk2 quantize openk2/assets/nano nano-int4 --format int4 --measure
    """
    if measured and not with_tokenizer:
        fail("measuring needs the tokenizer: leave out --no-tokenizer or --measure")
    share_cores()
    try:
        judge = partial(_measure, data=data, tokens=tokens) if measured else None
        report = _quantize(source, out, format, scales, judge, with_tokenizer)
    except (OSError, ValueError) as error:
        fail(str(error))
    except KeyboardInterrupt as error:
        whole = (out / "config.json").exists()
        left = f"{out} is whole, but was not measured" if whole else "nothing was written"
        interrupted(str(error) or left)
    if as_json:
        typer.echo(json.dumps(report))
        return
    before, after = report["bytes"]["before"], report["bytes"]["after"]
    typer.echo(f"{out}: {after:,} bytes of weights, {after / before:.0%} of {source}")
    if measured:
        typer.echo("\n".join(_lines(report["before"], report["after"])))


def _quantize(
    source: Path,
    out: Path,
    format: Literal["int4-experts", "int4", "fp8"],
    scales: Literal["absmax", "mse"],
    judge: Callable[[Path], dict[str, float]] | None,
    with_tokenizer: bool,
) -> dict[str, Any]:
    """Write the directory and its report, with what `judge` says of both directories."""
    from openk2.export.hf import check_new, export_hf
    from openk2.model.checkpoint import Checkpoint

    report: dict[str, Any] = {"format": format} | ({} if format == "fp8" else {"scales": scales})
    check_new(out)
    # Before anything is written: whatever is missing for measuring is said at once.
    before = judge(source) if judge else None
    with bytes_bar() as advance:
        written = export_hf(
            source,
            out,
            format=LAYOUTS[format],
            scales=scales,
            with_tokenizer=with_tokenizer,
            on_progress=advance,
        )
    for note in written.notes:
        typer.echo(f"openk2: {note}", err=True)
    report["bytes"] = {"before": Checkpoint(source).nbytes, "after": written.nbytes}
    if judge:
        report |= {"before": before, "after": judge(out)}
    (out / REPORT).write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    return report


def _measure(directory: Path, data: Path, tokens: int) -> dict[str, float]:
    from openk2.train.quality import measure

    return measure(directory, data, tokens)


def _lines(before: dict[str, float], after: dict[str, float]) -> list[str]:
    """Return a table of what is measured."""
    names = {
        "bits_per_byte": ("bits per byte", ".4f"),
        "name_right": ("calls with the right name", ".1%"),
        "both_right": ("calls right in name and arguments", ".1%"),
    }
    return [
        f"{label:<34}{before[key]:>10{style}} -> {after[key]:{style}}"
        for key, (label, style) in names.items()
        if key in before
    ]
