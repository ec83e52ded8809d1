"""What of the host every sandboxed program needs: system folders, a Python, an environment.

In: a program's own wishes. Out: folders to show, checked, and variables to set.
Must not know: which mechanism shows them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from openk2.agent.sandbox.isolation import Program

LAUNCH = Path(__file__).with_name("launch.py")
"""What a Python without site packages runs before the program."""

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Programs and libraries. Where /bin is a link into /usr, so it is inside."""

SETTINGS = (
    *("/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d"),
    *("/etc/ssl", "/etc/ca-certificates", "/etc/pki", "/etc/localtime", "/etc/timezone"),
    *("/etc/fonts", "/etc/mime.types", "/etc/magic", "/etc/terminfo", "/etc/inputrc"),
    *("/etc/texmf", "/etc/papersize", "/etc/libpaper.d", "/etc/protocols", "/etc/services"),
    *("/etc/chromium", "/etc/chromium.d", "/etc/matplotlibrc"),
    *("/var/lib/texmf", "/var/cache/fontconfig"),
)
"""Public settings that linkers, fonts, TLS, LaTeX and browsers read."""

NETWORK_SETTINGS = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf")
"""What resolves names; only for programs with a network."""

UNWRITABLE = ("/boot", "/dev", "/etc", "/proc", "/run", "/sys", *SYSTEM)

NOBODY = 65534
"""The user and group that a program sees itself as."""

SANDBOX_USER = 65533
"""Whom root runs programs as outside their namespace. Not nobody: that one may own processes and
files, and file systems can keep blocks in reserve for it."""

ACCOUNTS = {
    "/etc/passwd": f"agent:x:{NOBODY}:{NOBODY}:agent:/tmp:/bin/sh\n",
    "/etc/group": f"agent:x:{NOBODY}:\n",
}
"""The only user there is: programs that ask who they are get an answer, and no other name."""


def python_folders() -> list[Path]:
    """Return where the running Python and its packages are, as far as outside /usr."""
    prefixes = {Path(p).resolve() for p in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    return sorted(p for p in prefixes if not p.is_relative_to("/usr") and not reaches_home(p))


def reaches_home(path: Path) -> bool:
    """Tell whether a folder is the root, a home, or holds one: too much to show a program."""
    return Path.home().resolve().is_relative_to(path) or path in (Path("/home"), Path("/"))


def existing(paths: Iterable[str]) -> list[Path]:
    """Return those that this system has."""
    return [path for path in map(Path, paths) if path.exists()]


def visible(program: Program) -> dict[Path, bool]:
    """Return the folders and files that a program names, and which of them it may write.

    The real places are returned, shallow ones first: a link that an earlier program left in
    the workspace shows what it points to only if that was granted itself.

    Raises:
        ValueError: One does not exist, or is more than any program should see.
    """
    workspace = program.workspace.resolve()
    granted = dict.fromkeys(program.readable, False)
    granted |= dict.fromkeys((program.workspace, *program.writable), True)
    places: dict[Path, bool] = {}
    for path, writable in granted.items():
        place = path.resolve()
        if not place.exists():
            raise ValueError(f"{path} does not exist; make it before a program runs in it")
        inside = path.absolute().is_relative_to(program.workspace.absolute())
        if inside and not place.is_relative_to(workspace):
            raise ValueError(f"{path} is a link that leads out of the workspace, to {place}")
        if reaches_home(place):
            raise ValueError(f"{place} holds a whole home; choose a folder in it")
        if writable and any(place.is_relative_to(top) for top in UNWRITABLE):
            raise ValueError(f"{place} belongs to the system; choose another workspace")
        places[place] = places.get(place, False) or writable
    return dict(sorted(places.items(), key=lambda item: len(item[0].parts)))


def variables(wanted: Mapping[str, str], temporary: str = "/tmp") -> dict[str, str]:
    """Return a program's environment: a few neutral variables, and what it asked for."""
    python = Path(sys.executable).parent
    return {
        "PATH": os.pathsep.join([str(python), "/usr/local/bin", "/usr/bin", "/bin"]),
        "HOME": temporary,
        "TMPDIR": temporary,
        "LANG": "C.UTF-8",
        "USER": "agent",
        **wanted,
    }
