"""What the kinds of jobs have of their own; everything else in this room is the same for all of them.

A kind says how its jobs are called, what they need of a worker, how they are made, and what a result of theirs changes.
A result of one kind may make jobs of another: so a recording that is cut gets its waveform. Another kind is another
class here. `docs/ARCHITECTURE.md` says which other files know of it. In `KINDS` they stand as claims look for them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from whisper_farm.errors import InvalidRequest, ModelMismatch
from whisper_farm.leases.attempts import Held
from whisper_farm.protocol.events import ChunkingDone, JobDone, LanguageDecided, PeaksDone
from whisper_farm.protocol.wire import JobKind
from whisper_farm.protocol.worker import ChunkResult, NewChunk, PeaksResult, Result, TranscribeResult
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.statements import Change
from whisper_farm.store.transcriptions import TranscriptionRow

TOLERANCE_SECONDS = 1e-6
ADD = Change("""
    INSERT INTO jobs (id, transcription_id, kind, position, profile_id, needs, state, priority, turn, start_seconds,
                      end_seconds, speech_seconds, audio_key, audio_size, audio_sha256, created_at, ended_at)
    VALUES (:id, :transcription, :kind, :position, :profile, :needs, :state, :priority, :turn, :start_seconds,
            :end_seconds, :speech_seconds, :key, :size, :sha256, :now, :ended_at)
""")
KEEP_COPY = Change("UPDATE jobs SET audio_key = :key, audio_size = :size WHERE id = :job")
NOTHING: Mapping[str, object] = {"start_seconds": 0, "end_seconds": 0, "speech_seconds": 0, "key": None, "size": None,
                                 "sha256": None}  # fmt: skip
"""A job that is not of one chunk."""


@dataclass(slots=True)
class Growing:
    """A transcription with what these completions change of it, until it is written."""

    row: TranscriptionRow
    deciding: int | None
    """The position of the chunk whose language the transcription will have, while it has none."""
    language_before: str | None
    decided_now: bool = False
    refused: bool = False
    changed: bool = False

    def change(self, **values: object) -> None:
        """Note what is to be written."""
        self.row = replace(self.row, **values)  # type: ignore[arg-type]
        self.changed = True

    @property
    def may_end(self) -> bool:
        """Whether this call may have ended the last job, so that it is worth looking closer."""
        return self.refused or self.row.chunks_done + self.row.chunks_failed == self.row.chunks


class Taking(Protocol):
    """A call that takes results, as a kind sees it."""

    tx: Transaction
    growing: dict[str, Growing]

    def not_this_language(self, held: Held) -> None: ...
    def not_this_model(self, held: Held, error: ModelMismatch) -> None: ...


class Kind(ABC):
    """One kind of job."""

    name: ClassVar[JobKind]
    awaited: ClassVar[bool] = True
    """Whether the transcript waits for its jobs, so that what is set aside is missing in it."""

    @abstractmethod
    def job_id(self, transcription_id: str, position: int = 0) -> str:
        """The id of its job; where it has one for each chunk, of the one at that position."""

    def profile(self, row: TranscriptionRow) -> str:
        """What jobs must share to be done in one batch."""
        return self.name

    def needs(self, label: str, engine: str, model: str) -> str:
        """What a worker must have to do it, for a transcription with this label, engine and model."""
        return f"{label}:{self.name}"

    @abstractmethod
    def done(self, call: Taking, held: Held, result: Result) -> bool:
        """Note what a result changes; whether it counts. Raises what is wrong with it."""

    def job(self, tx: Transaction, row: TranscriptionRow, turn: int, position: int = 0) -> dict[str, object]:
        """A new job, as `ADD` takes it."""
        needs = self.needs(row.label, row.options["engine"], row.options["model"])
        ids = {"id": self.job_id(row.id, position), "transcription": row.id, "kind": self.name, "position": position}
        place = {"profile": self.profile(row), "needs": needs, "priority": row.priority, "turn": turn}
        return {**NOTHING, **ids, **place, "state": "queued", "now": tx.now, "ended_at": None}


class ChunkKind(Kind):
    """The job that cuts the recording. It is made with the transcription."""

    name = "chunk"

    def job_id(self, transcription_id: str, position: int = 0) -> str:
        return f"{transcription_id}.c"

    def done(self, call: Taking, held: Held, result: Result) -> bool:
        """The recording is cut to its end. Now its waveform may be made, if somebody wants it."""
        assert isinstance(result, ChunkResult)
        growing = call.growing[held.transcription_id]
        row = growing.row
        if result.chunks != row.chunks or abs(result.duration_seconds - row.cut_seconds) > TOLERANCE_SECONDS:
            has = f"{row.name} has {row.chunks} chunks up to {row.cut_seconds:g} s"
            raise InvalidRequest(f"{has}; the result speaks of {result.chunks} up to {result.duration_seconds:g} s.")
        if result.declared_seconds is not None:
            growing.change(declared_seconds=result.declared_seconds)
        growing.change(chunking_done=True, duration_seconds=result.duration_seconds)
        growing.change(damaged_packets=result.damaged_packets, damaged=[list(one) for one in result.damaged_seconds])
        held.end_seconds = result.duration_seconds
        emit(call.tx, ChunkingDone(chunks=row.chunks, duration_seconds=result.duration_seconds), row.id, row.owner)
        if row.peaks:
            call.tx.change(ADD, PEAKS.job(call.tx, row, held.turn))
        return True


class TranscribeKind(Kind):
    """The job that recognises one chunk. It is made when the chunk comes in."""

    name = "transcribe"

    def job_id(self, transcription_id: str, position: int = 0) -> str:
        return f"{transcription_id}.{position}"

    def profile(self, row: TranscriptionRow) -> str:
        return row.profile_id

    def needs(self, label: str, engine: str, model: str) -> str:
        """Only this form holds a space."""
        return f"{label}:{engine} {model}"

    def jobs(
        self, tx: Transaction, row: TranscriptionRow, chunks: Sequence[NewChunk], turn: int
    ) -> list[dict[str, object]]:
        """The jobs of these chunks, one turn after the other. Silence is done already."""
        made = []
        for number, chunk in enumerate(chunks):
            job = self.job(tx, row, turn + number, chunk.position) | chunk.model_dump()
            made.append(job if chunk.speech_seconds else job | {"state": "done", "ended_at": tx.now})
        return made

    def done(self, call: Taking, held: Held, result: Result) -> bool:
        """What was heard counts, unless it is in another language, or of another model, than what is pinned by now."""
        assert isinstance(result, TranscribeResult)
        growing = call.growing[held.transcription_id]
        row = growing.row
        if row.revision not in (None, result.revision):
            pinned = f"{row.name} is recognised with revision {row.revision} of {result.model}"
            error = ModelMismatch(f"{pinned}; this is {result.revision}.")
            call.not_this_model(held, error)
            raise error
        if not row.multilingual and row.language not in (None, result.language, held.told_language):
            call.not_this_language(held)
            return False
        count, seconds = row.chunks_done + 1, row.done_seconds + held.seconds
        growing.change(revision=result.revision, chunks_done=count, done_seconds=seconds)
        said = JobDone(position=held.position, seconds=held.seconds, done_seconds=seconds, chunks_done=count)
        emit(call.tx, said, row.id, row.owner)
        if row.language is None and held.position == growing.deciding:
            growing.change(language=result.language)
            growing.decided_now = True
            emit(call.tx, LanguageDecided(language=result.language), row.id, row.owner)
        return True


class PeaksKind(Kind):
    """The job that makes a listening copy and the peaks of its waveform, after cutting and beside recognition.

    Nothing waits for it: a transcription ends without it, and ends no worse where it fails.
    """

    name = "peaks"
    awaited = False

    def job_id(self, transcription_id: str, position: int = 0) -> str:
        return f"{transcription_id}.p"

    def done(self, call: Taking, held: Held, result: Result) -> bool:
        """The copy is kept as the audio of this job, the peaks as its result."""
        assert isinstance(result, PeaksResult)
        call.tx.change(KEEP_COPY, {"job": held.job_id, "key": result.audio.key, "size": result.audio.size})
        held.end_seconds = result.duration_seconds
        emit(call.tx, PeaksDone(duration_seconds=result.duration_seconds), held.transcription_id, held.owner)
        return True


CHUNKING, PEAKS, RECOGNITION = ChunkKind(), PeaksKind(), TranscribeKind()
KINDS: Mapping[JobKind, Kind] = {kind.name: kind for kind in (CHUNKING, PEAKS, RECOGNITION)}


def kind_needed(needs: str) -> JobKind:
    """The kind of the jobs that need that."""
    what = needs.partition(":")[2]
    return next((kind for kind in KINDS if kind == what), RECOGNITION.name)
