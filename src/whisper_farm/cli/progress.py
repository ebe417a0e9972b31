"""What a run shows while it works: the transcript as it grows, and how far each recording is.

There are three displays with the same methods. `TerminalDisplay` has bars: how much of how much, how fast, time left.
`PlainDisplay` prints a line every few seconds, for logs and pipes. `Display` itself shows errors only. The transcript,
and what else a command is asked for, goes to the standard output; the rest goes to the standard error. A display
decides nothing: `following.py` decides what to show next, and in which order.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from whisper_farm.cli.words import shortened, span, speed
from whisper_farm.showing import printable
from whisper_farm.times import clock
from whisper_farm.transcript.subtitles import timestamp

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from whisper_farm.transcript.transcript import Segment

SPEED_WINDOW_SECONDS = 60.0
FEWEST_SAMPLES = 8
"""Chunks that a speed is taken from at least, where they have been that many."""
PLAIN_EVERY_SECONDS = 10.0
MOST_BARS = 10
"""Recordings shown at a time; the others wait unseen."""


def transcript_line(segment: Segment) -> str:
    """`[00:00.000 --> 00:04.200]  text`, as Whisper prints it."""
    said = f"{segment.speaker}: {segment.text.strip()}" if segment.speaker else segment.text.strip()
    return f"[{timestamp(segment.start)} --> {timestamp(segment.end)}]  {printable(said)}"


@dataclass(slots=True)
class RecentPace:
    """How fast a recording is done, or sent, of late: in audio-seconds, or bytes, a second."""

    clock: Callable[[], float] = time.monotonic
    samples: deque[tuple[float, float]] = field(default_factory=deque)

    def note(self, done: float) -> None:
        now = self.clock()
        if not self.samples or done > self.samples[-1][1]:
            self.samples.append((now, done))
        while len(self.samples) > FEWEST_SAMPLES and now - self.samples[0][0] > SPEED_WINDOW_SECONDS:
            self.samples.popleft()

    @property
    def each_second(self) -> float | None:
        """None before anything was done."""
        if len(self.samples) < 2:
            return None
        (since, before), done = self.samples[0], self.samples[-1][1]
        return (done - before) / max(self.clock() - since, 1e-3)

    def seconds_left(self, total: float | None) -> float | None:
        pace = self.each_second
        if pace is None or pace <= 0 or total is None:
            return None
        return max(0.0, total - self.samples[-1][1]) / pace


@dataclass(frozen=True, slots=True)
class Unit:
    """What is counted of a recording, in words."""

    amount: Callable[[float], str]
    of: str
    """What follows the two amounts."""
    pace: Callable[[float], str]


AUDIO = Unit(clock, "", speed)
BYTES = Unit(lambda count: f"{count / 1e6:.1f}", " MB", lambda pace: f"{pace / 1e6:.1f} MB/s")


@dataclass(slots=True)
class Shown:
    """What is known of one recording, in the words of the display."""

    name: str
    stage: str = "waiting"
    done: float = 0.0
    total: float | None = None
    unit: Unit = AUDIO
    pace: RecentPace = field(default_factory=RecentPace)

    def advance(self, done: float, total: float | None, unit: Unit) -> None:
        """So far it is; where something else is counted now, or the same once more, its pace begins anew."""
        if unit is not self.unit or done < self.done:
            self.unit, self.pace = unit, RecentPace(self.pace.clock)
        self.done, self.total = done, total
        if done or unit is not AUDIO:  # before the first words a model is loaded, which says nothing of the rest
            self.pace.note(done)

    def figures(self) -> tuple[str, str, str]:
        """How much of how much, how fast, time left."""
        total = self.unit.amount(self.total) if self.total is not None else "?"
        pace, left = self.pace.each_second, self.pace.seconds_left(self.total)
        return (
            f"{self.unit.amount(self.done)} / {total}{self.unit.of}",
            self.unit.pace(pace) if pace else "",
            f"{span(left)} left" if left else "",
        )


class Display:
    """The face all displays have; by itself it shows errors only. Leaving it restores the terminal."""

    def __init__(self, verbose: bool = False, quiet: bool = True) -> None:
        self.shown: dict[str, Shown] = {}
        self.shows_text = verbose
        """Whether the transcript is wanted at all."""
        self._quiet = quiet

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, name: str, stage: str) -> None:
        """A recording is taken up, or goes on to its next stage."""
        self.shown.setdefault(name, Shown(printable(name))).stage = stage
        self._changed(self.shown[name])

    def advance(self, name: str, done: float, total: float | None, unit: Unit = AUDIO) -> None:
        """A recording is so far."""
        shown = self.shown[name]
        shown.advance(done, total, unit)
        self._changed(shown)

    def transfer(self, name: str, stage: str, done_bytes: int, total_bytes: int | None) -> None:
        """So much of it was sent or fetched."""
        self.begin(name, stage)
        self.advance(name, done_bytes, total_bytes, BYTES)

    def end(self, name: str) -> None:
        """A recording needs no more attention."""
        if shown := self.shown.pop(name, None):
            self._ended(shown)

    def text(self, segments: Iterable[Segment]) -> None:
        """More of the transcript, in order."""
        if self.shows_text:
            self._print("".join(transcript_line(segment) + "\n" for segment in segments))

    def heading(self, name: str) -> None:
        """Whose transcript comes next."""
        if self.shows_text:
            self._print(f"{printable(name)}:\n")

    def result(self, line: str) -> None:
        """What the command was asked for, quiet or not."""
        self._print(printable(line) + "\n")

    def note(self, line: str) -> None:
        """Something the user should know."""
        if not self._quiet:
            self._say(printable(line))

    def error(self, line: str) -> None:
        """Something went wrong."""
        self._say(f"whisper-farm: {printable(line)}", "red")

    def close(self) -> None:
        """Nothing more will be shown."""

    def _print(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def _say(self, line: str, style: str = "") -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def _changed(self, shown: Shown) -> None: ...

    def _ended(self, shown: Shown) -> None: ...


class PlainDisplay(Display):
    """Lines, for logs and pipes."""

    def __init__(self, verbose: bool, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(verbose, quiet=False)
        self._now = now
        self._said_at, self._said = now(), ""

    def _changed(self, shown: Shown) -> None:
        news = shown.stage or shown.done
        if news and self._now() - self._said_at >= PLAIN_EVERY_SECONDS:
            figures = shown.figures() if shown.done or shown.total else ()
            line = f"{shown.name}: {', '.join(word for word in (shown.stage, *figures) if word)}"
            if line != self._said:
                self._said_at, self._said = self._now(), line
                self.note(line)


class TerminalDisplay(Display):
    """Bars that move, with the transcript scrolling above them."""

    def __init__(self, verbose: bool, console: Console, text_console: Console | None) -> None:
        """`text_console` is None where the transcript goes to a file or pipe, and then it is written there plainly."""
        super().__init__(verbose, quiet=False)
        self._console, self._text_console = console, text_console
        self._bars = _bars(console)
        self._rows: dict[int, TaskID] = {}
        self._bars.start()

    def close(self) -> None:
        self._bars.stop()

    def _print(self, text: str) -> None:
        if self._text_console is None:
            super()._print(text)
        elif text:
            self._text_console.print(text.rstrip("\n"), markup=False, highlight=False, soft_wrap=True)

    def _say(self, line: str, style: str = "") -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True, style=style)

    def _changed(self, shown: Shown) -> None:
        row = self._rows.get(id(shown))
        if row is None:
            if len(self._rows) >= MOST_BARS:
                return
            row = self._rows[id(shown)] = self._bars.add_task(shortened(shown.name), total=None, figures="", stage="")
        done, pace, left = shown.figures()
        figures = "  ".join(word for word in (done if shown.done else "", pace, left) if word)
        self._bars.update(row, completed=shown.done, total=shown.total, figures=figures, stage=shown.stage)

    def _ended(self, shown: Shown) -> None:
        if (row := self._rows.pop(id(shown), None)) is not None:
            self._bars.remove_task(row)


def _bars(console: Console) -> Bars:
    """One row for each recording. Where it is narrow the bar gives way first, then the name, and the figures last."""
    from rich.progress import BarColumn, Progress, ProgressColumn, Task
    from rich.table import Column, Table
    from rich.text import Text

    class Cell(ProgressColumn):
        """One field of a task, shown exactly as it is."""

        def __init__(self, name: str, style: str) -> None:
            super().__init__(Column(no_wrap=name != "name"))
            self.name, self.style = name, style

        def render(self, task: Task) -> Text:
            value = task.description if self.name == "name" else str(task.fields[self.name])
            return Text(value, style=self.style, no_wrap=True, overflow="ellipsis")

    class Rows(Progress):
        """Rows that leave room for the `^C` that a terminal writes behind them: pushed up by it they would stay."""

        def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
            table = super().make_tasks_table(tasks)
            table.width = max(1, console.width - len("^C"))
            return table

    bar = BarColumn(None, table_column=Column(ratio=1))
    columns = Cell("name", "bold"), bar, Cell("figures", ""), Cell("stage", "dim")
    return Rows(*columns, console=console, transient=True, expand=True, refresh_per_second=5, redirect_stdout=False)


def open_display(quiet: bool, verbose: bool) -> Display:
    """The display that fits the terminal, or its absence."""
    if quiet:
        return Display()
    if not sys.stderr.isatty():
        return PlainDisplay(verbose)
    from rich.console import Console

    if sys.stdout.isatty():
        console = Console(file=sys.stdout)
        return TerminalDisplay(verbose, console, console)
    return TerminalDisplay(verbose, Console(file=sys.stderr), None)
