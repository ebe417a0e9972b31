"""The farm's tables, as SQLAlchemy Core metadata: one description for SQLite and PostgreSQL.

It promises that a row that contradicts the state machine cannot be stored. A CHECK constraint names every state, and
others say what must be true in it. It holds no queries and opens no connection.

Times are seconds since 1970 from the database's clock. The predicates of partial indexes are literal: SQLite proves
that an index fits when it *prepares* a statement, before any value is bound. So the queries must say
`state = 'queued'` in just these words, or they read whole tables.
"""

from __future__ import annotations

from typing import get_args

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TextClause,
    UniqueConstraint,
    false,
    literal_column,
    text,
)

from whisper_farm.protocol.wire import JobKind

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Json = JSON(none_as_null=True)
RowNumber = BigInteger().with_variant(Integer(), "sqlite")


def literally(value: str) -> ColumnElement[str]:
    """A constant written into the statement itself, so that the planner may use a partial index."""
    return literal_column(f"'{value}'", Text())


def one_of(column: str, *values: str) -> CheckConstraint:
    """The column holds one of these words."""
    return CheckConstraint(f"{column} IN ({', '.join(map(repr, values))})", name=f"{column}_known")


def holds(name: str, condition: str) -> CheckConstraint:
    """An invariant of every row, named so that a violation says what went wrong."""
    return CheckConstraint(condition, name=name)


def partial(name: str, predicate: str, *columns: str | TextClause, unique: bool = False) -> Index:
    """An index over the few rows that a hot query looks at."""
    where = text(predicate)
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


NEXT_FIRST = (text("priority DESC"), "turn", "position", "created_at", "id", "available_at", "left_by")
"""The order in which queued jobs are handed out; the last two columns only spare a look at the row."""

schema_version = Table(
    "schema_version",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("compatible_from", Integer, nullable=False),
    holds("single", "id = 1"),
    holds("compatible_with_itself", "compatible_from <= version"),
)
"""One row: the version of these tables, and the oldest version whose programs may run on them. See `schema.py`."""

farm = Table(
    "farm",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("turn", BigInteger, nullable=False, server_default="0"),
    holds("single", "id = 1"),
)
"""One row: `turn` is the virtual time of fair queueing, the largest turn handed out so far."""

profiles = Table(
    "profiles",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("engine", Text),
    Column("model", Text),
    Column("options", Json),
    Column("pace", Double),
    Column("samples", Integer, nullable=False, server_default="0"),
    one_of("kind", *get_args(JobKind)),
    holds("recogniser_named", "kind <> 'transcribe' OR (engine IS NOT NULL AND model IS NOT NULL)"),
)
"""What can be recognised in one batch. `pace` is seconds from claim to completion per audio-second."""

transcriptions = Table(
    "transcriptions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("key", Text),
    Column("label", Text, nullable=False, server_default=text("''")),
    Column("state", Text, nullable=False),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("source", Text, nullable=False),
    Column("source_size", BigInteger, nullable=False),
    Column("source_sha256", Text),
    Column("chunk_seconds", Double, nullable=False),
    Column("options", Json, nullable=False),
    Column("profile_id", Text, ForeignKey("profiles.id"), nullable=False),
    Column("language", Text),
    Column("revision", Text),
    Column("duration_seconds", Double),
    Column("declared_seconds", Double),
    Column("damaged_packets", Integer, nullable=False, server_default="0"),
    Column("damaged", Json),
    Column("chunking_done", Boolean, nullable=False, server_default=false()),
    Column("chunks", Integer, nullable=False, server_default="0"),
    Column("chunks_done", Integer, nullable=False, server_default="0"),
    Column("chunks_failed", Integer, nullable=False, server_default="0"),
    Column("cut_seconds", Double, nullable=False, server_default="0"),
    Column("done_seconds", Double, nullable=False, server_default="0"),
    Column("next_turn", BigInteger, nullable=False, server_default="0"),
    Column("peaks", Boolean, nullable=False, server_default=false()),
    Column("transcript_key", Text),
    Column("transcript_size", BigInteger),
    Column("coverage", Json),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    UniqueConstraint("owner", "key"),
    one_of("state", "queued", "running", "assembling", "done", "incomplete", "failed", "cancelled"),
    holds("source_placed", "substr(source, 1, 5) IN ('blob:', 'file:')"),
    holds("finished_dated", "(state IN ('done', 'incomplete', 'failed', 'cancelled')) = (finished_at IS NOT NULL)"),
    holds("queued_unstarted", "state <> 'queued' OR started_at IS NULL"),
    holds("running_started", "state NOT IN ('running', 'assembling', 'done', 'incomplete') OR started_at IS NOT NULL"),
    holds("failed_explained", "(state = 'failed') = (error_code IS NOT NULL)"),
    holds("transcript_kept", "state NOT IN ('done', 'incomplete') OR transcript_key IS NOT NULL"),
    holds("cut_to_the_end", "NOT chunking_done OR duration_seconds IS NOT NULL"),
    holds("chunks_counted", "chunks_done >= 0 AND chunks_failed >= 0 AND chunks_done + chunks_failed <= chunks"),
    Index(None, "created_at", "id"),
    Index(None, "owner", "created_at", "id"),
    Index(None, "source"),
    partial("ix_transcriptions_assembling", "state = 'assembling'", "created_at", "id"),
    partial("ix_transcriptions_finished", "finished_at IS NOT NULL", "finished_at"),
)
"""One recording each. `source` is `blob:KEY` or `file:PATH`; `language` and `revision` are null until decided.

`peaks` says whether somebody wants to listen to it.
"""

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("transcription_id", Text, ForeignKey("transcriptions.id", ondelete="CASCADE"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("profile_id", Text, ForeignKey("profiles.id"), nullable=False),
    Column("needs", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("turn", BigInteger, nullable=False),
    Column("available_at", Double, nullable=False, server_default="0"),
    Column("left_by", Text),
    Column("start_seconds", Double, nullable=False, server_default="0"),
    Column("end_seconds", Double, nullable=False, server_default="0"),
    Column("speech_seconds", Double, nullable=False, server_default="0"),
    Column("audio_key", Text),
    Column("audio_size", BigInteger),
    Column("audio_sha256", Text),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("charged_attempts", Integer, nullable=False, server_default="0"),
    Column("forgiven_attempts", Integer, nullable=False, server_default="0"),
    Column("alone", Boolean, nullable=False, server_default=false()),
    Column("result_key", Text),
    Column("result_size", BigInteger),
    Column("result_digest", Text),
    Column("language", Text),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("created_at", Double, nullable=False),
    Column("ended_at", Double),
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
    partial("ix_jobs_queued", "state = 'queued'", "profile_id", "needs", *NEXT_FIRST),
    partial("ix_jobs_heads", "state = 'queued'", "needs", *NEXT_FIRST),
    partial("ix_jobs_left", "state = 'queued' AND left_by IS NOT NULL", "left_by", "available_at"),
    partial("ix_jobs_waiting", "state = 'queued' AND available_at > 0", "available_at"),
    partial("ix_jobs_set_aside", "state = 'failed'", "transcription_id", "position"),
)
"""One unit of work each: `ID.c` cuts the recording, `ID.0`, `ID.1`, … recognise its chunks, `ID.p` makes its peaks.

`needs` is what a worker must offer, `LABEL:ENGINE MODEL` or `LABEL:KIND`: few values, so the head of the queue of
each is found at once, while profiles may be as many as recordings. `available_at` is 0 unless the job waits after a
failure. `left_by` is the worker that failed or lost it last, and leaves it to others for a while after that.
`forgiven_attempts` are those before the last retry, kept as evidence but no longer counted against it.
"""

attempts = Table(
    "attempts",
    metadata,
    Column("token", Text, primary_key=True),
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("worker_id", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("charged", Boolean, nullable=False, server_default=false()),
    Column("hedge", Boolean, nullable=False, server_default=false()),
    Column("language", Text),
    Column("lease_until", Double, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("digest", Text),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("facts", Json),
    UniqueConstraint("job_id", "number"),
    one_of("state", "live", "done", "failed", "lost", "released", "cancelled", "superseded"),
    holds("live_unended", "(state = 'live') = (ended_at IS NULL)"),
    holds("done_digested", "(state = 'done') = (digest IS NOT NULL)"),
    holds("failed_explained", "state NOT IN ('failed', 'lost') OR error_code IS NOT NULL"),
    holds("charged_for_cause", "NOT charged OR state IN ('failed', 'lost')"),
    Index(None, "worker_id", "request_id"),
    partial("ix_attempts_one_live", "state = 'live'", "job_id", "hedge", unique=True),
    partial("ix_attempts_lease", "state = 'live'", "lease_until"),
    partial("ix_attempts_held", "state = 'live'", "worker_id"),
)
"""One worker's try at a job each; `token` is the fence. `language` is the one it was told to listen for.

At most one live attempt a job, and one more that is a hedge: the unique index says so. A job is running
exactly as long as it has a live attempt, and has lapsed when the leases of all its live attempts have.
"""

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("platform", Text, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("engines", Json, nullable=False),
    Column("cuts", Boolean, nullable=False),
    Column("label", Text, nullable=False, server_default=text("''")),
    Column("machine", Json),
    Column("state", Text, nullable=False),
    Column("told", Text),
    Column("registered_at", Double, nullable=False),
    Column("last_seen_at", Double, nullable=False),
    Column("last_beat_at", Double, nullable=False),
    Column("audio_seconds", Double, nullable=False, server_default="0"),
    Column("work_seconds", Double, nullable=False, server_default="0"),
    one_of("state", "live", "draining", "dismissed", "gone"),
    one_of("told", "draining", "dismissed"),
    holds("told_for_good", "state IN (coalesce(told, 'live'), 'gone')"),
    partial("ix_workers_present", "state <> 'gone'", "id"),
)
"""The processes that claim; one with a `label` works on the transcriptions with that label only.

`last_beat_at` is the last heartbeat, `last_seen_at` the last sign of life; `told` says how it was told to leave, and
outlasts being `gone`.
"""

events = Table(
    "events",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("kind", Text, nullable=False),
    Column("transcription_id", Text),
    Column("owner", Text),
    Column("data", Json, nullable=False),
    Index(None, "transcription_id", "id"),
    Index(None, "owner", "id"),
    Index(None, "at"),
    sqlite_autoincrement=True,
)
"""Every state change, in commit order. Ids are never used twice, so `after` stays true when old rows are retired."""

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hash", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("last_used_at", Double),
    Column("revoked_at", Double),
    one_of("scope", "admin", "user", "worker"),
)
"""Access tokens; only the hash of the secret is kept."""

uploads = Table(
    "uploads",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("key", Text, nullable=False, unique=True),
    Column("state", Text, nullable=False),
    Column("sha256", Text),
    Column("created_at", Double, nullable=False),
    one_of("state", "open", "stored"),
    Index(None, "created_at"),
    partial("ix_uploads_open", "state = 'open'", "owner"),
)
"""Files on their way in: announced (`open`), then complete (`stored`)."""

accounts = Table(
    "accounts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("password_hash", Text),
    Column("created_at", Double, nullable=False),
    Column("signed_in_at", Double),
    one_of("scope", "admin", "user"),
)
"""People; the name is the owner of what they submit."""

sessions = Table(
    "sessions",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("account", Text, ForeignKey("accounts.name", ondelete="CASCADE"), nullable=False),
    Column("last_used_at", Double, nullable=False),
    Index(None, "account"),
    Index(None, "last_used_at"),
)
"""Browsers that are signed in; only the hash of the secret is kept."""

sign_in_links = Table(
    "sign_in_links",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("account", Text, ForeignKey("accounts.name", ondelete="CASCADE"), nullable=False),
    Column("expires_at", Double, nullable=False),
    Index(None, "account"),
)
"""Links that sign in once."""

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Index(None, "owner"),
)
"""Addresses that want to hear of finished transcriptions. `position` is the last event looked at."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("webhook_id", Text, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("transcription_id", Text, nullable=False),
    Column("body", Json, nullable=False),
    Column("state", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_at", Double, nullable=False),
    Column("status", Integer),
    Column("error", Text),
    Column("created_at", Double, nullable=False),
    one_of("state", "pending", "delivered", "failed"),
    Index(None, "webhook_id", "created_at"),
    partial("ix_deliveries_pending", "state = 'pending'", "next_at"),
)
"""Messages to webhooks."""

fleet = Table(
    "fleet",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("owner", Text, nullable=False),
    Column("holder", Text),
    Column("held_until", Double, nullable=False, server_default="0"),
    holds("single", "id = 1"),
)
"""One row: the tag of every machine of this farm, and the coordinator whose turn it is to look after them."""

machine_pools = Table(
    "machine_pools",
    metadata,
    Column("name", Text, primary_key=True),
    Column("switch", Text, nullable=False, server_default="on"),
    Column("fixed", Integer),
    Column("blocked_until", Double, nullable=False, server_default="0"),
    Column("blocked_why", Text),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("crashes", Integer, nullable=False, server_default="0"),
    Column("next_launch_at", Double, nullable=False, server_default="0"),
    Column("full_regions", Json, nullable=False),
    Column("wanted", Integer, nullable=False, server_default="0"),
    Column("why", Text, nullable=False),
    Column("inputs", Json, nullable=False),
    Column("decided_at", Double, nullable=False, server_default="0"),
    one_of("switch", "on", "paused", "drained", "stopped"),
)
"""What is remembered of each pool. `switch` and `fixed` are the administrators', everything else the reconciler's."""

machines = Table(
    "machines",
    metadata,
    Column("launch_id", Text, primary_key=True),
    Column("pool", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("machine_id", Text),
    Column("worker_id", Text),
    Column("price_per_hour", Double, nullable=False),
    Column("asks", Integer, nullable=False, server_default="0"),
    Column("unsure", Boolean, nullable=False, server_default=false()),
    Column("missing", Integer, nullable=False, server_default="0"),
    Column("next_call_at", Double, nullable=False, server_default="0"),
    Column("intended_at", Double, nullable=False),
    Column("asked_at", Double, nullable=False),
    Column("accepted_at", Double),
    Column("started_at", Double),
    Column("registered_at", Double),
    Column("drained_at", Double),
    Column("ending_at", Double),
    Column("ended_at", Double),
    Column("running_since", Double),
    Column("stretches", Json, nullable=False),
    Column("spent", Double, nullable=False, server_default="0"),
    Column("failure", Text),
    Column("why", Text, nullable=False),
    Column("wish", Text),
    one_of(
        "state", "intended", "accepted", "started", "working", "draining", "stopping", "stopped", "destroying",
        "orphan", "gone",
    ),
    one_of("wish", "start", "drain", "stop", "destroy"),
    holds("gone_dated", "(state = 'gone') = (ended_at IS NOT NULL)"),
    holds("gone_unpaid", "state <> 'gone' OR running_since IS NULL"),
    holds("working_known", "state <> 'working' OR worker_id IS NOT NULL"),
    holds("ending_dated", "state NOT IN ('stopping', 'destroying') OR ending_at IS NOT NULL"),
    Index(None, "ended_at"),
    partial("ix_machines_counted", "state <> 'gone'", "pool"),
)  # fmt: skip
"""One launch each, written down before the provider is asked. Everything that is not `gone` counts.

`stretches` are the times it ran, `[from, to]`; `running_since` begins the one that goes on. `unsure` says that an
answer was lost, so that it may exist although it was never seen. `wish` is what an administrator asks for.
"""

machine_log = Table(
    "machine_log",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("pool", Text, nullable=False),
    Column("launch_id", Text),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
    Index(None, "pool", "id"),
    Index(None, "launch_id", "id"),
    Index(None, "at"),
    sqlite_autoincrement=True,
)
"""What was decided about machines, what providers answered, and why; in words."""

identity = Table(
    "identity",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("farm_id", Text, nullable=False),
    holds("one_row", "id = 1"),
)
"""Which farm this is. The blob store carries the same id."""

trash = Table(
    "trash",
    metadata,
    Column("key", Text, primary_key=True),
    Column("found_at", Double, nullable=False),
)
"""Blobs that no row names, and since when that is known."""
