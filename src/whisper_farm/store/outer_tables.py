"""The tables around the queue: who may do what, edits, what comes in, webhooks, and the machines that a farm starts."""

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
    holds,
    index,
    key,
    number,
    of,
    one_of,
    partial,
    single,
    some,
    table,
    zero,
)

tokens = table(
    "tokens",
    key("id"),
    each(TEXT, "hash name owner scope"),
    some(TEXT, "parent"),
    each(REAL, "created_at"),
    some(REAL, "last_used_at revoked_at expires_at"),
    UniqueConstraint("hash"),
    index("parent"),
    one_of("scope", "admin", "user", "worker"),
)
"""Access tokens; only the hash of the secret is kept. A token ends with the one that made it, its `parent`."""

join_codes = table(
    "join_codes",
    key("id"),
    each(TEXT, "hash made_by owner parent"),
    some(TEXT, "name token_hash"),
    each(BOOLEAN, "approved"),
    each(REAL, "created_at expires_at"),
    UniqueConstraint("hash"),
    holds("named_when_used", "(name IS NULL) = (token_hash IS NULL)"),
)
"""Codes by which one worker each joins. A used one with a name waits until an administrator lets that worker in.
`approved` is one whose worker need not wait."""

accounts = table(
    "accounts",
    key("name"),
    each(TEXT, "scope"),
    some(TEXT, "password_hash"),
    each(REAL, "created_at"),
    some(REAL, "signed_in_at"),
    one_of("scope", "admin", "user"),
)
"""People; the name is the owner of what they submit."""

preferences = table("preferences", key("owner"), each(TEXT, "glossary"), each(JSON_TEXT, "defaults"))
"""What each owner wants of the app: names and words to expect, and the options of the next recording."""

limits = table("limits", single(), each(JSON_TEXT, "changed"))
"""What administrators changed of the limits that the servers were given."""

sessions = table(
    "sessions",
    key("hash"),
    of("account", "accounts.name"),
    each(REAL, "last_used_at"),
    index("account"),
    index("last_used_at"),
)
"""Browsers that are signed in; only the hash of the secret is kept."""

sign_in_links = table(
    "sign_in_links", key("hash"), of("account", "accounts.name"), each(REAL, "expires_at"), index("account")
)
"""Links that sign in once."""

shares = table(
    "shares",
    key("id"),
    of("transcription_id", "transcriptions.id"),
    each(TEXT, "hash made_by"),
    each(REAL, "created_at"),
    UniqueConstraint("hash"),
    index("transcription_id"),
)
"""Links that let anybody read one transcription; only the hash of the secret is kept."""

edits = table(
    "edits",
    of("transcription_id", "transcriptions.id"),
    each(INTEGER, "number letters"),
    each(TEXT, "author"),
    some(TEXT, "name"),
    each(REAL, "at"),
    each(JSON_TEXT, "content"),
    UniqueConstraint("transcription_id", "number"),
    holds("numbered", "number > 0"),
)
"""What people changed in transcripts, in order. `name` is that of a version; `letters` is how long `content` is."""

uploads = table(
    "uploads",
    key("id"),
    each(TEXT, "owner name key state"),
    some(TEXT, "sha256"),
    each(BIGINT, "size"),
    each(REAL, "last_used_at"),
    UniqueConstraint("key"),
    one_of("state", "open", "stored"),
    index("last_used_at"),
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

webhooks = table(
    "webhooks",
    key("id"),
    each(TEXT, "owner url secret"),
    each(BIGINT, "position"),
    zero(BOOLEAN, "progress"),
    each(REAL, "created_at"),
    index("owner"),
)
"""Addresses that want to hear of finished transcriptions. `position` is the last event looked at."""

deliveries = table(
    "deliveries",
    key("id"),
    of("webhook_id", "webhooks.id"),
    each(TEXT, "kind state"),
    some(TEXT, "transcription_id error"),
    each(INTEGER, "tries"),
    some(INTEGER, "status"),
    each(REAL, "next_at created_at"),
    each(JSON_TEXT, "body"),
    one_of("state", "pending", "delivered", "failed"),
    index("webhook_id", "created_at"),
    partial("ix_deliveries_pending", "state = 'pending'", "next_at"),
)
"""Messages to webhooks."""

fleet = table("fleet", single(), each(TEXT, "owner"), some(TEXT, "holder"), zero(REAL, "held_until"))
"""The tag of every machine of this farm, and the coordinator whose turn it is to look after them."""

machine_pools = table(
    "machine_pools",
    key("name"),
    each(TEXT, "switch why"),
    some(TEXT, "blocked_why"),
    some(INTEGER, "fixed"),
    zero(INTEGER, "failures crashes wanted"),
    zero(REAL, "blocked_until next_launch_at decided_at"),
    each(JSON_TEXT, "full_regions inputs"),
    one_of("switch", "on", "paused", "drained", "stopped"),
)
"""What is remembered of each pool. `switch` and `fixed` are the administrators', everything else the reconciler's."""

machines = table(
    "machines",
    key("launch_id"),
    each(TEXT, "pool provider region state why"),
    some(TEXT, "machine_id worker_id failure wish"),
    zero(INTEGER, "asks missing"),
    each(REAL, "price_per_hour intended_at asked_at"),
    some(REAL, "accepted_at started_at registered_at drained_at ending_at ended_at running_since"),
    zero(REAL, "next_call_at spent"),
    zero(BOOLEAN, "unsure"),
    each(JSON_TEXT, "stretches"),
    one_of(
        "state", "intended", "accepted", "started", "working", "draining", "stopping", "stopped", "destroying",
        "orphan", "gone",
    ),
    one_of("wish", "start", "drain", "stop", "destroy"),
    holds("gone_dated", "(state = 'gone') = (ended_at IS NOT NULL)"),
    holds("gone_unpaid", "state <> 'gone' OR running_since IS NULL"),
    holds("working_known", "state <> 'working' OR worker_id IS NOT NULL"),
    holds("ending_dated", "state NOT IN ('stopping', 'destroying') OR ending_at IS NOT NULL"),
    index("ended_at"),
    partial("ix_machines_counted", "state <> 'gone'", "pool"),
)  # fmt: skip
"""One launch each, written down before the provider is asked. Everything that is not `gone` counts.

`stretches` are the times it ran, `[from, to]`; `running_since` begins the one that goes on. `unsure` says that an
answer was lost, so that it may exist although it was never seen. `wish` is what an administrator asks for.
"""

machine_log = table(
    "machine_log",
    number(),
    each(REAL, "at"),
    each(TEXT, "pool kind text"),
    some(TEXT, "launch_id"),
    index("pool", "id"),
    index("launch_id", "id"),
    index("at"),
    numbered=True,
)
"""What was decided about machines, what providers answered, and why; in words."""
