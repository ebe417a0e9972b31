"""Results come in: each is taken once, whoever sends it and however often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from whisper_farm.errors import FarmError, InvalidRequest, LeaseLost, ModelMismatch, ResultConflict
from whisper_farm.leases.attempts import Held, end_attempts, hold, refused, requeue, rivals
from whisper_farm.leases.endings import conclude, deciding_position, redo_others
from whisper_farm.leases.fail import Failed, record_failures
from whisper_farm.leases.kinds import KINDS, Growing
from whisper_farm.leases.rules import RANDOM, Mint, moved_pace
from whisper_farm.protocol.events import JobRedo
from whisper_farm.protocol.worker import Outcome, Result, TranscribeResult
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.statements import Change, Json, Query
from whisper_farm.store.transcriptions import ROW, TranscriptionRow


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a worker's attempt. What was heard is in a blob; how a recording was cut needs none."""

    worker_id: str
    token: str
    digest: str
    result: Result
    result_key: str | None = None
    result_size: int | None = None


END = Change(
    "UPDATE attempts SET state = 'done', ended_at = :at, digest = :digest, facts = :facts WHERE token = :token"
)
DONE = Change("""
    UPDATE jobs SET state = 'done', ended_at = :at, end_seconds = :end, language = :language, result_key = :key,
           result_size = :size, result_digest = :digest
     WHERE id = :job
""")
COUNT = Change("""
    UPDATE transcriptions SET revision = :revision, language = :language, chunks_done = :chunks_done,
           done_seconds = :done_seconds, chunking_done = :chunking_done, duration_seconds = :duration_seconds,
           declared_seconds = :declared_seconds, damaged_packets = :damaged_packets, damaged = :damaged
     WHERE id = :id
""")
PACE = Change("UPDATE profiles SET pace = :pace, samples = :samples WHERE id = :id")
WORKED = Change("""
    UPDATE workers SET audio_seconds = audio_seconds + :audio, work_seconds = work_seconds + :work WHERE id = :me
""")
GROWING = Query[TranscriptionRow](f"{ROW} WHERE id IN :ids ORDER BY id")


def complete(tx: Transaction, completions: Sequence[Finished], policy: Policy, mint: Mint = RANDOM) -> list[Outcome]:
    """Take results, each for itself: its attempt is done, its job has a result, other attempts at it come second."""
    call = Completing(tx, hold(tx, (one.token for one in completions)), policy, mint)
    outcomes = [call.judge(one) for one in completions]
    call.write()
    return outcomes


@dataclass(slots=True)
class Completing:
    """One call of `complete`: judged one result after the other, written together."""

    tx: Transaction
    held: dict[str, Held]
    policy: Policy
    mint: Mint
    growing: dict[str, Growing] = field(init=False)
    taken: list[tuple[Held, Finished]] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    other_language: list[Held] = field(default_factory=list)
    other_model: list[Failed] = field(default_factory=list)

    def __post_init__(self) -> None:
        ids = sorted({held.transcription_id for held in self.held.values()})
        rows = self.tx.rows(GROWING, {"ids": ids}) if ids else []
        deciding = {row.id: deciding_position(self.tx, row.id, self.policy) for row in rows if row.language is None}
        self.growing = {row.id: Growing(row, deciding.get(row.id), row.language) for row in rows}

    def judge(self, finished: Finished) -> Outcome:
        """Decide about one result; what it changes is only noted."""
        held = self.held.get(finished.token)
        try:
            if held is None or held.worker_id != finished.worker_id or not self._counts(held):
                raise LeaseLost
            if held.state == "done" and held.digest != finished.digest:
                raise ResultConflict
            if held.state == "live":
                self._take(held, finished)
        except FarmError as error:
            return refused(finished.token, error)
        return Outcome(token=finished.token)

    def _counts(self, held: Held) -> bool:
        """Whether its result is the one to be taken, or was; not if somebody else's has just been."""
        return held.state == "done" or (held.state == "live" and held.job_id not in self.done)

    def _take(self, held: Held, finished: Finished) -> None:
        result = finished.result
        if result.kind != held.kind or (result.kind != "chunk" and finished.result_key is None):
            raise InvalidRequest(f"This claim is for a {held.kind} job; its result must be of that kind.")
        if KINDS[held.kind].done(self, held, result):
            self._accept(held, finished)

    def not_this_language(self, held: Held) -> None:
        """Somebody heard another language: the chunk is recognised again, and nobody is to blame."""
        self.growing[held.transcription_id].refused, held.state = True, "superseded"
        self.other_language.append(held)

    def not_this_model(self, held: Held, error: ModelMismatch) -> None:
        """Somebody used another revision of the model: the attempt failed, without a charge."""
        self.growing[held.transcription_id].refused, held.state = True, "failed"
        self.other_model.append(Failed(held, error.code, error.message))

    def _accept(self, held: Held, finished: Finished) -> None:
        held.state, held.digest = "done", finished.digest
        self.taken.append((held, finished))
        self.done.add(held.job_id)

    def write(self) -> None:
        """Write what was judged, then see what follows for the transcriptions."""
        record_failures(self.tx, self.other_model, self.held, self.policy, self.mint)  # while rivals still count
        if self.taken:
            self._write_taken()
        if self.other_language:
            self._write_other_language()
        for growing in self.growing.values():
            if growing.decided_now and growing.row.language is not None:
                redo_others(self.tx, growing.row.id, growing.row.owner, growing.row.language)
        conclude(self.tx, [name for name, growing in self.growing.items() if growing.may_end], self.policy)

    def _write_taken(self) -> None:
        change = self.tx.change
        change(END, [self._ended(held, finished) for held, finished in self.taken])
        end_attempts(self.tx, rivals(self.held, self.done), "superseded")
        change(DONE, [self._done(held, finished) for held, finished in self.taken])
        change(COUNT, [_counted(growing.row) for growing in self.growing.values() if growing.changed])
        change(PACE, self._paces())
        self.tx.before_commit(self._write_worked)

    def _ended(self, held: Held, finished: Finished) -> dict[str, object]:
        heard = finished.result if isinstance(finished.result, TranscribeResult) else None
        facts = Json(heard.model_dump(exclude={"segments"})) if heard else None
        return {"token": held.token, "at": self.tx.now, "digest": finished.digest, "facts": facts}

    def _done(self, held: Held, finished: Finished) -> dict[str, object]:
        heard = finished.result if isinstance(finished.result, TranscribeResult) else None
        blob = {"key": finished.result_key, "size": finished.result_size, "digest": finished.digest}
        growing = self.growing[held.transcription_id]
        before = None if growing.row.multilingual else growing.language_before
        language = (before or heard.language) if heard else None
        return blob | {"job": held.job_id, "at": self.tx.now, "end": held.end_seconds, "language": language}

    def _paces(self) -> list[dict[str, object]]:
        paces = {held.profile_id: (held.pace, held.samples) for held, _ in self.taken}
        for held, _ in self.taken:
            if held.seconds > 0:
                pace, samples = paces[held.profile_id]
                sample = max(0.0, self.tx.now - held.started_at) / held.seconds
                paces[held.profile_id] = (moved_pace(pace, sample), samples + 1)
        return [{"id": name, "pace": pace, "samples": samples} for name, (pace, samples) in paces.items()]

    def _write_worked(self) -> None:
        worked: dict[str, tuple[float, float]] = {}
        for held, finished in self.taken:
            if isinstance(finished.result, TranscribeResult):
                audio, work = worked.get(held.worker_id, (0.0, 0.0))
                worked[held.worker_id] = (audio + held.seconds, work + finished.result.work_seconds)
        self.tx.change(WORKED, [{"me": name, "audio": audio, "work": work} for name, (audio, work) in worked.items()])

    def _write_other_language(self) -> None:
        end_attempts(self.tx, self.other_language, "superseded")
        queued = requeue(self.tx, [held.job_id for held in self.other_language])
        for held in {held.job_id: held for held in self.other_language}.values():
            if held.job_id in queued:
                emit(self.tx, JobRedo(position=held.position), held.transcription_id, held.owner)


def _counted(row: TranscriptionRow) -> dict[str, object]:
    same = ("id", "revision", "language", "chunks_done", "done_seconds", "chunking_done", "duration_seconds",
            "declared_seconds", "damaged_packets")  # fmt: skip
    damaged = None if row.damaged is None else Json(row.damaged)
    return {name: getattr(row, name) for name in same} | {"damaged": damaged}
