"""Tags and pictures before the sound, as large as nobody needs them: they are passed over, not read.

FFmpeg compares every tag with all before it, so that a megabyte of them takes it a minute. ID3 and the blocks of FLAC
stand before the sound and say how long they are. Tags within other containers cost what `worker/bounds.py` allows.
"""

from __future__ import annotations

from typing import BinaryIO

FEW_BYTES = 64 << 10
"""Tags that are shorter are read."""
MOST_TAGS = 1000
_INFO, _PLACES, _LAST = 0, 3, 0x80
"""Of FLAC's blocks those that decoding needs, and the mark of the last one."""
_FOOTER = 0x10


def sound_of(file: BinaryIO, size: int) -> tuple[bytes, int]:
    """What a recording of that many bytes begins with instead of its tags, and the place at which it goes on."""
    at = 0
    for _ in range(MOST_TAGS):
        head = _at(file, at, 10)
        if len(head) < 10 or not head.startswith(b"ID3") or max(head[6:]) > 127:
            break
        at += (20 if head[5] & _FOOTER else 10) + sum(
            byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)
        )
    at = at if FEW_BYTES < at < size else 0
    return _flac(file, size, at) if _at(file, at, 4) == b"fLaC" else (b"", at)


def _flac(file: BinaryIO, size: int, begin: int) -> tuple[bytes, int]:
    kept: list[tuple[int, bytes]] = []
    at, last = begin + 4, False
    while not last and len(kept) <= MOST_TAGS:
        head = _at(file, at, 4)
        if len(head) < 4:
            return b"", begin
        kind, last, length = head[0] & 0x7F, head[0] >= _LAST, int.from_bytes(head[1:], "big")
        if kind in (_INFO, _PLACES) and length <= FEW_BYTES:
            kept.append((kind, _at(file, at + 4, length)))
        at += 4 + length
    if at - begin <= FEW_BYTES or at >= size or not kept:
        return b"", begin
    marks = [0] * (len(kept) - 1) + [_LAST]
    blocks = (
        bytes([kind | mark]) + len(of).to_bytes(3, "big") + of for (kind, of), mark in zip(kept, marks, strict=True)
    )
    return b"fLaC" + b"".join(blocks), at


def _at(file: BinaryIO, place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)
