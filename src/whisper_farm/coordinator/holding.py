"""What a claim lets its worker fetch and send: the files behind its token, as long as the attempt is live."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, select

from whisper_farm.errors import InvalidRequest, LeaseLost
from whisper_farm.store.database import Transaction
from whisper_farm.store.prepared import Prepared
from whisper_farm.store.tables import attempts, jobs, literally, transcriptions


@dataclass(frozen=True, slots=True)
class Holding:
    """A live attempt, with its recording and the audio of its chunk; `chunks` are appended so far."""

    worker_id: str
    kind: str
    transcription_id: str
    source_name: str
    source: str
    source_size: int
    chunks: int
    audio_key: str | None
    audio_size: int | None


_HOLDING = Prepared(
    select(
        attempts.c.worker_id, jobs.c.kind, jobs.c.transcription_id, transcriptions.c.name,
        transcriptions.c.source, transcriptions.c.source_size, transcriptions.c.chunks, jobs.c.audio_key,
        jobs.c.audio_size,
    )
    .join(jobs, jobs.c.id == attempts.c.job_id)
    .join(transcriptions, transcriptions.c.id == jobs.c.transcription_id)
    .where(attempts.c.token == bindparam("token"), attempts.c.state == literally("live"))
)  # fmt: skip


def holding(tx: Transaction, token: str, kind: str) -> Holding:
    """The live attempt of that token at a job of that kind; raises `LeaseLost` and `InvalidRequest`."""
    row = tx.first(_HOLDING, {"token": token})
    if row is None:
        raise LeaseLost
    found = Holding(*row)
    if found.kind != kind:
        raise InvalidRequest(f"This claim is for a {found.kind} job, not for a {kind} job.")
    return found
