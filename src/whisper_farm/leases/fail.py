"""Failures and releases: a job comes back, waits, or is set aside with the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from whisper_farm.errors import LeaseLost, RecogniserCrashed, SpeakersUnavailable
from whisper_farm.leases.attempts import Evidence, Held, end_attempts, evidence, hold, refused, requeue, rivals
from whisper_farm.leases.endings import conclude, set_aside
from whisper_farm.leases.kinds import RECOGNITION
from whisper_farm.leases.rules import FAILURES_PER_ATTEMPT, RANDOM, TRIES_PER_ATTEMPT, Mint, backoff_seconds
from whisper_farm.leases.workers import LiveWorkers, leave
from whisper_farm.protocol.events import JobReleased, JobRetried
from whisper_farm.protocol.worker import FailRequest, Outcome, ReleaseRequest
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.statements import Change, Query


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt that failed, and how."""

    held: Held
    code: str
    message: str
    permanent: bool = False
    charged: bool = False


END = Change("""
    UPDATE attempts SET state = 'failed', ended_at = :now, charged = :charged, error_code = :code,
           error_message = :message
     WHERE token = :token
""")
BLAME = Change("UPDATE jobs SET charged_attempts = charged_attempts + 1, alone = alone OR :crashed WHERE id = :job")
WAIT = Change("UPDATE jobs SET state = 'queued', available_at = :at, left_by = :worker WHERE id = :job")
WORDS_ALONE = Change("""
    UPDATE transcriptions SET without_speakers = :why WHERE id = :id AND without_speakers IS NULL
""")
HELD_BY = Query[str]("SELECT token FROM attempts WHERE state = 'live' AND worker_id = :me")


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
    """Write down failed attempts and decide what becomes of their jobs; the caller concludes the transcriptions."""
    if not failures:
        return
    same = ("charged", "code", "message")
    tx.change(END, [{"token": one.held.token} | {name: getattr(one, name) for name in same} for one in failures])
    charged = [failed for failed in failures if failed.charged]
    tx.change(BLAME, [{"job": one.held.job_id, "crashed": one.code == RecogniserCrashed.code} for one in charged])
    proofs, fleet = evidence(tx, [failed.held.job_id for failed in failures]), LiveWorkers(tx, policy)
    ended = []
    for failed in {failed.held.job_id: failed for failed in failures}.values():  # of rivals the last one decides
        proof = proofs[failed.held.job_id]
        if not proof.live and _given_up(failed, proof, policy, fleet):
            ended.append(failed)
        elif not proof.live:
            _wait(tx, failed, proof, policy, fleet, mint)
    end_attempts(tx, rivals(held, {failed.held.job_id for failed in ended}), "superseded")
    set_aside(tx, [(failed.held, failed.code, failed.message) for failed in ended])


def _given_up(failed: Failed, proof: Evidence, policy: Policy, fleet: LiveWorkers) -> bool:
    """Whether the job has had its share of tries, on two workers where there are two.

    That nobody could do better is believed when a second worker has failed it, too, or when there is none. Where some
    have another token, it takes one of them.
    Failures that are not charged are those of a model that cannot be had there, say. They end it when nobody is left to
    try, or when it was tried far too often.
    """
    held = failed.held
    if failed.permanent and not fleet.has_another_word(held.needs, proof.culprits, proof.tokens):
        return True
    if failed.charged:
        return fleet.has_spent(held.needs, held.charged_attempts + 1, proof.culprits, proof.tokens)
    often = proof.failures >= FAILURES_PER_ATTEMPT * policy.max_attempts
    return _worn_out(held, policy) or (often and not fleet.serves(held.needs, but=proof.tried))


def _worn_out(held: Held, policy: Policy) -> bool:
    """Whether the job was tried so often that something must be wrong with it, though nobody was charged."""
    return held.tries >= TRIES_PER_ATTEMPT * policy.max_attempts


def _wait(tx: Transaction, failed: Failed, proof: Evidence, policy: Policy, fleet: LiveWorkers, mint: Mint) -> None:
    """Queue the job for its next try, after a wait that grows.

    The worker leaves it to others for a while, if another could take it. One that was not charged goes to them at
    once, the first time. Where nobody is left who may tell speakers apart, its transcription goes on without them.
    """
    job = failed.held
    without = failed.code == SpeakersUnavailable.code and job.kind == RECOGNITION.name
    if without and not fleet.serves(job.needs, but=proof.tried):
        tx.change(WORDS_ALONE, {"id": job.transcription_id, "why": failed.message})
    others = fleet.serves(job.needs, but={job.worker_id})
    failures = job.charged_attempts + 1 if failed.charged else proof.failures
    at_once = not failed.charged and failures == 1 and others
    wait = 0.0 if at_once else backoff_seconds(policy, failures, mint.jitter())
    tx.change(WAIT, {"job": job.job_id, "at": tx.now + wait, "worker": job.worker_id if others else None})
    emit(tx, JobRetried(position=job.position, code=failed.code), job.transcription_id, job.owner)


def take_back(tx: Transaction, worker_id: str, policy: Policy) -> None:
    """Give what a worker holds to others, as if it had handed that back; its next heartbeat hears of it."""
    release(tx, ReleaseRequest(worker_id=worker_id, tokens=tuple(tx.rows(HELD_BY, {"me": worker_id}))), policy)


def release(tx: Transaction, request: ReleaseRequest, policy: Policy) -> list[Outcome]:
    """Hand jobs back untouched and uncharged; a worker that is leaving hands back whatever it holds."""
    more = tx.rows(HELD_BY, {"me": request.worker_id}) if request.leaving else ()
    held = hold(tx, wanted := {*request.tokens, *more})
    mine = [held[token] for token in wanted & held.keys() if held[token].held_by(request.worker_id)]
    mine.sort(key=lambda one: (one.transcription_id, one.position))
    end_attempts(tx, mine, "released")
    back = requeue(tx, mine)
    worn_out = [one for one in back if _worn_out(one, policy)]
    for one in back:
        if one not in worn_out:
            emit(tx, JobReleased(position=one.position), one.transcription_id, one.owner)
    message = "It was tried {} times without a result, the last time by {}, which handed it back."
    set_aside(tx, [(one, LeaseLost.code, message.format(one.tries, one.worker_id)) for one in worn_out])
    conclude(tx, {one.transcription_id for one in worn_out}, policy)
    if request.leaving:
        leave(tx, request.worker_id)
    ended = {one.token for one in mine}
    return [Outcome(token=token) if token in ended else refused(token, LeaseLost()) for token in request.tokens]
