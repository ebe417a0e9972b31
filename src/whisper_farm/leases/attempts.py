"""The fence: attempts with their jobs, locked before anything changes in their name. Heartbeats renew their leases."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field

from whisper_farm.errors import FarmError, WorkerUnknown
from whisper_farm.leases.rules import stretched
from whisper_farm.leases.workers import known_worker
from whisper_farm.protocol.client import AttemptState, TranscriptionState
from whisper_farm.protocol.wire import JobKind
from whisper_farm.protocol.worker import HeartbeatAnswer, HeartbeatRequest, Outcome
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.statements import Change, Query

Order = tuple[int, int, int, float, str]
"""Priority (negative), turn, position, time of making, id: what comes first is handed out first."""


@dataclass(slots=True)
class Job:
    """A job, and what the queue must know of its transcription."""

    job_id: str
    transcription_id: str
    kind: JobKind
    position: int
    profile_id: str
    needs: str
    flow: str
    priority: int
    turn: int
    created_at: float
    start_seconds: float
    end_seconds: float
    attempts: int
    charged_attempts: int
    tries: int
    owner: str
    transcription_state: TranscriptionState
    language: str | None

    @property
    def order(self) -> Order:
        """Where it stands in the queue."""
        return (-self.priority, self.turn, self.position, self.created_at, self.job_id)

    @property
    def seconds(self) -> float:
        """The length of the chunk; of a chunk job, what was cut."""
        return self.end_seconds - self.start_seconds


@dataclass(slots=True)
class Held(Job):
    """An attempt with its job and profile. `state` and `digest` follow what this transaction does."""

    token: str
    worker_id: str
    number: int
    state: AttemptState
    told_language: str | None
    digest: str | None
    lease_until: float
    started_at: float
    pace: float | None
    samples: int
    known_revision: str | None

    def held_by(self, worker_id: str) -> bool:
        """Whether that worker may still speak for the job."""
        return self.state == "live" and self.worker_id == worker_id


JOB = """jobs.id AS job_id, jobs.transcription_id, jobs.kind, jobs.position, jobs.profile_id, jobs.needs, jobs.flow,
    jobs.priority, jobs.turn, jobs.created_at, jobs.start_seconds, jobs.end_seconds, jobs.attempts,
    jobs.charged_attempts, jobs.attempts - jobs.forgiven_attempts AS tries, transcriptions.owner,
    transcriptions.state AS transcription_state, transcriptions.language"""
FROM_JOBS = "FROM jobs JOIN transcriptions ON transcriptions.id = jobs.transcription_id"
HELD = f"""
    SELECT {JOB}, attempts.token, attempts.worker_id, attempts.number, attempts.state,
           attempts.language AS told_language, attempts.digest, attempts.lease_until, attempts.started_at,
           profiles.pace, profiles.samples, profiles.revision AS known_revision
      FROM attempts JOIN jobs ON jobs.id = attempts.job_id
           JOIN transcriptions ON transcriptions.id = jobs.transcription_id
           JOIN profiles ON profiles.id = jobs.profile_id"""
LOCK = " FOR UPDATE OF attempts"
"""On PostgreSQL heartbeats run beside the writer. SQLite has one writer, and no such words."""
WITH_RIVALS = f"""{HELD}
     WHERE attempts.token IN (
           SELECT token FROM attempts WHERE token IN :tokens
            UNION
           SELECT rival.token FROM attempts mine JOIN attempts rival ON rival.job_id = mine.job_id
            WHERE mine.token IN :tokens AND rival.state = 'live')
     ORDER BY attempts.token"""
HOLD = Query[Held](WITH_RIVALS, postgres=WITH_RIVALS + LOCK)
OF_TRANSCRIPTION = f"""{HELD}
     WHERE attempts.state = 'live' AND jobs.transcription_id = :transcription
     ORDER BY attempts.token"""
HOLD_ALL = Query[Held](OF_TRANSCRIPTION, postgres=OF_TRANSCRIPTION + LOCK)
"""The live attempts at any job of a transcription, locked in order of token."""
JOBS_OF = Query[str]("SELECT job_id FROM attempts WHERE token IN :tokens")
END = Change("UPDATE attempts SET state = :state, ended_at = :now WHERE token IN :tokens")
REQUEUE = Query[str]("""
    UPDATE jobs SET state = 'queued'
     WHERE id IN :jobs AND state = 'running'
       AND NOT EXISTS (SELECT 1 FROM attempts WHERE attempts.job_id = jobs.id AND attempts.state = 'live')
    RETURNING id
""")
EVIDENCE = Query[tuple[str, AttemptState, str, bool, str | None]]("""
    SELECT attempts.job_id, attempts.state, attempts.worker_id, attempts.charged, workers.token_id
      FROM jobs JOIN attempts ON attempts.job_id = jobs.id LEFT JOIN workers ON workers.id = attempts.worker_id
     WHERE jobs.id IN :jobs AND attempts.number > jobs.forgiven_attempts
       AND attempts.state IN ('live', 'failed', 'lost')
""")
MINE = "SELECT token, state FROM attempts WHERE token IN :tokens AND worker_id = :me ORDER BY token"
LOCK_MINE = Query[tuple[str, AttemptState]](MINE, postgres=MINE + LOCK)
LIVE = "SELECT token FROM attempts WHERE token IN :tokens AND state = 'live' ORDER BY token"
LOCK_FREE = Query[str](LIVE, postgres=LIVE + LOCK + " SKIP LOCKED")
RENEW = Change("""
    UPDATE attempts SET lease_until = CASE WHEN ends_by < :until THEN ends_by ELSE :until END WHERE token IN :tokens
""")
BEAT = Query[str]("""
    UPDATE workers SET last_seen_at = :now, last_beat_at = :now WHERE id = :me AND state <> 'gone' RETURNING id
""")


def hold(tx: Transaction, tokens: Iterable[str]) -> dict[str, Held]:
    """The attempts of these tokens, and live ones at the same jobs, locked until the end of the transaction.

    All are locked at once, in order of token: whatever ends with these attempts may be changed afterwards.
    """
    wanted = sorted(set(tokens))
    return {held.token: held for held in tx.rows(HOLD, {"tokens": wanted})} if wanted else {}


def rivals(held: Mapping[str, Held], job_ids: Collection[str]) -> list[Held]:
    """Those of the held attempts at these jobs that are live."""
    return [one for one in held.values() if one.job_id in job_ids and one.state == "live"]


def jobs_of(tx: Transaction, tokens: Iterable[str]) -> list[str]:
    """The ids of the jobs that these tokens are or were claims of."""
    return tx.rows(JOBS_OF, {"tokens": sorted(set(tokens))})


def end_attempts(tx: Transaction, held: Iterable[Held], state: AttemptState) -> None:
    """These attempts, which the caller has locked, end in that state with no more to be said of them."""
    if ended := [one.token for one in held]:
        tx.change(END, {"tokens": ended, "state": state})


def requeue(tx: Transaction, held: Iterable[Held]) -> list[Held]:
    """Queue the jobs of these attempts that have no live one left; returns one attempt at each of them."""
    of = {one.job_id: one for one in held}
    queued = set(tx.rows(REQUEUE, {"jobs": sorted(of)})) if of else ()
    return [one for job_id, one in of.items() if job_id in queued]


@dataclass(slots=True)
class Evidence:
    """What the attempts at a job since its last retry say: how many run or failed, who failed, who with a charge.

    `tokens` are those of the workers that tried.
    """

    live: int = 0
    failures: int = 0
    tried: set[str] = field(default_factory=set)
    culprits: set[str] = field(default_factory=set)
    tokens: dict[str, str | None] = field(default_factory=dict)


def evidence(tx: Transaction, job_ids: Iterable[str]) -> dict[str, Evidence]:
    """The evidence on each of these jobs."""
    found = {job_id: Evidence() for job_id in job_ids}
    for job_id, state, worker_id, charged, token in tx.rows(EVIDENCE, {"jobs": list(found)}) if found else ():
        proof = found[job_id]
        proof.tokens[worker_id] = token
        if state == "live":
            proof.live += 1
            continue
        proof.failures += 1
        proof.tried.add(worker_id)
        if charged:
            proof.culprits.add(worker_id)
    return found


def refused(token: str, error: FarmError) -> Outcome:
    """The answer to a token that was not taken, and why."""
    return Outcome(token=token, error_code=error.code, message=error.message)


def heartbeat(tx: Transaction, request: HeartbeatRequest, policy: Policy) -> HeartbeatAnswer:
    """Renew the leases of a worker, lapsed ones too unless overtaken, and say which are no longer its own.

    This is the one change that runs beside others (`Database.beat`). It touches only the worker's own row and its
    own attempts, and reads their states after it has locked them.
    """
    worker = known_worker(tx, request.worker_id)
    timing = stretched(policy, worker.present)
    mine = {"tokens": list(request.tokens), "me": worker.id}
    states = dict(tx.rows(LOCK_MINE, mine)) if request.tokens else {}
    renew(tx, [token for token, state in states.items() if state == "live"], timing.lease_seconds)
    if not tx.rows(BEAT, {"me": worker.id}):
        raise WorkerUnknown(f"The worker {worker.id} was given up a moment ago; register again.")
    ended = [token for token in dict.fromkeys(request.tokens) if states.get(token) != "live"]
    stopped = tuple(token for token in ended if states.get(token) in ("cancelled", "superseded"))
    return HeartbeatAnswer(
        lost=tuple(token for token in ended if token not in stopped),
        cancelled=stopped,
        drain=worker.drains,
        dismissed=worker.state == "dismissed",
        hours=worker.wanted_hours,
        **asdict(timing),
    )


def renew_free(tx: Transaction, tokens: Collection[str], lease_seconds: float) -> None:
    """Start the leases of these attempts anew in passing; one that is locked is being renewed by a heartbeat."""
    renew(tx, tx.rows(LOCK_FREE, {"tokens": list(tokens)}) if tokens else [], lease_seconds)


def renew(tx: Transaction, tokens: Collection[str], lease_seconds: float) -> None:
    """Start the leases of these attempts, which the caller has locked, anew."""
    if tokens:
        tx.change(RENEW, {"tokens": list(tokens), "until": tx.now + lease_seconds})
