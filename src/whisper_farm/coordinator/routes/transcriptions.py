"""Transcriptions: submit, look, cancel, retry, delete, and take the text. A user sees the own ones, an admin all."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response, Security

from whisper_farm.coordinator.answers.errors import ALWAYS, documented
from whisper_farm.coordinator.coordinator import Farm
from whisper_farm.coordinator.layers.auth import Caller, User, bearer
from whisper_farm.coordinator.routes.parameters import CURSOR, PageSize, TranscriptionId
from whisper_farm.coordinator.transcripts import segment_page
from whisper_farm.coordinator.views import job_list, transcription_list, transcription_view
from whisper_farm.errors import (
    DigestMismatch,
    NotFound,
    OptionUnsupported,
    SourceEmpty,
    SourceMissing,
    SourceUnreadable,
    WrongState,
)
from whisper_farm.leases import transcriptions
from whisper_farm.protocol.client import (
    JobList,
    SegmentPage,
    Submission,
    TranscriptionList,
    TranscriptionState,
    TranscriptionView,
)
from whisper_farm.store.database import Transaction
from whisper_farm.store.transcriptions import TranscriptionRow, find

router = APIRouter(
    prefix="/api/transcriptions",
    tags=["transcriptions"],
    dependencies=[Security(bearer)],
    responses=documented(*ALWAYS),
)
_SOURCE = (DigestMismatch, SourceMissing, SourceUnreadable, SourceEmpty)
_SUBMIT = documented(*ALWAYS, NotFound, WrongState, *_SOURCE, OptionUnsupported)
_ONE = documented(*ALWAYS, NotFound)
_CHANGE = documented(*ALWAYS, NotFound, WrongState)


def own(tx: Transaction, caller: Caller, transcription_id: str) -> TranscriptionRow:
    """The transcription, if this caller may know of it; somebody else's is as little there as none."""
    row = find(tx, transcription_id)
    if caller.sees not in (None, row.owner):
        raise NotFound(f"There is no transcription {transcription_id}.")
    return row


@router.post(
    "",
    status_code=201,
    responses={**_SUBMIT, 200: {"model": TranscriptionView, "description": "It is there already (same key)."}},
)
async def submit(body: Submission, caller: User, farm: Farm, response: Response) -> TranscriptionView:
    """Ask for the transcription of an uploaded file. The same key again answers with the one that is there."""
    made, is_new = await farm.submissions.take(body, caller)
    if not is_new:
        response.status_code = 200
    await farm.waiting.served()  # the worker that gets it first, then the description of what it got
    view = await farm.store.read(lambda tx: transcription_view(tx, made, farm.policy))
    farm.log.info("submitted", action="submit", transcription_id=view.id, owner=view.owner, new=is_new)
    return view


@router.get("")
async def list_transcriptions(
    caller: User,
    farm: Farm,
    state: Annotated[TranscriptionState | None, Query(description="Only those in this state.")] = None,
    after: Annotated[str | None, Query(pattern=CURSOR, description="`next` of the page before.")] = None,
    limit: PageSize = 100,
) -> TranscriptionList:
    """A page of transcriptions, the newest first."""
    return await farm.store.read(
        lambda tx: transcription_list(tx, farm.policy, owner=caller.sees, after=after, limit=limit, state=state)
    )


@router.get("/{transcription_id}", responses=_ONE)
async def get_transcription(transcription_id: TranscriptionId, caller: User, farm: Farm) -> TranscriptionView:
    """A transcription: state, progress, gaps, and a warning when nobody can serve it."""

    def view(tx: Transaction) -> TranscriptionView:
        own(tx, caller, transcription_id)
        return transcription_view(tx, transcription_id, farm.policy)

    return await farm.store.read(view)


@router.post("/{transcription_id}/cancel", responses=_CHANGE)
async def cancel(transcription_id: TranscriptionId, caller: User, farm: Farm) -> TranscriptionView:
    """Stop a transcription. Recognisers at work on it learn it with their next heartbeat."""

    def change(tx: Transaction) -> TranscriptionView:
        own(tx, caller, transcription_id)
        transcriptions.cancel(tx, transcription_id)
        return transcription_view(tx, transcription_id, farm.policy)

    return await farm.store.write(change)


@router.post("/{transcription_id}/retry", responses=_CHANGE)
async def retry(transcription_id: TranscriptionId, caller: User, farm: Farm) -> TranscriptionView:
    """Try again what failed or was cancelled; what is done is kept."""

    def change(tx: Transaction) -> TranscriptionView:
        own(tx, caller, transcription_id)
        transcriptions.retry(tx, transcription_id)
        return transcription_view(tx, transcription_id, farm.policy)

    return await farm.store.write(change)


@router.delete("/{transcription_id}", status_code=204, responses=_CHANGE)
async def delete(transcription_id: TranscriptionId, caller: User, farm: Farm) -> None:
    """Delete a finished transcription with its audio and its transcript."""

    def change(tx: Transaction) -> list[str]:
        own(tx, caller, transcription_id)
        return transcriptions.delete(tx, transcription_id)

    await farm.blobs.delete(await farm.store.write(change))


@router.get("/{transcription_id}/jobs", responses=_ONE)
async def list_jobs(
    transcription_id: TranscriptionId,
    caller: User,
    farm: Farm,
    after: Annotated[int | None, Query(ge=0, le=1_000_000, description="`next` of the page before.")] = None,
    limit: PageSize = 100,
) -> JobList:
    """A page of its jobs, each with the evidence of every attempt."""

    def view(tx: Transaction) -> JobList:
        own(tx, caller, transcription_id)
        return job_list(tx, transcription_id, after, limit)

    return await farm.store.read(view)


@router.get("/{transcription_id}/segments", responses=_ONE)
async def list_segments(
    transcription_id: TranscriptionId,
    caller: User,
    farm: Farm,
    after: Annotated[int, Query(ge=-1, le=1_000_000, description="`next` of the page before; -1 to begin.")] = -1,
) -> SegmentPage:
    """What was said so far, in order: the finished chunks that follow `after` without a hole."""
    await farm.store.read(lambda tx: own(tx, caller, transcription_id))
    return await segment_page(farm.store, farm.blobs, transcription_id, after)
