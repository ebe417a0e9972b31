"""The kinds of jobs: the task that a claim brings of each, and the result that ends it."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from whisper_farm.models import ModelName
from whisper_farm.protocol.wire import (
    MAX_COPY_BYTES,
    MOST_PEAKS,
    Answer,
    BlobKey,
    Bytes,
    ChunkSeconds,
    Items,
    JobKind,
    Name,
    Position,
    Request,
    Seconds,
    Sha256,
    Transfer,
)
from whisper_farm.transcript.options import MOST_DIMENSIONS, Channel, Language, Raw, RecognitionOptions, Track
from whisper_farm.transcript.transcript import Segment

MOST_VOICES = 3000
"""Of one chunk."""


class Source(Answer):
    """The recording of a chunk job. The transfer answers Range requests."""

    name: Name
    size: Bytes
    transfer: Transfer


class ChunkTask(Answer):
    """Cut the recording, up to `end_seconds` if that is given. `resume_*` say where the chunks already appended end."""

    kind: Literal["chunk"] = "chunk"
    source: Source
    channel: Channel = "mix"
    track: Track | None = None
    raw: Raw | None = None
    chunk_seconds: ChunkSeconds
    resume_position: Position = 0
    resume_seconds: Seconds = 0
    end_seconds: Seconds | None = None


class TranscribeTask(Answer):
    """Recognise one chunk `[start_seconds, end_seconds)` of the recording."""

    kind: Literal["transcribe"] = "transcribe"
    start_seconds: Seconds
    end_seconds: Seconds
    size: Bytes
    sha256: Sha256
    transfer: Transfer
    options: RecognitionOptions
    expected_language: str | None = None
    """That of the recording as far as is known, where nobody gave one: what is surely in another stays in it."""
    alone: bool = False
    """An earlier attempt took its worker or recogniser down: do not batch it with others."""


class PeaksTask(Answer):
    """Make what is played and drawn of the recording: a listening copy (AAC in MP4), and the peaks of its waveform."""

    kind: Literal["peaks"] = "peaks"
    source: Source
    track: Track | None = None
    raw: Raw | None = None


Task = ChunkTask | TranscribeTask | PeaksTask
"""What a claim asks for: one type for each kind of job."""


class ChunkResult(Request):
    """The recording is cut to its end."""

    kind: ClassVar[JobKind] = "chunk"
    duration_seconds: Seconds
    """As decoded: where the last chunk ends."""
    declared_seconds: Seconds | None = None
    """As the container declares it; much longer than decoded means the file was cut off."""
    chunks: int = Field(ge=0, le=1_000_000)
    damaged_packets: int = Field(default=0, ge=0, le=1_000_000_000)
    damaged_seconds: Items[tuple[Seconds, Seconds]] = Field(default=(), max_length=1000)
    remarks: Items[Annotated[str, Field(max_length=1000)]] = Field(default=(), max_length=10)
    """How the recording was read, where that is worth knowing: which of its tracks, or channels that cancel."""


class ChunkVoices(Request):
    """The voices in one chunk. They are biometric data: nothing but the stored result holds them."""

    model: Annotated[str, Field(max_length=128)]
    """The revision of the speaker model: vectors of another one cannot be compared with these."""
    spans: Items[tuple[Seconds, Seconds]] = Field(max_length=MOST_VOICES)
    """Where each was heard."""
    vectors: Annotated[str, Field(max_length=MOST_VOICES * MOST_DIMENSIONS * 4 // 3 + 4)]
    """Base64 of the vectors, one after the other: a signed byte for each number."""
    narrow: bool = False
    """Whether the chunk has the band of a telephone."""

    @model_validator(mode="after")
    def _all_alike(self) -> Self:
        count, size = len(self.spans), len(b64decode(self.vectors, validate=True))
        if size % max(1, count) or size > count * MOST_DIMENSIONS or size < count:
            raise ValueError(f"{size} bytes are no {count} vectors of equal length")
        return self


class TranscribeResult(Request):
    """What was heard in one chunk, in seconds from the start of the recording, and what heard it."""

    kind: ClassVar[JobKind] = "transcribe"
    segments: Items[Segment] = Field(max_length=10_000)
    unheard: Items[tuple[Seconds, Seconds]] = Field(default=(), max_length=1000)
    """Stretches in which somebody speaks and no words could be made out."""
    voices: ChunkVoices | None = None
    """Where `diarize` is asked for."""
    language: Language
    language_probability: float = Field(default=1, ge=0, le=1)
    language_sure: bool = False
    """Whether this language holds even where the recording's is another."""
    engine: Name
    engine_version: Name
    model: ModelName
    revision: Annotated[str, Field(max_length=128)]
    device: Name
    compute_type: Name
    work_seconds: Seconds
    """Time the recogniser spent on it (its share of a batch)."""


class ListeningCopy(Request):
    """The copy as it was uploaded."""

    key: BlobKey
    size: int = Field(ge=1, le=MAX_COPY_BYTES)


class PeaksResult(Request):
    """What is played and drawn of the recording. Browsers get the text of this result as it was sent."""

    kind: ClassVar[JobKind] = "peaks"
    duration_seconds: Seconds
    peaks: Items[Annotated[float, Field(ge=-1, le=1)]] = Field(max_length=MOST_PEAKS)
    """The lowest and the highest value of one stretch after the other, all equally long."""
    audio: ListeningCopy

    @model_validator(mode="after")
    def _in_pairs(self) -> Self:
        if any(low > high for low, high in zip(self.peaks[::2], self.peaks[1::2], strict=True)):
            raise ValueError("peaks come in pairs, the lower one first")
        return self


Result = ChunkResult | TranscribeResult | PeaksResult
"""What a completion brings: one type for each kind of job."""
RESULTS: Mapping[JobKind, type[Result]] = {each.kind: each for each in get_args(Result)}
