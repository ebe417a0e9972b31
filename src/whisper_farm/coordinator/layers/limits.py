"""Bounds on what a client may send and how slowly it may send or read. Each dialect has its own.

Bodies that are no uploads are read here, whole and in time, before anything parses them; large ones take turns.
Uploads pass through piece by piece: their route bounds the size, but they must keep a pace. An answer that the client
does not read is given up. The time between requests is bounded by the web server.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whisper_farm.coordinator.answers.errors import ErrorShape, error_response
from whisper_farm.coordinator.layers.headers import header
from whisper_farm.coordinator.layers.quotas import Turns
from whisper_farm.errors import FarmError, InvalidRequest, ServerBusy, TooLarge, TooSlow

BODY_SECONDS = 30.0
"""A body that is no upload must be there within this time."""
UPLOAD_IDLE_SECONDS = 60.0
"""Longest pause between two pieces of an upload."""
UPLOAD_BYTES_PER_SECOND = 1024
"""Slowest pace of an upload, after its first minute."""
SEND_SECONDS = 60.0
"""Longest time in which a client takes nothing of an answer."""
SMALL_BODY_BYTES = 64 << 10
"""A larger body takes its turn, so that many of them do not fill the memory."""
LARGE_BODIES_AT_ONCE = 8
"""In one dialect: clients do not take the turns of workers."""
TURN_SECONDS = 10.0
"""Longest wait for a turn."""
DRAIN_BYTES = 1 << 20
DRAIN_SECONDS = 1.0
"""How much of a refused upload is still read, so that the client hears the refusal instead of a broken pipe."""

_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class RequestLimits:
    """The middleware. A PUT, POST or PATCH below the path `uploads` holds a file, every other body is a message."""

    def __init__(
        self,
        app: ASGIApp,
        max_body_bytes: int,
        uploads: str | None,
        shape: ErrorShape,
        larger: Mapping[str, int],
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        """`larger` has the paths whose bodies may be larger than `max_body_bytes`, and how large."""
        self.app, self.max_body_bytes, self.larger = app, max_body_bytes, larger
        self.uploads, self.shape, self.body_seconds = uploads, shape, body_seconds
        self._turns = Turns(LARGE_BODIES_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if b"%00" in scope["query_string"] or "\0" in scope["path"]:
            error = InvalidRequest("The address holds a NUL character, which no text here may have.")
            await error_response(error, self.shape, {"Connection": "close"})(scope, receive, send)
            return
        holds_file = scope["method"] in ("PUT", "POST", "PATCH")
        if holds_file and self.uploads is not None and _path(scope).startswith(self.uploads):
            upload = _Upload(receive, send)
            await self.app(scope, upload.receive, upload.send)
            return
        send = _patient(send)
        async with AsyncExitStack() as turn:
            try:
                body = await self._body(scope, receive, turn)
            except FarmError as error:
                await error_response(error, self.shape, {"Connection": "close"})(scope, receive, send)
                return
            if body is not None:
                await self.app(scope, _replay(body, receive), send)

    async def _body(self, scope: Scope, receive: Receive, turn: AsyncExitStack) -> bytes | None:
        """The whole body; None when the client went away. A large one has its turn until it is answered."""
        length, kind = header(scope, "content-length"), header(scope, "content-type").lower()
        announced = int(length) if length.isdecimal() else 0
        limit = self.larger.get(_path(scope), self.max_body_bytes)
        if announced > limit:
            await _drain(receive)
            raise _too_large(limit)
        if announced > SMALL_BODY_BYTES:
            await self._take_turn(scope, receive, turn)
        try:
            async with asyncio.timeout(self.body_seconds):
                body = await self._read(scope, receive, turn, limit, has_turn=announced > SMALL_BODY_BYTES)
        except TimeoutError:
            raise TooSlow(f"The body was not here within {self.body_seconds:g} seconds.") from None
        if body is not None and (not kind or "json" in kind) and holds_nul(body):
            raise InvalidRequest("The body holds a NUL character, which no text here may have.")
        return body

    async def _read(
        self, scope: Scope, receive: Receive, turn: AsyncExitStack, limit: int, has_turn: bool
    ) -> bytes | None:
        pieces = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            pieces += message.get("body", b"")
            if len(pieces) > limit:
                await _drain(receive)
                raise _too_large(limit)
            if len(pieces) > SMALL_BODY_BYTES and not has_turn:
                await self._take_turn(scope, receive, turn)
                has_turn = True
            if not message.get("more_body", False):
                return bytes(pieces)

    async def _take_turn(self, scope: Scope, receive: Receive, turn: AsyncExitStack) -> None:
        caller = scope.get("state", {}).get("caller")
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await turn.enter_async_context(self._turns.one(getattr(caller, "party", "")))
        except TimeoutError:
            await _drain(receive)
            raise ServerBusy("The server is busy with other large requests; try again.") from None


class _Upload:
    """Keeps an upload at a pace, and closes the connection when its answer comes before its end."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = _patient(send)
        self._started = time.monotonic()
        self._bytes = 0
        self._ended = False

    async def receive(self) -> Message:
        if self._ended:
            return await self._receive()
        left = self._started + UPLOAD_IDLE_SECONDS + self._bytes / UPLOAD_BYTES_PER_SECOND - time.monotonic()
        try:
            async with asyncio.timeout(min(left, UPLOAD_IDLE_SECONDS)):
                message = await self._receive()
        except TimeoutError:
            raise TooSlow from None
        self._bytes += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and not self._ended:
            self._ended = await _drain(self._receive)
            if not self._ended:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await self._send(message)


def holds_nul(body: bytes | bytearray) -> bool:
    """Whether a JSON text holds a NUL, as it is or escaped. A backslash that is escaped itself escapes nothing."""
    return b"\0" in body or (b"\\u0000" in body and _ESCAPED_NUL.search(body) is not None)


def _path(scope: Scope) -> str:
    return str(scope["path"]).removeprefix(scope["root_path"])


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit} bytes, the most for this call.", max_bytes=limit)


async def _drain(receive: Receive) -> bool:
    """Read and drop a little more of a body that nobody wants. True when its end was reached."""
    dropped = 0
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while dropped < DRAIN_BYTES:
                message = await receive()
                if not message.get("more_body", False):
                    return True
                dropped += len(message.get("body", b""))
    except TimeoutError:
        pass
    return False


def _patient(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await send(message)

    return wrapped


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body already read, and then what comes from the client (that it has gone)."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed
