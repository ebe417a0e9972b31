"""Where bytes go and come from: names of blobs, and addresses to send and fetch them.

An address is a presigned one of an object store, or a path of our own API where blobs are in a folder. Every attempt
and every upload writes under names of its own, so a late one overwrites nothing:

    sources/{upload}/{random}: a recording
    fetched/{transcription}/{random}: a part of a recording that is being fetched
    feeds/{feed}/{random}: the newest copy of a feed
    chunks/{transcription}/{attempt}/{position}.flac: the audio of a chunk
    results/{transcription}/{position}.{attempt}.{digest}.json: what was heard in it
    transcripts/{transcription}/{random}.json: the transcript
    listening/{transcription}/{attempt}.m4a: the listening copy

`{attempt}` is a short hash of the claim token: names are seen by people who must not learn the token.
"""

from __future__ import annotations

import hashlib
import re
import secrets

from whisper_farm.errors import InvalidRequest
from whisper_farm.protocol.wire import PROTOCOL_HEADER, PROTOCOL_VERSION, Transfer
from whisper_farm.protocol.worker import ChunkUpload
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.jobs import AttemptedJob

SOURCE_SECONDS = 6 * 3600
"""How long a presigned address of a recording works: a slow machine may need that long to cut ten hours."""
CHUNK_SECONDS = 3600
UPLOAD_SECONDS = 3600
OCTETS = "application/octet-stream"
MAX_SINGLE_PUT = 5_000_000_000
"""Object stores take no more than 5 GB in one presigned PUT; larger recordings go through the coordinator."""
PREFIXES = ("sources/", "fetched/", "feeds/", "chunks/", "results/", "transcripts/", "listening/")


class Transfers:
    """Makes the transfers that answers carry."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def upload(self, held: AttemptedJob, token: str, position: int) -> ChunkUpload:
        """Where this attempt puts the audio of one chunk, or the listening copy."""
        key = upload_key(held, token, position)
        path = f"/api/work/uploads/{token}/{position}"
        return ChunkUpload(
            position=position, key=key, transfer=await self._put(key, CHUNK_SECONDS, path, _worker_headers())
        )

    async def source_upload(self, upload_id: str, key: str, size: int) -> Transfer:
        """Where a client puts a recording: into the object store at once, or to us, part by part."""
        url = await self._blobs.presign_put(key, UPLOAD_SECONDS) if size <= MAX_SINGLE_PUT else None
        if url is not None:
            return Transfer(url=url, method="PUT", headers={"Content-Type": OCTETS})
        return Transfer(url=f"/api/uploads/{upload_id}", method="PATCH", headers={"Content-Type": OCTETS})

    async def fetch(self, key: str | None, seconds: int, path: str) -> Transfer:
        """Where a worker fetches a blob; without a key it is a file that only we can read."""
        url = await self._blobs.presign_get(key, seconds) if key is not None else None
        if url is not None:
            return Transfer(url=url, method="GET")
        return Transfer(url=path, method="GET", headers=_worker_headers())

    async def _put(self, key: str, seconds: int, path: str, headers: dict[str, str]) -> Transfer:
        url = await self._blobs.presign_put(key, seconds)
        if url is not None:
            return Transfer(url=url, method="PUT", headers={"Content-Type": OCTETS})
        return Transfer(url=path, method="PUT", headers={"Content-Type": OCTETS, **headers})


def _worker_headers() -> dict[str, str]:
    return {PROTOCOL_HEADER: str(PROTOCOL_VERSION)}


def _attempt(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:16]


def source_key(upload_id: str) -> str:
    """Where one try of uploading a recording goes."""
    return f"sources/{upload_id}/{secrets.token_hex(8)}"


def part_key(transcription_id: str) -> str:
    """Where one part of a recording goes that is being fetched."""
    return f"fetched/{transcription_id}/{secrets.token_hex(8)}"


def chunk_key(transcription_id: str, token: str, position: int) -> str:
    """Where this attempt at cutting puts the chunk at `position`."""
    return f"chunks/{transcription_id}/{_attempt(token)}/{position}.flac"


def listening_key(transcription_id: str, token: str) -> str:
    """Where this attempt puts the listening copy."""
    return f"listening/{transcription_id}/{_attempt(token)}.m4a"


def upload_key(held: AttemptedJob, token: str, position: int) -> str:
    """Where the holder of this job puts what it made at that position."""
    if held.kind == "chunk":
        return chunk_key(held.transcription_id, token, position)
    if position:
        raise InvalidRequest("A listening copy is one file: its position is 0.")
    return listening_key(held.transcription_id, token)


def result_key(transcription_id: str, position: int, token: str, digest: str) -> str:
    """Where this attempt's result goes; another result of the same attempt has another name."""
    return f"results/{transcription_id}/{position}.{_attempt(token)}.{digest[:16]}.json"


def transcript_key(transcription_id: str) -> str:
    """Where one try of assembling goes."""
    return f"transcripts/{transcription_id}/{secrets.token_hex(8)}.json"


def owner_of_blob(key: str) -> str | None:
    """The transcription a key belongs to; None for recordings and for names that are not ours."""
    found = re.match(r"(?:fetched|chunks|results|transcripts|listening)/([a-z0-9]+)/", key)
    return found and found.group(1)
