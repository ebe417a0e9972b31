"""Workers as processes of this machine.

Every process holds a lock on a file for as long as it lives: the kernel gives it up with the process, whatever ends
it. So any coordinator on this machine sees what runs, no process id is ever taken for another's, and gone means gone.
Workers end with the coordinator that started them: it says so to them, and they watch it. Needs POSIX file locks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import tempfile
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from whisper_farm.fleet.providers.calls import WORKER
from whisper_farm.fleet.providers.provider import CallFailed, Exit, Launch, Provider, Seen
from whisper_farm.whole_files import write_whole

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FORGET_SECONDS = 3600.0
"""How long the files of a process that has ended are kept."""
CLOSE_SECONDS = 1.0
LAST_LINE_BYTES = 4096
_SAFE = re.compile(r"^[A-Za-z0-9._-]{1,64}$")


@dataclass(frozen=True, slots=True)
class LocalProcess:
    """What is written down of a process beside its lock."""

    launch_id: str
    pool: str
    pid: int
    started_at: float
    ended_at: float | None = None
    status: int | None = None
    asked: bool = False


class LocalProvider(Provider):
    """The processes of this machine. `folder` holds their locks and logs, one folder below it for each farm."""

    def __init__(self, folder: str | None = None) -> None:
        if fcntl is None:
            raise ValueError("the provider local needs POSIX file locks, which this system does not have")
        self._folder = Path(folder or Path(tempfile.gettempdir()) / f"whisper-farm-{os.getuid()}")
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def look(self, owner: str, known: Mapping[str, str | None]) -> Sequence[Seen]:
        """What ended is told until its files are forgotten."""
        found = []
        for lock in sorted(self._of(owner).glob("*.lock")):
            seen = self._look(lock)
            if seen.state != "gone" or seen.launch_id in known:
                found.append(seen)
            elif time.time() - lock.stat().st_mtime > FORGET_SECONDS:
                _forget(lock)
        return found

    async def create(self, launch: Launch) -> Seen:
        if not _SAFE.match(launch.launch_id):
            raise CallFailed.of("configuration", f"{launch.launch_id} is no name of a launch.")
        lock = self._of(launch.owner) / f"{launch.launch_id}.lock"
        handle = _locked(lock)
        try:
            process = await self._start(launch, lock, handle)
        except OSError as error:
            _forget(lock)
            raise CallFailed.of("configuration", f"The worker cannot be started: {error.strerror}.") from error
        finally:
            os.close(handle)
        told = LocalProcess(launch.launch_id, launch.pool.name, process.pid, time.time())
        try:
            _write(lock, told)
        except OSError as error:  # nobody would find it again
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            _forget(lock)
            raise CallFailed.of("transient", f"The worker cannot be written down: {error.strerror}.") from error
        self._running[launch.launch_id] = process
        self._keep(self._reap(lock, process, told))
        return self._look(lock)

    async def stop(self, machine_id: str, grace_seconds: float) -> None:
        lock = self._find(machine_id)
        self._signal(lock, signal.SIGTERM)
        self._keep(self._kill_after(lock, grace_seconds))

    async def destroy(self, machine_id: str) -> None:
        """The processes that it started are ended with it."""
        self._signal(self._find(machine_id), signal.SIGKILL)

    async def close(self) -> None:
        """End the processes that this coordinator started, and collect them."""
        mine = dict(self._running)
        for _ in range(2):  # the second one means: at once
            for process in mine.values():
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.05)
        if mine:
            await asyncio.wait([asyncio.ensure_future(one.wait()) for one in mine.values()], timeout=CLOSE_SECONDS)
        for process in mine.values():
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _start(self, launch: Launch, lock: Path, handle: int) -> asyncio.subprocess.Process:
        environment = {
            **os.environ, **launch.environment, "WHISPER_FARM_WORKER_PARENT": str(os.getpid()),
            "WHISPER_FARM_WORKER_MACHINE_ID": launch.launch_id,
        }  # fmt: skip
        with lock.with_suffix(".log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(launch.pool.command or WORKER),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=environment, pass_fds=(handle,),
                start_new_session=True,
            )  # fmt: skip

    async def _reap(self, lock: Path, process: asyncio.subprocess.Process, told: LocalProcess) -> None:
        status = await process.wait()
        with contextlib.suppress(OSError):
            _write(lock, replace(_read(lock) or told, ended_at=time.time(), status=status))
        self._running.pop(told.launch_id, None)

    async def _kill_after(self, lock: Path, seconds: float) -> None:
        await asyncio.sleep(seconds)
        with contextlib.suppress(CallFailed):
            self._signal(lock, signal.SIGKILL)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _of(self, owner: str) -> Path:
        if not _SAFE.match(owner):
            raise CallFailed.of("configuration", f"{owner} is no tag of a farm.")
        folder = self._folder / owner
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise CallFailed.of("configuration", f"The folder {folder} cannot be made: {error.strerror}.") from error
        return folder

    def _find(self, machine_id: str) -> Path:
        found = next(iter(self._folder.glob(f"*/{machine_id}.lock")), None) if _SAFE.match(machine_id) else None
        if found is None:
            raise CallFailed.of("missing", f"There is no process {machine_id}.")
        return found

    def _look(self, lock: Path) -> Seen:
        told = _read(lock)
        launch_id = lock.stem
        started = told.started_at if told else lock.stat().st_mtime
        pool = told.pool if told else None
        if _is_locked(lock):
            return Seen(launch_id, launch_id, "running", "", pool, started)
        if launch_id in self._running:  # it has ended, and how is not written down yet
            return Seen(launch_id, launch_id, "stopping", "", pool, started)
        ended = told.ended_at if told else None
        exit_, message = _ending(told, lock)
        return Seen(launch_id, launch_id, "gone", "", pool, started, ended, exit_, message)

    def _signal(self, lock: Path, number: signal.Signals) -> None:
        told = _read(lock)
        if not _is_locked(lock):
            raise CallFailed.of("missing", f"The process {lock.stem} has ended.")
        if told is None:
            raise CallFailed.of("transient", f"The process {lock.stem} is just being started.")
        with contextlib.suppress(OSError):  # a full disk keeps nothing running
            _write(lock, replace(told, asked=True))
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(told.pid, number)
            else:
                os.kill(told.pid, number)


def _locked(lock: Path) -> int:
    """The file, locked; the process that inherits it holds the lock until its end."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise CallFailed.of("exists", f"A process of the launch {lock.stem} runs already.") from error
    return handle


def _is_locked(lock: Path) -> bool:
    try:
        handle = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _ending(told: LocalProcess | None, lock: Path) -> tuple[Exit, str]:
    if told is None or told.status is None:
        return "lost", "It ended with the coordinator that had started it."
    if told.status == 0:
        return "ok", ""
    if told.asked:
        return "requested", ""
    if told.status < 0:
        return "lost", f"It was ended by signal {-told.status}."
    return "crash", f"It ended with status {told.status}: {_last_line(lock)}"


def _last_line(lock: Path) -> str:
    try:
        with lock.with_suffix(".log").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LAST_LINE_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")


def _read(lock: Path) -> LocalProcess | None:
    try:
        return LocalProcess(**json.loads(lock.with_suffix(".json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _write(lock: Path, told: LocalProcess) -> None:
    write_whole(lock.with_suffix(".json"), json.dumps(asdict(told)).encode())


def _forget(lock: Path) -> None:
    for suffix in (".json", ".log", ".lock"):
        lock.with_suffix(suffix).unlink(missing_ok=True)
