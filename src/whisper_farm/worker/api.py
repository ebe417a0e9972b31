"""The worker API as seen by a worker: every call of `protocol/worker.py`, and the transfers of audio.

Promises: a call whose answer got lost is sent again, word for word, with growing pauses, for as long as the caller has
patience. Only an answer in the farm's own form counts as one, so a proxy's page is no answer. Refusals are raised as
the errors of `errors.py`, and nothing else is: whatever an answer holds, it never ends the worker by itself. A claim
that cannot be understood is set apart, and the others are taken. The bearer token goes to the farm's own address and
nowhere else. No redirect is followed. No transfer takes more memory than was announced.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from whisper_farm.errors import (
    DigestMismatch,
    FarmError,
    Forbidden,
    InvalidRequest,
    ObjectStoreRefused,
    ProtocolMismatch,
    ServerUnreachable,
    Unauthorized,
    WorkerUnknown,
    every_error,
)
from whisper_farm.protocol import wire, worker
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.worker.tasks import now

T = TypeVar("T")
Answer = TypeVar("Answer", bound=wire.Answer)

FOR_EVER = float("inf")
FATAL = (Unauthorized, Forbidden, ProtocolMismatch)
"""Refusals that will not change: the worker has to stop."""
DOWNLOADS = 8
UPLOADS = 4
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_PASSING = (408, 425, 429)
_MAX_ANSWER_BYTES = 64 << 20
_SLOWEST_BYTES_PER_SECOND = 10_000
_MISMATCHES = 3
_SILENT_CALLS = 2
_ERROR_BYTES = 1 << 16
_ERRORS = every_error()


class _NoAnswerError(Exception):
    """The farm did not answer, or something else did."""


class WorkerApi:
    """A connection to one farm. `told` hears False when the farm does not answer (twice running), True when it does."""

    def __init__(self, server: str, token: str, timeout_seconds: float, told: Callable[[bool, str], None]) -> None:
        self.server = server.rstrip("/")
        if urlsplit(self.server).scheme not in ("http", "https") or not urlsplit(self.server).hostname:
            raise InvalidRequest(f"{server!r} is no address of a farm; it begins with http:// or https://.")
        self.timeout_seconds = timeout_seconds
        self.trust_env = urlsplit(self.server).hostname not in ("localhost", "127.0.0.1", "::1")
        self._own_headers = {"Authorization": f"Bearer {token}", wire.PROTOCOL_HEADER: str(wire.PROTOCOL_VERSION)}
        self._told = told
        self.on_unknown: Callable[[], Awaitable[None]] | None = None
        """What to do when the farm does not know this worker (any more), before the call is sent again."""
        self.on_strange_claim: Callable[[str, str], None] = lambda token, why: None
        """Hears the token of a claim that this worker does not understand, and why."""
        self._failures = 0
        self._client = httpx.AsyncClient(timeout=timeout_seconds, trust_env=self.trust_env)
        self._downloads = asyncio.Semaphore(DOWNLOADS)
        self._uploads = asyncio.Semaphore(UPLOADS)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def register(self, request: worker.RegisterRequest, patience: float = FOR_EVER) -> worker.RegisterAnswer:
        """Present the worker."""
        return await self._call("register", request, worker.RegisterAnswer, patience)

    async def claim(self, request: worker.ClaimRequest, patience: float = FOR_EVER) -> worker.ClaimAnswer:
        """Ask for work; the server may take `wait_seconds` to answer."""
        seconds = min(patience, self.timeout_seconds + request.wait_seconds)
        return await self._call("claim", request, worker.ClaimAnswer, patience, seconds)

    async def heartbeat(self, request: worker.HeartbeatRequest, seconds: float) -> worker.HeartbeatAnswer:
        """Renew the leases: one try, for a beat that is late is better sent anew."""
        return await self._call("heartbeat", request, worker.HeartbeatAnswer, 0, seconds)

    async def uploads(self, request: worker.UploadRequest) -> worker.UploadAnswer:
        """Ask where new chunks go."""
        return await self._call("uploads", request, worker.UploadAnswer)

    async def append(self, request: worker.AppendRequest) -> worker.AppendAnswer:
        """Add chunks that are uploaded."""
        return await self._call("append", request, worker.AppendAnswer)

    async def complete(self, request: worker.CompleteRequest) -> worker.CompleteAnswer:
        """Hand results in."""
        return await self._call("complete", request, worker.CompleteAnswer)

    async def fail(self, request: worker.FailRequest) -> worker.OutcomeAnswer:
        """Say which jobs failed."""
        return await self._call("fail", request, worker.OutcomeAnswer)

    async def release(self, request: worker.ReleaseRequest, patience: float = FOR_EVER) -> None:
        """Hand jobs back."""
        await self._call("release", request, worker.OutcomeAnswer, patience, min(patience, self.timeout_seconds))

    def resolved(self, transfer: wire.Transfer) -> tuple[str, dict[str, str]]:
        """Address and headers of a transfer: our token is among them only if the address is the farm's own."""
        if transfer.url.startswith("/") and not transfer.url.startswith("//"):
            return self.server + transfer.url, {**transfer.headers, **self._own_headers}
        if not transfer.url.startswith(("http://", "https://")):
            raise ServerUnreachable(f"The farm named an address that is neither its own nor a link: {transfer.url!r}.")
        return transfer.url, dict(transfer.headers)

    async def download(self, transfer: wire.Transfer, size: int, sha256: str) -> bytes:
        """The bytes announced; DigestMismatch if others keep coming."""
        url, headers = self.resolved(transfer)
        async with self._downloads:
            for _ in range(_MISMATCHES):
                data = await self._again(
                    lambda: self._exchange(transfer.method, url, headers, None, self._seconds_for(size), size),
                    self._patience_for(transfer),
                )
                if len(data) == size and hashlib.sha256(data).hexdigest() == sha256:
                    return data
        raise DigestMismatch(f"The audio that arrived is not what was announced ({len(data)} bytes instead of {size}).")

    async def upload(self, transfer: wire.Transfer, data: bytes) -> None:
        """Send the bytes."""
        url, headers = self.resolved(transfer)
        headers = {"Content-Type": "application/octet-stream", **headers}
        async with self._uploads:
            await self._again(
                lambda: self._exchange(transfer.method, url, headers, data, self._seconds_for(len(data))),
                self._patience_for(transfer),
            )

    def _seconds_for(self, size: int) -> float:
        return self.timeout_seconds + size / _SLOWEST_BYTES_PER_SECOND

    def _patience_for(self, transfer: wire.Transfer) -> float:
        """The farm is waited for; a store that stays away is the farm's to replace with another address."""
        return FOR_EVER if transfer.url.startswith("/") else self.timeout_seconds

    async def _call(
        self,
        name: str,
        request: wire.Request,
        kind: type[Answer],
        patience: float = FOR_EVER,
        seconds: float | None = None,
    ) -> Answer:
        """Send until there is an answer, or until `patience` ends; each try may take `seconds`."""
        body = request.model_dump_json().encode()
        url = f"{self.server}/api/work/{name}"
        headers = {**self._own_headers, "Content-Type": "application/json"}

        async def once() -> Answer:
            answer = await self._exchange("POST", url, headers, body, seconds or self.timeout_seconds)
            try:
                return self._read(kind, answer)
            except ValueError as error:
                raise _NoAnswerError(f"{url} answers, but not as a farm does") from error

        while True:
            try:
                return await self._again(once, patience)
            except WorkerUnknown:
                if self.on_unknown is None or kind is worker.RegisterAnswer:
                    raise
                await self.on_unknown()
                await asyncio.sleep(_FIRST_PAUSE_SECONDS)

    def _read(self, kind: type[Answer], body: bytes) -> Answer:
        """The answer, without the claims in it that this worker does not understand."""
        if kind not in (worker.ClaimAnswer, worker.CompleteAnswer):
            return kind.read(body)
        answer: dict[str, Any] = dict(json.loads(body))
        claims, answer["claims"] = list(answer.get("claims", ())), ()
        kind.model_validate(answer, extra="ignore")
        answer["claims"] = [claim for claim in claims if self._understood(claim)]
        return kind.model_validate(answer, extra="ignore")

    def _understood(self, raw: Any) -> bool:
        """Whether this claim can be worked on; an option that is left out would change the words."""
        try:
            claim = worker.Claim.model_validate(raw, extra="ignore")
            if claim.transcribe:
                RecognitionOptions.model_validate(raw["transcribe"]["options"], extra="forbid")
            if claim.chunk or claim.transcribe:
                return True
            why = "it is of a kind unknown here"
        except ValidationError as error:
            first = error.errors()[0]
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        token = raw.get("token") if isinstance(raw, dict) else None
        self.on_strange_claim(str(token), why)
        return False

    async def _again(self, once: Callable[[], Awaitable[T]], patience: float) -> T:
        give_up_at, pause = now() + patience, _FIRST_PAUSE_SECONDS
        while True:
            try:
                answer = await once()
            except _NoAnswerError as error:
                self._heard(False, str(error))
                if now() + pause > give_up_at:
                    raise ServerUnreachable(f"{self.server} does not answer: {error}") from error
                await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                self._heard(True, "")
                return answer

    def _heard(self, something: bool, why: str) -> None:
        """Keep count of calls without an answer; a single one is nothing to talk about."""
        before, self._failures = self._failures, 0 if something else self._failures + 1
        if self._failures == _SILENT_CALLS:
            self._told(False, f"{self.server} does not answer: {why}")
        elif something and before >= _SILENT_CALLS:
            self._told(True, f"{self.server} answers again.")

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        content: bytes | None,
        seconds: float,
        limit: int = _MAX_ANSWER_BYTES,
    ) -> bytes:
        """One request and its answer, in `seconds` all told."""
        try:
            async with (
                asyncio.timeout(seconds),
                self._client.stream(method, url, headers=headers, content=content, timeout=seconds) as answer,
            ):
                body = await _at_most(answer, limit)
        except (httpx.InvalidURL, httpx.LocalProtocolError, ValueError, OverflowError) as error:
            raise InvalidRequest(f"No request can be made to {url!r}: {error}") from error
        except (httpx.HTTPError, OSError) as error:
            raise _NoAnswerError(str(error) or f"no answer within {seconds:g} s") from error
        if answer.is_success:
            return body
        raise _refusal(answer.status_code, body, foreign=not url.startswith(self.server + "/"))


async def _at_most(answer: httpx.Response, limit: int) -> bytes:
    """The body, cut off just beyond the limit; errors may always be a little longer."""
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > max(limit, _ERROR_BYTES if answer.is_error else 0):
            break
    return bytes(body)


def _refusal(status: int, body: bytes, foreign: bool) -> Exception:
    """What an answer that is no success means: a refusal, or nothing that counts as an answer."""
    try:
        error = wire.ErrorBody.read(body).error
    except ValidationError:
        if foreign and status < 500 and status not in _PASSING:
            return ObjectStoreRefused(f"The object store where the farm keeps its audio refused with status {status}.")
        return _NoAnswerError(f"status {status} and no word of a farm")
    if status >= 500 or status in _PASSING:
        return _NoAnswerError(error.message)
    return _ERRORS.get(error.code, FarmError)(error.message, **error.details)
