"""A farm that has much to do and has done much: most of what its tables hold must not matter to any call."""

from __future__ import annotations

from typing import Any

import psycopg
from sqlalchemy import text

from support.hand_farm import TONES, Farm
from whisper_farm.leases.kinds import RECOGNITION
from whisper_farm.leases.rules import profile_id

SLOW = TONES.model_copy(update={"model": "slow"})
JOBS = 50_000
"""As many are queued, and as many are done, each by an attempt."""
RECORDINGS = 250
HELD = 500
"""Jobs that run, on twenty workers; of a model that nothing waits for, and some for so long that they may be hedged."""
LAPSED = 20
WAITING = 50
"""Jobs that `bob` has failed and leaves to others; of three one is in its back-off, and one was failed long ago."""
SWEPT = ("jobs", "attempts", "transcriptions", "events", "uploads", "workers")
"""The server leaves these to the tests: when it would sweep or count them by itself is a matter of luck."""
FAILED_AT = "CASE i % 3 WHEN 0 THEN 0 WHEN 1 THEN 999950 ELSE 1000000 + i END"
_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count})"
_RECORDINGS = """
    INSERT INTO transcriptions (id, owner, name, folded_name, state, source, source_size, chunk_seconds, options,
                                profile_id, chunks, chunks_done, language, revision, created_at, started_at,
                                finished_at, transcript_key)
    {numbers}
    SELECT '{kind}' || i, 'ann', 'x', 'x', '{state}', 'blob:x' || i, 1, 30, t.options, t.profile_id, {each}, {done},
           'en', 'r1', i, i, {ended}, {ended}
    FROM n, transcriptions t WHERE t.id = :pattern
"""
_JOBS = """
    INSERT INTO jobs (id, transcription_id, kind, position, profile_id, needs, flow, state, priority, turn,
                      attempts, start_seconds, end_seconds, speech_seconds, audio_key, audio_size, audio_sha256,
                      created_at, available_at, left_by, ended_at, result_key, result_digest)
    {numbers}
    SELECT '{kind}' || (i % {recordings}) || '.' || (i / {recordings}), '{kind}' || (i % {recordings}), 'transcribe',
           i / {recordings}, :profile, :needs, :flow, '{state}', 0, i / {recordings}, {attempts},
           30 * (i / {recordings}), 30 * (i / {recordings}) + 30, 20, 'chunks/{kind}' || i, 1, 's', 0,
           {available}, {left_by}, {ended}, {result}, {result}
    FROM n
"""
_ATTEMPTS = """
    INSERT INTO attempts (token, job_id, number, worker_id, request_id, state, lease_until, started_at, ended_at,
                          digest, error_code)
    {numbers}
    SELECT 'token-number-{kind}-' || i, '{kind}' || (i % {recordings}) || '.' || (i / {recordings}), 1, {worker},
           'request-{kind}-' || i, '{state}', :now + {lease}, :now - {age}, {ended}, {digest}, {error}
    FROM n
"""
_EVENTS = """
    INSERT INTO events (at, kind, transcription_id, owner, data) {numbers}
    SELECT i, 'job_done', 'd' || (i % 100), 'owner-' || (i % 100), '{{}}' FROM n
"""


def fill(farm: Farm) -> None:
    """Jobs queued, done, running, lapsed and failed, and some twenty workers."""
    farm.recording(3, options=TONES.model_copy(update={"model": "other"}))
    farm.recording(0, options=SLOW)
    pattern = farm.recording(1).id
    for name in ("ann", "bob", *(f"w{number}" for number in range(20))):
        farm.worker(name)
    farm.worker("ready", models=("slow",))
    farm.worker("idle", models=("nothing",))
    farm.worker("labelled", label="mine")
    farm.write(lambda tx: tx.connection.execute(text("UPDATE profiles SET pace = 0.01, samples = 9")))
    _make(farm, pattern, "q", JOBS, "queued", RECORDINGS)
    _make(farm, pattern, "d", JOBS, "done", RECORDINGS, lease=0, age="100 * i")
    _make(farm, pattern, "r", HELD, "running", 20, lease=20, age="(i % 60)")
    _make(farm, pattern, "l", LAPSED, "running", 2, lease=-1, age="100")
    _make(farm, pattern, "f", WAITING, "failed", 5, lease=0, age="100", available=FAILED_AT)
    _run(farm, _RECORDINGS, "a", 5, pattern, state="assembling", each=0, done=0, ended="NULL")
    _run(farm, _EVENTS, "e", JOBS, pattern)
    if farm.database.dialect == "postgresql":
        with _postgresql(farm) as connection:
            for table in SWEPT:
                connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
            connection.execute("ANALYZE")
        sweep(farm)


def sweep(farm: Farm) -> None:
    """Takes away what undone calls left in PostgreSQL's tables and indexes, so that no call pays for another."""
    if farm.database.dialect == "postgresql":
        with _postgresql(farm) as connection:
            connection.execute(f"VACUUM (INDEX_CLEANUP ON) {', '.join(SWEPT)}")


def _postgresql(farm: Farm) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(farm.database.place, autocommit=True)


def _make(
    farm: Farm, pattern: str, kind: str, count: int, state: str, recordings: int, available: str = "0", **when: Any
) -> None:
    """Recordings of one kind and their jobs, with an attempt at each that was begun; `failed` ones are queued again."""
    done, failed, ended = state == "done", state == "failed", "5" if state in ("done", "failed") else "NULL"
    over = "5" if done else "NULL"
    whole = {"state": "done" if done else "running", "each": count // recordings, "done": done * count // recordings}
    _run(farm, _RECORDINGS, kind, recordings, pattern, ended=over, **whole)
    job = {"state": "queued" if failed else state, "attempts": int(bool(when)), "ended": over, "available": available}
    job["left_by"] = "'bob'" if failed else "NULL"
    _run(farm, _JOBS, kind, count, pattern, recordings=recordings, result="'r' || i" if done else "NULL", **job)
    if when:
        tried = {"state": "live" if state == "running" else state, "ended": ended, "recordings": recordings}
        tried |= {"digest": "'r' || i" if done else "NULL", "error": "'engine_error'" if failed else "NULL"}
        _run(farm, _ATTEMPTS, kind, count, pattern, worker="'bob'" if failed else "'w' || (i % 20)", **tried, **when)


def _run(farm: Farm, statement: str, kind: str, count: int, pattern: str, **parts: Any) -> None:
    options = SLOW if kind == "r" else TONES
    given = {
        "pattern": pattern,
        "profile": profile_id(options),
        "needs": (needs := RECOGNITION.needs("", options.model_dump())),
        "flow": f"{needs}\nann",
        "now": farm.now,
    }
    filled = statement.format(numbers=_NUMBERS.format(count=count), kind=kind, **parts)
    named = {name: value for name, value in given.items() if f":{name}" in filled}
    farm.write(lambda tx: tx.connection.execute(text(filled), named))
