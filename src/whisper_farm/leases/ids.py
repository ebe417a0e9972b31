"""Where chance enters the queue: ids, claim tokens, jitter. Tests pass a `Mint` of their own."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import secrets
from typing import Protocol

from whisper_farm.transcript.options import RecognitionOptions

CHUNK_PROFILE = "chunk"
"""The profile of all jobs that cut recordings."""


class Mint(Protocol):
    """Makes what nobody must be able to guess, and what should not be in step."""

    def transcription_id(self) -> str: ...
    def claim_token(self) -> str: ...
    def jitter(self) -> float: ...


class RandomMint:
    """The real one. Ids are 60 random bits in lower case, tokens 192 random bits."""

    def transcription_id(self) -> str:
        """Twelve characters that survive any file system and any voice on the telephone."""
        return base64.b32encode(secrets.token_bytes(8)).decode().lower()[:12]

    def claim_token(self) -> str:
        """The secret of one attempt."""
        return secrets.token_urlsafe(24)

    def jitter(self) -> float:
        """A factor in [0.5, 1) for back-offs."""
        return 0.5 + random.random() / 2


RANDOM = RandomMint()


def chunk_job_id(transcription_id: str) -> str:
    """The id of the job that cuts the recording."""
    return f"{transcription_id}.c"


def transcribe_job_id(transcription_id: str, position: int) -> str:
    """The id of the job that recognises the chunk at `position`."""
    return f"{transcription_id}.{position}"


def needs(engine: str, model: str) -> str:
    """What a worker must offer for a job of that engine and model; a chunk job needs `CHUNK_PROFILE`."""
    return f"{engine} {model}"


def profile_id(options: RecognitionOptions) -> str:
    """What two recordings must share to be recognised in one batch: all options but language and revision."""
    shared = options.model_dump(mode="json", exclude={"language", "revision"})
    return hashlib.sha256(json.dumps(["transcribe", shared], sort_keys=True).encode()).hexdigest()[:16]
