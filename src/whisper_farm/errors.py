"""Every error this project raises on purpose, in one tree.

::

    FarmError
    ├── AudioError                 a recording cannot be used
    │   ├── SourceMissing
    │   ├── SourceUnreadable
    │   ├── SourceEmpty
    │   ├── NotAudio
    │   ├── SourceTooCostly
    │   ├── NoAudioTrack
    │   ├── FetchFailed
    │   ├── LinkIsPage
    │   └── FeedUnreadable
    ├── EngineError                a recogniser cannot be used
    │   ├── EngineUnavailable
    │   ├── ModelUnavailable
    │   ├── OptionUnsupported
    │   └── RecogniserCrashed
    ├── RequestError               the caller asked for something it cannot have
    │   ├── InvalidRequest
    │   ├── MethodNotAllowed
    │   ├── Unauthorized
    │   ├── Forbidden
    │   ├── NotFound
    │   ├── NotMade
    │   ├── WrongState
    │   ├── EditConflict
    │   ├── TooLarge
    │   ├── HeadTooLarge
    │   ├── TooSlow
    │   ├── TooManyTries
    │   ├── QuotaReached
    │   ├── DigestMismatch
    │   ├── AddressRefused
    │   └── ProtocolMismatch
    ├── LeaseError                 a worker speaks for a job it no longer holds
    │   ├── LeaseLost
    │   ├── ResultConflict
    │   ├── PositionConflict
    │   ├── ModelMismatch
    │   └── WorkerUnknown
    ├── StorageError               a database or blob store cannot serve
    │   ├── StoreUnavailable
    │   ├── ObjectStoreRefused
    │   ├── SchemaMismatch
    │   ├── FarmMismatch
    │   ├── BlobMissing
    │   └── NoSpace
    ├── FleetError                 the farm's machines cannot be looked after
    │   └── PoolsInvalid
    ├── InvalidTranscript          a file is no transcript of this farm
    ├── ServerBusy                 the server has too much to do at once
    ├── Internal                   the server failed in a way that nobody foresaw
    └── ServerUnreachable          no answer from the farm

The docstring of a class is its default message, its ``code`` is stable and part of the API, and its
``status`` is the HTTP status with which the coordinator answers. Raise them with a message that
says what happened, to which file or job, and what to do.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar


class FarmError(Exception):
    """Something went wrong in the farm."""

    code: ClassVar[str] = "farm_error"
    status: ClassVar[int] = 500

    def __init__(self, message: str | None = None, /, **details: Any) -> None:
        self.message = message or inspect.cleandoc(type(self).__doc__ or "").split("\n\n")[0]
        self.details = details
        super().__init__(self.message)


class AudioError(FarmError):
    """The recording cannot be used."""

    code = "audio_error"
    status = 422


class SourceMissing(AudioError):
    """There is no such file."""

    code = "source_missing"


class SourceUnreadable(AudioError):
    """The file cannot be read; check its permissions and that it is not a folder."""

    code = "source_unreadable"


class SourceEmpty(AudioError):
    """The file is empty."""

    code = "source_empty"


class NotAudio(AudioError):
    """This is no audio or video file that FFmpeg's libraries can read."""

    code = "not_audio"


class SourceTooCostly(AudioError):
    """Reading this file takes more processor time than any recording needs."""

    code = "source_too_costly"


class NoAudioTrack(AudioError):
    """The file holds no audio track."""

    code = "no_audio_track"


class FetchFailed(AudioError):
    """What the link leads to could not be fetched; try again, or upload the file."""

    code = "fetch_failed"


class LinkIsPage(AudioError):
    """The link leads to a page, a playlist or a feed, not to a recording; give the address of the recording itself."""

    code = "link_is_page"


class FeedUnreadable(AudioError):
    """This is no feed of podcasts in RSS or Atom, nor a list of feeds in OPML."""

    code = "feed_unreadable"


class EngineError(FarmError):
    """The recogniser failed."""

    code = "engine_error"


class EngineUnavailable(EngineError):
    """This recogniser is not available on this machine."""

    code = "engine_unavailable"


class ModelUnavailable(EngineError):
    """The model is neither on this machine nor could it be fetched."""

    code = "model_unavailable"


class OptionUnsupported(EngineError):
    """This recogniser does not support an option that was asked for."""

    code = "option_unsupported"
    status = 422


class RecogniserCrashed(EngineError):
    """The recogniser process died."""

    code = "recogniser_crashed"


class RequestError(FarmError):
    """The request cannot be met."""

    code = "request_error"
    status = 400


class InvalidRequest(RequestError):
    """The request is malformed."""

    code = "invalid_request"
    status = 422


class MethodNotAllowed(RequestError):
    """This address does not know that method."""

    code = "method_not_allowed"
    status = 405


class Unauthorized(RequestError):
    """A valid token is needed: send it as `Authorization: Bearer TOKEN`."""

    code = "unauthorized"
    status = 401


class Forbidden(RequestError):
    """This token may not do that."""

    code = "forbidden"
    status = 403


class NotFound(RequestError):
    """There is no such thing."""

    code = "not_found"
    status = 404


class NotMade(RequestError):
    """This is not made yet; a worker that cuts recordings makes it when all of them are cut. Ask again later."""

    code = "not_made"
    status = 404


class WrongState(RequestError):
    """That cannot be done in the present state."""

    code = "wrong_state"
    status = 409


class EditConflict(RequestError):
    """Somebody else changed this passage since; look at what is there now, and send yours again."""

    code = "edit_conflict"
    status = 409


class TooLarge(RequestError):
    """The body is larger than this server accepts."""

    code = "too_large"
    status = 413


class HeadTooLarge(RequestError):
    """The head of the request, or what follows its body, is larger than this server accepts."""

    code = "head_too_large"
    status = 431


class TooSlow(RequestError):
    """The body did not arrive in time; send it again over a faster or steadier connection."""

    code = "too_slow"
    status = 408


class TooManyTries(RequestError):
    """That went wrong too often; wait a few minutes and try again."""

    code = "too_many_tries"
    status = 429


class QuotaReached(RequestError):
    """You have as many of these as one may have; end some, or wait."""

    code = "quota_reached"
    status = 429


class DigestMismatch(RequestError):
    """What arrived is not what was announced: size or SHA-256 differ. Send it again."""

    code = "digest_mismatch"
    status = 422


class AddressRefused(RequestError):
    """This address is not one that the farm sends requests to."""

    code = "address_refused"
    status = 422


class ProtocolMismatch(RequestError):
    """Worker and server speak different protocol versions; install the same release on both."""

    code = "protocol_mismatch"
    status = 426


class LeaseError(FarmError):
    """The job is not held by this claim."""

    code = "lease_error"
    status = 409


class LeaseLost(LeaseError):
    """This claim token no longer holds its job; drop the work, someone else has it or it is over."""

    code = "lease_lost"


class ResultConflict(LeaseError):
    """This claim was already completed with a different result; the first one stands."""

    code = "result_conflict"


class PositionConflict(LeaseError):
    """A chunk at that position exists already with other bounds, or chunks would overlap or leave a hole."""

    code = "position_conflict"


class ModelMismatch(LeaseError):
    """The recording is pinned to another revision of the model than the one that made this result."""

    code = "model_mismatch"


class WorkerUnknown(LeaseError):
    """The farm does not know this worker; register again."""

    code = "worker_unknown"
    status = 404


class StorageError(FarmError):
    """The farm's storage failed."""

    code = "storage_error"
    status = 503


class StoreUnavailable(StorageError):
    """The database cannot be reached or is too busy; try again."""

    code = "store_unavailable"


class ObjectStoreRefused(StorageError):
    """The object store that keeps the farm's audio and results refused a request."""

    code = "object_store_refused"


class SchemaMismatch(StorageError):
    """The database has another schema version; run `whisper-farm db upgrade`."""

    code = "schema_mismatch"


class FarmMismatch(StorageError):
    """The database and the blob store belong to different farms."""

    code = "farm_mismatch"


class BlobMissing(StorageError):
    """A stored file is gone."""

    code = "blob_missing"
    status = 404


class NoSpace(StorageError):
    """No space is left on the device."""

    code = "no_space"
    status = 507


class FleetError(FarmError):
    """The farm's machines cannot be looked after."""

    code = "fleet_error"


class PoolsInvalid(FleetError):
    """The file of pools has a mistake."""

    code = "pools_invalid"
    status = 422


class InvalidTranscript(FarmError):
    """This is no transcript as this farm writes them, or it was damaged."""

    code = "invalid_transcript"


class ServerBusy(FarmError):
    """The server has too much of this to do at once; try again."""

    code = "server_busy"
    status = 503


class Internal(FarmError):
    """Something went wrong in the server; its log says what."""

    code = "internal"


class ServerUnreachable(FarmError):
    """The farm's server does not answer; check its address and that it runs."""

    code = "server_unreachable"
    status = 503


def every_error() -> dict[str, type[FarmError]]:
    """All errors of the tree by code, for documentation and for turning answers back into exceptions."""

    def walk(kind: type[FarmError]) -> dict[str, type[FarmError]]:
        found = {kind.code: kind}
        for child in kind.__subclasses__():
            found |= walk(child)
        return found

    return walk(FarmError)
