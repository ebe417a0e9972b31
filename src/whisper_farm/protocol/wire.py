"""What all messages share: strictness, bounded field types, the error body, the version header."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

PROTOCOL_VERSION = 1
PROTOCOL_HEADER = "Whisper-Farm-Protocol"
"""Workers send it with every call; a server that speaks another version answers 426."""

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
"""Transcriptions, jobs, workers, requests."""
ClaimToken = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16,64}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=255)]
Seconds = Annotated[float, Field(ge=0, le=10_000_000, allow_inf_nan=False)]
Bytes = Annotated[int, Field(ge=0, le=1 << 44)]
Position = Annotated[int, Field(ge=0, le=1_000_000)]
MAX_CHUNK_BYTES = 64 << 20
"""Of the audio of one chunk; ten minutes of it need a third of that even uncompressed."""
MAX_BATCH = 256
"""Jobs, tokens or completions in one call."""


class Message(BaseModel):
    """Base of everything that crosses the wire."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ErrorDetail(Message):
    """`code` is stable (see `errors.py`), `message` is for people, `details` depend on the code."""

    code: str
    message: str
    details: dict[str, Any] = Field(default_factory=dict)


class ErrorBody(Message):
    """The one shape of every answer that is not a success."""

    error: ErrorDetail


class Transfer(Message):
    """Where to send or fetch a blob: a path of the farm's own API, or a presigned URL of an object store."""

    url: str
    method: str
    headers: dict[str, str] = Field(default_factory=dict)
    """Sent exactly as they stand. A relative `url` also needs the caller's own bearer token."""
