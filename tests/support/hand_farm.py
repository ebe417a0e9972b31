"""A farm in the hand: the queue's operations in few words, on a database whose clock the test moves."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import func, select

from whisper_farm.leases.append import append
from whisper_farm.leases.attempts import heartbeat
from whisper_farm.leases.claim import Claimed, claim_all
from whisper_farm.leases.complete import Finished, complete
from whisper_farm.leases.fail import fail, release
from whisper_farm.leases.lapse import ReapReport, reap
from whisper_farm.leases.rules import RANDOM, Mint
from whisper_farm.leases.transcriptions import NewTranscription, cancel, delete, label_transcription, retry, submit
from whisper_farm.leases.waiting import next_due
from whisper_farm.leases.workers import must_be_there, register_worker
from whisper_farm.protocol.jobs import ChunkResult, TranscribeResult
from whisper_farm.protocol.worker import (
    AppendAnswer,
    AppendRequest,
    AttemptFailure,
    ClaimRequest,
    EngineOffer,
    FailRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
    MachineFacts,
    NewChunk,
    Outcome,
    RegisterRequest,
    ReleaseRequest,
)
from whisper_farm.settings import Policy
from whisper_farm.store.database import Database, Transaction
from whisper_farm.store.tables import attempts, events, jobs, transcriptions
from whisper_farm.store.transcriptions import TranscriptionRow, find
from whisper_farm.transcript.options import RecognitionOptions

SHA = "a" * 64
TONES = RecognitionOptions(engine="tones", model="instant")


def claim(tx: Transaction, request: ClaimRequest, policy: Policy, mint: Mint = RANDOM) -> list[Claimed]:
    """The claims of one request; raises `WorkerUnknown`."""
    (answer,) = claim_all(tx, [request], policy, mint)
    return must_be_there(request.worker_id, answer)[1]


class CountingMint(Mint):
    """Tokens in order of minting, ids against it (so that nothing works by luck), and always the same jitter."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def transcription_id(self) -> str:
        return f"t{99_999_999_999 - next(self._numbers):011}"

    def claim_token(self) -> str:
        return f"token-{next(self._numbers):014}"

    def jitter(self) -> float:
        return 0.75


class Farm:
    """One database, one policy, one clock."""

    def __init__(self, database: Database, policy: Policy | None = None) -> None:
        self.database = database
        self.policy = policy or Policy()
        self.now = 1_000_000.0
        self.mint = CountingMint()
        self._requests = itertools.count(1)

    def write(self, work: Any) -> Any:
        return self.database.write(work, now=self.now)

    def worker(
        self, name: str, models: Sequence[str] | None = None, loaded: Sequence[str] = (), cuts: bool = True,
        label: str = "", launch: str | None = None, resting: Sequence[str] = (),
    ) -> str:  # fmt: skip
        """A worker that runs the tones engine; on a machine of this launch, if it is given."""
        offer = EngineOffer(
            engine="tones", version="1", models=tuple(models) if models is not None else None, loaded=tuple(loaded),
            resting=tuple(resting), device="cpu", batch=8,
        )  # fmt: skip
        request = RegisterRequest(
            worker_id=name, name=name, version="0", platform="test", slots=1, engines=(offer,), cuts=cuts,
            label=label, machine=MachineFacts(provider="local", launch_id=launch) if launch else None,
        )  # fmt: skip
        self.write(lambda tx: register_worker(tx, request, "ann", self.policy))
        return name

    def submit(
        self, name: str = "talk.mp3", options: RecognitionOptions = TONES, priority: int = 0, **more: Any
    ) -> TranscriptionRow:
        new = NewTranscription(
            owner=more.pop("owner", "ann"), name=name, source=f"blob:sources/{name}",
            source_size=more.pop("source_size", 1 << 30), options=options, priority=priority, **more,
        )  # fmt: skip
        made: str = self.write(lambda tx: submit(tx, new, self.mint))
        return self.find(made)

    def recording(
        self, chunks: int, name: str = "talk.mp3", speech: Sequence[float] | None = None, **more: Any
    ) -> TranscriptionRow:
        """A recording that is cut already, by a worker of its own."""
        made = self.submit(name, **more)
        cutter = self.worker("cutter", models=(), label="cut-me-first")
        self.write(lambda tx: label_transcription(tx, made, "cut-me-first"))
        (job,) = self.claim(cutter, chunk=1, transcribe=0)
        self.write(lambda tx: label_transcription(tx, made, more.get("label", "")))
        if chunks:
            self.append(job, chunks, speech=speech)
        self.finish_cutting(job, chunks)
        self.write(lambda tx: release(tx, ReleaseRequest(worker_id=cutter, leaving=True), self.policy))
        return self.find(made.id)

    def claim(
        self, worker: str, transcribe: int = 1, chunk: int = 0, request: str | None = None, peaks: int = 0
    ) -> list[Claimed]:
        asked = self.request(worker, transcribe, chunk, request, peaks)
        claims: list[Claimed] = self.write(lambda tx: claim(tx, asked, self.policy, self.mint))
        return claims

    def request(
        self, worker: str, transcribe: int = 1, chunk: int = 0, request: str | None = None, peaks: int = 0
    ) -> ClaimRequest:
        return ClaimRequest(
            worker_id=worker, request_id=request or f"request-{next(self._requests)}",
            jobs={"chunk": chunk, "peaks": peaks, "transcribe": transcribe},
        )  # fmt: skip

    def due(self) -> float | None:
        return self.database.read(next_due, now=self.now)

    def beat(self, worker: str, *tokens: str) -> HeartbeatAnswer:
        request = HeartbeatRequest(worker_id=worker, tokens=tokens)
        return self.database.beat(lambda tx: heartbeat(tx, request, self.policy), now=self.now)

    def append(
        self, job: Claimed, count: int, first: int | None = None, length: float = 30.0,
        speech: Sequence[float] | None = None, worker: str | None = None, tag: str = "",
        language: str | None = None,
    ) -> AppendAnswer:  # fmt: skip
        first = job.resume_position if first is None else first
        chunks = [
            NewChunk(
                position=position, start_seconds=position * length, end_seconds=(position + 1) * length,
                speech_seconds=speech[position] if speech else 20.0,
                key=f"chunks/{job.transcription_id}/{tag}{position}.flac", size=10, sha256=SHA,
            )
            for position in range(first, first + count)
        ]  # fmt: skip
        for start in range(0, len(chunks), 256):
            request = AppendRequest(
                worker_id=worker or self.holder(job.token),
                token=job.token,
                chunks=tuple(chunks[start : start + 256]),
                language=language,
            )
            answer: AppendAnswer = self.write(lambda tx, request=request: append(tx, request, self.policy))
        return answer

    def finish_cutting(self, job: Claimed, chunks: int, length: float = 30.0, **more: Any) -> Outcome:
        result = ChunkResult(duration_seconds=chunks * length, chunks=chunks, **more)
        return self.finish(Finished(self.holder(job.token), job.token, SHA, result))[0]

    def hedged(self) -> tuple[str, Claimed, Claimed]:
        """A recording, its last job at the worker `slow`, and the hedge of it at `fast`."""
        recording = self.recording(2)
        for name in ("slow", "fast"):
            self.worker(name)
        (quick,) = self.claim("fast")
        self.now += 3
        self.done(quick)
        (job,) = self.claim("slow")
        self.now += 11
        (hedge,) = self.claim("fast")
        assert hedge.hedge
        return recording.id, job, hedge

    def done(
        self,
        job: Claimed,
        worker: str | None = None,
        digest: str = SHA,
        language: str = "en",
        revision: str = "r1",
        sure: bool = False,
    ) -> Outcome:
        """Hand in a recognised chunk."""
        finished = self.finished(job, digest, language, revision, sure)
        return self.finish(replace(finished, worker_id=worker or finished.worker_id))[0]

    def finished(
        self, job: Claimed, digest: str = SHA, language: str = "en", revision: str = "r1", sure: bool = False
    ) -> Finished:
        result = TranscribeResult(
            segments=(), language=language, engine="tones", engine_version="1", model="instant", revision=revision,
            language_sure=sure, device="cpu", compute_type="none", work_seconds=1.0,
        )  # fmt: skip
        key = f"results/{job.transcription_id}/{job.position}.{job.token}.json"
        return Finished(self.holder(job.token), job.token, digest, result, result_key=key, result_size=9)

    def finish(self, *finished: Finished) -> list[Outcome]:
        outcomes: list[Outcome] = self.write(lambda tx: complete(tx, finished, self.policy, self.mint))
        return outcomes

    def fail(self, job: Claimed, worker: str | None = None, code: str = "engine_error", **how: bool) -> Outcome:
        failure = AttemptFailure(token=job.token, code=code, message="It broke.", **how)
        request = FailRequest(worker_id=worker or self.holder(job.token), failures=(failure,))
        outcomes: list[Outcome] = self.write(lambda tx: fail(tx, request, self.policy, self.mint))
        return outcomes[0]

    def release(self, worker: str, *held: Claimed, leaving: bool = False) -> list[Outcome]:
        request = ReleaseRequest(worker_id=worker, tokens=tuple(job.token for job in held), leaving=leaving)
        outcomes: list[Outcome] = self.write(lambda tx: release(tx, request, self.policy))
        return outcomes

    def cancel(self, recording: str) -> TranscriptionRow:
        row: TranscriptionRow = self.write(lambda tx: cancel(tx, recording))
        return row

    def retry(self, recording: str, job: str | None = None) -> TranscriptionRow:
        row: TranscriptionRow = self.write(lambda tx: retry(tx, recording, job))
        return row

    def delete(self, recording: str) -> list[str]:
        keys: list[str] = self.write(lambda tx: delete(tx, recording))
        return keys

    def reap(self) -> ReapReport:
        report: ReapReport = self.write(lambda tx: reap(tx, self.policy))
        return report

    def find(self, recording: str) -> TranscriptionRow:
        return self.database.read(lambda tx: find(tx, recording))

    def job(self, job_id: str) -> Any:
        return self.database.read(lambda tx: tx.connection.execute(select(jobs).where(jobs.c.id == job_id)).one())

    def attempt(self, token: str) -> Any:
        query = select(attempts).where(attempts.c.token == token)
        return self.database.read(lambda tx: tx.connection.execute(query).one())

    def holder(self, token: str) -> str:
        return str(self.attempt(token).worker_id)

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """The data of all events of these kinds, in order, each with its kind."""
        query = select(events).order_by(events.c.id)
        rows = self.database.read(lambda tx: tx.connection.execute(query).all())
        return [{"kind": row.kind} | row.data for row in rows if not kinds or row.kind in kinds]

    def snapshot(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row that the queue may change, but for signs of life."""
        tables = {"transcriptions": transcriptions, "jobs": jobs, "attempts": attempts}
        return self.database.read(
            lambda tx: {
                name: [
                    tuple(map(repr, row)) for row in tx.connection.execute(select(table).order_by(*table.primary_key))
                ]
                for name, table in tables.items()
            }
        )

    def states(self) -> dict[str, int]:
        """How many jobs are in each state."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        return self.database.read(lambda tx: {row[0]: row[1] for row in tx.connection.execute(query)})
