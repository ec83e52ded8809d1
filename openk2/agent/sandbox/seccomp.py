"""Which system calls a sandboxed program may not make.

In: whether it may use the network. Out: a filter as the kernel reads it.
Must not know: how the filter is loaded, or what else isolates.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
import stat

from openk2.agent.sandbox.isolation import SandboxMissing

FORBIDDEN = tuple(
    """
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
    """.split()
)
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
FAMILIES = 64
"""More kinds of sockets than Linux has."""


@functools.cache
def seccomp_filter(network: bool) -> bytes:
    """Compile the filter: a forbidden call fails with EPERM, so the program can say so.

    Args:
        network: Let it ask the kernel for addresses and routes, which resolvers do.

    Raises:
        SandboxMissing: pyseccomp or libseccomp is not installed.
    """
    try:
        import pyseccomp
    except (ImportError, OSError, RuntimeError) as error:
        raise SandboxMissing(
            f"isolation needs pyseccomp and libseccomp2 ({error}): pip install 'openk2[agent]'"
            " && apt install libseccomp2"
        ) from None
    deny = pyseccomp.ERRNO(errno.EPERM)
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    native = pyseccomp.system_arch()
    numbers = [pyseccomp.resolve_syscall(native, name) for name in FORBIDDEN]
    for number in [*numbers, OPEN_TREE_ATTR]:
        if number >= 0:  # the others do not exist on this processor
            rules.add_rule(deny, number)
    # Its flags are behind a pointer that a filter cannot read; libc falls back to clone.
    rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    masked = pyseccomp.MASKED_EQ
    for flag in NAMESPACES:
        rules.add_rule(deny, "clone", pyseccomp.Arg(0, masked, flag, flag))
    for request in (TIOCSTI, TIOCLINUX):
        rules.add_rule(deny, "ioctl", pyseccomp.Arg(1, masked, LOW_32, request))
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        rules.add_rule(deny, "mknodat", pyseccomp.Arg(2, masked, FILE_KIND, kind))
        if pyseccomp.resolve_syscall(native, "mknod") >= 0:
            rules.add_rule(deny, "mknod", pyseccomp.Arg(1, masked, FILE_KIND, kind))
    families = {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6}
    if network:
        families.add(socket.AF_NETLINK)
    for family in set(range(FAMILIES)) - families:
        rules.add_rule(deny, "socket", pyseccomp.Arg(0, masked, LOW_32, family))
    descriptor = os.memfd_create("seccomp")
    with os.fdopen(descriptor, "r+b") as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()
