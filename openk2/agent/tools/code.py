"""`code_interpreter`: Python cells in a kernel that remembers, in the sandbox.

In: code. Out: what it printed, showed and raised; figures and files in the workspace.
Must not know: how the sandbox isolates, or how the kernel is talked to.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openk2.agent.sandbox.isolation import Sandbox
from openk2.agent.tool import Access, Call, Tool, ToolError, ToolResult
from openk2.agent.tools.changes import Snapshot, listed
from openk2.agent.tools.code_kernel import CodeSettings, Ending, Kernel
from openk2.agent.tools.code_outputs import Outputs
from openk2.types import ToolSpec

FORGOTTEN = "variables and imports are gone, files in the workspace are kept"
RESTARTED = f"[the kernel was restarted since the last cell: {FORGOTTEN}]"


def code_interpreter(
    sandbox: Sandbox, settings: CodeSettings | None = None, *, warm_in: Path | None = None
) -> Tool:
    """Return the tool that runs Python.

    Args:
        sandbox: Where it runs.
        settings: What it may use.
        warm_in: Start a kernel for this workspace now, in the running event loop, so that the
            first cell need not wait for it.
    """
    cells = _Cells(sandbox, settings or CodeSettings())
    if warm_in is not None:
        cells.warm(warm_in)
    return Tool(
        spec=_SPEC,
        run=cells.run,
        timeout=cells.settings.seconds + cells.settings.start_seconds + 15,
        capability="code",
        access=lambda arguments, workspace: Access(executes=True),
        close=cells.close,
    )


_SPEC = ToolSpec(
    "code_interpreter",
    "Run Python in a Jupyter kernel: for calculations, data and charts. Variables stay between "
    "calls. The folder is the workspace; there is no network and no pip. The last expression is "
    "shown. Charts of matplotlib and plotly are saved under figures/ by themselves.",
    {
        "type": "object",
        "properties": {
            "code": {"type": "string", "minLength": 1, "description": "The cell's Python."},
            "seconds": {
                "type": "number",
                "exclusiveMinimum": 0,
                "description": "Longest the cell may take.",
            },
        },
        "required": ["code"],
        "additionalProperties": False,
    },
)


class _Cells:
    """A kernel for each workspace that asks for one, started when it does."""

    def __init__(self, sandbox: Sandbox, settings: CodeSettings) -> None:
        self.settings = settings
        self._sandbox = sandbox
        self._kernels: dict[Path, Kernel] = {}
        self._locks: dict[Path, asyncio.Lock] = {}
        self._lost: set[Path] = set()
        self._warming: asyncio.Task[None] | None = None

    def warm(self, workspace: Path) -> None:
        self._warming = asyncio.ensure_future(self._warm(workspace))

    async def _warm(self, workspace: Path) -> None:
        # What goes wrong here goes wrong again at the first cell, which can say so.
        with contextlib.suppress(ToolError):
            async with self._lock(workspace):
                await self._kernel(workspace)

    def _lock(self, workspace: Path) -> asyncio.Lock:
        return self._locks.setdefault(workspace, asyncio.Lock())

    async def _kernel(self, workspace: Path) -> Kernel:
        kernel = self._kernels.get(workspace)
        if kernel is not None and kernel.alive:
            return kernel
        if kernel is not None:
            self._lost.add(workspace)
            await self._drop(workspace)
        kernel = Kernel(self._sandbox, workspace, self.settings)
        await kernel.start()
        self._kernels[workspace] = kernel
        return kernel

    async def _drop(self, workspace: Path) -> None:
        kernel = self._kernels.pop(workspace, None)
        if kernel is not None:
            await kernel.stop()

    async def run(self, arguments: Mapping[str, Any], call: Call) -> ToolResult:
        loop = asyncio.get_running_loop()
        # The loop's clock would lose the output and the kernel: ours ends first.
        end = loop.time() + call.seconds - self.settings.grace_seconds - 1
        async with self._lock(call.workspace):
            kernel = await self._kernel(call.workspace)
            wanted = float(arguments.get("seconds", self.settings.seconds))
            seconds = max(0.5, min(wanted, self.settings.seconds, end - loop.time()))
            before = await asyncio.to_thread(Snapshot.take, call.workspace)
            outputs = Outputs(call.workspace, call.progress)
            try:
                ending = await kernel.execute(arguments["code"], seconds, outputs.take)
            except BaseException:
                self._lost.add(call.workspace)
                await asyncio.shield(self._drop(call.workspace))
                raise
            after = await asyncio.to_thread(Snapshot.take, call.workspace)
            return await self._result(call, outputs, ending, seconds, after.changed_since(before))

    async def _result(
        self,
        call: Call,
        outputs: Outputs,
        ending: Ending,
        seconds: float,
        changed: tuple[Path, ...],
    ) -> ToolResult:
        others = tuple(path for path in changed if path not in outputs.files)
        lost = RESTARTED if call.workspace in self._lost else ""
        self._lost.discard(call.workspace)
        note = await self._note(call.workspace, ending, seconds)
        parts = (lost, outputs.text, note, listed(others, call.workspace))
        return ToolResult(
            "\n".join(part for part in parts if part) or "[done; nothing was shown]",
            artifacts=(*outputs.files, *others),
            failed=outputs.failed or ending != "done",
            details={"ending": ending},
        )

    async def _note(self, workspace: Path, ending: Ending, seconds: float) -> str:
        if ending == "done":
            return ""
        if ending == "interrupted":
            return f"[interrupted after {seconds:g} s; the kernel is alive and keeps its variables]"
        status = self._kernels[workspace].status
        await self._drop(workspace)
        if ending == "stuck":
            why = f"did not react to an interrupt after {seconds:g} s and was ended"
        elif status == 137:
            limit = self.settings.memory_bytes >> 20
            why = f"was killed, most likely because it needed more than {limit:,} MiB of memory"
        else:
            why = f"died (status {status})"
        return f"[the kernel {why}. The next call starts a new one: {FORGOTTEN}]"

    async def close(self) -> None:
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)
        for workspace in list(self._kernels):
            await self._drop(workspace)
