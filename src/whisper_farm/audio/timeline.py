"""Where each decoded frame belongs in the time of the file, and how much silence a hole in it asks for.

Times are those that players show: 0 is where the container begins. Sound follows sound without a seam
as long as timestamps agree with it (they are often rounded to milliseconds); a hole is kept as silence
so that everything after it stays at its time. Timestamps that run backwards cost no sound: it goes on, and
the next hole pays for the overlap. A jump that no recording makes starts a new count, so a hostile file
cannot ask for years of silence. Pure arithmetic; nothing here touches audio.
"""

from __future__ import annotations

TOLERANCE_SECONDS = 0.1
"""Timestamps may disagree with the sound by so much before a hole is believed."""
LONGEST_HOLE_SECONDS = 3_600.0
MOST_SILENCE_SECONDS = 86_400.0
LONGEST_OVERLAP_SECONDS = 10.0


class Timeline:
    """Decides for every frame how many seconds of silence come before it."""

    def __init__(self, start_seconds: float | None) -> None:
        self._start = start_seconds
        self._begun = False
        self._silence_left = MOST_SILENCE_SECONDS

    def time_of(self, stamp: float) -> float:
        """The time of a timestamp; never negative."""
        return max(0.0, stamp - (self._start if self._start is not None else stamp))

    def silence_before(self, stamp: float | None, position: float, tolerance: float = TOLERANCE_SECONDS) -> float:
        """Seconds of silence between `position`, where the sound so far ends, and a frame stamped `stamp`."""
        if stamp is None:
            return 0.0
        self._anchor(stamp)
        assert self._start is not None
        hole = stamp - self._start - position
        if not -LONGEST_OVERLAP_SECONDS <= hole <= min(LONGEST_HOLE_SECONDS, self._silence_left):
            self._start += hole
            return 0.0
        if hole <= tolerance:
            return 0.0
        self._silence_left -= hole
        return hole

    def _anchor(self, stamp: float) -> None:
        """A container's start that is later than its first frame is wrong."""
        if not self._begun:
            self._begun = True
            self._start = stamp if self._start is None else min(self._start, stamp)
