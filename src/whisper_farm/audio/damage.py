"""What could not be decoded: how many packets, which seconds they held, and how long lost bytes lasted."""

from __future__ import annotations

MOST_STRETCHES = 1000
NEAR_SECONDS = 0.25
MOST_LAG_BYTES = 512
"""What a parser may hold back."""


class DamageLog:
    """Counts every damaged packet; stretches near each other are joined, so their number stays bounded."""

    def __init__(self) -> None:
        self.packets = 0
        self._stretches: list[tuple[float, float]] = []

    def add(self, start: float, end: float) -> None:
        """One packet (or one hole that packets left) from `start` to `end` seconds."""
        self.packets += 1
        last_start, last_end = self._stretches[-1] if self._stretches else (0.0, float("-inf"))
        if start <= last_end + NEAR_SECONDS or len(self._stretches) == MOST_STRETCHES:
            self._stretches[-1] = (min(last_start, start), max(last_end, end))
        else:
            self._stretches.append((start, end))

    def seconds(self, end: float) -> tuple[tuple[float, float], ...]:
        """The stretches, none reaching beyond `end`, the end of the recording."""
        return tuple((min(start, end), min(stop, end)) for start, stop in self._stretches)


class LostBytes:
    """Time in formats without timestamps: bytes that make no sense lasted as long as equally many others."""

    def __init__(self) -> None:
        self.shift = 0.0
        """Seconds by which timestamps that merely count packets have fallen behind."""
        self._taken = 0
        self._good_packets, self._good_bytes, self._good_seconds = 0, 0, 0.0
        self._read_to: int | None = None
        self._lag: int | None = None

    def take(self, size: int) -> None:
        """One packet came, good or bad."""
        self._taken += size

    def decoded(self, size: int, seconds: float) -> None:
        """One packet was good."""
        self._good_packets += 1
        self._good_bytes += size
        self._good_seconds += seconds

    def lasted(self, size: int, otherwise: float = 0.0) -> float:
        """How long so many bytes lasted."""
        return size * self._good_seconds / self._good_bytes if self._good_bytes else otherwise

    def skipped(self, read_to: int) -> float:
        """Seconds stepped over before the packet to be taken next, given how far the file is read.

        Whenever more is read, everything read before is used up: what is then in no packet was skipped.
        """
        before, self._read_to = self._read_to, read_to
        if before in (None, read_to) or not self._good_packets:
            return 0.0
        lag = (before or 0) - self._taken
        if self._lag is None:
            self._lag = lag
        size = lag - self._lag
        if size < max(MOST_LAG_BYTES, 2 * self._good_bytes // self._good_packets):
            return 0.0
        self._taken += size
        return self.lasted(size)
