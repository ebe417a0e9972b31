"""The queue as its promises say it, in plain Python: dictionaries, loops, no SQL, no locks, nothing fast.

The state machine in `test_same_answers_everywhere.py` asks this model and both databases the same questions and
wants the same answers, rows and events. So this file says again, in the shortest way, what `whisper_farm.leases`
does with statements in groups. It shares with it only the names of things (`ids.profile_id`), the requests and
the errors. Texts for people are left out, and so are blobs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from whisper_farm import __version__
from whisper_farm.errors import (
    Forbidden,
    InvalidRequest,
    LeaseLost,
    NotFound,
    PositionConflict,
    TooLarge,
    WorkerUnknown,
    WrongState,
)
from whisper_farm.leases.complete import Finished
from whisper_farm.leases.rules import ATTEMPT_PACE, Mint, profile_id
from whisper_farm.leases.transcriptions import Assembled, NewTranscription
from whisper_farm.protocol.jobs import ChunkResult, PeaksResult, TranscribeResult
from whisper_farm.protocol.worker import (
    AppendRequest,
    ClaimRequest,
    EngineOffer,
    FailRequest,
    HeartbeatRequest,
    NewChunk,
    RegisterRequest,
    ReleaseRequest,
)
from whisper_farm.settings import Policy

Answer = dict[str, Any]
FINISHED = ("done", "incomplete", "failed", "cancelled")


@dataclass
class Recording:
    """A row of `transcriptions`."""

    id: str
    owner: str
    name: str
    key: str | None
    label: str
    state: str
    priority: int
    source: str
    source_size: int
    source_sha256: str | None
    chunk_seconds: float
    options: dict[str, Any]
    profile_id: str
    language: str | None
    revision: str | None
    next_turn: int
    created_at: float
    peaks: bool = False
    duration_seconds: float | None = None
    declared_seconds: float | None = None
    damaged_packets: int = 0
    damaged: list[list[float]] | None = None
    remarks: list[str] | None = None
    tagged_language: str | None = None
    chunking_done: bool = False
    chunks: int = 0
    chunks_done: int = 0
    chunks_failed: int = 0
    cut_seconds: float = 0.0
    done_seconds: float = 0.0
    transcript_key: str | None = None
    transcript_size: int | None = None
    transcript_sha256: str | None = None
    coverage: dict[str, Any] | None = None
    without_speakers: str | None = None
    error_code: str | None = None
    started_at: float | None = None
    finished_at: float | None = None


@dataclass
class Job:
    """A row of `jobs`."""

    id: str
    transcription_id: str
    kind: str
    position: int
    profile_id: str
    needs: str
    state: str
    priority: int
    turn: int
    created_at: float
    available_at: float = 0.0
    left_by: str | None = None
    start_seconds: float = 0.0
    end_seconds: float = 0.0
    speech_seconds: float = 0.0
    audio_key: str | None = None
    audio_size: int | None = None
    audio_sha256: str | None = None
    attempts: int = 0
    charged_attempts: int = 0
    forgiven_attempts: int = 0
    alone: bool = False
    result_key: str | None = None
    result_size: int | None = None
    result_digest: str | None = None
    language: str | None = None
    language_sure: bool = False
    error_code: str | None = None
    ended_at: float | None = None

    @property
    def seconds(self) -> float:
        return self.end_seconds - self.start_seconds

    @property
    def order(self) -> tuple[int, int, int, float, str]:
        return (-self.priority, self.turn, self.position, self.created_at, self.id)


@dataclass
class Attempt:
    """A row of `attempts`."""

    token: str
    job_id: str
    number: int
    worker_id: str
    request_id: str
    lease_until: float
    started_at: float
    hedge: bool
    language: str | None
    state: str = "live"
    charged: bool = False
    ended_at: float | None = None
    digest: str | None = None
    error_code: str | None = None
    ends_by: float = 0.0
    doubted: bool = False
    """It was heard, and left to a second worker; not a column."""
    heard_revision: str | None = None
    """Of what was left to a second worker; not a column."""


@dataclass
class Profile:
    """A row of `profiles`."""

    id: str
    kind: str
    engine: str | None
    model: str | None
    pace: float | None = None
    samples: int = 0
    revision: str | None = None


@dataclass
class Worker:
    """A row of `workers`; `engines` is what it offers."""

    id: str
    owner: str
    name: str
    cuts: bool
    engines: tuple[EngineOffer, ...]
    registered_at: float
    last_seen_at: float
    last_beat_at: float
    label: str = ""
    state: str = "live"
    told: str | None = None
    paused: bool = False
    audio_seconds: float = 0.0
    work_seconds: float = 0.0
    compared: int = 0

    def serves(self, profile: Profile, label: str) -> bool:
        if label != self.label or profile.kind != "transcribe":
            return label == self.label and self.cuts
        mine = [one for one in self.engines if one.engine == profile.engine and profile.model not in one.resting]
        return any(offer.models is None or profile.model in offer.models for offer in mine)

    def has_loaded(self, profile: Profile) -> bool:
        return any(offer.engine == profile.engine and profile.model in offer.loaded for offer in self.engines)


@dataclass
class Model:
    """The whole queue. Set `now`, then call the operations; a refused one changes nothing."""

    policy: Policy
    mint: Mint
    now: float = 0.0
    turn: int | None = None
    recordings: dict[str, Recording] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    profiles: dict[str, Profile] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)
    events: list[tuple[object, ...]] = field(default_factory=list)
    """Time, kind, transcription, owner, data; whoever compares them takes them away."""

    # A recording comes in, workers come and go

    def submit(self, new: NewTranscription) -> str:
        for known in self.recordings.values():
            if new.key is not None and (known.owner, known.key) == (new.owner, new.key):
                if known.label != new.label:
                    known.label = new.label
                    for job in self._jobs(known):
                        job.needs = _needs(known) if job.kind == "transcribe" else f"{new.label}:{job.kind}"
                    self._say("transcription_submitted", known, name=known.name)
                return known.id
        if self.turn is None:
            self.turn = 0
            self.profiles |= {kind: Profile(kind, kind, None, None) for kind in ("chunk", "peaks")}
        profile = profile_id(new.options)
        made = Profile(profile, "transcribe", new.options.engine, new.options.model)
        made.revision = max((one.revision for one in self._same_model(made) if one.revision), default=None)
        self.profiles.setdefault(profile, made)
        made = self.mint.transcription_id()
        recording = Recording(
            id=made, owner=new.owner, name=new.name, key=new.key, label=new.label, state="queued",
            priority=new.priority,
            source=new.source, source_size=new.source_size, source_sha256=new.source_sha256,
            chunk_seconds=new.chunk_seconds, options=new.options.model_dump(mode="json"), profile_id=profile,
            language=new.options.language, revision=new.options.revision, next_turn=0, created_at=self.now,
            peaks=new.peaks,
        )  # fmt: skip
        self.recordings[made] = recording
        self._whole_job(recording, "chunk", self.turn + new.source_size // (10 << 20))
        self._say("transcription_submitted", recording, name=new.name)
        return made

    def _whole_job(self, recording: Recording, kind: str, turn: int) -> None:
        """A job about the whole recording."""
        job = Job(f"{recording.id}.{kind[0]}", recording.id, kind, 0, kind, f"{recording.label}:{kind}", "queued",
                  recording.priority, turn, self.now)  # fmt: skip
        self.jobs[job.id] = job

    def register(self, request: RegisterRequest, owner: str) -> Answer:
        known = self.workers.get(request.worker_id)
        if known is not None and known.owner != owner:
            raise Forbidden
        worker = known or Worker(
            request.worker_id, owner, request.name, request.cuts, request.engines, self.now, self.now, self.now,
        )  # fmt: skip
        self.workers[worker.id] = worker
        before = replace(worker)
        worker.cuts, worker.engines, worker.label = request.cuts, request.engines, request.label
        worker.last_seen_at = self.now
        if known is None or known.state == "gone":
            worker.state = worker.told or "live"
            self._say_of(worker, "worker_joined")
        for offer in request.engines if known is not None else ():
            for model in offer.resting:
                self._cannot_serve(worker, before, offer.engine, model)
        timing = {"lease_seconds": self._lease, "heartbeat_seconds": self._heartbeat}
        return timing | {"server_version": __version__, "hours": None}

    def _cannot_serve(self, worker: Worker, before: Worker, engine: str, model: str) -> None:
        """Those who wait for a model that nobody can have any more are told so."""
        profile = Profile("", "transcribe", engine, model)
        if not before.serves(profile, before.label):
            return
        needs = f"{before.label}:{engine} {model}"
        waiting = [job for job in self.jobs.values() if job.needs == needs]
        waiting = [
            job for job in waiting
            if job.state == "queued" or any(one.worker_id == worker.id for one in self._live(job))
        ]  # fmt: skip
        for recording in sorted({job.transcription_id for job in waiting}):
            if not any(self._served(job, (), worker.id) for job in waiting if job.transcription_id == recording):
                self._say("transcription_unserved", self.recordings[recording])

    def drain(self, worker_id: str) -> None:
        self._tell(worker_id, "draining", ("live",))

    def dismiss(self, worker_id: str) -> None:
        self._tell(worker_id, "dismissed", ("live", "draining"))

    def _tell(self, worker_id: str, state: str, before: Collection[str]) -> None:
        worker = self.workers.get(worker_id)
        if worker is None:
            raise NotFound
        if worker.state == "gone":
            raise WrongState
        if worker.state in before:
            worker.state = worker.told = state
            self._say_of(worker, f"worker_{state}")

    # Jobs go out

    def claim(self, request: ClaimRequest) -> list[Answer]:
        me = self._known(request.worker_id)
        asked = [one for one in self.attempts.values() if one.worker_id == me.id]
        asked = [one for one in asked if one.request_id == request.request_id]
        claimed = [one for one in asked if one.state == "live"]
        claimed.sort(key=lambda one: (self.jobs[one.job_id].kind, self.jobs[one.job_id].order))
        for one in claimed:
            one.lease_until = min(one.ends_by, self.now + self._lease)
        if not asked and me.state == "live":
            claimed = self._claim(me, request)
        me.last_seen_at = self.now
        return [self._claimed(one) for one in claimed]

    def _claim(self, me: Worker, request: ClaimRequest) -> list[Attempt]:
        lapsed = [job for job in self.jobs.values() if self._lapsed(job) and self._may_overtake(me, request, job)]
        spent = self._set_aside_spent(lapsed, me.id)
        lapsed = [job for job in lapsed if job not in spent]
        made = []
        for kind in ("chunk", "peaks"):
            if (room := request.jobs.get(kind)) and me.cuts:  # type: ignore[call-overload]
                made += self._take(me, request, lapsed, kind, room)
        if room := request.jobs.get("transcribe"):
            chunks = [job for job in self._claimable(me, request, lapsed) if job.kind == "transcribe"]
            mine = [job for job in chunks if self._serves(me, job)]
            if mine:
                first = min(mine, key=lambda job: self._warm_order(me, job))
                return made + self._take(me, request, lapsed, first.profile_id, room)
            late = self._hedgeable(me, request)
            made += self._start(me, request, [job for job in late if job.profile_id == late[0].profile_id], hedge=True)
        return made

    def _warm_order(self, me: Worker, job: Job) -> tuple[int, int, int, float, str]:
        """A model in memory is worth some turns."""
        priority, turn, *rest = job.order
        return (priority, turn + (0 if me.has_loaded(self.profiles[job.profile_id]) else 64), *rest)

    def _claimable(self, me: Worker, request: ClaimRequest, lapsed: Sequence[Job]) -> list[Job]:
        """Queued jobs whose time has come, not to be left to others, and the lapsed ones this worker may take."""
        queued = [job for job in self.jobs.values() if job.state == "queued" and job.available_at <= self.now]
        left = [job for job in queued if job.left_by == me.id and job.available_at > self._lately]
        return [*(job for job in queued if self._serves(me, job) and job not in left), *lapsed]

    def _may_overtake(self, me: Worker, request: ClaimRequest, job: Job) -> bool:
        if not request.jobs.get(job.kind) or not self._serves(me, job):
            return False
        mine = [one for one in self._live(job) if one.worker_id == me.id]
        if any(me.last_beat_at < one.lease_until for one in mine):
            return False
        if any(one.lease_until > self._lately for one in mine):
            return not self._served(job, {me.id})
        return True

    def _take(
        self, me: Worker, request: ClaimRequest, lapsed: Sequence[Job], profile: str, limit: int
    ) -> list[Attempt]:
        there = [job for job in self._claimable(me, request, lapsed) if job.profile_id == profile]
        chosen = sorted(there, key=lambda job: job.order)[:limit]
        for job in chosen:
            if job.state == "running":
                self._lose(job)
                self._say("job_retried", self._of(job), position=job.position, code="lease_lost")
        turns = [job.turn for job in chosen if job.kind == "transcribe"]
        self.turn = max([self.turn or 0, *turns]) if chosen else self.turn
        return self._start(me, request, chosen, hedge=False)

    def _start(self, me: Worker, request: ClaimRequest, jobs: Sequence[Job], hedge: bool) -> list[Attempt]:
        jobs = jobs[: request.jobs["transcribe"]] if hedge else jobs
        for name in sorted({job.transcription_id for job in jobs}):
            recording = self.recordings[name]
            if recording.state == "queued":
                recording.state, recording.started_at = "running", self.now
                self._say("transcription_started", recording)
        return [self._attempt(me, request, job, hedge) for job in jobs]

    def _attempt(self, me: Worker, request: ClaimRequest, job: Job, hedge: bool) -> Attempt:
        job.state, job.available_at, job.attempts = "running", 0.0, job.attempts + 1
        made = Attempt(
            token=self.mint.claim_token(), job_id=job.id, number=job.attempts, worker_id=me.id,
            request_id=request.request_id, lease_until=self.now + self._lease, started_at=self.now, hedge=hedge,
            language=self._of(job).language, ends_by=self.now + self._limit(job),
        )  # fmt: skip
        self.attempts[made.token] = made
        return made

    def _limit(self, job: Job) -> float:
        if job.kind == "chunk":
            return self.policy.cut_seconds
        most = self.policy.attempt_seconds * (2 if job.kind == "peaks" else 1)
        return most + ATTEMPT_PACE * (job.end_seconds - job.start_seconds)

    def _claimed(self, attempt: Attempt) -> Answer:
        job = self.jobs[attempt.job_id]
        recording = self._of(job)
        same = ("transcription_id", "kind", "position", "alone", "start_seconds", "end_seconds", "audio_key",
                "audio_size", "audio_sha256")  # fmt: skip
        return {name: getattr(job, name) for name in same} | {
            "token": attempt.token, "job_id": job.id, "attempt": attempt.number, "hedge": attempt.hedge,
            "lease_seconds": self._lease, "source": recording.source, "source_name": recording.name,
            "source_size": recording.source_size, "chunk_seconds": recording.chunk_seconds,
            "resume_position": recording.chunks, "resume_seconds": recording.cut_seconds,
            "options": recording.options | {"revision": recording.revision}
                | ({} if recording.without_speakers is None else {"diarize": False, "speaker_model": None}),
            "expected_language": recording.language or recording.tagged_language,
            "tagged_language": recording.tagged_language, "without_speakers": recording.without_speakers,
        }  # fmt: skip

    def _hedgeable(self, me: Worker, request: ClaimRequest) -> list[Job]:
        """Jobs that another is slow with, oldest first."""
        found = []
        for job in self.jobs.values():
            profile, live = self.profiles[job.profile_id], self._live(job)
            if job.kind != "transcribe" or profile.pace is None or len(live) != 1 or not self._serves(me, job):
                continue
            (one,) = live
            mine = me.id in (one.worker_id, job.left_by)
            if not mine and not one.hedge and one.lease_until > self.now:
                wait = max(self.policy.hedge_min_seconds, self.policy.hedge_factor * profile.pace * job.seconds)
                if self.now - one.started_at > wait:
                    found.append((one.started_at, job.id, job))
        return [job for _, _, job in sorted(found, key=lambda one: one[:2])]

    def next_due(self) -> float | None:
        live = [one for one in self.attempts.values() if one.state == "live"]
        moments = [one.lease_until for one in live if one.lease_until > self.now]
        moments += [job.available_at for job in self.jobs.values() if job.available_at > self.now]
        return min(moments) - self.now if moments else None

    # Workers report

    def heartbeat(self, request: HeartbeatRequest) -> Answer:
        me = self._known(request.worker_id)
        lost, cancelled = [], []
        for token in dict.fromkeys(request.tokens):
            one = self.attempts.get(token)
            if one is not None and one.worker_id == me.id and one.state == "live":
                one.lease_until = min(one.ends_by, self.now + self._lease)
            elif one is not None and one.worker_id == me.id and one.state in ("cancelled", "superseded"):
                cancelled.append(token)
            else:
                lost.append(token)
        me.last_seen_at = me.last_beat_at = self.now
        told = {"drain": me.state in ("draining", "dismissed"), "dismissed": me.state == "dismissed", "hours": None}
        timing = {"lease_seconds": self._lease, "heartbeat_seconds": self._heartbeat}
        return told | timing | {"lost": tuple(lost), "cancelled": tuple(cancelled)}

    def append(self, request: AppendRequest) -> Answer:
        attempt = self._mine(request.token, request.worker_id)
        if attempt is None:
            raise LeaseLost
        job = self.jobs[attempt.job_id]
        recording = self._of(job)
        if job.kind != "chunk":
            raise InvalidRequest
        there = {one.position: one for one in self._chunks(recording)}
        position, end, fresh = recording.chunks, recording.cut_seconds, []
        for chunk in request.chunks:
            if chunk.position < recording.chunks:
                same = there[chunk.position]
                if (chunk.start_seconds, chunk.end_seconds) != (same.start_seconds, same.end_seconds):
                    raise PositionConflict
        for chunk in request.chunks:
            if chunk.position >= recording.chunks:
                if (chunk.position, chunk.start_seconds) != (position, end):
                    raise PositionConflict
                if chunk.end_seconds <= chunk.start_seconds:
                    raise InvalidRequest
                position, end = position + 1, chunk.end_seconds
                fresh.append(chunk)
        if position > self.policy.max_chunks:
            raise TooLarge
        if request.duration_seconds is not None:
            recording.declared_seconds = request.duration_seconds
        recording.tagged_language = request.language or recording.tagged_language
        if fresh:
            more = 10 * (fresh[-1].end_seconds - recording.cut_seconds)
            attempt.ends_by = min(attempt.ends_by + more, self.now + self.policy.cut_seconds)
            self._append(recording, fresh)
        return {"next_position": position}

    def _append(self, recording: Recording, chunks: Sequence[NewChunk]) -> None:
        turn = max(recording.next_turn, self._present_turn(recording))
        recording.next_turn = turn + len(chunks)
        recording.chunks += len(chunks)
        recording.cut_seconds = chunks[-1].end_seconds
        said = {"first": chunks[0].position, "count": len(chunks), "cut_seconds": recording.cut_seconds}
        self._say("chunks_appended", recording, **said)
        for number, chunk in enumerate(chunks):
            silent = chunk.speech_seconds == 0
            job = Job(
                id=f"{recording.id}.{chunk.position}", transcription_id=recording.id, kind="transcribe",
                position=chunk.position, profile_id=recording.profile_id,
                needs=_needs(recording),
                state="done" if silent else "queued", priority=recording.priority, turn=turn + number,
                created_at=self.now,
                start_seconds=chunk.start_seconds, end_seconds=chunk.end_seconds, speech_seconds=chunk.speech_seconds,
                audio_key=chunk.key, audio_size=chunk.size, audio_sha256=chunk.sha256,
                ended_at=self.now if silent else None,
            )  # fmt: skip
            self.jobs[job.id] = job
            if silent:
                self._count_done(recording, job)

    def _present_turn(self, recording: Recording) -> int:
        """Where its model and priority are served now: at the first that waits, or where the whole farm is."""
        mine = (_needs(recording), recording.priority)
        queued = [job for job in self.jobs.values() if job.state == "queued" and job.available_at <= self.now]
        waiting = [job.turn for job in queued if (job.needs, job.priority) == mine]
        return min(waiting, default=self.turn or 0)

    def complete(self, completions: Sequence[Finished]) -> list[Answer]:
        outcomes, mismatched, refused = [], [], []
        touched = {self._of_token(one.token) for one in completions} - {None}
        for finished in completions:
            attempt, code = self.attempts.get(finished.token), None
            if attempt is None or attempt.worker_id != finished.worker_id or attempt.state not in ("live", "done"):
                code = "lease_lost"
            elif attempt.state == "done":
                code = None if attempt.digest == finished.digest else "result_conflict"
            elif finished.result.kind != self.jobs[attempt.job_id].kind:
                code = "invalid_request"
            elif (finished.doubted or self._is_odd(attempt, finished)) and self._asks_another(attempt):
                attempt.doubted, attempt.heard_revision = True, finished.revision
                self._end(attempt, "superseded")
                refused.append(attempt)
            elif isinstance(finished.result, ChunkResult):
                code = self._cut(attempt, finished)
            elif isinstance(finished.result, PeaksResult):
                self._made_peaks(attempt, finished, finished.result)
            else:
                code = self._recognised(attempt, finished, mismatched, refused)
            outcomes.append({"token": finished.token, "error_code": code})
        self._fail([(attempt, "model_mismatch", False, False, "") for attempt in mismatched])
        for attempt in refused:
            job = self.jobs[attempt.job_id]
            if self._queue_again(job):
                if attempt.doubted:
                    job.left_by, job.available_at = attempt.worker_id, self.now
                self._say("job_redo", self._of(job), position=job.position)
        self._conclude(name for name in touched if name is not None)
        return outcomes

    def _same_model(self, profile: Profile) -> list[Profile]:
        mine = (profile.engine, profile.model)
        return [one for one in self.profiles.values() if (one.engine, one.model) == mine]

    def _is_odd(self, attempt: Attempt, finished: Finished) -> bool:
        """Whether it would pin a revision that is not the known one."""
        job = self.jobs[attempt.job_id]
        known = self.profiles[job.profile_id].revision
        pins = isinstance(finished.result, TranscribeResult) and self._of(job).revision is None
        return pins and known not in (None, finished.revision)

    def _asks_another(self, attempt: Attempt) -> bool:
        """Whether nobody else was asked, or is at it, and somebody is there who could be."""
        job = self.jobs[attempt.job_id]
        alone = self._live(job) == [attempt] and not self._doubted(job)
        return alone and self._served(job, {attempt.worker_id})

    def _doubted(self, job: Job) -> list[Attempt]:
        return [one for one in self.attempts.values() if one.job_id == job.id and one.doubted]

    def _cut(self, attempt: Attempt, finished: Finished) -> str | None:
        job, result = self.jobs[attempt.job_id], finished.result
        recording = self._of(job)
        assert isinstance(result, ChunkResult)
        if (result.chunks, result.duration_seconds) != (recording.chunks, recording.cut_seconds):
            return "invalid_request"
        if result.declared_seconds is not None:
            recording.declared_seconds = result.declared_seconds
        recording.chunking_done, recording.duration_seconds = True, result.duration_seconds
        recording.damaged_packets = result.damaged_packets
        recording.damaged = [list(one) for one in result.damaged_seconds]
        recording.remarks = list(result.remarks)
        job.end_seconds = result.duration_seconds
        self._accept(attempt, finished)
        self._say("chunking_done", recording, chunks=recording.chunks, duration_seconds=result.duration_seconds)
        if recording.peaks:
            self._whole_job(recording, "peaks", job.turn)
        return None

    def _made_peaks(self, attempt: Attempt, finished: Finished, result: PeaksResult) -> None:
        job = self.jobs[attempt.job_id]
        job.end_seconds = result.duration_seconds
        job.audio_key, job.audio_size = result.audio.key, result.audio.size
        self._accept(attempt, finished)
        self._say("peaks_done", self._of(job), duration_seconds=result.duration_seconds)

    def _recognised(
        self, attempt: Attempt, finished: Finished, mismatched: list[Attempt], refused: list[Attempt]
    ) -> str | None:
        job, facts = self.jobs[attempt.job_id], finished.result
        recording = self._of(job)
        assert isinstance(facts, TranscribeResult)
        if recording.revision not in (None, facts.revision):
            attempt.state = "failed"
            mismatched.append(attempt)
            return "model_mismatch"
        if not facts.language_sure and recording.language not in (None, facts.language, attempt.language):
            self._end(attempt, "superseded")
            refused.append(attempt)
            return None
        recording.revision = facts.revision
        agreed = self._accept(attempt, finished)
        if agreed or self.profiles[job.profile_id].revision is None:
            for one in self._same_model(self.profiles[job.profile_id]):
                one.revision = facts.revision
        job.language = facts.language if facts.language_sure else recording.language or facts.language
        job.language_sure = facts.language_sure
        self._count_done(recording, job)
        worker = self.workers.get(attempt.worker_id)
        if worker is not None:
            worker.audio_seconds += job.seconds
            worker.work_seconds += facts.work_seconds
        return None

    def _accept(self, attempt: Attempt, finished: Finished) -> bool:
        """Returns whether a first worker had the same revision."""
        job, agreed = self.jobs[attempt.job_id], False
        for first in self._doubted(job)[-1:]:
            if first.worker_id != attempt.worker_id:
                agreed = first.heard_revision == finished.revision
                for name in (first.worker_id, attempt.worker_id):
                    if name in self.workers:
                        self.workers[name].compared += 1
        self._end(attempt, "done")
        attempt.digest = finished.digest
        for other in self._live(job):
            self._end(other, "superseded")
        job.state, job.ended_at = "done", self.now
        job.result_key, job.result_size, job.result_digest = (
            finished.result_key,
            finished.result_size,
            finished.digest,
        )
        if job.seconds > 0:
            profile, sample = self.profiles[job.profile_id], (self.now - attempt.started_at) / job.seconds
            profile.pace = sample if profile.pace is None else 0.9 * profile.pace + 0.1 * sample
            profile.samples += 1
        return agreed

    def fail(self, request: FailRequest) -> list[Answer]:
        outcomes, failures = [], []
        for failure in request.failures:
            attempt = self._mine(failure.token, request.worker_id)
            outcomes.append({"token": failure.token, "error_code": "lease_lost" if attempt is None else None})
            if attempt is not None:
                attempt.state = "failed"
                charged = failure.charged or failure.permanent
                failures.append((attempt, failure.code, charged, failure.permanent, failure.message))
        self._fail(failures)
        self._conclude({self.jobs[attempt.job_id].transcription_id for attempt, *_ in failures})
        return outcomes

    def _fail(self, failures: Sequence[tuple[Attempt, str, bool, bool, str]]) -> None:
        """Each job waits for another try, goes on under its other attempt, or is set aside."""
        ended = []
        for attempt, code, charged, *_ in failures:
            job = self.jobs[attempt.job_id]
            self._end(attempt, "failed", code, charged)
            job.charged_attempts += charged
            job.alone = job.alone or (charged and code == "recogniser_crashed")
        last = {failure[0].job_id: failure for failure in failures}  # of rivals the last one decides
        for attempt, code, charged, permanent, message in last.values():
            job = self.jobs[attempt.job_id]
            if job.state == "running" and (
                not self._live(job) and (self._hopeless(job, permanent) or self._given_up(job, attempt, charged))
            ):
                ended.append((job, code))
            elif self._queue_again(job):
                without = code == "speakers_unavailable" and job.kind == "transcribe"
                if without and not self._served(job, self._tried(job)):
                    recording = self._of(job)
                    if recording.without_speakers is None:
                        recording.without_speakers = message
                self._leave_to_others(job, attempt, charged)
                self._say("job_retried", self._of(job), position=job.position, code=code)
        for job, code in ended:
            for rival in self._live(job):
                self._end(rival, "superseded")
            self._set_aside(job, code)

    def _hopeless(self, job: Job, permanent: bool) -> bool:
        """Whether nobody could do better, as two have found out, or one with nobody beside it."""
        culprits = self._culprits(job)
        return permanent and (len(culprits) >= 2 or not self._served(job, culprits))

    def _given_up(self, job: Job, attempt: Attempt, charged: bool) -> bool:
        if charged and job.charged_attempts >= self.policy.max_attempts:
            return self._spent(job, job.charged_attempts, self._culprits(job))
        if charged:
            return False
        if self._tries(job) >= 16 * self.policy.max_attempts:
            return True
        return self._failures(job) >= 4 * self.policy.max_attempts and not self._served(job, self._tried(job))

    def _spent(self, job: Job, charged: int, culprits: Collection[str], here: str = "") -> bool:
        """Whether it has had its share of tries: on two workers where there are two, but not for ever."""
        most = self.policy.max_attempts
        if len(culprits) < 2 and charged < 2 * most and self._served(job, culprits, here):
            return False
        return charged >= most

    def _leave_to_others(self, job: Job, attempt: Attempt, charged: bool) -> None:
        others = self._served(job, (attempt.worker_id,))
        job.left_by = attempt.worker_id if others else None
        job.available_at = self.now
        if charged or not others or self._failures(job) > 1:
            failures = job.charged_attempts if charged else self._failures(job)
            wait = min(self.policy.retry_max_seconds, self.policy.retry_base_seconds * 2.0 ** (failures - 1))
            job.available_at += wait * self.mint.jitter()

    def _tries(self, job: Job) -> int:
        return job.attempts - job.forgiven_attempts

    def release(self, request: ReleaseRequest) -> list[Answer]:
        mine = {token: self._mine(token, request.worker_id) for token in request.tokens}
        if request.leaving:
            held = [one for one in self.attempts.values() if one.worker_id == request.worker_id]
            mine |= {one.token: one for one in held if one.state == "live"}
        ended = [one for _, one in sorted(mine.items()) if one is not None]
        for one in ended:
            self._end(one, "released")
        worn_out: list[Job] = []
        for job in sorted(
            (self.jobs[one.job_id] for one in ended), key=lambda job: (job.transcription_id, job.position)
        ):
            if self._queue_again(job):
                if self._tries(job) >= 16 * self.policy.max_attempts:
                    worn_out.append(job)
                    continue
                self._say("job_released", self._of(job), position=job.position)
        for job in worn_out:
            self._set_aside(job, "lease_lost")
        self._conclude({job.transcription_id for job in worn_out})
        if request.leaving and request.worker_id in self.workers:
            self._give_up([self.workers[request.worker_id]])
        return [{"token": one, "error_code": None if mine[one] else "lease_lost"} for one in request.tokens]

    # Whole recordings

    def cancel(self, recording_id: str) -> Recording:
        recording = self._find(recording_id)
        if recording.state == "cancelled":
            return recording
        if recording.state in FINISHED:
            raise WrongState
        for job in self._jobs(recording):
            for attempt in self._live(job):
                self._end(attempt, "cancelled")
            if job.state in ("queued", "running"):
                job.state, job.ended_at, job.available_at = "cancelled", self.now, 0.0
        self._close(recording, "cancelled")
        return recording

    def retry(self, recording_id: str) -> Recording:
        recording = self._find(recording_id)
        if recording.state not in ("incomplete", "failed", "cancelled"):
            beside = [job for job in self._jobs(recording) if job.kind == "peaks" and job.state == "failed"]
            if not beside:
                raise WrongState
            self._start_anew(beside)
            self._say("transcription_retried", recording)
            return recording
        if any(job.error_code == "model_mismatch" and job.state == "failed" for job in self._chunks(recording)):
            self._unpin(recording)
        again = [job for job in self._chunks(recording) if job.state in ("failed", "cancelled")]
        later = max(0, self._present_turn(recording) - min(job.turn for job in again)) if again else 0
        recording.next_turn += later
        for job in again:
            job.turn += later
        self._start_anew([job for job in self._jobs(recording) if job.state in ("failed", "cancelled")])
        recording.state = "queued" if recording.started_at is None else "running"
        recording.finished_at = recording.error_code = recording.coverage = None
        recording.chunks_failed = 0
        self._say("transcription_retried", recording)
        self._settle(recording)
        return recording

    def _start_anew(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            job.state, job.ended_at, job.available_at, job.error_code = "queued", None, 0.0, None
            job.charged_attempts, job.forgiven_attempts = 0, job.attempts

    def _unpin(self, recording: Recording) -> None:
        """Nobody has the revision of the first result: all are heard again, unless it was asked for."""
        if recording.options["revision"] is not None:
            return
        recording.revision = None
        for job in self._chunks(recording):
            if job.state == "done" and job.result_digest is not None:
                job.state = "failed"
                job.result_key = job.result_size = job.result_digest = job.language = None
                recording.chunks_done -= 1
                recording.done_seconds -= job.seconds

    def delete(self, recording_id: str) -> list[str]:
        recording = self._find(recording_id)
        if recording.state not in FINISHED:
            raise WrongState
        keys = self._keys(recording)
        for job in self._jobs(recording):
            del self.jobs[job.id]
        self.attempts = {token: one for token, one in self.attempts.items() if one.job_id in self.jobs}
        del self.recordings[recording.id]
        self._say("transcription_deleted", recording)
        return sorted(keys.difference(*map(self._keys, self.recordings.values())))

    def next_to_assemble(self) -> str | None:
        waiting = [one for one in self.recordings.values() if one.state == "assembling"]
        return min(waiting, key=lambda one: (one.created_at, one.id)).id if waiting else None

    def results_of(self, recording_id: str) -> list[Answer]:
        done = [job for job in self._chunks(self._find(recording_id)) if job.state == "done"]
        return [[job.position, job.start_seconds, job.end_seconds, job.result_key] for job in done]

    def assembled(self, recording_id: str, made: Assembled) -> Recording:
        recording = self._find(recording_id)
        if recording.state == "assembling" and [list(one) for one in made.results] == self.results_of(recording_id):
            for job in [job for job in self._chunks(recording) if job.position in made.lost]:
                job.result_key = job.result_size = job.result_digest = job.language = None
                recording.chunks_done -= 1
                recording.done_seconds -= job.seconds
                self._set_aside(job, "blob_missing")
            recording.transcript_key, recording.transcript_size = made.key, made.size
            recording.transcript_sha256 = made.sha256
            recording.coverage = asdict(made.coverage) | {"missing": [asdict(one) for one in made.coverage.missing]}
            self._close(recording, "done" if made.coverage.recognised else "incomplete")
        return recording

    def reap(self) -> Answer:
        here = {worker.id for worker in self.workers.values() if worker.state != "gone"}
        abandoned = [job for job in self.jobs.values() if self._lapsed(job) and not self._served(job)]
        orphans = [job for job in abandoned if not any(one.worker_id in here for one in self._live(job))]
        spent = self._set_aside_spent(orphans)
        silent = [worker for worker in self.workers.values() if worker.last_seen_at < self.now - 3 * self._lease]
        return {"workers_gone": self._give_up(silent), "jobs_set_aside": len(spent)}

    # Who is there

    @property
    def _heartbeat(self) -> float:
        present = sum(worker.state != "gone" for worker in self.workers.values())
        return max(self.policy.heartbeat_seconds, present / self.policy.beats_per_second)

    @property
    def _lease(self) -> float:
        return self.policy.lease_seconds * self._heartbeat / self.policy.heartbeat_seconds

    def _known(self, worker_id: str) -> Worker:
        worker = self.workers.get(worker_id)
        if worker is None or worker.state == "gone":
            raise WorkerUnknown
        return worker

    def _served(self, job: Job, but: Collection[str] = (), here: str = "") -> bool:
        """Whether a live worker seen within a lease, other than those, could take the job."""
        live = [one for one in self.workers.values() if one.state == "live"]
        seen = [one for one in live if one.id == here or one.last_seen_at > self.now - self._lease]
        return any(one.id not in but and self._serves(one, job) for one in seen)

    def _serves(self, worker: Worker, job: Job) -> bool:
        return worker.serves(self.profiles[job.profile_id], self._of(job).label)

    def _give_up(self, workers: Iterable[Worker]) -> int:
        gone = [worker for worker in workers if worker.state != "gone"]
        for worker in sorted(gone, key=lambda worker: worker.id):
            worker.state = "gone"
            self._say_of(worker, "worker_gone")
        for job in self.jobs.values():
            if gone and job.state == "queued":
                job.left_by = None
        return len(gone)

    # What attempts say of a job

    def _live(self, job: Job) -> list[Attempt]:
        return [one for one in self.attempts.values() if one.job_id == job.id and one.state == "live"]

    def _mine(self, token: str, worker_id: str) -> Attempt | None:
        one = self.attempts.get(token)
        return one if one is not None and one.worker_id == worker_id and one.state == "live" else None

    def _lapsed(self, job: Job) -> bool:
        return job.state == "running" and all(one.lease_until <= self.now for one in self._live(job))

    def _counted(self, job: Job) -> list[Attempt]:
        """The attempts since the last retry that went wrong."""
        mine = [one for one in self.attempts.values() if one.job_id == job.id and one.number > job.forgiven_attempts]
        return [one for one in mine if one.state in ("failed", "lost")]

    def _tried(self, job: Job) -> set[str]:
        return {one.worker_id for one in self._counted(job)}

    @property
    def _lately(self) -> float:
        return self.now - self.policy.retry_max_seconds

    def _failures(self, job: Job) -> int:
        return len(self._counted(job))

    def _culprits(self, job: Job) -> set[str]:
        return {one.worker_id for one in self._counted(job) if one.charged}

    def _end(self, attempt: Attempt, state: str, code: str | None = None, charged: bool = False) -> None:
        attempt.state, attempt.ended_at, attempt.error_code, attempt.charged = state, self.now, code, charged

    def _lose(self, job: Job) -> None:
        for one in sorted(self._live(job), key=lambda one: one.number):
            self._end(one, "lost", "lease_lost", charged=True)
            job.charged_attempts += 1
            job.alone = True
            job.left_by = one.worker_id

    def _queue_again(self, job: Job) -> bool:
        """Queue a running job that has no live attempt left."""
        if job.state != "running" or self._live(job):
            return False
        job.state = "queued"
        return True

    def _set_aside_spent(self, lapsed: Sequence[Job], here: str = "") -> list[Job]:
        spent = []
        for job in sorted(lapsed, key=lambda job: job.id):
            holders = {one.worker_id for one in self._live(job)}
            if self._spent(job, job.charged_attempts + len(self._live(job)), self._culprits(job) | holders, here):
                spent.append(job)
        for job in spent:
            self._lose(job)
            self._set_aside(job, "lease_lost")
        self._conclude({job.transcription_id for job in spent})
        return spent

    def _set_aside(self, job: Job, code: str) -> None:
        recording = self._of(job)
        job.state, job.ended_at, job.available_at, job.error_code = "failed", self.now, 0.0, code
        recording.chunks_failed += job.kind == "transcribe"
        where = {"job_kind": job.kind, "position": job.position, "start": job.start_seconds, "end": job.end_seconds}
        self._say("job_set_aside", recording, code=code, **where)

    # How recordings end

    def _deciding(self, recording: Recording) -> Job | None:
        """The first chunk with enough speech that is not set aside."""
        enough = [job for job in self._chunks(recording) if job.speech_seconds >= self.policy.language_speech_seconds]
        return next((job for job in enough if job.speech_seconds > 0 and job.state != "failed"), None)

    def _decide(self, recording: Recording) -> None:
        job = self._deciding(recording)
        if job is None and self._all_ended(recording):
            done = [one for one in self._chunks(recording) if one.state == "done" and one.speech_seconds > 0]
            job = min(done, key=lambda one: (-one.speech_seconds, one.position), default=None)
        if job is not None and job.state == "done":
            recording.language = job.language
            self._say("language_decided", recording, language=job.language)
            self._redo_others(recording)

    def _redo_others(self, recording: Recording) -> None:
        for job in self._chunks(recording):
            if job.state == "done" and not job.language_sure and job.language not in (None, recording.language):
                job.state, job.ended_at, job.available_at, job.language = "queued", None, 0.0, None
                job.result_key = job.result_size = job.result_digest = None
                recording.chunks_done -= 1
                recording.done_seconds -= job.seconds
                self._say("job_redo", recording, position=job.position)

    def _conclude(self, names: Iterable[str]) -> None:
        running = [one for one in map(self.recordings.__getitem__, sorted(names)) if one.state == "running"]
        for recording in running:
            if recording.language is None:
                self._decide(recording)
            self._settle(recording)

    def _settle(self, recording: Recording) -> None:
        if recording.state != "running" or not self._all_ended(recording):
            return
        failed = [job for job in self._awaited(recording) if job.state == "failed"]
        if failed and not any(job.state == "done" for job in self._chunks(recording)):
            self._close(recording, "failed", failed[0].error_code)
        else:
            self._close(recording, "assembling")

    def _all_ended(self, recording: Recording) -> bool:
        return all(job.state in ("done", "failed") for job in self._awaited(recording))

    def _close(self, recording: Recording, state: str, code: str | None = None) -> None:
        recording.state = state
        recording.finished_at = None if state == "assembling" else self.now
        recording.error_code = code
        self._say(f"transcription_{state}", recording, **({"code": code} if state == "failed" else {}))

    def _count_done(self, recording: Recording, job: Job) -> None:
        recording.chunks_done += 1
        recording.done_seconds += job.seconds
        told = {"seconds": job.seconds, "done_seconds": recording.done_seconds, "chunks_done": recording.chunks_done}
        self._say("job_done", recording, position=job.position, **told)

    # Finding and saying

    def _find(self, recording_id: str) -> Recording:
        if recording_id not in self.recordings:
            raise NotFound
        return self.recordings[recording_id]

    def _of(self, job: Job) -> Recording:
        return self.recordings[job.transcription_id]

    def _of_token(self, token: str) -> str | None:
        one = self.attempts.get(token)
        return None if one is None else self.jobs[one.job_id].transcription_id

    def _jobs(self, recording: Recording) -> list[Job]:
        """The jobs about the whole recording, then the chunks in order."""
        mine = [job for job in self.jobs.values() if job.transcription_id == recording.id]
        return sorted(mine, key=lambda job: (job.kind, job.position))

    def _awaited(self, recording: Recording) -> list[Job]:
        """All but what nothing waits for."""
        return [job for job in self._jobs(recording) if job.kind != "peaks"]

    def _chunks(self, recording: Recording) -> list[Job]:
        return [job for job in self._jobs(recording) if job.kind == "transcribe"]

    def _keys(self, recording: Recording) -> set[str]:
        keys = {recording.source.removeprefix("blob:"), recording.transcript_key}
        keys |= {key for job in self._jobs(recording) for key in (job.audio_key, job.result_key)}
        return {key for key in keys if key is not None}

    def _say(self, kind: str, recording: Recording, **data: object) -> None:
        self.events.append((self.now, kind, recording.id, recording.owner, data))

    def _say_of(self, worker: Worker, kind: str) -> None:
        data = {"worker_id": worker.id, "name": worker.name}
        self.events.append((self.now, kind, None, worker.owner, data))


def _needs(recording: Recording) -> str:
    return f"{recording.label}:{recording.options['engine']} {recording.options['model']}"
