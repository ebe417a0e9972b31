"""The way of a run's recordings to the farm inside this command: by path, and with its worker.

Promises: a file that changes while it is transcribed is noticed. The worker works when there is something to do.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from whisper_farm.cli.files import Recording
from whisper_farm.cli.notices import Notices
from whisper_farm.cli.progress import Display
from whisper_farm.cli.sending import Fingerprint, Sender, TranscriptionRequest
from whisper_farm.cli.spool import with_plain_name
from whisper_farm.cli.words import counted
from whisper_farm.errors import SourceUnreadable
from whisper_farm.farm import LocalFarm
from whisper_farm.protocol.client import FINISHED, TranscriptionView
from whisper_farm.settings import data_folder
from whisper_farm.showing import printable
from whisper_farm.transcript.transcript import Transcript

LOWEST_PRIORITY = -100


class LocalSender(Sender):
    """Submits by path: the farm of this command reads the file where it is."""

    warns = False

    def __init__(
        self, farm: LocalFarm, request: TranscriptionRequest, stopping: threading.Event, notices: Notices
    ) -> None:
        super().__init__(farm.client, request, stopping)
        self._local, self._notices = farm, notices

    def send(self, recording: Recording, number: int, display: Display) -> TranscriptionView:
        view = super().send(recording, number, display)
        if not recording.link and view.state not in FINISHED and not view.progress.chunking_done:
            self._local.point_to(view.id, _place(recording))
        return view

    def sent(self, view: TranscriptionView) -> None:
        if view.state not in FINISHED and self._local.start_worker():
            self._notices.waiting_for(self._request.options.model)

    def check(self) -> None:
        self._local.check()

    def check_unchanged(self, recording: Recording, transcription_id: str) -> None:
        """A transcription of a file that changed meanwhile is forgotten: it may be half of either."""
        if recording.link:
            return
        fingerprint = self.fingerprints[recording.path]
        try:
            facts = recording.path.stat()
        except OSError:
            return
        if (facts.st_size, facts.st_mtime_ns) != (fingerprint.size, fingerprint.modified_ns):
            self._farm.delete(transcription_id)
            raise SourceUnreadable(f"{recording.name}: changed while it was being transcribed; run the command again.")

    def written(self, view: TranscriptionView) -> None:
        if not view.mendable:
            self._local.drop_audio(view.id)

    def worked_seconds(self, view: TranscriptionView) -> float | None:
        began = self._notices.began.get(view.id)
        return None if began is None else time.monotonic() - began

    def workers(self, transcript: Transcript) -> str:
        return f"1 worker with {counted(self._local.slots(), 'slot')}"

    def _submit(
        self, recording: Recording, number: int, fingerprint: Fingerprint, display: Display
    ) -> TranscriptionView:
        sha256, key = fingerprint.sha256, self._request.key(fingerprint.sha256)
        place, asked = str(_place(recording)), self._asked(number)
        name = printable(recording.name)
        return self._farm.submit(self._request.submission(name, path=place, sha256=sha256, key=key, **asked))

    def _asked(self, number: int) -> dict[str, Any]:
        return {"priority": max(LOWEST_PRIORITY, -number), "label": self._request.label, "peaks": False}


def _place(recording: Recording) -> Path:
    """Where the farm finds a file; names that are no text have another there."""
    return with_plain_name(recording.path.resolve(), data_folder() / "names")
