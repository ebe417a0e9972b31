"""What a child may use that reads files of strangers: memory, processor time, and no secrets.

The kernel keeps to the limits (POSIX), so a library that loops or asks for more cannot talk its way out. Elsewhere they
do not hold. A child that uses up its processor time dies by `SIGXCPU`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress

CUTTER_MEMORY_BYTES = 2 << 30
"""Of address space. An ordinary cutter needs a quarter of it, whatever the length of the recording."""
OPEN_SECONDS = 10
"""Processor time for opening a recording."""
STEP_SECONDS = 120
"""Processor time from one chunk to the next."""
_KEEPING = {-4: 0, -2: 256 << 20, -1: (1 << 31) - 1}
"""M_MMAP_MAX, M_TOP_PAD and M_TRIM_THRESHOLD of `mallopt`: map no buffer, grow in big steps, do not trim."""
HARMLESS = re.compile(
    r"(PYTHON(PATH|HOME|UTF8|IOENCODING|DONTWRITEBYTECODE|WARNINGS)|PATH|(LD|DYLD)_[A-Z_]*PATH|LANG|LC_[A-Z]+|TZ|TMPDIR|TEMP|TMP"
    r"|SYSTEMROOT|WINDIR|SYSTEMDRIVE|COMSPEC|PATHEXT|HOME|USERPROFILE|[A-Z]+_NUM_THREADS)"
)
"""Names of environment variables that a process needs in order to run, and that hold no secret."""
OF_THE_FARM = re.compile(r"WHISPER_FARM_.*|AWS_.*|PG.*")
"""Names of variables that open a farm, its database or its object store."""


def bound_memory(bound_bytes: int) -> None:
    """Let this process have so much address space and no more."""
    if sys.platform == "linux":
        import resource

        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (bound_bytes, bound_bytes))


def bound_recogniser() -> None:
    """Let this process, and what it starts, fill no more memory than this machine has.

    Address space is no measure here: who uses a GPU takes far more of it than memory.
    """
    if sys.platform == "linux":
        import resource

        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (machine, machine))


def keep_memory() -> None:
    """Let this process keep what it frees from now on, where glibc knows how.

    A recogniser asks for the same big buffers in every batch: to hand them back in between cost a tenth of its time in
    page faults. What loading a model leaves behind is not worth keeping, so this is for a process that has loaded.
    """
    if sys.platform == "linux":
        import ctypes

        with suppress(AttributeError):
            for option, value in _KEEPING.items():
                ctypes.CDLL(None).mallopt(option, value)


def bound_processor(seconds: int) -> None:
    """Let this process use so many seconds of processor time from now on; asked again, the count begins anew."""
    if sys.platform == "win32":
        return
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, most))


def only_harmless(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a child that reads what strangers sent."""
    return {name: value for name, value in environment.items() if HARMLESS.fullmatch(name.upper())}


def without_farm(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a recogniser: an engine may need keys of its own, but none of the farm's."""
    return {name: value for name, value in environment.items() if not OF_THE_FARM.fullmatch(name.upper())}
