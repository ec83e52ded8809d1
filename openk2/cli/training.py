"""`openk2 pretrain` and `openk2 sft`.

In: a TOML file and overrides. Out: a training run, its last metrics, and an exit status.
Must not know: how training works.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openk2.cli.tree import app, fail, share_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Training ---------------------------------------------------------------------------------------

ConfigArgument = Annotated[Path, typer.Argument(help="TOML file of the run, as in configs/.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, as loop.steps=100."),
]
DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="FILE[=WEIGHT]",
        help="Also learn from a file of conversations, as `openk2 synth` writes it. "
        "Without a weight it is half of what is learned from.",
    ),
]
PrepareOption = Annotated[bool, typer.Option("--prepare-only", help="Tokenise the data and stop.")]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Start over instead of resuming.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the last metrics as JSON.")]


@app.command()
def pretrain(
    config: ConfigArgument,
    overrides: SetOption = None,
    prepare_only: PrepareOption = False,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model on text, resuming if interrupted."""
    from openk2.train.pretrain import PretrainConfig, run

    _train(PretrainConfig, run, config, overrides, (), prepare_only, fresh, as_json)


@app.command()
def sft(
    config: ConfigArgument,
    overrides: SetOption = None,
    data: DataOption = None,
    prepare_only: PrepareOption = False,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune on conversations, resuming if interrupted."""
    from openk2.train.sft import SftConfig, run

    _train(SftConfig, run, config, overrides, data or (), prepare_only, fresh, as_json)


EXIT_CODES = {"signal": 130, "time": 75}
"""Of a run that stopped early: as of a program that Ctrl-C ended, and EX_TEMPFAIL."""


def _train(
    kind: type[Any],
    run: Callable[..., Any],
    path: Path,
    overrides: list[str] | None,
    files: Sequence[str],
    prepare_only: bool,
    fresh: bool,
    as_json: bool,
) -> None:
    share_cores()
    from openk2 import config as settings
    from openk2.train import shards
    from openk2.train.heap import keep_heap
    from openk2.train.pretrain import check_start

    keep_heap()
    try:
        config = settings.load(kind, path, overrides or [])
        config = replace(config, data=shards.with_files(config.data, files))
    except ValueError as error:
        fail(str(error))
    try:
        if not prepare_only:  # quick to say, and preparing is not
            check_start(config.model)
        shards.prepare(config.data, lambda line: typer.echo(line, err=True))
        if prepare_only:
            return
        result = run(config, resume=not fresh, show_progress=sys.stderr.isatty())
    except (OSError, ValueError, FloatingPointError) as error:
        fail(f"{path}: {error}")
    if as_json:
        typer.echo(json.dumps({"step": result.step, "reason": result.reason, **result.metrics}))
    else:
        typer.echo(f"{result.reason} at step {result.step}; see {config.out}/metrics.png")
        if result.reason != "finished":
            typer.echo("type the same command again to go on")
    if result.reason != "finished":  # or a script would go on with half a model
        raise typer.Exit(EXIT_CODES[result.reason])
