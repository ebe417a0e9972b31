"""Hands recordings to a farm: by path to the one inside this command, by upload to one elsewhere.

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
from pathlib import Path
from typing import Any

from whisper_farm.cli.files import Recording
from whisper_farm.cli.progress import BYTES, Display
from whisper_farm.client.farm import FarmClient
from whisper_farm.errors import (
    InvalidRequest,
    NotFound,
    SourceEmpty,
    SourceMissing,
    SourceUnreadable,
    WrongState,
)
from whisper_farm.ingest.addresses import link_name
from whisper_farm.protocol.client import FINISHED, Submission, TranscriptionView
from whisper_farm.transcript.options import RecognitionOptions

BLOCK_BYTES = 1 << 20
Progress = Callable[[int, int], None]
"""Told how many bytes are done, and how many there are."""
LOWEST_PRIORITY = -100
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

    def key(self, sha256: str) -> str:
        """The submission key of a recording."""
        asked = self.options.model_dump(mode="json") | {"chunk_seconds": self.chunk_seconds, "variant": self.variant}
        return hashlib.sha256(f"{sha256} {json.dumps(asked, sort_keys=True)}".encode()).hexdigest()


class Sender:
    """Hands the recordings of one run over, one after another."""

    def __init__(self, farm: FarmClient, request: TranscriptionRequest, stopping: threading.Event) -> None:
        self._farm = farm
        self._request = request
        self._stopping = stopping
        self._sent: set[str] = set()

    def send(self, recording: Recording, number: int, display: Display) -> TranscriptionView:
        """Submit the `number`th recording, showing what is being done with it meanwhile.

        What the farm has from an earlier run goes on there. Of two files with the same bytes, the second is told what
        became of the first: somebody may still be looking at it. A link may lead to something else by now: what is
        done is fetched and transcribed anew.
        """
        if recording.link is not None:
            return self._send_link(recording.link, number, display)
        fingerprint = fingerprint_of(recording.path, self._stopping, reading(display, recording.name))
        submit = partial(self._submit, recording, number, fingerprint, display)
        view = submit()
        if view.id not in self._sent:
            view = _resumed(self._farm, view) or submit()
            self._sent.add(view.id)
        return view

    def check_unchanged(self, recording: Recording, transcription_id: str) -> None:
        """Raise if the file is not what was submitted any more."""

    def _send_link(self, link: str, number: int, display: Display) -> TranscriptionView:
        display.begin(link, "fetching")
        key = self._request.key(hashlib.sha256(link.encode()).hexdigest())
        asked = self._asked(number) | {"options": self._request.options, "chunk_seconds": self._request.chunk_seconds}
        submission = Submission(name=link_name(link), url=link, key=key, **asked)
        view = self._farm.submit(submission)
        if view.state == "done":
            self._farm.delete(view.id)
            return self._farm.submit(submission)
        return _resumed(self._farm, view) or self._farm.submit(submission)

    def _asked(self, number: int) -> dict[str, Any]:
        """What is asked for of the `number`th recording beside its words."""
        return {}

    def _submit(
        self, recording: Recording, number: int, fingerprint: Fingerprint, display: Display
    ) -> TranscriptionView:
        raise NotImplementedError


class LocalSender(Sender):
    """Submits by path: the farm of this command reads the file where it is."""

    def __init__(
        self,
        farm: FarmClient,
        request: TranscriptionRequest,
        stopping: threading.Event,
        point_to: Callable[[str, Path], None] = lambda transcription_id, path: None,
    ) -> None:
        """`point_to` tells the farm where an unfinished recording is found now."""
        super().__init__(farm, request, stopping)
        self._point_to = point_to
        self._fingerprints: dict[Path, Fingerprint] = {}

    def send(self, recording: Recording, number: int, display: Display) -> TranscriptionView:
        view = super().send(recording, number, display)
        if not recording.link and view.state not in FINISHED and not view.progress.chunking_done:
            self._point_to(view.id, recording.path.resolve())
        return view

    def check_unchanged(self, recording: Recording, transcription_id: str) -> None:
        """A transcription of a file that changed meanwhile is forgotten: it may be half of either."""
        if recording.link:
            return
        fingerprint = self._fingerprints[recording.path]
        try:
            facts = recording.path.stat()
        except OSError:
            return
        if (facts.st_size, facts.st_mtime_ns) != (fingerprint.size, fingerprint.modified_ns):
            self._farm.delete(transcription_id)
            raise SourceUnreadable(f"{recording.name}: changed while it was being transcribed; run the command again.")

    def _submit(
        self, recording: Recording, number: int, fingerprint: Fingerprint, display: Display
    ) -> TranscriptionView:
        self._fingerprints[recording.path] = fingerprint
        path = str(recording.path.resolve())
        if any("\ud800" <= letter <= "\udfff" for letter in path):
            raise SourceUnreadable(f"{recording.name}: the name of this file is no valid text; rename it.")
        submission = Submission(
            name=str(recording.path)[-255:],
            path=path,
            sha256=fingerprint.sha256,
            options=self._request.options,
            chunk_seconds=self._request.chunk_seconds,
            key=self._request.key(fingerprint.sha256),
            **self._asked(number),
        )
        return self._farm.submit(submission)

    def _asked(self, number: int) -> dict[str, Any]:
        return {"priority": max(LOWEST_PRIORITY, -number), "label": self._request.label, "peaks": False}


class UploadingSender(Sender):
    """Submits by upload, unless the farm has the recording already. It checks the digest on arrival."""

    def _submit(
        self, recording: Recording, number: int, fingerprint: Fingerprint, display: Display
    ) -> TranscriptionView:
        def sent(done: int, size: int) -> None:
            if self._stopping.is_set():
                raise Interrupted()
            show_upload(display, recording.name, done, size)

        options, key = self._request.options, self._request.key(fingerprint.sha256)
        with suppress(InvalidRequest):  # the farm has it already, or misses the upload
            return self._farm.submit(Submission(name=recording.path.name[-255:], key=key, options=options))
        return self._farm.submit_file(
            recording.path,
            options=options,
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


def show_upload(display: Display, name: str, done: int, size: int) -> None:
    """Show how much of a recording was sent."""
    display.begin(name, "sending")
    display.advance(name, done, size, BYTES)


def _resumed(farm: FarmClient, view: TranscriptionView) -> TranscriptionView | None:
    """What an earlier run left, under way again if anything is missing; None if it is to be submitted anew."""
    try:
        if view.state == "failed":
            farm.delete(view.id)
            return None
        if view.state == "cancelled" or (view.state == "incomplete" and can_be_mended(view)):
            return farm.retry(view.id)
    except (WrongState, NotFound):
        return None
    return view


def retry(farm: FarmClient, transcription_id: str) -> TranscriptionView:
    """Try again what failed or was cancelled. Raises `WrongState` where the file itself lacks all that is missing."""
    view = farm.get(transcription_id)
    if view.state == "incomplete" and not can_be_mended(view):
        raise WrongState(f"{view.name}: what is missing, the file itself lacks; there is nothing to try again.")
    return farm.retry(transcription_id)


def can_be_mended(view: TranscriptionView) -> bool:
    """Whether trying again could fill a gap: what the file itself lacks, by damage or cut off, no retry brings back."""
    return not view.progress.chunking_done or any(gap.position is not None for gap in view.gaps)


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
