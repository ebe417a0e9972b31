"""Chunks come in, while the recording is still being cut; each can be claimed at once."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Row, insert, select, update

from whisper_farm.errors import InvalidRequest, LeaseLost, PositionConflict, TooLarge
from whisper_farm.leases.attempts import Held, hold
from whisper_farm.leases.ids import needs, transcribe_job_id
from whisper_farm.leases.turns import present_turn
from whisper_farm.protocol.events import ChunksAppended, JobDone
from whisper_farm.protocol.worker import AppendAnswer, AppendRequest, NewChunk
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.tables import jobs, transcriptions
from whisper_farm.store.transcriptions import TranscriptionRow, find

TOLERANCE_SECONDS = 1e-6


def append(tx: Transaction, request: AppendRequest, policy: Policy) -> AppendAnswer:
    """Make jobs of chunks that continue the recording, all or none; those that are there already stay as they are."""
    held = _cutting(tx, request)
    recording = find(tx, held.transcription_id)
    known = [chunk for chunk in request.chunks if chunk.position < recording.chunks]
    fresh = [chunk for chunk in request.chunks if chunk.position >= recording.chunks]
    _must_agree(tx, recording, known)
    _must_continue(recording, fresh)
    if recording.chunks + len(fresh) > policy.max_chunks:
        raise TooLarge(f"{recording.name} has more than {policy.max_chunks} chunks, the most this farm accepts.")
    if request.duration_seconds is not None and request.duration_seconds != recording.declared_seconds:
        mine = transcriptions.c.id == recording.id
        tx.change(update(transcriptions).where(mine).values(declared_seconds=request.duration_seconds))
    if fresh:
        _store(tx, recording, fresh)
    return AppendAnswer(next_position=recording.chunks + len(fresh))


def _cutting(tx: Transaction, request: AppendRequest) -> Held:
    held = hold(tx, [request.token]).get(request.token)
    if held is None or not held.held_by(request.worker_id):
        raise LeaseLost
    if held.kind != "chunk":
        raise InvalidRequest("This claim is for recognising a chunk, not for cutting a recording.")
    return held


def _must_agree(tx: Transaction, recording: TranscriptionRow, chunks: Sequence[NewChunk]) -> None:
    """Chunks that were appended before must have the same bounds."""
    positions = [chunk.position for chunk in chunks]
    mine = (jobs.c.transcription_id == recording.id, jobs.c.kind == "transcribe", jobs.c.position.in_(positions))
    query = select(jobs.c.position, jobs.c.start_seconds, jobs.c.end_seconds).where(*mine)
    there = {row.position: row for row in tx.connection.execute(query)} if positions else {}
    for chunk in chunks:
        if not _same_bounds(chunk, there[chunk.position]):
            raise PositionConflict(f"Chunk {chunk.position} of {recording.name} was appended with other bounds.")


def _same_bounds(chunk: NewChunk, row: Row[int, float, float]) -> bool:
    return _near(chunk.start_seconds, row.start_seconds) and _near(chunk.end_seconds, row.end_seconds)


def _must_continue(recording: TranscriptionRow, chunks: Sequence[NewChunk]) -> None:
    """New chunks must follow the last one without hole, overlap or emptiness."""
    position, end = recording.chunks, recording.cut_seconds
    for chunk in chunks:
        if chunk.position != position or not _near(chunk.start_seconds, end):
            expected = f"The next chunk of {recording.name} is {position}, from {end:g} s"
            raise PositionConflict(f"{expected}; got {chunk.position}, from {chunk.start_seconds:g} s.")
        if chunk.end_seconds <= chunk.start_seconds:
            raise InvalidRequest(f"Chunk {chunk.position} of {recording.name} is empty.")
        position, end = position + 1, chunk.end_seconds


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERANCE_SECONDS


def _store(tx: Transaction, recording: TranscriptionRow, chunks: Sequence[NewChunk]) -> None:
    wanted = needs(recording.options["engine"], recording.options["model"])
    turn = max(recording.next_turn, present_turn(tx, wanted, recording.priority))
    rows = [_job(tx, recording, chunk, wanted, turn + n) for n, chunk in enumerate(chunks)]
    tx.change(insert(jobs), rows)
    cut = chunks[-1].end_seconds
    silent = [chunk for chunk in chunks if chunk.speech_seconds == 0]
    change = {"chunks": recording.chunks + len(chunks), "cut_seconds": cut, "next_turn": turn + len(chunks)}
    said = ChunksAppended(first=chunks[0].position, count=len(chunks), cut_seconds=cut)
    emit(tx, said, recording.id, recording.owner)
    done, seconds = recording.chunks_done, recording.done_seconds
    for chunk in silent:
        length = chunk.end_seconds - chunk.start_seconds
        done, seconds = done + 1, seconds + length
        told = JobDone(position=chunk.position, seconds=length, done_seconds=seconds, chunks_done=done)
        emit(tx, told, recording.id, recording.owner)
    change |= {"chunks_done": done, "done_seconds": seconds}
    tx.change(update(transcriptions).where(transcriptions.c.id == recording.id).values(**change))


def _job(tx: Transaction, recording: TranscriptionRow, chunk: NewChunk, wanted: str, turn: int) -> dict[str, object]:
    silent = chunk.speech_seconds == 0
    told = chunk.model_dump(include={"position", "start_seconds", "end_seconds", "speech_seconds"})
    audio = {"audio_key": chunk.key, "audio_size": chunk.size, "audio_sha256": chunk.sha256}
    state = {"state": "done" if silent else "queued", "ended_at": tx.now if silent else None, "created_at": tx.now}
    place = {"profile_id": recording.profile_id, "needs": wanted, "priority": recording.priority, "turn": turn}
    job_id = transcribe_job_id(recording.id, chunk.position)
    return {"id": job_id, "transcription_id": recording.id, "kind": "transcribe"} | told | audio | state | place
