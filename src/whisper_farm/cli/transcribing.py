"""What `whisper-farm transcribe` does: inputs to recordings, recordings to a farm, transcripts to files.

Without `--server` the farm is made on the spot: see `farm.LocalFarm`. Both ways are the same `TranscriptionRun`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisper_farm.cli.connection import connect, settled
from whisper_farm.cli.files import Outputs, Recording, recordings
from whisper_farm.cli.naming import Notes, as_recordings
from whisper_farm.cli.notices import Notices
from whisper_farm.cli.progress import Display, open_display
from whisper_farm.cli.recognition_flags import RecognitionWish, layout_of, wish_of
from whisper_farm.cli.sending import Sender, TranscriptionRequest
from whisper_farm.cli.spool import spooling
from whisper_farm.cli.stopping import Stopped
from whisper_farm.cli.submit import farm_model
from whisper_farm.cli.words import counted, span, speed
from whisper_farm.cli.worker import machine_settings, worker_settings
from whisper_farm.client.loop_thread import LoopThread
from whisper_farm.engines.choose import choose_model
from whisper_farm.engines.engine import EngineSettings, FetchProgress
from whisper_farm.errors import InvalidRequest, SourceMissing
from whisper_farm.ingest.folders import Settling
from whisper_farm.settings import Policy, WorkerSettings, data_folder
from whisper_farm.transcript.cues import CueLayout
from whisper_farm.transcript.formats import WHISPERS
from whisper_farm.whole_files import make_data_folder
from whisper_farm.worker.local import LocalWorker

if TYPE_CHECKING:
    from whisper_farm.cli.session import More, TranscriptionRun

MENTIONED = 3
MOST_RECORDINGS = 10_000
"""What a worker's claim can name."""
LOCAL_FOLDER = "transcribe"
"""Below the data folder: the state of `transcribe`, apart from that of a server on this machine."""
LOOKING = "model"
"""What is shown before it is known which model it will be: to ask the model hub may take some seconds."""
SHARED = {"device", "device_index", "compute_type", "threads", "model_dir", "local_files_only"}
"""Settings of a worker that its engine has too."""
Flags = Mapping[str, Any]


def run(flags: Flags) -> int:
    """Transcribe everything that a command line names; returns the exit code."""
    wish, layout = wish_of(flags), layout_of(flags)
    began = time.monotonic()
    with spooling() as spool, open_display(flags["quiet"], flags["verbose"]) as display:
        inputs = recordings(flags["audio"], spool)
        for error in inputs.errors:
            display.error(error.message)
        work = Transcribing(flags, wish, layout, display)
        named = as_recordings(inputs, work.notes)
        todo = work.without_existing(named) if flags["skip_existing"] else named
        work.claim(todo)
        failed, audio_seconds = len(inputs.errors), 0.0
        if todo:
            session = work.transcribe(todo)
            failed, audio_seconds = failed + session.failed, session.audio_seconds
        count, skipped = len(named) + len(inputs.errors), len(named) - len(todo)
        if count > 1:
            display.note(_total(count, skipped, failed, audio_seconds, time.monotonic() - began))
    return 1 if failed else 0


def watch_folder(flags: Flags) -> int:
    """Transcribe what is put into a folder, until the command is stopped."""
    folder = Path(flags["folder"]).expanduser()
    if not folder.is_dir():
        raise SourceMissing(f"{folder}: there is no such folder.")
    wish, settling, told = wish_of(flags), Settling(flags["settle_seconds"]), set[str]()
    with open_display(flags["quiet"], flags["verbose"]) as display:
        work = Transcribing(flags, wish, layout_of(flags), display)

        def more() -> list[Recording]:
            inputs = recordings([str(folder)])
            for error in inputs.errors:
                if not isinstance(error, SourceMissing) and error.message not in told:
                    told.add(error.message)
                    display.error(error.message)
            ready = replace(inputs, files=tuple(settling.ready(inputs.files)))
            todo = [one for one in as_recordings(ready, work.notes) if not work.notes.is_there(one)]
            work.claim(todo)
            return todo

        display.note(f"watching {folder}; stop it with Ctrl-C.")
        work.transcribe([], more)
    return 0


def _total(count: int, skipped: int, failed: int, audio_seconds: float, took_seconds: float) -> str:
    words = [f"{count - skipped - failed} of {counted(count, 'recording')} transcribed"]
    if skipped:
        words.append(f"{skipped} skipped")
    if audio_seconds:
        pace = speed(audio_seconds / max(took_seconds, 0.001))
        words.append(f"{span(audio_seconds)} in {span(took_seconds)}, {pace} real time")
    return ", ".join(words) + "."


class Transcribing:
    """What a command wants: how its recordings are recognised and where, and what becomes of the transcripts."""

    def __init__(self, flags: Flags, wish: RecognitionWish, layout: CueLayout, display: Display) -> None:
        self._flags, self._wish, self._display = flags, wish, display
        folder, formats = flags["output_dir"] or flags.get("folder", "."), flags["output_format"] or WHISPERS
        self._outputs = Outputs.into(folder, formats, layout, flags["output_name"])
        make_data_folder(data_folder())
        self.notes = Notes(data_folder() / "outputs", self._outputs)

    def claim(self, todo: Sequence[Recording]) -> None:
        """Keep the names of outputs for their recordings, and say what will be replaced that may be another's."""
        for recording in todo:
            note = self.notes.of(recording.stem)
            if note is None and any(file.exists() for file in self._outputs.files(recording.stem)):
                there = self._outputs.named(recording.stem)
                self._display.note(f"{recording.name}: will replace {there}, which may be of another recording")
            self.notes.keep(recording, None if note is None else note.made_of)

    def without_existing(self, named: Sequence[Recording]) -> list[Recording]:
        """Those whose outputs are not there, or were made of other bytes; what somebody else made is left alone."""
        there = {recording for recording in named if self.notes.is_there(recording)}
        for recording in named:
            if recording in there:
                self._display.note(f"{recording.name}: skipped, {self._outputs.named(recording.stem)} is there")
        return [recording for recording in named if recording not in there]

    def transcribe(self, todo: Sequence[Recording], more: More | None = None) -> TranscriptionRun:
        """Transcribe these, and what `more` gives, on the farm that was named, else on this machine."""
        return self._elsewhere(todo, more) if self._flags["server"] else self._here(todo, more)

    def _elsewhere(self, todo: Sequence[Recording], more: More | None) -> TranscriptionRun:
        from whisper_farm.cli.session import TranscriptionRun

        wish = self._wish
        request = TranscriptionRequest(wish.options(wish.engine, farm_model(wish)), wish.chunk_seconds)
        stopping = threading.Event()
        with connect(self._flags["server"], self._flags["token"]) as farm:
            farm.server()
            session = TranscriptionRun(farm, Sender(farm, request, stopping), self.notes, self._display, stopping)
            kept = "the farm goes on with what it has; the same command fetches it"
            return self._run(session, todo, more, kept)

    def _here(self, todo: Sequence[Recording], more: More | None) -> TranscriptionRun:
        if len(todo) > MOST_RECORDINGS:
            raise InvalidRequest(
                f"{len(todo)} recordings are too many for one command; give {MOST_RECORDINGS} at a time."
            )
        flags, wish, notices = self._flags, self._wish, Notices(self._display)
        policy, machine = settled(Policy), worker_settings(cuts=True, **machine_settings(flags))
        model = chosen_model(wish, machine, self._display)
        variant = "" if machine.compute_type == "default" else machine.compute_type
        request = TranscriptionRequest(wish.options(wish.engine, model), wish.chunk_seconds, variant)
        request = request.labelled([Recording(Path(flags["folder"]), "")] if more else todo)
        worker = machine.model_copy(update={"engines": (wish.engine,), "models": (model,), "label": request.label})
        stopping = threading.Event()
        with closing(LoopThread("farm")) as loop, closing(LocalWorker(loop, worker, notices)) as at_hand:
            from whisper_farm.cli.local_sending import LocalSender  # late: the worker starts meanwhile
            from whisper_farm.cli.session import TranscriptionRun
            from whisper_farm.farm import LocalFarm

            with LocalFarm(data_folder() / LOCAL_FOLDER, policy, at_hand) as farm:
                sender = LocalSender(farm, request, stopping, notices)
                session = TranscriptionRun(farm.client, sender, self.notes, self._display, stopping)
                return self._run(session, todo, more, "what is done is kept; the same command goes on from there")

    def _run(
        self, session: TranscriptionRun, todo: Sequence[Recording], more: More | None, kept: str
    ) -> TranscriptionRun:
        """Run a session. Being told to stop says what is kept, and goes on its way."""
        try:
            session.run(todo, more)
        except Stopped as stopped:
            so_far = "; ".join(session.unfinished()[:MENTIONED])
            self._display.close()
            self._display.error(f"stopped{f' with {so_far}' if so_far else ''}: {kept}.")
            stopped.line = None
            raise
        return session


def chosen_model(wish: RecognitionWish, worker: WorkerSettings, display: Display) -> str:
    """The model for a wish, on a machine that is used like this."""
    fetched: set[str] = set()
    display.begin(LOOKING, "looking for it")

    def fetching(news: FetchProgress) -> None:
        display.end(LOOKING)
        fetched.add(f"model {news.model}")
        display.transfer(f"model {news.model}", "fetching", news.done_bytes, news.total_bytes)

    settings = EngineSettings(**worker.model_dump(include=SHARED, exclude_none=True))
    try:
        if wish.flags["diarize"]:
            from whisper_farm.engines.voices import have_speaker_model  # late: NumPy is loaded where it is needed

            have_speaker_model(wish.speaker_model, settings, fetching)
        return choose_model(wish.engine, wish.model, wish.task, settings, fetching)
    finally:
        for name in (LOOKING, *fetched):
            display.end(name)
