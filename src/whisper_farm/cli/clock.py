"""Times as people read them."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """`4:07`, or `1:02:11` from an hour on."""
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def span(seconds: float) -> str:
    """`0.4 s`, `41 s`, `3 min 2 s`, `10 h 5 min`: how long something took or will take."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    if minutes:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{rest} s"


def speed(times_real_time: float) -> str:
    """`4.4 ×`, `310 ×`."""
    return f"{times_real_time:.1f} ×" if times_real_time < 99.95 else f"{times_real_time:.0f} ×"
