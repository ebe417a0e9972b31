"""The tables of what comes in from elsewhere: links that are being fetched."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey

from whisper_farm.store.columns import (
    BIGINT,
    INTEGER,
    JSON_TEXT,
    REAL,
    TEXT,
    each,
    index,
    some,
    table,
    zero,
)

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
