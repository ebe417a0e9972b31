"""The fence: attempts with their jobs, read and locked before anything is changed in their name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, select, union, update

from whisper_farm.errors import FarmError
from whisper_farm.leases.ids import CHUNK_PROFILE, needs
from whisper_farm.protocol.worker import JobKind, Outcome
from whisper_farm.store.database import Transaction
from whisper_farm.store.prepared import Prepared
from whisper_farm.store.rows import among
from whisper_farm.store.tables import attempts, jobs, literally, profiles, transcriptions


@dataclass(slots=True)
class Held:
    """An attempt with its job, recording and profile. `state` and `digest` follow what this transaction does."""

    token: str
    worker_id: str
    number: int
    state: str
    hedge: bool
    told_language: str | None
    digest: str | None
    lease_until: float
    started_at: float
    job_id: str
    transcription_id: str
    kind: JobKind
    position: int
    profile_id: str
    priority: int
    turn: int
    created_at: float
    start_seconds: float
    end_seconds: float
    charged_attempts: int
    owner: str
    engine: str | None
    model: str | None
    pace: float | None
    samples: int

    def held_by(self, worker_id: str) -> bool:
        """Whether that worker may still speak for the job."""
        return self.state == "live" and self.worker_id == worker_id

    @property
    def needs(self) -> str:
        """What its job needs of a worker."""
        return CHUNK_PROFILE if self.engine is None or self.model is None else needs(self.engine, self.model)

    @property
    def seconds(self) -> float:
        """The length of the chunk; of a chunk job, what was cut."""
        return self.end_seconds - self.start_seconds


def _attempts() -> Select[*tuple[Any, ...]]:
    mine, job, recording, profile = attempts.c, jobs.c, transcriptions.c, profiles.c
    return (
        select(
            mine.token, mine.worker_id, mine.number, mine.state, mine.hedge, mine.language, mine.digest,
            mine.lease_until, mine.started_at, job.id, job.transcription_id, job.kind, job.position, job.profile_id,
            job.priority, job.turn, job.created_at, job.start_seconds, job.end_seconds, job.charged_attempts,
            recording.owner, profile.engine, profile.model, profile.pace, profile.samples,
        )
        .select_from(attempts)
        .join(jobs, job.id == mine.job_id)
        .join(transcriptions, recording.id == job.transcription_id)
        .join(profiles, profile.id == job.profile_id)
    )  # fmt: skip


def _with_rivals() -> Select[*tuple[Any, ...]]:
    mine, rival = attempts.alias("mine"), attempts.alias("rival")
    rivals = select(rival.c.token).join(mine, mine.c.job_id == rival.c.job_id).where(among(mine.c.token, "tokens"))
    both = union(
        select(mine.c.token).where(among(mine.c.token, "tokens")), rivals.where(rival.c.state == literally("live"))
    )
    return ATTEMPTS.where(attempts.c.token.in_(both)).order_by(attempts.c.token)


LIVE = attempts.c.state == literally("live")
_tried = attempts.alias("tried")


def tried_by(worker: ColumnElement[str]) -> Select[tuple[str]]:
    """The jobs that a worker has failed or lost lately, and since their last retry: they are left to others first."""
    ended_badly = _tried.c.state.in_([literally("failed"), literally("lost")]), _tried.c.ended_at > bindparam("lately")
    mine = _tried.c.worker_id == worker, _tried.c.job_id == jobs.c.id, _tried.c.number > jobs.c.forgiven_attempts
    return select(_tried.c.job_id).where(*ended_badly, *mine)


TRIED_BY_ME = tried_by(bindparam("me"))
ATTEMPTS = _attempts()
"""Every attempt, as `Held` wants it."""
_HELD = Prepared(_with_rivals().with_for_update(of=attempts))  # SQLite has one writer and leaves this out
_OF_RECORDING = Prepared(
    ATTEMPTS.where(LIVE, jobs.c.transcription_id == bindparam("recording"))
    .order_by(attempts.c.token)
    .with_for_update(of=attempts)
)
_JOBS_OF = Prepared(select(attempts.c.job_id).where(among(attempts.c.token, "tokens")))
_END = Prepared(
    update(attempts).where(among(attempts.c.token, "tokens")).values(state=bindparam("as"), ended_at=bindparam("at"))
)
_REQUEUE = Prepared(
    update(jobs)
    .where(among(jobs.c.id, "jobs"), jobs.c.state == literally("running"))
    .where(~select(attempts.c.token).where(attempts.c.job_id == jobs.c.id, LIVE).exists())
    .values(state="queued")
    .returning(jobs.c.id)
)
_EVIDENCE = Prepared(
    select(jobs.c.id, attempts.c.state, attempts.c.worker_id, attempts.c.charged, attempts.c.ended_at)
    .join(attempts, attempts.c.job_id == jobs.c.id)
    .where(among(jobs.c.id, "jobs"), attempts.c.number > jobs.c.forgiven_attempts)
    .where(attempts.c.state.in_([literally("live"), literally("failed"), literally("lost")]))
)


def hold(tx: Transaction, tokens: Iterable[str]) -> dict[str, Held]:
    """The attempts of these tokens, and live ones at the same jobs, locked until the end of the transaction.

    All are locked at once, in order of token: whatever ends with these attempts may be changed afterwards.
    """
    wanted = sorted(set(tokens))
    return {row.token: Held(*row) for row in tx.rows(_HELD, {"tokens": wanted})} if wanted else {}


def rivals(held: Mapping[str, Held], job_ids: Collection[str]) -> list[Held]:
    """Those of the held attempts at these jobs that are live."""
    return [one for one in held.values() if one.job_id in job_ids and one.state == "live"]


def jobs_of(tx: Transaction, tokens: Iterable[str]) -> list[str]:
    """The ids of the jobs that these tokens are or were claims of."""
    return [row.job_id for row in tx.rows(_JOBS_OF, {"tokens": sorted(set(tokens))})]


def live_attempts_of(tx: Transaction, transcription_id: str) -> list[Held]:
    """The live attempts at any job of a recording, locked in order of token."""
    return [Held(*row) for row in tx.rows(_OF_RECORDING, {"recording": transcription_id})]


def end_attempts(tx: Transaction, held: Iterable[Held], state: str) -> None:
    """These attempts, which the caller has locked, end in that state with no more to be said of them."""
    if ended := [one.token for one in held]:
        tx.change(_END, {"tokens": ended, "as": state, "at": tx.now})


def requeue(tx: Transaction, job_ids: Iterable[str]) -> set[str]:
    """Queue those of these running jobs that have no live attempt left; returns which."""
    return {row.id for row in tx.rows(_REQUEUE, {"jobs": sorted(set(job_ids))})}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the attempts since the last retry say of a job: who failed it and when last (`tried`), who with a charge."""

    live: int = 0
    failures: int = 0
    tried: Mapping[str, float] = field(default_factory=dict)
    culprits: frozenset[str] = frozenset()


def evidence(tx: Transaction, job_ids: Collection[str]) -> dict[str, Evidence]:
    """The evidence on each of these jobs."""
    found = {job_id: Evidence() for job_id in job_ids}
    for job_id, state, worker_id, charged, ended_at in tx.rows(_EVIDENCE, {"jobs": list(found)}):
        now, live = found[job_id], state == "live"
        tried = now.tried if live else {**now.tried, worker_id: max(ended_at, now.tried.get(worker_id, 0.0))}
        culprits = now.culprits | {worker_id} if charged else now.culprits
        found[job_id] = Evidence(now.live + live, now.failures + (not live), tried, culprits)
    return found


def refused(token: str, error: FarmError) -> Outcome:
    """The answer to a token that was not taken, and why."""
    return Outcome(token=token, error_code=error.code, message=error.message)
