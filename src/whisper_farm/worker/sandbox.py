"""What a process gives up before it reads what strangers sent: the network, other processes, and nearly all files.

Linux, without any privilege. Landlock leaves a process the files of Python and the system to read, and one folder to
write. A filter of system calls (seccomp) leaves it no socket, no program to start and no other process to look into.
Both hold for its life. Elsewhere, or where the kernel has them not, they do not hold.

A cutter has both from the start (`enter`). A recogniser may read models, too (`confine`). It has its filter once the
model is loaded (`leave`). Both leave it what its engine says that it needs. Where there is a GPU, any file is left to
it, for the driver has files of its own.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from whisper_farm.engines.engine import Need

READ, WRITE_TOO = 0b1100, 0b0100_0001_0010_1110
"""Rights of Landlock: to read files and folders; to make, write, cut and remove files as well."""
OF_FILES = 0b0100_0000_0000_0110
"""Of these rights, those that a single file can have."""
FILES_BY_VERSION = (13, 14, 15, 15, 16)
"""How many rights each version of Landlock knows; the last one stands for all later ones."""
SYSTEM = (
    *("/usr", "/lib", "/lib64", "/nix/store", "/etc/ld.so.cache", "/etc/localtime", "/sys/devices/system"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/dev/null", "/dev/urandom"),
)
NETWORK = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/services"),
    *("/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/run/systemd/resolve"),
)
"""What whoever uses the network reads of the system besides."""
GPUS = ("nvidia[0-9]*", "dxg", "kfd")
"""Devices, by their names in `/dev`."""
BLAS_THREADS = "OPENBLAS_NUM_THREADS"
ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
NEEDED: Mapping[Need, Sequence[tuple[int, int]]] = {
    "network": [(41, 198)],  # socket
    "programs": [(59, 221), (322, 281)],  # execve, execveat
}
FORBIDDEN = (
    *((101, 117), (310, 270), (311, 271), (438, 438)),  # ptrace, process_vm_readv and _writev, pidfd_getfd
    *((425, 425), (321, 280), (323, 282), (298, 241)),  # io_uring_setup, bpf, userfaultfd, perf_event_open
    *((272, 97), (165, 40), (248, 217), (250, 219)),  # unshare, mount, add_key, keyctl
)
"""System calls by their numbers on both architectures: what an engine may need, and what nobody does."""
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER, _ALL_THREADS = 38, (317, 277), 1, 1
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001


def enter(writable: str = "") -> list[str]:
    """Give it all up, in the only thread there is, for good. Returns the names of what holds."""
    if sys.platform != "linux":
        return []
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        return []
    held = {"landlock": _restrict_files(libc, writable), "seccomp": _restrict_calls(libc, NEEDED)}
    return [name for name, holds in held.items() if holds]


def confine(engine: str, writable: str, readable: Iterable[str] = ()) -> bool:
    """Give up all files but those that a recogniser needs, in the only thread there is; whether that holds."""
    if sys.platform != "linux" or any(next(Path("/dev").glob(name), None) for name in GPUS):
        return False
    needs = _needs_of(engine)
    libc = ctypes.CDLL(None, use_errno=True)
    if needs is None or "files" in needs or libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        return False
    alone = len([*Path("/proc/self/task").iterdir()]) == 1
    network = "network" in needs
    return _restrict_files(libc, writable, [*readable, *(NETWORK if network else ())], network) and alone


def _needs_of(engine: str) -> Collection[Need] | None:
    """What this engine needs; None where that is not known. What it imports for that starts no threads."""
    from whisper_farm.engines.registry import engine_traits
    from whisper_farm.errors import EngineUnavailable

    threads = os.environ.get(BLAS_THREADS)
    os.environ[BLAS_THREADS] = "1"
    try:
        return engine_traits(engine).needs
    except EngineUnavailable:
        return None  # it will say so when it is asked what it can do
    finally:
        del os.environ[BLAS_THREADS]
        if threads is not None:
            os.environ[BLAS_THREADS] = threads


def leave(needs: Collection[Need]) -> bool:
    """Give up what a recogniser does not need any more, in all its threads; whether that holds."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    unneeded: list[Need] = [one for one in NEEDED if one not in needs]
    return not libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) and _restrict_calls(libc, unneeded)


def _restrict_files(libc: ctypes.CDLL, writable: str, readable: Iterable[str] = (), network: bool = False) -> bool:
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    handled = (1 << FILES_BY_VERSION[min(version, len(FILES_BY_VERSION)) - 1]) - 1
    lines, scopes = 0b11 if version >= 4 and not network else 0, 0b11 if version >= 6 else 0
    wanted = struct.pack("=QQQ", handled, lines, scopes)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = libc.syscall(_CREATE_RULESET, wanted, ctypes.c_size_t(len(wanted)), 0)
    if ruleset < 0:
        return False
    for path in {*_readable(), *readable}:
        _allow(libc, ruleset, path, READ & handled)
    if writable:
        _allow(libc, ruleset, writable, (READ | WRITE_TOO) & handled)
    restricted = bool(libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    os.close(ruleset)
    return restricted


def _readable() -> Iterator[str]:
    package = str(Path(__file__).resolve().parents[2])
    yield from {*SYSTEM, package, sys.prefix, sys.base_prefix, *filter(None, sys.path)}
    yield from filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":"))


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    """Allow this below a path; what is not there needs no rule."""
    try:
        below = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    rule = struct.pack("=Qi", rights if Path(path).is_dir() else rights & OF_FILES, below)
    libc.syscall(_ADD_RULE, ruleset, 1, rule, 0)
    os.close(below)


def _restrict_calls(libc: ctypes.CDLL, unneeded: Iterable[Need]) -> bool:
    if platform.machine() not in ARCHITECTURES:
        return False
    architecture, column = ARCHITECTURES[platform.machine()]
    pairs = [*(pair for need in unneeded for pair in NEEDED[need]), *FORBIDDEN]
    numbers = [pair[column] for pair in pairs]
    steps = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _REFUSE), (_LOAD, 0, 0, 0)]
    steps += [(_AT_LEAST, len(numbers) + 1, 0, 0x40000000)]  # the other numbers of x86
    steps += [(_EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    whole = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(program)))
    return bool(libc.syscall(_SECCOMP[column], _FILTER, _ALL_THREADS, ctypes.byref(whole)) == 0)
