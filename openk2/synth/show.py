"""Conversations for people: in the terminal, with tools, thought and verdict.

In: rows of a run's files. Out: rich renderables, or plain text. Must not know: how they were made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

_STYLES: Mapping[str, tuple[str, str]] = {
    "system": ("dim", "system"),
    "user": ("bold cyan", "user"),
    "assistant": ("green", "assistant"),
    "tool": ("yellow", "tool"),
}


def renderables(row: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Render one conversation.

    Args:
        row: Of train.jsonl, trajectories.jsonl or rejected.jsonl.
    """
    from rich.rule import Rule
    from rich.text import Text

    head = [row["id"], row["kind"], row["manner"], f"{row['calls']} calls", row["licence"]]
    yield Rule(" · ".join(str(part) for part in head), style="blue")
    names = ", ".join(tool["name"] for tool in row["tools"])
    yield Text(f"tools: {names}", style="dim")
    for message in row["messages"]:
        style, label = _STYLES[message["role"]]
        if message.get("reasoning"):
            yield Text.assemble((f"{label:>9}  ", style), (message["reasoning"], "italic dim"))
        if message["content"]:
            yield Text.assemble((f"{label:>9}  ", style), message["content"])
        for call in message.get("tool_calls", ()):
            yield Text.assemble(
                (f"{label:>9}  ", style), (call["name"], "bold"), " ", call["arguments"]
            )
    if "rejected" in row:
        yield Text(f" rejected  {row['rejected']}", style="red")
    elif "verdict" in row:
        values = ", ".join(f"{name} {value:g}" for name, value in row["verdict"].items())
        yield Text(f"  verdict  {values}", style="magenta")
