"""What can happen in a farm: one model for each kind of event, shared by the server, its clients and the API document.

The kinds are closed: `EventKind` is the type of their names, and `EVENTS` has the model of each. The event log keeps
the fields of an event as JSON, without its kind. A client may meet an event of a newer server: `event_of` gives None
then. This module does not know who emits an event, or who follows the log.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError

from whisper_farm.protocol.wire import Answer, Bytes, ErrorCode, Id, JobKind, Name, Position, Seconds
from whisper_farm.transcript.options import Language

Reason = Annotated[str, Field(max_length=8000)]
Sum = Annotated[float, Field(allow_inf_nan=False)]
"""Seconds added up. Rounding may put a sum a hair below zero."""
Count = Annotated[int, Field(ge=0, le=1_000_000)]


EventKind = Literal[
    "transcription_submitted", "transcription_fetching", "transcription_fetched", "transcription_started",
    "transcription_unserved", "transcription_assembling", "transcription_done", "transcription_incomplete",
    "transcription_failed", "transcription_cancelled", "transcription_retried", "transcription_renamed",
    "transcription_deleted", "transcription_edited", "chunks_appended", "chunking_done", "peaks_done",
    "language_decided", "job_done", "job_retried", "job_released", "job_redo", "job_set_aside", "worker_joined",
    "worker_draining", "worker_dismissed", "worker_paused", "worker_resumed", "worker_gone", "worker_hours_changed",
    "limits_changed", "settings_changed",
]  # fmt: skip


class FarmEvent(Answer):
    """What all events are made of. The kind is the name of the class, as `job_done` is of `JobDone`."""

    kind: ClassVar[EventKind]

    def __init_subclass__(cls) -> None:
        if not cls.__name__.startswith("_"):
            cls.kind = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()  # type: ignore[assignment] # one of them
            EVENTS[cls.kind] = cls


EVENTS: dict[str, type[FarmEvent]] = {}
"""Every event by its kind."""


class TranscriptionSubmitted(FarmEvent):
    """A transcription was accepted."""

    name: Name


class TranscriptionFetching(FarmEvent):
    """More of the recording has been fetched, or a try broke off; `message` says why."""

    received_bytes: Bytes
    total_bytes: Bytes | None = None
    message: Reason | None = None


class TranscriptionFetched(FarmEvent):
    """The recording behind the link is there."""

    received_bytes: Bytes


class TranscriptionStarted(FarmEvent):
    """A worker claimed the first job of a transcription."""


class TranscriptionUnserved(FarmEvent):
    """No live worker can have the model of a transcription any more; it waits until one can."""

    message: Reason


class TranscriptionAssembling(FarmEvent):
    """The last job has ended; the transcript is put together."""


class TranscriptionDone(FarmEvent):
    """The transcript is there, and nothing is missing."""


class TranscriptionIncomplete(FarmEvent):
    """The transcript is there, and says which seconds are missing."""


class TranscriptionFailed(FarmEvent):
    """There is no transcript; the first error says why."""

    code: ErrorCode
    message: Reason


class TranscriptionCancelled(FarmEvent):
    """Somebody stopped a transcription."""


class TranscriptionRetried(FarmEvent):
    """Jobs that were set aside or cancelled are tried again."""


class TranscriptionRenamed(FarmEvent):
    """A transcription has another name."""

    name: Name


class TranscriptionDeleted(FarmEvent):
    """The farm has forgotten a transcription."""


class TranscriptionEdited(FarmEvent):
    """Somebody changed the transcript, or named a version; `number` is that of the newest edit."""

    number: Count
    author: Name


class ChunksAppended(FarmEvent):
    """Chunks came in: `count` of them from position `first` on. The audio is cut up to `cut_seconds`."""

    first: Position
    count: Count
    cut_seconds: Seconds


class ChunkingDone(FarmEvent):
    """The audio is cut to its end."""

    chunks: Count
    duration_seconds: Seconds


class PeaksDone(FarmEvent):
    """The recording can be listened to: its listening copy and the peaks of its waveform are there."""

    duration_seconds: Seconds


class LanguageDecided(FarmEvent):
    """The transcription is in this language from now on."""

    language: Language


class JobDone(FarmEvent):
    """A chunk has its result, or is silent. The last two fields count all chunks that are done."""

    position: Position
    seconds: Sum
    done_seconds: Sum
    chunks_done: Count


class JobRetried(FarmEvent):
    """A job went back to the queue after a failure."""

    position: Position
    code: ErrorCode


class JobReleased(FarmEvent):
    """A worker handed a job back untouched."""

    position: Position


class JobRedo(FarmEvent):
    """A chunk was heard in another language than the transcription's, or a second worker is asked: it is done again."""

    position: Position


class JobSetAside(FarmEvent):
    """A job has had its share of tries; `start` and `end` are the seconds that are missing."""

    code: ErrorCode
    message: Reason
    job_kind: JobKind
    position: Position
    start: Seconds
    end: Seconds


class _AboutWorker(FarmEvent):
    worker_id: Id
    name: Name


class WorkerJoined(_AboutWorker):
    """A worker registered, for the first time or again after it was given up or rested."""


class WorkerDraining(_AboutWorker):
    """A worker was told to finish what it holds and leave."""


class WorkerDismissed(_AboutWorker):
    """A worker was told to hand everything back and leave."""


class WorkerPaused(_AboutWorker):
    """A worker is given no more jobs until it is resumed."""


class WorkerResumed(_AboutWorker):
    """A worker that was paused is given jobs again."""


class WorkerGone(_AboutWorker):
    """A worker left, or was silent for too long."""


class WorkerHoursChanged(_AboutWorker):
    """An administrator wants all workers of this name to work in other hours."""

    hours: str | None
    author: Name


class LimitsChanged(FarmEvent):
    """An administrator changed limits of the farm: which, and to what."""

    author: Name
    changed: dict[str, float | None]


class SettingsChanged(FarmEvent):
    """A part of the settings, or the links of a recording, are others now: which."""

    what: Literal["tokens", "people", "join-codes", "feeds", "webhooks", "preferences", "shares"]


def event_of(kind: str, data: dict[str, Any]) -> FarmEvent | None:
    """The event of that kind with these fields; None if this version does not know it."""
    try:
        return EVENTS[kind].model_validate(data, extra="ignore")
    except (KeyError, ValidationError):
        return None


def fields_of(event: FarmEvent) -> dict[str, Any]:
    """What the event log keeps of an event beside its kind."""
    return event.model_dump(mode="json")


def schema_of_data() -> dict[str, Any]:
    """The JSON schema of what `fields_of` gives, one alternative for each kind."""
    return {"anyOf": [model.model_json_schema() for model in EVENTS.values()]}
