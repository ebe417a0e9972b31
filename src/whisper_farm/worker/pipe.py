"""What the agent and its children say to each other.

A recogniser child: `Begin` → `Able` or `Unable`; `Load` → `Fetching`…, then `Ready` or `Unable`; a batch is a run of
`Chunk` (audio in the body) closed by `Recognise` → `Heard` or `Refused` for each chunk in any order, then `BatchEnded`;
`Cancel` takes one chunk out of a batch.

A cutter child: `Cut` → `Piece`… (audio in the body), then `CutEnded` or `CutFailed`.

A child that cannot go on says nothing and dies; its last words are on its standard error.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from whisper_farm.models import ModelName
from whisper_farm.protocol.worker import ChunkResult, TranscribeResult
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.worker.frames import Frame, FrameError


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Begin(_Message):
    """Say what this engine can do here, with what the owner of the worker has decided (None: choose)."""

    kind: Literal["begin"] = "begin"
    engine: str
    device: Literal["auto", "cpu", "cuda"] = "auto"
    device_index: int = 0
    compute_type: str = "default"
    slots: int | None = None
    batch_size: int | None = None
    threads: int | None = None
    model_dir: str | None = None
    local_files_only: bool = False


class Able(_Message):
    """What this engine can do here. `lanes` batches at the same time: in one process if it shares its model."""

    kind: Literal["able"] = "able"
    engine: str
    version: str
    device: str
    lanes: int = Field(ge=1)
    threads: int = Field(ge=1)
    batch: int = Field(ge=1)
    shares_model: bool
    models: tuple[ModelName, ...] | None = None


class Load(_Message):
    """Load the model of these options, for so many lanes in this process."""

    kind: Literal["load"] = "load"
    options: RecognitionOptions
    lanes: int = Field(ge=1)
    threads: int = Field(ge=1)


class Fetching(_Message):
    """How far the fetch of a model is."""

    kind: Literal["fetching"] = "fetching"
    model: ModelName
    done_bytes: int
    total_bytes: int | None


class Ready(_Message):
    """The model is loaded."""

    kind: Literal["ready"] = "ready"
    engine: str
    version: str
    model: ModelName
    revision: str
    device: str
    compute_type: str


class Unable(_Message):
    """The engine or its model cannot be used, and why (an `EngineError`)."""

    kind: Literal["unable"] = "unable"
    code: str
    message: str


class Chunk(_Message):
    """One chunk of a batch; its FLAC audio is the body. Its index is how many of the batch came before it."""

    kind: Literal["chunk"] = "chunk"
    batch: int
    start_seconds: float
    language: str | None


class Recognise(_Message):
    """The batch is complete: recognise it."""

    kind: Literal["recognise"] = "recognise"
    batch: int
    options: RecognitionOptions


class Cancel(_Message):
    """Nobody wants this chunk any more."""

    kind: Literal["cancel"] = "cancel"
    batch: int
    index: int


class Heard(_Message):
    """The result of one chunk, in seconds from the start of the recording."""

    kind: Literal["heard"] = "heard"
    batch: int
    index: int
    result: TranscribeResult


class Refused(_Message):
    """This one chunk's audio cannot be read, whoever tries."""

    kind: Literal["refused"] = "refused"
    batch: int
    index: int
    code: str
    message: str


class BatchEnded(_Message):
    """Nothing more of this batch will come; with a code, because the engine gave up on what is missing."""

    kind: Literal["batch_ended"] = "batch_ended"
    batch: int
    code: str | None = None
    message: str | None = None


class Cut(_Message):
    """Cut a recording, from where the chunks that are there already end."""

    kind: Literal["cut"] = "cut"
    url: str
    headers: dict[str, str]
    size: int
    name: str
    chunk_seconds: float
    resume_position: int
    resume_seconds: float
    timeout_seconds: float
    trust_env: bool


class Piece(_Message):
    """One chunk; its FLAC audio is the body. `declared_seconds` is the container's word for the whole length."""

    kind: Literal["piece"] = "piece"
    position: int
    start_seconds: float
    end_seconds: float
    speech_seconds: float
    declared_seconds: float | None = None


class CutEnded(_Message):
    """The recording is cut to its end."""

    kind: Literal["cut_ended"] = "cut_ended"
    result: ChunkResult


class CutFailed(_Message):
    """The recording cannot be cut (`permanent`: by nobody), or its source cannot be reached."""

    kind: Literal["cut_failed"] = "cut_failed"
    code: str
    message: str
    permanent: bool


Message = (
    Begin
    | Able
    | Load
    | Fetching
    | Ready
    | Unable
    | Chunk
    | Recognise
    | Cancel
    | Heard
    | Refused
    | BatchEnded
    | Cut
    | Piece
    | CutEnded
    | CutFailed
)
_ANY: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])


def to_frame(message: Message, body: bytes = b"") -> Frame:
    """The message as a frame."""
    return Frame(message.model_dump_json().encode(), body)


def from_frame(frame: Frame) -> Message:
    """The message of a frame; FrameError if it is none of ours."""
    try:
        return _ANY.validate_json(frame.header)
    except ValidationError as error:
        raise FrameError(f"A frame with an unknown message: {error}") from error
