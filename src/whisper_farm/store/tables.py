"""The farm's tables, as SQLAlchemy Core metadata: one description for SQLite and PostgreSQL.

Here are those of the queue and of the event log; `outer_tables.py` has those around them.

It promises that a row that contradicts the state machine cannot be stored. A CHECK constraint names every state, and
others say what must be true in it. It holds no queries and opens no connection. Times are seconds since 1970 from the
database's clock.
"""

from __future__ import annotations

from typing import get_args

from sqlalchemy import DDL, UniqueConstraint, event, text

from whisper_farm.protocol.wire import JobKind
from whisper_farm.store import outer_tables
from whisper_farm.store.columns import (
    BIGINT,
    BOOLEAN,
    INTEGER,
    JSON_TEXT,
    REAL,
    TEXT,
    each,
    holds,
    index,
    key,
    metadata,
    number,
    of,
    one_of,
    partial,
    single,
    some,
    table,
    zero,
)

__all__ = ["metadata", "outer_tables"]

NEXT_FIRST = (text("priority DESC"), "turn", "position", "created_at", "id", "available_at", "left_by")
"""The order in which queued jobs are handed out; the last two columns only spare a look at the row."""

schema_version = table(
    "schema_version",
    single(),
    each(INTEGER, "version compatible_from"),
    holds("compatible_with_itself", "compatible_from <= version"),
)
"""The version of these tables, and the oldest version whose programs may run on them. See `schema.py`."""

farm = table("farm", single(), zero(BIGINT, "turn served"))
"""Fair queueing: `turn` is the largest turn handed out so far, `served` what the owner had that was served last."""

owners = table("owners", key("name"), zero(BIGINT, "served"))
"""Jobs that each owner was given while others waited, too. Who had least goes first."""

profiles = table(
    "profiles",
    key("id"),
    each(TEXT, "kind"),
    some(TEXT, "engine model revision"),
    some(JSON_TEXT, "options"),
    some(REAL, "pace"),
    zero(INTEGER, "samples"),
    one_of("kind", *get_args(JobKind)),
    holds("recogniser_named", "kind <> 'transcribe' OR (engine IS NOT NULL AND model IS NOT NULL)"),
)
"""What can be recognised in one batch. `pace` is seconds from claim to completion per audio-second.

`revision` is what the workers of this farm have of the model, as far as is known.
"""

transcriptions = table(
    "transcriptions",
    key("id"),
    of("profile_id", "profiles.id", cascade=False),
    each(TEXT, "owner name folded_name state source"),
    some(TEXT, "key source_sha256 language tagged_language revision"),
    some(TEXT, "transcript_key transcript_sha256 error_code error_message without_speakers"),
    zero(TEXT, "label"),
    each(BIGINT, "source_size"),
    some(BIGINT, "transcript_size"),
    zero(BIGINT, "next_turn"),
    zero(INTEGER, "priority damaged_packets chunks chunks_done chunks_failed"),
    each(REAL, "chunk_seconds created_at"),
    some(REAL, "duration_seconds declared_seconds started_at finished_at"),
    zero(REAL, "cut_seconds done_seconds"),
    zero(BOOLEAN, "chunking_done peaks"),
    each(JSON_TEXT, "options"),
    some(JSON_TEXT, "damaged coverage remarks"),
    UniqueConstraint("owner", "key"),
    one_of("state", "fetching", "queued", "running", "assembling", "done", "incomplete", "failed", "cancelled"),
    holds("source_placed", "substr(source, 1, 5) IN ('blob:', 'file:', 'link:')"),
    holds("fetched_first", "substr(source, 1, 5) <> 'link:' OR state IN ('fetching', 'failed', 'cancelled')"),
    holds("fetching_link", "state <> 'fetching' OR substr(source, 1, 5) = 'link:'"),
    holds("finished_dated", "(state IN ('done', 'incomplete', 'failed', 'cancelled')) = (finished_at IS NOT NULL)"),
    holds("queued_unstarted", "state <> 'queued' OR started_at IS NULL"),
    holds("running_started", "state NOT IN ('running', 'assembling', 'done', 'incomplete') OR started_at IS NOT NULL"),
    holds("failed_explained", "(state = 'failed') = (error_code IS NOT NULL)"),
    holds("transcript_kept", "state NOT IN ('done', 'incomplete') OR transcript_key IS NOT NULL"),
    holds("cut_to_the_end", "NOT chunking_done OR duration_seconds IS NOT NULL"),
    holds("chunks_counted", "chunks_done >= 0 AND chunks_failed >= 0 AND chunks_done + chunks_failed <= chunks"),
    index("created_at", "id"),
    index("owner", "created_at", "id"),
    index("owner", "source_size"),
    index("source"),
    partial("ix_transcriptions_unfinished", "finished_at IS NULL", "owner", "finished_at"),
    partial("ix_transcriptions_assembling", "state = 'assembling'", "created_at", "id"),
    partial("ix_transcriptions_finished", "finished_at IS NOT NULL", "finished_at"),
)
"""One recording each. `source` is `blob:KEY`, `file:PATH`, or `link:URL` until it is fetched.

`language` and `revision` are null until decided.

`folded_name` is the name as `search.py` compares it. `peaks` says whether somebody wants to listen to it.
`without_speakers` is why no worker could tell speakers apart: chunks that are claimed since then have words alone.
"""

passages = table(
    "passages",
    number(),
    of("transcription_id", "transcriptions.id"),
    each(INTEGER, "position"),
    each(REAL, "start_seconds"),
    each(TEXT, "text folded"),
    UniqueConstraint("transcription_id", "position"),
)
"""The segments of finished transcripts, to be searched: as they were said, and folded as `search.py` compares them.

A passage is never changed, only noted and forgotten. Both databases call the index over the folded words `said`.
"""

SAID = {
    "CREATE VIRTUAL TABLE said USING fts5(folded, content='passages', content_rowid='id')": "sqlite",
    """CREATE TRIGGER passage_noted AFTER INSERT ON passages BEGIN
        INSERT INTO said (rowid, folded) VALUES (new.id, new.folded); END""": "sqlite",
    """CREATE TRIGGER passage_forgotten AFTER DELETE ON passages BEGIN
        INSERT INTO said (said, rowid, folded) VALUES ('delete', old.id, old.folded); END""": "sqlite",
    "CREATE INDEX said ON passages USING gin (to_tsvector('simple', folded))": "postgresql",
}
for statement, dialect in SAID.items():
    event.listen(passages, "after_create", DDL(statement).execute_if(dialect=dialect))  # type: ignore[no-untyped-call]

jobs = table(
    "jobs",
    key("id"),
    of("transcription_id", "transcriptions.id"),
    of("profile_id", "profiles.id", cascade=False),
    each(TEXT, "kind needs flow state"),
    some(TEXT, "left_by audio_key audio_sha256 result_key result_digest language error_code error_message"),
    each(INTEGER, "position priority"),
    zero(INTEGER, "attempts charged_attempts forgiven_attempts"),
    each(BIGINT, "turn"),
    some(BIGINT, "audio_size result_size"),
    each(REAL, "created_at"),
    some(REAL, "ended_at"),
    zero(REAL, "available_at start_seconds end_seconds speech_seconds"),
    zero(BOOLEAN, "alone language_sure"),
    UniqueConstraint("transcription_id", "kind", "position"),
    one_of("kind", *get_args(JobKind)),
    one_of("state", "queued", "running", "done", "failed", "cancelled"),
    holds("ended_dated", "(state IN ('done', 'failed', 'cancelled')) = (ended_at IS NOT NULL)"),
    holds("failed_explained", "(state = 'failed') = (error_code IS NOT NULL)"),
    holds("done_answered", "state <> 'done' OR result_digest IS NOT NULL OR speech_seconds = 0"),
    holds("chunking_answered", "state <> 'done' OR result_digest IS NOT NULL OR kind = 'transcribe'"),
    holds("result_only_when_done", "state = 'done' OR (result_key IS NULL AND result_digest IS NULL)"),
    holds("chunk_has_audio", "kind <> 'transcribe' OR audio_key IS NOT NULL"),
    holds("bounds_ordered", "start_seconds >= 0 AND start_seconds <= end_seconds"),
    holds("attempts_counted", "charged_attempts >= 0 AND charged_attempts + forgiven_attempts <= attempts"),
    holds("running_attempted", "state <> 'running' OR attempts > 0"),
    partial("ix_jobs_queued", "state = 'queued'", "profile_id", "flow", *NEXT_FIRST),
    partial("ix_jobs_heads", "state = 'queued'", "flow", *NEXT_FIRST),
    partial("ix_jobs_left", "state = 'queued' AND left_by IS NOT NULL", "left_by", "available_at"),
    partial("ix_jobs_waiting", "state = 'queued' AND available_at > 0", "available_at"),
    partial("ix_jobs_set_aside", "state = 'failed'", "transcription_id", "position"),
)
"""One unit of work each: `ID.c` cuts the recording, `ID.0`, `ID.1`, … recognise its chunks, `ID.p` makes its peaks.

`needs` is what a worker must offer, `LABEL:ENGINE MODEL` or `LABEL:KIND`; `flow` is that, with the owner on a second
line. These are few values, so the head of the queue of each is found at once. Profiles may be as many as recordings.
`available_at` is 0 unless the job waits after a failure. `left_by` is the worker that failed or lost it last. It leaves
the job to others for a while after that.
`forgiven_attempts` are those before the last retry, kept as evidence but no longer counted against it. A result whose
language is sure (`language_sure`) is kept, whatever language the recording has.
"""

attempts = table(
    "attempts",
    key("token"),
    of("job_id", "jobs.id"),
    each(INTEGER, "number"),
    each(TEXT, "worker_id request_id state"),
    some(TEXT, "language digest error_code error_message"),
    each(REAL, "lease_until started_at"),
    zero(REAL, "ends_by"),
    some(REAL, "ended_at"),
    zero(BOOLEAN, "charged hedge"),
    some(JSON_TEXT, "facts"),
    UniqueConstraint("job_id", "number"),
    one_of("state", "live", "done", "failed", "lost", "released", "cancelled", "superseded"),
    holds("live_unended", "(state = 'live') = (ended_at IS NULL)"),
    holds("done_digested", "(state = 'done') = (digest IS NOT NULL)"),
    holds("failed_explained", "state NOT IN ('failed', 'lost') OR error_code IS NOT NULL"),
    holds("charged_for_cause", "NOT charged OR state IN ('failed', 'lost')"),
    index("worker_id", "request_id"),
    partial("ix_attempts_one_live", "state = 'live'", "job_id", "hedge", unique=True),
    partial("ix_attempts_lease", "state = 'live'", "lease_until"),
    partial("ix_attempts_held", "state = 'live'", "worker_id"),
)
"""One worker's try at a job each; `token` is the fence. `language` is the one it was told to listen for.
No heartbeat stretches its lease beyond `ends_by`.

At most one live attempt a job, and one more that is a hedge: the unique index says so. A job is running
exactly as long as it has a live attempt, and has lapsed when the leases of all its live attempts have.
"""

workers = table(
    "workers",
    key("id"),
    each(TEXT, "owner name version platform state"),
    some(TEXT, "told token_id hours"),
    zero(TEXT, "label"),
    each(INTEGER, "slots"),
    each(BOOLEAN, "cuts"),
    zero(BOOLEAN, "paused"),
    each(REAL, "registered_at last_seen_at last_beat_at"),
    zero(REAL, "audio_seconds work_seconds"),
    zero(INTEGER, "compared differed"),
    each(JSON_TEXT, "engines"),
    some(JSON_TEXT, "machine"),
    one_of("state", "live", "draining", "dismissed", "gone"),
    one_of("told", "draining", "dismissed"),
    holds("told_for_good", "state IN (coalesce(told, 'live'), 'gone')"),
    partial("ix_workers_present", "state <> 'gone'", "id"),
    partial("ix_workers_of_token", "state <> 'gone'", "token_id"),
)
"""The processes that claim; one with a `label` works on the transcriptions with that label only.

`last_beat_at` is the last heartbeat, `last_seen_at` the last sign of life; `told` says how it was told to leave, and
outlasts being `gone`. One that is `paused` claims nothing until it is resumed, and stays.
Only the token that registered it, `token_id`, speaks for it. `compared` counts its results that were held against those
of another worker, `differed` those of them that were not alike.
"""

working_hours = table("working_hours", key("name"), each(TEXT, "hours"))
"""When administrators want all workers of a name to work, by the clocks of their machines; empty: always."""

events = table(
    "events",
    number(),
    each(REAL, "at"),
    each(TEXT, "kind"),
    some(TEXT, "transcription_id owner"),
    each(JSON_TEXT, "data"),
    index("transcription_id", "id"),
    index("owner", "id"),
    index("at"),
    numbered=True,
)
"""Every state change, in commit order. Ids are never used twice, so `after` stays true when old rows are retired."""

identity = table("identity", single(), each(TEXT, "farm_id"))
"""Which farm this is. The blob store carries the same id."""

trash = table("trash", key("key"), each(REAL, "found_at"))
"""Blobs that no row names, and since when that is known."""
