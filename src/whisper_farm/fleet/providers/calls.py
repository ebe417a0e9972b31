"""How providers reach others: command lines, and HTTP APIs that speak JSON.

A command line runs without a shell, has a time limit, and is collected whatever happens. What fails raises
`CallFailed`, whose fault says what may have been done.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from whisper_farm.fleet.providers.provider import CallFailed
from whisper_farm.to_the_end import collect, kill_session

WORKER = (sys.executable, "-m", "whisper_farm", "worker")
"""The command line of a worker, for providers whose machines have this program where it is here."""
MAX_OUTPUT_BYTES = 8 << 20
REQUEST_SECONDS = 25.0


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
        if process.returncode is None:  # one that has ended may have left behind what is to stay
            kill_session(process)
        await collect(process)
    if len(printed) > MAX_OUTPUT_BYTES:
        raise CallFailed.of("configuration", f"{line[0]} printed more than {MAX_OUTPUT_BYTES} bytes.")
    return Output(process.returncode or 0, printed.decode(errors="replace"), said.decode(errors="replace"))


class JsonApi:
    """An HTTP API that speaks JSON. `name` is what its failures call it."""

    def __init__(self, name: str, address: str, token: str | None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._name = name
        self._client = httpx.AsyncClient(base_url=address.rstrip("/"), headers=headers, timeout=REQUEST_SECONDS)

    async def send(
        self, method: str, path: str, refusal: Callable[[httpx.Response], CallFailed], **given: Any
    ) -> httpx.Response:
        """The answer to a request. `refusal` says what one means that is no success."""
        try:
            answer = await self._client.request(method, path, **given)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise CallFailed.of("transient", f"{self._name} cannot be reached: {error}") from error
        except httpx.HTTPError as error:
            raise CallFailed.of("unknown", f"{self._name} did not answer: {type(error).__name__} {error}") from error
        if answer.is_success:
            return answer
        raise refusal(answer)

    def read(self, answer: httpx.Response, kind: type) -> Any:
        """What an answer holds: an object or a list, as `kind` says."""
        try:
            found = answer.json()
        except ValueError as error:
            raise CallFailed.of("unknown", f"{self._name} answered with something that is no JSON.") from error
        if not isinstance(found, kind):
            kinds = f"{type(found).__name__}, not with {kind.__name__}"
            raise CallFailed.of("unknown", f"{self._name} answered with {kinds}.")
        return found

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()
