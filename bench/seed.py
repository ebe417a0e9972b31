"""Filling a farm's database with jobs that were never cut from any audio, for load on the queue alone."""

from __future__ import annotations

import secrets

from whisper_farm.leases.append import append
from whisper_farm.leases.claim import claim_all
from whisper_farm.leases.complete import Finished, complete
from whisper_farm.leases.transcriptions import NewTranscription, submit
from whisper_farm.leases.workers import register_worker
from whisper_farm.protocol.jobs import ChunkResult
from whisper_farm.protocol.worker import AppendRequest, ClaimRequest, NewChunk, RegisterRequest, digest_of
from whisper_farm.settings import Policy
from whisper_farm.store.database import Database
from whisper_farm.transcript.options import RecognitionOptions

GROUP = 250
SEEDER = "seeder"


def seed_jobs(database: Database, recordings: int, chunks: int, model: str, seconds: float = 30) -> list[str]:
    """Make `recordings` transcriptions of `chunks` queued jobs each; returns their ids."""
    policy = Policy(lease_seconds=3600, heartbeat_seconds=900, max_audio_seconds=1e7)
    request = RegisterRequest(
        worker_id=SEEDER, name=SEEDER, version="0", platform="bench", slots=1, engines=(), cuts=True
    )
    database.write(lambda tx: register_worker(tx, request, "admin", policy))
    return [_recording(database, policy, chunks, model, seconds) for _ in range(recordings)]


def _recording(database: Database, policy: Policy, chunks: int, model: str, seconds: float) -> str:
    new = NewTranscription(
        owner="admin", name="load.flac", source="blob:none", source_size=1 << 30,
        options=RecognitionOptions(engine="tones", model=model, language="en"),
    )  # fmt: skip
    made = database.write(lambda tx: submit(tx, new))
    wish = ClaimRequest(worker_id=SEEDER, request_id=secrets.token_hex(8), jobs={"chunk": 1})
    (granted,) = database.write(lambda tx: claim_all(tx, [wish], policy))
    assert granted is not None
    (claimed,) = granted[1]
    for first in range(0, chunks, GROUP):
        group = [_chunk(position, seconds) for position in range(first, min(first + GROUP, chunks))]
        more = AppendRequest(worker_id=SEEDER, token=claimed.token, chunks=tuple(group))
        database.write(lambda tx, more=more: append(tx, more, policy))  # type: ignore[misc]
    result = ChunkResult(duration_seconds=chunks * seconds, chunks=chunks)
    end = Finished(SEEDER, claimed.token, digest_of(result.model_dump_json().encode()), result)
    database.write(lambda tx: complete(tx, [end], policy))
    return made


def _chunk(position: int, seconds: float) -> NewChunk:
    return NewChunk(
        position=position, start_seconds=position * seconds, end_seconds=(position + 1) * seconds,
        speech_seconds=seconds, key=f"chunks/none/{position}", size=1, sha256="0" * 64,
    )  # fmt: skip
