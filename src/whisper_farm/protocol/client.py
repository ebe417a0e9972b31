"""The client API: submit, look, follow, cancel, retry, delete, search, share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from whisper_farm.protocol.events import FarmEvent, event_of, schema_of_data
from whisper_farm.protocol.wire import (
    Answer,
    Bytes,
    ChunkSeconds,
    ErrorDetail,
    Id,
    JobKind,
    Label,
    Name,
    Request,
    Seconds,
    Sha256,
    Transfer,
    Url,
)
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Segment

TranscriptionState = Literal["fetching", "queued", "running", "assembling", "done", "incomplete", "failed", "cancelled"]
"""`fetching`: the farm fetches what a link leads to; `incomplete`: a transcript is there, and says which seconds are
missing; `failed`: there is none."""
FINISHED: frozenset[str] = frozenset({"done", "incomplete", "failed", "cancelled"})
JobState = Literal["queued", "running", "done", "failed", "cancelled"]
AttemptState = Literal["live", "done", "failed", "lost", "released", "cancelled", "superseded"]
ListOrder = Literal["newest", "oldest", "name", "longest"]


class UploadStart(Request):
    """Announce a file; the answer says where its bytes go."""

    name: Name
    size: Bytes


class UploadTarget(Answer):
    upload_id: Id
    transfer: Transfer


class UploadProgress(Answer):
    """How much of an announced file has arrived."""

    received_bytes: int


class Submission(Request):
    """Ask for a transcription of an uploaded file, or of what a link leads to, which the farm fetches.

    `transcription_id` stands for the recording of another transcription, which is recognised again. `path` is for a
    one-machine farm alone: a file on this machine.
    """

    name: Name
    upload_id: Id | None = None
    url: Url | None = None
    transcription_id: Id | None = None
    path: Annotated[str, Field(max_length=4096)] | None = None
    sha256: Sha256 | None = None
    options: RecognitionOptions = Field(default_factory=RecognitionOptions)
    chunk_seconds: ChunkSeconds = 30
    priority: int = Field(default=0, ge=-100, le=100)
    key: Annotated[str, Field(max_length=128)] | None = None
    """Submitting the same key again (same owner) answers with the transcription that is there."""
    label: Label = ""
    """Only workers with this label work on it."""
    peaks: bool = True
    """Make a listening copy and the peaks of its waveform, too, as the web app plays and draws them."""


class Batch(Request):
    """Several submissions in one call; each is taken or refused by itself."""

    submissions: Annotated[list[Submission], Field(min_length=1, max_length=100)]


class Gap(Answer):
    """A stretch of the recording without a result, and why."""

    start_seconds: Seconds
    end_seconds: Seconds
    reason: str
    position: int | None = None


class Progress(Answer):
    """How far a transcription is, in audio-seconds and chunks."""

    duration_seconds: Seconds | None = None
    cut_seconds: Seconds = 0
    done_seconds: Seconds = 0
    chunks: int = 0
    chunks_done: int = 0
    chunks_failed: int = 0
    chunking_done: bool = False


class FetchView(Answer):
    """How far the fetch of a link is.

    `error` says why the last try broke off; there is another at `next_at`, and a last one about `last_try_at`.
    """

    url: str
    received_bytes: int
    total_bytes: int | None = None
    tries: int
    error: str | None = None
    next_at: float | None = None
    last_try_at: float | None = None


class TranscriptionView(Answer):
    """A transcription as clients see it."""

    id: Id
    owner: Name
    name: Name
    state: TranscriptionState
    priority: int
    options: RecognitionOptions
    language: str | None = None
    progress: Progress
    fetch: FetchView | None = None
    """While it is fetched, and after that was given up."""
    error: dict[str, Any] | None = None
    """`{code, message}` when it failed."""
    mendable: bool = False
    """Whether another try may end otherwise: not where the recording, or what is asked of it, is at fault."""
    warning: str | None = None
    """For example: no live worker can serve this engine and model."""
    warning_code: str | None = None
    """`no_worker`, `nobody_cuts`, `nobody_runs`, `nobody_has_model`, `fetch_tried_again` or `without_speakers`; others
    may come.
    """
    gaps: tuple[Gap, ...] = ()
    remarks: tuple[str, ...] = ()
    """How the recording was read, where that is worth knowing: which of its tracks, or channels that cancel."""
    damaged_packets: int = 0
    """Packets of the file that could not be decoded; where that lasts longer than a second it is a gap."""
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    cost: float | None = None
    """On machines of the farm, its share of their idle time included; told where it is shown by itself."""


class Submitted(Answer):
    """What became of one submission of a batch: the transcription, or why it was refused."""

    transcription: TranscriptionView | None = None
    error: ErrorDetail | None = None


class BatchView(Answer):
    """What became of a batch, in the order of its submissions."""

    submissions: list[Submitted]


class TranscriptionChange(Request):
    """What its owner may change of a transcription."""

    name: Name


class TranscriptionList(Answer):
    transcriptions: tuple[TranscriptionView, ...]
    next: str | None = None


class Hit(Answer):
    """A passage that holds what was searched for: in which transcription, at which second, in which words."""

    transcription_id: Id
    name: Name
    owner: Name
    seconds: Seconds
    text: str


class HitList(Answer):
    hits: tuple[Hit, ...]


class ShareView(Answer):
    """A link that lets anybody read one transcription."""

    id: Id
    made_by: Name
    created_at: float
    secret: str | None = None
    """Only in the answer that makes it. The link is `PAGE#/shared/TRANSCRIPTION/SECRET`."""


class ShareList(Answer):
    shares: tuple[ShareView, ...]


class AttemptView(Answer):
    number: int
    worker_id: Id
    worker_name: str | None = None
    state: AttemptState
    charged: bool
    hedge: bool
    started_at: float
    ended_at: float | None = None
    error_code: str | None = None
    error_message: str | None = None


class JobView(Answer):
    """A job with the evidence of every attempt."""

    id: Id
    kind: JobKind
    position: int
    state: JobState
    start_seconds: Seconds
    end_seconds: Seconds
    charged_attempts: int
    attempts: tuple[AttemptView, ...] = ()


class JobList(Answer):
    jobs: tuple[JobView, ...]
    next: int | None = None


class SegmentPage(Answer):
    """What was said in the finished chunks at the beginning of a recording, while later ones are still at work."""

    segments: tuple[Segment, ...]
    next: int = Field(ge=-1)
    """Position of the last chunk in this page: ask again with `after` this. -1 means none is finished yet."""
    finished: bool
    """Nothing will follow."""
    lost: tuple[Gap, ...] = ()
    """Chunks that were recognised and whose stored result is gone or damaged."""


class EventView(Answer):
    """One state change. `id` grows in commit order; resume with the last one seen.

    `kind` is an `EventKind`, or `reset`: events were missed for good, look at everything again.
    """

    id: int
    kind: str
    transcription_id: str | None = None
    at: float
    data: Annotated[dict[str, Any], WithJsonSchema(schema_of_data())] = Field(default_factory=dict)

    @property
    def event(self) -> FarmEvent | None:
        """The event with its fields; None for a `reset`, or a kind that this version does not know."""
        return event_of(self.kind, self.data)
