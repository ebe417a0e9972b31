"""What a recording lost: which packets and stretches, and how that is told from pauses, tags and overheads.

Knows the bytes of files and the places of packets in them; decodes nothing.
"""

from __future__ import annotations

from collections import deque

from whisper_farm.audio.reader import Reader

NEAR_SECONDS = 0.25
MOST_STRETCHES = 1000
REMEMBERED_PLACES = 3
MOST_LAG_BYTES = 512
"""What a parser may hold back."""
TRANSPORT_BYTES, TRANSPORT_SYNC, HAS_PAYLOAD = 188, 0x47, 0x10
LOOK_BACK_BYTES = 188 << 14


class DamageLog:
    """Counts every damaged packet; stretches near each other are joined, so their number stays bounded."""

    def __init__(self) -> None:
        self.packets = 0
        self._stretches: list[tuple[float, float]] = []

    @property
    def end(self) -> float:
        """Where the last stretch ends."""
        return self._stretches[-1][1] if self._stretches else float("-inf")

    def add(self, start: float, end: float, packets: int = 1) -> None:
        """One packet (or one hole that packets left) from `start` to `end` seconds."""
        self.packets += packets
        if start > self.end + NEAR_SECONDS and len(self._stretches) < MOST_STRETCHES:
            self._stretches.append((start, end))
            return
        begin, stop = self._stretches.pop()
        self.add(min(start, begin), max(end, stop), packets=0)

    def seconds(self, end: float) -> tuple[tuple[float, float], ...]:
        """The stretches, none reaching beyond `end`, the end of the recording."""
        return tuple((min(start, end), min(stop, end)) for start, stop in self._stretches)


class BytesBetween:
    """How many bytes of the file lie between the packets of a track and belong to none of any track."""

    def __init__(self) -> None:
        self.taken = 0
        """Bytes of all packets so far."""
        self._unclaimed: int | None = None
        self._first = self._position = -1
        self._newest: deque[int] = deque(maxlen=REMEMBERED_PLACES)

    @property
    def lost(self) -> int:
        """Such bytes before the newest packets: times tell of a loss as late as a page after it."""
        return sum(self._newest)

    @property
    def passed(self) -> int:
        """Bytes of the file since the first packet."""
        return self._position - self._first

    def take(self, position: int, size: int) -> None:
        """The next packet of the track, and where it stands; many share a place where they share a page."""
        if position not in (-1, self._position):
            before, self._unclaimed = self._unclaimed, position - self.taken
            self._newest.append(0 if before is None else self._unclaimed - before)
            self._first, self._position = position if before is None else self._first, position
        self.taken += size


def is_filling(data: bytes, at_the_end: bool) -> bool:
    """Whether bytes that do not decode never were sound: tags where files were glued together, zeros at the end."""
    rest = data.lstrip(b"\0")
    return rest.startswith((b"ID3", b"TAG", b"APETAGEX")) or (at_the_end and not rest)


def is_torn(reader: Reader, place: int, pid: int) -> bool:
    """Whether an MPEG transport stream lost packets of a track before the one at `place`: their counter tells."""
    back = min(place, LOOK_BACK_BYTES)
    data = reader.peek(place - back, back + TRANSPORT_BYTES) if place >= 0 else b""
    counters = []
    for at in range(back, -1, -TRANSPORT_BYTES):
        sync, head, tail, flags = data[at : at + 4].ljust(4, b"\0")
        if sync == TRANSPORT_SYNC and (head & 0x1F) << 8 | tail == pid and flags & HAS_PAYLOAD:
            counters.append(flags & 0x0F)
        if len(counters) == 2:
            return (counters[1] + 1) % 16 != counters[0]
    return False


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
