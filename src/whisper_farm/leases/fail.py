"""Failures and releases: a job comes back, waits, or is set aside with the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, select, update

from whisper_farm.errors import LeaseLost, RecogniserCrashed
from whisper_farm.leases.attempts import (
    LIVE,
    Evidence,
    Held,
    end_attempts,
    evidence,
    hold,
    refused,
    requeue,
    rivals,
)
from whisper_farm.leases.endings import conclude, set_aside
from whisper_farm.leases.ids import RANDOM, Mint
from whisper_farm.leases.rules import FAILURES_PER_ATTEMPT, backoff_seconds
from whisper_farm.leases.workers import Fleet, give_up
from whisper_farm.protocol.events import JobReleased, JobRetried
from whisper_farm.protocol.worker import FailRequest, Outcome, ReleaseRequest
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.prepared import Prepared
from whisper_farm.store.tables import attempts, jobs, workers


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt that failed, and how."""

    held: Held
    code: str
    message: str
    permanent: bool = False
    charged: bool = False


_END = Prepared(
    update(attempts)
    .where(attempts.c.token == bindparam("attempt"))
    .values(state="failed", ended_at=bindparam("at"), charged=bindparam("counts"))
    .values(error_code=bindparam("code"), error_message=bindparam("message"))
)
_BLAME = Prepared(
    update(jobs)
    .where(jobs.c.id == bindparam("job"))
    .values(charged_attempts=jobs.c.charged_attempts + 1, alone=jobs.c.alone | bindparam("crashed"))
)
_WAIT = Prepared(
    update(jobs).where(jobs.c.id == bindparam("job")).values(state="queued", available_at=bindparam("from"))
)


def fail(tx: Transaction, request: FailRequest, policy: Policy, mint: Mint = RANDOM) -> list[Outcome]:
    """End attempts as failed; each job waits for its next try, or is set aside when it has had its share."""
    held = hold(tx, (failure.token for failure in request.failures))
    outcomes, failures = [], []
    for failure in request.failures:
        mine = held.get(failure.token)
        if mine is None or not mine.held_by(request.worker_id):
            outcomes.append(refused(failure.token, LeaseLost()))
            continue
        mine.state = "failed"
        charged = failure.charged or failure.permanent
        failures.append(Failed(mine, failure.code, failure.message, failure.permanent, charged))
        outcomes.append(Outcome(token=failure.token))
    record_failures(tx, failures, held, policy, mint)
    conclude(tx, {failed.held.transcription_id for failed in failures}, policy)
    return outcomes


def record_failures(
    tx: Transaction, failures: Sequence[Failed], held: Mapping[str, Held], policy: Policy, mint: Mint
) -> None:
    """Write down failed attempts and decide what becomes of their jobs; the caller concludes the recordings."""
    if not failures:
        return
    tx.change(_END, [_ended(tx, failed) for failed in failures])
    if charged := [failed for failed in failures if failed.charged]:
        tx.change(_BLAME, [_blame(failed) for failed in charged])
    proofs = evidence(tx, [failed.held.job_id for failed in failures])
    fleet = Fleet(tx, policy)
    ended, waiting = [], []
    for failed in {failed.held.job_id: failed for failed in failures}.values():  # of rivals the last one decides
        job, proof = failed.held, proofs[failed.held.job_id]
        if failed.permanent or (not proof.live and _given_up(failed, proof, policy, fleet)):
            ended.append(failed)
        elif not proof.live:
            waiting.append({"job": job.job_id, "from": _available_at(tx, failed, proof, policy, fleet, mint)})
            emit(tx, JobRetried(position=job.position, code=failed.code), job.transcription_id, job.owner)
    if waiting:
        tx.change(_WAIT, waiting)
    end_attempts(tx, rivals(held, {failed.held.job_id for failed in ended}), "superseded")
    set_aside(tx, [(failed.held, failed.code, failed.message) for failed in ended])


def _ended(tx: Transaction, failed: Failed) -> dict[str, object]:
    told = {"counts": failed.charged, "code": failed.code, "message": failed.message}
    return {"attempt": failed.held.token, "at": tx.now} | told


def _blame(failed: Failed) -> dict[str, object]:
    return {"job": failed.held.job_id, "crashed": failed.code == RecogniserCrashed.code}


def _given_up(failed: Failed, proof: Evidence, policy: Policy, fleet: Fleet) -> bool:
    """Whether the job has had its share of tries, on two workers where there are two.

    Failures that are not charged (a model that cannot be had there) end it only when nobody is left to try.
    """
    held = failed.held
    if failed.charged and held.charged_attempts + 1 >= policy.max_attempts:
        return fleet.has_spent(policy, held.profile_id, held.charged_attempts + 1, proof.culprits)
    often = proof.failures >= FAILURES_PER_ATTEMPT * policy.max_attempts
    return often and not fleet.serves(held.profile_id, but=proof.tried)


def _available_at(tx: Transaction, failed: Failed, proof: Evidence, policy: Policy, fleet: Fleet, mint: Mint) -> float:
    """At once if somebody else can take what the first worker could not; else after a wait that grows."""
    if failed.charged:
        return tx.now + backoff_seconds(policy, failed.held.charged_attempts + 1, mint.jitter())
    if proof.failures == 1 and fleet.serves(failed.held.profile_id, but=(failed.held.worker_id,)):
        return 0.0
    return tx.now + backoff_seconds(policy, proof.failures, mint.jitter())


def release(tx: Transaction, request: ReleaseRequest, policy: Policy) -> list[Outcome]:
    """Hand jobs back untouched and uncharged; a worker that is leaving hands back whatever it holds."""
    whatever = select(attempts.c.token).where(LIVE, attempts.c.worker_id == request.worker_id)
    more = tx.connection.scalars(whatever).all() if request.leaving else ()
    held = hold(tx, wanted := {*request.tokens, *more})
    mine = {token: held[token] for token in wanted & held.keys() if held[token].held_by(request.worker_id)}
    end_attempts(tx, mine.values(), "released")
    queued = requeue(tx, (one.job_id for one in mine.values()))
    for one in sorted(mine.values(), key=lambda one: (one.transcription_id, one.position)):
        if one.job_id in queued:
            emit(tx, JobReleased(position=one.position), one.transcription_id, one.owner)
    if request.leaving:
        give_up(tx, workers.c.id == request.worker_id)
    return [Outcome(token=token) if token in mine else refused(token, LeaseLost()) for token in request.tokens]
