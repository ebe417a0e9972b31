"""Upload, submit and wait in one call: for dialects whose clients know no jobs.

The same recording with the same options, sent again by the same owner, joins the transcription that is there: clients
that gave up waiting send everything anew. What failed in a way that may pass is tried again then. A client that goes
away stops nothing. Every wait has an end; the transcription goes on, and the same upload asks for it again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Annotated, Any

from fastapi import Request, Response
from pydantic import BeforeValidator
from starlette.responses import StreamingResponse

from whisper_farm import errors
from whisper_farm.coordinator.coordinator import Coordinator
from whisper_farm.coordinator.event_log import Filter, Idle
from whisper_farm.coordinator.form import SentFile, checked
from whisper_farm.coordinator.layers.auth import Caller
from whisper_farm.coordinator.layers.log import BrokenOff
from whisper_farm.coordinator.submissions import must_have_room, take_submission
from whisper_farm.coordinator.transcripts import MAX_RESULT_BYTES, segment_page
from whisper_farm.leases.transcriptions import cancel, delete, results_of, retry
from whisper_farm.protocol.client import FINISHED, Submission
from whisper_farm.protocol.jobs import TranscribeResult
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import newest_event
from whisper_farm.store.transcriptions import TranscriptionRow, find
from whisper_farm.store.uploads import UploadRow, announce, forget_upload, stored
from whisper_farm.transcript.formats import OutputFormat
from whisper_farm.transcript.languages import code_of
from whisper_farm.transcript.options import MOST_HINT, RecognitionOptions

WAIT_SECONDS = 6 * 3600.0
"""Longest wait for a transcription."""
LOOK_SECONDS = 5.0
"""How often it is looked whether the client is still there."""
JSON = "application/json"
SILENT_SECONDS = 30.0
"""After so long an answer begins, if it can: proxies and clients give up on silence."""
ID_HEADER = "Whisper-Farm-Transcription"
"""Names the transcription in every answer; `/api/transcriptions/ID` tells more of it."""

MAY_FAIL: tuple[type[errors.FarmError], ...] = (
    *(errors.WrongState, errors.SourceEmpty, errors.NotAudio, errors.NoAudioTrack),
    *(errors.OptionUnsupported, errors.ModelUnavailable, errors.EngineError),
)
"""What may go wrong between an upload and its transcript."""
FIRST_OF_ALL = 100
"""The highest priority that there is."""
MOST_ASKED = 8
"""Results that are read to learn how sure a language is."""
MISSING_HEADER = "Whisper-Farm-Missing-Seconds"
SpokenLanguage = Annotated[str | None, BeforeValidator(lambda name: code_of(str(name)[:100]))]
"""A code or an English name, given as text."""
Prompt = Annotated[str | None, BeforeValidator(lambda text: str(text).replace("\0", "")[-MOST_HINT:])]
"""Of a longer one the end counts."""


async def submit_file(farm: Coordinator, caller: Caller, sent: SentFile, options: RecognitionOptions) -> str:
    """The id of the transcription of this file: a new one, or the one that is there."""
    return await _submit(farm, caller, sent, options, {"key": _key(sent, options)})


async def _submit(
    farm: Coordinator, caller: Caller, sent: SentFile, options: RecognitionOptions, more: dict[str, Any]
) -> str:
    try:
        submission = Submission(name=sent.name, upload_id=sent.upload_id, options=options, **more)
        await farm.store.write(lambda tx: _take_in(tx, sent, caller.owner))
        made, is_new = await take_submission(farm, submission, caller)
    except errors.StorageError:  # the transcription may be there all the same; what nobody needs is swept
        raise
    except errors.FarmError:
        await _drop(farm, sent, caller.owner)
        raise
    if not is_new:
        await _drop(farm, sent, caller.owner)
        await farm.store.write(lambda tx: _try_again(tx, farm, caller, made))
    farm.log.info("submitted", action="submit", transcription_id=made, owner=caller.owner, new=is_new)
    return made


async def language_of(
    farm: Coordinator, caller: Caller, sent: SentFile, options: RecognitionOptions, request: Request
) -> tuple[str, float] | None:
    """The language of a recording, and how sure that is; None where nobody speaks.

    It is transcribed before all others until its language is decided, and then forgotten.
    """
    made = await _submit(farm, caller, sent, options, {"priority": FIRST_OF_ALL, "peaks": False})
    try:
        async with aclosing(changes(farm, made)) as rows:
            async for row in rows:
                if row.language is not None:
                    return row.language, await _probability(farm, row)
                if row.state in FINISHED:
                    with_transcript(row)
                    return None
                if await request.is_disconnected():
                    break
    finally:
        await asyncio.shield(_forget(farm, made))
    raise errors.ServerBusy("Nobody waits for the answer any more.")


async def _probability(farm: Coordinator, row: TranscriptionRow) -> float:
    """The largest that a recogniser gave for this language."""
    chunks = await farm.store.read(lambda tx: results_of(tx, row.id))
    keys = [chunk.result_key for chunk in chunks if chunk.result_key is not None][:MOST_ASKED]
    results = [TranscribeResult.model_validate_json(await farm.blobs.get(key, MAX_RESULT_BYTES)) for key in keys]
    return max((each.language_probability for each in results if each.language == row.language), default=0.0)


async def _forget(farm: Coordinator, transcription_id: str) -> None:
    def change(tx: Transaction) -> list[str]:
        if find(tx, transcription_id).state not in FINISHED:
            cancel(tx, transcription_id)
        return delete(tx, transcription_id)

    with suppress(errors.NotFound):
        await farm.blobs.delete(await farm.store.write(change))


async def changes(farm: Coordinator, transcription_id: str) -> AsyncGenerator[TranscriptionRow, None]:
    """The transcription now, and again after everything that happens to it, until it is finished."""
    give_up_at = time.monotonic() + WAIT_SECONDS
    position = await farm.store.read(newest_event)
    row = await farm.store.read(lambda tx: find(tx, transcription_id))
    yield row
    followed = farm.event_log.follow(position, Filter(transcription_id=transcription_id), False, LOOK_SECONDS)
    async with aclosing(followed) as happened:
        while row.state not in FINISHED:
            one = await anext(happened, None)
            if one is None:
                raise errors.ServerBusy("The server is being stopped; send the same recording again to go on.")
            if time.monotonic() > give_up_at:
                raise errors.ServerBusy(f"{row.name} was not finished in time; send it again to go on waiting.")
            if not isinstance(one, Idle):
                row = await farm.store.read(lambda tx: find(tx, transcription_id))
            yield row


async def heard(farm: Coordinator, transcription_id: str) -> AsyncGenerator[str, None]:
    """What is said, in order and as soon as it stands; an empty text as a sign of life. Ends with the last word.

    Nothing stands before the language is decided: a chunk heard in another language is recognised again.
    """
    position = -1
    begun = False
    async with aclosing(changes(farm, transcription_id)) as rows:
        async for row in rows:
            text = ""
            while row.language is not None or row.multilingual or row.state in FINISHED:
                page = await segment_page(farm.store, farm.blobs, transcription_id, position)
                text += "".join(segment.text for segment in page.segments)
                if page.next == position:
                    break
                position = page.next
            if not begun:
                text = text.lstrip()
                begun = bool(text)
            yield text
            if row.state in FINISHED:
                with_transcript(row)


def with_transcript(row: TranscriptionRow) -> TranscriptionRow:
    """The row, if its transcript lacks nothing that a recogniser could have given; raises what went wrong."""
    if row.state in ("done", "incomplete") and not row.chunks_failed:
        return row
    if row.state == "incomplete":
        raise errors.EngineError(
            f"{row.chunks_failed} of {row.chunks} chunks of {row.name} could not be recognised; what was is at"
            f" /api/transcriptions/{row.id}. Send it again to try again."
        )
    if row.state == "cancelled":
        raise errors.WrongState(f"{row.name} was cancelled; send it again to try again.")
    raise errors.every_error().get(row.error_code or "", errors.Internal)(row.error_message)


async def transcript_of(farm: Coordinator, transcription_id: str, format: OutputFormat, request: Request) -> Response:
    """The answer that has waited for a transcription: its transcript as a file.

    JSON may begin with spaces: such an answer begins while the work goes on, so that nobody in between gives up.
    """
    headers = {ID_HEADER: transcription_id}
    begin_at = time.monotonic() + SILENT_SECONDS if format.media_type == JSON else float("inf")
    async with aclosing(changes(farm, transcription_id)) as rows:
        async for row in rows:
            if row.state in FINISHED:
                content = await farm.renderer.file(with_transcript(row), format)
                return Response(content, media_type=format.media_type, headers=headers | _missing(row))
            if await request.is_disconnected():
                raise errors.ServerBusy("Nobody waits for the answer any more.")
            if time.monotonic() >= begin_at:
                break
    return StreamingResponse(_after_spaces(farm, transcription_id, format), media_type=JSON, headers=headers)


async def _after_spaces(farm: Coordinator, transcription_id: str, format: OutputFormat) -> AsyncGenerator[bytes, None]:
    """A space now and then, and in the end the file. The status is sent: what goes wrong can only break the answer off.

    The client sends everything again then, and hears why.
    """
    try:
        async with aclosing(changes(farm, transcription_id)) as rows:
            async for row in rows:
                if row.state in FINISHED:
                    yield await farm.renderer.file(with_transcript(row), format)
                    return
                yield b" "
    except errors.FarmError as error:
        raise BrokenOff from error


def _missing(row: TranscriptionRow) -> dict[str, str]:
    """So much of a damaged recording cannot be read."""
    if row.state != "incomplete" or row.coverage is None:
        return {}
    return {MISSING_HEADER: f"{row.coverage['duration'] - row.coverage['covered']:.1f}"}


def options_for(recogniser: tuple[str, str], **given: Any) -> RecognitionOptions:
    """Options of an engine and model; raises `InvalidRequest` where one is out of its bounds."""
    return checked(RecognitionOptions, dict(zip(("engine", "model"), recogniser, strict=True)) | given)


def _key(sent: SentFile, options: RecognitionOptions) -> str:
    """The same for the same bytes with the same options."""
    told = json.dumps([sent.sha256, sent.size, options.model_dump(mode="json")], sort_keys=True)
    return f"one-call:{hashlib.sha256(told.encode()).hexdigest()}"


def _take_in(tx: Transaction, sent: SentFile, owner: str) -> None:
    upload = announce(tx, UploadRow(sent.upload_id, owner, sent.name, sent.size, sent.key))
    stored(tx, upload, sent.key, sent.sha256)


def _try_again(tx: Transaction, farm: Coordinator, caller: Caller, transcription_id: str) -> None:
    """Only what may go better now."""
    row = find(tx, transcription_id)
    try:
        if row.state in FINISHED:
            with_transcript(row)
    except errors.FarmError:
        if row.mendable:
            must_have_room(tx, farm, caller, stores=False)
            retry(tx, transcription_id)


async def _drop(farm: Coordinator, sent: SentFile, owner: str) -> None:
    await farm.store.write(lambda tx: forget_upload(tx, sent.upload_id, owner))
    await farm.blobs.delete([sent.key])
