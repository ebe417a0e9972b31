"""Uploads: files that clients announce, send, and then name in a submission.

One upload may be submitted several times, with other options for example. Old uploads are forgotten; a
transcription that was made of one keeps its blob.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from whisper_farm.errors import QuotaReached, WrongState
from whisper_farm.store.database import Transaction
from whisper_farm.store.statements import Change, Query, columns, insert

MOST_PARTS = 1000
"""Of one upload: each is a row and a blob, and all are looked at when the next one comes. Large ones may have more."""
PART_BYTES = 8 << 20
"""What our clients send at once. Of a large upload there may be twice as many."""


@dataclass(frozen=True, slots=True)
class UploadRow:
    """One row of `uploads`. `sha256` is known when the bytes came through a coordinator."""

    id: str
    owner: str
    name: str
    size: int
    key: str
    state: Literal["open", "stored"] = "open"
    sha256: str | None = None
    last_used_at: float = 0
    """When it was announced, or its last part came."""

    @property
    def source(self) -> str:
        """The upload as a transcription names it."""
        return f"blob:{self.key}"


@dataclass(frozen=True, slots=True)
class PartRow:
    """A stretch of an upload that has arrived."""

    key: str
    upload_id: str
    first: int
    size: int


PARTS = Query[PartRow](f"SELECT {columns(PartRow)} FROM upload_parts WHERE upload_id = :id ORDER BY first")
ADD_PART = insert("upload_parts", PartRow)
FORGET_PARTS = Change("DELETE FROM upload_parts WHERE upload_id = :id")
COUNT_OPEN = Query[int]("SELECT count(*) AS uploads FROM uploads WHERE owner = :owner AND state = 'open'")
WAITING_BYTES = Query[int](
    "SELECT CAST(coalesce(sum(size), 0) AS BIGINT) AS bytes FROM uploads WHERE owner = :owner"
    " AND NOT EXISTS (SELECT 1 FROM transcriptions WHERE source = 'blob:' || uploads.key)"
)
INSERT = insert("uploads", UploadRow)
FIND = Query[UploadRow](f"SELECT {columns(UploadRow)} FROM uploads WHERE id = :id AND owner = :owner")
IS_USED = Query[bool]("SELECT EXISTS (SELECT 1 FROM transcriptions WHERE source = :source) AS used")
STORED = Change("UPDATE uploads SET state = 'stored', key = :key, sha256 = :sha256 WHERE id = :id")
FORGET = Change("DELETE FROM uploads WHERE last_used_at < :before")
TOUCH = Change("UPDATE uploads SET last_used_at = :now WHERE id = :id")
FORGET_ONE = Change("DELETE FROM uploads WHERE id = :id AND owner = :owner")


def announce(tx: Transaction, upload: UploadRow, most_open: int = 1000) -> UploadRow:
    """Expect this file, whose bytes are to come; raises `QuotaReached` past `most_open` of them."""
    if (tx.first(COUNT_OPEN, {"owner": upload.owner}) or 0) >= most_open:
        raise QuotaReached(
            f"{most_open} uploads are announced and not sent; send them, or wait until they are forgotten."
        )
    made = replace(upload, last_used_at=tx.now)
    tx.change(INSERT, asdict(made))
    return made


def must_have_room(tx: Transaction, owner: str, size: int, most: int) -> None:
    """Raise `QuotaReached` where what this owner has not submitted, and so many bytes more, are too many."""
    if (tx.first(WAITING_BYTES, {"owner": owner}) or 0) + size > most:
        raise QuotaReached(f"Your uploads that are not submitted may have {most} bytes; submit or delete some.")


def find_upload(tx: Transaction, upload_id: str, owner: str) -> UploadRow:
    """The upload of that id, if it is this owner's; raises `NotFound`."""
    wanted = f"upload {upload_id}; it may have been forgotten. Announce it again"
    return tx.one(FIND, {"id": upload_id, "owner": owner}, wanted)


def parts_of(tx: Transaction, upload_id: str) -> list[PartRow]:
    """What has arrived of an upload, in order and without holes."""
    return tx.rows(PARTS, {"id": upload_id})


def add_part(tx: Transaction, upload: UploadRow, part: PartRow) -> list[PartRow]:
    """Note that another part has arrived; raises `WrongState` unless it follows what is there. Returns all of them."""
    before = parts_of(tx, find_upload(tx, upload.id, upload.owner).id)
    must_follow(upload, before, part.first)
    tx.change(ADD_PART, asdict(part))
    tx.change(TOUCH, {"id": upload.id})
    return [*before, part]


def must_follow(upload: UploadRow, parts: Sequence[PartRow], offset: int) -> None:
    """Raise `WrongState`, which says how far it is, unless it goes on there; `QuotaReached` after too many parts."""
    if len(parts) >= (most := max(MOST_PARTS, 2 * upload.size // PART_BYTES)):
        raise QuotaReached(f"This upload has come in {most} parts; announce it anew, and send larger ones.")
    received = sum(part.size for part in parts)
    if offset != received:
        raise WrongState(f"{received} bytes have arrived; go on there, not at {offset}.", received_bytes=received)


def stored(tx: Transaction, upload: UploadRow, key: str, sha256: str | None) -> list[str]:
    """Note that the file has arrived; returns the keys of the blobs that nobody needs any more.

    The blob of an upload that was submitted is never replaced: that raises `WrongState`.
    """
    now = find_upload(tx, upload.id, upload.owner)
    if now.state == "stored" and key != now.key and tx.first(IS_USED, {"source": now.source}):
        raise WrongState(f"{now.name} was submitted already; announce a new upload.")
    before = {now.key, *(part.key for part in parts_of(tx, upload.id))}
    tx.change(FORGET_PARTS, {"id": upload.id})
    tx.change(STORED, {"id": upload.id, "key": key, "sha256": sha256})
    return sorted(before - {key})


def joined(tx: Transaction, upload: UploadRow, key: str, sha256: str) -> list[str]:
    """Note that the parts have become one file, as `stored` does. Of two who make one of them, the second is late."""
    if find_upload(tx, upload.id, upload.owner).state == "stored":
        return [key]
    return stored(tx, upload, key, sha256)


def forget_uploads(tx: Transaction, before: float) -> int:
    """Forget uploads of which nothing came since that time; returns how many. Their blobs are left to the sweeper."""
    return tx.changed(FORGET, {"before": before})


def delete_upload(tx: Transaction, upload_id: str, owner: str) -> list[str]:
    """Forget an upload for who wants to send it no more; returns the keys of its blobs, unless it was submitted."""
    found = find_upload(tx, upload_id, owner)
    keys = [part.key for part in parts_of(tx, upload_id)]
    used = tx.first(IS_USED, {"source": found.source})
    tx.change(FORGET_PARTS, {"id": upload_id})
    forget_upload(tx, upload_id, owner)
    return keys if used else [found.key, *keys]


def forget_upload(tx: Transaction, upload_id: str, owner: str) -> None:
    """Forget one upload, which nobody has submitted. Its blob is left to the caller."""
    tx.change(FORGET_ONE, {"id": upload_id, "owner": owner})
