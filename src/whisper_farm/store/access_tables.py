"""The tables of who may do what: tokens, the codes by which workers join, people with their browsers, and links."""

from __future__ import annotations

from sqlalchemy import UniqueConstraint

from whisper_farm.store.columns import JSON_TEXT, REAL, TEXT, each, holds, index, key, of, one_of, single, some, table

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
    each(REAL, "created_at expires_at"),
    UniqueConstraint("hash"),
    holds("named_when_used", "(name IS NULL) = (token_hash IS NULL)"),
)
"""Codes by which one worker each joins. A used one with a name waits until an administrator lets that worker in."""

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
