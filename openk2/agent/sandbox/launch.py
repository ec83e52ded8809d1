"""Becomes the sandboxed program: the few steps that only the process itself can take.

Run as a file by a Python without site packages, so it imports little and nothing of ours.
In: a plan as JSON, on an inherited descriptor. Out: the program, isolated; its end, on another.
Must not know: why a plan says what it says.
"""

# ruff: noqa: PTH - pathlib takes longer to load than everything else here

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import struct
import sys
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)

OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Numbers of system calls; those above 423 are the same on every processor."""

AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH, MOUNT_ATTR_IDMAP = 1, 4, 0x00100000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 16384, 1 << 18
NEWNS, NEWUSER = 0x00020000, 0x10000000
OTHER_NAMESPACES = 0x02000000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000
"""Control groups, host name, System V messages, processes, network."""
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 38, 22
PR_SET_CHILD_SUBREAPER, PR_CAPBSET_DROP = 36, 24
SECCOMP_MODE_FILTER, LAST_CAPABILITY = 2, 63
STAGE = "/tmp"
"""In a private view of the file system, a folder that holds what the program may see."""


def check(result: int, what: str) -> int:
    """Raise what the last call into the kernel says went wrong."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def kernel(number: int, *arguments: Any) -> int:
    """Make a system call that libc has no function for."""
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return check(LIBC.syscall(ctypes.c_long(number), *wide), f"system call {number}")


def prctl(option: int, *arguments: Any) -> None:
    """Set a property of this process."""
    padded = [*arguments, *[0] * (4 - len(arguments))]
    wide = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in padded]
    check(LIBC.prctl(option, *wide), f"prctl {option}")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount a file system."""
    arguments = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags))
    check(LIBC.mount(*arguments, options.encode()), f"mount {kind} on {target}")


def unshare(flags: int) -> None:
    """Leave the namespaces of the parent."""
    check(LIBC.unshare(flags), "unshare")


# Folders ----------------------------------------------------------------------------------------


def clone_tree(path: str) -> int:
    """Take a folder with all that is mounted in it, as a descriptor that can be mounted."""
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | AT_RECURSIVE
    return kernel(OPEN_TREE, AT_FDCWD, ctypes.c_char_p(path.encode()), flags)


def lend(tree: int, user: int) -> bool:
    """Let `user` act as the owner of a folder, whatever the folder's owner is outside.

    Files that it makes belong to the owner outside (mount_setattr(2), idmapped mounts). Tells
    whether the file system can do this.
    """
    owner = os.fstat(tree)
    try:
        namespace = mapping(f"{owner.st_uid} {user} 1", f"{owner.st_gid} {user} 1")
    except OSError:
        return False
    try:
        request = struct.pack("QQQQ", MOUNT_ATTR_IDMAP, 0, 0, namespace)
        empty = ctypes.c_char_p(b"")
        kernel(MOUNT_SETATTR, tree, empty, AT_EMPTY_PATH, ctypes.c_char_p(request), len(request))
    except OSError:
        return False
    finally:
        os.close(namespace)
    return True


def mapping(users: str, groups: str) -> int:
    """Make a user namespace that is nothing but a mapping of ids."""
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            unshare(NEWUSER)
            os.write(ready[1], b"x")
            os.close(go[1])
            os.read(go[0], 1)
        os._exit(0)
    os.close(ready[1])
    try:
        if not os.read(ready[0], 1):
            raise OSError("no user namespace")
        for name, text in (("uid_map", users), ("gid_map", groups)):
            with open(f"/proc/{child}/{name}", "w") as file:
                file.write(text)
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for descriptor in (ready[0], *go):
            os.close(descriptor)
        os.waitpid(child, 0)


def attach(tree: int, path: str) -> None:
    """Mount what `clone_tree` took."""
    empty, target = ctypes.c_char_p(b""), ctypes.c_char_p(path.encode())
    kernel(MOVE_MOUNT, tree, empty, AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)
    os.close(tree)


def place_for(tree: int, path: str) -> None:
    """Make the empty folder or file on which a tree is mounted."""
    if os.fstat(tree).st_mode & 0o170000 == 0o040000:
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDONLY, 0o644))


def stage(folders: list[list[Any]], user: int) -> bool:
    """Show folders under STAGE/0, STAGE/1, ... to `user`, in a view of our own.

    Tells whether `user` can write all that is to be written; if not, root must stay root.
    """
    unshare(NEWNS)
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    trees = [(clone_tree(path), writable) for path, writable in folders]
    lent = [lend(tree, user) or not writable for tree, writable in trees]
    mount("openk2", STAGE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    for number, (tree, _) in enumerate(trees):
        path = f"{STAGE}/{number}"
        place_for(tree, path)
        attach(tree, path)
    return all(lent)


def become(user: int) -> None:
    """Give up root for good."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


# The plan ---------------------------------------------------------------------------------------


def join(groups: list[str]) -> None:
    """Enter control groups; everything that starts from here is in them."""
    for path in groups:
        with open(path, "w") as file:
            file.write("0")
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # a machine out of memory ends this first


def main() -> None:
    """Carry out the plan."""
    with os.fdopen(int(sys.argv[1])) as file:
        plan = json.load(file)
    join(plan["groups"])
    if plan["stage"] is not None and stage(plan["stage"], plan["user"]):
        become(plan["user"])
    os.execve(plan["argv"][0], plan["argv"], {})


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"openk2 sandbox: {error}")
