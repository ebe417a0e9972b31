"""Links that let anybody read one transcription, until they are revoked. Secrets are kept as hashes only."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass

from whisper_farm.errors import NotFound, QuotaReached
from whisper_farm.protocol.events import SettingsChanged
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.statements import Change, Query, columns, insert
from whisper_farm.store.tokens import digest
from whisper_farm.store.transcriptions import TranscriptionRow

MOST = 50
"""Links of one transcription."""


@dataclass(frozen=True, slots=True)
class ShareRow:
    """A link without its secret."""

    id: str
    transcription_id: str
    made_by: str
    created_at: float


SHARES = f"SELECT {columns(ShareRow)} FROM shares WHERE transcription_id = :transcription"
OF_TRANSCRIPTION = Query[ShareRow](f"{SHARES} ORDER BY created_at, id")
FIND = Query[ShareRow](f"{SHARES} AND hash = :hash")
ADD = insert("shares", ShareRow, "hash")
REVOKE = Change("DELETE FROM shares WHERE transcription_id = :transcription AND id = :id")


def share(tx: Transaction, shared: TranscriptionRow, made_by: str) -> tuple[ShareRow, str]:
    """A new link; returns it with its secret, which cannot be had again."""
    if len(shares_of(tx, shared.id)) >= MOST:
        raise QuotaReached(f"This transcription has {MOST} links, the most there may be; revoke some.")
    secret = secrets.token_urlsafe(32)
    row = ShareRow(secrets.token_hex(6), shared.id, made_by, tx.now)
    tx.change(ADD, asdict(row) | {"hash": digest(secret)})
    emit(tx, SettingsChanged(what="shares"), owner=shared.owner)
    return row, secret


def shares_of(tx: Transaction, transcription_id: str) -> list[ShareRow]:
    """The links of a transcription, oldest first."""
    return tx.rows(OF_TRANSCRIPTION, {"transcription": transcription_id})


def is_shared(tx: Transaction, transcription_id: str, secret: str) -> bool:
    """Whether this secret opens this transcription."""
    return tx.first(FIND, {"transcription": transcription_id, "hash": digest(secret)}) is not None


def revoke_share(tx: Transaction, shared: TranscriptionRow, share_id: str) -> None:
    """End a link; raises `NotFound`."""
    if not tx.changed(REVOKE, {"transcription": shared.id, "id": share_id}):
        raise NotFound(f"There is no link {share_id}.")
    emit(tx, SettingsChanged(what="shares"), owner=shared.owner)
