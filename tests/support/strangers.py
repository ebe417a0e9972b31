"""Bare sockets and a pulse: what an attacker sends byte by byte, and how the server is meanwhile."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count, takewhile

import httpx

from support.served_farm import ServedFarm

PATIENCE_SECONDS = 60.0
FUZZ_SECONDS = float(os.environ.get("WHISPER_FARM_FUZZ_SECONDS", "0"))
"""How long each fuzzer goes on in `./run chaos --attacks`."""


def tries(few: int) -> Iterator[int]:
    """So many tries of a fuzzer, or as many as the time allows where there is one."""
    until = time.monotonic() + FUZZ_SECONDS
    return takewhile(lambda number: number < few if not FUZZ_SECONDS else time.monotonic() < until, count())


class Pulse:
    """The answers to one question after the other whether the server is well."""

    def __init__(self) -> None:
        self.worst_seconds = 0.0
        self.answers = 0


@contextmanager
def pulse(farm: ServedFarm) -> Iterator[Pulse]:
    """Ask for health all the while, as fast as it is answered; at least once after the end."""
    taken, over = Pulse(), threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=farm.url, timeout=60, trust_env=False) as client:
            while True:
                last = over.is_set()
                started = time.monotonic()
                assert client.get("/healthz").status_code == 200
                taken.worst_seconds = max(taken.worst_seconds, time.monotonic() - started)
                taken.answers += 1
                if last:
                    return
                over.wait(0.01)

    asking = threading.Thread(target=ask, name="pulse")
    asking.start()
    try:
        yield taken
    finally:
        over.set()
        asking.join(60)


def send(farm: ServedFarm, *parts: bytes, read_bytes: int = 4096, closes: bool = False) -> bytes:
    """Send these bytes, as far as they are taken, and no more if it `closes`; returns the beginning of the answer."""
    url = httpx.URL(farm.url)
    with socket.create_connection((url.host, url.port or 80), timeout=PATIENCE_SECONDS) as line:
        with suppress(ConnectionError):
            for part in parts:
                line.sendall(part)
            if closes:
                line.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionError):
            while len(answer) < read_bytes and (block := line.recv(read_bytes)):
                answer += block
        return answer
