"""The first tables: the queue, its workers and tokens, uploads and the event log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "first_tables"
down_revision = None


def upgrade() -> None:
    """Make every table, with its constraints and indexes."""
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("transcription_id", sa.Text(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_events_at"), "events", ["at"], unique=False)
    op.create_index(op.f("ix_events_owner_id"), "events", ["owner", "id"], unique=False)
    op.create_index(op.f("ix_events_transcription_id_id"), "events", ["transcription_id", "id"], unique=False)
    op.create_table(
        "farm",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("turn", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_farm_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_farm")),
    )
    op.create_table(
        "profiles",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("options", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("pace", sa.Double(), nullable=True),
        sa.Column("samples", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "kind = 'chunk' OR (engine IS NOT NULL AND model IS NOT NULL)", name=op.f("ck_profiles_recogniser_named")
        ),
        sa.CheckConstraint("kind IN ('chunk', 'transcribe')", name=op.f("ck_profiles_kind_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_profiles")),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.CheckConstraint("scope IN ('admin', 'user', 'worker')", name=op.f("ck_tokens_scope_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("hash", name=op.f("uq_tokens_hash")),
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint("state IN ('open', 'stored')", name=op.f("ck_uploads_state_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
        sa.UniqueConstraint("key", name=op.f("uq_uploads_key")),
    )
    op.create_index(op.f("ix_uploads_created_at"), "uploads", ["created_at"], unique=False)
    op.create_index(
        "ix_uploads_open",
        "uploads",
        ["owner"],
        unique=False,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("engines", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("cuts", sa.Boolean(), nullable=False),
        sa.Column("reserved", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("told", sa.Text(), nullable=True),
        sa.Column("registered_at", sa.Double(), nullable=False),
        sa.Column("last_seen_at", sa.Double(), nullable=False),
        sa.Column("last_beat_at", sa.Double(), nullable=False),
        sa.Column("audio_seconds", sa.Double(), server_default="0", nullable=False),
        sa.Column("work_seconds", sa.Double(), server_default="0", nullable=False),
        sa.CheckConstraint("state IN ('live', 'draining', 'dismissed', 'gone')", name=op.f("ck_workers_state_known")),
        sa.CheckConstraint("told IN ('draining', 'dismissed')", name=op.f("ck_workers_told_known")),
        sa.CheckConstraint("state IN (coalesce(told, 'live'), 'gone')", name=op.f("ck_workers_told_for_good")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_index(
        "ix_workers_present",
        "workers",
        ["id"],
        unique=False,
        sqlite_where=sa.text("state <> 'gone'"),
        postgresql_where=sa.text("state <> 'gone'"),
    )
    op.create_table(
        "transcriptions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("source_size", sa.BigInteger(), nullable=False),
        sa.Column("source_sha256", sa.Text(), nullable=True),
        sa.Column("chunk_seconds", sa.Double(), nullable=False),
        sa.Column("options", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("revision", sa.Text(), nullable=True),
        sa.Column("duration_seconds", sa.Double(), nullable=True),
        sa.Column("declared_seconds", sa.Double(), nullable=True),
        sa.Column("damaged_packets", sa.Integer(), server_default="0", nullable=False),
        sa.Column("damaged", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("chunking_done", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("chunks", sa.Integer(), server_default="0", nullable=False),
        sa.Column("chunks_done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("chunks_failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cut_seconds", sa.Double(), server_default="0", nullable=False),
        sa.Column("done_seconds", sa.Double(), server_default="0", nullable=False),
        sa.Column("next_turn", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("transcript_key", sa.Text(), nullable=True),
        sa.Column("transcript_size", sa.BigInteger(), nullable=True),
        sa.Column("coverage", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "(state = 'failed') = (error_code IS NOT NULL)", name=op.f("ck_transcriptions_failed_explained")
        ),
        sa.CheckConstraint(
            "(state IN ('done', 'incomplete', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name=op.f("ck_transcriptions_finished_dated"),
        ),
        sa.CheckConstraint("state <> 'queued' OR started_at IS NULL", name=op.f("ck_transcriptions_queued_unstarted")),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'assembling', 'done', 'incomplete', 'failed', 'cancelled')",
            name=op.f("ck_transcriptions_state_known"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('done', 'incomplete') OR transcript_key IS NOT NULL",
            name=op.f("ck_transcriptions_transcript_kept"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('running', 'assembling', 'done', 'incomplete') OR started_at IS NOT NULL",
            name=op.f("ck_transcriptions_running_started"),
        ),
        sa.CheckConstraint("substr(source, 1, 5) IN ('blob:', 'file:')", name=op.f("ck_transcriptions_source_placed")),
        sa.CheckConstraint(
            "NOT chunking_done OR duration_seconds IS NOT NULL", name=op.f("ck_transcriptions_cut_to_the_end")
        ),
        sa.CheckConstraint(
            "chunks_done >= 0 AND chunks_failed >= 0 AND chunks_done + chunks_failed <= chunks",
            name=op.f("ck_transcriptions_chunks_counted"),
        ),
        sa.ForeignKeyConstraint(["profile_id"], ["profiles.id"], name=op.f("fk_transcriptions_profile_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transcriptions")),
        sa.UniqueConstraint("owner", "key", name=op.f("uq_transcriptions_owner_key")),
    )
    op.create_index(
        "ix_transcriptions_assembling",
        "transcriptions",
        ["created_at", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'assembling'"),
        postgresql_where=sa.text("state = 'assembling'"),
    )
    op.create_index(
        "ix_transcriptions_finished",
        "transcriptions",
        ["finished_at"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NOT NULL"),
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_index(op.f("ix_transcriptions_created_at_id"), "transcriptions", ["created_at", "id"], unique=False)
    op.create_index(
        op.f("ix_transcriptions_owner_created_at_id"), "transcriptions", ["owner", "created_at", "id"], unique=False
    )
    op.create_index(op.f("ix_transcriptions_source"), "transcriptions", ["source"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("transcription_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("needs", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("available_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("start_seconds", sa.Double(), server_default="0", nullable=False),
        sa.Column("end_seconds", sa.Double(), server_default="0", nullable=False),
        sa.Column("speech_seconds", sa.Double(), server_default="0", nullable=False),
        sa.Column("audio_key", sa.Text(), nullable=True),
        sa.Column("audio_size", sa.BigInteger(), nullable=True),
        sa.Column("audio_sha256", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("charged_attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("forgiven_attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("alone", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("result_key", sa.Text(), nullable=True),
        sa.Column("result_size", sa.BigInteger(), nullable=True),
        sa.Column("result_digest", sa.Text(), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.CheckConstraint("(state = 'failed') = (error_code IS NOT NULL)", name=op.f("ck_jobs_failed_explained")),
        sa.CheckConstraint(
            "(state IN ('done', 'failed', 'cancelled')) = (ended_at IS NOT NULL)", name=op.f("ck_jobs_ended_dated")
        ),
        sa.CheckConstraint("kind = 'chunk' OR audio_key IS NOT NULL", name=op.f("ck_jobs_chunk_has_audio")),
        sa.CheckConstraint("kind IN ('chunk', 'transcribe')", name=op.f("ck_jobs_kind_known")),
        sa.CheckConstraint(
            "state <> 'done' OR result_digest IS NOT NULL OR kind = 'transcribe'",
            name=op.f("ck_jobs_chunking_answered"),
        ),
        sa.CheckConstraint(
            "state <> 'done' OR result_digest IS NOT NULL OR speech_seconds = 0", name=op.f("ck_jobs_done_answered")
        ),
        sa.CheckConstraint("state <> 'running' OR attempts > 0", name=op.f("ck_jobs_running_attempted")),
        sa.CheckConstraint(
            "state = 'done' OR (result_key IS NULL AND result_digest IS NULL)",
            name=op.f("ck_jobs_result_only_when_done"),
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'done', 'failed', 'cancelled')", name=op.f("ck_jobs_state_known")
        ),
        sa.CheckConstraint(
            "charged_attempts >= 0 AND charged_attempts + forgiven_attempts <= attempts",
            name=op.f("ck_jobs_attempts_counted"),
        ),
        sa.CheckConstraint("start_seconds >= 0 AND start_seconds <= end_seconds", name=op.f("ck_jobs_bounds_ordered")),
        sa.ForeignKeyConstraint(["profile_id"], ["profiles.id"], name=op.f("fk_jobs_profile_id")),
        sa.ForeignKeyConstraint(
            ["transcription_id"], ["transcriptions.id"], name=op.f("fk_jobs_transcription_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint(
            "transcription_id", "kind", "position", name=op.f("uq_jobs_transcription_id_kind_position")
        ),
    )
    op.create_index(
        "ix_jobs_heads",
        "jobs",
        ["needs", sa.literal_column("priority DESC"), "turn", "position", "created_at", "id", "available_at"],
        unique=False,
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_jobs_queued",
        "jobs",
        ["profile_id", sa.literal_column("priority DESC"), "turn", "position", "created_at", "id", "available_at"],
        unique=False,
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_jobs_set_aside",
        "jobs",
        ["transcription_id", "position"],
        unique=False,
        sqlite_where=sa.text("state = 'failed'"),
        postgresql_where=sa.text("state = 'failed'"),
    )
    op.create_index(
        "ix_jobs_of_recording",
        "jobs",
        ["transcription_id", "kind", "turn", "position"],
        unique=False,
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_jobs_waiting",
        "jobs",
        ["available_at"],
        unique=False,
        sqlite_where=sa.text("state = 'queued' AND available_at > 0"),
        postgresql_where=sa.text("state = 'queued' AND available_at > 0"),
    )
    op.create_table(
        "attempts",
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("charged", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("hedge", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("facts", sa.JSON(none_as_null=True), nullable=True),
        sa.CheckConstraint("(state = 'done') = (digest IS NOT NULL)", name=op.f("ck_attempts_done_digested")),
        sa.CheckConstraint("(state = 'live') = (ended_at IS NULL)", name=op.f("ck_attempts_live_unended")),
        sa.CheckConstraint("NOT charged OR state IN ('failed', 'lost')", name=op.f("ck_attempts_charged_for_cause")),
        sa.CheckConstraint(
            "state IN ('live', 'done', 'failed', 'lost', 'released', 'cancelled', 'superseded')",
            name=op.f("ck_attempts_state_known"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('failed', 'lost') OR error_code IS NOT NULL", name=op.f("ck_attempts_failed_explained")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_attempts_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_attempts")),
        sa.UniqueConstraint("job_id", "number", name=op.f("uq_attempts_job_id_number")),
    )
    op.create_index(
        "ix_attempts_failed",
        "attempts",
        ["worker_id", "job_id"],
        unique=False,
        sqlite_where=sa.text("state IN ('failed', 'lost')"),
        postgresql_where=sa.text("state IN ('failed', 'lost')"),
    )
    op.create_index(
        "ix_attempts_held",
        "attempts",
        ["worker_id"],
        unique=False,
        sqlite_where=sa.text("state = 'live'"),
        postgresql_where=sa.text("state = 'live'"),
    )
    op.create_index(
        "ix_attempts_lease",
        "attempts",
        ["lease_until"],
        unique=False,
        sqlite_where=sa.text("state = 'live'"),
        postgresql_where=sa.text("state = 'live'"),
    )
    op.create_index(
        "ix_attempts_one_live",
        "attempts",
        ["job_id", "hedge"],
        unique=True,
        sqlite_where=sa.text("state = 'live'"),
        postgresql_where=sa.text("state = 'live'"),
    )
    op.create_index(op.f("ix_attempts_worker_id_request_id"), "attempts", ["worker_id", "request_id"], unique=False)
