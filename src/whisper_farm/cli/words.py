"""How the command line says times, amounts and names. It is light: every command may import it at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime

from whisper_farm.showing import say
from whisper_farm.times import nearest

NAME_WIDTH = 36


def span(seconds: float) -> str:
    """`0.4 s`, `41 s`, `3 min 2 s`, `10 h 5 min`: how long something took or will take."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(nearest(seconds), 60)
    if minutes >= 60:
        hours, minutes = divmod(nearest(seconds / 60), 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    if minutes:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{rest} s"


def speed(times_real_time: float) -> str:
    """`4.4 ×`, `310 ×`."""
    return f"{times_real_time:.1f} ×" if times_real_time < 99.95 else f"{times_real_time:.0f} ×"


def counted(number: int, noun: str) -> str:
    """`1 worker`, `2 workers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shortened(name: str, width: int = NAME_WIDTH) -> str:
    """A name that fits, its middle left out: beginning and ending tell files apart."""
    if len(name) <= width:
        return name
    tail = (width - 1) // 2
    return name[: width - 1 - tail] + "…" + name[-tail:]


def when(epoch_seconds: float) -> str:
    """A moment, in the local time of whoever reads it."""
    return datetime.fromtimestamp(epoch_seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def hour(epoch_seconds: float) -> str:
    """`14:05:30`, for what is a few hours off at most."""
    return datetime.fromtimestamp(epoch_seconds).astimezone().strftime("%H:%M:%S")


def show_table(head: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> None:
    """Print the rows under their heading; where there are none, say `nothing` on the error stream."""
    if rows:
        say(columns([head, *rows]))
    else:
        print(nothing, file=sys.stderr)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """The rows with their columns lined up; the last column is left as it is."""
    from rich.cells import cell_len, set_cell_size

    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(set_cell_size(cell, width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    )
