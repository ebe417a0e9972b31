"""What all messages share: the two bases, bounded field types, the error body, the version header.

Requests are strict and answers are tolerant, so that the wire can grow. A newer server may add a field to any answer:
older workers and clients leave it out. A field that the server does not know in a request is refused: whoever sent it
learns at once that it has no effect.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field

PROTOCOL_VERSION = 1
PROTOCOL_HEADER = "Whisper-Farm-Protocol"
"""Workers send it with every call; a server that speaks another version answers 426."""

JobKind = Literal["chunk", "peaks", "transcribe"]
"""Cut the recording, make what is played and drawn of it, recognise one chunk.

`protocol/worker.py` has a task and a result of each.
"""
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
"""Transcriptions, jobs, workers, requests."""
ClaimToken = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16,64}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")]
"""Workers with a label work on the transcriptions with that label, and on no others; empty means none."""
Name = Annotated[str, Field(min_length=1, max_length=255)]
Url = Annotated[str, Field(min_length=1, max_length=2000)]
BlobKey = Annotated[str, Field(max_length=255)]
ErrorCode = Annotated[str, Field(pattern=r"^[a-z_]{1,64}$")]
Seconds = Annotated[float, Field(ge=0, le=10_000_000, allow_inf_nan=False)]
ChunkSeconds = Annotated[float, Field(ge=1, le=600)]
Days = Annotated[float, Field(gt=0, le=36_500)]
Bytes = Annotated[int, Field(ge=0, le=1 << 44)]
Position = Annotated[int, Field(ge=0, le=1_000_000)]
MAX_CHUNK_BYTES = 64 << 20
"""Of the audio of one chunk; ten minutes of it need a third of that even uncompressed."""
T = TypeVar("T")
Items = Annotated[tuple[T, ...], FailFast()]
"""A list in a request. Its first wrong element ends the reading: nobody pays for naming a million of them."""
MAX_COPY_BYTES = 2 << 30
"""Of the listening copy of one recording: some seventy hours."""
MAX_PART_BYTES = 64 << 20
"""Of an upload, in one request."""
MOST_PEAKS = 8000
"""Numbers in the waveform of one recording, the lowest and the highest value of each stretch."""
MAX_RESULT_LENGTH = 16 << 20
"""Of the JSON text of one result."""
MAX_BATCH = 256
"""Jobs, tokens or completions in one call."""


class Message(BaseModel):
    """Everything that crosses the wire."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Request(Message):
    """What a worker or client sends. Unknown fields are refused, in every part of it."""

    model_config = ConfigDict(extra="forbid")


class Answer(Message):
    """What the server sends. Read it with `read`: unknown fields are left out, in every part of it."""

    model_config = ConfigDict(extra="ignore")

    @classmethod
    def of(cls, *rows: object, **more: object) -> Self:
        """An answer with these fields; the others come from the rows, from the first that has one of that name."""
        for row in rows:
            more |= {name: getattr(row, name) for name in cls.model_fields if name not in more and hasattr(row, name)}
        return cls.model_validate(more)

    @classmethod
    def read(cls, content: str | bytes) -> Self:
        """An answer from its JSON. A part of it that is strict in a request is tolerant here."""
        return cls.model_validate_json(content, extra="ignore")


class ErrorDetail(Answer):
    """`code` is stable (see `errors.py`), `message` is for people, `details` depend on the code.

    `lasting` in them says that the same, sent again, is refused again.
    """

    code: str
    message: str
    details: dict[str, Any] = Field(default_factory=dict)


class ErrorBody(Answer):
    """The one shape of every answer that is not a success."""

    error: ErrorDetail


class Transfer(Answer):
    """Where to send or fetch a blob: a path of the farm's own API, or a presigned URL of an object store."""

    url: str
    method: str
    headers: dict[str, str] = Field(default_factory=dict)
    """Sent exactly as they stand. A relative `url` also needs the caller's own bearer token."""
