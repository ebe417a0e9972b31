"""Follows transcriptions while a farm works on them: their progress, their end, and their text in order.

Events only wake it up. What is shown is always asked of the farm anew, so an event lost or seen twice changes nothing.
The text of several transcriptions is shown one after another, in the order in which they were watched: `turn` says
whose turn it is. It changes nothing on the farm.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from whisper_farm.cli.progress import BYTES, Display
from whisper_farm.cli.words import hour
from whisper_farm.client.farm import FarmClient
from whisper_farm.errors import EngineUnavailable, FarmError, ModelUnavailable, NotFound, ServerUnreachable
from whisper_farm.protocol.client import FINISHED, FetchView, TranscriptionView

SAME_SECONDS = 1e-6
LOOK_SECONDS = 2.0
"""How often to look without having been woken."""
LOOKS_AT_ONCE = 20
"""Transcriptions asked about, unwoken, in one step."""
GATHER_SECONDS = 0.1
"""So long after a step, the next one is taken at the earliest: events that come meanwhile are answered together."""
CANNOT_SERVE = (EngineUnavailable.code, ModelUnavailable.code)
STAGES = {"queued": "waiting", "running": "", "assembling": "putting together"}
NO_WORDS_YET = "waiting for the first words"
PATIENCE_SECONDS = 60.0
"""How long the farm may be unreachable before following it is given up."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A transcription that needs nothing more from the farm: what is left to say of it when its turn comes."""

    has_transcript: bool
    notes: Sequence[str] = ()
    error: str | None = None


@dataclass(eq=False, slots=True)
class Watched:
    """One transcription that is followed."""

    name: str
    view: TranscriptionView
    done_before: float
    """Audio-seconds that were done when it was taken up: the work of earlier runs."""
    ended_before: bool
    """Whether it had ended when it was taken up."""
    end: Ended | None = None
    since: float = field(default_factory=time.monotonic)
    looked_at: float = 0.0
    all_shown_of: int = 0
    """So many chunks were done when all of their text that could be shown was shown."""
    shown_position: int = -1
    shown_seconds: float = 0.0

    @property
    def finished(self) -> bool:
        return self.view.state in FINISHED


class Following:
    """The transcriptions of one run."""

    def __init__(self, farm: FarmClient, display: Display, headings: bool, warns: bool = True) -> None:
        """`headings`: say whose transcript comes; `warns`: show the farm's warnings."""
        self.farm, self.display = farm, display
        self.wake = threading.Event()
        self.active: list[Watched] = []
        """Those that have not ended."""
        self._unshown: list[Watched] = []
        self._lock = threading.Lock()
        self._headings = headings
        self._headed: Watched | None = None
        self._warns = warns
        self._silent_since: float | None = None
        self._stepped_at = 0.0
        self._woken: set[str] = set()
        self._warned: set[tuple[str, str]] = set()

    def __enter__(self) -> Self:
        self._events = self.farm.on_event(lambda event: self._rouse(event.transcription_id))
        return self

    def __exit__(self, *_: object) -> None:
        self._events.cancel()

    @property
    def turn(self) -> Watched | None:
        """The one whose text is shown now."""
        return self._unshown[0] if self._unshown else None

    def watch(self, name: str, view: TranscriptionView) -> Watched:
        """Follow one more transcription."""
        one = Watched(name, view, view.progress.done_seconds, view.state in FINISHED)
        self.active.append(one)
        self._unshown.append(one)
        self._show(one)
        self._rouse(view.id)
        return one

    def step(self) -> list[Watched]:
        """Wait for news, show them, and hand over those that have ended since."""
        self.wake.wait(LOOK_SECONDS)
        if self.wake.is_set():
            time.sleep(max(0.0, self._stepped_at + GATHER_SECONDS - time.monotonic()))
        self.wake.clear()
        self._stepped_at = time.monotonic()
        ended = [one for one in self._to_look_at() if self._look(one) and one.finished]
        for one in ended:
            self.active.remove(one)
        if self.turn is not None and not self.turn.finished:
            self._stream(self.turn)
        return ended

    def end_turns(self) -> None:
        """Show what is left of those that have an end, in the order of watching, and what is to say of them."""
        while (one := self.turn) is not None and (end := one.end) is not None:
            del self._unshown[0]
            if end.has_transcript and self.display.shows_text:
                segments = self.farm.transcript(one.view.id).segments
                self._head(one)
                self.display.text(each for each in segments if each.start >= one.shown_seconds - SAME_SECONDS)
            for line in end.notes:
                self.display.note(line)
            if end.error:
                self.display.error(end.error)

    def _to_look_at(self) -> Iterable[Watched]:
        with self._lock:
            woken, self._woken = self._woken, set()
        now = time.monotonic()
        unasked = [one for one in self.active if now - one.looked_at >= LOOK_SECONDS][:LOOKS_AT_ONCE]
        return [one for one in self.active if one.view.id in woken or one in unasked]

    def _rouse(self, transcription_id: str | None) -> None:
        if transcription_id is not None:
            with self._lock:
                self._woken.add(transcription_id)
        self.wake.set()

    def _look(self, one: Watched) -> bool:
        """Ask how one transcription stands. A farm that is away for a while is waited for."""
        one.looked_at = time.monotonic()
        try:
            one.view = self.farm.get(one.view.id)
        except ServerUnreachable as error:
            if self._silent_since is None:
                self._silent_since = time.monotonic()
                self.display.note(f"{error.message} It may come back: waiting for a minute.")
            if time.monotonic() - self._silent_since > PATIENCE_SECONDS:
                raise
            return False
        except NotFound as error:
            said = {"code": error.code, "message": error.message}
            one.view = one.view.model_copy(update={"state": "cancelled", "error": said})
        self._silent_since = None
        self._show(one)
        return True

    def _show(self, one: Watched) -> None:
        view = one.view
        news = self._warns and view.warning and self._said_now(one, view.warning)
        if news and (why := self._last_refusal(view.id)):
            self.display.note(f"{one.name}: {why}")
        if view.fetch is not None and view.state == "fetching":
            self.display.begin(one.name, fetch_stage(view.fetch))
            self.display.advance(one.name, view.fetch.received_bytes, view.fetch.total_bytes, BYTES)
            if view.fetch.error:
                self._said_now(one, f"{view.fetch.error} It is tried again.")
        elif not one.finished:
            progress = view.progress
            wordless = view.state == "running" and not progress.done_seconds
            self.display.begin(one.name, NO_WORDS_YET if wordless else STAGES.get(view.state, view.state))
            total = progress.cut_seconds if progress.chunking_done else progress.duration_seconds
            self.display.advance(one.name, progress.done_seconds, total)

    def _said_now(self, one: Watched, warning: str) -> bool:
        """Say this of a transcription, once; False if it was said before."""
        if (one.view.id, warning) in self._warned:
            return False
        self._warned.add((one.view.id, warning))
        self.display.note(f"{one.name}: {warning}")
        return True

    def _last_refusal(self, transcription_id: str) -> str | None:
        """What the last worker said that could not have the engine or the model."""
        with suppress(FarmError):
            for attempt in (each for job in self.farm.jobs(transcription_id) for each in reversed(job.attempts)):
                if attempt.error_code in CANNOT_SERVE:
                    return f"{attempt.worker_name or attempt.worker_id} said: {attempt.error_message}"
        return None

    def _stream(self, one: Watched) -> None:
        """Show what is new of the text, as far as it is there without a hole. Who says it is known at the end alone."""
        if one.view.options.diarize or not self.display.shows_text or one.view.progress.chunks_done == one.all_shown_of:
            return
        try:
            news = self.farm.segments(one.view.id, one.shown_position)
        except (ServerUnreachable, NotFound):
            return
        if news.segments:
            self._head(one)
            self.display.text(news.segments)
            one.shown_seconds = max(one.shown_seconds, news.segments[-1].end)
        else:
            one.all_shown_of = one.view.progress.chunks_done
        one.shown_position = news.next

    def _head(self, one: Watched) -> None:
        if self._headings and self._headed is not one:
            self._headed = one
            self.display.heading(one.name)


def fetch_stage(fetch: FetchView) -> str:
    """Whether it is being fetched, or else when it is tried again, and last."""
    if fetch.error is None or fetch.next_at is None or fetch.last_try_at is None:
        return "fetching"
    return f"fetched again at {hour(fetch.next_at)}, given up after {hour(fetch.last_try_at)}"
