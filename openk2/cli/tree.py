"""The root of the command tree, and how a command ends with a complaint.

In: command-line arguments. Out: a call of one command.
Must not know: any command.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import NoReturn

import typer

SHIPPED_MODEL = Path(__file__).parents[1] / "assets" / "nano"

# rich_markup_mode=None: drawing the help with rich costs more than everything else together.
app = typer.Typer(
    help="The whole Kimi K2 system: train, serve and talk to a K2 model.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command that the arguments name."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character shows a mark instead of ending the program.
            stream.reconfigure(errors="replace")
    app()


@app.callback()
def _root() -> None:
    # With a callback, a tree of one command still asks for the command's name.
    pass


def share_cores() -> None:
    """Let waiting threads sleep; it must be called before torch is imported.

    By default they spin, and on a machine whose cores are busy with something else each product
    then waits for a whole time slice: decoding fell from 60 to 2 tokens a second.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def fail(message: str) -> NoReturn:
    """Say what is wrong and end the program with status 2."""
    typer.echo(f"openk2: {message}", err=True)
    raise typer.Exit(2)
