"""Recordings come in: announce a file, send its bytes; then submit it (`transcriptions.py`)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Annotated

from fastapi import Query, Request

from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.answers.files import OCTETS
from whisper_farm.coordinator.answers.openapi import IdInPath, binary
from whisper_farm.coordinator.coordinator import Coordinator, Farm
from whisper_farm.coordinator.dialect import routes_for
from whisper_farm.coordinator.layers.auth import AnyCaller
from whisper_farm.coordinator.transfers import source_key, to_upload
from whisper_farm.errors import BlobMissing, DigestMismatch, NotFound, SourceEmpty, TooLarge, WrongState
from whisper_farm.protocol.client import UploadProgress, UploadStart, UploadTarget
from whisper_farm.protocol.wire import MAX_PART_BYTES
from whisper_farm.store import uploads as rows
from whisper_farm.store.database import Transaction
from whisper_farm.store.limits import limits_in_force

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
    wanted = rows.UploadRow(upload_id, caller.owner, body.name, body.size, source_key(upload_id))
    await farm.blobs.leave_room(body.size, farm.settings.disk_reserve_bytes)

    def announced(tx: Transaction) -> rows.UploadRow:
        rows.must_have_room(tx, caller.owner, body.size, limits_in_force(tx, farm.settings).max_waiting_bytes)
        return rows.announce(tx, wanted, farm.settings.max_open_uploads)

    upload = await farm.store.write(announced)
    transfer = await to_upload(farm.blobs, upload.id, upload.key, upload.size)
    return UploadTarget(upload_id=upload.id, transfer=transfer)


@router.put(
    "/{upload_id}",
    status_code=204,
    openapi_extra=_BODY,
    responses=documented(NotFound, WrongState, DigestMismatch),
)
async def send_upload(upload_id: IdInPath, request: Request, caller: AnyCaller, farm: Farm) -> None:
    """The bytes of an announced file at once, exactly as many. After a broken try, send it again from the start."""
    upload = await farm.store.read(lambda tx: rows.find_upload(tx, upload_id, caller.owner))
    key = source_key(upload_id)
    announced = request.headers.get("Content-Length", "")
    if announced.isdigit() and int(announced) != upload.size:
        raise DigestMismatch(f"{upload.name} was announced with {upload.size} bytes; {announced} are being sent.")
    await farm.blobs.leave_room(upload.size, farm.settings.disk_reserve_bytes)
    async with farm.blobs.tentative(key):
        with farm.uploads_at_once.one_more(caller.owner):
            facts = await farm.blobs.put_stream(key, request.stream(), upload.size)
        if facts.size != upload.size:
            raise DigestMismatch(f"{upload.name} was announced with {upload.size} bytes; {facts.size} have arrived.")
        spare = await farm.store.write(lambda tx: rows.stored(tx, upload, key, facts.sha256))
    await farm.blobs.delete(spare)
    farm.log.info("an upload has arrived", action="upload", upload_id=upload_id, size=facts.size)


@router.patch("/{upload_id}", openapi_extra=_BODY, responses=documented(NotFound, WrongState))
async def append_upload(
    upload_id: IdInPath,
    request: Request,
    caller: AnyCaller,
    farm: Farm,
    offset: Annotated[int, Query(ge=0, le=1 << 44, description="Of the first byte of this part.")] = 0,
) -> UploadProgress:
    """The next part of an announced file. After a broken try, go on where the server is: a refusal says where."""
    upload, parts = await farm.store.read(
        lambda tx: (rows.find_upload(tx, upload_id, caller.owner), rows.parts_of(tx, upload_id))
    )
    if upload.state == "stored":
        return UploadProgress(received_bytes=upload.size)
    rows.must_follow(upload, parts, offset)
    most = min(MAX_PART_BYTES, upload.size - offset)
    await farm.blobs.leave_room(most, farm.settings.disk_reserve_bytes)
    with farm.uploads_at_once.one_more(caller.owner):
        key = source_key(upload_id)
        async with farm.blobs.tentative(key):
            facts = await farm.blobs.put_stream(key, request.stream(), most)
            part = rows.PartRow(key, upload_id, offset, facts.size)
            if facts.size:
                parts = await farm.store.write(lambda tx: rows.add_part(tx, upload, part))
        if not facts.size:
            await farm.blobs.delete([key])
        if offset + facts.size == upload.size:
            try:
                await _join(farm, upload, parts, facts.sha256 if facts.size == upload.size else None)
            except BlobMissing:  # who has asked again may have joined them meanwhile
                now = await farm.store.read(lambda tx: rows.find_upload(tx, upload_id, caller.owner))
                if now.state != "stored":
                    raise
    return UploadProgress(received_bytes=offset + facts.size)


@router.delete("/{upload_id}", status_code=204, responses=documented(NotFound))
async def remove_upload(upload_id: IdInPath, caller: AnyCaller, farm: Farm) -> None:
    """Forget a file that shall not be sent or submitted any more. What was made of it stays."""
    await farm.blobs.delete(await farm.store.write(lambda tx: rows.delete_upload(tx, upload_id, caller.owner)))


async def _join(farm: Coordinator, upload: rows.UploadRow, parts: Sequence[rows.PartRow], sha256: str | None) -> None:
    key = source_key(upload.id) if sha256 is None else parts[0].key
    async with farm.blobs.tentative(key):
        found = farm.blobs.joined(part.key for part in parts)
        whole = sha256 or (await farm.blobs.put_stream(key, found, upload.size)).sha256
        spare = await farm.store.write(lambda tx: rows.joined(tx, upload, key, whole))
    await farm.blobs.delete(spare)
    farm.log.info("an upload has arrived", action="upload", upload_id=upload.id, size=upload.size, parts=len(parts))
