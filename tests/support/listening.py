"""How the tests listen to a farm: what has happened so far, and what happens while they follow."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx

from whisper_farm.protocol.client import EventView

Arrivals = queue.SimpleQueue[tuple[float, EventView | None]]
"""Events with the time of their arrival, None at the end."""


def past(client: httpx.Client, after: int = 0, **query: Any) -> list[EventView]:
    """The events there are after an id."""
    answer = client.get("/api/events", params={"after": after, "once": True, **query})
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    return list(parsed(answer.text.splitlines()))


def parsed(lines: list[str] | Iterator[str]) -> Iterator[EventView]:
    """Events of a stream, each of whose three fields must say the same."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line == "" and "data" in fields:
            view = EventView.model_validate_json(fields["data"])
            assert (str(view.id), view.kind) == (fields["id"], fields["event"])
            yield view
            fields = {}
        elif name:
            fields[name] = value


@contextmanager
def following(client: httpx.Client, **query: Any) -> Iterator[Arrivals]:
    """Follow the stream in a thread."""
    arrived: Arrivals = queue.SimpleQueue()
    connected = threading.Event()

    def follow(answer: httpx.Response) -> None:
        connected.set()
        try:
            for view in parsed(answer.iter_lines()):
                arrived.put((time.monotonic(), view))
        except (httpx.ReadError, httpx.StreamError, httpx.RemoteProtocolError):
            pass
        arrived.put((time.monotonic(), None))

    with client.stream("GET", "/api/events", params=query) as answer:
        assert answer.status_code == 200
        thread = threading.Thread(target=follow, args=[answer])
        thread.start()
        assert connected.wait(60)
        yield arrived
        with suppress(OSError):  # it has ended by itself
            answer.extensions["network_stream"].get_extra_info("socket").shutdown(2)
    thread.join(60)
