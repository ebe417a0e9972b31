"""A server that answers anything at all, and what a hostile one might: heads that lie, and that lead elsewhere."""

from __future__ import annotations

import socket
import threading

from hypothesis import strategies as st

from support.web_server import Canary

Headers = list[tuple[str, str]]


class RawServer:
    """Sends these bytes to whoever comes, and hangs up."""

    def __init__(self) -> None:
        self.answer = b""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/talk.mp3"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return
            with visitor:
                visitor.settimeout(5)
                try:
                    visitor.recv(65536)
                    visitor.sendall(self.answer)
                except OSError:
                    continue

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


STATUS = st.sampled_from([200, 206, 204, 301, 302, 304, 307, 308, 400, 404, 416, 429, 500, 503, 999])
NAMES = st.sampled_from(
    ["Content-Length", "Content-Range", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Location", "ETag",
     "Retry-After", "Last-Modified", "Connection", "X"]
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        ["0", "5", "-1", "99999999999999999999", "chunked", "gzip", "bytes 0-4/5", "bytes 3-4/5", "bytes 5-3/2",
         "http://127.0.0.2:{port}/", "//127.0.0.2:{port}/", "http://[::ffff:127.0.0.2]:{port}", "http://0:{port}/",
         "http://[::1]:{port}/", "text/html", "file:///etc/passwd", "\\\\127.0.0.2\\x", "http://a@127.0.0.2:{port}/", "http://",
         "http://127.0.0.2:{port}#@example.org/", "/talk.mp3", "?", "http://[", '"x"', "W/",
         "http://127.0.0.2:{port}%2f/"]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40),
)  # fmt: skip
HEADERS: st.SearchStrategy[Headers] = st.lists(st.tuples(NAMES, VALUES), max_size=5)


def head(status: int, headers: Headers, canary: Canary) -> bytes:
    """These as they go over the wire; addresses in them lead to the canary."""
    lines = "".join(f"{name}: {value.replace('{port}', str(canary.port))}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode("latin-1")
