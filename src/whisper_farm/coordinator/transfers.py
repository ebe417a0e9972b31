"""Where bytes go and come from: presigned addresses of an object store, or paths of our own API for a folder."""

from __future__ import annotations

from collections.abc import Sequence

from whisper_farm.coordinator.keys import chunk_key
from whisper_farm.leases.claim import Claimed
from whisper_farm.protocol.wire import PROTOCOL_HEADER, PROTOCOL_VERSION, Transfer
from whisper_farm.protocol.worker import ChunkTask, ChunkUpload, Claim, Source, TranscribeTask
from whisper_farm.store.blobs import Blobs

SOURCE_SECONDS = 6 * 3600
"""How long a presigned address of a recording works: a slow machine may need that long to cut ten hours."""
CHUNK_SECONDS = 3600
UPLOAD_SECONDS = 3600
OCTETS = "application/octet-stream"
MAX_SINGLE_PUT = 5_000_000_000
"""Object stores take no more than 5 GB in one presigned PUT; larger recordings go through the coordinator."""


class Transfers:
    """Makes the transfers that answers carry."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def claim(self, claimed: Claimed) -> Claim:
        """A claim as the worker gets it."""
        is_chunk_job = claimed.kind == "chunk"
        return Claim(
            token=claimed.token,
            job_id=claimed.job_id,
            transcription_id=claimed.transcription_id,
            position=claimed.position,
            attempt=claimed.attempt,
            lease_seconds=claimed.lease_seconds,
            chunk=await self._chunk_task(claimed) if is_chunk_job else None,
            transcribe=None if is_chunk_job else await self._transcribe_task(claimed),
        )

    async def claims(self, claimed: Sequence[Claimed]) -> tuple[Claim, ...]:
        """Several of them."""
        return tuple([await self.claim(one) for one in claimed])

    async def chunk_upload(self, transcription_id: str, token: str, position: int) -> ChunkUpload:
        """Where this attempt puts the audio of one chunk."""
        key = chunk_key(transcription_id, token, position)
        path = f"/api/work/uploads/{token}/{position}"
        return ChunkUpload(
            position=position, key=key, transfer=await self._put(key, CHUNK_SECONDS, path, _worker_headers())
        )

    async def source_upload(self, upload_id: str, key: str, size: int) -> Transfer:
        """Where a client puts a recording."""
        path = f"/api/uploads/{upload_id}"
        if size > MAX_SINGLE_PUT:
            return Transfer(url=path, method="PUT", headers={"Content-Type": OCTETS})
        return await self._put(key, UPLOAD_SECONDS, path, {})

    async def _chunk_task(self, claimed: Claimed) -> ChunkTask:
        source = Source(
            name=claimed.source_name,
            size=claimed.source_size,
            transfer=await self._get(_blob(claimed.source), SOURCE_SECONDS, f"/api/work/source/{claimed.token}"),
        )
        return ChunkTask(
            source=source,
            chunk_seconds=claimed.chunk_seconds,
            resume_position=claimed.resume_position,
            resume_seconds=claimed.resume_seconds,
        )

    async def _transcribe_task(self, claimed: Claimed) -> TranscribeTask:
        assert claimed.audio_key is not None  # the table says so of every such job
        assert claimed.audio_size is not None
        assert claimed.audio_sha256 is not None
        return TranscribeTask(
            start_seconds=claimed.start_seconds,
            end_seconds=claimed.end_seconds,
            size=claimed.audio_size,
            sha256=claimed.audio_sha256,
            transfer=await self._get(claimed.audio_key, CHUNK_SECONDS, f"/api/work/audio/{claimed.token}"),
            options=claimed.options,
            alone=claimed.alone,
        )

    async def _get(self, key: str | None, seconds: int, path: str) -> Transfer:
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


def _blob(source: str) -> str | None:
    return source.removeprefix("blob:") if source.startswith("blob:") else None
