"""The bad line does to each request what it says, and nothing else: else the tests on it prove nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest
from support.farm_processes import until
from support.fault_proxy import FAULTS, GARBAGE, Fault, FaultProxy

ANSWER = b'{"claims": []}'
DELAY_SECONDS = 0.2
DONE: dict[Fault | None, int] = {None: 1, "lose_request": 0, "black_hole": 0, "duplicate": 2}
"""How often the server is asked; once, if nothing else is said."""
BROKEN, SILENT = (httpx.ReadError, httpx.RemoteProtocolError), (httpx.ReadTimeout,)
NO_ANSWER: dict[Fault, tuple[type[httpx.TransportError], ...]] = {
    "lose_request": BROKEN,
    "lose_reply": BROKEN,
    "hold_reply": SILENT,
    "black_hole": SILENT,
}


class Server(ThreadingHTTPServer):
    """Answers every POST with the same, and remembers when it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked_at: list[float] = []


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked_at.append(time.monotonic())
        self.send_response(200)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_a_fault_befalls_the_next_request_of_its_call_alone(server: Server, fault: Fault | None) -> None:
    with FaultProxy(server.server_port, delay_seconds=DELAY_SECONDS) as line:
        if fault:
            line.next("claim", fault)
        assert _ask(line, "heartbeat") == ANSWER
        server.asked_at.clear()
        began = time.monotonic()
        if fault in NO_ANSWER:
            with pytest.raises(NO_ANSWER[fault]):
                _ask(line, "claim", patience=0.2 if NO_ANSWER[fault] is SILENT else 20)
        else:
            assert _ask(line, "claim") == (GARBAGE if fault == "garble" else ANSWER)
        took = time.monotonic() - began
        until(lambda: len(server.asked_at) >= DONE.get(fault, 1), "the server is asked, though nobody may wait for it")
        assert len(server.asked_at) == DONE.get(fault, 1)
        if fault == "late_reply":
            assert took - (server.asked_at[0] - began) >= DELAY_SECONDS, "it was done, and then the answer was late"
        if fault == "delay":
            assert server.asked_at[0] - began >= DELAY_SECONDS
        assert _ask(line, "claim") == ANSWER
        assert line.suffered == ({(fault, "claim"): 1} if fault else {})


def _ask(line: FaultProxy, call: str, patience: float = 20) -> bytes:
    answer = httpx.post(f"{line.url}/api/work/{call}", json={}, timeout=patience, trust_env=False)
    return answer.content
