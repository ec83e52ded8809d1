"""The command tree: every `openk2` command, its options and its help.

In: command-line arguments. Out: calls into the rooms.
Must not know: how anything works. Imports of rooms stay inside the commands, so that `--help`
answers at once.
"""

from openk2.cli import (  # noqa: I001 - the help's order
    serving,
    agent,
    mcp,
    corpus,
    checkpoints,
    quantizing,
    planning,
    training,
    rl,
    synth,
    evals,
)
from openk2.cli.tree import SHIPPED_MODEL, app, main

__all__ = [
    "SHIPPED_MODEL",
    "agent",
    "app",
    "checkpoints",
    "corpus",
    "evals",
    "main",
    "mcp",
    "planning",
    "quantizing",
    "rl",
    "serving",
    "synth",
    "training",
]
