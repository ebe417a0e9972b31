"""A farm for tests of the worker: the worker API over dictionaries, real sockets, quick beats, faults on demand.

It keeps the promises of the protocol that a worker relies on (claims by request id, completions by token, leases that
lapse only when somebody claims), and writes down what it saw. One queue; no fairness, no hedges, no languages.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from whisper_farm.errors import FarmError, LeaseLost, NotFound, PositionConflict, WorkerUnknown
from whisper_farm.protocol import worker
from whisper_farm.protocol.jobs import (
    RESULTS,
    ChunkTask,
    PeaksTask,
    Result,
    Source,
    Task,
    TranscribeResult,
    TranscribeTask,
)
from whisper_farm.protocol.wire import Answer, Transfer
from whisper_farm.transcript.options import RecognitionOptions

JobState = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass
class Job:
    """One job and everything that happened to it."""

    id: str
    task: Task
    position: int = 0
    state: JobState = "queued"
    alone: bool = False
    charged: int = 0
    attempts: int = 0
    available_at: float = 0.0
    failures: list[worker.AttemptFailure] = field(default_factory=list)
    result: Result | None = None


@dataclass
class Attempt:
    """One claim."""

    job: Job
    worker_id: str
    lease_until: float
    state: str = "live"
    digest: str = ""


class FakeFarm:
    """The books. `blobs` holds sources and chunks by key; the server in `bare_farm.py` speaks for it."""

    def __init__(self, lease_seconds: float = 60.0) -> None:
        """A test that wants leases to lapse makes them short: a busy machine loses one of a second."""
        self.lease_seconds = lease_seconds
        self.most_between_beats = 0.2
        self.workers: dict[str, worker.RegisterRequest] = {}
        self.registrations: list[worker.RegisterRequest] = []
        self.jobs: dict[str, Job] = {}
        self.attempts: dict[str, Attempt] = {}
        self.claimed: dict[str, list[str]] = {}
        self.claim_requests: list[worker.ClaimRequest] = []
        self.blobs: dict[str, bytes] = {}
        self.uploads: dict[str, bytes] = {}
        self.beats: list[float] = []
        self.last_beats: dict[str, float] = {}
        self.left: list[str] = []
        self.released: list[str] = []
        self.outcomes: list[str | None] = []
        self.lapses = 0
        self.drain = False
        self.dismissed = False
        self.hours: str | None = None
        self.max_attempts = 3
        self.retry_seconds = 0.0
        self.options = RecognitionOptions(engine="tones", model="instant")
        self.link: Callable[[str], str] = lambda path: path
        """Makes the address of a transfer from its path: another server's, for presigned links."""

    def add_chunk(self, flac: bytes, start: float, seconds: float, options: RecognitionOptions | None = None) -> Job:
        """Queue a chunk to recognise."""
        position = sum(isinstance(job.task, TranscribeTask) for job in self.jobs.values())
        key = f"chunk-{position}"
        self.blobs[key] = flac
        task = TranscribeTask(
            start_seconds=start,
            end_seconds=start + seconds,
            size=len(flac),
            sha256=hashlib.sha256(flac).hexdigest(),
            transfer=Transfer(url=self.link(f"/api/work/audio/{key}"), method="GET"),
            options=options or self.options,
        )
        return self._add(Job(f"t.{position}", task, position))

    def add_recording(self, data: bytes, name: str = "talk.wav", chunk_seconds: float = 5.0) -> Job:
        """Queue a recording to cut; its chunks become jobs as they are appended."""
        self.blobs[f"source-{len(self.blobs)}"] = data
        transfer = Transfer(url=self.link(f"/api/work/source/source-{len(self.blobs) - 1}"), method="GET")
        source = Source(name=name, size=len(data), transfer=transfer)
        cuts = sum(isinstance(job.task, ChunkTask) for job in self.jobs.values())
        return self._add(Job(f"t{cuts or ''}.c", ChunkTask(source=source, chunk_seconds=chunk_seconds)))

    def add_peaks(self, data: bytes, name: str = "talk.wav") -> Job:
        """Queue the making of a listening copy."""
        self.blobs[f"source-{len(self.blobs)}"] = data
        transfer = Transfer(url=self.link(f"/api/work/source/source-{len(self.blobs) - 1}"), method="GET")
        source = Source(name=name, size=len(data), transfer=transfer)
        return self._add(Job("t.p", PeaksTask(source=source)))

    def _add(self, job: Job) -> Job:
        self.jobs[job.id] = job
        return job

    @property
    def chunks(self) -> list[Job]:
        """All transcribe jobs in order of position."""
        jobs = [job for job in self.jobs.values() if isinstance(job.task, TranscribeTask)]
        return sorted(jobs, key=lambda job: job.position)

    def all_are(self, *states: JobState) -> bool:
        """Whether every job is in one of these states."""
        return all(job.state in states for job in self.jobs.values())

    def heard(self) -> list[tuple[str, float]]:
        """Every word of the results with its start, in order of position."""
        results = [job.result for job in self.chunks if isinstance(job.result, TranscribeResult)]
        words = [word for result in results for segment in result.segments for word in segment.words]
        return [(word.text.strip(), word.start) for word in words]

    def cancel(self, job: Job) -> None:
        """Cancel one job."""
        job.state = "cancelled"
        for attempt in self._live(job):
            attempt.state = "cancelled"

    def _live(self, job: Job) -> list[Attempt]:
        return [attempt for attempt in self.attempts.values() if attempt.job is job and attempt.state == "live"]

    def holder(self, token: str) -> Attempt:
        """The live attempt of this token."""
        attempt = self.attempts.get(token)
        if attempt is None or attempt.state != "live":
            raise LeaseLost(f"{token} is {attempt.state if attempt else 'unknown'}.")
        return attempt

    def register(self, request: worker.RegisterRequest) -> worker.RegisterAnswer:
        self.workers[request.worker_id] = request
        self.registrations.append(request)
        return worker.RegisterAnswer(
            lease_seconds=self.lease_seconds,
            heartbeat_seconds=self._heartbeat_seconds,
            server_version="fake",
            hours=self.hours,
        )

    def claim(self, request: worker.ClaimRequest) -> worker.ClaimAnswer:
        self._known(request.worker_id)
        self.claim_requests.append(request)
        if request.request_id in self.claimed:
            tokens = [token for token in self.claimed[request.request_id] if self.attempts[token].state == "live"]
            return worker.ClaimAnswer(claims=tuple(map(self._claim, tokens)))
        if self.drain:
            return worker.ClaimAnswer(claims=(), drain=True)
        chosen = self._free(ChunkTask, request.worker_id)[: request.jobs.get("chunk", 0)]
        chosen += self._free(PeaksTask, request.worker_id)[: request.jobs.get("peaks", 0)]
        chosen += self._free(TranscribeTask, request.worker_id)[: request.jobs.get("transcribe", 0)]
        tokens = [self._begin(job, request.worker_id) for job in chosen]
        if tokens:
            self.claimed[request.request_id] = tokens
        return worker.ClaimAnswer(claims=tuple(map(self._claim, tokens)))

    def _free(self, kind: type[Task], worker_id: str) -> list[Job]:
        """What may be claimed; a lapsed job not by its own holder before that has beaten again."""
        now, last_beat = time.monotonic(), self.last_beats.get(worker_id, 0.0)
        jobs = [
            job
            for job in self.jobs.values()
            if isinstance(job.task, kind)
            and (
                (job.state == "queued" and job.available_at <= now)
                or (job.state == "running" and all(each.lease_until <= now for each in self._live(job)))
            )
            and not any(each.worker_id == worker_id and last_beat < each.lease_until for each in self._live(job))
        ]
        return sorted(jobs, key=lambda job: job.position)

    def _begin(self, job: Job, worker_id: str) -> str:
        for lapsed in self._live(job):
            lapsed.state = "lost"
            self.lapses += 1
            job.charged += 1
            job.alone = True
        token = secrets.token_urlsafe(24)
        job.state = "running"
        job.attempts += 1
        self.attempts[token] = Attempt(job, worker_id, time.monotonic() + self.lease_seconds)
        return token

    def _claim(self, token: str) -> worker.Claim:
        job = self.attempts[token].job
        task = self._resumed(job.task) if isinstance(job.task, ChunkTask) else _alone(job.task, job.alone)
        return worker.Claim(
            token=token,
            job_id=job.id,
            transcription_id="t",
            position=job.position,
            attempt=job.attempts,
            lease_seconds=self.lease_seconds,
            task=task,
        )

    def _resumed(self, task: ChunkTask) -> ChunkTask:
        done = self.chunks
        end = done[-1].task.end_seconds if done and isinstance(done[-1].task, TranscribeTask) else 0.0
        return task.model_copy(update={"resume_position": len(done), "resume_seconds": end})

    def heartbeat(self, request: worker.HeartbeatRequest) -> worker.HeartbeatAnswer:
        self._known(request.worker_id)
        now = time.monotonic()
        self.beats.append(now)
        self.last_beats[request.worker_id] = now
        lost, cancelled = [], []
        for token in request.tokens:
            attempt = self.attempts.get(token)
            if attempt and attempt.state == "live":
                attempt.lease_until = now + self.lease_seconds
            else:
                (cancelled if attempt and attempt.state == "cancelled" else lost).append(token)
        return worker.HeartbeatAnswer(
            lost=tuple(lost),
            cancelled=tuple(cancelled),
            drain=self.drain,
            dismissed=self.dismissed,
            hours=self.hours,
            lease_seconds=self.lease_seconds,
            heartbeat_seconds=self._heartbeat_seconds,
        )

    def upload_targets(self, request: worker.UploadRequest) -> worker.UploadAnswer:
        self.holder(request.token)
        targets = []
        for position in request.positions:
            key = f"{request.token}-{position}"
            transfer = Transfer(url=self.link(f"/api/work/uploads/{key}"), method="PUT")
            targets.append(worker.ChunkUpload(position=position, key=key, transfer=transfer))
        return worker.UploadAnswer(uploads=tuple(targets))

    def append(self, request: worker.AppendRequest) -> worker.AppendAnswer:
        self.holder(request.token)
        for new in request.chunks:
            there = self.chunks
            if new.position < len(there):
                continue
            end = there[-1].task.end_seconds if there and isinstance(there[-1].task, TranscribeTask) else 0.0
            if new.position != len(there) or abs(new.start_seconds - end) > 1e-6:
                raise PositionConflict(f"{new.position} at {new.start_seconds} does not follow {len(there)} at {end}.")
            flac = self.uploads[new.key]
            if hashlib.sha256(flac).hexdigest() != new.sha256:
                raise FarmError("The digest of a chunk is wrong.")
            self.add_chunk(flac, new.start_seconds, new.end_seconds - new.start_seconds)
        return worker.AppendAnswer(next_position=len(self.chunks))

    def complete(self, request: worker.CompleteRequest) -> worker.CompleteAnswer:
        outcomes = [self._complete(completion) for completion in request.completions]
        self.outcomes += [outcome.error_code for outcome in outcomes]
        claimed = self.claim(request.claim) if request.claim else worker.ClaimAnswer(claims=())
        return worker.CompleteAnswer(outcomes=tuple(outcomes), claims=claimed.claims, drain=claimed.drain)

    def _complete(self, completion: worker.Completion) -> worker.Outcome:
        attempt = self.attempts.get(completion.token)
        if attempt and attempt.state == "done" and attempt.digest == completion.digest:
            return worker.Outcome(token=completion.token)
        if attempt is None or attempt.state != "live":
            return worker.Outcome(token=completion.token, error_code="lease_lost", message="It is over.")
        attempt.state, attempt.digest, attempt.job.state = "done", completion.digest, "done"
        assert attempt.job.result is None, "a job was completed twice"
        attempt.job.result = RESULTS[completion.kind].model_validate_json(completion.result)
        return worker.Outcome(token=completion.token)

    def fail(self, request: worker.FailRequest) -> worker.OutcomeAnswer:
        outcomes = []
        for failure in request.failures:
            attempt = self.attempts.get(failure.token)
            if attempt is None or attempt.state != "live":
                outcomes.append(worker.Outcome(token=failure.token, error_code="lease_lost", message="It is over."))
                continue
            attempt.state, job = "failed", attempt.job
            job.failures.append(failure)
            job.state, job.available_at = "queued", time.monotonic() + self.retry_seconds
            job.alone = job.alone or failure.code == "recogniser_crashed"
            if failure.charged:
                self._charge(job)
            if failure.permanent:
                job.state = "failed"
            outcomes.append(worker.Outcome(token=failure.token))
        return worker.OutcomeAnswer(outcomes=tuple(outcomes))

    def _charge(self, job: Job) -> None:
        job.charged += 1
        if job.charged >= self.max_attempts:
            job.state = "failed"

    def release(self, request: worker.ReleaseRequest) -> worker.OutcomeAnswer:
        mine = {token for token, each in self.attempts.items() if each.worker_id == request.worker_id}
        for token in mine if request.leaving else request.tokens:
            attempt = self.attempts[token]
            if attempt.state == "live":
                attempt.state, attempt.job.state = "released", "queued"
                self.released.append(attempt.job.id)
        if request.leaving:
            self.left.append(request.worker_id)
            self.workers.pop(request.worker_id, None)
        return worker.OutcomeAnswer(outcomes=())

    @property
    def _heartbeat_seconds(self) -> float:
        return min(self.lease_seconds / 5, self.most_between_beats)

    def _known(self, worker_id: str) -> None:
        if worker_id not in self.workers:
            raise WorkerUnknown

    def blob(self, key: str) -> bytes:
        if key not in self.blobs:
            raise NotFound(f"No blob {key}.")
        return self.blobs[key]

    def calls(self) -> dict[str, tuple[type[Answer], Callable[..., Answer]]]:
        """Every JSON call by name."""
        return {
            "register": (worker.RegisterRequest, self.register),
            "claim": (worker.ClaimRequest, self.claim),
            "heartbeat": (worker.HeartbeatRequest, self.heartbeat),
            "uploads": (worker.UploadRequest, self.upload_targets),
            "append": (worker.AppendRequest, self.append),
            "complete": (worker.CompleteRequest, self.complete),
            "fail": (worker.FailRequest, self.fail),
            "release": (worker.ReleaseRequest, self.release),
        }


def _alone(task: Task, alone: bool) -> Task:
    return task.model_copy(update={"alone": alone}) if isinstance(task, TranscribeTask) else task
