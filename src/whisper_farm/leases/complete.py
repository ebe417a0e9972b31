"""Results come in: each is taken once, whoever sends it and however often."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from whisper_farm.errors import FarmError, InvalidRequest, LeaseLost, ModelMismatch, ResultConflict
from whisper_farm.leases.attempts import Held, end_attempts, hold, refused, requeue, rivals
from whisper_farm.leases.endings import conclude
from whisper_farm.leases.fail import Failed, record_failures
from whisper_farm.leases.kinds import KINDS, Growing
from whisper_farm.leases.rules import RANDOM, Mint, moved_pace
from whisper_farm.leases.second_opinion import compare, leave_to_another, needs_another, note_cutter
from whisper_farm.protocol.events import JobRedo
from whisper_farm.protocol.jobs import Result, TranscribeResult
from whisper_farm.protocol.worker import Outcome
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.statements import Change, Json, Query
from whisper_farm.store.transcriptions import ROW, TranscriptionRow


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a worker's attempt. What was heard is in a blob; how a recording was cut needs none.

    One that is `doubted` is left to a second worker, if there is one (`second_opinion.py`).
    """

    worker_id: str
    token: str
    digest: str
    result: Result
    result_key: str | None = None
    result_size: int | None = None
    doubted: bool = False
    silent: bool = False
    """The cutter has found no speech there, and somebody was asked to hear it all the same."""
    words: tuple[str, ...] = ()

    @property
    def revision(self) -> str | None:
        """Of the model, where one was used."""
        return self.result.revision if isinstance(self.result, TranscribeResult) else None


END = Change("""
    UPDATE attempts SET state = 'done', ended_at = :now, digest = :digest, facts = :facts WHERE token = :token
""")
DONE = Change("""
    UPDATE jobs SET state = 'done', ended_at = :now, end_seconds = :end, language = :language, language_sure = :sure,
           result_key = :key, result_size = :size, result_digest = :digest
     WHERE id = :job
""")
COUNT = Change("""
    UPDATE transcriptions SET revision = :revision, chunks_done = :chunks_done, done_seconds = :done_seconds
     WHERE id = :id
""")
KNOWN = Change("UPDATE profiles SET revision = :revision WHERE engine = :engine AND model = :model")
PACE = Change("UPDATE profiles SET pace = :pace, samples = :samples WHERE id = :id")
WORKED = Change("""
    UPDATE workers SET audio_seconds = audio_seconds + :audio, work_seconds = work_seconds + :work WHERE id = :me
""")
TOUCHED = Query[TranscriptionRow](f"{ROW} WHERE id IN :ids ORDER BY id")


def complete(tx: Transaction, completions: Sequence[Finished], policy: Policy, mint: Mint = RANDOM) -> list[Outcome]:
    """Take results, each for itself: its attempt is done, its job has a result, other attempts at it come second."""
    held = hold(tx, (one.token for one in completions))
    ids = sorted({one.transcription_id for one in held.values()})
    rows = tx.rows(TOUCHED, {"ids": ids}) if ids else []
    growing = {row.id: Growing(row, row.revision, row.chunks_done, row.done_seconds) for row in rows}
    call = Completing(tx, held, growing, policy)
    outcomes = [call.judge(one) for one in completions]
    record_failures(tx, call.other_model, held, policy, mint)  # while rivals still count
    call.write()
    conclude(tx, [one.row.id for one in growing.values() if one.may_end or one.row.id in call.unsettled], policy)
    return outcomes


@dataclass(slots=True)
class Completing:
    """One call of `complete`: judged one result after the other, written together."""

    tx: Transaction
    held: dict[str, Held]
    growing: dict[str, Growing]
    policy: Policy
    taken: list[tuple[Held, Finished]] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    """The jobs of what was taken."""
    not_yet: list[Held] = field(default_factory=list)
    """What was heard in another language, or is doubted: others are asked."""
    other_model: list[Failed] = field(default_factory=list)
    known: dict[tuple[str, str], str] = field(default_factory=dict)
    """Revisions of engines' models that are known from now on: of the first who had it, or of two workers."""

    @property
    def unsettled(self) -> set[str]:
        """The transcriptions of what was not taken."""
        return {one.transcription_id for one in (*self.not_yet, *(failed.held for failed in self.other_model))}

    def judge(self, finished: Finished) -> Outcome:
        """Decide about one result; what it changes is mostly noted only."""
        held = self.held.get(finished.token)
        try:
            if held is None or held.worker_id != finished.worker_id or held.state not in ("live", "done"):
                raise LeaseLost
            if held.state == "live":
                self._take(held, finished)
            elif held.digest != finished.digest:
                raise ResultConflict
        except FarmError as error:
            return refused(finished.token, error)
        return Outcome(token=finished.token)

    def _take(self, held: Held, finished: Finished) -> None:
        result = finished.result
        if held.job_id in self.done:  # somebody else's result of it has just been taken
            raise LeaseLost
        if result.kind != held.kind or (result.kind != "chunk" and finished.result_key is None):
            raise InvalidRequest(f"This claim is for a {held.kind} job; its result must be of that kind.")
        rivalled = len(rivals(self.held, {held.job_id})) > 1
        doubted = finished.doubted or self._is_odd(held, finished)
        if doubted and not rivalled and needs_another(self.tx, held, self.policy):
            leave_to_another(self.tx, held, finished.words, finished.revision)
            self._ask_again(held)
            return
        try:
            counts = KINDS[held.kind].done(self.tx, self.growing[held.transcription_id], held, result)
        except ModelMismatch as error:  # the attempt failed, without a charge
            held.state = "failed"
            self.other_model.append(Failed(held, error.code, error.message))
            raise
        if not counts:
            self._ask_again(held)
            return
        agreed = compare(self.tx, held, finished.words, finished.revision)
        if isinstance(result, TranscribeResult):
            if agreed or self._known_revision(held) is None:
                self.known[_recogniser_of(held)] = result.revision
            if finished.silent:
                note_cutter(self.tx, KINDS["chunk"].job_id(held.transcription_id), bool(finished.words))
        held.state, held.digest = "done", finished.digest
        self.taken.append((held, finished))
        self.done.add(held.job_id)

    def _is_odd(self, held: Held, finished: Finished) -> bool:
        """Whether it would pin another revision of the model than this farm's workers are known to have."""
        pins = held.kind == "transcribe" and self.growing[held.transcription_id].revision is None
        return pins and self._known_revision(held) not in (None, finished.revision)

    def _known_revision(self, held: Held) -> str | None:
        return self.known.get(_recogniser_of(held), held.known_revision)

    def _ask_again(self, held: Held) -> None:
        """The job is done again, and nobody is to blame."""
        held.state = "superseded"
        self.not_yet.append(held)

    def write(self) -> None:
        """Write what was judged."""
        change, told = self.tx.change, [self._told(held, finished) for held, finished in self.taken]
        change(END, told)
        end_attempts(self.tx, rivals(self.held, self.done), "superseded")
        change(DONE, told)
        same = ("revision", "chunks_done", "done_seconds")
        grown = [one for one in self.growing.values() if one.chunks_done > one.row.chunks_done]
        change(COUNT, [{"id": one.row.id} | {name: getattr(one, name) for name in same} for one in grown])
        change(KNOWN, [{"engine": one[0], "model": one[1], "revision": it} for one, it in self.known.items()])
        change(PACE, self._paces())
        self.tx.before_commit(lambda: change(WORKED, self._worked()))
        end_attempts(self.tx, self.not_yet, "superseded")
        for held in requeue(self.tx, self.not_yet):
            emit(self.tx, JobRedo(position=held.position), held.transcription_id, held.owner)

    def _told(self, held: Held, finished: Finished) -> dict[str, object]:
        """What is told of this result to `END` and to `DONE`."""
        told = {"token": held.token, "job": held.job_id, "end": held.end_seconds, "digest": finished.digest}
        told |= {"key": finished.result_key, "size": finished.result_size}
        heard = finished.result
        if not isinstance(heard, TranscribeResult):
            return told | {"facts": None, "language": None, "sure": False}
        row = self.growing[held.transcription_id].row
        pinned = None if row.multilingual or heard.language_sure else row.language
        facts = Json(heard.model_dump(exclude={"segments"}))
        return told | {"facts": facts, "language": pinned or heard.language, "sure": heard.language_sure}

    def _paces(self) -> list[dict[str, object]]:
        paces = {held.profile_id: (held.pace, held.samples) for held, _ in self.taken}
        for held, _ in self.taken:
            if held.seconds > 0:
                pace, samples = paces[held.profile_id]
                sample = max(0.0, self.tx.now - held.started_at) / held.seconds
                paces[held.profile_id] = (moved_pace(pace, sample), samples + 1)
        return [{"id": name, "pace": pace, "samples": samples} for name, (pace, samples) in paces.items()]

    def _worked(self) -> list[dict[str, object]]:
        audio, work = defaultdict[str, float](float), defaultdict[str, float](float)
        for held, finished in self.taken:
            if isinstance(finished.result, TranscribeResult):
                audio[held.worker_id] += held.seconds
                work[held.worker_id] += finished.result.work_seconds
        return [{"me": name, "audio": seconds, "work": work[name]} for name, seconds in audio.items()]


def _recogniser_of(held: Held) -> tuple[str, str]:
    engine, _, model = held.needs.partition(":")[2].partition(" ")
    return engine, model
