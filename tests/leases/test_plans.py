"""Nothing on the hot paths reads a table from end to end, however long the queue and the past are.

Every call is made as it is, on a farm with much to do, and undone; what each of its statements did is in `plans.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import insert, select, update
from support.fresh_database import fresh_database
from support.hand_farm import TONES, Farm, claim
from support.long_queue import HELD, JOBS, fill, sweep
from support.plans import LIVE_ATTEMPTS, OF_LIVE_ATTEMPTS, Seen, used, watched

from whisper_farm.errors import FarmError
from whisper_farm.leases.append import append
from whisper_farm.leases.attempts import heartbeat
from whisper_farm.leases.claim import Claimed, claim_all
from whisper_farm.leases.complete import Finished, complete
from whisper_farm.leases.fail import fail, release
from whisper_farm.leases.lapse import reap
from whisper_farm.leases.transcriptions import (
    NewTranscription,
    cancel,
    label_transcription,
    next_to_assemble,
    results_of,
    retry,
    submit,
)
from whisper_farm.leases.waiting import next_due
from whisper_farm.protocol.jobs import ChunkResult, TranscribeResult
from whisper_farm.protocol.worker import (
    AppendRequest,
    AttemptFailure,
    FailRequest,
    HeartbeatRequest,
    NewChunk,
    ReleaseRequest,
)
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import events_after
from whisper_farm.store.jobs import held_job as held
from whisper_farm.store.outer_tables import uploads
from whisper_farm.store.tables import jobs, workers
from whisper_farm.store.transcriptions import find
from whisper_farm.store.uploads import UploadRow, announce
from whisper_farm.store.workers import forget_workers, long_gone

Call = Callable[[Farm, Transaction], Iterator[None]]
"""What comes before the `yield` prepares, what comes after it is watched."""
BIG = ("jobs", "attempts", "transcriptions", "events")
WALKED = {"ix_transcriptions_assembling", "ix_jobs_left", *OF_LIVE_ATTEMPTS}
"""Partial indexes of what is few at any time; PostgreSQL may well prefer to read such a one as a whole."""
ROWS = 2 * HELD
"""Most rows that one step may look at: some must look at whatever runs, none at a share of what waits or is done."""
BLOCKS = (60, 25)
"""Most blocks of PostgreSQL a statement may touch: some, and a few more for every row that it looks at."""
STEPS = 80_000
"""Most steps of SQLite's machine. Reading one table from end to end takes more than a hundred thousand."""


def claims(farm: Farm, tx: Transaction, worker: str, transcribe: int = 1, chunk: int = 0, **more: Any) -> list[Claimed]:
    return claim(tx, farm.request(worker, transcribe, chunk, **more), farm.policy, farm.mint)


def claiming(farm: Farm, tx: Transaction) -> Iterator[None]:
    claims(farm, tx, "ann", 100)  # what has lapsed
    yield
    assert len(claims(farm, tx, "ann", 10, chunk=2)) == 10


def claiming_what_lapsed(farm: Farm, tx: Transaction) -> Iterator[None]:
    yield
    assert {job.attempt for job in claims(farm, tx, "ann", 10)} == {1, 2}


def claiming_among_others(farm: Farm, tx: Transaction) -> Iterator[None]:
    """Of the first jobs some cannot be in the same batch."""
    claims(farm, tx, "ann", 100)  # what has lapsed
    needs = select(jobs.c.needs).where(jobs.c.id == claims(farm, tx, "ann")[0].job_id).scalar_subquery()
    order = jobs.c.priority.desc(), jobs.c.turn, jobs.c.position, jobs.c.created_at, jobs.c.id
    waiting = select(jobs.c.id).where(jobs.c.state == "queued", jobs.c.needs == needs, jobs.c.available_at == 0)
    _, *others = tx.connection.scalars(waiting.order_by(*order).limit(4))
    tx.connection.execute(update(jobs).where(jobs.c.id.in_(others)).values(profile_id="peaks"))
    yield
    found = [job.job_id for job in claims(farm, tx, "ann", 10)]
    assert len(found) == 10
    assert not set(found) & set(others)


def claiming_together(farm: Farm, tx: Transaction) -> Iterator[None]:
    claims(farm, tx, "ann", 100)  # what has lapsed
    yield
    answers = claim_all(tx, [farm.request(f"w{number}", 8) for number in range(16)], farm.policy, farm.mint)
    found = [one.job_id for answer in answers if answer for one in answer[1]]
    assert len(set(found)) == len(found) == 128


def claiming_after_failures(farm: Farm, tx: Transaction) -> Iterator[None]:
    yield
    assert len(claims(farm, tx, "bob", 10)) == 10


def claiming_with_a_label(farm: Farm, tx: Transaction) -> Iterator[None]:
    label_of(tx, "q7", "mine")
    label_of(tx, "d7", "mine")
    yield
    assert {job.transcription_id for job in claims(farm, tx, "labelled", 10)} == {"q7"}


def claiming_with_a_label_and_nothing_to_do(farm: Farm, tx: Transaction) -> Iterator[None]:
    label_of(tx, "d7", "mine")
    yield
    assert claims(farm, tx, "labelled", 10) == []


def label_of(tx: Transaction, name: str, label: str) -> None:
    label_transcription(tx, find(tx, name), label)


def claiming_again(farm: Farm, tx: Transaction) -> Iterator[None]:
    first = claims(farm, tx, "ann", 10, request="again")
    yield
    assert len(claims(farm, tx, "ann", 10, request="again")) == len(first)


def claiming_from_the_slow(farm: Farm, tx: Transaction) -> Iterator[None]:
    yield
    assert {job.hedge for job in claims(farm, tx, "ready", 10)} == {True}


def claiming_in_vain(farm: Farm, tx: Transaction) -> Iterator[None]:
    yield
    assert claims(farm, tx, "idle", 10) == []


def waiting(farm: Farm, tx: Transaction) -> Iterator[None]:
    yield
    assert next_due(tx) is not None


def beating(farm: Farm, tx: Transaction) -> Iterator[None]:
    tokens = tuple(f"token-number-r-{number}" for number in range(3, HELD, 20))
    yield
    assert not heartbeat(tx, HeartbeatRequest(worker_id="w3", tokens=tokens), farm.policy).lost


def holding(farm: Farm, tx: Transaction) -> Iterator[None]:
    (job,) = claims(farm, tx, "ann")
    yield
    assert held(tx, job.token, job.kind).audio_key == job.audio_key


def appending(farm: Farm, tx: Transaction) -> Iterator[None]:
    job = cutting(farm, tx)
    append(tx, request(job, 0, 4), farm.policy)
    yield
    assert append(tx, request(job, 2, 6), farm.policy).next_position == 6


def cutting(farm: Farm, tx: Transaction) -> Claimed:
    """A chunk job that bob holds."""
    submit(tx, NewTranscription("ann", "talk.mp3", "blob:sources/talk", 1 << 30, TONES), farm.mint)
    (job,) = claims(farm, tx, "bob", 0, chunk=1)
    return job


def request(job: Claimed, first: int, end: int) -> AppendRequest:
    chunks = [
        NewChunk(
            position=number, start_seconds=number * 30, end_seconds=number * 30 + 30, speech_seconds=20,
            key=f"chunks/{job.transcription_id}/{number}", size=1, sha256="a" * 64,
        )
        for number in range(first, end)
    ]  # fmt: skip
    return AppendRequest(worker_id="bob", token=job.token, chunks=tuple(chunks))


def completing(farm: Farm, tx: Transaction) -> Iterator[None]:
    done = [finished("ann", job) for job in claims(farm, tx, "ann", 10)]
    yield
    assert not any(one.error_code for one in complete(tx, done, farm.policy, farm.mint))


def completing_a_hedge(farm: Farm, tx: Transaction) -> Iterator[None]:
    done = [finished("ready", job) for job in claims(farm, tx, "ready", 10) if job.hedge]
    assert len(done) == 10
    yield
    assert not any(one.error_code for one in complete(tx, done, farm.policy, farm.mint))


def finished(worker: str, job: Claimed) -> Finished:
    heard = TranscribeResult(
        segments=(), language="en", engine="tones", engine_version="1", model="instant", revision="r1", device="cpu",
        compute_type="none", work_seconds=1.0,
    )  # fmt: skip
    return Finished(worker, job.token, "a" * 64, heard, result_key=f"results/{job.job_id}", result_size=9)


def failing(farm: Farm, tx: Transaction) -> Iterator[None]:
    broken = [AttemptFailure(token=job.token, code="engine_error", message="-") for job in claims(farm, tx, "ann", 10)]
    yield
    fail(tx, FailRequest(worker_id="ann", failures=tuple(broken)), farm.policy, farm.mint)


def failing_for_good(farm: Farm, tx: Transaction) -> Iterator[None]:
    how = {"code": "recogniser_crashed", "message": "-", "charged": True, "permanent": True}
    broken = [AttemptFailure(token=job.token, **how) for job in claims(farm, tx, "ann", 10)]
    yield
    fail(tx, FailRequest(worker_id="ann", failures=tuple(broken)), farm.policy, farm.mint)


def leaving(farm: Farm, tx: Transaction) -> Iterator[None]:
    yield
    release(tx, ReleaseRequest(worker_id="w3", leaving=True), farm.policy)


def cancelling(farm: Farm, tx: Transaction) -> Iterator[None]:
    yield
    assert cancel(tx, "r3").state == "cancelled"


def retrying(farm: Farm, tx: Transaction) -> Iterator[None]:
    cancel(tx, "r3")
    yield
    assert retry(tx, "r3").state == "running"


def reaping(farm: Farm, tx: Transaction) -> Iterator[None]:
    yield
    reap(tx, farm.policy)


def forgetting(farm: Farm, tx: Transaction) -> Iterator[None]:
    (w0,) = tx.connection.execute(select(workers).where(workers.c.id == "w0")).mappings()
    idle = [f"idle-{number}" for number in range(HELD // 2)]
    tx.connection.execute(insert(workers), [{**w0, "id": name} for name in idle])
    long_ago = {"state": "gone", "last_seen_at": 0.0}
    tx.connection.execute(update(workers).where(workers.c.id.in_([*idle, "w0", "w1"])).values(long_ago))
    yield
    assert sorted(long_gone(tx, 1.0, HELD)) == sorted(idle)
    assert forget_workers(tx, [*idle[:50], "w0", "ann"], 1.0) == 50


def assembling(farm: Farm, tx: Transaction) -> Iterator[None]:
    yield
    assert next_to_assemble(tx) == "a0"
    assert len(results_of(tx, "d5")) == JOBS // 250


def following(farm: Farm, tx: Transaction) -> Iterator[None]:
    yield
    assert len(events_after(tx, JOBS - 100, limit=50)) == 50
    assert events_after(tx, JOBS - 1000, transcription_id="d3", limit=50)


def following_as_an_ordinary_user(farm: Farm, tx: Transaction) -> Iterator[None]:
    yield
    assert events_after(tx, 0, owner="nobody") == []


def announcing(farm: Farm, tx: Transaction) -> Iterator[None]:
    announce(tx, UploadRow("first", "ann", "talk.mp3", 1, "sources/first"))
    row = {**dict(tx.connection.execute(select(uploads)).mappings().one()), "state": "stored"}
    many = [row | {"id": f"{number}", "key": f"sources/{number}"} for number in range(2 * ROWS)]
    tx.connection.execute(insert(uploads), many)
    yield
    announce(tx, UploadRow("second", "ann", "talk.mp3", 1, "sources/second"))


CALLS: dict[Call, set[str]] = {
    claiming: {"ix_jobs_heads", "pk_transcriptions"},
    claiming_what_lapsed: {"ix_jobs_heads", "ix_attempts_lease", "pk_attempts"},
    claiming_among_others: {"ix_jobs_heads", "ix_jobs_queued"},
    claiming_together: {"ix_jobs_heads", "pk_jobs"},
    claiming_after_failures: {"ix_jobs_heads", "ix_jobs_left"},
    claiming_with_a_label: {"ix_jobs_heads", "pk_transcriptions"},
    claiming_with_a_label_and_nothing_to_do: {"ix_jobs_heads", LIVE_ATTEMPTS},
    claiming_again: {"ix_attempts_worker_id_request_id", "pk_jobs"},
    claiming_from_the_slow: {"ix_jobs_heads", LIVE_ATTEMPTS, "pk_jobs"},
    claiming_in_vain: {"ix_jobs_heads", LIVE_ATTEMPTS, "pk_jobs"},
    waiting: {"ix_attempts_lease", "ix_jobs_waiting", LIVE_ATTEMPTS},
    beating: {"pk_attempts", "pk_workers"},
    holding: {"pk_attempts", "pk_jobs", "pk_transcriptions"},
    appending: {"pk_attempts", "pk_jobs", "ix_jobs_heads"},
    completing: {"pk_attempts", "pk_jobs", "ix_attempts_one_live"},
    completing_a_hedge: {"pk_attempts", "pk_jobs", "ix_attempts_one_live"},
    failing: {"pk_attempts", "pk_jobs", "uq_attempts_job_id_number"},
    failing_for_good: {"pk_attempts", "pk_jobs", "uq_attempts_job_id_number"},
    leaving: {LIVE_ATTEMPTS, "pk_attempts"},
    cancelling: {"uq_jobs_transcription_id_kind_position", LIVE_ATTEMPTS},
    retrying: {"uq_jobs_transcription_id_kind_position"},
    reaping: {"ix_attempts_lease", "pk_jobs"},
    forgetting: {"ix_attempts_worker_id_request_id", "pk_workers"},
    assembling: {"uq_jobs_transcription_id_kind_position"},
    following: {"pk_events", "ix_events_transcription_id_id"},
    following_as_an_ordinary_user: {"ix_events_owner_id"},
    announcing: {"ix_uploads_open"},
}
"""What is called, and the indexes that it must search in, whatever else it does."""


class Undone(Exception):
    """Raised to leave the farm as it was."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def full_farm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """One farm for all calls, since each is undone."""
    with fresh_database(request, tmp_path_factory.mktemp("plans"), "plans") as database:
        farm = Farm(database)
        fill(farm)
        yield farm


def statements_of(farm: Farm, call: Call) -> list[Seen]:
    """What the call executes, with what that took."""

    def work(tx: Transaction) -> None:
        steps = call(farm, tx)
        next(steps)
        with watched(tx.connection) as seen:
            assert next(steps, None) is None
            tx.finish()
            assert tx.connection  # which sends the changes
        raise Undone(seen)

    with pytest.raises(Undone) as undone:
        farm.write(work)
    sweep(farm)
    seen: list[Seen] = undone.value.args[0]
    return seen


def check(seen: Seen, sqlite: bool) -> None:
    """No step of a plan reads a big table or a big index from end to end, and the statement costs accordingly."""
    for one in seen.accesses:
        assert one.searched or one.table not in BIG or one.index in WALKED, f"{one} in {seen}"
        assert one.rows <= ROWS, f"{one} in {seen}"
    some, each = BLOCKS
    most = STEPS if sqlite else some + each * (seen.values + sum(one.rows for one in seen.accesses))
    assert seen.effort <= most, f"{most} would be much: {seen}"


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_a_call_searches_indexes_and_looks_at_few_rows(full_farm: Farm, call: Call) -> None:
    sqlite = full_farm.database.dialect == "sqlite"
    seen = statements_of(full_farm, call)
    assert seen
    for one in seen:
        check(one, sqlite)
    assert CALLS[call] <= used(seen), seen


def test_a_scan_is_seen_for_what_it_is(full_farm: Farm) -> None:
    """The measure itself: what must never happen is found, though its plan may show an index."""
    sqlite = full_farm.database.dialect == "sqlite"
    for statement in (
        "SELECT count(*) FROM jobs WHERE audio_key = 'nowhere'",
        "SELECT id FROM jobs WHERE position = -1",
        "SELECT id FROM transcriptions ORDER BY source_size LIMIT 1",
        "SELECT token FROM attempts WHERE request_id = 'nowhere'",
        "SELECT id FROM jobs WHERE state = 'queued' AND created_at > 2000000 AND profile_id > '' LIMIT 1",
    ):

        def scan(_farm: Farm, tx: Transaction, statement: str = statement) -> Iterator[None]:
            yield
            tx.connection.exec_driver_sql(statement)

        (seen,) = statements_of(full_farm, scan)
        with pytest.raises(AssertionError):
            check(seen, sqlite)


def test_a_refusal_costs_no_more(full_farm: Farm) -> None:
    def with_unknown_tokens(farm: Farm, tx: Transaction) -> Iterator[None]:
        yield
        with pytest.raises(FarmError):
            held(tx, "token-of-nobody-at-all", "chunk")
        nothing = ChunkResult(duration_seconds=0, chunks=0)
        strangers = [Finished("ann", f"token-of-nobody-{number}", "a" * 64, nothing) for number in range(50)]
        complete(tx, strangers, farm.policy)

    for one in statements_of(full_farm, with_unknown_tokens):
        check(one, full_farm.database.dialect == "sqlite")
