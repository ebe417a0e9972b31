"""Byte ranges of a stored file (RFC 9110, one range a request), for decoders that seek.

Several ranges in one header, or a unit other than bytes, are answered with the whole file, as the RFC allows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ONE_RANGE = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `[start, end)` of a file of `size` bytes. `partial` when a range was asked for."""

    start: int
    end: int
    size: int
    partial: bool

    @property
    def length(self) -> int:
        return self.end - self.start

    def headers(self) -> dict[str, str]:
        """The headers that describe this answer."""
        headers = {"Accept-Ranges": "bytes", "Content-Length": str(self.length)}
        if self.partial:
            headers["Content-Range"] = f"bytes {self.start}-{self.end - 1}/{self.size}"
        return headers


def span_of(header: str | None, size: int) -> Span | None:
    """What to send for a `Range` header. None when nothing of the file lies in it (answer 416)."""
    found = _ONE_RANGE.match(header) if header else None
    if found is None or found.groups() == ("", ""):
        return Span(0, size, size, partial=False)
    first, last = found.groups()
    if first == "":
        length = min(int(last), size)
        return Span(size - length, size, size, partial=True) if length else None
    start = int(first)
    end = size if last == "" else min(int(last) + 1, size)
    if last != "" and int(last) < start:
        return Span(0, size, size, partial=False)
    return Span(start, end, size, partial=True) if start < size else None
