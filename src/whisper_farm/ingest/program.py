"""A program that works on what comes from outside: bounded in time and output, without our secrets, and reaped.

It is killed with all that it started as soon as nobody reads from it any more.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from whisper_farm.to_the_end import collect, kill_session

PIECE_BYTES = 1 << 16
MOST_SAID = 2000
KEPT = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "SSL_CERT_FILE", "SSL_CERT_DIR", "VIRTUAL_ENV", "PYTHONPATH")
"""What a program may know of our environment: no secrets."""


class Program:
    """A program that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        assert process.stderr is not None
        self._saying = asyncio.ensure_future(_said(process.stderr))

    async def pieces(self) -> AsyncIterator[bytes]:
        """What it writes."""
        assert self._process.stdout is not None
        while piece := await self._process.stdout.read(PIECE_BYTES):
            yield piece

    async def write(self, content: bytes) -> None:
        """All that it is to read."""
        assert self._process.stdin is not None
        with suppress(ConnectionError):
            self._process.stdin.write(content)
            await self._process.stdin.drain()
            self._process.stdin.close()

    async def ended(self) -> tuple[int, str]:
        """Its exit status, and the last line of what it said of errors."""
        said = (await self._saying).decode(errors="replace").strip()
        return await self._process.wait(), said.rpartition("\n")[2]


@asynccontextmanager
async def run_program(command: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator[Program]:
    """Run a program in an empty folder while the block runs."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="whisper-farm-", ignore_cleanup_errors=True) as folder:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            cwd=folder,
            env={**kept, "HOME": folder, "TMPDIR": folder, **environment},
            start_new_session=True,
        )
        one = Program(process)
        try:
            yield one
        finally:
            kill_session(process)
            await collect(process)


async def _said(stream: asyncio.StreamReader) -> bytes:
    said = b""
    while piece := await stream.read(PIECE_BYTES):
        said = (said + piece)[-MOST_SAID:]
    return said
