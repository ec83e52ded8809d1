"""Files of one folder, reached so that no name and no link leads out of it.

In: a folder and a path that a stranger wrote. Out: the file behind it, opened in a way that nobody
can redirect between the check and the use.
Must not know: why the file is wanted, or tools.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import stat
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from openk2.agent.tool import ToolError

LINKS = 40
"""As many as the kernel follows."""


@dataclass(frozen=True, slots=True)
class Place:
    """A name in an open folder that is known to be inside."""

    folder: int
    """Descriptor of the folder."""
    name: str
    """`.` for the folder itself; never a link."""
    shown: str
    """Path from the workspace, links followed."""

    def status(self) -> os.stat_result | None:
        """Return what is there; None for nothing."""
        try:
            return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open_file(self) -> int:
        """Open a regular file for reading; the descriptor is the caller's.

        Raises:
            ToolError: It is not there, or is not a regular file.
        """
        # Without O_NONBLOCK, a named pipe would wait for its writer forever.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self.name, flags, dir_fd=self.folder)
        except OSError as error:
            raise ToolError(f"`{self.shown}` cannot be read: {error.strerror}.") from error
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            return descriptor
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise ToolError(f"`{self.shown}` is a folder: use list_files to look into it.")
        raise ToolError(f"`{self.shown}` is not a regular file.")

    def open_folder(self) -> int:
        """Open a folder; the descriptor is the caller's.

        Raises:
            ToolError: It is no folder.
        """
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(self.name, flags, dir_fd=self.folder)
        except OSError as error:
            raise ToolError(f"`{self.shown}` is not a folder that can be opened.") from error

    def write(self, content: bytes) -> None:
        """Put a whole file in place: readers see the old one or the new one, never a part.

        Raises:
            ToolError: A folder or a device is in the way, or the disk refuses.
        """
        before = self.status()
        if before is not None and not stat.S_ISREG(before.st_mode):
            raise ToolError(f"`{self.shown}` is not a regular file: choose another path.")
        draft = f".{self.name[:100]}.{os.getpid()}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        mode = stat.S_IMODE(before.st_mode) if before else 0o644
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=self.folder)
        try:
            with os.fdopen(os.open(draft, flags, mode, dir_fd=self.folder), "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(content)
            os.replace(draft, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        except OSError as error:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=self.folder)
            raise ToolError(f"`{self.shown}` cannot be written: {error.strerror}.") from error


@contextlib.contextmanager
def reach(workspace: Path, path: str, *, create: bool = False) -> Generator[Place]:
    """Find the place of a path in a workspace; links are followed while they stay inside.

    Args:
        workspace: The folder.
        path: Relative to it, or absolute and in it.
        create: Make folders on the way that are missing.

    Raises:
        ToolError: The path leads out, or a folder on the way is missing; the message names the
            nearest that exists.
    """
    walk = _Walk(workspace, path, create)
    try:
        yield walk.to_end()
    finally:
        walk.close()


class _Walk:
    """Goes from folder to folder by descriptors, so that each is the one that was checked."""

    def __init__(self, workspace: Path, path: str, create: bool) -> None:
        self.workspace = workspace
        self.asked = path
        self.create = create
        self.links = LINKS
        self.names: list[str] = []
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self.folders = [os.open(workspace, flags)]
        self.left = deque(self._parts(path))

    def close(self) -> None:
        while self.folders:
            os.close(self.folders.pop())

    def to_end(self) -> Place:
        while self.left:
            name = self.left.popleft()
            if name == "..":
                self._up()
                continue
            status = self._status(name)
            if status is not None and stat.S_ISLNK(status.st_mode):
                self._follow(name)
            elif self.left:
                self._into(name, status)
            else:
                return Place(self.folders[-1], name, "/".join([*self.names, name]))
        return Place(self.folders[-1], ".", "/".join(self.names) or ".")

    def _parts(self, path: str) -> list[str]:
        if "\0" in path:
            raise ToolError("A path cannot hold a NUL character.", "bad_arguments")
        if path.startswith("/"):
            inside = self._inside(Path(path))
            if inside is None:
                raise self._leads_out()
            path = inside
        return [part for part in path.split("/") if part not in ("", ".")]

    def _inside(self, path: Path) -> str | None:
        for top in (self.workspace, self.workspace.resolve()):
            if path.is_relative_to(top):
                return str(path.relative_to(top))
        return None

    def _status(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self.folders[-1], follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ToolError(f"`{self.asked}` cannot be reached: {error.strerror}.") from error

    def _up(self) -> None:
        if not self.names:
            raise self._leads_out()
        self.names.pop()
        os.close(self.folders.pop())

    def _follow(self, name: str) -> None:
        self.links -= 1
        if self.links < 0:
            raise ToolError(f"`{self.asked}` has links that lead in a circle.")
        try:
            target = os.readlink(name, dir_fd=self.folders[-1])
        except OSError as error:  # something else changed it meanwhile
            raise ToolError(f"`{self.asked}` cannot be reached: {error.strerror}.") from error
        parts = self._parts(target)
        if target.startswith("/"):
            while self.names:
                self._up()
        self.left.extendleft(reversed(parts))

    def _into(self, name: str, status: os.stat_result | None) -> None:
        if status is None:
            if not self.create:
                raise self._missing(name)
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=self.folders[-1])
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self.folders.append(os.open(name, flags, dir_fd=self.folders[-1]))
        except OSError as error:
            shown = "/".join([*self.names, name])
            raise ToolError(f"`{shown}` is not a folder that can be entered.") from error
        self.names.append(name)

    def _missing(self, name: str) -> ToolError:
        return ToolError(missing(self.asked, self.folders[-1], "/".join(self.names), name))

    def _leads_out(self) -> ToolError:
        return ToolError(
            f"`{self.asked}` leads out of the workspace: use a path inside it, relative to it.",
            "refused",
        )


def missing(asked: str, folder: int, shown: str, name: str) -> str:
    """Say that a path does not exist, what the nearest folder holds, and what may be meant.

    Args:
        asked: The whole path.
        folder: The last folder on the way that exists.
        shown: Its path; empty for the workspace.
        name: What is not in it.
    """
    names = sorted(os.listdir(folder))
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    where = f"`{shown}/`" if shown else "the workspace"
    holds = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    meant = f" Did you mean `{shown + '/' if shown else ''}{near[0]}`?" if near else ""
    return f"There is no `{asked}`: {where} has {holds or 'nothing in it'}.{meant}"


def absolute(workspace: Path, path: str) -> tuple[Path, ...]:
    """Return where a path leads, and where it leads once links are followed, if elsewhere."""
    written = Path(os.path.normpath(workspace / path.replace("\0", "")))
    real = Path(os.path.realpath(written))
    if real.is_relative_to(workspace.resolve()):
        real = workspace / real.relative_to(workspace.resolve())
    return (written,) if real == written else (written, real)
