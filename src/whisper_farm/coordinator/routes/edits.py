"""Edits: people change a transcript, look what others have changed, undo, and name versions."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.answers.openapi import TranscriptionId
from whisper_farm.coordinator.coordinator import Farm
from whisper_farm.coordinator.dialect import routes_for
from whisper_farm.coordinator.layers.auth import AnyCaller, own
from whisper_farm.errors import BlobMissing, EditConflict, InvalidTranscript, NotFound, WrongState
from whisper_farm.protocol.edits import EditsView, NewEdit, VersionName
from whisper_farm.store.database import Transaction
from whisper_farm.store.edits import name_version

router = routes_for("edits", "/transcriptions/{transcription_id}/edits")
_LOOK = documented(NotFound, WrongState, BlobMissing, InvalidTranscript)
_CHANGE = documented(NotFound, WrongState, EditConflict, BlobMissing, InvalidTranscript)
MOST = 1_000_000


@router.get("", responses=_LOOK)
async def get_edits(
    transcription_id: TranscriptionId,
    caller: AnyCaller,
    farm: Farm,
    after: Annotated[int | None, Query(ge=0, le=MOST, description="The number of the text that one has.")] = None,
) -> EditsView:
    """The number of the newest edit, and how the text has changed since `after` if that is given."""
    row = await farm.store.read(lambda tx: own(tx, caller, transcription_id))
    return await farm.texts.since(row, caller, after)


@router.post("", status_code=201, responses=_CHANGE)
async def edit(transcription_id: TranscriptionId, body: NewEdit, caller: AnyCaller, farm: Farm) -> EditsView:
    """Change the transcript; answers how the text has changed since `based_on`, by this edit and by others."""
    row = await farm.store.read(lambda tx: own(tx, caller, transcription_id))
    return await farm.texts.edit(row, caller, body)


@router.put("/{number}/name", status_code=204, responses=documented(NotFound))
async def name_edit(
    transcription_id: TranscriptionId,
    number: Annotated[int, Path(ge=1, le=MOST)],
    body: VersionName,
    caller: AnyCaller,
    farm: Farm,
) -> None:
    """Name the text as it was at this number, or take the name away."""

    def change(tx: Transaction) -> None:
        name_version(tx, own(tx, caller, transcription_id), number, body.name)

    await farm.store.write(change)
