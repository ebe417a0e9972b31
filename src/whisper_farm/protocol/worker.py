"""The worker API: register, claim, beat, upload, append, complete, fail, release.

Every call that speaks for a job carries the claim token that its claim minted. All calls may be sent
again after a lost answer: claims by `request_id`, appends by position, completions by token and digest.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field

from whisper_farm.models import ModelName
from whisper_farm.protocol.jobs import Result, Task
from whisper_farm.protocol.wire import (
    MAX_BATCH,
    MAX_CHUNK_BYTES,
    MAX_RESULT_LENGTH,
    Answer,
    BlobKey,
    ClaimToken,
    ErrorCode,
    Id,
    Items,
    JobKind,
    Label,
    Name,
    Position,
    Request,
    Seconds,
    Sha256,
    Transfer,
)
from whisper_farm.times import HOURS
from whisper_farm.transcript.options import Language

MAX_RESTING = 32
"""Models that one offer may name as not to be had for now."""


class EngineOffer(Request):
    """An engine this worker can run. `models` None means any model; `loaded` are ready in memory.

    `resting` cannot be had there for now: none of their jobs are given to this worker.
    """

    engine: Name
    version: Name
    models: tuple[ModelName, ...] | None = Field(default=None, max_length=64)
    loaded: Items[ModelName] = Field(default=(), max_length=16)
    resting: Items[ModelName] = Field(default=(), max_length=MAX_RESTING)
    device: Name
    compute_type: Name = "default"
    batch: int = Field(ge=1, le=MAX_BATCH)
    """Chunks this worker likes to recognise at once."""
    options: tuple[Name, ...] | None = Field(default=None, max_length=64)
    """Those that the engine heeds, by their names in `RecognitionOptions`; None: not known."""


class MachineFacts(Request):
    """The machine that a worker runs on, as it was told by who placed it there."""

    provider: Name
    launch_id: Id | None = None
    """Names the launch in the farm's books, where the farm itself placed it."""
    machine_id: Name | None = None
    region: Name | None = None
    price_per_hour: float | None = Field(default=None, ge=0, le=1000)
    accelerators: Items[Name] = Field(default=(), max_length=16)


class JoinRequest(Request):
    """Join the farm by a code, with a token that the worker has made. The same call again is answered alike."""

    code: Annotated[str, Field(max_length=64)]
    name: Name
    token_hash: Sha256
    """SHA-256 of the token: `wf_worker_` and a random rest."""


class JoinAnswer(Answer):
    """`joined`: the token is valid. `waiting`: an administrator is asked; ask again."""

    state: Literal["joined", "waiting"]


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
    hours: Annotated[str, Field(pattern=HOURS)] | None = None
    """It works within these hours of its machine's day only. In between it offers nothing, and only beats."""


class RegisterAnswer(Answer):
    lease_seconds: Seconds
    heartbeat_seconds: Seconds
    server_version: Name
    hours: str | None = None
    """The hours in which an administrator wants it to work, empty for any; None leaves them to the worker."""


class ClaimRequest(Request):
    """Ask for work. The same `request_id` asked again gives the same claims that are still live."""

    worker_id: Id
    request_id: Id
    jobs: dict[JobKind, Annotated[int, Field(ge=0, le=MAX_BATCH)]] = Field(default_factory=dict)
    """How many jobs of each kind there is room for."""
    most_of_one_owner: int | None = Field(default=None, ge=1, le=MAX_BATCH)
    """So many of these jobs this worker holds of one owner at most: a place is left for the others."""
    wait_seconds: float = Field(default=0, ge=0, le=60)


class Claim(Answer):
    """One attempt at one job."""

    token: ClaimToken
    job_id: Id
    transcription_id: Id
    position: Position
    attempt: int = Field(ge=1)
    lease_seconds: Seconds
    task: Annotated[Task, Field(discriminator="kind")]


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
    hours: str | None = None
    """As `RegisterAnswer` has them."""
    lease_seconds: Seconds
    heartbeat_seconds: Seconds


class UploadRequest(Request):
    """Ask where the audio of new chunks goes, or the listening copy, which has position 0."""

    worker_id: Id
    token: ClaimToken
    positions: Items[Position] = Field(min_length=1, max_length=MAX_BATCH)


class ChunkUpload(Answer):
    position: Position
    key: BlobKey
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
    key: BlobKey
    size: int = Field(ge=0, le=MAX_CHUNK_BYTES)
    sha256: Sha256


class AppendRequest(Request):
    """Add chunks in order of position, without hole or overlap; positions already there must be the same."""

    worker_id: Id
    token: ClaimToken
    chunks: Items[NewChunk] = Field(min_length=1, max_length=MAX_BATCH)
    duration_seconds: Seconds | None = None
    """Of the whole recording as its container declares it, for progress."""
    language: Language | None = None
    """As its track is tagged: what is surely in another stays in it."""


class AppendAnswer(Answer):
    next_position: Position


def digest_of(text: bytes) -> str:
    """SHA-256 of a result as it is sent, as lower-case hexadecimal."""
    return hashlib.sha256(text).hexdigest()


class Completion(Request):
    """The end of one attempt. The server hashes, checks and stores the text of the result, and never writes it anew.

    So a digest holds whatever either side would make of a float or of a field that it leaves out.
    """

    token: ClaimToken
    kind: JobKind
    digest: Sha256
    """Of the text in `result`."""
    result: Annotated[str, Field(max_length=MAX_RESULT_LENGTH)]
    """The JSON of a result of that kind."""

    @classmethod
    def of(cls, token: str, result: Result) -> Completion:
        """The completion that brings this result."""
        text = result.model_dump_json()
        return cls(token=token, kind=result.kind, digest=digest_of(text.encode()), result=text)


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


class AttemptFailure(Request):
    """Why an attempt failed. `permanent` means no worker could do better (the file is no audio)."""

    token: ClaimToken
    code: ErrorCode
    message: Annotated[str, Field(max_length=4000)]
    permanent: bool = False
    charged: bool = True
    """False where the job is not to blame (a neighbour's crash, a model this worker cannot fetch)."""


class FailRequest(Request):
    worker_id: Id
    failures: Items[AttemptFailure] = Field(min_length=1, max_length=MAX_BATCH)


class ReleaseRequest(Request):
    """Hand jobs back untouched; nothing is charged."""

    worker_id: Id
    tokens: Items[ClaimToken] = Field(default=(), max_length=4096)
    leaving: bool = False
    """The worker goes away and will not beat again."""


class OutcomeAnswer(Answer):
    outcomes: tuple[Outcome, ...]
