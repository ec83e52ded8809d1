"""What a tool is to the agent: a specification, what a call would touch, and the call itself.

In: arguments that satisfy the tool's schema. Out: what the model reads, and the files it made.
Must not know: the loop, the model, the journal, or any particular tool.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from openk2.types import ToolSpec

ErrorKind = Literal["bad_arguments", "refused", "timeout", "unavailable", "failed"]
"""Why a call brought nothing: the model's mistake, a rule or a person, the clock, the tool itself
is broken or out of reach (this opens its circuit breaker), or the work did not succeed."""


class ToolError(Exception):
    """A call brought nothing; the message tells the model what happened and what to do next."""

    def __init__(self, message: str, kind: ErrorKind = "failed") -> None:
        """Remember what the model will read, and why."""
        super().__init__(message)
        self.kind: ErrorKind = kind


@dataclass(frozen=True, slots=True)
class Access:
    """What one call would touch: what approval rules look at."""

    command: str | None = None
    """Shell text that would run."""
    executes: bool = False
    """Runs code that the model wrote."""
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    """Absolute paths."""
    hosts: tuple[str, ...] = ()
    """Hosts that data would be sent to; `*` is any."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call brought."""

    content: str
    """What the model reads; the loop shortens it and keeps the whole where it is too long."""
    artifacts: tuple[Path, ...] = ()
    """Files made for people, absolute, in the workspace."""
    untrusted: bool = False
    """Holds text of strangers: from now on, egress and execution ask again."""
    failed: bool = False
    """The work was done and did not succeed (a command's status, an exception in a cell)."""
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """JSON for views and checks, not for the model."""


@dataclass(frozen=True, slots=True)
class Call:
    """Where and for whom a call runs."""

    id: str
    workspace: Path
    """The folder that belongs to the run; relative paths start here."""
    seconds: float
    """What the run's clock and the tool's own limit leave."""
    progress: Callable[[str], None] = lambda text: None
    """Shows output as it comes; it may be dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool with what the loop must know to use it well."""

    spec: ToolSpec
    run: Callable[[Mapping[str, Any], Call], Awaitable[ToolResult]]
    """Raises ToolError. Cancelling it must leave nothing running."""
    writes: bool = True
    """Changes something: calls run one at a time. Others run together and may run again."""
    capability: str = ""
    """Tools of one capability stand in for each other, the cheapest healthy one first."""
    cost: float = 1.0
    """Relative; orders tools of one capability."""
    timeout: float = 60.0
    """Seconds per call."""
    access: Callable[[Mapping[str, Any], Path], Access] = lambda arguments, workspace: Access()
    """What a call with these arguments in this workspace would touch."""
    close: Callable[[], Awaitable[None]] | None = None
    """Ends what the tool keeps between calls."""

    @property
    def name(self) -> str:
        """The name by which the model calls it."""
        return self.spec.name
