"""Whole transcriptions: they are submitted, cancelled, retried, assembled and deleted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from whisper_farm.errors import BlobMissing, WrongState
from whisper_farm.leases.attempts import FROM_JOBS, HOLD_ALL, JOB, LOCK, Job, end_attempts
from whisper_farm.leases.endings import close, close_ended, set_aside, uncount
from whisper_farm.leases.kinds import ADD as ADD_JOB
from whisper_farm.leases.kinds import CHUNKING, KINDS, RECOGNITION
from whisper_farm.leases.rules import RANDOM, Mint, profile_id
from whisper_farm.leases.waiting import farm_turn, present_turn
from whisper_farm.protocol import events
from whisper_farm.protocol.client import FINISHED
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.fetches import add_fetch, forget_fetch
from whisper_farm.store.jobs import NEEDED
from whisper_farm.store.statements import Change, Json, Query
from whisper_farm.store.transcriptions import TranscriptionRow, compared, find, find_by_key
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Coverage


class DoneChunk(NamedTuple):
    """A chunk with its result; no blob for silence."""

    position: int
    start_seconds: float
    end_seconds: float
    result_key: str | None


@dataclass(frozen=True, slots=True)
class NewTranscription:
    """What is to be transcribed, and how. `source` is `blob:KEY`, `file:PATH` or `link:URL`.

    See `Submission` for the label.
    """

    owner: str
    name: str
    source: str
    source_size: int
    options: RecognitionOptions
    source_sha256: str | None = None
    chunk_seconds: float = 30
    priority: int = 0
    key: str | None = None
    label: str = ""
    peaks: bool = False


@dataclass(frozen=True, slots=True)
class Assembled:
    """A transcript, and what it was made of.

    `results` are as `results_of` gave them, `lost` those of their positions whose stored result could not be read.
    """

    key: str
    size: int
    coverage: Coverage
    results: Sequence[DoneChunk]
    lost: Collection[int] = ()
    sha256: str | None = None


BYTES_OF_A_TURN = 10 << 20
"""A recording waits one turn of others for each of these before it is cut: small ones go first."""
OPEN_FARM = Change("INSERT INTO farm (id, turn) VALUES (1, 0)")
ADD_WHOLE_PROFILE = Change("INSERT INTO profiles (id, kind) VALUES (:kind, :kind)")
ADD_PROFILE = Change("""
    INSERT INTO profiles (id, kind, engine, model, options, revision)
    VALUES (:id, 'transcribe', :engine, :model, :options,
            (SELECT max(revision) FROM profiles WHERE engine = :engine AND model = :model))
    ON CONFLICT (id) DO NOTHING
""")
ADD = Change("""
    INSERT INTO transcriptions (id, owner, name, folded_name, key, label, state, priority, source, source_size,
                                source_sha256, chunk_seconds, peaks, options, profile_id, language, revision,
                                cut_seconds, created_at)
    VALUES (:id, :owner, :name, :folded_name, :key, :label, :state, :priority, :source, :source_size,
            :source_sha256, :chunk_seconds, :peaks, :options, :profile, :language, :revision,
            :start_seconds, :now)
""")
FETCHED = Change("""
    UPDATE transcriptions SET state = 'queued', source = :source, source_size = :size, source_sha256 = :sha256
     WHERE id = :id
""")
LABEL = Change("UPDATE transcriptions SET label = :label WHERE id = :id")
LABEL_JOBS = Change("UPDATE jobs SET needs = :needs, flow = :flow WHERE transcription_id = :id AND kind = :kind")
CANCEL_JOBS = Change("""
    UPDATE jobs SET state = 'cancelled', ended_at = :now, available_at = 0
     WHERE transcription_id = :id AND state IN ('queued', 'running')
""")
FIRST_AGAIN = Query[int]("""
    SELECT min(turn) AS turn FROM jobs
     WHERE transcription_id = :id AND kind = 'transcribe' AND state IN ('failed', 'cancelled')
       AND (CAST(:job AS TEXT) IS NULL OR id = :job)
""")
SET_ASIDE = Query[tuple[str, bool]](f"""
    SELECT id, {NEEDED} AS needed FROM jobs
     WHERE transcription_id = :id AND state = 'failed' AND (CAST(:job AS TEXT) IS NULL OR id = :job) ORDER BY id
""")
"""Jobs, and whether the transcript lacks what they should have made."""
MISMATCHED = Query[str]("""
    SELECT id FROM jobs WHERE transcription_id = :id AND state = 'failed' AND error_code = 'model_mismatch' LIMIT 1
""")
SPOIL = Query[float]("""
    UPDATE jobs SET state = 'failed', error_code = 'model_mismatch', error_message = 'Another revision.',
           language = NULL, result_key = NULL, result_size = NULL, result_digest = NULL
     WHERE transcription_id = :id AND kind = 'transcribe' AND state = 'done' AND result_digest IS NOT NULL
    RETURNING end_seconds - start_seconds AS seconds
""")
UNPIN = Change("UPDATE transcriptions SET revision = NULL WHERE id = :id")
RETRY_JOBS = Change("""
    UPDATE jobs SET state = 'queued', ended_at = NULL, available_at = 0, error_code = NULL, error_message = NULL,
           charged_attempts = 0, forgiven_attempts = attempts,
           turn = CASE kind WHEN 'transcribe' THEN turn + :later ELSE turn END
     WHERE transcription_id = :id AND state IN ('failed', 'cancelled') AND (CAST(:job AS TEXT) IS NULL OR id = :job)
""")
RETRY = Change("""
    UPDATE transcriptions SET state = CASE WHEN substr(source, 1, 5) = 'link:' THEN 'fetching'
                                           WHEN started_at IS NULL THEN 'queued' ELSE 'running' END,
           finished_at = NULL, error_code = NULL, error_message = NULL, coverage = NULL,
           next_turn = next_turn + :later, chunks_failed = (
               SELECT count(*) FROM jobs WHERE transcription_id = :id AND kind = 'transcribe' AND state = 'failed')
     WHERE id = :id
""")
RESULTS = Query[DoneChunk]("""
    SELECT position, start_seconds, end_seconds, result_key FROM jobs
     WHERE transcription_id = :id AND kind = 'transcribe' AND state = 'done' ORDER BY position
""")
NEXT_TO_ASSEMBLE = Query[str]("""
    SELECT id FROM transcriptions WHERE state = 'assembling' AND NOT (id IN :skip) ORDER BY created_at, id LIMIT 1
""")
KEEP = Change("""
    UPDATE transcriptions SET transcript_key = :key, transcript_size = :size, transcript_sha256 = :sha256,
           coverage = :coverage
     WHERE id = :id
""")
LOST = Query[Job](f"SELECT {JOB} {FROM_JOBS} WHERE jobs.id IN :jobs ORDER BY position")
ATTEMPTS_OF = """
    SELECT token FROM attempts WHERE job_id IN (SELECT id FROM jobs WHERE transcription_id = :id) ORDER BY token"""
HOLD_ATTEMPTS = Query[str](ATTEMPTS_OF, postgres=ATTEMPTS_OF + LOCK)
DELETE = Change("DELETE FROM transcriptions WHERE id = :id")
"""Jobs and attempts go with it, for their tables say so."""
TWIN = Query[str]("SELECT id FROM transcriptions WHERE source = :source LIMIT 1")
DELETE_UPLOAD = Change("DELETE FROM uploads WHERE key = :key")
BLOBS = Query[str]("""
    SELECT audio_key FROM jobs WHERE transcription_id = :id AND audio_key IS NOT NULL
     UNION
    SELECT result_key FROM jobs WHERE transcription_id = :id AND result_key IS NOT NULL
""")


def submit(tx: Transaction, new: NewTranscription, mint: Mint = RANDOM) -> str:
    """Accept a transcription with the job that cuts it; returns its id, or that of the one with the same owner and key.

    Large recordings are cut some turns later than small ones. A link is fetched first: the job is made when the
    recording is there (`fetched`). The one that is there gets the new label, so that whoever submits
    it again can work on it.
    """
    if new.key is not None and (before := find_by_key(tx, new.owner, new.key)):
        if before.label != new.label:
            label_transcription(tx, before, new.label)
        return before.id
    made, turn, profile = mint.transcription_id(), farm_turn(tx), profile_id(new.options)
    options = new.options.model_dump(mode="json")
    if turn is None:
        tx.change(OPEN_FARM)
        tx.change(ADD_WHOLE_PROFILE, [{"kind": kind} for kind in KINDS if kind != RECOGNITION.name])
    shared = Json({name: value for name, value in options.items() if name not in ("language", "revision")})
    tx.change(ADD_PROFILE, {"id": profile, **options, "options": shared})
    is_link = new.source.startswith("link:")
    row = {**asdict(new), **options, "options": Json(options), "folded_name": compared(new.name)}
    tx.change(ADD, row | {"id": made, "profile": profile, "state": "fetching" if is_link else "queued"})
    if is_link:
        add_fetch(tx, made, new.owner)
    else:
        tx.change(ADD_JOB, CHUNKING.job(tx, find(tx, made), (turn or 0) + new.source_size // BYTES_OF_A_TURN))
    emit(tx, events.TranscriptionSubmitted(name=new.name), made, new.owner)
    return made


def fetched(tx: Transaction, transcription_id: str, key: str, size: int, sha256: str) -> list[str]:
    """The recording behind the link is in the blob `key`: make the job that cuts it; returns blobs nobody needs now.

    Nobody may want it any more, or it is there already: then this blob is the one that nobody needs.
    """
    row = find(tx, transcription_id)
    if row.state != "fetching":
        return [key]
    tx.change(FETCHED, {"id": row.id, "source": f"blob:{key}", "size": size, "sha256": sha256})
    tx.change(ADD_JOB, CHUNKING.job(tx, find(tx, row.id), (farm_turn(tx) or 0) + size // BYTES_OF_A_TURN))
    emit(tx, events.TranscriptionFetched(received_bytes=size), row.id, row.owner)
    return forget_fetch(tx, row.id)


def unfetchable(tx: Transaction, transcription_id: str, code: str, message: str) -> None:
    """Give the link up, and say why. A retry fetches it again."""
    row = find(tx, transcription_id)
    if row.state == "fetching":
        close(tx, row.id, row.owner, "failed", (code, message))


def label_transcription(tx: Transaction, row: TranscriptionRow, label: str) -> None:
    """From now on only workers with that label work on this transcription."""
    tx.change(LABEL, {"id": row.id, "label": label})
    told = [
        (name, kind.needs(label, row.options), kind.flow(replace(row, label=label))) for name, kind in KINDS.items()
    ]
    tx.change(LABEL_JOBS, [{"id": row.id, "kind": kind, "needs": needs, "flow": flow} for kind, needs, flow in told])
    emit(tx, events.TranscriptionSubmitted(name=row.name), row.id, row.owner)


def cancel(tx: Transaction, transcription_id: str) -> TranscriptionRow:
    """Stop a transcription: nothing of it is handed out any more.

    Running recognisers learn it with their next heartbeat.
    """
    row = find(tx, transcription_id)
    if row.state == "cancelled":
        return row
    if row.state in FINISHED:
        raise WrongState(f"{row.name} is {row.state} already; there is nothing to cancel.")
    end_attempts(tx, tx.rows(HOLD_ALL, {"transcription": row.id}), "cancelled")
    tx.change(CANCEL_JOBS, {"id": row.id})
    close(tx, row.id, row.owner, "cancelled")
    return find(tx, row.id)


def retry(tx: Transaction, transcription_id: str, job_id: str | None = None) -> TranscriptionRow:
    """Give every job that was set aside or cancelled, or that one, a fresh start; what is done stays done.

    Where nobody has the revision of the model that the first result has pinned, all chunks are heard again. Its chunks
    wait for as many turns as the service has gone on since the first of them had its turn. What no transcript waits for
    is tried again beside it, whether it goes on or is done.
    """
    row = find(tx, transcription_id)
    aside = dict(tx.rows(SET_ASIDE, {"id": row.id, "job": job_id})) if row.state != "cancelled" else {}
    ended = row.state in ("incomplete", "failed", "cancelled")
    beside = [job for job, needed in aside.items() if not needed and (job == job_id or not ended)]
    if beside:
        tx.change(RETRY_JOBS, [{"id": row.id, "job": job, "later": 0} for job in beside])
        emit(tx, events.TranscriptionRetried(), row.id, row.owner)
        return row
    if not ended:
        tried = "what failed, is incomplete or was cancelled"
        raise WrongState(f"{row.name} is {row.state}; only {tried} can be tried again.")
    if job_id is not None and job_id not in aside:
        raise WrongState(f"{job_id} is not set aside; only what is can be tried again by itself.")
    if row.options["revision"] is None and tx.first(MISMATCHED, {"id": row.id}) is not None:
        uncount(tx, row.id, tx.rows(SPOIL, {"id": row.id}))
        tx.change(UNPIN, {"id": row.id})
        job_id = None
    first = tx.first(FIRST_AGAIN, {"id": row.id, "job": job_id})
    now = present_turn(tx, RECOGNITION.flow(row), row.priority)
    later = 0 if first is None else max(0, now - first)
    tx.change(RETRY_JOBS, {"id": row.id, "job": job_id, "later": later})
    tx.change(RETRY, {"id": row.id, "later": later})
    if row.link is not None:
        add_fetch(tx, row.id, row.owner)
    emit(tx, events.TranscriptionRetried(), row.id, row.owner)
    close_ended(tx, find(tx, row.id))
    return find(tx, row.id)


def results_of(tx: Transaction, transcription_id: str) -> list[DoneChunk]:
    """The chunks that are done, in order."""
    return tx.rows(RESULTS, {"id": transcription_id})


def next_to_assemble(tx: Transaction, skip: Collection[str] = ()) -> str | None:
    """The transcription that has waited longest for its transcript, but none of `skip`."""
    return tx.first(NEXT_TO_ASSEMBLE, {"skip": sorted(skip)})


def assembled(tx: Transaction, transcription_id: str, made: Assembled) -> TranscriptionRow:
    """Finish a transcription with its transcript, `incomplete` if anything was not recognised.

    Twice, late, or with a transcript that was made of other results than those that count now, it changes nothing.
    Chunks whose results are lost are set aside, so that a retry recognises them again.
    """
    row = find(tx, transcription_id)
    if row.state == "assembling" and results_of(tx, row.id) == list(made.results):
        lost = tx.rows(LOST, {"jobs": [RECOGNITION.job_id(row.id, position) for position in made.lost]})
        uncount(tx, row.id, [job.seconds for job in lost])
        set_aside(tx, [(job, BlobMissing.code, "Its stored result is gone or damaged.") for job in lost])
        coverage = Json(asdict(made.coverage))
        kept = {"id": row.id, "key": made.key, "size": made.size, "sha256": made.sha256, "coverage": coverage}
        tx.change(KEEP, kept)
        close(tx, row.id, row.owner, "done" if made.coverage.recognised else "incomplete")
    return find(tx, row.id)


def rebuild(tx: Transaction, transcription_id: str) -> None:
    """The transcript is gone or damaged: put it together again from the results. Done twice, it changes nothing."""
    row = find(tx, transcription_id)
    if row.state in ("done", "incomplete"):
        close(tx, row.id, row.owner, "assembling")


def delete(tx: Transaction, transcription_id: str) -> list[str]:
    """Forget a finished transcription; returns the keys of the blobs that nothing refers to any more."""
    row = find(tx, transcription_id)
    if row.state not in FINISHED:
        raise WrongState(f"{row.name} is {row.state}; cancel it first.")
    keys = {*blob_keys_of(tx, row.id), *forget_fetch(tx, row.id)}
    tx.rows(HOLD_ATTEMPTS, {"id": row.id})
    tx.change(DELETE, {"id": row.id})
    emit(tx, events.TranscriptionDeleted(), row.id, row.owner)
    if tx.first(TWIN, {"source": row.source}) is not None:  # only a source may be another transcription's, too
        return sorted(keys - {row.source_key})
    tx.change(DELETE_UPLOAD, {"key": row.source_key})
    return sorted(keys)


def blob_keys_of(tx: Transaction, transcription_id: str) -> list[str]:
    """Every blob this transcription refers to: source, chunks, results, transcript."""
    row = find(tx, transcription_id)
    found = {row.source_key, row.transcript_key, *tx.rows(BLOBS, {"id": row.id})}
    return sorted(key for key in found if key is not None)
