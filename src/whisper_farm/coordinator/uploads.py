"""Recordings on their way in: announced, sent, then named by a submission.

An upload may be submitted several times (with other options, say). It is forgotten after a while; a transcription
made of it keeps its blob.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import exists, func, insert, select, update

from whisper_farm.coordinator.keys import source_key
from whisper_farm.errors import NotFound, WrongState
from whisper_farm.protocol.client import UploadStart
from whisper_farm.store.database import Transaction
from whisper_farm.store.tables import literally, transcriptions, uploads

MAX_OPEN = 1000
"""Uploads that one owner may have announced and not sent."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One row of `uploads`. `sha256` is known when the bytes came through a coordinator."""

    id: str
    owner: str
    name: str
    size: int
    key: str
    state: str
    sha256: str | None
    created_at: float

    @property
    def source(self) -> str:
        """As a transcription names it."""
        return f"blob:{self.key}"


def announce(tx: Transaction, start: UploadStart, owner: str) -> Upload:
    """Expect a file."""
    waiting = (
        select(func.count()).select_from(uploads).where(uploads.c.owner == owner, uploads.c.state == literally("open"))
    )
    if (tx.connection.scalar(waiting) or 0) >= MAX_OPEN:
        raise WrongState(f"{MAX_OPEN} uploads are announced and not sent; send them, or wait until they are forgotten.")
    upload_id = secrets.token_hex(8)
    made = Upload(upload_id, owner, start.name, start.size, source_key(upload_id), "open", None, tx.now)
    tx.connection.execute(insert(uploads), {name: getattr(made, name) for name in Upload.__slots__})
    return made


def find_upload(tx: Transaction, upload_id: str, owner: str) -> Upload:
    """The upload of that id, if it is this owner's; raises `NotFound`."""
    row = tx.connection.execute(select(uploads).where(uploads.c.id == upload_id, uploads.c.owner == owner)).first()
    if row is None:
        raise NotFound(f"There is no upload {upload_id}; it may have been forgotten. Announce it again.")
    return Upload(*row)


def stored(tx: Transaction, upload: Upload, key: str, sha256: str | None) -> str | None:
    """Note that the file has arrived; returns the blob it replaces. What a transcription was made of stays."""
    now = find_upload(tx, upload.id, upload.owner)
    if now.state == "stored" and key != now.key and _is_used(tx, now):
        raise WrongState(f"{now.name} was submitted already; announce a new upload.")
    values = {"state": "stored", "key": key, "sha256": sha256}
    tx.connection.execute(update(uploads).where(uploads.c.id == upload.id).values(values))
    return now.key if key != now.key else None


def _is_used(tx: Transaction, upload: Upload) -> bool:
    return bool(tx.connection.scalar(select(exists().where(transcriptions.c.source == upload.source))))
