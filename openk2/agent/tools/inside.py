"""Files of a workspace, opened so that no link leads out of it.

In: a workspace and a path that a model or a page wrote. Out: bytes, or a file written whole.
Must not know: what the bytes are for.

What runs in the sandbox may change the workspace at any moment, so that a path which was checked
is another one when it is opened. Every folder on the way is opened by its descriptor instead, and a
symbolic link is refused wherever it stands.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path, PurePosixPath

from openk2.agent.tool import ToolError


def relative_parts(path: str, workspace: Path) -> tuple[str, ...]:
    """Take a path inside the workspace apart.

    Args:
        path: Relative to the workspace, or absolute and inside of it.
        workspace: The folder.

    Raises:
        ToolError: The path names nothing, or something outside.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() and pure.is_relative_to(workspace.as_posix()):
        pure = pure.relative_to(workspace.as_posix())
    if pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise ToolError(
            f"{path!r} is outside the workspace; use a path relative to it, such as report.html",
            "refused",
        )
    if not pure.parts:
        raise ToolError("the path names no file; write one such as report.html", "bad_arguments")
    return pure.parts


def read_inside(workspace: Path, path: str, most: int) -> bytes:
    """Read a regular file of the workspace.

    Raises:
        ToolError: There is no such file, it is reached through a link, or it is longer than `most`.
    """
    folder, name = _open_folder(workspace, path, create=False)
    try:
        # Without O_NONBLOCK a named pipe would be waited for.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        raise _said(path, error) from error
    finally:
        os.close(folder)
    state = os.fstat(file)
    if not stat.S_ISREG(state.st_mode) or state.st_size > most:
        os.close(file)
        size = f"has {state.st_size} bytes; at most {most} are read"
        problem = size if stat.S_ISREG(state.st_mode) else "is no regular file"
        raise ToolError(f"{path} {problem}", "failed")
    with os.fdopen(file, "rb") as opened:
        return opened.read(most)


def write_inside(workspace: Path, path: str, data: bytes) -> Path:
    """Write a file of the workspace whole or not at all; folders on the way are made.

    Raises:
        ToolError: The path leads outside, or it cannot be written.
    """
    folder, name = _open_folder(workspace, path, create=True)
    part = f".{name[:200]}.part"
    try:
        file = os.open(
            part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644, dir_fd=folder
        )
        with os.fdopen(file, "wb") as opened:
            opened.write(data)
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:
        raise _said(path, error) from error
    finally:
        os.close(folder)
    return workspace.joinpath(*relative_parts(path, workspace))


def _open_folder(workspace: Path, path: str, create: bool) -> tuple[int, str]:
    *folders, name = relative_parts(path, workspace)
    folder = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in folders:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=folder)
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
    except OSError as error:
        os.close(folder)
        raise _said(path, error) from error
    return folder, name


def _said(path: str, error: OSError) -> ToolError:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return ToolError(f"{path} leads through a link or a file; give the real path", "refused")
    if error.errno == errno.ENOENT:
        return ToolError(f"there is no {path} in the workspace; list its files", "failed")
    return ToolError(f"{path}: {error.strerror}", "failed")
