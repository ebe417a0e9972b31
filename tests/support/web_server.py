"""A web server that answers as a test tells it: files with and without ranges, broken, slow, redirected."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass
class Page:
    """What is found at a path."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str | None = None
    ranges: bool = True
    """Whether parts of it can be had; they need an ETag to be asked for."""
    break_after: int | None = None
    """Bytes after which the connection of the next answer ends."""
    wait_for: threading.Event | None = None
    """What the rest of the next answer waits for after `break_after` bytes, instead of breaking."""
    drips: bool = False
    """Whether the body comes byte by byte, until nobody listens any more."""


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    path: str
    headers: Mapping[str, str]


class WebServer(ThreadingHTTPServer):
    """Serves `pages` on loopback and remembers who asked for what."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, Page | Callable[[], Page]] = {}
        self.asked: list[Asked] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def paths(self) -> list[str]:
        return [one.path for one in self.asked]

    def put(self, path: str, body: bytes = b"", **told: Any) -> str:
        """Serve this; returns its address."""
        self.pages[path] = Page(body, **told)
        return self.url + path

    def redirect(self, path: str, target: str, status: int = 302) -> str:
        return self.put(path, status=status, headers={"Location": target})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(5)

    def handle_error(self, request: Any, client_address: Any) -> None: ...


class Handler(BaseHTTPRequestHandler):
    server: WebServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(Asked(self.path, {name.lower(): value for name, value in self.headers.items()}))
        found = self.server.pages.get(self.path.partition("?")[0], Page(b"nothing here", 404))
        page = found() if callable(found) else found
        start = self._start(page)
        body = page.body[start:]
        status = 206 if start else page.status
        headers = {"Content-Type": "audio/wav", "Content-Length": str(len(body)), "Connection": "close"}
        if page.etag:
            headers["ETag"] = page.etag
            if self.headers.get("If-None-Match") == page.etag:
                status, body, headers["Content-Length"] = 304, b"", "0"
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(page.body) - 1}/{len(page.body)}"
        self.send_response(status)
        for name, value in {**headers, **page.headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self._send(page, body)

    def _start(self, page: Page) -> int:
        """Where the answer begins: a part is given only of the file that was meant."""
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        meant = self.headers.get("If-Range") in (None, page.etag)
        return int(wanted[1]) if wanted and page.ranges and meant else 0

    def _send(self, page: Page, body: bytes) -> None:
        for at in range(len(body) if page.drips else 0):
            self.wfile.write(body[at : at + 1])
            time.sleep(0.02)
        if page.break_after is None:
            self.wfile.write(body)
            return
        at = page.break_after
        self.wfile.write(body[:at])
        self.wfile.flush()
        if page.wait_for is not None:
            hold, page.wait_for, page.break_after = page.wait_for, None, None
            hold.wait(60)
            self.wfile.write(body[at:])
            return
        page.break_after = None
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None: ...


class Canary:
    """Listens at every address of this machine, and remembers whether anybody came."""

    def __init__(self) -> None:
        self.visits = 0
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        self._socket = socket.create_server(("", 0), family=family, dualstack_ipv6=both)
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return
            self.visits += 1
            with visitor:
                visitor.recv(4096)
                visitor.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)
