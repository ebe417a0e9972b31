"""Chunks come in, while the recording is still being cut; each can be claimed at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from whisper_farm.errors import InvalidRequest, LeaseLost, PositionConflict, TooLarge
from whisper_farm.leases.attempts import Held, hold
from whisper_farm.leases.kinds import ADD, RECOGNITION, TOLERANCE_SECONDS
from whisper_farm.leases.rules import CUT_PACE, RANDOM, Mint
from whisper_farm.leases.waiting import present_turn
from whisper_farm.leases.workers import LiveWorkers
from whisper_farm.protocol.events import ChunksAppended, JobDone
from whisper_farm.protocol.worker import AppendAnswer, AppendRequest, NewChunk
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.statements import Change, Query
from whisper_farm.store.transcriptions import TranscriptionRow, find
from whisper_farm.transcript.options import longest_seconds

DECLARE = Change("""
    UPDATE transcriptions SET declared_seconds = COALESCE(:seconds, declared_seconds),
           tagged_language = COALESCE(:language, tagged_language)
     WHERE id = :id
""")
THERE = Query[tuple[int, float, float]]("SELECT position, start_seconds, end_seconds FROM jobs WHERE id IN :jobs")
LONGER_SECONDS = 1.0
"""How much longer than it may be a chunk is borne."""
GO_ON = Change("""
    UPDATE attempts SET ends_by = CASE WHEN ends_by + :more < :by THEN ends_by + :more ELSE :by END WHERE token = :token
""")
COUNT = Change("""
    UPDATE transcriptions SET chunks = :chunks, cut_seconds = :cut, next_turn = :turn, chunks_done = :done,
           done_seconds = :seconds
     WHERE id = :id
""")


def append(tx: Transaction, request: AppendRequest, policy: Policy, mint: Mint = RANDOM) -> AppendAnswer:
    """Make jobs of chunks that continue the recording, all or none; those that are there already stay as they are."""
    held = _cutting(tx, request)
    row = find(tx, held.transcription_id)
    _must_agree(tx, row, [chunk for chunk in request.chunks if chunk.position < row.chunks])
    fresh = [chunk for chunk in request.chunks if chunk.position >= row.chunks]
    _must_continue(row, fresh)
    _must_be_bearable(row, fresh, policy)
    if request.duration_seconds is not None or request.language is not None:
        tx.change(DECLARE, {"id": row.id, "seconds": request.duration_seconds, "language": request.language})
    if fresh:
        doubted = {one.position for one in fresh if not one.speech_seconds and mint.chosen(policy.verify)}
        if doubted and not LiveWorkers(tx, policy).serves(
            RECOGNITION.needs(row.label, row.options), but={held.worker_id}
        ):
            doubted = set()
        _store(tx, row, fresh, dict.fromkeys(doubted, held.worker_id))
        more = CUT_PACE * (fresh[-1].end_seconds - row.cut_seconds)
        tx.change(GO_ON, {"token": held.token, "more": more, "by": tx.now + policy.cut_seconds})
    return AppendAnswer(next_position=row.chunks + len(fresh))


def _cutting(tx: Transaction, request: AppendRequest) -> Held:
    held = hold(tx, [request.token]).get(request.token)
    if held is None or not held.held_by(request.worker_id):
        raise LeaseLost
    if held.kind != "chunk":
        raise InvalidRequest(f"This claim is for a {held.kind} job, not for cutting a recording.")
    return held


def _must_agree(tx: Transaction, row: TranscriptionRow, chunks: Sequence[NewChunk]) -> None:
    wanted = [RECOGNITION.job_id(row.id, chunk.position) for chunk in chunks]
    there = {position: bounds for position, *bounds in tx.rows(THERE, {"jobs": wanted})} if wanted else {}
    for chunk in chunks:
        start, end = there[chunk.position]
        if not (_near(chunk.start_seconds, start) and _near(chunk.end_seconds, end)):
            raise PositionConflict(f"Chunk {chunk.position} of {row.name} was appended with other bounds.")


def _must_continue(row: TranscriptionRow, chunks: Sequence[NewChunk]) -> None:
    position, end = row.chunks, row.cut_seconds
    for chunk in chunks:
        if chunk.position != position or not _near(chunk.start_seconds, end):
            expected = f"The next chunk of {row.name} is {position}, from {end:g} s"
            raise PositionConflict(f"{expected}; got {chunk.position}, from {chunk.start_seconds:g} s.")
        if chunk.end_seconds <= chunk.start_seconds:
            raise InvalidRequest(f"Chunk {chunk.position} of {row.name} is empty.")
        if chunk.end_seconds - chunk.start_seconds > (longest := longest_seconds(row.chunk_seconds)) + LONGER_SECONDS:
            raise InvalidRequest(f"Chunk {chunk.position} of {row.name} is longer than {longest:g} s.")
        position, end = position + 1, chunk.end_seconds


def _must_be_bearable(row: TranscriptionRow, chunks: Sequence[NewChunk], policy: Policy) -> None:
    """A recording may have so many chunks, so much sound, and no more of it than a file of its size can hold."""
    if row.chunks + len(chunks) > policy.max_chunks:
        raise TooLarge(f"{row.name} has more than {policy.max_chunks} chunks, the most this farm accepts.")
    most = min(policy.max_audio_seconds, policy.free_audio_seconds + row.source_size * policy.audio_seconds_per_byte)
    if chunks and chunks[-1].end_seconds > most:
        raise TooLarge(
            f"{row.name} has more than {most:.0f} s of sound, the most for a file of {row.source_size} bytes."
        )


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERANCE_SECONDS


def _store(tx: Transaction, row: TranscriptionRow, chunks: Sequence[NewChunk], doubted: Mapping[int, str]) -> None:
    """`doubted` names who calls these positions silence: others hear them."""
    turn = max(row.next_turn, present_turn(tx, RECOGNITION.flow(row), row.priority))
    left_by = map(doubted.get, (chunk.position for chunk in chunks))
    each = zip(chunks, range(turn, turn + len(chunks)), left_by, strict=True)
    tx.change(ADD, [RECOGNITION.chunk(tx, row, *one) for one in each])
    cut = chunks[-1].end_seconds
    emit(tx, ChunksAppended(first=chunks[0].position, count=len(chunks), cut_seconds=cut), row.id, row.owner)
    done, seconds = row.chunks_done, row.done_seconds
    for chunk in chunks:
        if chunk.speech_seconds == 0 and chunk.position not in doubted:
            length = chunk.end_seconds - chunk.start_seconds
            done, seconds = done + 1, seconds + length
            said = JobDone(position=chunk.position, seconds=length, done_seconds=seconds, chunks_done=done)
            emit(tx, said, row.id, row.owner)
    counted = {"chunks": row.chunks + len(chunks), "cut": cut, "turn": turn + len(chunks)}
    tx.change(COUNT, counted | {"id": row.id, "done": done, "seconds": seconds})
