"""Hands recordings to a farm: by upload to one elsewhere (`Sender`). See `local_sending.py` for the one in a command.

Promises: a recording is known by the SHA-256 of its bytes and by what is asked for. So the same command given again
finds what is there and goes on with it. A file that changes while it is transcribed is noticed. Giving up (`stopping`)
takes effect between two blocks.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisper_farm.cli.files import Recording
from whisper_farm.cli.progress import BYTES, Display
from whisper_farm.cli.words import counted
from whisper_farm.errors import InvalidRequest, NotFound, SourceEmpty, SourceMissing, SourceUnreadable, WrongState
from whisper_farm.ingest.addresses import link_name
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Transcript

if TYPE_CHECKING:
    from whisper_farm.client.farm import FarmClient
    from whisper_farm.protocol.client import Submission, TranscriptionView

BLOCK_BYTES = 1 << 20
Progress = Callable[[int, int], None]
"""Told how many bytes are done, and how many there are."""
FIRST_JOBS = 20
"""Jobs of a recording among which the one that was begun first is looked for."""
NOTICED_SECONDS = 1.0
"""What is read in less time needs no figures."""


class Interrupted(Exception):
    """The run was stopped: nothing went wrong."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a file's bytes are, and what its folder said of it when they were read."""

    sha256: str
    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """What is asked for, of every recording of a run."""

    options: RecognitionOptions
    chunk_seconds: float
    variant: str = ""
    """Anything else that changes the words: recordings asked for with another variant are done anew."""
    label: str = ""
    """Of the workers that are to work on it."""

    def labelled(self, recordings: Sequence[Recording]) -> TranscriptionRequest:
        """The same for the worker of this command alone; equal commands at the same time share their work."""
        paths = "\n".join(recording.link or str(recording.path.resolve()) for recording in recordings)
        return replace(self, label=self.key(hashlib.sha256(paths.encode(errors="surrogatepass")).hexdigest())[:32])

    def submission(self, name: str, **more: Any) -> Submission:
        """What is submitted for a recording of this name."""
        from whisper_farm.protocol.client import Submission  # late: the worker of `transcribe` starts before

        return Submission(name=name[-255:], options=self.options, chunk_seconds=self.chunk_seconds, **more)

    def key(self, sha256: str) -> str:
        """The submission key of a recording."""
        asked = self.options.model_dump(mode="json") | {"chunk_seconds": self.chunk_seconds, "variant": self.variant}
        return hashlib.sha256(f"{sha256} {json.dumps(asked, sort_keys=True)}".encode()).hexdigest()


class Sender:
    """The way of a run's recordings to a farm elsewhere: by upload, unless the farm has the recording already."""

    warns = True
    """Whether the farm's warnings are worth showing."""

    def __init__(self, farm: FarmClient, request: TranscriptionRequest, stopping: threading.Event) -> None:
        self._farm, self._request, self._stopping = farm, request, stopping
        self._sent: set[str] = set()
        self.fingerprints: dict[Path, Fingerprint] = {}
        """Of the files that were sent."""

    def send(self, recording: Recording, number: int, display: Display) -> TranscriptionView:
        """Submit the `number`th recording, showing what is being done with it meanwhile.

        What the farm has from an earlier run goes on there. Of two files with the same bytes, the second is told what
        became of the first: somebody may still be looking at it. A link may lead to something else by now: what is
        done is fetched and transcribed anew.
        """
        if recording.link is not None:
            return self._send_link(recording.link, number, display)
        fingerprint = fingerprint_of(recording.path, self._stopping, reading(display, recording.name))
        self.fingerprints[recording.path] = fingerprint
        submit = partial(self._submit, recording, number, fingerprint, display)
        view = submit()
        if view.id not in self._sent:
            view = _resumed(self._farm, view) or submit()
            self._sent.add(view.id)
        return view

    def sent(self, view: TranscriptionView) -> None:
        """The farm has a recording."""

    def check(self) -> None:
        """Raise the reason not to go on, if there is one."""

    def check_unchanged(self, recording: Recording, transcription_id: str) -> None:
        """Raise if the file is not what was submitted any more."""

    def _send_link(self, link: str, number: int, display: Display) -> TranscriptionView:
        display.begin(link, "fetching")
        key = self._request.key(hashlib.sha256(link.encode()).hexdigest())
        submission = self._request.submission(link_name(link), url=link, key=key, **self._asked(number))
        view = self._farm.submit(submission)
        if view.state == "done":
            self._farm.delete(view.id)
            return self._farm.submit(submission)
        return _resumed(self._farm, view) or self._farm.submit(submission)

    def _asked(self, number: int) -> dict[str, Any]:
        return {}

    def written(self, view: TranscriptionView) -> None:
        """The outputs of a transcription are there."""

    def worked_seconds(self, view: TranscriptionView) -> float | None:
        """How long ago the work on a transcription itself began: that it waited for others makes it no slower.

        It begins when its first chunk is given to a worker, by the farm's clock.
        """
        jobs = [job for job in islice(self._farm.jobs(view.id), FIRST_JOBS) if job.kind == "transcribe"]
        claimed = [attempt.started_at for job in jobs for attempt in job.attempts]
        return view.finished_at - min(claimed) if claimed and view.finished_at is not None else None

    def workers(self, transcript: Transcript) -> str:
        """Who did it, in words."""
        return counted(len(transcript.maker.workers), "worker")

    def _submit(
        self, recording: Recording, number: int, fingerprint: Fingerprint, display: Display
    ) -> TranscriptionView:
        def sent(done: int, size: int) -> None:
            if self._stopping.is_set():
                raise Interrupted()
            display.transfer(recording.name, "sending", done, size)

        from whisper_farm.client.uploads import sendable

        key = self._request.key(fingerprint.sha256)
        with suppress(InvalidRequest):  # the farm has it already, or misses the upload
            return self._farm.submit(self._request.submission(sendable(recording.path.name), key=key))
        return self._farm.submit_file(
            recording.path,
            options=self._request.options,
            chunk_seconds=self._request.chunk_seconds,
            key=key,
            sha256=fingerprint.sha256,
            progress=sent,
        )


def reading(display: Display, name: str) -> Progress:
    """Show that a recording is read and, where that takes its time, how much of it was."""
    display.begin(name, "reading")
    began = time.monotonic()

    def read(done: int, size: int) -> None:
        if time.monotonic() - began >= NOTICED_SECONDS:
            display.advance(name, done, size, BYTES)

    return read


def _resumed(farm: FarmClient, view: TranscriptionView) -> TranscriptionView | None:
    """What an earlier run left, under way again if anything is missing; None if it is to be submitted anew."""
    try:
        if view.state == "failed":
            farm.delete(view.id)
            return None
        if view.state == "cancelled" or (view.state == "incomplete" and view.mendable):
            return farm.retry(view.id)
    except (WrongState, NotFound):
        return None
    return view


def retry(farm: FarmClient, transcription_id: str) -> TranscriptionView:
    """Try again what failed or was cancelled. Raises `WrongState` where it could not end otherwise.

    What lacks nothing but speakers is recognised again beside it: its words stay, should no worker tell them apart.
    """
    view = farm.get(transcription_id)
    if _lacks_speakers(view) and view.state in ("done", "incomplete") and not view.mendable:
        return _with_speakers(farm, view)
    if view.state in ("failed", "incomplete") and not view.mendable:
        lacks = f"{view.name}: what is missing, the file itself lacks"
        why = str(view.error["message"]).rstrip(".") if view.error else lacks
        raise WrongState(f"{why}; there is nothing to try again.")
    return farm.retry(transcription_id)


def _with_speakers(farm: FarmClient, view: TranscriptionView) -> TranscriptionView:
    """The same recording, asked for once more. Whoever asks twice gets the last one that was made so."""
    from whisper_farm.protocol.client import Submission

    options, key = view.options.model_copy(update={"revision": None}), f"speakers of {view.id}"
    again = Submission(name=view.name, transcription_id=view.id, options=options, priority=view.priority, key=key)
    made = farm.submit(again)
    return _with_speakers(farm, made) if made.state == "done" and _lacks_speakers(made) else made


def _lacks_speakers(view: TranscriptionView) -> bool:
    return view.warning_code == "without_speakers"


def fingerprint_of(path: Path, stopping: threading.Event, progress: Progress = lambda done, size: None) -> Fingerprint:
    """Read a file once. Raises the error that says why it cannot be."""
    done = 0
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            facts = path.stat()
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
                done += len(block)
                progress(done, facts.st_size)
                if stopping.is_set():
                    raise Interrupted()
    except FileNotFoundError as error:
        raise SourceMissing(f"{path}: there is no such file.") from error
    except OSError as error:
        raise SourceUnreadable(f"{path}: cannot be read ({error.strerror or error}).") from error
    if facts.st_size == 0:
        raise SourceEmpty(f"{path}: the file is empty.")
    return Fingerprint(digest.hexdigest(), facts.st_size, facts.st_mtime_ns)
