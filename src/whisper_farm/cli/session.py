"""One run over many recordings: hands them to a farm, follows them, writes what comes out.

Promises: every recording ends in its outputs, or in one line that says why not. One that fails stops no other. Files
are written as soon as their recording is done, and shown in the order of the command line. It does not know where the
farm is.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count

from whisper_farm.cli.files import Recording
from whisper_farm.cli.following import Ended, Following, Watched
from whisper_farm.cli.naming import Notes
from whisper_farm.cli.progress import Display
from whisper_farm.cli.sending import Sender
from whisper_farm.cli.words import span, speed
from whisper_farm.client.farm import FarmClient
from whisper_farm.errors import FarmError
from whisper_farm.protocol.client import Gap, TranscriptionView
from whisper_farm.times import clock
from whisper_farm.transcript.languages import LANGUAGES
from whisper_farm.transcript.transcript import NO_WORDS, Transcript, damage_in_words

GAPS_SHOWN = 3


More = Callable[[], Sequence[Recording]]
"""Gives recordings that have come since it was asked last."""


class TranscriptionRun:
    """A run. `sender` has the farm: it hears what becomes of each recording, and is asked what it alone knows."""

    def __init__(
        self, farm: FarmClient, sender: Sender, notes: Notes, display: Display, stopping: threading.Event
    ) -> None:
        self._farm, self._sender, self._notes, self._display = farm, sender, notes, display
        self._stopping = stopping
        self._recordings: dict[Watched, Recording] = {}
        self.failed = 0
        self.audio_seconds = 0.0
        """How much of the recordings was transcribed in this run."""

    def run(self, recordings: Sequence[Recording], more: More | None = None) -> None:
        """Transcribe them all; with `more`, also what it gives whenever it is asked, until somebody stops this."""
        pool = ThreadPoolExecutor(1, "sending")
        headings = more is not None or len(recordings) > 1
        with Following(self._farm, self._display, headings, self._sender.warns) as following:
            numbers, sending = count(), deque[tuple[Recording, Future[TranscriptionView]]]()

            def send(recording: Recording) -> None:
                sent = pool.submit(self._sender.send, recording, next(numbers), self._display)
                sent.add_done_callback(lambda _: following.wake.set())
                sending.append((recording, sent))

            for recording in recordings:
                send(recording)
            try:
                while sending or following.active or more is not None:
                    self._follow(following, sending)
                    for recording in more() if more is not None else ():
                        send(recording)
            finally:
                self._stopping.set()
                pool.shutdown(wait=False, cancel_futures=True)

    def unfinished(self) -> list[str]:
        """How far the recordings are that have not ended: for the line that Ctrl-C leaves behind."""
        return [
            f"{one.name} up to {clock(one.view.progress.done_seconds)}"
            for one in self._recordings
            if one.end is None and not one.finished and one.view.progress.done_seconds
        ]

    def _follow(self, following: Following, sending: deque[tuple[Recording, Future[TranscriptionView]]]) -> None:
        while sending and sending[0][1].done():
            self._take_up(following, *sending.popleft())
        for one in following.step():
            one.end = self._finish(one)
        following.end_turns()
        self._sender.check()

    def _take_up(self, following: Following, recording: Recording, sent: Future[TranscriptionView]) -> None:
        try:
            view = sent.result()
        except FarmError as error:
            self._display.end(recording.name)
            self._fail(recording.name, error.message)
        else:
            self._recordings[following.watch(recording.name, view)] = recording
            self._sender.sent(view)

    def _finish(self, one: Watched) -> Ended:
        self._display.end(one.name)
        try:
            if one.view.state in ("done", "incomplete"):
                return self._write(one)
            return self._fail(one.name, why_not(one.view))
        except FarmError as error:
            return self._fail(one.name, error.message)

    def _write(self, one: Watched) -> Ended:
        recording = self._recordings[one]
        self._sender.check_unchanged(recording, one.view.id)
        transcript = self._farm.transcript(one.view.id)
        self._notes.outputs.write(transcript, recording.stem)
        self._notes.keep(recording, self._sender.fingerprints.get(recording.path))
        self._sender.written(one.view)
        said = (short_damage(one.view), speech_in_words(transcript), languages_in_words(transcript))
        for line in (*one.view.remarks, *said):
            if line:
                self._display.note(f"{one.name}: {line}")
        if one.view.state == "incomplete":
            self._fail(one.name, f"the transcript is incomplete: {why_not(one.view)}")
        files = self._notes.outputs.named(recording.stem)
        return Ended(True, [f"{one.name}: {self._summary(one, transcript)} → {files}"])

    def _summary(self, one: Watched, transcript: Transcript) -> str:
        if one.ended_before:
            return f"{span(transcript.duration)}, transcribed before"
        known_seconds, new_seconds = time.monotonic() - one.since, transcript.duration - one.done_before
        took_seconds = min(known_seconds, self._sender.worked_seconds(one.view) or known_seconds)
        self.audio_seconds += new_seconds
        earlier = f", {span(one.done_before)} of it before" if one.done_before else ""
        pace = speed(new_seconds / max(took_seconds, 0.001))
        workers = self._sender.workers(transcript)
        return f"{span(transcript.duration)} in {span(took_seconds)}{earlier}, {pace} real time, {workers}"

    def _fail(self, name: str, reason: str) -> Ended:
        self.failed += 1
        self._display.error(reason if name in reason else f"{name}: {reason}")
        return Ended(False)


def why_not(view: TranscriptionView) -> str:
    """Why there is no transcript, or not all of one. Without the recording's name: the same bytes may have several."""
    reason = (view.error or {}).get("message") or gaps_in_words(view.gaps) or f"the transcription was {view.state}."
    return f": {reason}".replace(f": {view.name}: ", ": ").removeprefix(": ")


def short_damage(view: TranscriptionView) -> str:
    """What to say of damage that no gap tells of."""
    words = damage_in_words(view.damaged_packets)
    told = not view.damaged_packets or any(gap.reason == words for gap in view.gaps)
    return "" if told else f"{words}, for no longer than a second at a time"


def speech_in_words(transcript: Transcript) -> str:
    """What to say of speech that got no words, and of a recording in which nobody speaks."""
    unheard = [stretch for stretch in transcript.coverage.missing if stretch.reason == NO_WORDS]
    if not unheard:
        return "" if transcript.segments or transcript.coverage.missing else "no speech was found"
    seconds = sum(stretch.end - stretch.start for stretch in unheard)
    places = ", ".join(clock(stretch.start) for stretch in unheard[:GAPS_SHOWN])
    more = f" and {len(unheard) - GAPS_SHOWN} more times" if len(unheard) > GAPS_SHOWN else ""
    doubt = "" if transcript.segments else "; does this model know the language?"
    return f"{span(seconds)} of speech got no words, at {places}{more}{doubt}"


def languages_in_words(transcript: Transcript) -> str:
    """What to say of a recording in which several languages were heard."""
    found = [f"{LANGUAGES.get(code, code).title()} ({span(seconds)})" for code, seconds in transcript.languages.items()]
    return f"several languages were heard: {', '.join(found)}" if len(found) > 1 else ""


def gaps_in_words(gaps: Sequence[Gap]) -> str:
    """Which seconds are missing, and why."""
    words = [
        f"{clock(gap.start_seconds)}–{clock(gap.end_seconds)} is missing ({gap.reason})" for gap in gaps[:GAPS_SHOWN]
    ]
    if len(gaps) > GAPS_SHOWN:
        words.append(f"and {len(gaps) - GAPS_SHOWN} more stretches")
    return "; ".join(words)
