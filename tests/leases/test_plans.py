"""Nothing on the hot paths reads a table from end to end, however long the queue is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hand_farm import TONES, Farm
from sqlalchemy import event, text

from whisper_farm.leases.beat import heartbeat
from whisper_farm.leases.claim import claim
from whisper_farm.leases.complete import complete
from whisper_farm.leases.due import next_due
from whisper_farm.leases.ids import profile_id
from whisper_farm.protocol.work import HeartbeatRequest
from whisper_farm.store.database import Database, Transaction

QUEUED = 200_000
RECORDINGS = 100
BATCH = 20_000
FILL_RECORDINGS = """
    INSERT INTO transcriptions (id, owner, name, state, source, source_size, chunk_seconds, options, profile_id,
                                chunks, created_at, started_at)
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :recordings)
    SELECT 'x' || i, 'ann', 'x', 'running', 'blob:x', 1, 30, t.options, t.profile_id, :each, t.created_at, t.created_at
    FROM n, transcriptions t WHERE t.id = :pattern
"""
FILL_JOBS = """
    INSERT INTO jobs (id, transcription_id, kind, position, profile_id, needs, state, priority, turn, start_seconds,
                      end_seconds, speech_seconds, audio_key, audio_size, audio_sha256, created_at)
    WITH RECURSIVE n(i) AS (SELECT CAST(:first AS INTEGER) UNION ALL
                            SELECT i + 1 FROM n WHERE i + 1 < CAST(:end AS INTEGER))
    SELECT 'x' || (i % :recordings) || '.' || (i / :recordings), 'x' || (i % :recordings), 'transcribe',
           i / :recordings, :profile, 'tones instant', 'queued', 0, i / :recordings, 30 * (i / :recordings),
           30 * (i / :recordings) + 30, 20, 'k', 1, 's', 0
    FROM n
"""


@pytest.fixture
def long_queue(database: Database) -> Farm:
    """200,000 queued jobs of 100 recordings, others of another profile, and some that run, lapsed or are shunned."""
    farm = Farm(database)
    pattern = farm.recording(3)
    farm.recording(3, options=TONES.model_copy(update={"model": "other"}))
    recordings = {"recordings": RECORDINGS, "each": QUEUED // RECORDINGS, "pattern": pattern.id}
    farm.write(lambda tx: tx.connection.execute(text(FILL_RECORDINGS), recordings))
    fixed = {"recordings": RECORDINGS, "profile": profile_id(TONES)}
    for first in range(0, QUEUED, BATCH):
        farm.write(
            lambda tx, first=first: tx.connection.execute(
                text(FILL_JOBS), fixed | {"first": first, "end": first + BATCH}
            )
        )
    if farm.database.dialect == "postgresql":
        farm.write(lambda tx: tx.connection.execute(text("ANALYZE")))
    for name in ("ann", "bob"):
        farm.worker(name)
    farm.claim("ann", transcribe=100)
    farm.fail(farm.claim("bob")[0])
    farm.now += 21
    return farm


@contextmanager
def _statements(tx: Transaction) -> Iterator[list[tuple[str, Any]]]:
    seen: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, _context: object, many: bool) -> None:
        seen.append((statement, parameters[0] if many else parameters))

    event.listen(tx.connection, "before_cursor_execute", note)
    yield seen
    event.remove(tx.connection, "before_cursor_execute", note)


def _plans(farm: Farm, work: Any) -> list[str]:
    """The plan of every statement that `work` runs, the statement above it."""

    def explained(tx: Transaction) -> list[str]:
        with _statements(tx) as seen:
            work(tx)
        explain = "EXPLAIN QUERY PLAN " if farm.database.dialect == "sqlite" else "EXPLAIN "
        plans = []
        for statement, parameters in seen:
            rows = tx.connection.exec_driver_sql(explain + statement, parameters)
            plans.append("\n".join([statement, *(str(row[-1]) for row in rows)]))
        return plans

    plans: list[str] = farm.write(explained)
    return plans


TABLE_SCAN = re.compile(r"\n(?:.*Seq Scan on|SCAN) (?:jobs|attempts|transcriptions|head|other|rival)\b(?!.* USING )")


def test_the_hot_paths_search_indexes_with_two_hundred_thousand_jobs_queued(long_queue: Farm) -> None:
    farm = long_queue
    asked = farm.request("bob", transcribe=10, chunk=2)
    plans = _plans(farm, lambda tx: claim(tx, asked, farm.policy, farm.mint))
    held = farm.claim("bob", transcribe=5)
    beat = HeartbeatRequest(worker_id="bob", tokens=tuple(job.token for job in held))
    plans += _plans(farm, lambda tx: heartbeat(tx, beat, farm.policy))
    plans += _plans(farm, lambda tx: next_due(tx, asked, farm.policy))
    finished = [farm.finished(job) for job in held]
    plans += _plans(farm, lambda tx: complete(tx, finished, farm.policy, farm.mint))
    assert len(plans) > 20
    assert [plan for plan in plans if TABLE_SCAN.search(plan)] == []
    searches = [plan for plan in plans if "ix_jobs_queued" in plan or "ix_jobs_heads" in plan]
    assert len(searches) >= 2, "the heads of the queues, and the candidates of one profile"
