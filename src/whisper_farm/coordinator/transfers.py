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

from whisper_farm.protocol.wire import PROTOCOL_HEADER, PROTOCOL_VERSION, Transfer
from whisper_farm.protocol.worker import ChunkUpload
from whisper_farm.store.blobs import Blobs

SOURCE_SECONDS = 6 * 3600
"""How long a presigned address of a recording works: a slow machine may need that long to cut ten hours."""
CHUNK_SECONDS = 3600
UPLOAD_SECONDS = 3600
BYTES = {"Content-Type": "application/octet-stream"}
SPOKEN = {PROTOCOL_HEADER: str(PROTOCOL_VERSION)}
"""The headers of what is sent, and of a worker's calls of our own API."""
MAX_SINGLE_PUT = 5_000_000_000
"""Object stores take no more than 5 GB in one presigned PUT; larger recordings go through the coordinator."""
PREFIXES = ("sources/", "fetched/", "feeds/", "chunks/", "results/", "transcripts/", "listening/")


async def to_store(blobs: Blobs, key: str, token: str, position: int) -> ChunkUpload:
    """Where this attempt puts the audio of one chunk, or the listening copy."""
    own = Transfer(url=f"/api/work/uploads/{token}/{position}", method="PUT", headers=BYTES | SPOKEN)
    presigned = _put_to(await blobs.presign("PUT", key, CHUNK_SECONDS))
    return ChunkUpload(position=position, key=key, transfer=presigned or own)


async def to_upload(blobs: Blobs, upload_id: str, key: str, size: int) -> Transfer:
    """Where a client puts a recording: into the object store at once, or to us, part by part."""
    url = await blobs.presign("PUT", key, UPLOAD_SECONDS) if size <= MAX_SINGLE_PUT else None
    return _put_to(url) or Transfer(url=f"/api/uploads/{upload_id}", method="PATCH", headers=BYTES)


async def to_fetch(blobs: Blobs, key: str | None, seconds: int, path: str) -> Transfer:
    """Where a worker fetches a blob; without a key it is a file that only we can read."""
    url = await blobs.presign("GET", key, seconds) if key is not None else None
    return Transfer(url=path, method="GET", headers=SPOKEN) if url is None else Transfer(url=url, method="GET")


def _put_to(url: str | None) -> Transfer | None:
    """To a presigned address, if there is one."""
    return None if url is None else Transfer(url=url, method="PUT", headers=BYTES)


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
