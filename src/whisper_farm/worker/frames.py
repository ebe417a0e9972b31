"""Framed messages over a pipe between the agent and one of its children.

A frame is a header (JSON of a message) and a body (bytes, may be empty), both of bounded length. A mark before each
makes anything else that got into the pipe an error at once, instead of a length gone wild. Knows nothing of what the
messages mean.
"""

from __future__ import annotations

import asyncio
import struct
from typing import BinaryIO, NamedTuple

from whisper_farm.protocol.wire import MAX_CHUNK_BYTES

MARK = b"WhFa"
PREFIX = struct.Struct(">4sII")
MAX_HEADER_BYTES = 16 << 20
MAX_BODY_BYTES = MAX_CHUNK_BYTES
"""The longest chunk (ten minutes) has 19 MB of samples before it is compressed."""


class FrameError(Exception):
    """What came through the pipe is no frame, or a longer one than is allowed."""


class Frame(NamedTuple):
    """One message as bytes."""

    header: bytes
    body: bytes = b""


def pack(frame: Frame) -> bytes:
    """The frame as it goes through the pipe."""
    _check(len(frame.header), len(frame.body))
    return PREFIX.pack(MARK, len(frame.header), len(frame.body)) + frame.header + frame.body


def write_frame(pipe: BinaryIO, frame: Frame) -> None:
    """Write one frame, blocking until the pipe has taken it."""
    pipe.write(pack(frame))
    pipe.flush()


def read_frame(pipe: BinaryIO) -> Frame | None:
    """The next frame, blocking; None when the pipe has ended, in the middle of a frame too."""
    prefix = pipe.read(PREFIX.size)
    if len(prefix) < PREFIX.size:
        return None
    header_length, body_length = _lengths(prefix)
    header, body = pipe.read(header_length), pipe.read(body_length)
    if len(header) < header_length or len(body) < body_length:
        return None
    return Frame(header, body)


async def receive_frame(stream: asyncio.StreamReader) -> Frame | None:
    """The next frame from an asyncio stream; None when it has ended, in the middle of a frame too."""
    try:
        header_length, body_length = _lengths(await stream.readexactly(PREFIX.size))
        return Frame(await stream.readexactly(header_length), await stream.readexactly(body_length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def _lengths(prefix: bytes) -> tuple[int, int]:
    mark, header_length, body_length = PREFIX.unpack(prefix)
    if mark != MARK:
        raise FrameError(f"Expected a frame, got {prefix!r}.")
    _check(header_length, body_length)
    return header_length, body_length


def _check(header_length: int, body_length: int) -> None:
    if header_length > MAX_HEADER_BYTES or body_length > MAX_BODY_BYTES:
        raise FrameError(f"A frame of {header_length} + {body_length} bytes is longer than allowed.")
