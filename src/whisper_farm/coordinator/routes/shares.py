"""Links that let anybody read one transcription: make, list and revoke them."""

from __future__ import annotations

from whisper_farm.coordinator.answers.openapi import IdInPath, TranscriptionId
from whisper_farm.coordinator.coordinator import Farm
from whisper_farm.coordinator.dialect import routes_for
from whisper_farm.coordinator.layers.auth import AnyCaller, own
from whisper_farm.errors import NotFound
from whisper_farm.protocol.client import ShareList, ShareView
from whisper_farm.store.shares import revoke_share, share, shares_of

router = routes_for("transcriptions", "/transcriptions/{transcription_id}/shares", NotFound)


@router.post("", status_code=201)
async def create_share(transcription_id: TranscriptionId, caller: AnyCaller, farm: Farm) -> ShareView:
    """Make a link. Its secret is in this answer and nowhere else."""
    row, secret = await farm.store.write(lambda tx: share(tx, own(tx, caller, transcription_id), caller.owner))
    farm.log.info("a transcription was shared", action="shared", transcription_id=transcription_id, share_id=row.id)
    return ShareView.of(row, secret=secret)


@router.get("")
async def list_shares(transcription_id: TranscriptionId, caller: AnyCaller, farm: Farm) -> ShareList:
    """Its links, without their secrets."""
    rows = await farm.store.read(lambda tx: shares_of(tx, own(tx, caller, transcription_id).id))
    return ShareList(shares=tuple(ShareView.of(row) for row in rows))


@router.delete("/{share_id}", status_code=204)
async def delete_share(transcription_id: TranscriptionId, share_id: IdInPath, caller: AnyCaller, farm: Farm) -> None:
    """Revoke a link: it opens nothing any more, also where it was opened before."""
    await farm.store.write(lambda tx: revoke_share(tx, own(tx, caller, transcription_id), share_id))
    farm.log.info("a link was revoked", action="share_revoked", transcription_id=transcription_id, share_id=share_id)
