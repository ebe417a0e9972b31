"""What can happen in a farm: one model for each kind of event, shared by the server, its clients and the API document.

The union is closed: `FarmEvent` names every kind, and `EventKind` is the type of their names. The event log keeps the
fields of an event as JSON, without its kind. A client may meet an event of a newer server: `event_of` gives None then.
This module does not know who emits an event, or who follows the log.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from whisper_farm.protocol.wire import Answer, Id, JobKind, Name, Position, Seconds

Code = Annotated[str, Field(pattern=r"^[a-z_]{1,64}$")]
Reason = Annotated[str, Field(max_length=8000)]
Sum = Annotated[float, Field(allow_inf_nan=False)]
"""Seconds added up. Rounding may put a sum a hair below zero."""
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]


class TranscriptionSubmitted(Answer):
    """A transcription was accepted."""

    kind: Literal["transcription_submitted"] = "transcription_submitted"
    name: Name


class TranscriptionStarted(Answer):
    """A worker claimed the first job of a transcription."""

    kind: Literal["transcription_started"] = "transcription_started"


class TranscriptionAssembling(Answer):
    """The last job has ended; the transcript is put together."""

    kind: Literal["transcription_assembling"] = "transcription_assembling"


class TranscriptionDone(Answer):
    """The transcript is there, and nothing is missing."""

    kind: Literal["transcription_done"] = "transcription_done"


class TranscriptionIncomplete(Answer):
    """The transcript is there, and says which seconds are missing."""

    kind: Literal["transcription_incomplete"] = "transcription_incomplete"


class TranscriptionFailed(Answer):
    """There is no transcript; the first error says why."""

    kind: Literal["transcription_failed"] = "transcription_failed"
    code: Code
    message: Reason


class TranscriptionCancelled(Answer):
    """Somebody stopped a transcription."""

    kind: Literal["transcription_cancelled"] = "transcription_cancelled"


class TranscriptionRetried(Answer):
    """Jobs that were set aside or cancelled are tried again."""

    kind: Literal["transcription_retried"] = "transcription_retried"


class TranscriptionDeleted(Answer):
    """The farm has forgotten a transcription."""

    kind: Literal["transcription_deleted"] = "transcription_deleted"


class TranscriptionEdited(Answer):
    """Somebody changed the transcript, or named a version; `number` is that of the newest edit."""

    kind: Literal["transcription_edited"] = "transcription_edited"
    number: Count
    author: Name


class ChunksAppended(Answer):
    """Chunks came in: `count` of them from position `first` on. The audio is cut up to `cut_seconds`."""

    kind: Literal["chunks_appended"] = "chunks_appended"
    first: Position
    count: Count
    cut_seconds: Seconds


class ChunkingDone(Answer):
    """The audio is cut to its end."""

    kind: Literal["chunking_done"] = "chunking_done"
    chunks: Count
    duration_seconds: Seconds


class PeaksDone(Answer):
    """The recording can be listened to: its listening copy and the peaks of its waveform are there."""

    kind: Literal["peaks_done"] = "peaks_done"
    duration_seconds: Seconds


class LanguageDecided(Answer):
    """The transcription is in this language from now on."""

    kind: Literal["language_decided"] = "language_decided"
    language: Language


class JobDone(Answer):
    """A chunk has its result, or is silent. The last two fields count all chunks that are done."""

    kind: Literal["job_done"] = "job_done"
    position: Position
    seconds: Sum
    done_seconds: Sum
    chunks_done: Count


class JobRetried(Answer):
    """A job went back to the queue after a failure."""

    kind: Literal["job_retried"] = "job_retried"
    position: Position
    code: Code


class JobReleased(Answer):
    """A worker handed a job back untouched."""

    kind: Literal["job_released"] = "job_released"
    position: Position


class JobRedo(Answer):
    """A chunk was recognised in another language than the transcription's, and is recognised again."""

    kind: Literal["job_redo"] = "job_redo"
    position: Position


class JobSetAside(Answer):
    """A job has had its share of tries; `start` and `end` are the seconds that are missing."""

    kind: Literal["job_set_aside"] = "job_set_aside"
    code: Code
    message: Reason
    job_kind: JobKind
    position: Position
    start: Seconds
    end: Seconds


class WorkerJoined(Answer):
    """A worker registered, for the first time or again after it was given up."""

    kind: Literal["worker_joined"] = "worker_joined"
    worker_id: Id
    name: Name


class WorkerDraining(Answer):
    """A worker was told to finish what it holds and leave."""

    kind: Literal["worker_draining"] = "worker_draining"
    worker_id: Id
    name: Name


class WorkerDismissed(Answer):
    """A worker was told to hand everything back and leave."""

    kind: Literal["worker_dismissed"] = "worker_dismissed"
    worker_id: Id
    name: Name


class WorkerGone(Answer):
    """A worker left, or was silent for too long."""

    kind: Literal["worker_gone"] = "worker_gone"
    worker_id: Id
    name: Name


FarmEvent = (
    TranscriptionSubmitted
    | TranscriptionStarted
    | TranscriptionAssembling
    | TranscriptionDone
    | TranscriptionIncomplete
    | TranscriptionFailed
    | TranscriptionCancelled
    | TranscriptionRetried
    | TranscriptionDeleted
    | TranscriptionEdited
    | ChunksAppended
    | ChunkingDone
    | PeaksDone
    | LanguageDecided
    | JobDone
    | JobRetried
    | JobReleased
    | JobRedo
    | JobSetAside
    | WorkerJoined
    | WorkerDraining
    | WorkerDismissed
    | WorkerGone
)
EventKind = Literal[
    "transcription_submitted",
    "transcription_started",
    "transcription_assembling",
    "transcription_done",
    "transcription_incomplete",
    "transcription_failed",
    "transcription_cancelled",
    "transcription_retried",
    "transcription_deleted",
    "transcription_edited",
    "chunks_appended",
    "chunking_done",
    "peaks_done",
    "language_decided",
    "job_done",
    "job_retried",
    "job_released",
    "job_redo",
    "job_set_aside",
    "worker_joined",
    "worker_draining",
    "worker_dismissed",
    "worker_gone",
]
_ANY: TypeAdapter[FarmEvent] = TypeAdapter(Annotated[FarmEvent, Field(discriminator="kind")])


def event_of(kind: str, data: dict[str, Any]) -> FarmEvent | None:
    """The event of that kind with these fields; None if this version does not know it."""
    try:
        return _ANY.validate_python(data | {"kind": kind}, extra="ignore")
    except ValidationError:
        return None


def fields_of(event: FarmEvent) -> dict[str, Any]:
    """What the event log keeps of an event beside its kind."""
    return event.model_dump(mode="json", exclude={"kind"})


def schema_of_data() -> dict[str, Any]:
    """The JSON schema of what `fields_of` gives, one alternative for each kind."""
    schemas = []
    for model in get_args(FarmEvent):
        schema = model.model_json_schema()
        del schema["properties"]["kind"]
        schemas.append(schema)
    return {"anyOf": schemas}
