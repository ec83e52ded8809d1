"""Picks the strongest isolation that works here.

In: what the system allows, found by trying it. Out: a sandbox, or what to install.
Must not know: what will run in it.
"""

from __future__ import annotations

import functools
import subprocess

from openk2.agent.sandbox.bubblewrap import BubblewrapSandbox
from openk2.agent.sandbox.isolation import Sandbox, SandboxMissing


@functools.cache
def choose_sandbox(*, allow_unsafe: bool = False) -> Sandbox:
    """Return the strongest mechanism that works here; found once per process.

    Args:
        allow_unsafe: Where nothing isolates, run programs with limits only.

    Raises:
        SandboxMissing: Nothing isolates here; the message says what to install.
    """
    found = subprocess.run(["bwrap", "--version"], capture_output=True, check=False)
    if found.returncode:
        raise SandboxMissing("nothing here isolates programs: `apt install bubblewrap`")
    return BubblewrapSandbox()
