"""The worker API: register, claim, beat, upload, append, complete, fail, release.

Every call that speaks for a job carries the claim token that its claim minted. All calls may be sent
again after a lost answer: claims by `request_id`, appends by position, completions by token and digest.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field

from whisper_farm.models import ModelName
from whisper_farm.protocol.wire import (
    MAX_BATCH,
    MAX_CHUNK_BYTES,
    Answer,
    Bytes,
    ClaimToken,
    Id,
    Items,
    Label,
    Name,
    Position,
    Request,
    Seconds,
    Sha256,
    Transfer,
)
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Segment

JobKind = Literal["chunk", "transcribe"]


class EngineOffer(Request):
    """An engine this worker can run. `models` None means any model; `loaded` are ready in memory."""

    engine: Name
    version: Name
    models: tuple[ModelName, ...] | None = Field(default=None, max_length=64)
    loaded: Items[ModelName] = Field(default=(), max_length=16)
    device: Name
    compute_type: Name = "default"
    batch: int = Field(ge=1, le=MAX_BATCH)
    """Chunks this worker likes to recognise at once."""


class MachineFacts(Request):
    """The machine that a worker runs on, as it was told by who placed it there."""

    provider: Name
    launch_id: Id | None = None
    """Names the launch in the farm's books, where the farm itself placed it."""
    machine_id: Name | None = None
    region: Name | None = None
    price_per_hour: float | None = Field(default=None, ge=0, le=1000)
    accelerators: Items[Name] = Field(default=(), max_length=16)


class RegisterRequest(Request):
    """A worker presents itself; sending it again (same id) updates what is known."""

    worker_id: Id
    """Minted by the worker process at start, random: a restarted worker is another worker."""
    name: Name
    version: Name
    platform: Name
    slots: int = Field(ge=1, le=4096)
    engines: Items[EngineOffer] = Field(max_length=16)
    cuts: bool = True
    """Whether it takes chunk jobs."""
    label: Label = ""
    """It works on transcriptions with this label only (the one-command farm works on nothing but its own)."""
    machine: MachineFacts | None = None


class RegisterAnswer(Answer):
    lease_seconds: Seconds
    heartbeat_seconds: Seconds
    server_version: Name


class ClaimRequest(Request):
    """Ask for work. The same `request_id` asked again gives the same claims that are still live."""

    worker_id: Id
    request_id: Id
    chunk_jobs: int = Field(default=0, ge=0, le=16)
    transcribe_jobs: int = Field(default=0, ge=0, le=MAX_BATCH)
    wait_seconds: float = Field(default=0, ge=0, le=60)


class Source(Answer):
    """The recording of a chunk job. The transfer answers Range requests."""

    name: Name
    size: Bytes
    transfer: Transfer


class ChunkTask(Answer):
    """Cut the recording. `resume_*` say where the chunks already appended end."""

    source: Source
    chunk_seconds: Annotated[float, Field(ge=1, le=600)]
    resume_position: Position = 0
    resume_seconds: Seconds = 0


class TranscribeTask(Answer):
    """Recognise one chunk `[start_seconds, end_seconds)` of the recording."""

    start_seconds: Seconds
    end_seconds: Seconds
    size: Bytes
    sha256: Sha256
    transfer: Transfer
    options: RecognitionOptions
    alone: bool = False
    """An earlier attempt took its worker or recogniser down: do not batch it with others."""


class Claim(Answer):
    """One attempt at one job. Exactly one of `chunk` and `transcribe` is there."""

    token: ClaimToken
    job_id: Id
    transcription_id: Id
    position: Position
    attempt: int = Field(ge=1)
    lease_seconds: Seconds
    chunk: ChunkTask | None = None
    transcribe: TranscribeTask | None = None


class ClaimAnswer(Answer):
    claims: tuple[Claim, ...]
    drain: bool = False
    """Finish what you hold, claim nothing more, leave."""


class HeartbeatRequest(Request):
    """Renews every lease of the worker named here at once."""

    worker_id: Id
    tokens: Items[ClaimToken] = Field(max_length=4096)


class HeartbeatAnswer(Answer):
    lost: tuple[ClaimToken, ...] = ()
    """No longer held: drop the work."""
    cancelled: tuple[ClaimToken, ...] = ()
    """The transcription was cancelled or another attempt was first: stop the recogniser and forget it."""
    drain: bool = False
    dismissed: bool = False
    """Leave now: hand everything back."""
    lease_seconds: Seconds
    heartbeat_seconds: Seconds


class UploadRequest(Request):
    """Ask where the audio of new chunks goes."""

    worker_id: Id
    token: ClaimToken
    positions: Items[Position] = Field(min_length=1, max_length=MAX_BATCH)


class ChunkUpload(Answer):
    position: Position
    key: Annotated[str, Field(max_length=255)]
    """Minted for this attempt: no later attempt writes to it."""
    transfer: Transfer


class UploadAnswer(Answer):
    uploads: tuple[ChunkUpload, ...]


class NewChunk(Request):
    """One chunk that was cut and uploaded."""

    position: Position
    start_seconds: Seconds
    end_seconds: Seconds
    speech_seconds: Seconds
    """An estimate of how much of it is speech; 0 means surely none, and nothing to recognise."""
    key: Annotated[str, Field(max_length=255)]
    size: int = Field(ge=0, le=MAX_CHUNK_BYTES)
    sha256: Sha256


class AppendRequest(Request):
    """Add chunks in order of position, without hole or overlap; positions already there must be the same."""

    worker_id: Id
    token: ClaimToken
    chunks: Items[NewChunk] = Field(min_length=1, max_length=MAX_BATCH)
    duration_seconds: Seconds | None = None
    """Of the whole recording as its container declares it, for progress."""


class AppendAnswer(Answer):
    next_position: Position


class ChunkResult(Request):
    """The recording is cut to its end."""

    duration_seconds: Seconds
    """As decoded: where the last chunk ends."""
    declared_seconds: Seconds | None = None
    """As the container declares it; much longer than decoded means the file was cut off."""
    chunks: int = Field(ge=0, le=1_000_000)
    damaged_packets: int = Field(default=0, ge=0, le=1_000_000_000)
    damaged_seconds: Items[tuple[Seconds, Seconds]] = Field(default=(), max_length=1000)


class TranscribeResult(Request):
    """What was heard in one chunk, in seconds from the start of the recording, and what heard it."""

    segments: Items[Segment] = Field(max_length=10_000)
    unheard: Items[tuple[Seconds, Seconds]] = Field(default=(), max_length=1000)
    """Stretches in which somebody speaks and no words could be made out."""
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
    language_probability: float = Field(default=1, ge=0, le=1)
    engine: Name
    engine_version: Name
    model: ModelName
    revision: Annotated[str, Field(max_length=128)]
    device: Name
    compute_type: Name
    work_seconds: Seconds
    """Time the recogniser spent on it (its share of a batch)."""


def digest_of(result: ChunkResult | TranscribeResult) -> str:
    """SHA-256 of the result's canonical JSON, as lower-case hexadecimal."""
    return hashlib.sha256(result.model_dump_json().encode()).hexdigest()


class Completion(Request):
    """The end of one attempt. `digest` is the SHA-256 of the result as sent (see `digest_of`)."""

    token: ClaimToken
    digest: Sha256
    chunk: ChunkResult | None = None
    transcribe: TranscribeResult | None = None


class CompleteRequest(Request):
    """End attempts and, in the same call, claim the next ones."""

    worker_id: Id
    completions: Items[Completion] = Field(min_length=1, max_length=MAX_BATCH)
    claim: ClaimRequest | None = None


class Outcome(Answer):
    """What became of one token. `error_code` None means accepted (or accepted before, with the same digest)."""

    token: ClaimToken
    error_code: str | None = None
    message: str | None = None


class CompleteAnswer(Answer):
    outcomes: tuple[Outcome, ...]
    claims: tuple[Claim, ...] = ()
    drain: bool = False


class Failure(Request):
    """Why an attempt failed. `permanent` means no worker could do better (the file is no audio)."""

    token: ClaimToken
    code: Annotated[str, Field(pattern=r"^[a-z_]{1,64}$")]
    message: Annotated[str, Field(max_length=4000)]
    permanent: bool = False
    charged: bool = True
    """False where the job is not to blame (a neighbour's crash, a model this worker cannot fetch)."""


class FailRequest(Request):
    worker_id: Id
    failures: Items[Failure] = Field(min_length=1, max_length=MAX_BATCH)


class ReleaseRequest(Request):
    """Hand jobs back untouched; nothing is charged."""

    worker_id: Id
    tokens: Items[ClaimToken] = Field(default=(), max_length=4096)
    leaving: bool = False
    """The worker goes away and will not beat again."""


class OutcomeAnswer(Answer):
    outcomes: tuple[Outcome, ...]
