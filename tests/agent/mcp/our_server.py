"""Our server over tools of these tests: `python our_server.py WORKSPACE [PORT TOKEN] [--yes]`."""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openk2.agent.approval import Policy
from openk2.agent.mcp.server import ServeSettings, ToolServer
from openk2.agent.tool import Access, Call, Tool, ToolError, ToolResult
from openk2.types import ToolSpec

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def schema(**properties: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }


async def add(arguments: Mapping[str, Any], call: Call) -> ToolResult:
    return ToolResult(str(arguments["a"] + arguments["b"]))


async def weather(arguments: Mapping[str, Any], call: Call) -> ToolResult:
    return ToolResult(f"{arguments['city']}: openk2-{40 + 2}")


async def page(arguments: Mapping[str, Any], call: Call) -> ToolResult:
    return ToolResult("words of a stranger", untrusted=True)


async def draw(arguments: Mapping[str, Any], call: Call) -> ToolResult:
    path = call.workspace / "drawing.png"
    path.write_bytes(PIXEL)
    return ToolResult("drawn", artifacts=(path,))


async def long(arguments: Mapping[str, Any], call: Call) -> ToolResult:
    return ToolResult("a" * arguments["size"] + "z", failed=True)


async def slow(arguments: Mapping[str, Any], call: Call) -> ToolResult:
    trace = call.workspace / "trace"
    try:
        for step in range(100):
            call.progress(f"step {step}\n")
            await asyncio.sleep(arguments["seconds"] / 100)
    except asyncio.CancelledError:
        await asyncio.sleep(0.1)  # as a tool does that ends a process first
        trace.write_text("cancelled")
        raise
    return ToolResult("done")


async def broken(arguments: Mapping[str, Any], call: Call) -> ToolResult:
    raise RuntimeError("a defect")


async def hopeless(arguments: Mapping[str, Any], call: Call) -> ToolResult:
    raise ToolError("There is no hope; try another tool.")


TOOLS = [
    Tool(spec=ToolSpec("add", "Add.", schema(a="integer", b="integer")), run=add, writes=False),
    Tool(spec=ToolSpec("weather", "Tell the weather.", schema(city="string")), run=weather),
    Tool(spec=ToolSpec("page", "Read a page.", schema()), run=page, writes=False),
    Tool(spec=ToolSpec("draw", "Draw.", schema()), run=draw),
    Tool(spec=ToolSpec("long", "Answer at length.", schema(size="integer")), run=long),
    Tool(spec=ToolSpec("slow", "Take a while.", schema(seconds="number")), run=slow, timeout=2.0),
    Tool(spec=ToolSpec("broken", "Is broken.", schema()), run=broken),
    Tool(spec=ToolSpec("hopeless", "Fails.", schema()), run=hopeless),
    Tool(
        spec=ToolSpec("execute", "Run code.", schema()),
        run=draw,
        access=lambda arguments, workspace: Access(executes=True),
    ),
    Tool(
        spec=ToolSpec("upload", "Send.", schema()),
        run=draw,
        access=lambda arguments, workspace: Access(hosts=("example.org",)),
    ),
]


async def main() -> None:
    words = [word for word in sys.argv[1:] if word != "--yes"]
    policy = Policy.of(["deny tool hopeless"], yes="--yes" in sys.argv)
    settings = ServeSettings(progress_seconds=0.05, result_chars=9000)
    server = ToolServer(TOOLS, Path(words[0]), policy, settings)
    if len(words) == 1:
        await server.serve_stdio()
        return
    import uvicorn

    app = server.http_app(words[2] or None)
    config = uvicorn.Config(app, host="127.0.0.1", port=int(words[1]), log_level="warning")
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(main())
