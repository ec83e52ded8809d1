"""What a cell put out, as text for the model and files for people.

In: a kernel's messages. Out: clean text of bounded length; figures and pages in the workspace.
Must not know: how the kernel runs.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from openk2.agent.tool import ToolError
from openk2.agent.tools.confined import reach

FOLDER = "figures"
IMAGES = {"image/png": "png", "image/jpeg": "jpg", "image/svg+xml": "svg"}
PLOTLY = "application/vnd.plotly.v1+json"
MOST_FILES = 40
"""Figures of one cell."""
TRACE_LINES = 30

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]")


class Clipped:
    """The begin and the end of a text that may be endless."""

    def __init__(self, head: int, tail: int) -> None:
        """Start empty; keep this many characters of each."""
        self._most_head, self._most_tail = head, tail
        self._head = ""
        self._tail = ""
        self._all = 0

    def add(self, text: str) -> None:
        """Append text."""
        self._all += len(text)
        room = self._most_head - len(self._head)
        self._head += text[:room]
        self._tail = (self._tail + text[room:])[-self._most_tail :]

    def __str__(self) -> str:
        """Return what is kept, with a note about what is not."""
        left_out = self._all - len(self._head) - len(self._tail)
        note = f"\n[… {left_out:,} characters left out …]\n" if left_out else ""
        return self._head + note + self._tail


class Outputs:
    """Collects the outputs of one cell."""

    def __init__(self, workspace: Path, progress: Callable[[str], None]) -> None:
        """Start empty."""
        self._workspace = workspace
        self._progress = progress
        self._text = Clipped(120_000, 80_000)
        self.files: list[Path] = []
        self.failed = False

    def take(self, kind: str, content: Mapping[str, Any]) -> None:
        """Take one message; what is not of the right shape is shown as text, or left."""
        match kind:
            case "stream":
                self._say(str(content.get("text", "")))
            case "execute_result" | "display_data":
                data = content.get("data")
                self._show(cast(Mapping[str, Any], data) if isinstance(data, dict) else {})
            case "error":
                self.failed = True
                self._say(_traceback(content))
            case _:
                pass

    @property
    def text(self) -> str:
        """All text, without colours, and of each line that was overwritten its last state."""
        lines = str(self._text).replace("\r\n", "\n").split("\n")
        return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines).strip("\n")

    def _say(self, text: str) -> None:
        text = _ANSI.sub("", text)
        self._text.add(text)
        self._progress(text)

    def _show(self, data: Mapping[str, Any]) -> None:
        saved = self._save(data)
        plain = data.get("text/plain", data.get("text/markdown", data.get("text/latex", "")))
        if saved:
            self._say(f"[saved {saved}]\n")
        elif plain:
            self._say(f"{plain}\n")

    def _save(self, data: Mapping[str, Any]) -> str:
        """Save what cannot be said in words; return its path."""
        if len(self.files) >= MOST_FILES:
            return ""
        for kind, ending in IMAGES.items():
            if isinstance(data.get(kind), str):
                return self._write(_image(data[kind], ending), ending)
        if PLOTLY in data:
            return self._write(plotly_page(data[PLOTLY]).encode(errors="replace"), "html")
        plain, page = str(data.get("text/plain", "<>")), data.get("text/html")
        # A table says itself in plain text; only what says no more than its type is a page.
        if isinstance(page, str) and plain.startswith("<") and plain.endswith(">"):
            return self._write(page.encode(errors="replace"), "html")
        return ""

    def _write(self, content: bytes, ending: str) -> str:
        if not content:
            return ""
        number = len(self.files) + 1
        try:
            while True:
                name = f"{FOLDER}/figure-{number:03d}.{ending}"
                with reach(self._workspace, name, create=True) as place:
                    if place.status() is None:
                        place.write(content)
                        self.files.append(self._workspace / name)
                        return name
                number += 1
        except ToolError as error:
            self._say(f"[a figure could not be saved: {error}]\n")
            return ""


def _image(text: str, ending: str) -> bytes:
    if ending == "svg":
        return text.encode(errors="replace")
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        return b""


def _traceback(content: Mapping[str, Any]) -> str:
    trace = content.get("traceback")
    found = cast(list[Any], trace) if isinstance(trace, list) else []
    lines = "\n".join(map(str, found)).split("\n")
    if len(lines) > TRACE_LINES:
        left_out = len(lines) - TRACE_LINES
        lines = [*lines[:5], f"[… {left_out} lines left out …]", *lines[5 - TRACE_LINES :]]
    last = f"{content.get('ename', '')}: {content.get('evalue', '')}"
    return "\n".join(lines) + "\n" if any(lines) else f"{last}\n"


def plotly_page(figure: Any) -> str:
    """Make a page that shows a plotly figure without a network, where its script is installed."""
    # `</script>` in a label would end the script that holds it.
    parts = json.dumps(figure).replace("</", "<\\/").replace("<!--", "<\\u0021--")
    return (
        '<!doctype html><meta charset="utf-8"><title>Figure</title>'
        f'<body><div id="figure" style="height:96vh"></div>{_plotly_script()}'
        f"<script>const figure = {parts};"
        'Plotly.newPlot("figure", figure.data, figure.layout, {responsive: true});</script>\n'
    )


@functools.cache
def _plotly_script() -> str:
    path = Path(sysconfig.get_paths()["purelib"]) / "plotly" / "package_data" / "plotly.min.js"
    if path.exists():
        return f"<script>{path.read_text(encoding='utf-8')}</script>"
    return '<script src="https://cdn.plot.ly/plotly-3.0.0.min.js"></script>'
