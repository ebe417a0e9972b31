"""A small HTTP server in a thread of its own that speaks for a `FakeFarm`, and misbehaves when told to."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from support.connections import connections
from support.fake_farm import FakeFarm
from whisper_farm.errors import FarmError, Unauthorized
from whisper_farm.protocol.wire import ErrorBody, ErrorDetail, Message
from whisper_farm.protocol.worker import ClaimRequest

TOKEN = "the-secret-of-a-worker"


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def name(self) -> str:
        """The call: `claim`, `audio`, `uploads`…"""
        return self.path.split("/")[3] if self.path.count("/") >= 3 else self.path


class FakeServer:
    """Serves a farm on a port of its own. The counters say how many of the next calls of a name go wrong."""

    def __init__(self, farm: FakeFarm, open_to_all: bool = False) -> None:
        self.farm = farm
        self.lose_requests: Counter[str] = Counter()
        self.lose_replies: Counter[str] = Counter()
        self.garble_replies: Counter[str] = Counter()
        self.cut_bodies: Counter[str] = Counter()
        self.refusals: dict[str, list[ErrorDetail]] = {}
        """How the next calls of a name are refused."""
        self.changes: dict[str, Callable[[Any], Any]] = {}
        """What becomes of the JSON of every answer to a call."""
        self.delays: dict[str, float] = {}
        """Seconds by which the answers to a call are late."""
        self.down = False
        self.source_bytes = 1 << 40
        """Requests for later bytes of a recording wait until this grows."""
        self.requests: list[Request] = []
        self.lost = 0
        self.port = 0
        self._open_to_all = open_to_all
        self._loop = asyncio.new_event_loop()
        self._stopping = False

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def named(self, name: str) -> list[Request]:
        """All requests of one name so far."""
        return [request for request in self.requests if request.name == name]

    async def _serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        async with connections(self._client, 1 << 24) as self.port:
            ready.set()
            await stop.wait()
            self._stopping = True

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await _read(reader):
                self.requests.append(request)
                if self.down or _take(self.lose_requests, request.name):
                    self.lost += 1
                    break
                status, headers, body = await self._answer(request)
                await asyncio.sleep(self.delays.get(request.name, 0))
                if self.down or _take(self.lose_replies, request.name):
                    self.lost += 1
                    break
                if _take(self.garble_replies, request.name):
                    status, headers, body = 200, {}, b"<html>It works!</html>"
                length = len(body)
                if _take(self.cut_bodies, request.name):
                    body = body[: length // 2]
                lines = [
                    f"HTTP/1.1 {status} X",
                    f"Content-Length: {length}",
                    *(f"{k}: {v}" for k, v in headers.items()),
                ]
                writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
                await writer.drain()
                if len(body) < length:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        try:
            if not self._open_to_all:
                if request.headers.get("authorization") != f"Bearer {TOKEN}":
                    raise Unauthorized
                assert request.headers["whisper-farm-protocol"] == "1"
            if request.path.startswith(("/api/work/source/", "/api/work/audio/")):
                return await self._blob(request)
            if request.method == "PUT":
                self.farm.uploads[request.path.rsplit("/", 1)[1]] = request.body
                return 204, {}, b""
            return 200, {"Content-Type": "application/json"}, await self._call(request)
        except _RefusedError as refused:
            return 422, {}, _json(ErrorBody(error=refused.detail))
        except FarmError as error:
            return error.status, {}, _json(ErrorBody(error=ErrorDetail(code=error.code, message=error.message)))

    async def _call(self, request: Request) -> bytes:
        if self.refusals.get(request.name):
            raise _RefusedError(self.refusals[request.name].pop(0))
        kind, call = self.farm.calls()[request.name]
        message = kind.model_validate_json(request.body)
        answer: Any = call(message)
        if isinstance(message, ClaimRequest):
            give_up_at = time.monotonic() + message.wait_seconds
            while not answer.claims and not answer.drain and not self._stopping and time.monotonic() < give_up_at:
                await asyncio.sleep(0.02)
                answer = call(message)
        change = self.changes.get(request.name)
        return json.dumps(change(answer.model_dump(mode="json"))).encode() if change else _json(answer)

    async def _blob(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        data = self.farm.blob(request.path.rsplit("/", 1)[1])
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))
        if not wanted:
            return 200, {}, data
        first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
        held = request.name == "source"
        while held and first >= self.source_bytes and not self._stopping:  # noqa: ASYNC110 (set by another thread)
            await asyncio.sleep(0.01)
        return 206, {"Content-Range": f"bytes {first}-{last}/{len(data)}"}, data[first : last + 1]


class _RefusedError(Exception):
    def __init__(self, detail: ErrorDetail) -> None:
        self.detail = detail


def _json(message: Message) -> bytes:
    return message.model_dump_json().encode()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = first.split(" ")
    return Request(method, path, headers, body)


def _take(counter: Counter[str], name: str) -> bool:
    if counter[name] <= 0:
        return False
    counter[name] -= 1
    return True


@contextmanager
def serving(farm: FakeFarm, open_to_all: bool = False) -> Iterator[FakeServer]:
    """Serve the farm while the block runs."""
    server, ready = FakeServer(farm, open_to_all), threading.Event()
    loop, stop = server._loop, asyncio.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(server._serve(ready, stop))
        loop.close()

    thread = threading.Thread(target=run, name="fake farm")
    thread.start()
    assert ready.wait(60)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        assert not thread.is_alive()
