"""Becomes the sandboxed program: the few steps that only the process itself can take.

Run as a file by a Python without site packages, so it imports little and nothing of ours.
In: a plan, on an inherited descriptor. Out: the program, isolated; its end, on another.
Must not know: why a plan says what it says.
"""

# pathlib, contextlib, json and typing take longer to load than everything that is done here.
# ruff: noqa: SIM105, PTH102, PTH103, PTH120, PTH123, PTH208, PTH211

from __future__ import annotations

import ctypes
import fcntl
import marshal
import os
import resource
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)

OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Numbers of system calls; those above 423 are the same on every processor."""

AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH, MOUNT_ATTR_IDMAP = 1, 4, 0x00100000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 16384, 1 << 18
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MNT_DETACH = 1, 2, 4, 2
NEWNS, NEWUSER, NEWNET = 0x00020000, 0x10000000, 0x40000000
OTHER_NAMESPACES = 0x02000000 | 0x04000000 | 0x08000000 | 0x20000000 | NEWNET
"""Control groups, host name, System V messages, processes, network."""
SIGKILL, SIGSTOP = 9, 19
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 38, 22
PR_SET_CHILD_SUBREAPER, PR_CAPBSET_DROP = 36, 24
SECCOMP_MODE_FILTER = 2
SETUP_FAILED = 125
"""Exit status where the program never began."""

FILE_RIGHTS = {0: 0, 1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights over files each version of Landlock knows."""
READ_RIGHTS = 0b1101
"""Execute and read files, list folders."""
RIGHTS_OF_FILES = 0b1100_0000_0000_0111
"""Execute, write, read, truncate, device control: what a rule for a single file may say."""

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
DEVICE_LINKS = {
    **{"fd": "/proc/self/fd", "ptmx": "pts/ptmx", "stdin": "/proc/self/fd/0"},
    **{"stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"},
}

Tree = tuple[int, str]
"""A folder with all that is mounted in it, as a descriptor, and its path."""

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
    """Leave the parent's namespaces."""
    check(LIBC.unshare(flags), "unshare")


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
        set_attributes(tree, AT_EMPTY_PATH, MOUNT_ATTR_IDMAP, namespace)
        os.close(namespace)
    except OSError:
        return False
    return True


def set_attributes(tree: int, flags: int, attributes: int, namespace: int = 0) -> None:
    """Set properties of a mount that is nowhere yet."""
    request = struct.pack("QQQQ", attributes, 0, 0, namespace)
    empty, pointer = ctypes.c_char_p(b""), ctypes.c_char_p(request)
    kernel(MOUNT_SETATTR, tree, empty, flags, pointer, len(request))


def mapping(users: str, groups: str) -> int:
    """Make a user namespace that is nothing but a mapping of ids."""
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            unshare(NEWUSER)
            os.write(ready[1], b"x")
            os.close(go[1])
            os.read(go[0], 1)
        except OSError:
            pass
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
    """Mount what `clone_tree` took on a new, empty place."""
    if os.fstat(tree).st_mode & 0o170000 == 0o040000:
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDONLY, 0o644))
    empty, target = ctypes.c_char_p(b""), ctypes.c_char_p(path.encode())
    kernel(MOVE_MOUNT, tree, empty, AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)
    os.close(tree)


def stage(folders: list[list[Any]], user: int) -> bool:
    """Show folders under STAGE/0, STAGE/1, ... to `user`, in a view of our own.

    Tells whether `user` can write what is to be written; if not, root must stay root.
    """
    unshare(NEWNS)
    trees, lent = take([], folders, user)
    mount("openk2", STAGE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    for number, (tree, _) in enumerate(trees):
        attach(tree, f"{STAGE}/{number}")
    return lent


def become(user: int) -> None:
    """Give up root for good."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def take(system: list[str], granted: list[list[Any]], user: int) -> tuple[list[Tree], bool]:
    """Take folders as they will be mounted; nothing of the host's mounts changes.

    Tells also whether `user`, if there is one, can write all that is to be written.
    """
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    trees = [(guard(clone_tree(path), writable=False), path) for path in system]
    lent = True
    for path, writable in granted:
        tree = clone_tree(path)
        if user:
            lent = (lend(tree, user) or not writable) and lent
        trees.append((guard(tree, writable=writable), path))
    return trees, lent


def show(plan: Any, trees: list[Tree]) -> None:
    """Build a file system that holds only what was taken, and make it the root."""
    mount("openk2", STAGE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=16m")
    os.chdir(STAGE)
    for path, target in plan["links"]:
        os.symlink(target, path.lstrip("/"))
    os.mkdir("proc")
    mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    scratch = f"mode=1777,size={plan['scratch']}"
    for name in ("tmp", "dev", "dev/shm", "dev/pts"):
        os.mkdir(name)
    mount("openk2", "tmp", "tmpfs", MS_NOSUID | MS_NODEV, scratch)
    mount("openk2", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, scratch)
    terminals = "newinstance,ptmxmode=0666,mode=620"
    mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, terminals)
    for name, target in DEVICE_LINKS.items():
        os.symlink(target, f"dev/{name}")
    for tree, path in [*((clone_tree(path), path) for path in DEVICES), *trees]:
        attach(tree, path.lstrip("/"))
    for path, text in plan["accounts"].items():
        with open(path.lstrip("/"), "w") as file:
            file.write(text)
    check(LIBC.pivot_root(b".", b"."), "pivot_root")
    check(LIBC.umount2(b".", MNT_DETACH), "umount of the old root")


def guard(tree: int, *, writable: bool) -> int:
    """Let a folder hold no devices and no programs with rights; read-only unless granted."""
    wanted = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (0 if writable else MOUNT_ATTR_RDONLY)
    set_attributes(tree, AT_EMPTY_PATH | AT_RECURSIVE, wanted)
    return tree


def map_self() -> None:
    """Enter a user namespace in which an ordinary user may do what the other steps need."""
    user, group = os.geteuid(), os.getegid()
    unshare(NEWUSER)
    maps = {"setgroups": "deny", "uid_map": f"65534 {user} 1", "gid_map": f"65534 {group} 1"}
    for name, text in maps.items():
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def become_powerless() -> None:
    """Give up every capability, and the way to get them back."""
    capability = 0
    while LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:  # fails behind the last
        capability += 1
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
    check(LIBC.capset(header, none), "capset")


def reachable(granted: list[list[Any]], user: int) -> bool:
    """Tell whether a user may use folders as they are."""
    child = os.fork()
    if child == 0:
        become(user)
        modes = {True: os.R_OK | os.W_OK | os.X_OK, False: os.R_OK}
        os._exit(not all(os.access(path, modes[writable]) for path, writable in granted))
    return os.waitpid(child, 0)[1] == 0


def landlock_version() -> int:
    """Return which version of Landlock the kernel has; 0 is none."""
    try:
        return kernel(CREATE_RULESET, None, 0, 1)
    except OSError:
        return 0


def confine(rules: list[list[Any]], *, network: bool, files: bool = True) -> None:
    """Allow only some files, no TCP, and no sockets and signals to the outside (landlock(7)).

    Rules are paths, and whether each may be written; those that do not exist are left out.
    """
    version = landlock_version()
    known = (1 << FILE_RIGHTS[min(version, 5)]) - 1
    net = 3 if version >= 4 and not network else 0
    scoped = 3 if version >= 6 else 0
    request = struct.pack("QQQ", known if files else 0, net, scoped)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = kernel(CREATE_RULESET, ctypes.c_char_p(request), size, 0)
    for path, writable in rules if files else []:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        rights = known if writable else READ_RIGHTS
        if os.fstat(place).st_mode & 0o170000 != 0o040000:
            rights &= RIGHTS_OF_FILES
        rule = struct.pack("=Qi", rights & known, place)
        kernel(ADD_RULE, ruleset, 1, ctypes.c_char_p(rule), 0)
        os.close(place)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    kernel(RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def filter_calls(program: bytes) -> None:
    """Load a filter of system calls."""
    buffer = ctypes.create_string_buffer(program, len(program))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    # struct sock_fprog: how many instructions of eight bytes, and where.
    filter_ = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(filter_))


def await_child(main: int) -> int:
    """Wait for one child and bury all others that end; return its status as shells say it."""
    while True:
        pid, result = os.wait()
        if pid == main:
            code = os.waitstatus_to_exitcode(result)
            return code if code >= 0 else 128 - code


def end_children() -> None:
    """Kill every descendant: what loses its parent becomes a child of ours.

    They are stopped first: what is stopped starts nothing, and leaves no room for new ones.
    """
    stopped: set[int] = set()
    while running := descendants() - stopped:
        send(SIGSTOP, running)
        stopped |= running
    send(SIGKILL, stopped)
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass


def send(number: int, pids: set[int]) -> None:
    """Send a signal to those processes that still are."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def descendants() -> set[int]:
    """Return all living processes below this one."""
    children: dict[int, list[int]] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                # The name, in parentheses, may hold anything.
                state, parent = file.read().rpartition(")")[2].split()[:2]
                if state != "Z":
                    children.setdefault(int(parent), []).append(int(pid))
        except OSError:
            pass
    found: set[int] = set()
    new = [os.getpid()]
    while new:
        new = [child for parent in new for child in children.get(parent, [])]
        found.update(new)
    return found


def program(plan: Any, ready: int) -> None:
    """Confine this process, and become the program."""
    os.setsid()
    prctl(PR_SET_PDEATHSIG, SIGKILL)
    for name, (soft, hard) in plan["limits"].items():
        resource.setrlimit(getattr(resource, name), (soft, hard))
    os.chdir(plan["cwd"])
    os.umask(0o022)
    if plan["landlock"]:
        rules = [*([path, False] for path in plan["readable"]), *plan["granted"]]
        rules += [[path, True] for path in plan["writable"]]
        # In a network of its own it may connect: there is nobody else.
        confine(rules, network=plan["network"] or plan["namespaces"])
    if plan["filter"]:
        filter_calls(bytes.fromhex(plan["filter"]))
    os.write(ready, b"x")
    os.close(ready)
    try:
        os.execvpe(plan["argv"][0], plan["argv"], plan["environment"])
    except OSError as error:
        print(f"cannot execute {plan['argv'][0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


def inside(plan: Any, ready: int, trees: list[Tree], lent: bool) -> int:
    """Be the first process of a process namespace: everything in it ends when this one does."""
    prctl(PR_SET_PDEATHSIG, SIGKILL)
    check(LIBC.sethostname(b"sandbox", 7), "sethostname")
    if not plan["network"]:
        # SIOCSIFFLAGS, IFF_UP: a network of its own begins with its loopback off.
        link = check(LIBC.socket(2, 2, 0), "socket")
        fcntl.ioctl(link, 0x8914, struct.pack("16sh22x", b"lo", 1))
        os.close(link)
    show(plan, trees)
    if lent and plan["user"]:
        become(plan["user"])
    else:
        become_powerless()
    prctl(PR_SET_PDEATHSIG, SIGKILL)  # it was forgotten with the user
    main = start(lambda: program(plan, ready))
    os.close(ready)
    return await_child(main)


def start(work: Callable[[], object]) -> int:
    """Do something in a child; return its process id."""
    child = os.fork()
    if child:
        return child
    try:
        result = work()
        os._exit(result if isinstance(result, int) else 0)
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    except OSError as error:
        print(f"openk2 sandbox: {error}", file=sys.stderr, flush=True)
    os._exit(SETUP_FAILED)


def supervise(plan: Any) -> int:
    """Start the program in namespaces or, where those are forbidden, below this process."""
    status = plan["status"]
    os.set_inheritable(status, False)
    heard, ready = os.pipe()
    prctl(PR_SET_PDEATHSIG, SIGKILL)
    try:
        child = begin(plan, ready)
        os.close(ready)
        os.write(status, b'{"child-pid": %d}\n' % child)
        result = await_child(child)
        if os.read(heard, 1):
            os.write(status, b'{"exit-code": %d}\n' % result)
    finally:
        if not plan["namespaces"]:
            end_children()
    return result


def begin(plan: Any, ready: int) -> int:
    """Start the program, or the first process of its namespace; return its process id."""
    user = plan["user"]
    if plan["namespaces"]:
        if not user:
            map_self()
        unshare(NEWNS)
        trees, lent = take(plan["system"], plan["granted"], user)
        unshare(OTHER_NAMESPACES & ~(NEWNET if plan["network"] else 0))
        return start(lambda: inside(plan, ready, trees, lent))
    import signal

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    if user and reachable(plan["granted"], user):
        os.chown(plan["temporary"], user, user)
        become(user)
        prctl(PR_SET_PDEATHSIG, SIGKILL)
    elif user:
        become_powerless()
    return start(lambda: program(plan, ready))


def join(groups: list[str]) -> None:
    """Enter control groups; everything that starts from here is in them."""
    for path in groups:
        with open(path, "w") as file:
            file.write("0")
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # a machine out of memory ends this first
    except OSError:
        pass


def main() -> None:
    """Carry out the plan."""
    with os.fdopen(int(sys.argv[1]), "rb") as file:
        plan = marshal.load(file)  # written by our parent; json would double the time to start
    join(plan["groups"])
    if plan["kind"] == "supervise":
        sys.exit(supervise(plan))
    if plan["stage"] is not None and stage(plan["stage"], plan["user"]):
        become(plan["user"])
    if plan["scope"] and landlock_version() >= 6:
        confine([], network=True, files=False)
    os.execve(plan["argv"][0], plan["argv"], {})


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        print(f"openk2 sandbox: {error}", file=sys.stderr)
        sys.exit(SETUP_FAILED)
