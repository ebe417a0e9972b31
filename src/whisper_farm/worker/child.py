"""One child process, seen from the agent: started, talked to, killed, reaped, and described when it died.

Promises: `close` ends the process and collects it, and never raises. A child that dies makes every `send` and `receive`
raise `ChildDiedError`, with how it ended and its last words. The end of what it prints is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Literal

from whisper_farm.to_the_end import close_pipe, collect, to_the_end
from whisper_farm.worker.bounds import only_harmless, without_farm
from whisper_farm.worker.pipe import PipeError, PipeMessage, packed, receive_message

Role = Literal["recogniser", "fetcher", "cutter"]
_PIPE_BYTES = 1 << 20
_LAST_WORDS_BYTES = 2000
_FEW_ARENAS = {"MALLOC_ARENA_MAX": "2"}
"""For glibc (others ignore it): threads share freed memory."""


class ChildDiedError(Exception):
    """The child process is gone. The message says how it ended; `last_words` is the end of its standard error."""

    def __init__(self, message: str, last_words: str = "") -> None:
        self.last_words = last_words
        super().__init__(message)

    @property
    def short_of_memory(self) -> bool:
        """Whether it looks as if there was too little memory: the library said so, or the kernel took it."""
        return "out of memory" in self.last_words.lower() or "SIGKILL" in str(self)

    @property
    def out_of_processor_time(self) -> bool:
        """Whether the kernel ended it because it had used up its processor time."""
        return "SIGXCPU" in str(self)

    @property
    def evidence(self) -> str:
        """All that is known about it, for the books."""
        return f"{self}\n{self.last_words}".strip()


class Child:
    """A running child process. Make it with `Child.start`."""

    def __init__(
        self, role: Role, process: asyncio.subprocess.Process, scratch: tempfile.TemporaryDirectory[str] | None = None
    ) -> None:
        self.role, self._scratch = role, scratch
        self.pid = process.pid
        self._process = process
        self._reason: str | None = None
        self._said: deque[bytes] = deque()
        self._listening = asyncio.create_task(self._listen(), name=f"stderr of {role} {process.pid}")

    @classmethod
    async def start(
        cls, role: Role, writable: Path | None = None, engine: str = "", readable: Iterable[Path] = ()
    ) -> Child:
        """Start a process for this role; ChildDiedError if the operating system refuses.

        A cutter may write in the `writable` folder, and nowhere else. A recogniser may read models at these paths. It
        has a folder for its temporary files, which ends with it.
        """
        environment = only_harmless() if role == "cutter" else {**_FEW_ARENAS, **without_farm()}
        scratch = None
        try:
            if role == "recogniser":
                scratch = tempfile.TemporaryDirectory(prefix="whisper-farm-", ignore_cleanup_errors=True)
                writable = Path(scratch.name)
                environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), scratch.name)
            told = role, str(os.getpid()), str(writable or ""), engine, *map(str, readable)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "whisper_farm.worker.child_main", *told),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=_PIPE_BYTES,
                env=environment,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except BaseException as error:
            if scratch is not None:
                scratch.cleanup()
            if not isinstance(error, OSError):  # whoever waited is told to stop
                raise
            raise ChildDiedError(f"The {role} process could not be started: {error}") from error
        return cls(role, process, scratch)

    async def send(self, message: PipeMessage, body: bytes = b"") -> None:
        """Send one message, waiting until the pipe has room."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(packed(message, body))
            await self._process.stdin.drain()
        except (ConnectionError, RuntimeError):
            raise await self._died() from None

    def post(self, message: PipeMessage) -> None:
        """Send a short message without waiting; a dead child does not mind."""
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):
            self._process.stdin.write(packed(message))

    async def receive(self, silence_seconds: float | None = None) -> tuple[PipeMessage, bytes]:
        """The next message; ChildDiedError when there will be none. A child silent for so long is killed."""
        assert self._process.stdout is not None
        try:
            async with self._killed_after(silence_seconds):
                message = await receive_message(self._process.stdout)
            if message is not None:
                return message
        except PipeError as error:
            self.kill(f"was killed: it sent something that is no message ({error})")
        raise await self._died()

    @property
    def running(self) -> bool:
        """Whether the process has not ended, as far as is known."""
        return self._process.returncode is None

    def kill(self, reason: str) -> None:
        """End the process at once; `reason` is what `ChildDiedError` will say."""
        if self._reason is None and self._process.returncode is None:
            self._reason = reason
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        """End the process and collect it, also when cancelled. Safe to call again, and when it is dead already.

        A process that the operating system does not let go of, though it is killed, is left behind after a while: that
        must not end the worker.
        """
        await to_the_end(self._close())

    async def _close(self) -> None:
        self.kill("was closed")
        for each in (0, 1):  # not its last words
            close_pipe(self._process, each)
        await asyncio.wait([self._listening], timeout=1.0)
        self._listening.cancel()
        await collect(self._process)
        if self._scratch is not None:
            await asyncio.to_thread(self._scratch.cleanup)

    @contextlib.asynccontextmanager
    async def _killed_after(self, seconds: float | None) -> AsyncIterator[None]:
        if seconds is None:
            yield
            return
        reason = f"was killed: it said nothing for {seconds:g} s"
        timer = asyncio.get_running_loop().call_later(seconds, self.kill, reason)
        try:
            yield
        finally:
            timer.cancel()

    async def _died(self) -> ChildDiedError:
        """Collect the process (killing one that only closed its pipe) and say how it ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._process.wait()
        self.kill("closed its pipe but did not end")
        await self.close()
        how = self._reason or exit_reason(self._process.returncode)
        if self.running:
            how += ", but the operating system does not let go of it"
        return ChildDiedError(f"The {self.role} process {self.pid} {how}.", self.last_words)

    @property
    def last_words(self) -> str:
        """The end of what the child wrote to its standard error."""
        return b"".join(self._said).decode(errors="replace")[-_LAST_WORDS_BYTES:].strip()

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        while words := await self._process.stderr.read(_LAST_WORDS_BYTES):
            self._said.append(words)
            while sum(map(len, self._said)) - len(self._said[0]) >= _LAST_WORDS_BYTES:
                self._said.popleft()


def exit_reason(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None:
        return "did not end"
    if code >= 0:
        return f"ended with exit status {code}" if code < 1 << 31 else f"ended with exit status {code:#x}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    hint = ", as the kernel does when memory is short" if name == "SIGKILL" else ""
    return f"was killed by signal {-code} ({name}{hint})"
