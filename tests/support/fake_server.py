"""A server on a real socket that answers as it is told, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answer = tuple[int, bytes] | tuple[int, bytes, str] | Callable[["Talk"], None]
"""Status and body (and content type), or a function that does the talking itself."""


class Talk(BaseHTTPRequestHandler):
    """One connection, seen from the server."""

    server: FakeServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None: ...

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            return

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(Asked(self.command, self.path, dict(self.headers), body))
        answer = self.server.next_answer(f"{self.command} {self.path.partition('?')[0]}")
        if callable(answer):
            answer(self)
        else:
            self.send(*answer)

    def send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def hang_up(self) -> None:
        """End the connection without an answer."""
        self.close_connection = True

    def stream(self, text: str) -> None:
        """Send a piece of an event stream whose end is the end of the connection."""
        self.wfile.write(text.encode())
        self.wfile.flush()

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815


class FakeServer(ThreadingHTTPServer):
    """Answers each call with the next of the answers told for it; the last one again and again."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Talk)
        self.asked: list[Asked] = []
        self.answers: dict[str, list[Answer]] = {}
        self.always: Answer | None = None
        """The answer to every call, if there is one."""
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def tell(self, call: str, *answers: Answer) -> None:
        self.answers[call] = list(answers)

    def next_answer(self, call: str) -> Answer:
        if self.always is not None:
            return self.always
        answers = self.answers.get(call, [(404, error("not_found", "There is nothing at this address."))])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(5)


@dataclass
class Sample:
    """A transcription's view as the server would send it."""

    fields: dict[str, object] = field(default_factory=dict)

    def __bytes__(self) -> bytes:
        view = {
            "id": "3k7qz2m9xw4a",
            "owner": "ada",
            "name": "talk.mp3",
            "state": "queued",
            "priority": 0,
            "options": {},
            "progress": {},
            "created_at": 1.0,
        }
        return json.dumps(view | self.fields).encode()


def view(**fields: object) -> bytes:
    return bytes(Sample(fields))


def error(code: str, message: str, **details: object) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "details": details}}).encode()
