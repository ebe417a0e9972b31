"""The calls of the farm's HTTP API: one request, its answer as a message, and when it may be sent again.

Promises: every call ends within its time-out, all tries together. What the farm may have heard is sent again only where
that does no harm. An error of the farm comes back as the exception class that the farm raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

from whisper_farm.client.transport import HttpRequest, NoAnswerError, Query, Reply, Transport, try_again, understood
from whisper_farm.errors import ServerUnreachable
from whisper_farm.protocol.wire import Answer, Request

TRIES = 4
BUSY = frozenset({502, 503, 504})
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Told = TypeVar("Told", bound=Answer)


class BusyError(NoAnswerError):
    """The farm, or what stands before it, has no time just now."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"status {reply.status}")
        self.reply = reply


class Calls:
    """The calls to one farm, as the owner of one access token."""

    def __init__(self, server: str, token: str, timeout: float) -> None:
        self.transport = Transport(server, {"Authorization": f"Bearer {token}"})
        self.timeout = timeout

    async def ask(
        self,
        kind: type[Told],
        method: Method,
        path: str,
        *,
        query: Query | None = None,
        body: Request | None = None,
        again: bool = False,
    ) -> Told:
        """Send a request, and read the message that answers it. A GET may always be sent again."""
        return understood(kind, await self.send(method, path, query, body, again=again or method == "GET"))

    async def send(
        self, method: Method, path: str, query: Query | None = None, body: Request | None = None, *, again: bool
    ) -> bytes:
        """Send a request, again where that does no harm, all within the time-out."""
        content = None if body is None else body.model_dump_json(exclude_unset=True).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        request = HttpRequest(method, path, query, headers, content)
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self.timeout

        async def once() -> bytes:
            reply = await self.transport.exchange(request, max(0.0, give_up_at - loop.time()))
            return self.answered(reply, again)

        return await self.until_answered(once, self.timeout, again)

    async def until_answered(
        self, once: Callable[[], Awaitable[bytes]], patience_seconds: float, again: bool, tries: int | None = TRIES
    ) -> bytes:
        """Try until there is an answer. What the farm may have heard is sent again only if that does no harm."""

        def failed(error: NoAnswerError) -> None:
            if error.sent and not again:
                raise error

        try:
            return await try_again(once, patience_seconds=patience_seconds, tries=tries, failed=failed)
        except BusyError as busy:
            raise self.transport.error_of(busy.reply) from busy
        except NoAnswerError as error:
            raise ServerUnreachable(f"The farm at {self.transport.server} does not answer ({error}).") from error

    def answered(self, reply: Reply, again: bool) -> bytes:
        """What an answer holds. Raises its error where it is no success; `BusyError` where to try again may help."""
        if again and reply.status in BUSY:
            raise BusyError(reply)
        if not reply.succeeded:
            raise self.transport.error_of(reply)
        return reply.content
