"""Names of blobs. Every attempt and every upload writes under names of its own, so a late one overwrites nothing.

    sources/{upload}/{random}                               a recording
    chunks/{transcription}/{attempt}/{position}.flac        the audio of a chunk
    results/{transcription}/{position}.{attempt}.{digest}.json   what was heard in it
    transcripts/{transcription}/{random}.json               the transcript

`{attempt}` is a short hash of the claim token: names are seen by people who must not learn the token.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Literal

PREFIXES = ("sources/", "chunks/", "results/", "transcripts/")

_OWNED = re.compile(r"^(chunks|results|transcripts)/([a-z0-9]+)/")


def _attempt(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:16]


def source_key(upload_id: str) -> str:
    """Where one try of uploading a recording goes."""
    return f"sources/{upload_id}/{secrets.token_hex(8)}"


def chunk_key(transcription_id: str, token: str, position: int) -> str:
    """Where this attempt at cutting puts the chunk at `position`."""
    return f"chunks/{transcription_id}/{_attempt(token)}/{position}.flac"


def result_key(transcription_id: str, position: int, token: str, digest: str) -> str:
    """Where this attempt's result goes; another result of the same attempt has another name."""
    return f"results/{transcription_id}/{position}.{_attempt(token)}.{digest[:16]}.json"


def transcript_key(transcription_id: str) -> str:
    """Where one try of assembling goes."""
    return f"transcripts/{transcription_id}/{secrets.token_hex(8)}.json"


@dataclass(frozen=True, slots=True)
class Owned:
    """What a key says of itself: which kind of blob of which transcription."""

    kind: Literal["chunks", "results", "transcripts"]
    transcription_id: str


def owned(key: str) -> Owned | None:
    """The transcription a key belongs to; None for recordings and for names that are not ours."""
    found = _OWNED.match(key)
    if found is None:
        return None
    kind: Literal["chunks", "results", "transcripts"] = found.group(1)  # type: ignore[assignment] # the pattern says so
    return Owned(kind, found.group(2))
