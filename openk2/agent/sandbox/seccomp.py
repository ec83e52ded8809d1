"""Which system calls a sandboxed program may not make.

In: whether it may use the network. Out: a filter as the kernel reads it.
Must not know: how the filter is loaded, or what else isolates.
"""

from __future__ import annotations

import errno
import functools
import importlib
import os
import socket
import stat
from collections.abc import Callable, Container
from typing import Any

from openk2.agent.sandbox.isolation import SandboxMissing

FORBIDDEN = """
    ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd
    mount umount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig
    fsmount fspick mount_setattr
    unshare setns
    bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register
    keyctl add_key request_key
    kexec_load kexec_file_load init_module finit_module delete_module create_module
    reboot swapon swapoff acct quotactl quotactl_fd nfsservctl
    settimeofday stime clock_settime clock_settime64 clock_adjtime clock_adjtime64 adjtimex
    sethostname setdomainname syslog iopl ioperm vhangup modify_ldt vm86 vm86old
    open_by_handle_at name_to_handle_at fanotify_init lookup_dcookie
    move_pages migrate_pages memfd_secret uselib ustat sysfs _sysctl
"""
"""Calls that nothing which computes needs: they look into other processes, change what is
mounted, load code into the kernel, or are where its privilege holes were found."""

NAMESPACES = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""

TIOCSTI, TIOCLINUX = 0x5412, 0x541C
"""Put keys into a terminal's input: what a shell outside would then run."""
LOW_32 = 0xFFFFFFFF
"""The kernel looks at the lower half of an ioctl's request only (CVE-2019-10063)."""
FILE_KIND = 0o170000
OPEN_TREE_ATTR = 467
"""Newer than the libseccomp that names it; its number is the same on every processor."""
FCHMODAT2 = 452
BY_PATH = """
    truncate truncate64 chown lchown fchownat setxattr lsetxattr removexattr lremovexattr
"""
"""Calls that change a file which the program need not be able to open."""
IN_VAIN: tuple[str | int, ...] = ("chmod", "fchmodat", FCHMODAT2, "utime", "utimes", "futimesat")
"""The same, but what copies files gives up where these fail. They succeed and do nothing."""
OF_ITSELF = {
    **{"sched_setaffinity": 0, "sched_setparam": 0, "sched_setscheduler": 0, "sched_setattr": 0},
    **{"setpriority": 1, "ioprio_set": 1, "utimensat": 1},
}
"""Which argument of a call is zero where it is about the caller or, for the last, an open file.
Landlock lets a program change the priorities of everything that its user runs. With any other
argument these do nothing, either: libraries call them for their threads, and give up otherwise."""
SETS_MODE: dict[str | int, int] = {
    **{"chmod": 1, "fchmod": 1, "fchmodat": 2, "mkdir": 1, "mkdirat": 2},
    **{"mknod": 1, "mknodat": 2, "creat": 1, FCHMODAT2: 2},
}
"""Which argument of a call is the mode of a file."""
OPENS = {"open": 1, "openat": 2}
"""Which argument of a call is its flags; the mode follows."""
SOCKET_KIND = 0xF
NETLINK_PROTOCOLS = 32
FAMILIES = 64
"""More kinds of sockets than Linux has."""


@functools.cache
def seccomp_filter(network: bool, shared: bool = False) -> bytes:
    """Compile the filter: a forbidden call fails with EPERM, so the program can say so.

    Args:
        network: It may use the host's network.
        shared: It shares the host's network and folders, and only Landlock is between.

    Raises:
        SandboxMissing: pyseccomp or libseccomp is not installed.
    """
    try:
        pyseccomp: Any = importlib.import_module("pyseccomp")  # it has no types
    except (ImportError, OSError, RuntimeError) as error:
        raise SandboxMissing(
            f"isolation needs pyseccomp and libseccomp2 ({error}): pip install 'openk2[agent]'"
            " && apt install libseccomp2"
        ) from None
    deny = pyseccomp.ERRNO(errno.EPERM)
    unknown, nothing = pyseccomp.ERRNO(errno.ENOSYS), pyseccomp.ERRNO(0)
    native = pyseccomp.system_arch()
    filter_ = pyseccomp.SyscallFilter(pyseccomp.ALLOW)

    def forbid(call: str | int, *parts: tuple[int, int, int], answer: int = deny) -> None:
        number = pyseccomp.resolve_syscall(native, call) if isinstance(call, str) else call
        if number >= 0:  # the others do not exist on this processor
            masked = pyseccomp.MASKED_EQ
            conditions = [pyseccomp.Arg(which, masked, mask, bits) for which, mask, bits in parts]
            filter_.add_rule(answer, number, *conditions)

    for name in FORBIDDEN.split():
        forbid(name)
    forbid(OPEN_TREE_ATTR)
    # Their flags are behind a pointer that a filter cannot read; libc uses the older calls then.
    forbid("clone3", answer=unknown)
    forbid("openat2", answer=unknown)
    forbid_by_argument(forbid)
    forbid_set_id(forbid, () if not shared else IN_VAIN)
    families = {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}
    if shared:
        families -= {socket.AF_UNIX} if network else {socket.AF_INET, socket.AF_INET6}
        forbid_what_landlock_allows(forbid, network)
        for call in IN_VAIN:
            forbid(call, answer=nothing)
        for call, which in OF_ITSELF.items():
            filter_.add_rule(nothing, call, pyseccomp.Arg(which, pyseccomp.NE, 0))
        filter_.add_rule(deny, "prlimit64", pyseccomp.Arg(0, pyseccomp.NE, 0))
    for family in set(range(FAMILIES)) - families:
        forbid("socket", (0, LOW_32, family))
    with os.fdopen(os.memfd_create("seccomp"), "r+b") as file:
        filter_.export_bpf(file)
        file.seek(0)
        return file.read()


def forbid_by_argument(forbid: Callable[..., None]) -> None:
    """Forbid new namespaces, typing into terminals, devices, and talk to the kernel's services."""
    for flag in NAMESPACES:
        forbid("clone", (0, flag, flag))
    for request in (TIOCSTI, TIOCLINUX):
        forbid("ioctl", (1, LOW_32, request))
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        forbid("mknod", (1, FILE_KIND, kind))
        forbid("mknodat", (2, FILE_KIND, kind))
    for protocol in range(1, NETLINK_PROTOCOLS):  # 0 tells what interfaces there are
        forbid("socket", (0, LOW_32, socket.AF_NETLINK), (2, LOW_32, protocol))


def forbid_what_landlock_allows(forbid: Callable[..., None], network: bool) -> None:
    """Forbid changes by path, and sockets of services: they do the work of whoever asks.

    landlock(7), current limitations.
    """
    for call in BY_PATH.split():
        forbid(call)
    if not network:
        forbid("connect")
        forbid("socket", (0, LOW_32, socket.AF_UNIX), (1, SOCKET_KIND, socket.SOCK_DGRAM))


def forbid_set_id(forbid: Callable[..., None], but: Container[str | int]) -> None:
    """Forbid files that give their owner's rights to whoever runs them: outside, too.

    A namespace does not help here: the file is on the host's disk, and its owner is the agent's.
    """
    for bit in (stat.S_ISUID, stat.S_ISGID):
        for call, mode in SETS_MODE.items():
            if call not in but:
                forbid(call, (mode, bit, bit))
        for call, flags in OPENS.items():
            for making in (os.O_CREAT, os.O_TMPFILE):
                forbid(call, (flags, making, making), (flags + 1, bit, bit))
