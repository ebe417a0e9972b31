"""A line that can be bad: a proxy before a coordinator that loses, delays, doubles, garbles and swallows messages,
requests as well as answers.

It knows just enough HTTP to read a request whole and name its call. Every request gets a connection of its own to the
server and one answer; then both connections are closed. So whether the server has done what it was asked is known when
a reply is dropped. Runs in a thread of its own; all methods may be called from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, get_args

from support.connections import connections

Fault = Literal["lose_request", "lose_reply", "delay", "duplicate", "garble", "black_hole", "hold_reply", "late_reply"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
"""The last two: what was asked is done, and the answer stays on an open line until the client gives up, or comes late.
"""
START_SECONDS = 60.0
GARBAGE = b"<html><h1>It works!</h1></html>"
GARBLED = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
    len(GARBAGE),
    GARBAGE,
)
_MAX_HEAD_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent, as it goes on to the server."""

    call: str
    """`claim`, `complete`, `audio`, `upload` (the PUT of a chunk) …"""
    raw: bytes

    @property
    def body(self) -> bytes:
        """What follows its headers."""
        return self.raw.partition(b"\r\n\r\n")[2]


class FaultProxy:
    """Use it in a `with`. `url` is what clients are told; `port` is the server's."""

    def __init__(self, port: int, delay_seconds: float = 0.3, hold_seconds: float = 60.0) -> None:
        self.delay_seconds = delay_seconds
        self.hold_seconds = hold_seconds
        """How long a black hole keeps a connection open before it breaks."""
        self.chance: Callable[[str], Fault | None] = lambda call: None
        """Asked about every request that has no fault waiting for it."""
        self.heard: Callable[[Request], None] = lambda request: None
        """Told of every request, in the proxy's thread."""
        self.suffered: Counter[tuple[Fault, str]] = Counter()
        self.calls: Counter[str] = Counter()
        self._port = port
        self._own_port = 0
        self._waiting: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._dead = False
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fault proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(START_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_SECONDS)
        assert not self._thread.is_alive()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._own_port}"

    def next(self, call: str, fault: Fault, count: int = 1) -> None:
        """The next `count` requests of this call suffer this."""
        self._loop.call_soon_threadsafe(lambda: self._waiting[call].extend([fault] * count))  # not before a `mend`

    def cut_off(self) -> None:
        """From now on every request is swallowed: the line is half open."""
        self._dead = True

    def mend(self) -> None:
        """Let requests through again, and nothing befall them."""
        self._dead = False
        self.chance = lambda call: None
        self._loop.call_soon_threadsafe(self._waiting.clear)

    def reconnect(self) -> None:
        """Let requests through again, as `chance` will have it."""
        self._dead = False

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        async with connections(self._client, 1 << 20) as self._own_port:
            self._ready.set()
            await self._stop.wait()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if request := await _read(reader):
                self.calls[request.call] += 1
                self.heard(request)
                await self._answer(request, self._fault(request.call), reader, writer)
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    def _fault(self, call: str) -> Fault | None:
        waiting = self._waiting[call]
        fault = "black_hole" if self._dead else waiting.popleft() if waiting else self.chance(call)
        if fault:
            self.suffered[fault, call] += 1
        return fault

    async def _answer(
        self, request: Request, fault: Fault | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        match fault:
            case "lose_request":
                writer.transport.abort()
            case "black_hole":
                await _first(_left(reader), asyncio.sleep(self.hold_seconds))
                writer.transport.abort()
            case "lose_reply":
                await self._forward(request)
                writer.transport.abort()
            case "hold_reply":
                await self._forward(request)
                await _left(reader)
            case "late_reply":
                answer = await self._forward(request)
                await _first(_left(reader), asyncio.sleep(self.delay_seconds))
                await _send(writer, answer)
            case "garble":
                await self._forward(request)
                await _send(writer, GARBLED)
            case "duplicate":
                await self._forward(request)
                await _first(_left(reader), self._forward(request, writer))
            case _:
                if fault == "delay":
                    await asyncio.sleep(self.delay_seconds)
                await _first(_left(reader), self._forward(request, writer))

    async def _forward(self, request: Request, to: asyncio.StreamWriter | None = None) -> bytes:
        """Send it on; give the answer to the client as it comes, or keep it, whether or not the client still waits."""
        upstream, out = await asyncio.open_connection("127.0.0.1", self._port)
        kept = b""
        try:
            await _send(out, request.raw)
            while block := await upstream.read(1 << 16):
                if to is None:
                    kept += block
                else:
                    await _send(to, block)
        finally:
            out.close()
            with contextlib.suppress(OSError):
                await out.wait_closed()
        return kept


async def _read(reader: asyncio.StreamReader) -> Request | None:
    """One request, whole; None if the client leaves without one."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    if len(head) > _MAX_HEAD_BYTES:
        return None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    kept = [line for line in lines if not line.lower().startswith("connection:")]
    length = next((int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")), 0)
    body = await reader.readexactly(length)
    method, path, _ = first.split(" ")
    parts = path.partition("?")[0].split("/")
    call = parts[3] if parts[1:3] == ["api", "work"] else parts[2] if len(parts) > 2 else parts[-1]
    raw = "\r\n".join([first, *kept, "Connection: close", "", ""]).encode("latin-1") + body
    return Request("upload" if method == "PUT" and call == "uploads" else call, raw)


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def _left(reader: asyncio.StreamReader) -> None:
    """Return when the client is gone."""
    with contextlib.suppress(OSError):
        while await reader.read(1 << 12):
            pass


async def _first(*works: Coroutine[None, None, object]) -> None:
    """Wait for one of them, end the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
