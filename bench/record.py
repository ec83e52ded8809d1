"""A measured result in, one JSON record under bench/records/ out.

In: what was measured, and the command that measures it again. Out: a file with the commit, the
machine (processor, cores, memory; never a host name), the command and the result.
Must not know: what any benchmark measures.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "bench" / "records"


def write(name: str, command: str, result: Mapping[str, Any], accelerator: str = "none") -> Path:
    """Write `bench/records/NAME.json` and return its path.

    Args:
        name: File name without the ending; a benchmark overwrites its own record.
        command: What to type in the repository root to measure this again.
        result: JSON-ready numbers; the unit is part of the key (`first_token_ms`).
        accelerator: The GPU's name where one was used.
    """
    record = {
        "commit": commit(),
        "machine": machine() | {"accelerator": accelerator},
        "command": command,
        "result": result,
    }
    RECORDS.mkdir(parents=True, exist_ok=True)
    path = RECORDS / f"{name}.json"
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def commit() -> str:
    """Return the commit that is checked out, with a `+` if package files differ from it."""
    head = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--", "openk2", "pyproject.toml", "constraints.txt")
    return head + ("+" if changed else "")


def machine() -> dict[str, str | int | float]:
    """Describe the processor, its usable cores, the memory and the Python in use."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
    }


def _cores() -> int:
    return os.cpu_count() or 1


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return "unknown" if done.returncode else done.stdout.strip()
