"""The jail of one submission, by direct system calls (Linux): see ``python -m grading doctor``.

The forkserver forks the supervisor, which enters new user, mount, pid, net, ipc and uts namespaces
(the forkserver maps its ids) and forks again. That second process is number 1 of its own world: a
read-only root of libraries and ``lib``, its own small /tmp, no /proc, nobody's uid, no
capabilities, no new privileges, rlimits, seccomp. Then it runs the student's code.

bubblewrap would start a program anew, torch's import included, for every submission.
"""

import contextlib
import ctypes
import errno
import os
import resource
import signal
import socket
import sys
import sysconfig
import tempfile
import threading
from pathlib import Path

from grading.sandbox import withheld

ROOT = Path(__file__).parents[2]
NOBODY = 65534
LEVELS = ("strict", "process")
MIB = 2**20
MEMORY, DISK, CPU_SECONDS = 1024 * MIB, 64 * MIB, 60

NEW = {"mount": 0x00020000, "uts": 0x04000000, "ipc": 0x08000000, "user": 0x10000000,
       "pid": 0x20000000, "net": 0x40000000}
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2
SYS_MOUNT_SETATTR = 442  # the same on every architecture
SYS = {"x86_64": {"pivot_root": 155, "capset": 126}, "aarch64": {"pivot_root": 41, "capset": 91}}
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC = 1, 2, 4, 8
AT_RECURSIVE = 0x8000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
CLONE_THREAD = 0x00010000
# Duplicates and flags. No locks: those on a shared library are seen in every other jail.
FCNTL = (0, 1, 2, 3, 4, 1030)

# No sendmsg: descriptors that it sends are counted for all jails together, until they are received.
ALLOWED = """
    read write readv writev pread64 pwrite64 lseek close close_range fstat newfstatat stat lstat
    statx access faccessat faccessat2 readlink readlinkat getcwd chdir openat open dup dup2 dup3
    ftruncate link linkat unlink unlinkat mkdir mkdirat rmdir rename renameat renameat2 getdents64
    umask utimensat fsync fdatasync fallocate sendfile copy_file_range ioctl pipe pipe2
    poll ppoll select pselect6 epoll_create1 epoll_ctl epoll_wait epoll_pwait eventfd2
    recvfrom recvmsg sendto shutdown getsockopt getsockname getpeername
    mmap munmap mprotect mremap madvise brk membarrier rseq
    futex futex_waitv set_robust_list get_robust_list set_tid_address arch_prctl
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigtimedwait sigaltstack tgkill kill
    sched_yield sched_getaffinity sched_getparam sched_getscheduler getcpu
    clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times
    getitimer setitimer alarm getrandom getpid gettid getppid getuid geteuid getgid getegid
    getgroups getresuid getresgid getpgrp getrlimit getrusage sysinfo uname exit exit_group
    restart_syscall
""".split()


class JailError(Exception):
    """This machine cannot give what the jail needs; the message says what."""


libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        raise JailError(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def _syscall(number: int, what: str, *args) -> int:
    return _check(libc.syscall(ctypes.c_long(number), *args), what)


def _native(name: str) -> int:
    try:
        return SYS[os.uname().machine][name]
    except KeyError:
        raise JailError(f"no jail for the {os.uname().machine} architecture") from None


def visible_paths() -> list[str]:
    """What the body may read: Python, its packages, system libraries, and ``lib``."""
    places = {"/usr/lib", "/usr/lib64", "/lib", "/lib64", str(ROOT / "lib"),
              f"{sys.base_prefix}/lib", *sysconfig.get_paths().values()}
    real = sorted({str(Path(p).absolute()) for p in places if Path(p).is_dir()} - {str(ROOT)},
                  key=lambda p: (p.count("/"), p))
    real = [p for p in real if not ROOT.is_relative_to(p) and p not in ("/", "/usr", sys.prefix)
            and not {"bin", "include"} & set(Path(p).parts[-2:])]
    return [p for i, p in enumerate(real)
            if not any(Path(p).is_relative_to(q) for q in real[:i])]


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    _check(libc.mount(source.encode(), target.encode(), kind and kind.encode(),
                      ctypes.c_ulong(flags), options.encode()), f"mount {target}")


def _set_attributes(target: str, attributes: int, flags: int = AT_RECURSIVE) -> None:
    wanted = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    _syscall(SYS_MOUNT_SETATTR, f"read-only {target}", -100, target.encode(), flags,
             ctypes.byref(wanted), ctypes.sizeof(wanted))


def _bind(source: str, new: str, attributes: int) -> None:
    target = new + source
    if Path(source).is_symlink():  # /lib -> usr/lib
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).symlink_to(Path(source).readlink())
        return
    if Path(source).is_dir():
        Path(target).mkdir(parents=True, exist_ok=True)
    else:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).touch()
    _mount(source, target, None, MS_BIND | MS_REC)
    _set_attributes(target, attributes)


def _hide(path: str, empty: str) -> None:
    """Let a folder or a file of the new root be empty, below a read-only mount too.

    empty: a file of this root's own. Of one that others see, such as /dev/null, whose times
    anybody may touch, one jail could tell another what it has seen.
    """
    if Path(path).is_dir():
        _mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, "size=4k,nr_inodes=1,mode=555")
    else:
        _mount(empty, path, None, MS_BIND)
    _set_attributes(path, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV)


def _new_root(new: str, paths: list[str], hidden: list[Path]) -> None:
    """Build a root of read-only paths on a tmpfs at new, and make it the only one there is.

    hidden: what is to be empty in it.
    """
    os.umask(0o022)  # nobody has to pass through what is made here, whoever grades
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    _mount("tmpfs", new, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    # First: what is to be seen may lie below /tmp. /dev/shm is for locks of multiprocessing.
    for place, room in (("tmp", f"size={DISK},nr_inodes=4096"),
                        ("dev/shm", "size=64k,nr_inodes=64")):
        Path(new, place).mkdir(parents=True)
        _mount("tmpfs", f"{new}/{place}", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
               f"{room},mode=1777")
    for path in paths:
        _bind(path, new, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV)
    Path(new, "empty").touch(0o444)
    for path in hidden:
        _hide(f"{new}{path}", f"{new}/empty")
    for device in ("null", "zero", "random", "urandom"):
        _bind(f"/dev/{device}", new, ATTR_RDONLY | ATTR_NOSUID | ATTR_NOEXEC)
    _set_attributes(new, ATTR_NOSUID)
    os.chdir(new)
    _syscall(_native("pivot_root"), "pivot_root", b".", b".")
    _check(libc.umount2(b".", MNT_DETACH), "leaving the old root")
    _set_attributes("/", ATTR_RDONLY, flags=0)
    os.chdir("/tmp")


def _drop_privileges() -> None:
    for capability in range(64):
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            break
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    _syscall(_native("capset"), "dropping capabilities", header, none)


def _limit(memory: bool) -> None:
    limits = {resource.RLIMIT_CPU: CPU_SECONDS, resource.RLIMIT_FSIZE: DISK,
              resource.RLIMIT_NOFILE: 128, resource.RLIMIT_CORE: 0, resource.RLIMIT_NPROC: 256}
    if memory:  # on top of the libraries that are mapped already
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = mapped + MEMORY
    for which, value in limits.items():
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def seccomp_filter():
    """The filter of system calls: a list of what is allowed; no new process, no new program."""
    try:
        import pyseccomp
    except (ImportError, RuntimeError, OSError) as error:
        raise JailError(f"seccomp: {error}; install pyseccomp and libseccomp") from None
    rules = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    for name in ALLOWED:
        with contextlib.suppress(ValueError, RuntimeError):  # unknown on this architecture
            rules.add_rule(pyseccomp.ALLOW, name)
    for command in FCNTL:
        rules.add_rule(pyseccomp.ALLOW, "fcntl", pyseccomp.Arg(1, pyseccomp.EQ, command))
    rules.add_rule(pyseccomp.ALLOW, "socketpair",  # between threads of one process: asyncio's
                   pyseccomp.Arg(0, pyseccomp.EQ, socket.AF_UNIX))
    rules.add_rule(pyseccomp.ALLOW, "clone",  # threads, no processes, no namespaces
                   pyseccomp.Arg(0, pyseccomp.MASKED_EQ, CLONE_THREAD, CLONE_THREAD))
    rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")  # libc then falls back to clone
    return rules


class Jail:
    """What is made once, in the forkserver, for all sandboxed processes of one level."""

    def __init__(self, level: str, empty: str):
        """empty: an empty folder, over which each body builds its root."""
        self.strict, self.empty = level == "strict", empty
        self.paths = visible_paths()
        self.hidden = withheld.hidden_paths(self.paths, ROOT / "lib")
        self.filter = seccomp_filter() if self.strict else None
        if self.strict and threading.active_count() > 1:
            raise JailError("the forkserver has threads; it cannot fork safely")

    def fork(self, body, channel: int, lifeline: int) -> None:
        """Start body(channel) in a new jail; it dies when the other end of lifeline closes.

        channel, lifeline: file descriptors, which the forkserver may close after this call. Raises
        JailError when the machine refuses.
        """
        ours, supervisors = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                self._supervise(body, channel, lifeline, ours[1], supervisors[0])
            os._exit(1)
        os.close(ours[1])
        os.close(supervisors[0])
        try:
            if self.strict:
                word = os.read(ours[0], 200)
                if word != b"unshared":
                    raise JailError(word.decode() or "the supervisor ended")
                self._map_ids(pid)
                os.write(supervisors[1], b"mapped")
        finally:
            os.close(ours[0])
            os.close(supervisors[1])

    def _map_ids(self, pid: int) -> None:
        """Root keeps root for the mounts and nobody for the rest; others become nobody."""
        root = os.geteuid() == 0
        for kind, own in (("uid", os.geteuid()), ("gid", os.getegid())):
            if not root and kind == "gid":
                Path(f"/proc/{pid}/setgroups").write_text("deny")
            lines = f"0 0 1\n{NOBODY} {NOBODY} 1\n" if root else f"{NOBODY} {own} 1\n"
            try:
                Path(f"/proc/{pid}/{kind}_map").write_text(lines)
            except OSError as error:
                os.kill(pid, signal.SIGKILL)
                raise JailError(f"user namespace: {kind}_map: {error.strerror}") from None

    def _supervise(self, body, channel: int, lifeline: int, tell: int, hear: int) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if self.strict:
            try:
                for name, flag in {"user": NEW["user"], "other": sum(NEW.values()) - NEW["user"]
                                   }.items():
                    _check(libc.unshare(flag), f"{name} namespaces")
            except JailError as error:
                os.write(tell, str(error).encode()[:200])
                return
            libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
            os.write(tell, b"unshared")
            if os.read(hear, 10) != b"mapped":
                return
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                self._confine(channel)
                body(channel)
            os._exit(0)
        keep_only(lifeline)
        with contextlib.suppress(OSError):
            os.read(lifeline, 1)  # the grader lets go, or is dead
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def _confine(self, channel: int) -> None:
        os.setsid()
        try:
            _limit(memory=Path("/proc/self/statm").exists())
            if self.strict:
                _new_root(self.empty, self.paths, self.hidden)
                _drop_privileges()
            else:
                os.chdir(tempfile.mkdtemp(dir=self.empty))  # where cells may write
            _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
            null = os.open("/dev/null", os.O_RDWR)
            for standard in (0, 1, 2):
                os.dup2(null, standard)
            keep_only(channel)
            # Dropping the uid clears it, and death of the supervisor must still be felt.
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
            if self.filter:
                self.filter.load()
        except (OSError, JailError, ValueError) as error:
            from grading.sandbox import protocol

            protocol.send(socket.socket(fileno=channel),
                      {"failed": f"{type(error).__name__}: {error}"})
            os._exit(1)


def keep_only(fd: int) -> None:
    """Close every file but standard input and output, and fd."""
    os.closerange(3, fd)
    os.closerange(fd + 1, 65536)
