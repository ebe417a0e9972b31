"""The fence: attempts with their jobs, read and locked before anything is changed in their name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, bindparam, func, select, update

from whisper_farm.errors import FarmError, LeaseLost
from whisper_farm.protocol.work import Outcome
from whisper_farm.store.database import Transaction
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
    kind: str
    position: int
    profile_id: str
    priority: int
    turn: int
    created_at: float
    start_seconds: float
    end_seconds: float
    charged_attempts: int
    failed_worker: str | None
    audio_key: str | None
    audio_size: int | None
    owner: str
    source: str
    source_name: str
    source_size: int
    engine: str | None
    model: str | None
    pace: float | None
    samples: int
    live_attempts: int

    def held_by(self, worker_id: str) -> bool:
        """Whether that worker may still speak for the job."""
        return self.state == "live" and self.worker_id == worker_id

    @property
    def seconds(self) -> float:
        """The length of the chunk; of a chunk job, what was cut."""
        return self.end_seconds - self.start_seconds


def _attempts() -> Select[*tuple[Any, ...]]:
    mine, job, recording, profile, rival = attempts.c, jobs.c, transcriptions.c, profiles.c, attempts.alias("rival").c
    rivals = select(func.count()).where(rival.job_id == mine.job_id, rival.state == literally("live"))
    return (
        select(
            mine.token, mine.worker_id, mine.number, mine.state, mine.hedge, mine.language, mine.digest,
            mine.lease_until, mine.started_at, job.id, job.transcription_id, job.kind, job.position, job.profile_id,
            job.priority, job.turn, job.created_at, job.start_seconds, job.end_seconds, job.charged_attempts,
            job.failed_worker, job.audio_key, job.audio_size, recording.owner, recording.source, recording.name,
            recording.source_size, profile.engine, profile.model, profile.pace, profile.samples,
            rivals.scalar_subquery(),
        )
        .select_from(attempts)
        .join(jobs, job.id == mine.job_id)
        .join(transcriptions, recording.id == job.transcription_id)
        .join(profiles, profile.id == job.profile_id)
    )  # fmt: skip


LIVE = attempts.c.state == literally("live")
ATTEMPTS = _attempts()
"""Every attempt, as `Held` wants it."""
_BY_TOKEN = ATTEMPTS.where(attempts.c.token.in_(bindparam("tokens", expanding=True))).order_by(attempts.c.token)
_LOCKED = _BY_TOKEN.with_for_update(of=attempts)  # SQLite has one writer and leaves this out
_OF_JOBS = ATTEMPTS.where(LIVE, attempts.c.job_id.in_(bindparam("jobs", expanding=True))).order_by(attempts.c.token)
_OF_RECORDING = ATTEMPTS.where(LIVE, jobs.c.transcription_id == bindparam("recording")).order_by(attempts.c.token)


def hold(tx: Transaction, tokens: Iterable[str]) -> dict[str, Held]:
    """The attempts of these tokens, locked until the end of the transaction; unknown tokens are left out."""
    wanted = sorted(set(tokens))
    rows = tx.connection.execute(_LOCKED, {"tokens": wanted}) if wanted else ()
    return {row[0]: Held(*row) for row in rows}


def jobs_of(tx: Transaction, tokens: Iterable[str]) -> list[str]:
    """The ids of the jobs that these tokens are or were claims of."""
    return list(tx.connection.scalars(select(attempts.c.job_id).where(attempts.c.token.in_(sorted(set(tokens))))))


def held_by_token(tx: Transaction, token: str) -> Held:
    """The live attempt of that token, for handing out the audio it needs; raises `LeaseLost`."""
    row = tx.connection.execute(_BY_TOKEN, {"tokens": [token]}).first()
    if row is None or row.state != "live":
        raise LeaseLost
    return Held(*row)


def live_attempts(tx: Transaction, job_ids: Iterable[str], skip_locked: bool = False) -> list[Held]:
    """The live attempts of these jobs, locked in order of token; or those that no heartbeat is renewing just now."""
    wanted = sorted(set(job_ids))
    locking = _OF_JOBS.with_for_update(of=attempts, skip_locked=skip_locked)
    return [Held(*row) for row in tx.connection.execute(locking, {"jobs": wanted})] if wanted else []


def live_attempts_of(tx: Transaction, transcription_id: str) -> list[Held]:
    """The live attempts at any job of a recording, locked in order of token."""
    locking = _OF_RECORDING.with_for_update(of=attempts)
    return [Held(*row) for row in tx.connection.execute(locking, {"recording": transcription_id})]


def end_attempts(tx: Transaction, held: Iterable[Held], state: str) -> None:
    """These attempts, which the caller has locked, end in that state with no more to be said of them."""
    if ended := [one.token for one in held]:
        mine = update(attempts).where(attempts.c.token.in_(ended))
        tx.connection.execute(mine.values(state=state, ended_at=tx.now))


def requeue(tx: Transaction, job_ids: Iterable[str]) -> set[str]:
    """Queue those of these running jobs that have no live attempt left; returns which."""
    others = select(attempts.c.token).where(attempts.c.job_id == jobs.c.id, LIVE).exists()
    mine = update(jobs).where(jobs.c.id.in_(sorted(set(job_ids))), jobs.c.state == "running", ~others)
    return set(tx.connection.scalars(mine.values(state="queued").returning(jobs.c.id)))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the attempts since the last retry say of a job: who failed it (`tried`), who with a charge (`culprits`)."""

    live: int = 0
    failures: int = 0
    tried: frozenset[str] = frozenset()
    culprits: frozenset[str] = frozenset()


def evidence(tx: Transaction, job_ids: Sequence[str]) -> dict[str, Evidence]:
    """The evidence on each of these jobs."""
    telling = attempts.c.state.in_(("live", "failed", "lost"))
    query = (
        select(jobs.c.id, attempts.c.state, attempts.c.worker_id, attempts.c.charged)
        .join(attempts, attempts.c.job_id == jobs.c.id)
        .where(jobs.c.id.in_(job_ids), attempts.c.number > jobs.c.forgiven_attempts, telling)
    )
    found = {job_id: Evidence() for job_id in job_ids}
    for job_id, state, worker_id, charged in tx.connection.execute(query):
        now, live = found[job_id], state == "live"
        tried = now.tried if live else now.tried | {worker_id}
        culprits = now.culprits | {worker_id} if charged else now.culprits
        found[job_id] = Evidence(now.live + live, now.failures + (not live), tried, culprits)
    return found


def refused(token: str, error: FarmError) -> Outcome:
    """The answer to a token that was not taken, and why."""
    return Outcome(token=token, error_code=error.code, message=error.message)
