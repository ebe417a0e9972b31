"""The farm's events as the client sees them: one endless sequence over as many connections as it takes.

Promises: no event is left out and none comes twice, whatever becomes of a connection; whoever iterates can be brought
to the end from another thread at any time. It does not know how a connection is made: see `client/farm.py`.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from typing import TypeVar

import httpx

from whisper_farm.errors import ServerUnreachable
from whisper_farm.protocol.client import EventView
from whisper_farm.protocol.wire import Answer

PAUSE_SECONDS = 0.2
PATIENCE_SECONDS = 60.0
"""How long a stream keeps trying to come back before it gives up."""

Message = TypeVar("Message", bound=Answer)
Query = Mapping[str, str | int | float]
Connect = Callable[[Query], AbstractContextManager[httpx.Response]]


class EventStream:
    """The events of a farm, one after another, for ever.

    After a lost connection it comes back by itself with the events in between. An event of kind `reset` says that
    events were missed for good: look at everything again. `close` ends it, from any thread.
    """

    def __init__(self, connect: Connect, after: int | None = None, transcription: str | None = None) -> None:
        """`connect` opens one connection to the event log and raises `ServerUnreachable` when it is lost."""
        self.last_id = after
        self._connect = connect
        self._filter: dict[str, str | int | float] = {} if transcription is None else {"transcription": transcription}
        self._closed = threading.Event()
        self._socket: socket.socket | None = None

    def __iter__(self) -> Iterator[EventView]:
        failing_since: float | None = None
        while not self._closed.is_set():
            try:
                for event in self._connected():
                    failing_since = None
                    if event is not None:
                        yield event
            except ServerUnreachable:
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > PATIENCE_SECONDS:
                    raise
            self._closed.wait(PAUSE_SECONDS)

    def close(self) -> None:
        """End the stream: whoever iterates over it comes to the end at once."""
        self._closed.set()
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _connected(self) -> Iterator[EventView | None]:
        """The events of one connection; None for a sign of life."""
        query = self._filter if self.last_id is None else {**self._filter, "after": self.last_id}
        with self._connect(query) as answer:
            self._socket = answer.extensions["network_stream"].get_extra_info("socket")
            yield None
            seen = self.last_id
            for line in answer.iter_lines():
                if self._closed.is_set():
                    return
                if line.startswith("data:"):
                    yield read_message(EventView, line.removeprefix("data:"))
                elif line.startswith("id:"):
                    seen = int(line.removeprefix("id:"))
                elif not line:
                    self.last_id = seen
                    yield None


def read_message(kind: type[Message], content: str | bytes) -> Message:
    """An answer as its type; raises `ServerUnreachable` where it is none."""
    try:
        return kind.read(content)
    except ValueError as error:
        raise ServerUnreachable(f"The farm's answer makes no sense to this version of the program: {error}") from error
