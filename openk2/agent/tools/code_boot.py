"""Starts a Jupyter kernel inside a sandbox; the only file here that runs there.

In: the path of a connection file. Out: a kernel that listens on sockets in a folder.
Must not know: anything of the package, which is not visible where it runs.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any


def main() -> None:
    """Run the kernel until it ends."""
    iostream: Any = importlib.import_module("ipykernel.iostream")
    kernelapp: Any = importlib.import_module("ipykernel.kernelapp")

    def without_port(socket: Any, pipe: bool = False, session: Any = False) -> Any:
        """Leave out the TCP port on which a kernel listens for its forked children."""
        return iostream.IOPubThread(socket, pipe=False, session=session)

    kernelapp.IOPubThread = without_port
    # A forked child prints to the descriptors, which the kernel reads too.
    os.register_at_fork(after_in_child=_plain_streams)
    app = kernelapp.IPKernelApp.instance()
    app.initialize(["-f", sys.argv[1], "--HistoryManager.enabled=False"])
    app.start()


def _plain_streams() -> None:
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__


if __name__ == "__main__":
    main()
