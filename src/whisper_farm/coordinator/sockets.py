"""Connections: the socket we listen on, and how long a client may keep one open without asking anything.

The web server bounds the time between two requests, but not the time a client takes to send the head of one; here
that is bounded too. A peer that vanished without a word is noticed by the operating system.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from whisper_farm.errors import FarmError

HEAD_SECONDS = 20.0
"""The head of a request must be there within this time after the connection, or the answer before."""
VANISHED_MILLISECONDS = 60_000
"""A peer that acknowledges nothing for so long is gone."""
BACKLOG = 2048

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Connection
else:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol as Connection


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket bound to that address, or an error that says why not. Port 0 takes any free one."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
    except OSError as error:
        raise FarmError(f"{host} is no address to listen on: {error.strerror or error}.") from error
    try:
        if os.name == "posix":  # elsewhere it would let two servers share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        reason, other = error.strerror or error, "--host" if error.errno == errno.EADDRNOTAVAIL else "--port"
        raise FarmError(f"Cannot listen on {host}, port {port}: {reason}. Choose another with {other}.") from error
    return listener


def connection_class(head_seconds: float = HEAD_SECONDS) -> type[asyncio.Protocol]:
    """uvicorn's connection, with the time for the head of a request bounded."""

    class Impatient(Connection):
        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
            super().connection_made(transport)
            _notice_vanished_peer(transport)
            self._expect_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._expect_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._heed_no_head()
            super().connection_lost(exc)

        def _expect_head(self) -> None:
            """Start the clock unless it runs already; stop it while a request is being answered."""
            cycle = getattr(self, "cycle", None)  # None until the first request
            if cycle is not None and not cycle.response_complete:
                self._heed_no_head()
            elif self._head_timer is None and not self.transport.is_closing():
                self._head_timer = self.loop.call_later(head_seconds, self.transport.close)

        def _heed_no_head(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

    return Impatient


def _notice_vanished_peer(transport: asyncio.Transport) -> None:
    peer = transport.get_extra_info("socket")
    if peer is None:
        return
    with suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_USER_TIMEOUT", VANISHED_MILLISECONDS)):
            if hasattr(socket, name):
                peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
