"""Picks the strongest isolation that works here.

In: what the system allows, found by trying it. Out: a sandbox, or what to install.
Must not know: what will run in it.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from openk2.agent.sandbox.bubblewrap import BubblewrapSandbox
from openk2.agent.sandbox.isolation import Program, Sandbox, SandboxMissing
from openk2.agent.sandbox.landlock import LandlockSandbox, UnsafeSandbox
from openk2.agent.sandbox.process import ProcessSandbox

PROBE_SECONDS = 20.0
"""A mechanism that takes longer to run nothing does not work."""


@functools.cache
def choose_sandbox(*, allow_unsafe: bool = False) -> Sandbox:
    """Return the strongest mechanism that works here; found once per process.

    Args:
        allow_unsafe: Where nothing isolates, run programs with limits only.

    Raises:
        SandboxMissing: Nothing isolates here; the message says what to install.
    """
    reasons: list[str] = []
    for make in mechanisms():
        try:
            sandbox = make()
            failure = try_out(sandbox)
        except SandboxMissing as error:
            failure = str(error)
        else:
            if not failure:
                return sandbox
        reasons.append(failure)
    if allow_unsafe and sys.platform == "linux":
        return UnsafeSandbox()
    raise SandboxMissing(
        "nothing here isolates the programs of a model: run `make system-deps` or"
        f" `apt install bubblewrap` ({'; '.join(dict.fromkeys(reasons))})"
    )


def mechanisms() -> Iterator[Callable[[], ProcessSandbox]]:
    """Yield the mechanisms, the strongest first."""
    if sys.platform != "linux":
        return
    yield BubblewrapSandbox
    if os.geteuid() == 0:
        yield lambda: BubblewrapSandbox(drop_root=False)
    yield lambda: LandlockSandbox(namespaces=True)
    yield lambda: LandlockSandbox(namespaces=False)


def try_out(sandbox: ProcessSandbox) -> str:
    """Run a program that does nothing; return what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = sandbox.prepare(Program(["true"], Path(folder)))
        try:
            done = subprocess.run(
                prepared.argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={},
                pass_fds=prepared.handed,
                timeout=PROBE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"{sandbox.mechanism} took more than {PROBE_SECONDS:g} s"
        finally:
            prepared.hand_over()
            prepared.clear()
    if done.returncode == 0:
        return ""
    words = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
    return words[-1]
