"""Programs that try to leave a sandbox: what each tries, and what it must be told instead."""

from __future__ import annotations

from dataclasses import dataclass, field

BUBBLEWRAP, NAMESPACES, ALONE = "bubblewrap", "landlock-namespaces", "landlock-alone"
MECHANISMS = (BUBBLEWRAP, NAMESPACES, ALONE)

DENIED = "Operation not permitted|Permission denied|Read-only file system|No such file or directory"
NO_NETWORK = "Operation not permitted|Network is unreachable|Connection refused"

PRELUDE = """
import ctypes, errno, os, pathlib, resource, signal, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
arm = os.uname().machine == "aarch64"
def call(function, *arguments):
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = function(*wide)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def kernel(number, *arguments):
    return call(libc.syscall, number, *arguments)
def escaped(what=""):
    print("ESCAPED", what, flush=True)
"""
"""What every attempt starts with: calls into the kernel that raise what it answers."""


@dataclass(frozen=True)
class Attempt:
    """One way out."""

    name: str
    what: str
    """For the table in the documentation."""
    code: str
    """Python, after the prelude, with the host's `{words}`. It prints ESCAPED or raises."""
    says: str = DENIED
    """What its standard error says; a regular expression."""
    open_in: dict[str, str] = field(default_factory=dict[str, str])
    """Mechanisms that do not prevent it, and why."""


READING = [
    Attempt("read-shadow", "read /etc/shadow", "escaped(open('/etc/shadow').read())"),
    Attempt("read-file", "read a file outside", "escaped(open('{secret}').read())"),
    Attempt(
        "read-repository",
        "read the agent's own source",
        "escaped(open('{repository}/pyproject.toml').read())",
    ),
    Attempt(
        "list-home",
        "list the home folder",
        "names = os.listdir('{home}')  # the agent's Python may be below it\n"
        "escaped(names) if len(names) > 1 else sys.exit('No such file or directory')",
    ),
    Attempt(
        "environment-of-1",
        "read the environment of process 1",
        "text = open('/proc/1/environ').read()\n"
        "escaped(text) if text else sys.exit('Permission denied: empty')",
    ),
    Attempt(
        "environments",
        "find a secret in any process's environment",
        "found = [p for p in os.listdir('/proc') if p.isdigit()]\n"
        "texts = []\n"
        "for p in found:\n"
        "    try: texts.append(open('/proc/' + p + '/environ').read())\n"
        "    except OSError: pass\n"
        "escaped() if '{token}' in str(texts) else sys.exit('Permission denied: others')",
    ),
    Attempt(
        "command-lines",
        "read command lines of the host's processes",
        "escaped(open('/proc/{victim}/cmdline').read())",
    ),
    Attempt(
        "own-environment",
        "find a secret in its own environment",
        "escaped() if '{token}' in str(os.environ) else sys.exit('Permission denied')",
    ),
    Attempt(
        "link-out",
        "read through a symbolic link made in the workspace",
        "os.symlink('{secret}', 'link'); escaped(open('link').read())",
    ),
    Attempt(
        "link-planted",
        "read through a link that was in the workspace before",
        "escaped(open('planted').read())",
    ),
    Attempt(
        "hard-link",
        "take a file outside by a hard link",
        "os.link('{secret}', 'mine'); escaped(open('mine').read())",
        says=DENIED + "|Invalid cross-device link",
    ),
    Attempt(
        "dots", "climb out with ..", "escaped(open('../' * 40 + '{secret}'.lstrip('/')).read())"
    ),
    Attempt(
        "own-root",
        "go through /proc/self/root",
        "escaped(open('/proc/self/root{secret}').read())",
    ),
    Attempt("root-of-1", "go through /proc/1/root", "escaped(open('/proc/1/root{secret}').read())"),
    Attempt(
        "root-of-parent",
        "go through the root of the parent",
        "escaped(open(f'/proc/{{os.getppid()}}/root{secret}').read())",
    ),
    Attempt(
        "folder-of-1",
        "go through /proc/1/cwd",
        "escaped(open('/proc/1/cwd/../../..{secret}').read())",
    ),
    Attempt(
        "memory-of-host",
        "read a host process's memory through /proc",
        "escaped(open('/proc/{victim}/mem', 'rb').read(1))",
    ),
    Attempt(
        "memory-of-1",
        "change the first process, which ends the others",
        "os.open('/proc/1/mem', os.O_RDWR); escaped()",
    ),
    Attempt(
        "descriptors",
        "use a descriptor that the host left open",
        "mine = []\n"
        "for number in range(3, 1024):\n"
        "    try: os.fstat(number); mine.append(number)\n"
        "    except OSError as error: last = error\n"
        "escaped(mine) if mine else sys.exit(str(last))",
        says="Bad file descriptor",
    ),
    Attempt(
        "disk",
        "read the host's disk or memory as a device",
        "for path in ('/dev/vda', '/dev/sda', '/dev/nvme0n1', '/dev/mem', '/dev/kmsg'):\n"
        "    try: os.open(path, os.O_RDONLY); escaped(path)\n"
        "    except OSError as error: last = error\n"
        "raise last",
    ),
    Attempt(
        "file-handle",
        "open a file by its handle, without a path",
        "size = struct.pack('Ii', 8, 1) + struct.pack('Q', 2)\n"
        "call(libc.open_by_handle_at, os.open('.', 0), ctypes.c_char_p(size), 0); escaped()",
    ),
    Attempt(
        "kernel-log",
        "read the kernel's log",
        "call(libc.klogctl, 3, ctypes.create_string_buffer(100), 100); escaped()",
    ),
]

WRITING = [
    Attempt("write-outside", "make a file outside", "open('{outside}/made', 'w'); escaped()"),
    Attempt("write-passwd", "add a user", "open('/etc/passwd', 'a').write('x'); escaped()"),
    Attempt("write-program", "replace a program", "open('/usr/bin/true', 'r+b'); escaped()"),
    Attempt(
        "write-python",
        "plant a module in the agent's Python",
        "import sysconfig\nopen(sysconfig.get_path('purelib') + '/planted.pth', 'w'); escaped()",
    ),
    Attempt(
        "write-readable",
        "write what was granted for reading",
        "assert open('{readable}/data').read() == 'data'\nopen('{readable}/data', 'w'); escaped()",
    ),
    Attempt(
        "write-linked",
        "write through a linked folder",
        "os.symlink('{outside}', 'folder'); open('folder/made', 'w'); escaped()",
    ),
    Attempt(
        "truncate", "empty a file outside by its path", "os.truncate('{secret}', 0); escaped()"
    ),
    Attempt(
        "chmod",
        "open a file outside to everybody",
        "os.chmod('{secret}', 0o777)\n"
        "escaped() if os.stat('{secret}').st_mode & 2 else sys.exit('Operation not permitted')",
    ),
    Attempt("remove", "remove a file outside", "os.unlink('{secret}'); escaped()"),
    Attempt(
        "set-user-id",
        "leave a program that runs as its owner",
        "open('tool', 'w').close(); os.chmod('tool', 0o4755)\n"
        "escaped() if os.stat('tool').st_mode & 0o4000 else sys.exit('Operation not permitted')",
    ),
    Attempt(
        "make-set-user-id",
        "make such a program in one step",
        "os.close(os.open('tool', os.O_CREAT | os.O_WRONLY, 0o4755)); escaped()",
    ),
    Attempt(
        "core-pattern",
        "have the kernel run a program as root when one crashes",
        "os.open('/proc/sys/kernel/core_pattern', os.O_WRONLY); escaped()",
    ),
    Attempt(
        "sysrq", "press the system request key", "os.open('/proc/sysrq-trigger', 1); escaped()"
    ),
    Attempt(
        "sysfs",
        "change a setting in /sys",
        "os.open('/sys/kernel/mm/transparent_hugepage/enabled', os.O_WRONLY); escaped()",
    ),
    Attempt(
        "cgroup",
        "leave its control group",
        "for path in ('/sys/fs/cgroup/cgroup.procs', '/sys/fs/cgroup/pids/cgroup.procs'):\n"
        "    try: os.open(path, os.O_WRONLY); escaped(path)\n"
        "    except OSError as error: last = error\n"
        "raise last",
    ),
    Attempt(
        "block-device",
        "make a device in the workspace",
        "os.mknod('disk', 0o60666, os.makedev(254, 0)); escaped()",
    ),
    Attempt(
        "character-device",
        "make the memory device",
        "os.mknod('mem', 0o20666, os.makedev(1, 1)); escaped()",
    ),
]

KERNEL = [
    Attempt(
        "ptrace",
        "trace the parent",
        "call(libc.ptrace, 16, os.getppid(), 0, 0); escaped()",
    ),
    Attempt(
        "ptrace-host",
        "trace a process of the host",
        "call(libc.ptrace, 16, {victim}, 0, 0); escaped()",
    ),
    Attempt(
        "read-memory",
        "read another process's memory",
        "part = (ctypes.c_ulong * 2)(ctypes.addressof(ctypes.create_string_buffer(8)), 8)\n"
        "call(libc.process_vm_readv, os.getppid(), part, 1, part, 1, 0); escaped()",
    ),
    Attempt("mount", "mount", "call(libc.mount, b'x', b'.', b'tmpfs', 0, b''); escaped()"),
    Attempt(
        "remount",
        "make /usr writable",
        "call(libc.mount, b'none', b'/usr', b'', 4096 | 32, b''); escaped()",
    ),
    Attempt(
        "unmount", "uncover what is below a mount", "call(libc.umount2, b'/proc', 2); escaped()"
    ),
    Attempt("unshare", "make a user namespace", "call(libc.unshare, 0x10000000); escaped()"),
    Attempt(
        "clone",
        "start a process in a user namespace",
        "child = kernel(220 if arm else 56, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)\n"
        "escaped() if child else os._exit(0)",
    ),
    Attempt(
        "clone3",
        "start it in one by the newer call",
        "flags = struct.pack('QQQQQQQQ', 0x10000000, 0, 0, 0, 17, 0, 0, 0)\n"
        "child = kernel(435, ctypes.c_char_p(flags), len(flags))\n"
        "escaped() if child else os._exit(0)",
        says="Function not implemented",
    ),
    Attempt(
        "enter-namespace",
        "enter the namespace of another process",
        "call(libc.setns, os.open('.', 0), 0); escaped()",
    ),
    Attempt("pivot-root", "change the root", "call(libc.pivot_root, b'.', b'.'); escaped()"),
    Attempt("chroot", "change its own root", "os.chroot('.'); escaped()"),
    Attempt(
        "set-user",
        "become root",
        "os.setuid(1 if os.getuid() == 0 else 0); escaped()",
        says=DENIED + "|Invalid argument",
    ),
    Attempt(
        "capabilities",
        "hold any capability",
        "line = [l for l in open('/proc/self/status') if l.startswith('CapEff')][0]\n"
        "escaped() if int(line.split()[1], 16) else sys.exit('Operation not permitted')",
    ),
    Attempt(
        "run-set-user-id",
        "gain rights from a program that has them",
        "state = libc.prctl(39, 0, 0, 0, 0)\n"
        "sys.exit('Operation not permitted') if state == 1 else escaped()",
    ),
    Attempt("kexec", "start another kernel", "kernel(104 if arm else 246, 0, 0, 0, 0); escaped()"),
    Attempt("module", "load a module", "call(libc.init_module, b'', 0, b''); escaped()"),
    Attempt(
        "bpf",
        "load a program into the kernel",
        "kernel(280 if arm else 321, 0, ctypes.create_string_buffer(128), 128); escaped()",
    ),
    Attempt(
        "keyring", "read the keys of the user", "kernel(219 if arm else 250, 0, -3, 0); escaped()"
    ),
    Attempt(
        "perf",
        "watch other processes by counters",
        "kernel(241 if arm else 298, ctypes.create_string_buffer(128), 0, -1, -1, 0); escaped()",
    ),
    Attempt(
        "io-uring",
        "make calls that no filter sees",
        "kernel(425, 1, ctypes.create_string_buffer(256)); escaped()",
    ),
    Attempt(
        "userfaultfd", "hold the kernel at a page", "kernel(282 if arm else 323, 1); escaped()"
    ),
    Attempt("reboot", "restart the machine", "call(libc.reboot, 0); escaped()"),
    Attempt("swap", "swap to a file", "call(libc.swapon, b'/nowhere', 0); escaped()"),
    Attempt("host-name", "rename the host", "socket.sethostname('taken'); escaped()"),
    Attempt("clock", "set the clock", "time.clock_settime(time.CLOCK_REALTIME, 0); escaped()"),
    Attempt(
        "type-ahead",
        "type into the terminal it was started from",
        "import fcntl; fcntl.ioctl(0, 0x5412, b'x'); escaped()",
    ),
    Attempt(
        "type-ahead-wide",
        "type into it by a request with a hidden half",
        "call(libc.ioctl, 0, 0x100005412, ctypes.c_char_p(b'x')); escaped()",
    ),
]

NETWORK = [
    Attempt(
        "tcp",
        "connect to a server of the host",
        "socket.create_connection(('127.0.0.1', {tcp}), 2).send(b'x'); escaped()",
        says=NO_NETWORK,
    ),
    Attempt(
        "udp",
        "send a datagram to the host",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', {udp}))\n"
        "s.send(b'x'); time.sleep(0.05); s.send(b'x'); escaped()",
        says=NO_NETWORK,
    ),
    Attempt(
        "metadata",
        "ask a cloud's address for keys",
        "socket.create_connection(('169.254.169.254', 80), 2); escaped()",
        says=NO_NETWORK,
    ),
    Attempt(
        "names",
        "resolve a name",
        "escaped(socket.getaddrinfo('example.com', 80))",
        says="Temporary failure in name resolution|Name or service not known",
    ),
    Attempt(
        "abstract-socket",
        "talk to a service by an abstract socket",
        "socket.socket(socket.AF_UNIX).connect('\\0{abstract}'); escaped()",
        says=NO_NETWORK,
    ),
    Attempt(
        "socket-file",
        "talk to a service by a socket outside",
        "socket.socket(socket.AF_UNIX).connect('{socket}'); escaped()",
        says=DENIED,
    ),
    Attempt(
        "raw-socket",
        "see all packets",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP); escaped()",
    ),
    Attempt("packet-socket", "see all frames", "socket.socket(17, socket.SOCK_RAW); escaped()"),
    Attempt("vsock", "talk to the machine's host", "socket.socket(40, 1); escaped()"),
    Attempt("netlink", "ask for audit messages", "socket.socket(16, 3, 9); escaped()"),
    Attempt("crypto-socket", "reach the kernel's ciphers", "socket.socket(38, 5); escaped()"),
    Attempt(
        "wide-family",
        "name a family in the upper half of the argument",
        "kernel(198 if arm else 41, 0x100000011, 3, 0); escaped()",
    ),
]

PROCESSES = [
    Attempt(
        "kill-host",
        "end a process of the host",
        "os.kill({victim}, signal.SIGKILL); escaped()",
        says=DENIED + "|No such process",
    ),
    Attempt(
        "limits-of-host",
        "change the limits of a process of the host",
        "resource.prlimit({victim}, resource.RLIMIT_NOFILE, (1, 1)); escaped()",
        says=DENIED + "|No such process",
    ),
    Attempt(
        "priority-of-host",
        "slow a process of the host down",
        "os.setpriority(os.PRIO_PROCESS, {victim}, 19)\n"
        "now = os.getpriority(os.PRIO_PROCESS, {victim})\n"
        "escaped() if now == 19 else sys.exit('Operation not permitted')",
        says=DENIED + "|No such process",
    ),
    Attempt(
        "raise-limits",
        "raise its own limits",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20)); escaped()",
        says="not allowed to raise maximum limit",
    ),
    Attempt(
        "priority",
        "run before everything else",
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)); escaped()",
    ),
]

ATTEMPTS = [*READING, *WRITING, *KERNEL, *NETWORK, *PROCESSES]
