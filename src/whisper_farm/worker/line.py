"""A child's end of the pipes to its agent.

Promises: messages go over a private copy of standard output, so that whatever else a library prints goes to standard
error; when the agent is gone the process ends; an error nobody expected ends it too, with a traceback as last words.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import BinaryIO, NoReturn

from whisper_farm.worker.frames import read_frame, write_frame
from whisper_farm.worker.pipe import Message, from_frame, to_frame

CRASHED = 70


class Line:
    """Messages to and from the agent. Any thread may send."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._lock = threading.Lock()

    def send(self, message: Message, body: bytes = b"") -> None:
        """Send one message, blocking while the agent has no room for it. Ends the process if the agent is gone."""
        try:
            with self._lock:
                write_frame(self._outgoing, to_frame(message, body))
        except OSError:
            os._exit(0)

    def received(self) -> Iterator[tuple[Message, bytes]]:
        """All messages of the agent, until it closes the pipe or dies."""
        while frame := read_frame(self._incoming):
            yield from_frame(frame), frame.body


def private_line() -> Line:
    """Take the pipes for ourselves: from here on, standard input is empty and prints go to standard error."""
    incoming, outgoing = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    return Line(os.fdopen(incoming, "rb"), os.fdopen(outgoing, "wb"))


def crash() -> NoReturn:
    """End the process with the current exception as its last words."""
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(CRASHED)


def in_thread(work: Callable[[], None], name: str) -> None:
    """Run `work` in a thread of its own; an error in it ends the process."""

    def run() -> None:
        try:
            work()
        except BaseException:
            crash()

    threading.Thread(target=run, name=name, daemon=True).start()
