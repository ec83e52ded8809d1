"""`openk2 inspect` and `openk2 export`.

In: a model directory. Out: what is in it, or the same model in another tool's format.
Must not know: any format.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from openk2.cli.tree import app, fail

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from openk2.model.inspect import Inspection

# Looking into a checkpoint ----------------------------------------------------------------------


@app.command()
def inspect(
    directory: Annotated[Path, typer.Argument(help="Model directory; shards may be missing.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every tensor and look for NaN and infinity.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Look into a model directory without loading it.

    Only config.json, the tokenizer, the index and the safetensors headers are read, so a directory
    of a terabyte takes seconds; pickle files and Python code are never opened. --verify reads
    everything. The exit status is 0 when the directory would load and 1 when it would not.

        openk2 inspect ~/models/Kimi-K2-Instruct
    """
    from openk2.model import inspection_text
    from openk2.model.config import ConfigError
    from openk2.model.inspect import inspect as look

    try:
        found = look(directory, _vocabulary(directory))
    except ConfigError as error:
        if as_json:
            typer.echo(json.dumps({"loads": False, "problems": [str(error)]}))
        typer.echo(f"openk2: {error}", err=True)
        raise typer.Exit(1) from None
    if verify:
        _verify(found)
    if as_json:
        typer.echo(json.dumps(inspection_text.plain(found)))
    else:
        typer.echo("\n".join(inspection_text.lines(found)))
    if not found.loads:
        raise typer.Exit(1)


def _vocabulary(directory: Path) -> int | str:
    """Return the size of a directory's vocabulary, or why serving could not use it."""
    from openk2.text.template import check_tokenizer
    from openk2.text.tokenizer import Tokenizer

    try:
        tokenizer = Tokenizer.load(directory)
        check_tokenizer(tokenizer)
    except (OSError, ValueError) as error:
        return f"the tokenizer cannot be used: {error}"
    return tokenizer.vocab_size


def _verify(found: Inspection) -> None:
    from openk2.model.verify import verify

    total = sum(entry.nbytes for entry in found.entries.values())
    with typer.progressbar(length=total, label="verifying", file=sys.stderr) as bar:
        for finding in verify(found.entries, bar.update):
            (found.problems if finding.is_refused else found.notes).append(str(finding))
    found.notes.append(f"every tensor was read: {total:,} bytes")


# Other tools' formats ---------------------------------------------------------------------------

export = typer.Typer(
    help="Write a model for other tools.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(export, name="export")


@export.command("gguf")
def export_gguf(
    source: Annotated[Path, typer.Argument(help="Model directory.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.gguf", help="File to write.")],
    format: Annotated[
        Literal["f32", "f16", "q8_0", "q4_0"],
        typer.Option(help="What matrices are stored as. q4_0: routed experts; the others q8_0."),
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was written as JSON.")
    ] = False,
) -> None:
    """Write a file for llama.cpp.

    q8_0 is nearly lossless. q4_0 keeps the experts of an INT4 checkpoint (Kimi K2 Thinking) as
    they are, bit for bit; of any other checkpoint it rounds them. f16 and f32 are for further
    conversion. Memory does not grow with the model.
    """
    try:
        from openk2.export.gguf import export_gguf as write

        with bytes_bar() as advance:
            done = write(source, out, format=format, force=force, on_progress=advance)
    except ModuleNotFoundError as error:
        fail(f"{error}; install what exporting needs: pip install 'openk2[export]'")
    except (OSError, ValueError) as error:
        fail(f"cannot export {source}: {error}")
    except KeyboardInterrupt:
        interrupted(f"{out} was not written")
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(done)))
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(done.tensors.items()))
    typer.echo(f"{out}: {done.nbytes:,} bytes, {sum(done.tensors.values())} tensors ({kinds})")
    if done.fallback:
        typer.echo(f"in f16, for their rows are no multiple of 32: {', '.join(done.fallback)}")
    if done.options:
        typer.echo(
            "llama.cpp does not read this model's YaRN betas from a file: "
            f"start it with {done.options}"
        )


@export.command("hf")
def export_hf(
    source: Annotated[Path, typer.Argument(help="Model directory, in any stored form.")],
    out: Annotated[Path, typer.Argument(help="Directory to write; new or empty.")],
    format: Annotated[
        Literal["bf16", "f32", "f16", "fp8", "int4"] | None,
        typer.Option(
            help="Number format: fp8 as Kimi K2 is published, int4 as Kimi K2 Thinking.",
            show_default="as stored",
        ),
    ] = None,
    shard_size: Annotated[str, typer.Option(help="Largest file, as 500MB.")] = "5GB",
    with_tokenizer: Annotated[
        bool, typer.Option("--tokenizer/--no-tokenizer", help="Write the tokenizer, too.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was written as JSON.")
    ] = False,
) -> None:
    """Write a directory for transformers.

    Hugging Face's own classes load it without remote code. One weight at a time is in memory, so
    a model of any size can be written. To turn a published FP8 checkpoint into bfloat16:

        openk2 export hf Kimi-K2-Instruct k2-bf16 --format bf16
    """
    from openk2.export import hf

    try:
        with bytes_bar() as advance:
            written = hf.export_hf(
                source,
                out,
                format=format,
                shard_bytes=hf.parse_size(shard_size),
                with_tokenizer=with_tokenizer,
                on_progress=advance,
            )
    except (OSError, ValueError) as error:
        fail(str(error))
    except KeyboardInterrupt as error:
        interrupted(str(error) or "nothing was written")
    for note in written.notes:
        typer.echo(f"openk2: {note}", err=True)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(written)))
        return
    typer.echo(f"{out}: {len(written.files)} files with {written.nbytes:,} bytes of weights")
    if written.left_out:
        typer.echo(f"left out {len(written.left_out)} tensors that config.json does not ask for")


def interrupted(what: str) -> NoReturn:
    """Say what is left and end the program as Ctrl-C ends others."""
    typer.echo(f"openk2: interrupted: {what}", err=True)
    raise typer.Exit(130)


@contextlib.contextmanager
def bytes_bar() -> Generator[Callable[[int, int], None]]:
    """Give a function that shows how many bytes of all are done; silent without a terminal."""
    with contextlib.ExitStack() as stack:
        bars: list[Any] = []

        def advance(done: int, total: int) -> None:
            if not bars and sys.stderr.isatty():
                bar = typer.progressbar(length=total, label="writing", file=sys.stderr)
                bars.append(stack.enter_context(bar))
            for bar in bars:
                bar.update(done - bar.pos)

        yield advance
