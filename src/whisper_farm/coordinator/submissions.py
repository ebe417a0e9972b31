"""A submission is checked before it becomes a transcription: what it names is there, whole, and the caller's.

So is what is known of its model without having it; the rest is found out by the worker that loads it."""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import nullcontext
from pathlib import Path

from whisper_farm.coordinator.coordinator import Coordinator
from whisper_farm.coordinator.layers.auth import Caller, own
from whisper_farm.coordinator.transfers import source_key
from whisper_farm.errors import (
    BlobMissing,
    DigestMismatch,
    Forbidden,
    InvalidRequest,
    SourceEmpty,
    SourceMissing,
    SourceUnreadable,
    WrongState,
)
from whisper_farm.ingest.addresses import check_url
from whisper_farm.leases.kinds import RECOGNITION
from whisper_farm.leases.transcriptions import NewTranscription, submit
from whisper_farm.leases.workers import LiveWorkers
from whisper_farm.models import can_translate, cannot_translate, engine_and_model, has_no_option, may_be_folder
from whisper_farm.protocol.client import Submission
from whisper_farm.settings import ServerSettings
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Transaction
from whisper_farm.store.limits import room_for
from whisper_farm.store.transcriptions import TranscriptionRow, find_by_key
from whisper_farm.store.uploads import UploadRow, find_upload, stored
from whisper_farm.transcript.options import HINTS, RecognitionOptions


async def take_submission(
    farm: Coordinator, submission: Submission, caller: Caller, strict: bool = False
) -> tuple[str, bool]:
    """The id of the transcription, and whether it is new: the same key again gets the one that is there.

    `strict` refuses options that nobody heeds. What other people's clients send by habit is left unheeded.
    """
    key = submission.key
    if key is not None:
        before = await farm.store.read(lambda tx: find_by_key(tx, caller.owner, key))
        if before is not None and before.label == submission.label:
            return before.id, False
    check_model(farm.settings, submission.options)
    if strict:
        await check_options(farm, submission.options, submission.label)
    await farm.store.read(lambda tx: must_have_room(tx, farm, caller))  # before anything is copied
    sources = submission.upload_id, submission.path, submission.url, submission.transcription_id
    if sum(one is not None for one in sources) != 1:
        raise InvalidRequest("A submission names exactly one of `upload_id`, `url`, `transcription_id` and `path`.")
    if (again := submission.transcription_id) is not None:
        return await farm.store.write(
            lambda tx: _accept(tx, farm, caller, _again(submission, caller, own(tx, caller, again)))
        )
    if submission.url is not None:
        new = _new(submission, caller, f"link:{check_url(submission.url)}", 0, None)
        return await farm.store.write(lambda tx: _accept(tx, farm, caller, new))
    if submission.path is None:
        return await _take_upload(farm, submission, caller)
    size = await asyncio.to_thread(_local_size, _local(farm.settings, submission.path, caller))
    new = _new(submission, caller, f"file:{submission.path}", size, submission.sha256)
    return await farm.store.write(lambda tx: _accept(tx, farm, caller, new))


async def _take_upload(farm: Coordinator, submission: Submission, caller: Caller) -> tuple[str, bool]:
    upload_id = submission.upload_id or ""
    upload = await farm.store.read(lambda tx: find_upload(tx, upload_id, caller.owner))
    try:
        return await _take_settled(farm, submission, caller, upload)
    except WrongState:
        now = await farm.store.read(lambda tx: find_upload(tx, upload_id, caller.owner))
        if now.key == upload.key:
            raise
        return await _take_settled(farm, submission, caller, now)  # somebody else has submitted it meanwhile


async def _take_settled(
    farm: Coordinator, submission: Submission, caller: Caller, upload: UploadRow
) -> tuple[str, bool]:
    key = await _settled(farm.blobs, upload, submission.sha256)
    sha256 = upload.sha256 or submission.sha256
    new = _new(submission, caller, f"blob:{key}", upload.size, sha256)

    def accept(tx: Transaction) -> tuple[tuple[str, bool], list[str]]:
        if find_upload(tx, upload.id, caller.owner).key != upload.key:
            raise WrongState(f"{upload.name} was sent again meanwhile; submit it once more.")
        spare = stored(tx, upload, key, sha256)
        return _accept(tx, farm, caller, new), spare

    async with nullcontext() if key == upload.key else farm.blobs.tentative(key):
        made, spare = await farm.store.write(accept)
    await farm.blobs.delete(spare)
    return made


def must_have_room(tx: Transaction, farm: Coordinator, caller: Caller, stores: bool = True) -> None:
    """Raise `QuotaReached` where the owner has as much under way as one may have. Administrators have no such bound."""
    if caller.scope != "admin":
        room_for(tx, farm.settings, caller.owner, stores)


def check_model(settings: ServerSettings, options: RecognitionOptions) -> None:
    """Raise what is wrong with the model that was asked for."""
    asked = options.engine, options.model
    if settings.models is not None and asked not in map(engine_and_model, settings.models):
        raise Forbidden(f"This server takes only the models {', '.join(settings.models)}, not {options.model[:100]}.")
    if may_be_folder(options.model) and not settings.local_models:
        raise Forbidden("This server takes no folder as a model: give a model's name or a repository of the model hub.")
    if options.speaker_model is not None and not settings.local_models:
        raise Forbidden("This server takes no file as a speaker model: leave speaker_model out.")
    if options.task == "translate" and not can_translate(options.model):
        raise cannot_translate(options.model)


async def check_options(farm: Coordinator, options: RecognitionOptions, label: str = "") -> None:
    """Raise what is wrong with options that no live worker heeds. Where none is live, nobody knows.

    Hints are borne: the web app sends a glossary with everything, whoever will hear it.
    """
    if unusual := [name for name in options.unusual() if name not in HINTS]:
        needs = RECOGNITION.needs(label, options.model_dump())
        unheeded = await farm.store.read(lambda tx: LiveWorkers(tx, farm.policy).unheeded(needs, unusual))
        if unheeded:
            raise has_no_option(options.engine, unheeded[0])


async def _settled(blobs: Blobs, upload: UploadRow, sha256: str | None) -> str:
    """Where the recording is; raises what is wrong with it.

    What came through a coordinator was counted and hashed. What went to an object store is copied now: its sender can
    still replace it.
    """
    if upload.sha256 is not None:
        if sha256 is not None and sha256 != upload.sha256:
            raise DigestMismatch(f"SHA-256 {sha256} was announced for {upload.name}; it has {upload.sha256}.")
        return upload.key
    key = upload.key if upload.state == "stored" else source_key(upload.id)
    try:
        await blobs.verify(upload.key, upload.size, limit=upload.size)
        if key != upload.key:
            await blobs.copy(upload.key, key)
        await blobs.verify(key, upload.size, sha256)
    except BlobMissing:
        raise WrongState(f"{upload.name} has not arrived yet; send it first.") from None
    except DigestMismatch:
        if key != upload.key:
            await blobs.delete([key])
        raise
    return key


def _local(settings: ServerSettings, path: str, caller: Caller) -> Path:
    if not settings.local_sources or caller.scope != "admin":
        raise Forbidden("This server takes no paths of its own machine; upload the file.")
    if not Path(path).is_absolute():
        raise InvalidRequest(f"{path} is no absolute path.")
    return Path(path)


def _accept(tx: Transaction, farm: Coordinator, caller: Caller, new: NewTranscription) -> tuple[str, bool]:
    """Make the transcription, unless another submission with this key was first; that one gets the label."""
    before = None if new.key is None else find_by_key(tx, new.owner, new.key)
    if before is None or before.label != new.label:
        must_have_room(tx, farm, caller)
    return submit(tx, new), before is None


def _new(submission: Submission, caller: Caller, source: str, size: int, sha256: str | None) -> NewTranscription:
    return NewTranscription(
        owner=caller.owner,
        name=submission.name,
        source=source,
        source_size=size,
        options=submission.options,
        source_sha256=sha256,
        chunk_seconds=submission.chunk_seconds,
        priority=submission.priority,
        key=submission.key,
        label=submission.label,
        peaks=submission.peaks,
    )


def _again(submission: Submission, caller: Caller, row: TranscriptionRow) -> NewTranscription:
    """Another transcription of the same recording."""
    if row.source.startswith("link:"):
        raise WrongState(f"{row.name} is not fetched yet; wait until it is.")
    return _new(submission, caller, row.source, row.source_size, row.source_sha256)


def _local_size(path: Path) -> int:
    try:
        facts = path.stat()
    except FileNotFoundError as error:
        raise SourceMissing(f"{path}: there is no such file.") from error
    except (OSError, ValueError) as error:
        raise SourceUnreadable(f"{path} cannot be read: {error}.") from error
    if not stat.S_ISREG(facts.st_mode) or not os.access(path, os.R_OK):
        raise SourceUnreadable(f"{path} cannot be read; check its permissions and that it is a file.")
    if facts.st_size == 0:
        raise SourceEmpty(f"{path} is empty.")
    return facts.st_size
