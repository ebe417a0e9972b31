"""Hours of the day and lengths of time: how they are written, and whether it is time."""

from __future__ import annotations

import math

DAY_SECONDS = 86_400
HOURS = r"^([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)$"
"""Hours of the day, such as `08:00-20:00` or `22:00-07:00`."""


def within_hours(hours: str, minute: int) -> bool:
    """Whether a minute of the day lies within these hours; they may go past midnight."""
    first, last = (int(part[:2]) * 60 + int(part[3:]) for part in hours.split("-"))
    return first <= minute < last if first < last else minute >= first or minute < last


def nearest(number: float) -> int:
    """The nearest whole number, halves upwards: where some places round down, one length is two."""
    return math.floor(number + 0.5)


def clock(seconds: float) -> str:
    """`4:07`, or `1:02:11` from an hour on; the web app's `clock` says the same."""
    whole = nearest(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
