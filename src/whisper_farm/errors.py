"""Every error this project raises on purpose, in one tree: `docs/ERRORS.md` lists them.

The docstring of a class is its default message. Its code is its name (`LeaseLost`: `lease_lost`), is stable and part of
the API. Its status is the HTTP status with which the coordinator answers; without one, that of the class above it. One
that is `lasting` comes again whenever the same is tried again.
Raise them with a message that says what happened, to which file or job, and what to do.
"""

from __future__ import annotations

import inspect
import re
from typing import Any, ClassVar


class FarmError(Exception):
    """Something went wrong in the farm."""

    code: ClassVar[str] = "farm_error"
    status: ClassVar[int] = 500
    lasting: ClassVar[bool] = False

    def __init_subclass__(cls, status: int | None = None, lasting: bool = False) -> None:
        if not cls.__name__.startswith("_"):  # a class of one module is for others what it is derived from
            cls.code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()
        cls.status, cls.lasting = status or cls.status, lasting or cls.lasting

    def __init__(self, message: str | None = None, /, **details: Any) -> None:
        self.message = message or inspect.cleandoc(type(self).__doc__ or "").split("\n\n")[0]
        self.details = details
        super().__init__(self.message)


class AudioError(FarmError, status=422):
    """The recording cannot be used."""


class SourceMissing(AudioError):
    """There is no such file."""


class SourceUnreadable(AudioError):
    """The file cannot be read; check its permissions and that it is not a folder."""


class SourceEmpty(AudioError, lasting=True):
    """The file is empty."""


class NotAudio(AudioError, lasting=True):
    """This is no audio or video file that FFmpeg's libraries can read."""


class SourceTooCostly(AudioError, lasting=True):
    """Reading this file takes more processor time than any recording needs."""


class NoAudioTrack(AudioError, lasting=True):
    """The file holds no audio track."""


class FetchFailed(AudioError):
    """What the link leads to could not be fetched; try again, or upload the file."""


class LinkIsPage(AudioError):
    """The link leads to a page, a playlist or a feed, not to a recording; give the address of the recording itself."""


class FeedUnreadable(AudioError):
    """This is no feed of podcasts in RSS or Atom, nor a list of feeds in OPML."""


class EngineError(FarmError):
    """The recogniser failed."""


class EngineUnavailable(EngineError):
    """This recogniser is not available on this machine."""


class ModelUnavailable(EngineError):
    """The model is neither on this machine nor could it be fetched."""


class SpeakersUnavailable(ModelUnavailable):
    """The model that tells speakers apart is neither on this machine nor could it be fetched."""


class OptionUnsupported(EngineError, status=422, lasting=True):
    """This recogniser does not support an option that was asked for."""


class RecogniserCrashed(EngineError):
    """The recogniser process died."""


class RequestError(FarmError, status=400):
    """The request cannot be met."""


class InvalidRequest(RequestError, status=422):
    """The request is malformed."""


class MethodNotAllowed(RequestError, status=405):
    """This address does not know that method."""


class Unauthorized(RequestError, status=401):
    """A valid token is needed: send it as `Authorization: Bearer TOKEN`."""


class Forbidden(RequestError, status=403):
    """This token may not do that."""


class NotFound(RequestError, status=404):
    """There is no such thing."""


class NotMade(RequestError, status=404):
    """This is not made yet; a worker that cuts recordings makes it when all of them are cut. Ask again later."""


class WrongState(RequestError, status=409):
    """That cannot be done in the present state."""


class EditConflict(RequestError, status=409):
    """Somebody else changed this passage since; look at what is there now, and send yours again."""


class TooLarge(RequestError, status=413, lasting=True):
    """The body is larger than this server accepts."""


class HeadTooLarge(RequestError, status=431):
    """The head of the request, or what follows its body, is larger than this server accepts."""


class TooSlow(RequestError, status=408):
    """The body did not arrive in time; send it again over a faster or steadier connection."""


class TooManyTries(RequestError, status=429):
    """That went wrong too often; wait a few minutes and try again."""


class QuotaReached(RequestError, status=429):
    """You have as many of these as one may have; end some, or wait."""


class DigestMismatch(RequestError, status=422):
    """What arrived is not what was announced: size or SHA-256 differ. Send it again."""


class AddressRefused(RequestError, status=422):
    """This address is not one that the farm sends requests to."""


class ProtocolMismatch(RequestError, status=426):
    """Worker and server speak different protocol versions; install the same release on both."""


class LeaseError(FarmError, status=409):
    """The job is not held by this claim."""


class LeaseLost(LeaseError):
    """This claim token no longer holds its job; drop the work, someone else has it or it is over."""


class ResultConflict(LeaseError):
    """This claim was already completed with a different result; the first one stands."""


class PositionConflict(LeaseError):
    """A chunk at that position exists already with other bounds, or chunks would overlap or leave a hole."""


class ModelMismatch(LeaseError):
    """The recording is pinned to another revision of the model than the one that made this result."""


class WorkerUnknown(LeaseError, status=404):
    """The farm does not know this worker; register again."""


class StorageError(FarmError, status=503):
    """The farm's storage failed."""


class StoreUnavailable(StorageError):
    """The database cannot be reached or is too busy; try again."""


class ObjectStoreRefused(StorageError):
    """The object store that keeps the farm's audio and results refused a request."""


class SchemaMismatch(StorageError):
    """The database has another schema version; run `whisper-farm db upgrade`."""


class FarmMismatch(StorageError):
    """The database and the blob store belong to different farms."""


class BlobMissing(StorageError, status=404):
    """A stored file is gone."""


class NoSpace(StorageError, status=507):
    """No space is left on the device."""


class FleetError(FarmError):
    """The farm's machines cannot be looked after."""


class PoolsInvalid(FleetError, status=422):
    """The file of pools has a mistake."""


class InvalidTranscript(FarmError):
    """This is no transcript as this farm writes them, or it was damaged."""


class ServerBusy(FarmError, status=503):
    """The server has too much of this to do at once; try again."""


class Internal(FarmError):
    """Something went wrong in the server; its log says what."""


class ServerUnreachable(FarmError, status=503):
    """The farm's server does not answer; check its address and that it runs."""


def every_error() -> dict[str, type[FarmError]]:
    """All errors of the tree by code, for documentation and for turning answers back into exceptions."""

    def walk(kind: type[FarmError]) -> dict[str, type[FarmError]]:
        found = {kind.code: kind}
        for child in kind.__subclasses__():
            found |= {} if child.__name__.startswith("_") else walk(child)
        return found

    return walk(FarmError)
