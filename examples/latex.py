"""Compiles LaTeX that a model wrote, in a sandbox, and reads what the compiler says.

In: a LaTeX file. Out: the number of its pages, and how far things stick out.
Must not know: what it is about.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from pathlib import Path

from examples.checks import Wrong, require
from openk2.agent.sandbox.choose import choose_sandbox
from openk2.agent.sandbox.isolation import Program

COMMAND = ("pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape")
WIDE = re.compile(r"Overfull \\hbox \((\d+\.\d+)pt too wide\)")


def compiled(source: Path) -> tuple[int, float]:
    """Compile a file twice, as references need; return its pages and its widest overhang in points.

    Raises:
        Wrong: There is no compiler, or it finds an error.
    """
    if shutil.which("pdflatex") is None:
        raise Wrong("no pdflatex here to compile it with: run `make system-deps`")
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        shutil.copy(source, workspace / source.name)
        for _ in range(2):
            log = asyncio.run(run(workspace, source.name))
    pages = re.search(r"Output written on [^(]*\((\d+) pages?", log)
    require(pages, "no page came out: " + first_error(log))
    assert pages is not None
    return int(pages[1]), max((float(points) for points in WIDE.findall(log)), default=0.0)


async def run(workspace: Path, name: str) -> str:
    """Compile once; return the log with its broken lines joined."""
    done = await choose_sandbox().run(Program((*COMMAND, name), workspace), timeout=120)
    log = done.stdout.decode("utf-8", "replace")
    require(done.status == 0, first_error(log) or done.stderr.decode("utf-8", "replace")[-300:])
    return log.replace("\n(", " (")


def first_error(log: str) -> str:
    """Find the compiler's first complaint with its line."""
    found = re.search(r"^! .*?(?:^l\.\d+[^\n]*)", log, re.MULTILINE | re.DOTALL)
    return re.sub(r"\s+", " ", found[0])[:300] if found else ""
