"""The tables of what comes in: uploads, links that are being fetched, feeds and their episodes."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, UniqueConstraint

from whisper_farm.store.columns import (
    BIGINT,
    BOOLEAN,
    INTEGER,
    JSON_TEXT,
    REAL,
    TEXT,
    each,
    index,
    key,
    of,
    one_of,
    partial,
    some,
    table,
    zero,
)

uploads = table(
    "uploads",
    key("id"),
    each(TEXT, "owner name key state"),
    some(TEXT, "sha256"),
    each(BIGINT, "size"),
    each(REAL, "created_at"),
    UniqueConstraint("key"),
    one_of("state", "open", "stored"),
    index("created_at"),
    partial("ix_uploads_open", "state = 'open'", "owner"),
)
"""Files on their way in: announced (`open`), then complete (`stored`)."""

upload_parts = table(
    "upload_parts",
    key("key"),
    of("upload_id", "uploads.id"),
    each(BIGINT, "first size"),
    UniqueConstraint("upload_id", "first"),
)
"""What has arrived of an upload: blobs, the `first` byte of each, and how many follow it."""

fetches = table(
    "fetches",
    [Column("transcription_id", TEXT, ForeignKey("transcriptions.id", ondelete="CASCADE"), primary_key=True)],
    each(TEXT, "owner"),
    some(TEXT, "holder validator error"),
    zero(INTEGER, "tries"),
    zero(BIGINT, "received_bytes"),
    some(BIGINT, "total_bytes"),
    each(REAL, "since"),
    zero(REAL, "next_at"),
    each(JSON_TEXT, "parts"),
    index("next_at"),
)
"""Links on their way in, wanted `since` then. `parts` are the keys and sizes of what is stored so far.

`validator` says whether they still count. A fetch is held by one try of one coordinator until `next_at`; without a
holder that is when it is tried next.
"""

feeds = table(
    "feeds",
    key("id"),
    each(TEXT, "owner url secret"),
    zero(TEXT, "title words"),
    each(JSON_TEXT, "options"),
    some(REAL, "days looked_at"),
    each(INTEGER, "count"),
    zero(BOOLEAN, "keep_transcripts"),
    some(TEXT, "etag modified key error"),
    zero(INTEGER, "tries"),
    zero(REAL, "next_at"),
    each(REAL, "created_at"),
    UniqueConstraint("owner", "url"),
    UniqueConstraint("secret"),
    index("next_at"),
)
"""Feeds that are looked at again and again. `key` is the blob of the newest copy, which is served under the `secret`.

`tries` are those in vain since the last that went well. `words`, `days` and `count` say which episodes are wanted.
"""

episodes = table(
    "episodes",
    key("id"),
    of("feed_id", "feeds.id"),
    each(TEXT, "guid url title"),
    some(TEXT, "transcription_id"),
    each(REAL, "created_at"),
    index("feed_id", "created_at"),
)
"""Episodes that were taken (`FEED.EPISODE`), and their transcription.

There is none where the publisher's own transcript is kept.
"""
