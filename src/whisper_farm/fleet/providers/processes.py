"""Command lines that providers run: without a shell, with a time limit, and collected whatever happens."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from whisper_farm.fleet.providers.provider import CallFailed

MAX_OUTPUT_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Output:
    """How a command ended, and what it printed and said."""

    status: int
    printed: str
    said: str

    @property
    def words(self) -> str:
        """What it has to say for itself, in one line."""
        return " ".join((self.said or self.printed).split())[-500:]


async def run(line: Sequence[str], seconds: float, environment: Mapping[str, str], given: str | None = None) -> Output:
    """Run a command line to its end; `given` is its standard input.

    Raises `CallFailed`: `configuration` if it cannot be run, `unknown` if it was ended for taking too long.
    """
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *line, stdin=asyncio.subprocess.DEVNULL if given is None else pipe, stdout=pipe, stderr=pipe,
            start_new_session=True, env=dict(environment),
        )  # fmt: skip
    except OSError as error:
        raise CallFailed.of("configuration", f"{line[0]} cannot be run: {error.strerror}.") from error
    try:
        async with asyncio.timeout(seconds):
            printed, said = await process.communicate(None if given is None else given.encode())
    except TimeoutError:
        raise CallFailed.of("unknown", f"{line[0]} did not end within {seconds:g} s.") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if len(printed) > MAX_OUTPUT_BYTES:
        raise CallFailed.of("configuration", f"{line[0]} printed more than {MAX_OUTPUT_BYTES} bytes.")
    return Output(process.returncode or 0, printed.decode(errors="replace"), said.decode(errors="replace"))
