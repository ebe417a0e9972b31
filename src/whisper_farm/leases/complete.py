"""Results come in: each is taken once, whoever sends it and however often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select, update

from whisper_farm.errors import FarmError, InvalidRequest, LeaseLost, ModelMismatch, ResultConflict
from whisper_farm.leases import language
from whisper_farm.leases.append import TOLERANCE_SECONDS
from whisper_farm.leases.attempts import Held, end_attempts, hold, refused, requeue, rivals
from whisper_farm.leases.endings import conclude
from whisper_farm.leases.fail import Failed, record_failures
from whisper_farm.leases.ids import RANDOM, Mint
from whisper_farm.leases.rules import moved_pace
from whisper_farm.protocol.events import ChunkingDone, JobDone, JobRedo, LanguageDecided
from whisper_farm.protocol.worker import ChunkResult, Outcome, TranscribeResult
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.prepared import Prepared
from whisper_farm.store.rows import among, given
from whisper_farm.store.tables import attempts, jobs, profiles, transcriptions, workers


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a worker's attempt: exactly one of `chunk` and `transcribe` is there, with the blob of the latter."""

    worker_id: str
    token: str
    digest: str
    chunk: ChunkResult | None = None
    transcribe: TranscribeResult | None = None
    result_key: str | None = None
    result_size: int | None = None


_END = Prepared(
    update(attempts)
    .where(attempts.c.token == given(attempts.c.token))
    .values(state="done", ended_at=bindparam("at"), digest=given(attempts.c.digest), facts=given(attempts.c.facts))
)
_DONE = Prepared(
    update(jobs)
    .where(jobs.c.id == given(jobs.c.id))
    .values(state="done", ended_at=bindparam("at"))
    .values({name: given(jobs.c[name]) for name in ("language", "result_key", "result_size", "result_digest")})
)
_CUT = Prepared(update(jobs).where(jobs.c.id == bindparam("job")).values(end_seconds=bindparam("until")))
_KEPT = (
    "revision", "language", "chunks_done", "done_seconds", "chunking_done", "duration_seconds", "declared_seconds",
    "damaged_packets", "damaged",
)  # fmt: skip
_COUNT = Prepared(
    update(transcriptions)
    .where(transcriptions.c.id == bindparam("recording"))
    .values({name: bindparam(f"new_{name}") for name in _KEPT})
)
_PACE = Prepared(
    update(profiles)
    .where(profiles.c.id == bindparam("profile"))
    .values(pace=bindparam("moved"), samples=bindparam("counted"))
)
_WORKED = Prepared(
    update(workers)
    .where(workers.c.id == bindparam("me"))
    .values(audio_seconds=workers.c.audio_seconds + bindparam("audio"))
    .values(work_seconds=workers.c.work_seconds + bindparam("work"))
)
_RECORDINGS = Prepared(select(transcriptions).where(among(transcriptions.c.id, "ids")).order_by(transcriptions.c.id))


def complete(tx: Transaction, completions: Sequence[Finished], policy: Policy, mint: Mint = RANDOM) -> list[Outcome]:
    """Take results, each for itself: its attempt is done, its job has a result, other attempts at it come second."""
    call = Completing(tx, hold(tx, (one.token for one in completions)), policy, mint)
    outcomes = [call.judge(one) for one in completions]
    call.write()
    return outcomes


class Recording:
    """What completions change of a transcription, until it is written."""

    def __init__(self, row: Any, deciding: int | None) -> None:
        self.row = row
        self.deciding = deciding
        self.decided_now = self.changed = self.refused = False
        self.now: dict[str, Any] = {name: getattr(row, name) for name in _KEPT}

    def change(self, **values: object) -> None:
        """Set what is to be written."""
        self.now |= values
        self.changed = True

    @property
    def may_end(self) -> bool:
        """Whether this call may have ended the last job, so that it is worth looking closer."""
        return self.refused or self.now["chunks_done"] + self.row.chunks_failed == self.row.chunks


class Completing:
    """One call of `complete`: judged one result after the other, written in groups."""

    def __init__(self, tx: Transaction, held: dict[str, Held], policy: Policy, mint: Mint) -> None:
        self.tx, self.held, self.policy, self.mint = tx, held, policy, mint
        self.recordings = self._recordings()
        self.taken: list[tuple[Held, Finished]] = []
        self.done: set[str] = set()
        self.other_language: list[Held] = []
        self.other_model: list[Failed] = []

    def _recordings(self) -> dict[str, Recording]:
        ids = sorted({held.transcription_id for held in self.held.values()})
        rows = self.tx.rows(_RECORDINGS, {"ids": ids}) if ids else ()
        deciding = language.deciding_position
        return {
            row.id: Recording(row, None if row.language else deciding(self.tx, row.id, self.policy)) for row in rows
        }

    def judge(self, finished: Finished) -> Outcome:
        """Decide about one result; what it changes is only noted."""
        held = self.held.get(finished.token)
        try:
            if held is None or held.worker_id != finished.worker_id or not self._counts(held):
                raise LeaseLost
            if held.state == "done" and held.digest != finished.digest:
                raise ResultConflict
            if held.state == "live":
                (self._cut if held.kind == "chunk" else self._recognised)(held, finished)
        except FarmError as error:
            return refused(finished.token, error)
        return Outcome(token=finished.token)

    def _counts(self, held: Held) -> bool:
        """Whether its result is the one to be taken, or was; not if somebody else's has just been."""
        return held.state == "done" or (held.state == "live" and held.job_id not in self.done)

    def _cut(self, held: Held, finished: Finished) -> None:
        result, recording = finished.chunk, self.recordings[held.transcription_id]
        if result is None:
            raise InvalidRequest("This claim is for cutting a recording; its result must say how it was cut.")
        row = recording.row
        if result.chunks != row.chunks or abs(result.duration_seconds - row.cut_seconds) > TOLERANCE_SECONDS:
            has = f"{row.name} has {row.chunks} chunks up to {row.cut_seconds:g} s"
            raise InvalidRequest(f"{has}; the result speaks of {result.chunks} up to {result.duration_seconds:g} s.")
        if result.declared_seconds is not None:
            recording.change(declared_seconds=result.declared_seconds)
        recording.change(chunking_done=True, duration_seconds=result.duration_seconds)
        recording.change(damaged_packets=result.damaged_packets, damaged=[list(one) for one in result.damaged_seconds])
        held.end_seconds = result.duration_seconds
        self._take(held, finished)
        ended = ChunkingDone(chunks=row.chunks, duration_seconds=result.duration_seconds)
        emit(self.tx, ended, row.id, row.owner)

    def _recognised(self, held: Held, finished: Finished) -> None:
        facts, recording = finished.transcribe, self.recordings[held.transcription_id]
        if facts is None or finished.result_key is None:
            raise InvalidRequest("This claim is for recognising a chunk; its result must hold what was heard.")
        if recording.now["revision"] not in (None, facts.revision):
            raise self._mismatch(held, facts, recording)
        decided = recording.now["language"]
        if decided not in (None, facts.language, held.told_language):
            held.state, recording.refused = "superseded", True
            self.other_language.append(held)
            return
        count, seconds = recording.now["chunks_done"] + 1, recording.now["done_seconds"] + held.seconds
        recording.change(revision=facts.revision, chunks_done=count, done_seconds=seconds)
        self._take(held, finished)
        done = JobDone(position=held.position, seconds=held.seconds, done_seconds=seconds, chunks_done=count)
        emit(self.tx, done, held.transcription_id, held.owner)
        if decided is None and held.position == recording.deciding:
            recording.change(language=facts.language)
            recording.decided_now = True
            emit(self.tx, LanguageDecided(language=facts.language), held.transcription_id, held.owner)

    def _mismatch(self, held: Held, facts: TranscribeResult, recording: Recording) -> ModelMismatch:
        pinned = f"{recording.row.name} is recognised with revision {recording.now['revision']} of {facts.model}"
        error = ModelMismatch(f"{pinned}; this is {facts.revision}.")
        held.state, recording.refused = "failed", True
        self.other_model.append(Failed(held, error.code, error.message))
        return error

    def _take(self, held: Held, finished: Finished) -> None:
        held.state, held.digest = "done", finished.digest
        self.taken.append((held, finished))
        self.done.add(held.job_id)

    def write(self) -> None:
        """Write what was judged, then see what follows for the recordings."""
        record_failures(self.tx, self.other_model, self.held, self.policy, self.mint)  # while rivals still count
        if self.taken:
            self._write_taken()
        if self.other_language:
            self._write_other_language()
        for recording in self.recordings.values():
            if recording.decided_now:
                language.redo_others(self.tx, recording.row.id, recording.row.owner, recording.now["language"])
        conclude(self.tx, [name for name, recording in self.recordings.items() if recording.may_end], self.policy)

    def _write_taken(self) -> None:
        change = self.tx.change
        change(_END, {"at": self.tx.now, "rows": [_ended(held, finished) for held, finished in self.taken]})
        end_attempts(self.tx, rivals(self.held, self.done), "superseded")
        change(_DONE, {"at": self.tx.now, "rows": [self._done(held, finished) for held, finished in self.taken]})
        if cut := [held for held, finished in self.taken if finished.chunk]:
            change(_CUT, [{"job": held.job_id, "until": held.end_seconds} for held in cut])
        change(_COUNT, [_counted(recording) for recording in self.recordings.values() if recording.changed])
        change(_PACE, self._paces())
        self.tx.before_commit(self._write_worked)

    def _write_worked(self) -> None:
        worked: dict[str, tuple[float, float]] = {}
        for held, finished in self.taken:
            if finished.transcribe is not None:
                audio, work = worked.get(held.worker_id, (0.0, 0.0))
                worked[held.worker_id] = (audio + held.seconds, work + finished.transcribe.work_seconds)
        rows = [{"me": worker_id, "audio": audio, "work": work} for worker_id, (audio, work) in worked.items()]
        if rows:
            self.tx.change(_WORKED, rows)

    def _done(self, held: Held, finished: Finished) -> dict[str, object]:
        decided, facts = self.recordings[held.transcription_id].row.language, finished.transcribe
        blob = {"result_key": finished.result_key, "result_size": finished.result_size}
        return blob | {
            "id": held.job_id,
            "result_digest": finished.digest,
            "language": facts and (decided or facts.language),
        }

    def _paces(self) -> list[dict[str, object]]:
        paces = {held.profile_id: (held.pace, held.samples) for held, _ in self.taken}
        for held, _ in self.taken:
            if held.seconds > 0:
                pace, samples = paces[held.profile_id]
                sample = max(0.0, self.tx.now - held.started_at) / held.seconds
                paces[held.profile_id] = (moved_pace(pace, sample), samples + 1)
        return [{"profile": name, "moved": pace, "counted": samples} for name, (pace, samples) in paces.items()]

    def _write_other_language(self) -> None:
        end_attempts(self.tx, self.other_language, "superseded")
        queued = requeue(self.tx, [held.job_id for held in self.other_language])
        for held in {held.job_id: held for held in self.other_language}.values():
            if held.job_id in queued:
                emit(self.tx, JobRedo(position=held.position), held.transcription_id, held.owner)


def _ended(held: Held, finished: Finished) -> dict[str, object]:
    facts = finished.transcribe and finished.transcribe.model_dump(exclude={"segments"})
    return {"token": held.token, "digest": finished.digest, "facts": facts}


def _counted(recording: Recording) -> dict[str, object]:
    return {"recording": recording.row.id} | {f"new_{name}": value for name, value in recording.now.items()}
