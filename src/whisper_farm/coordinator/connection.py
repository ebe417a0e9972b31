"""One connection of the web server, with what a peer may cost before anybody knows who it is.

Promises: the head of a request, and the trailer after a body in chunks, are bounded in size, in lines and in time.
What exceeds them is answered with 431, and the connection ends. A host that no server can have is refused. A peer that
vanished without a word is noticed by the operating system. It does not look at bodies: `layers/limits.py` does.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import sys
from contextlib import suppress
from urllib.parse import urlsplit

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from whisper_farm.errors import HeadTooLarge
from whisper_farm.protocol.wire import ErrorBody, ErrorDetail

HEAD_SECONDS = 20.0
"""The head of a request must be there within this time after the connection, or the answer before."""
HEAD_BYTES = 64 << 10
"""Of a head, a trailer, or whatever else stands between two pieces of a body."""
HEAD_LINES = 100
"""Headers of one request, those of its trailer as well."""
READ_BYTES = 16 << 10
"""Parsed at a time, so that a head that is too large is noticed before it is parsed."""
DROP_SECONDS = 1.0
DROP_BYTES = 1 << 20
"""How much is read and dropped after a refusal, so that the peer hears it instead of a broken pipe."""
VANISHED_MILLISECONDS = 60_000
"""A peer that acknowledges nothing for so long is gone."""


def _most_connections() -> int:
    """So many that files, the database and others' requests find room among the descriptors of this process."""
    if sys.platform == "win32":
        return 10_000
    import resource

    return max(64, min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 2 // 3))


MOST_CONNECTIONS = _most_connections()
"""With more than these, those of nobody known are closed, and then those of the owner who has most."""


class HttpConnection(HttpToolsProtocol):
    """uvicorn's connection, with the head of a request bounded in time, bytes and lines."""

    _head_timer: asyncio.TimerHandle | None = None
    _turns = itertools.count()
    _waits_since = 0
    """A number of its turn: of those that came in one moment the clock does not say which is the oldest."""
    _refused = False
    _dropped = 0
    _unused_bytes = 0
    """Bytes since the last that were a piece of a body or ended something."""
    _lines = 0
    _in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        super().connection_made(transport)
        _notice_vanished_peer(transport)
        self._expect_head()
        self._make_room()

    def _make_room(self) -> None:
        """With too many connections close the oldest of nobody known, or else of the owner who has most; some at once,
        for to look at all of them takes its time."""
        if len(self.connections) <= MOST_CONNECTIONS:
            return
        others = [one for one in self.connections if isinstance(one, HttpConnection) and one is not self]
        by_owner: dict[str | None, list[HttpConnection]] = {}
        for one in others:
            if not one.transport.is_closing():
                by_owner.setdefault(one._owner, []).append(one)
        crowd = by_owner.get(None) or max(by_owner.values(), key=len, default=[])
        for one in sorted(crowd, key=lambda one: one._waits_since)[: 1 + MOST_CONNECTIONS // 100]:
            one.transport.close()

    @property
    def _owner(self) -> str | None:
        """Whose request is being answered; None where none is, or where nobody is known yet."""
        if self._head_timer is not None or self.scope is None:
            return None
        return getattr(self.scope.get("state", {}).get("caller"), "owner", None)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), READ_BYTES):
            if self._refused:
                return self._drop(len(data) - start)
            piece = data[start : start + READ_BYTES]
            self._unused_bytes += len(piece)
            if self._unused_bytes > HEAD_BYTES:
                return self._refuse()
            if self.transport.is_closing():
                return None
            super().data_received(piece)
        return self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._lines, self._in_head = 0, True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines += 1
        if self._lines > HEAD_LINES:
            raise HeadTooLarge  # ends the parser; `send_400_response` says why
        if self._in_head:  # what a trailer says is not heeded
            if name.lower() == b"host":
                urlsplit(b"//" + value)  # a ValueError ends the parser: this is no name of a server
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unused_bytes, self._in_head = 0, False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unused_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unused_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """The parser gave up."""
        if self._lines > HEAD_LINES:
            self._refuse()
        else:
            super().send_400_response(msg)

    def _refuse(self) -> None:
        self._refused = True
        self._stop_timer()
        cycle = getattr(self, "cycle", None)
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self.transport.write(_answer())
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._head_timer = self.loop.call_later(DROP_SECONDS, self.transport.close)

    def _drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped > DROP_BYTES:
            self.transport.close()

    def _expect_head(self) -> None:
        """Start the clock unless it runs already; stop it while a request is being answered."""
        if self._refused:
            return
        cycle = getattr(self, "cycle", None)  # None until the first request
        if cycle is not None and not cycle.response_complete:
            self._stop_timer()
        elif self._head_timer is None and not self.transport.is_closing():
            self._waits_since = next(self._turns)
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def _answer() -> bytes:
    error = HeadTooLarge()
    body = ErrorBody(error=ErrorDetail.of(error)).model_dump_json().encode()
    head = (
        f"HTTP/1.1 {error.status} Request Header Fields Too Large\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


def _notice_vanished_peer(transport: asyncio.Transport) -> None:
    peer = transport.get_extra_info("socket")
    if peer is None:
        return
    with suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_USER_TIMEOUT", VANISHED_MILLISECONDS)):
            if hasattr(socket, name):
                peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
