"""A server written with the protocol's own package: `python package_server.py [PORT [sse]]`."""

from __future__ import annotations

import asyncio
import base64
import sys
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp_types import ToolAnnotations

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
server = MCPServer("package")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": a + b}


@server.tool(structured_output=False)
def draw() -> list[Any]:
    """Draw a picture."""
    return ["here it is", Image(data=PIXEL, format="png")]


@server.tool(structured_output=False)
def much(megabytes: int) -> str:
    """Answer at length."""
    return "x" * (megabytes << 20)


@server.tool(structured_output=False)
async def slow(context: Context, seconds: float, trace: str) -> str:
    """Take a while, tell about it, and write to a file how it ended."""
    end = Path(trace)
    try:
        for step in range(5):
            await context.report_progress(step + 1, 5, f"step {step + 1}")
            await asyncio.sleep(seconds / 5)
    except asyncio.CancelledError:
        end.write_text("cancelled")
        raise
    end.write_text("done")
    return "done"


@server.tool(structured_output=False)
async def grow(context: Context) -> str:
    """Offer one tool more from now on."""

    def late() -> str:
        """Came late."""
        return "better than never"

    server.add_tool(late, structured_output=False)
    await context.notify_tools_changed()
    return "grown"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        way = "sse" if sys.argv[2:] == ["sse"] else "streamable-http"
        server.run(way, port=int(sys.argv[1]))
    else:
        server.run()
