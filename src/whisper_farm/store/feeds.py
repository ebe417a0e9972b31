"""Feeds of podcasts: whose they are, when they are looked at next, and which of their episodes were taken."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from typing import Any

from whisper_farm.errors import QuotaReached, WrongState
from whisper_farm.protocol.client import TranscriptionState
from whisper_farm.protocol.events import SettingsChanged
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.statements import Change, Json, Query, columns, insert

MOST_FEEDS = 1000
"""Of one owner."""
EPISODE_KEY = "feed:"
"""What the key of an episode's transcription begins with."""
HELD_SECONDS = 180.0
"""How long a look at a feed may last; then somebody else may look."""


@dataclass(frozen=True, slots=True)
class FeedRow:
    id: str
    owner: str
    url: str
    secret: str
    title: str
    words: str
    options: dict[str, Any]
    days: float | None
    count: int
    keep_transcripts: bool
    etag: str | None
    modified: str | None
    key: str | None
    error: str | None
    tries: int
    next_at: float
    looked_at: float | None
    created_at: float


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """An episode that was taken, with the state of its transcription; None where there is none, or none any more.

    `id` is the feed's with a dot and the episode's own.
    """

    id: str
    guid: str
    url: str
    title: str
    transcription_id: str | None
    state: TranscriptionState | None = None
    language: str | None = None


ROW = f"SELECT {columns(FeedRow)} FROM feeds"
COUNT = Query[int]("SELECT count(*) AS feeds FROM feeds WHERE owner = :owner")
SAME = Query[FeedRow](f"{ROW} WHERE owner = :owner AND url = :url")
ADD = insert("feeds", FeedRow)
SEEN = f"{ROW} WHERE (CAST(:owner AS TEXT) IS NULL OR owner = :owner)"
OF_OWNER = Query[FeedRow](f"{SEEN} ORDER BY created_at, id")
FIND = Query[FeedRow](f"{SEEN} AND id = :id")
BY_SECRET = Query[FeedRow](f"{ROW} WHERE secret = :secret")
DUE = Query[FeedRow](f"""
    {ROW} WHERE next_at <= :now
     ORDER BY (SELECT coalesce(max(others.looked_at), 0) FROM feeds others WHERE others.owner = feeds.owner),
              next_at, id
     LIMIT 1
""")
"""Of the owner of whose feeds none was looked at for longest."""
TAKE = Change("UPDATE feeds SET next_at = :until WHERE id = :id")
NOTE = Change("""
    UPDATE feeds SET title = :title, etag = :etag, modified = :modified, key = :key, error = :error, tries = :tries,
           next_at = :next_at, looked_at = :looked_at
     WHERE id = :id
""")
DELETE_EPISODES = Change("DELETE FROM episodes WHERE feed_id = :id")
DELETE = Change("DELETE FROM feeds WHERE id = :id")
EPISODES = Query[EpisodeRow]("""
    SELECT episodes.id, guid, url, title, transcription_id, transcriptions.state, transcriptions.language
      FROM episodes LEFT JOIN transcriptions ON transcriptions.id = transcription_id
     WHERE feed_id = :id ORDER BY episodes.created_at, episodes.id
""")
OF_FEED = """
    (CAST(:feed AS TEXT) IS NULL
     OR transcriptions.id IN (SELECT transcription_id FROM episodes WHERE feed_id = :feed))
"""
"""That a transcription is of an episode of this feed; of any or none where no feed is asked for."""
ADD_EPISODE = Change("""
    INSERT INTO episodes (feed_id, id, guid, url, title, transcription_id, created_at)
    VALUES (:feed, :id, :guid, :url, :title, :transcription_id, :now)
    ON CONFLICT (id) DO NOTHING
""")


def add_feed(tx: Transaction, owner: str, url: str, **told: Any) -> FeedRow:
    """Look at a feed from now on; raises `WrongState` for one that this owner has, and `QuotaReached`."""
    if tx.first(SAME, {"owner": owner, "url": url}) is not None:
        raise WrongState(f"{owner} has this feed already; remove it first to change what is asked of it.")
    if (tx.first(COUNT, {"owner": owner}) or 0) >= MOST_FEEDS:
        raise QuotaReached(f"{owner} has {MOST_FEEDS} feeds already; remove one first.")
    new: dict[str, Any] = dict.fromkeys(("etag", "modified", "key", "error", "looked_at"))
    new |= {"id": secrets.token_hex(8), "secret": secrets.token_hex(16), "title": "", "tries": 0, "next_at": 0.0}
    made = FeedRow(**new, owner=owner, url=url, created_at=tx.now, **told)
    tx.change(ADD, asdict(made) | {"options": Json(made.options)})
    emit(tx, SettingsChanged(what="feeds"), owner=owner)
    return made


def feeds_of(tx: Transaction, owner: str | None = None) -> list[FeedRow]:
    """The feeds of one owner, or all, the oldest first."""
    return tx.rows(OF_OWNER, {"owner": owner})


def find_feed(tx: Transaction, feed_id: str, owner: str | None) -> FeedRow:
    """One feed, if it is this owner's (or anybody's, for None); raises `NotFound`."""
    return tx.one(FIND, {"id": feed_id, "owner": owner}, f"feed {feed_id}")


def served_feed(tx: Transaction, secret: str) -> FeedRow:
    """The feed that is served under this secret; raises `NotFound`."""
    return tx.one(BY_SECRET, {"secret": secret}, "such feed")


def delete_feed(tx: Transaction, feed: FeedRow) -> list[str]:
    """Look at a feed no more; its transcriptions stay. Returns the keys of its blobs."""
    tx.change(DELETE_EPISODES, {"id": feed.id})
    tx.change(DELETE, {"id": feed.id})
    emit(tx, SettingsChanged(what="feeds"), owner=feed.owner)
    return [feed.key] if feed.key else []


def due_feed(tx: Transaction) -> FeedRow | None:
    """The feed that is to be looked at next."""
    return tx.first(DUE, {"now": tx.now})


def take_feed(tx: Transaction) -> FeedRow | None:
    """The same, for the caller alone to look at."""
    due = due_feed(tx)
    if due is not None:
        tx.change(TAKE, {"id": due.id, "until": tx.now + HELD_SECONDS})
    return due


def note_look(tx: Transaction, feed: FeedRow, wait_seconds: float) -> bool:
    """What came of a look: the fields of `feed` are kept. False if it was removed meanwhile."""
    emit(tx, SettingsChanged(what="feeds"), owner=feed.owner)
    return tx.changed(NOTE, asdict(feed) | {"looked_at": tx.now, "next_at": tx.now + wait_seconds}) == 1


def episodes_of(tx: Transaction, feed_id: str) -> list[EpisodeRow]:
    """The episodes that were taken, in order."""
    return tx.rows(EPISODES, {"id": feed_id})


def add_episode(tx: Transaction, feed_id: str, episode: EpisodeRow) -> None:
    """Note that an episode was taken."""
    tx.change(ADD_EPISODE, asdict(episode) | {"feed": feed_id})
