"""What clients and the assembler do with a whole recording: cancel, retry, delete, assemble."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import delete as remove
from sqlalchemy import func, select, update

from whisper_farm.errors import BlobMissing, WrongState
from whisper_farm.leases.attempts import end_attempts, live_attempts_of
from whisper_farm.leases.endings import close, settle
from whisper_farm.leases.ids import needs
from whisper_farm.leases.turns import present_turn
from whisper_farm.protocol.client import FINISHED
from whisper_farm.protocol.events import JobSetAside, TranscriptionDeleted, TranscriptionRetried
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.tables import attempts, jobs, literally, transcriptions, uploads
from whisper_farm.store.transcriptions import TranscriptionRow, find
from whisper_farm.transcript.transcript import Coverage

DoneChunk = tuple[int, float, float, str | None]
"""Position, start, end and the blob of the result; no blob for silence."""


def cancel(tx: Transaction, transcription_id: str) -> TranscriptionRow:
    """Stop a recording: nothing of it is handed out any more, and running recognisers learn it with their next beat."""
    recording = find(tx, transcription_id)
    if recording.state == "cancelled":
        return recording
    if recording.state in FINISHED:
        raise WrongState(f"{recording.name} is {recording.state} already; there is nothing to cancel.")
    mine = jobs.c.transcription_id == transcription_id
    end_attempts(tx, live_attempts_of(tx, transcription_id), "cancelled")
    unfinished = update(jobs).where(mine, jobs.c.state.in_(("queued", "running")))
    tx.change(unfinished.values(state="cancelled", ended_at=tx.now, available_at=0))
    close(tx, transcription_id, recording.owner, "cancelled")
    return find(tx, transcription_id)


def retry(tx: Transaction, transcription_id: str) -> TranscriptionRow:
    """Give every job that was set aside or cancelled a fresh start; what is done stays done."""
    recording = find(tx, transcription_id)
    if recording.state not in ("incomplete", "failed", "cancelled"):
        ended = "what failed, is incomplete or was cancelled"
        raise WrongState(f"{recording.name} is {recording.state}; only {ended} can be tried again.")
    again = update(jobs).where(jobs.c.transcription_id == transcription_id, jobs.c.state.in_(("failed", "cancelled")))
    later = _turns_passed(tx, recording)
    tx.change(again.where(jobs.c.kind == "transcribe").values(turn=jobs.c.turn + later))
    fresh = {"state": "queued", "ended_at": None, "available_at": 0, "error_code": None, "error_message": None}
    forgiven = {"charged_attempts": 0, "forgiven_attempts": jobs.c.attempts}
    tx.change(again.values(**fresh, **forgiven))
    state = "queued" if recording.started_at is None else "running"
    cleared = {"finished_at": None, "error_code": None, "error_message": None, "coverage": None, "chunks_failed": 0}
    cleared |= {"next_turn": recording.next_turn + later}
    mine = update(transcriptions).where(transcriptions.c.id == transcription_id)
    tx.change(mine.values(state=state, **cleared))
    emit(tx, TranscriptionRetried(), transcription_id, recording.owner)
    settle(tx, [transcription_id])
    return find(tx, transcription_id)


def _turns_passed(tx: Transaction, recording: TranscriptionRow) -> int:
    """How far the service has gone on since the first chunk to be tried again had its turn."""
    mine = jobs.c.transcription_id == recording.id, jobs.c.kind == "transcribe"
    first = select(func.min(jobs.c.turn)).where(*mine, jobs.c.state.in_(("failed", "cancelled")))
    turn: int | None = tx.connection.scalar(first)
    wanted = needs(recording.options["engine"], recording.options["model"])
    return 0 if turn is None else max(0, present_turn(tx, wanted, recording.priority) - turn)


def results_of(tx: Transaction, transcription_id: str) -> list[DoneChunk]:
    """The chunks that are done, in order: position, start, end and the blob of the result; no blob for silence."""
    done = select(jobs.c.position, jobs.c.start_seconds, jobs.c.end_seconds, jobs.c.result_key).where(
        jobs.c.transcription_id == transcription_id, jobs.c.kind == "transcribe", jobs.c.state == "done"
    )
    rows = tx.connection.execute(done.order_by(jobs.c.position))
    return [(row.position, row.start_seconds, row.end_seconds, row.result_key) for row in rows]


def next_to_assemble(tx: Transaction, skip: Collection[str] = ()) -> str | None:
    """The recording that has waited longest for its transcript, but none of `skip`."""
    waiting = select(transcriptions.c.id).where(
        transcriptions.c.state == literally("assembling"), transcriptions.c.id.not_in(skip)
    )
    oldest = waiting.order_by(transcriptions.c.created_at, transcriptions.c.id).limit(1)
    found: str | None = tx.connection.scalar(oldest)
    return found


@dataclass(frozen=True, slots=True)
class Assembled:
    """A transcript, and what it was made of: `results` as `results_of` gave them, `lost` those of their positions whose
    stored result could not be read."""

    key: str
    size: int
    coverage: Coverage
    results: Sequence[DoneChunk]
    lost: Collection[int] = ()


def assembled(tx: Transaction, transcription_id: str, made: Assembled) -> TranscriptionRow:
    """Finish a recording with its transcript, `incomplete` if anything was not recognised.

    Twice, late, or with a transcript that was made of other results than those that count now, it changes nothing.
    Chunks whose results are lost are set aside, so that a retry recognises them again.
    """
    recording = find(tx, transcription_id)
    if recording.state == "assembling" and results_of(tx, transcription_id) == list(made.results):
        _set_aside_lost(tx, recording, [one for one in made.results if one[0] in made.lost])
        kept = {"transcript_key": made.key, "transcript_size": made.size, "coverage": asdict(made.coverage)}
        close(tx, transcription_id, recording.owner, "done" if made.coverage.recognised else "incomplete", **kept)
    return find(tx, transcription_id)


def _set_aside_lost(tx: Transaction, recording: TranscriptionRow, lost: Sequence[DoneChunk]) -> None:
    if not lost:
        return
    message = "Its stored result is gone or damaged."
    mine = jobs.c.transcription_id == recording.id, jobs.c.kind == "transcribe"
    gone = update(jobs).where(*mine, jobs.c.position.in_([position for position, *_ in lost]))
    nothing = {"result_key": None, "result_size": None, "result_digest": None, "language": None}
    why = {"error_code": BlobMissing.code, "error_message": message, "ended_at": tx.now}
    tx.change(gone.values(state="failed", **nothing, **why))
    seconds = sum(end - start for _, start, end, _ in lost)
    counted = {"chunks_done": recording.chunks_done - len(lost), "chunks_failed": recording.chunks_failed + len(lost)}
    row = update(transcriptions).where(transcriptions.c.id == recording.id)
    tx.change(row.values(done_seconds=recording.done_seconds - seconds, **counted))
    for position, start, end, _ in lost:
        said = JobSetAside(
            code=BlobMissing.code, message=message, job_kind="transcribe", position=position, start=start, end=end
        )
        emit(tx, said, recording.id, recording.owner)


def delete(tx: Transaction, transcription_id: str) -> list[str]:
    """Forget a finished recording; returns the keys of the blobs that nothing refers to any more."""
    recording = find(tx, transcription_id)
    if recording.state not in FINISHED:
        raise WrongState(f"{recording.name} is {recording.state}; cancel it first.")
    keys = set(blob_keys_of(tx, transcription_id))
    mine = select(jobs.c.id).where(jobs.c.transcription_id == transcription_id)
    tries = attempts.c.job_id.in_(mine)
    tx.connection.execute(select(attempts.c.token).where(tries).order_by(attempts.c.token).with_for_update())
    tx.change(remove(attempts).where(tries))
    tx.change(remove(jobs).where(jobs.c.transcription_id == transcription_id))
    tx.change(remove(transcriptions).where(transcriptions.c.id == transcription_id))
    emit(tx, TranscriptionDeleted(), transcription_id, recording.owner)
    twin = select(transcriptions.c.id).where(transcriptions.c.source == recording.source).limit(1)
    if tx.connection.scalar(twin) is not None:  # only a source may be another recording's, too
        return sorted(keys - {recording.source_key})
    tx.change(remove(uploads).where(uploads.c.key == recording.source_key))
    return sorted(keys)


def blob_keys_of(tx: Transaction, transcription_id: str) -> list[str]:
    """Every blob this recording refers to: source, chunks, results, transcript."""
    recording = find(tx, transcription_id)
    mine = select(jobs.c.audio_key, jobs.c.result_key).where(jobs.c.transcription_id == transcription_id)
    found = {key for row in tx.connection.execute(mine) for key in row}
    return sorted(key for key in found | {recording.source_key, recording.transcript_key} if key is not None)
