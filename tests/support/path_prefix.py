"""A reverse proxy as people put it before the farm: it takes a path off, and passes everything else on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BLOCK = 1 << 16


@contextmanager
def path_prefix(port: int, prefix: str) -> Iterator[int]:
    """Serve what is at `port` below `prefix`; gives the port of the proxy. One request a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, port, prefix.encode()), daemon=True).start()
        yield listener.getsockname()[1]


def _accept(listener: socket.socket, port: int, prefix: bytes) -> None:
    with suppress(OSError):
        while True:
            client = listener.accept()[0]
            threading.Thread(target=_serve, args=(client, port, prefix), daemon=True).start()


def _serve(client: socket.socket, port: int, prefix: bytes) -> None:
    with suppress(OSError), client, socket.create_connection(("127.0.0.1", port)) as server:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (block := client.recv(BLOCK)):
                return
            head += block
        method, _, rest = head.partition(b" ")
        if not rest.startswith(prefix):
            client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        rest = rest.removeprefix(prefix).replace(b"\r\nConnection: keep-alive", b"\r\nConnection: close", 1)
        server.sendall(method + b" " + rest)
        threading.Thread(target=_pass_on, args=(client, server), daemon=True).start()
        _pass_on(server, client)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(BLOCK):
            target.sendall(block)
        target.shutdown(socket.SHUT_WR)
