"""Recordings come in: announce a file, send its bytes; then submit it (`transcriptions.py`)."""

from __future__ import annotations

import secrets

from fastapi import Request

from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.answers.files import OCTETS
from whisper_farm.coordinator.answers.openapi import UploadId, binary
from whisper_farm.coordinator.coordinator import Farm
from whisper_farm.coordinator.dialect import routes_for
from whisper_farm.coordinator.layers.auth import AnyCaller
from whisper_farm.coordinator.transfers import source_key
from whisper_farm.errors import DigestMismatch, FarmError, NotFound, SourceEmpty, TooLarge, WrongState
from whisper_farm.protocol.client import UploadStart, UploadTarget
from whisper_farm.store.uploads import announce, find_upload, stored

router = routes_for("uploads", "/uploads")
_BODY = {"requestBody": {"required": True, **binary(OCTETS)}}


@router.post("", status_code=201, responses=documented(SourceEmpty, WrongState))
async def start_upload(body: UploadStart, caller: AnyCaller, farm: Farm) -> UploadTarget:
    """Announce a file; the answer says where its bytes go."""
    if body.size == 0:
        raise SourceEmpty(f"{body.name} is empty.")
    if body.size > farm.settings.max_upload_bytes:
        raise TooLarge(f"{body.name} has {body.size} bytes; this server takes {farm.settings.max_upload_bytes}.")
    upload_id = secrets.token_hex(8)
    key = source_key(upload_id)
    most = farm.settings.max_open_uploads
    upload = await farm.store.write(lambda tx: announce(tx, upload_id, key, body.name, body.size, caller.owner, most))
    return UploadTarget(
        upload_id=upload.id, transfer=await farm.transfers.source_upload(upload.id, upload.key, upload.size)
    )


@router.put(
    "/{upload_id}",
    status_code=204,
    openapi_extra=_BODY,
    responses=documented(NotFound, WrongState, DigestMismatch),
)
async def send_upload(upload_id: UploadId, request: Request, caller: AnyCaller, farm: Farm) -> None:
    """The bytes of an announced file, exactly as many. After a broken try, send it again from the start."""
    upload = await farm.store.read(lambda tx: find_upload(tx, upload_id, caller.owner))
    key = source_key(upload_id)
    announced = request.headers.get("Content-Length", "")
    if announced.isdigit() and int(announced) != upload.size:
        raise DigestMismatch(f"{upload.name} was announced with {upload.size} bytes; {announced} are being sent.")
    with farm.uploads_at_once.one_more(caller.owner):
        facts = await farm.blobs.put_stream(key, request.stream(), upload.size)
    if facts.size != upload.size:
        await farm.blobs.delete([key])
        raise DigestMismatch(f"{upload.name} was announced with {upload.size} bytes; {facts.size} have arrived.")
    try:
        replaced = await farm.store.write(lambda tx: stored(tx, upload, key, facts.sha256))
    except FarmError:
        await farm.blobs.delete([key])
        raise
    if replaced is not None:
        await farm.blobs.delete([replaced])
    farm.log.info("an upload has arrived", action="upload", upload_id=upload_id, size=facts.size)
