"""Transcriptions: submit, look, cancel, retry, delete, and take the text. A user sees the own ones, an admin all."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import IO, Annotated, Any
from urllib.parse import quote
from zipfile import ZIP_DEFLATED, ZipFile

from fastapi import Depends, Query, Request, Response
from pydantic import AfterValidator, WithJsonSchema

from whisper_farm import errors
from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.answers.files import serve_blob, serve_made
from whisper_farm.coordinator.answers.openapi import CURSOR, IdInPath, PageSize, TranscriptionId, files, ranges
from whisper_farm.coordinator.coordinator import Coordinator, Farm
from whisper_farm.coordinator.dialect import routes_for
from whisper_farm.coordinator.layers.auth import AnyCaller, Caller, own
from whisper_farm.coordinator.submissions import must_have_room, take_submission
from whisper_farm.coordinator.transcripts import segment_page, transcript_key_of
from whisper_farm.coordinator.views import job_list, transcription_list, transcription_view
from whisper_farm.leases import transcriptions
from whisper_farm.protocol.client import (
    Batch,
    BatchView,
    JobList,
    ListOrder,
    SegmentPage,
    Submission,
    Submitted,
    TranscriptionChange,
    TranscriptionList,
    TranscriptionState,
    TranscriptionView,
)
from whisper_farm.protocol.wire import ErrorDetail, Id
from whisper_farm.store.database import Transaction
from whisper_farm.store.edits import is_edited
from whisper_farm.store.jobs import PlayableRow, playable
from whisper_farm.store.machines import cost_of
from whisper_farm.store.transcriptions import TranscriptionRow, Wanted, rename
from whisper_farm.to_the_end import to_the_end
from whisper_farm.transcript.cues import CueLayout
from whisper_farm.transcript.document import TranscriptDocument
from whisper_farm.transcript.formats import FORMATS, known_format
from whisper_farm.transcript.saving import split_name, stems_for

COPY_MEDIA_TYPE = "audio/mp4"
MOST_FILE_NAME_BYTES = 255
"""What file systems take."""
MOST_PACKED = 100
ZIP = "application/zip"
STORED = FORMATS["json"]
"""The format in which a transcript is stored: its file is served as it is."""
FormatName = Annotated[str, AfterValidator(known_format), WithJsonSchema({"type": "string", "enum": list(FORMATS)})]
router = routes_for("transcriptions", "/transcriptions")
_SOURCE = (errors.DigestMismatch, errors.SourceMissing, errors.SourceUnreadable, errors.SourceEmpty)
_SUBMIT = documented(errors.NotFound, errors.WrongState, *_SOURCE, errors.OptionUnsupported, errors.AddressRefused)
_ONE = documented(errors.NotFound)
_CHANGE = documented(errors.NotFound, errors.WrongState)


@router.post(
    "",
    status_code=201,
    responses={**_SUBMIT, 200: {"model": TranscriptionView, "description": "It is there already (same key)."}},
)
async def submit(body: Submission, caller: AnyCaller, farm: Farm, response: Response) -> TranscriptionView:
    """Ask for the transcription of an uploaded file. The same key again answers with the one that is there."""
    view, is_new = await _submit(farm, body, caller)
    if not is_new:
        response.status_code = 200
    return view


@router.post("/batch")
async def submit_batch(body: Batch, caller: AnyCaller, farm: Farm) -> BatchView:
    """Ask for several transcriptions. Each is taken or refused by itself, and answered in its place.

    Also what the storage refuses, so that nobody has to guess which ones were taken. A malformed one refuses them all.
    """
    answers = []
    for one in body.submissions:
        try:
            answers.append(Submitted(transcription=(await _submit(farm, one, caller))[0]))
        except errors.FarmError as error:
            answers.append(Submitted(error=ErrorDetail.of(error)))
    return BatchView(submissions=answers)


async def _submit(farm: Coordinator, body: Submission, caller: Caller) -> tuple[TranscriptionView, bool]:
    if caller.scope != "admin" and body.priority > farm.settings.max_user_priority:
        raise errors.Forbidden(f"Users may ask for a priority of {farm.settings.max_user_priority} at most.")
    made, is_new = await take_submission(farm, body, caller, strict=True)
    view = await farm.store.read(lambda tx: transcription_view(tx, made, farm.policy))
    farm.log.info("submitted", action="submit", transcription_id=view.id, owner=view.owner, new=is_new)
    return view, is_new


@router.get("")
async def list_transcriptions(
    caller: AnyCaller,
    farm: Farm,
    state: Annotated[list[TranscriptionState], Query(max_length=8, description="Only those in one of these.")] = [],  # noqa: B006
    title: Annotated[str, Query(max_length=200, description="Only those with these words in their name.")] = "",
    order: Annotated[ListOrder, Query(description="By time, name or length.")] = "newest",
    feed: Annotated[Id | None, Query(description="Only episodes of this feed.")] = None,
    after: Annotated[str | None, Query(pattern=CURSOR, description="`next` of the page before.")] = None,
    limit: PageSize = 100,
) -> TranscriptionList:
    """A page of transcriptions, the newest first unless `order` says otherwise."""
    wanted = Wanted(caller.sees, state, title, order, feed)
    return await farm.store.read(lambda tx: transcription_list(tx, farm.policy, wanted, after, limit))


@router.get("/{transcription_id}", responses=_ONE)
async def get_transcription(transcription_id: TranscriptionId, caller: AnyCaller, farm: Farm) -> TranscriptionView:
    """A transcription: state, progress, gaps, what it cost, and a warning when nobody can serve it."""

    def view(tx: Transaction) -> TranscriptionView:
        found = transcription_view(tx, own(tx, caller, transcription_id).id, farm.policy)
        return found.model_copy(update={"cost": cost_of(tx, transcription_id)})

    return await farm.store.read(view)


@router.patch("/{transcription_id}", responses=_ONE)
async def change_transcription(
    transcription_id: TranscriptionId, body: TranscriptionChange, caller: AnyCaller, farm: Farm
) -> TranscriptionView:
    """Rename a transcription."""

    def change(tx: Transaction) -> TranscriptionView:
        rename(tx, own(tx, caller, transcription_id), body.name)
        return transcription_view(tx, transcription_id, farm.policy)

    return await farm.store.write(change)


@router.post("/{transcription_id}/cancel", responses=_CHANGE)
async def cancel(transcription_id: TranscriptionId, caller: AnyCaller, farm: Farm) -> TranscriptionView:
    """Stop a transcription. Recognisers at work on it learn it with their next heartbeat."""
    return await _change(transcription_id, caller, farm, transcriptions.cancel)


@router.post("/{transcription_id}/retry", responses=_CHANGE)
async def retry(transcription_id: TranscriptionId, caller: AnyCaller, farm: Farm) -> TranscriptionView:
    """Try again what failed or was cancelled, or a listening copy that failed; what is done is kept."""
    return await _retry(transcription_id, None, caller, farm)


@router.post("/{transcription_id}/jobs/{job_id}/retry", responses=_CHANGE)
async def retry_job(
    transcription_id: TranscriptionId, job_id: IdInPath, caller: AnyCaller, farm: Farm
) -> TranscriptionView:
    """Try one job again that was set aside; the others stay as they are. A listening copy may be of what is done."""
    return await _retry(transcription_id, job_id, caller, farm)


async def _retry(transcription_id: str, job_id: str | None, caller: Caller, farm: Coordinator) -> TranscriptionView:
    def again(tx: Transaction, one: str) -> None:
        must_have_room(tx, farm, caller, stores=False)
        transcriptions.retry(tx, one, job_id)

    return await _change(transcription_id, caller, farm, again)


async def _change(
    transcription_id: str, caller: Caller, farm: Coordinator, change: Callable[[Transaction, str], object]
) -> TranscriptionView:
    def changed(tx: Transaction) -> TranscriptionView:
        change(tx, own(tx, caller, transcription_id).id)
        return transcription_view(tx, transcription_id, farm.policy)

    return await farm.store.write(changed)


@router.delete("/{transcription_id}", status_code=204, responses=_CHANGE)
async def delete(transcription_id: TranscriptionId, caller: AnyCaller, farm: Farm) -> None:
    """Delete a finished transcription with its audio and its transcript."""

    keys = await farm.store.write(lambda tx: transcriptions.delete(tx, own(tx, caller, transcription_id).id))
    await farm.blobs.delete(keys)


@router.get("/{transcription_id}/jobs", responses=_ONE)
async def list_jobs(
    transcription_id: TranscriptionId,
    caller: AnyCaller,
    farm: Farm,
    after: Annotated[int | None, Query(ge=0, le=1_000_000, description="`next` of the page before.")] = None,
    limit: PageSize = 100,
) -> JobList:
    """A page of its jobs, each with the evidence of every attempt."""
    return await farm.store.read(lambda tx: job_list(tx, own(tx, caller, transcription_id).id, after, limit))


@router.get("/{transcription_id}/segments", responses=_ONE)
async def list_segments(
    transcription_id: TranscriptionId,
    caller: AnyCaller,
    farm: Farm,
    after: Annotated[int, Query(ge=-1, le=1_000_000, description="`next` of the page before; -1 to begin.")] = -1,
) -> SegmentPage:
    """What was said so far, in order: the finished chunks that follow `after` without a hole."""
    await farm.store.read(lambda tx: own(tx, caller, transcription_id))
    async with farm.one_page.of(caller.owner):  # of a text that was edited twenty thousand times it takes a second
        return await segment_page(farm.store, farm.blobs, transcription_id, after)


@router.get(
    "/{transcription_id}/transcript",
    response_class=Response,
    responses={
        **documented(errors.NotFound, errors.WrongState, errors.BlobMissing, errors.InvalidTranscript),
        **ranges(STORED.media_type),
        200: {
            "description": "The file; as `json` a `TranscriptDocument`.",
            "model": TranscriptDocument | dict[str, Any],
            "content": files([each.media_type for each in FORMATS.values() if each.media_type != STORED.media_type]),
        },
    },
)
async def get_transcript(
    transcription_id: TranscriptionId,
    request: Request,
    caller: AnyCaller,
    farm: Farm,
    layout: Annotated[CueLayout, Depends(CueLayout)],
    format: Annotated[FormatName, Query(description="Of the file.")] = STORED.name,
    at: Annotated[int | None, Query(ge=0, le=1_000_000, description="The last edit that counts; 0 for none.")] = None,
    struck: Annotated[bool, Query(description="Leave in what is struck out, marked as such (json).")] = False,
) -> Response:
    """The transcript as a file, with its edits. There is one as soon as it is `done` or `incomplete`."""
    if caller.reads is not None:  # a link shows the text as it is now, without what was taken out
        at, struck = None, False

    def look(tx: Transaction) -> tuple[TranscriptionRow, bool]:
        row = own(tx, caller, transcription_id)
        return row, at != 0 and is_edited(tx, row.id)

    row, edited = await farm.store.read(look)
    key, wanted = transcript_key_of(row), FORMATS[format].laid_out(layout)
    if wanted is STORED and not edited:
        await farm.renderer.check(row)
        answer = await serve_blob(request, farm.blobs, key, row.transcript_size or 0, STORED.media_type)
    else:
        content = await farm.renderer.file(row, wanted, at, struck and wanted is STORED)
        answer = Response(content, media_type=wanted.media_type)
    answer.headers["Content-Disposition"] = _attachment(row.name, wanted.extension)
    return answer


@router.get(
    "/{transcription_id}/transcripts",
    response_class=Response,
    responses={
        **documented(errors.NotFound, errors.WrongState, errors.BlobMissing, errors.InvalidTranscript),
        200: {"content": {ZIP: {}}},
    },
)
async def get_transcripts(
    transcription_id: TranscriptionId,
    request: Request,
    caller: AnyCaller,
    farm: Farm,
    layout: Annotated[CueLayout, Depends(CueLayout)],
    format: Annotated[list[FormatName], Query(max_length=50, description="Of the files; all by default.")] = [*FORMATS],  # noqa: B006
    also: Annotated[list[Id], Query(max_length=MOST_PACKED, description="Other transcriptions that go in.")] = [],  # noqa: B006
) -> Response:
    """The transcript in several formats, with its edits, as one ZIP file; also those of others."""
    ids = dict.fromkeys([transcription_id, *also])
    rows = await farm.store.read(lambda tx: [own(tx, caller, each) for each in ids])
    for row in rows:
        transcript_key_of(row)
    wanted = [FORMATS[name].laid_out(layout) for name in dict.fromkeys(format)]

    async def pack(file: IO[bytes]) -> None:
        with ZipFile(file, "w", ZIP_DEFLATED) as archive:
            for row, stem in zip(rows, stems_for([_base(row.name) for row in rows]), strict=True):
                for one in wanted:
                    content = await farm.renderer.file(row, one)
                    await to_the_end(asyncio.to_thread(archive.writestr, f"{stem}.{one.extension}", content))

    answer = await serve_made(request, pack, ZIP)
    answer.headers["Content-Disposition"] = _attachment(rows[0].name if len(rows) == 1 else "transcripts", "zip")
    return answer


@router.get(
    "/{transcription_id}/audio",
    response_class=Response,
    responses={**documented(errors.NotFound, errors.NotMade, errors.BlobMissing), **ranges(COPY_MEDIA_TYPE)},
)
@router.head("/{transcription_id}/audio", response_class=Response, include_in_schema=False)
async def get_audio(transcription_id: TranscriptionId, request: Request, caller: AnyCaller, farm: Farm) -> Response:
    """The listening copy of the recording, AAC in MP4, once it is made. Answers `Range`."""
    made = await farm.store.read(lambda tx: _playable(tx, caller, transcription_id))
    return await serve_blob(request, farm.blobs, made.audio_key, made.audio_size, COPY_MEDIA_TYPE)


@router.get(
    "/{transcription_id}/peaks",
    response_class=Response,
    responses={**documented(errors.NotFound, errors.NotMade, errors.BlobMissing), **ranges("application/json")},
)
async def get_peaks(transcription_id: TranscriptionId, request: Request, caller: AnyCaller, farm: Farm) -> Response:
    """The waveform: lowest and highest values in turn, of stretches of equal length, once they are made."""
    made = await farm.store.read(lambda tx: _playable(tx, caller, transcription_id))
    return await serve_blob(request, farm.blobs, made.result_key, made.result_size, "application/json")


def _playable(tx: Transaction, caller: Caller, transcription_id: str) -> PlayableRow:
    row = own(tx, caller, transcription_id)
    made = playable(tx, row.id)
    if made is None:
        raise errors.NotMade(f"There is no listening copy of {row.name} yet.")
    return made


def _base(name: str) -> str:
    """The last part of a name, as every system takes it, with room for a number and an extension."""
    last = re.sub(r'[<>:"|?*\x00-\x1f]', "_", re.split(r"[\\/]", name)[-1]) or "transcript"
    return last.encode()[: MOST_FILE_NAME_BYTES - 30].decode(errors="ignore")


def _file_name(name: str, extension: str) -> str:
    return f"{split_name(_base(name))[0]}.{extension}"


def _attachment(name: str, extension: str) -> str:
    """The header that names the file, in ASCII for old programs and in UTF-8 (RFC 6266) for the others."""
    file = _file_name(name, extension)
    plain = "".join(
        letter if letter.isascii() and letter.isprintable() and letter not in '"\\' else "_" for letter in file
    )
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file, safe='')}"
