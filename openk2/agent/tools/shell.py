"""`shell`: a command line in the sandbox, with the workspace as its folder.

In: shell text. Out: what it printed, how it ended, and which files it changed.
Must not know: how the sandbox isolates, or which commands are allowed.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openk2.agent.sandbox.isolation import Completed, Limits, Program, Sandbox
from openk2.agent.tool import Access, Call, Tool, ToolResult
from openk2.agent.tools.changes import Snapshot, listed
from openk2.types import ToolSpec


@dataclass(frozen=True, slots=True)
class ShellSettings:
    """What commands may use."""

    seconds: float = 120.0
    """Longest that one command may take."""
    network: bool = False
    """Let commands reach the network; every one is then asked as sending to any host."""
    memory_bytes: int = 2 << 30
    """Memory of all processes of one command."""
    processes: int = 128
    """Processes and threads of one command."""
    output_bytes: int = 16 << 20
    """Most output that is read of each stream; what follows is dropped."""
    output_characters: int = 200_000
    """Most output of each stream that is passed on: two fifths from its begin, the rest from its
    end, where errors are."""


def shell(sandbox: Sandbox, settings: ShellSettings | None = None) -> Tool:
    """Return the tool that runs commands.

    Args:
        sandbox: Where they run.
        settings: What they may use.
    """
    allowed = settings or ShellSettings()

    async def run(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        before = await asyncio.to_thread(Snapshot.take, call.workspace)
        seconds = min(float(arguments.get("seconds", allowed.seconds)), allowed.seconds)
        # The loop's clock would lose the output: this one ends first.
        seconds = max(0.5, min(seconds, call.seconds - 2))
        done = await sandbox.run(
            _program(arguments["command"], call.workspace, allowed),
            timeout=seconds,
            on_output=_decoder(call.progress),
        )
        after = await asyncio.to_thread(Snapshot.take, call.workspace)
        files = after.changed_since(before)
        content = _told(done, seconds, listed(files, call.workspace), allowed.output_characters)
        return ToolResult(
            content,
            artifacts=files,
            untrusted=allowed.network,
            failed=done.status != 0 or done.reason != "exit",
            details={"status": done.status, "reason": done.reason, "dropped": done.dropped},
        )

    network = " It has the network." if allowed.network else " There is no network."
    spec = ToolSpec(
        "shell",
        "Run a bash command in the workspace, in a sandbox that sees only the workspace and the "
        f"system's programs.{network} You get what it printed and its exit status. Each call is a "
        "new shell: variables and folders changed are forgotten, files stay.",
        {
            "type": "object",
            "properties": {
                "command": {"type": "string", "minLength": 1, "description": "Text for bash -c."},
                "seconds": {
                    "type": "number",
                    "exclusiveMinimum": 0,
                    "description": f"Longest it may take; {allowed.seconds:g} by default.",
                },
            },
            "required": ["command"],
            "additionalProperties": False,
        },
    )

    def access(arguments: Mapping[str, Any], workspace: Path) -> Access:
        hosts = ("*",) if allowed.network else ()
        return Access(command=arguments["command"], executes=True, hosts=hosts)

    return Tool(spec=spec, run=run, timeout=allowed.seconds + 10, capability="shell", access=access)


def _program(command: str, workspace: Path, allowed: ShellSettings) -> Program:
    limits = Limits(
        memory_bytes=allowed.memory_bytes,
        cpu_seconds=max(1, round(allowed.seconds * 4)),
        processes=allowed.processes,
        output_bytes=allowed.output_bytes,
    )
    environment = {"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4", "PAGER": "cat"}
    return Program(
        ["bash", "-c", command],
        workspace,
        environment=environment,
        network=allowed.network,
        limits=limits,
    )


def _decoder(progress: Callable[[str], None]) -> Callable[[bytes], None]:
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def show(chunk: bytes) -> None:
        text = decode(chunk)
        if text:
            progress(text)

    return show


def _told(done: Completed, seconds: float, files: str, most: int) -> str:
    output, errors = (
        shortened(stream.decode(errors="replace").rstrip("\n"), most)
        for stream in (done.stdout, done.stderr)
    )
    dropped = f"[{done.dropped:,} more bytes of output were dropped]" if done.dropped else ""
    errors = f"[standard error]\n{errors}" if errors else ""
    parts = (output, errors, dropped, files, _ending(done, seconds))
    return "\n".join(part for part in parts if part)


def shortened(text: str, most: int) -> str:
    """Keep the begin and the end of a text that is too long."""
    if len(text) <= most:
        return text
    head, tail = most * 2 // 5, most * 3 // 5
    return f"{text[:head]}\n[… {len(text) - most:,} characters left out …]\n{text[-tail:]}"


def _ending(done: Completed, seconds: float) -> str:
    match done.reason:
        case "timeout":
            return (
                f"[stopped after {seconds:g} s, with everything it had started: split the work, "
                "or give it more seconds]"
            )
        case "memory":
            return f"[exit status {done.status}: it ran out of memory; work on less at a time]"
        case "cpu":
            return f"[exit status {done.status}: it used up its processor time]"
        case "signal":
            return f"[exit status {done.status}: ended by signal {done.status - 128}]"
        case "exit":
            return f"[exit status {done.status}]"
