"""What the kinds of jobs have of their own; everything else in this room is the same for all of them.

A kind says how its jobs are called, what they need of a worker, how they are made, and what a result of theirs changes.
A result of one kind may make jobs of another: so a recording that is cut gets its waveform. Another kind is another
class here. `docs/ARCHITECTURE.md` says which other files know of it. In `KINDS` they stand as claims look for them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from whisper_farm.errors import InvalidRequest, ModelMismatch
from whisper_farm.leases.attempts import Held
from whisper_farm.leases.rules import ATTEMPT_PACE
from whisper_farm.protocol.events import ChunkingDone, JobDone, PeaksDone
from whisper_farm.protocol.jobs import ChunkResult, PeaksResult, Result, TranscribeResult
from whisper_farm.protocol.wire import JobKind
from whisper_farm.protocol.worker import NewChunk
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.statements import Change, Json
from whisper_farm.store.transcriptions import TranscriptionRow

TOLERANCE_SECONDS = 1e-6
ADD = Change("""
    INSERT INTO jobs (id, transcription_id, kind, position, profile_id, needs, flow, state, priority, turn,
                      start_seconds, end_seconds, speech_seconds, audio_key, audio_size, audio_sha256, created_at,
                      ended_at, available_at, left_by)
    VALUES (:id, :transcription, :kind, :position, :profile, :needs, :flow, :state, :priority, :turn,
            :start_seconds, :end_seconds, :speech_seconds, :key, :size, :sha256, :now, :ended_at, :available_at,
            :left_by)
""")
CUT = Change("""
    UPDATE transcriptions SET chunking_done = TRUE, duration_seconds = :duration,
           declared_seconds = COALESCE(:declared, declared_seconds), damaged_packets = :packets, damaged = :damaged,
           remarks = :remarks
     WHERE id = :id
""")
KEEP_COPY = Change("UPDATE jobs SET audio_key = :key, audio_size = :size WHERE id = :job")
NOTHING: Mapping[str, object] = {"start_seconds": 0, "end_seconds": 0, "speech_seconds": 0, "key": None, "size": None,
                                 "sha256": None, "available_at": 0, "left_by": None}  # fmt: skip
"""A job that is not of one chunk."""


@dataclass(slots=True)
class Growing:
    """A transcription with what the results of one call change of it, until that is written."""

    row: TranscriptionRow
    revision: str | None
    chunks_done: int
    done_seconds: float

    @property
    def may_end(self) -> bool:
        """Whether its language or its end may have to be decided now, so that it is worth looking closer."""
        return self.row.language is None or self.chunks_done + self.row.chunks_failed == self.row.chunks


class Kind(ABC):
    """One kind of job."""

    name: ClassVar[JobKind]
    suffix: ClassVar[str] = ""
    """The end of its job's id; by default the position, for there is one for each chunk."""
    effort: ClassVar[int] = 1
    """How many times the usual time an attempt may take."""

    def job_id(self, transcription_id: str, position: int = 0) -> str:
        """The id of its job, or of the one at that position."""
        return f"{transcription_id}.{self.suffix or position}"

    def profile(self, row: TranscriptionRow) -> str:
        """What jobs must share to be done in one batch."""
        return self.name

    def needs(self, label: str, options: Mapping[str, Any]) -> str:
        """What a worker must have to do it, for a transcription with this label and these options."""
        return f"{label}:{self.name}"

    def flow(self, row: TranscriptionRow) -> str:
        """The queue in which the jobs of an owner that need the same of a worker wait for each other."""
        return f"{self.needs(row.label, row.options)}\n{row.owner}"

    def limit_seconds(self, policy: Policy, seconds: float) -> float:
        """How long one try may last, whoever beats for it; of a recording that is cut, until more chunks come in."""
        return policy.attempt_seconds * self.effort + ATTEMPT_PACE * seconds

    @abstractmethod
    def done(self, tx: Transaction, growing: Growing, held: Held, result: Result) -> bool:
        """Note what a result changes; False if it must be heard again. Raises what is wrong with it."""

    def job(self, tx: Transaction, row: TranscriptionRow, turn: int, position: int = 0) -> dict[str, object]:
        """A new job, as `ADD` takes it."""
        ids = {"id": self.job_id(row.id, position), "transcription": row.id, "kind": self.name, "position": position}
        needs, flow = self.needs(row.label, row.options), self.flow(row)
        needed = {"profile": self.profile(row), "needs": needs, "flow": flow}
        return {**NOTHING, **ids, **needed, "priority": row.priority, "turn": turn, "state": "queued", "ended_at": None}


class ChunkKind(Kind):
    """The job that cuts the recording. It is made with the transcription."""

    name = "chunk"
    suffix = "c"

    def limit_seconds(self, policy: Policy, seconds: float) -> float:
        return policy.cut_seconds

    def done(self, tx: Transaction, growing: Growing, held: Held, result: Result) -> bool:
        """The recording is cut to its end. Now its waveform may be made, if somebody wants it."""
        assert isinstance(result, ChunkResult)
        row, duration = growing.row, result.duration_seconds
        if result.chunks != row.chunks or abs(duration - row.cut_seconds) > TOLERANCE_SECONDS:
            has = f"{row.name} has {row.chunks} chunks up to {row.cut_seconds:g} s"
            raise InvalidRequest(f"{has}; the result speaks of {result.chunks} up to {duration:g} s.")
        told = {"id": row.id, "duration": duration, "declared": result.declared_seconds}
        lost = {"packets": result.damaged_packets, "damaged": Json(result.damaged_seconds)}
        tx.change(CUT, told | lost | {"remarks": Json(result.remarks)})
        held.end_seconds = duration
        emit(tx, ChunkingDone(chunks=row.chunks, duration_seconds=duration), row.id, row.owner)
        if row.peaks:
            tx.change(ADD, PEAKS.job(tx, row, held.turn))
        return True


class TranscribeKind(Kind):
    """The job that recognises one chunk. It is made when the chunk comes in."""

    name = "transcribe"

    def profile(self, row: TranscriptionRow) -> str:
        return row.profile_id

    def needs(self, label: str, options: Mapping[str, Any]) -> str:
        """Only this form holds a space."""
        return f"{label}:{options['engine']} {options['model']}"

    def chunk(
        self, tx: Transaction, row: TranscriptionRow, chunk: NewChunk, turn: int, left_by: str | None = None
    ) -> dict[str, object]:
        """The job of this chunk. Silence is done already, unless it is left to others by whoever calls it that."""
        job = self.job(tx, row, turn, chunk.position) | chunk.model_dump()
        if left_by is not None:
            return job | {"available_at": tx.now, "left_by": left_by}
        return job if chunk.speech_seconds else job | {"state": "done", "ended_at": tx.now}

    def done(self, tx: Transaction, growing: Growing, held: Held, result: Result) -> bool:
        """What was heard counts, unless it is of another model than the pinned one, or unsure in another language."""
        assert isinstance(result, TranscribeResult)
        row = growing.row
        if growing.revision not in (None, result.revision):
            pinned = f"{row.name} is recognised with revision {growing.revision} of {result.model}"
            raise ModelMismatch(f"{pinned}; this is {result.revision}.")
        kept = row.multilingual or result.language_sure
        if not kept and row.language not in (None, result.language, held.told_language):
            return False
        growing.revision = result.revision
        growing.chunks_done += 1
        growing.done_seconds += held.seconds
        done, seconds = growing.chunks_done, growing.done_seconds
        said = JobDone(position=held.position, seconds=held.seconds, done_seconds=seconds, chunks_done=done)
        emit(tx, said, row.id, row.owner)
        return True


class PeaksKind(Kind):
    """The job that makes a listening copy and the peaks of its waveform, after cutting and beside recognition.

    Nothing waits for it: a transcription ends without it, and ends no worse where it fails.
    """

    name = "peaks"
    suffix = "p"
    effort = 2

    def done(self, tx: Transaction, growing: Growing, held: Held, result: Result) -> bool:
        """The copy is kept as the audio of this job, the peaks as its result."""
        assert isinstance(result, PeaksResult)
        tx.change(KEEP_COPY, {"job": held.job_id, "key": result.audio.key, "size": result.audio.size})
        held.end_seconds = result.duration_seconds
        emit(tx, PeaksDone(duration_seconds=result.duration_seconds), held.transcription_id, held.owner)
        return True


CHUNKING, PEAKS, RECOGNITION = ChunkKind(), PeaksKind(), TranscribeKind()
KINDS: Mapping[JobKind, Kind] = {kind.name: kind for kind in (CHUNKING, PEAKS, RECOGNITION)}
