"""HTTP as a worker or client speaks it with a farm: one exchange, and one way of trying again.

Promises: an exchange ends within its time-out, even where a server drips; only bytes that pass at a fair rate earn more
time. No answer takes more memory than was allowed. The access token goes to the farm's own address and nowhere else.
Nothing follows a redirect, and no proxy of the environment is asked for this machine.
This module knows no message: what an answer means is up to who asked.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from whisper_farm.errors import FarmError, InvalidRequest, ServerUnreachable, every_error
from whisper_farm.protocol.wire import Answer, ErrorBody

T = TypeVar("T")
AnswerType = TypeVar("AnswerType", bound=Answer)
Query = Mapping[str, str | int | float]
Content = bytes | AsyncIterator[bytes]

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
SLOWEST_BYTES_PER_SECOND = 10_000
MAX_ANSWER_BYTES = 256 << 20
"""A transcript of a day of speech has some fifty megabytes."""
MAX_ERROR_BYTES = 1 << 16
_OF_PROXIES = {
    413: "a proxy before it takes no body of this size: raise its limit (nginx: client_max_body_size).",
    502: "a proxy is there, but does not reach the farm's server: does that run?",
    504: "a proxy before it waited no longer: give it more time (nginx: proxy_read_timeout).",
}
"""What to do about answers that proxies give in the place of a farm."""
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables of the environment that name certificates to trust."""
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""This machine; a proxy named in the environment is not for it."""


class NoAnswerError(Exception):
    """There was no answer, or one that cannot count as an answer of the farm."""

    def __init__(self, reason: str, sent: bool = True) -> None:
        super().__init__(reason)
        self.sent = sent
        """Whether the request may have reached the farm."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What is sent. `url` is a path of the farm's own, or an address elsewhere."""

    method: str
    url: str
    query: Query | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content: Content | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    phrase: str
    content: bytes

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300

    def refusal(self) -> FarmError | None:
        """The error that this stands for; None if it is not in the form of a farm's error."""
        try:
            detail = ErrorBody.read(self.content).error
        except ValidationError:
            return None
        details = {name: value for name, value in detail.details.items() if name != "message"}
        return every_error().get(detail.code, FarmError)(detail.message, **details)


@cache
def _trusted(*named: str | None) -> ssl.SSLContext:
    """The certificates that httpx trusts, with those `named`. To read them takes some 30 ms, so they are kept."""
    return httpx.create_ssl_context()


_NO_REQUEST = (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError)


class Transport:
    """The connections to one farm. Use it in one event loop."""

    def __init__(self, server: str, headers: Mapping[str, str]) -> None:
        self.turn_to(server, headers)

    @cached_property
    def _http(self) -> httpx.AsyncClient:
        """Made by the first request: while certificates are read, the children of a worker load."""
        no_proxies = {f"all://{host}": None for host in LOOPBACK}
        return httpx.AsyncClient(verify=_trusted(*map(os.environ.get, CERTIFICATES)), mounts=no_proxies)

    def turn_to(self, server: str, headers: Mapping[str, str]) -> None:
        """`headers` are sent to the farm's own address only. Raises `InvalidRequest` where `server` is no address."""
        self.server = checked_address(server)
        self._headers = dict(headers)

    async def close(self) -> None:
        """Let go of all connections."""
        await self._http.aclose()

    def is_own(self, url: str) -> bool:
        """Whether an address, as it stands in a transfer, is the farm's own: a path without a host."""
        return url.startswith("/") and not url.startswith("//")

    async def exchange(self, request: HttpRequest, seconds: float, most_bytes: int = MAX_ANSWER_BYTES) -> Reply:
        """One request and its answer, cut off just beyond `most_bytes`. Raises what `stream` raises."""
        body = bytearray()
        async with self.stream(request, seconds) as (answer, deadline):
            most = max(most_bytes, MAX_ERROR_BYTES if answer.is_error else 0)
            async for part in answer.aiter_bytes():
                body += part
                _earn(deadline, len(part))
                if len(body) > most:
                    break
        return Reply(answer.status_code, answer.reason_phrase, bytes(body))

    @asynccontextmanager
    async def stream(
        self, request: HttpRequest, seconds: float
    ) -> AsyncIterator[tuple[httpx.Response, asyncio.Timeout]]:
        """An answer whose body the caller reads, and the deadline, which it may move.

        Raises `NoAnswerError`, or `InvalidRequest` where no request can be made.
        """
        own, content = self.is_own(request.url), request.content
        try:
            async with asyncio.timeout(seconds) as deadline:
                if isinstance(content, AsyncIterator):
                    content = _earning(content, deadline)
                asked = self._http.stream(
                    request.method,
                    self.server + request.url if own else request.url,
                    params=request.query,
                    headers={**request.headers, **(self._headers if own else {})},
                    content=content,
                    timeout=seconds,
                )
                async with asked as answer:
                    yield answer, deadline
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            reason = "it speaks HTTP, not HTTPS" if "WRONG_VERSION_NUMBER" in str(error) else str(error)
            raise NoAnswerError(reason or type(error).__name__, sent=False) from error
        except (*_NO_REQUEST, ValueError, OverflowError) as error:
            raise InvalidRequest(f"No request can be made to {request.url!r}: {error}") from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise NoAnswerError(str(error) or type(error).__name__) from error
        except OSError as error:  # a time-out among them
            raise NoAnswerError(str(error) or f"no whole answer within {seconds:g} s") from error

    def error_of(self, reply: Reply) -> FarmError:
        """The exception that an answer stands for that is no success."""
        where = f"{self.server} answered {reply.status} {reply.phrase}"
        advice = _OF_PROXIES.get(reply.status, "is the address right?")
        return reply.refusal() or ServerUnreachable(f"{where}, and not as a Whisper Farm server does; {advice}")


def checked_address(server: str) -> str:
    """The address of a farm's server, without a slash at its end. Raises `InvalidRequest` if it can be none."""
    try:
        parts = urlsplit(server)
        host, _, _ = (parts.hostname or "").encode("idna"), parts.port, httpx.URL(server)
        if parts.scheme in ("http", "https") and re.fullmatch(rb"[!-~]+", host):
            return server.rstrip("/")
    except (httpx.InvalidURL, ValueError):
        pass
    raise InvalidRequest(f"{server} is no address of a server; write it as http://HOST:PORT.")


def understood(kind: type[AnswerType], content: str | bytes) -> AnswerType:
    """The message that the farm sent. Raises `ServerUnreachable` where it is none."""
    try:
        return kind.read(content)
    except ValidationError as error:
        message = f"The farm's answer makes no sense to this version of the program: {error}"
        raise ServerUnreachable(message) from error


async def _earning(blocks: AsyncIterator[bytes], deadline: asyncio.Timeout) -> AsyncIterator[bytes]:
    async for block in blocks:
        yield block
        _earn(deadline, len(block))


def _earn(deadline: asyncio.Timeout, passed_bytes: int) -> None:
    """Bytes that have passed earn the time that they may take."""
    deadline.reschedule((deadline.when() or 0) + passed_bytes / SLOWEST_BYTES_PER_SECOND)


async def try_again(
    once: Callable[[], Awaitable[T]],
    *,
    patience_seconds: float,
    tries: int | None = None,
    failed: Callable[[NoAnswerError], None] = lambda error: None,
) -> T:
    """Do something until it is answered; pauses double, with jitter, so that many do not come back at once.

    The last `NoAnswerError` is raised when the patience, or the number of tries, would be exceeded. `failed` hears of
    each one, and may raise.
    """
    loop = asyncio.get_running_loop()
    give_up_at, pause = loop.time() + patience_seconds, FIRST_PAUSE_SECONDS
    while True:
        try:
            return await once()
        except NoAnswerError as error:
            if (task := asyncio.current_task()) and task.cancelling():
                raise asyncio.CancelledError from error  # it came with a time-out, and a library kept it to itself
            failed(error)
            tries = None if tries is None else tries - 1
            if tries == 0 or loop.time() + pause > give_up_at:
                raise
        await asyncio.sleep(pause * random.uniform(0.5, 1))
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
