"""A model hub on loopback: the parts of the hub's API that a fetch needs, and the ways in which it can fail."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BIG = "model.bin"


@dataclass
class ModelHub:
    """Serves the files of one folder as every repository. Change its fields to make it fail."""

    folder: Path
    address: str = ""
    stall_after: int | None = None
    """Send this many bytes of the big file, then nothing, the connection open."""
    cut_after: int | None = None
    """Send this many bytes of the big file (in each answer), then hang up."""
    tamper: bool = False
    ranges: bool = True
    status: int = 200
    requests: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    released: threading.Event = field(default_factory=threading.Event)

    def listing(self) -> bytes:
        """What the hub says of the repository."""
        siblings = []
        for path in sorted(self.folder.iterdir()):
            content = path.read_bytes()
            each: dict[str, object] = {"rfilename": path.name, "size": len(content), "blobId": git_hash(content)}
            if path.name == BIG:
                sha256 = hashlib.sha256(content).hexdigest()
                each["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            siblings.append(each)
        return json.dumps({"id": "some/model", "modelId": "some/model", "sha": COMMIT, "siblings": siblings}).encode()


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextmanager
def model_hub(folder: Path) -> Iterator[ModelHub]:
    """Serve a model's folder until the end of the block."""
    hub = ModelHub(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path.startswith("/api/") and not self.path.startswith("/api/models/"):
                self.answer(404, b"{}")  # the library asks for more than models; nothing depends on it
                return
            hub.requests.append(f"{self.path} {self.headers.get('Range', '')}".strip())
            hub.tokens.add(self.headers.get("Authorization"))
            if hub.status != 200:
                self.answer(hub.status, b"{}")
            elif self.path.startswith("/api/models/"):
                self.answer(200, hub.listing())
            else:
                self.send_file(self.path.rpartition("/")[2])

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def send_file(self, name: str) -> None:
            content = (hub.folder / name).read_bytes()
            begin = 0
            if hub.ranges and (wanted := self.headers.get("Range")):
                begin = int(wanted.removeprefix("bytes=").rstrip("-"))
            rest = content[begin:]
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            if name != BIG:
                self.wfile.write(rest)
                return
            if hub.tamper:
                rest = rest[:-1] + bytes([rest[-1] ^ 1])
            limit = hub.cut_after if hub.cut_after is not None else hub.stall_after
            self.wfile.write(rest[:limit])
            self.wfile.flush()
            if limit is not None and limit < len(rest):
                if hub.stall_after is not None:
                    hub.released.wait(30)
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        server.server_close()
        thread.join(60)
