"""How long a sandboxed kernel takes to start, and what a cell and a command cost.

In: nothing. Out: bench/records/agent-kernel.json; medians over RUNS, elapsed time.

    python -m bench.agent_kernel
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench import record
from openk2.agent.sandbox.choose import choose_sandbox
from openk2.agent.tool import Call, Tool
from openk2.agent.tools.code import code_interpreter
from openk2.agent.tools.shell import shell

STARTS = 5
CELLS = 30
COMMANDS = 10


def main() -> None:
    """Measure and record."""
    result = asyncio.run(measure())
    print(record.write("agent-kernel", "python -m bench.agent_kernel", result), result)


async def measure() -> dict[str, float | int | str]:
    """Start kernels, run cells in the last one, and run commands."""
    sandbox = choose_sandbox()
    with tempfile.TemporaryDirectory() as folder:
        call = Call("bench", Path(folder), 120.0)
        starts: list[float] = []
        for _ in range(STARTS):
            tool = code_interpreter(sandbox)
            starts.append(await seconds(lambda tool=tool: cell(tool, "1", call)))
            assert tool.close
            await tool.close()
        tool = code_interpreter(sandbox)
        await cell(tool, "1", call)
        cells = [await seconds(lambda: cell(tool, "1 + 1", call)) for _ in range(CELLS)]
        assert tool.close
        await tool.close()
        runner = shell(sandbox)
        commands = [
            await seconds(lambda: runner.run({"command": "true"}, call)) for _ in range(COMMANDS)
        ]
    return {
        "start_and_first_cell_ms": median_ms(starts),
        "cell_ms": median_ms(cells),
        "shell_command_ms": median_ms(commands),
        "starts": STARTS,
        "cells": CELLS,
        "commands": COMMANDS,
        "isolation": sandbox.mechanism,
    }


async def cell(tool: Tool, code: str, call: Call) -> None:
    """Run one cell; it must succeed."""
    result = await tool.run({"code": code}, call)
    assert not result.failed, result.content


async def seconds(work: Callable[[], Awaitable[object]]) -> float:
    """Time one piece of work."""
    begin = time.perf_counter()
    await work()
    return time.perf_counter() - begin


def median_ms(values: list[float]) -> float:
    """Return the median in milliseconds."""
    return round(statistics.median(values) * 1000, 1)


if __name__ == "__main__":
    main()
