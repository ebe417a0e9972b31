"""How long a recording says that it is, before anything is decoded; and which of its claims are no promise.

Programs that write into a pipe, that were cut off or that count wrongly leave lengths in headers that never were.
"""

from __future__ import annotations

import re

import av
from av.audio.stream import AudioStream
from av.container import InputContainer

from whisper_farm.audio.containers import MP4, PLAIN_FORMATS, RAW_FORMATS
from whisper_farm.audio.reader import Reader

LONGEST_SECONDS = 10_000_000.0
"""Declared lengths beyond this are lies (and beyond what the protocol carries)."""
PLACEHOLDER_BYTES = 2_000_000_000
ROUND_BYTES, ROUND_WITHIN = (1 << 24, 100_000_000), 4096
"""Programs that write into a pipe do not know the length: they promise so much or more, or a round number."""
LEAST_BITS_PER_SECOND = 100.0
"""Of any sound: a file that holds less than that of what it promises never held it."""
_MP3_FRAMES = re.compile(rb"(?:Xing|Info)\0\0\0[\x01\x03\x05\x07\x09\x0b\x0d\x0f](.{4})", re.DOTALL)
PADDING_SECONDS = 0.5
"""What an encoder puts around the sound."""
HEAD_BYTES = 4 << 10


def duration_seconds(container: InputContainer, stream: AudioStream, start_seconds: float | None) -> float | None:
    """Of the audio track where it is known: a film may go on when its sound has ended."""
    if stream.duration is not None and stream.time_base:
        late = float((stream.start_time or 0) * stream.time_base) - (start_seconds or 0.0)
        return _credible(float(stream.duration * stream.time_base) + max(0.0, late))
    whole: int | None = container.duration
    return None if whole is None else _credible(whole / av.time_base)


def declared_seconds(
    container: InputContainer, stream: AudioStream, reader: Reader, duration: float | None
) -> float | None:
    """The length that the header promises of this very track; None where that is no promise."""
    told = _promised(container, stream, reader, duration)
    return None if told is None else _credible(told)


def _promised(container: InputContainer, stream: AudioStream, reader: Reader, duration: float | None) -> float | None:
    form, size = container.format.name, reader.size
    promised = int.from_bytes(reader.head[4:8], "little") + 8 if reader.head[:4] == b"RIFF" else 0
    # AVI counts packets that hold nothing, too, so only one that is cut off tells anything.
    if duration is None or (form == "avi" and size >= promised):
        return None
    if form.startswith("matroska") and (own := _clock_seconds(stream.metadata.get("DURATION", ""))):
        return own
    if len(container.streams) > 1 and form not in (MP4, "avi"):
        return None
    if form in RAW_FORMATS:
        return _counted(stream, reader, duration) if form == "mp3" else None
    rate = (stream.bit_rate or 0) / 8
    if form in PLAIN_FORMATS and rate:
        if is_placeholder(promised or rate * duration, size):
            return min(duration, size / rate)
        if promised > size:  # FFmpeg cuts the length to what is there
            duration = max(duration, promised / rate)
    return duration if size * 8 >= LEAST_BITS_PER_SECOND * duration else None


def _counted(stream: AudioStream, reader: Reader, duration: float) -> float | None:
    """The frames that an mp3 says it has: where several are glued together, FFmpeg guesses from the size."""
    head = reader.peek(0, 10)
    a, b, c, d = head[6:].ljust(4, b"\0")
    tags = 10 + (a << 21 | b << 14 | c << 7 | d) if head[:3] == b"ID3" else 0
    found = _MP3_FRAMES.search(reader.peek(tags, HEAD_BYTES))
    if found is None:
        return None
    rate = stream.codec_context.sample_rate
    samples = 1152 if rate >= 32_000 else 576
    counted = int.from_bytes(found[1], "big") * samples / rate
    return duration if abs(counted - duration) < PADDING_SECONDS else counted


def is_placeholder(promised: float, size: int) -> bool:
    """Whether a file of `size` bytes promises so many because whoever began to write it did not know better."""
    if promised <= 2 * size:
        return False
    near = (abs(promised - max(1, round(promised / each)) * each) for each in ROUND_BYTES)
    return promised >= PLACEHOLDER_BYTES or min(near) <= ROUND_WITHIN


def _clock_seconds(written: str) -> float | None:
    """The seconds of `00:01:02.345000000`."""
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", written)
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else None


def _credible(seconds: float) -> float | None:
    return seconds if 0 < seconds <= LONGEST_SECONDS else None
