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
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from whisper_farm.client.transport import (
    FIRST_PAUSE_SECONDS,
    SLOWEST_BYTES_PER_SECOND,
    Content,
    HttpRequest,
    NoAnswerError,
    Reply,
    Transport,
    try_again,
)
from whisper_farm.errors import (
    BlobMissing,
    DigestMismatch,
    Forbidden,
    ObjectStoreRefused,
    ProtocolMismatch,
    ServerUnreachable,
    Unauthorized,
    WorkerUnknown,
)
from whisper_farm.protocol import wire, worker
from whisper_farm.protocol.jobs import TranscribeTask
from whisper_farm.transcript.options import RecognitionOptions

T = TypeVar("T")
Answer = TypeVar("Answer", bound=wire.Answer)

FOR_EVER = float("inf")
FATAL = (Unauthorized, Forbidden, ProtocolMismatch)
"""Refusals that will not change: the worker has to stop."""
DOWNLOADS = 8
UPLOADS = 4
FILE_BLOCK_BYTES = 1 << 18
MAX_ANSWER_BYTES = 64 << 20
_PASSING = (408, 425, 429)
_MISMATCHES = 3
_SILENT_CALLS = 2


class WorkerApi:
    """A connection to one farm. `told` hears False when the farm does not answer (twice running), True when it does."""

    def __init__(
        self,
        server: str,
        token: str,
        timeout_seconds: float,
        told: Callable[[bool, str], None] = lambda answers, why: None,
        worker_id: str | None = None,
    ) -> None:
        self._transport = Transport(server, _headers(token))
        self.worker_id = worker_id or secrets.token_hex(8)
        self.timeout_seconds, self._told = timeout_seconds, told
        self.on_unknown: Callable[[], Awaitable[None]] | None = None
        """What to do when the farm does not know this worker (any more), before the call is sent again."""
        self.on_strange_claim: Callable[[str, str], None] = lambda token, why: None
        """Hears the token of a claim that this worker does not understand, and why."""
        self._failures = 0
        self._downloads = asyncio.Semaphore(DOWNLOADS)
        self._uploads = asyncio.Semaphore(UPLOADS)

    @property
    def server(self) -> str:
        """The farm's address."""
        return self._transport.server

    def turn_to(self, server: str, token: str) -> None:
        """Belong to this farm: before the first call."""
        self._transport.turn_to(server, _headers(token))

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def join(self, request: worker.JoinRequest, patience: float) -> worker.JoinAnswer:
        """Ask to be let in."""
        return await self._call("join", request, worker.JoinAnswer, patience)

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

    async def download(self, transfer: wire.Transfer, size: int, sha256: str) -> bytes:
        """The bytes announced; DigestMismatch if others keep coming."""
        async with self._downloads:
            for _ in range(_MISMATCHES):
                data = await self._transferred(transfer, size)
                if len(data) == size and hashlib.sha256(data).hexdigest() == sha256:
                    return data
        raise DigestMismatch(f"The audio that arrived is not what was announced ({len(data)} bytes instead of {size}).")

    async def upload(self, transfer: wire.Transfer, content: bytes | Path) -> None:
        """Send these bytes, or this file, a block at a time."""
        async with self._uploads:
            size = len(content) if isinstance(content, bytes) else (await asyncio.to_thread(content.stat)).st_size
            await self._transferred(transfer, size, lambda: _blocks(content) if isinstance(content, Path) else content)

    async def read(self, transfer: wire.Transfer, first: int, last: int, patience_seconds: float) -> bytes:
        """Bytes `first` to `last` of a source, and never more in memory. BlobMissing if an object store has it not."""
        size = last - first + 1
        headers = {**transfer.headers, "Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}

        async def once() -> bytes:
            reply = await self._exchanged(transfer, headers, size)
            if reply.status in (404, 410) and not self._transport.is_own(transfer.url):
                raise BlobMissing(f"The source was refused with status {reply.status}.")
            if reply.succeeded and len(reply.content) != size:
                raise NoAnswerError(f"bytes {first} to {last} answered with status {reply.status}, and not as many")
            return _answered(reply, foreign=not self._transport.is_own(transfer.url))

        return await self._until_answered(once, patience_seconds)

    async def _transferred(
        self, transfer: wire.Transfer, size: int, content: Callable[[], Content] | None = None
    ) -> bytes:
        """Do what a transfer says; `size` is that of the bytes in whichever direction. `content` gives them for a try.

        The farm is waited for; a store that stays away is the farm's to replace with another address.
        """
        own = self._transport.is_own(transfer.url)
        sent = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        headers = transfer.headers if content is None else {**sent, **transfer.headers}

        async def once() -> bytes:
            data = content() if content else None
            return _answered(await self._exchanged(transfer, headers, size, data), foreign=not own)

        return await self._until_answered(once, FOR_EVER if own else self.timeout_seconds)

    async def _exchanged(
        self, transfer: wire.Transfer, headers: Mapping[str, str], size: int, data: Content | None = None
    ) -> Reply:
        if not self._transport.is_own(transfer.url) and not transfer.url.startswith(("http://", "https://")):
            raise ServerUnreachable(f"The farm named an address that is neither its own nor a link: {transfer.url!r}.")
        seconds = self.timeout_seconds + size / SLOWEST_BYTES_PER_SECOND
        request = HttpRequest(transfer.method, transfer.url, headers=headers, content=data)
        return await self._transport.exchange(request, seconds, size)

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
        call = HttpRequest("POST", f"/api/work/{name}", headers={"Content-Type": "application/json"}, content=body)

        async def once() -> Answer:
            reply = await self._transport.exchange(call, seconds or self.timeout_seconds, MAX_ANSWER_BYTES)
            return self._read(kind, _answered(reply, foreign=False))

        while True:
            try:
                return await self._until_answered(once, patience)
            except WorkerUnknown:
                if self.on_unknown is None or kind is worker.RegisterAnswer:
                    raise
                await self.on_unknown()
                await asyncio.sleep(FIRST_PAUSE_SECONDS)

    def _read(self, kind: type[Answer], body: bytes) -> Answer:
        """The answer, without the claims in it that this worker does not understand."""
        try:
            if kind not in (worker.ClaimAnswer, worker.CompleteAnswer):
                return kind.read(body)
            answer: dict[str, Any] = dict(json.loads(body))
            claims, answer["claims"] = list(answer.get("claims", ())), ()
            kind.model_validate(answer, extra="ignore")
            answer["claims"] = [claim for claim in claims if self._understood(claim)]
            return kind.model_validate(answer, extra="ignore")
        except ValueError as error:
            raise NoAnswerError(f"{self.server} answers, but not as a farm does") from error

    def _understood(self, raw: Any) -> bool:
        """Whether this claim can be worked on. An option that is set and unknown here would change the words."""
        try:
            claim = worker.Claim.model_validate(raw, extra="ignore")
            if isinstance(claim.task, TranscribeTask):
                options = raw["task"]["options"].items()
                set_options = {name: value for name, value in options if value is not None}
                RecognitionOptions.model_validate(set_options, extra="forbid")
            return True
        except ValidationError as error:
            first = error.errors()[0]
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        token = raw.get("token") if isinstance(raw, dict) else None
        self.on_strange_claim(str(token), why)
        return False

    async def _until_answered(self, once: Callable[[], Awaitable[T]], patience: float) -> T:
        try:
            answer = await try_again(
                once, patience_seconds=patience, failed=lambda error: self._heard(False, str(error))
            )
        except NoAnswerError as error:
            raise ServerUnreachable(f"{self.server} does not answer: {error}") from error
        self._heard(True, "")
        return answer

    def _heard(self, something: bool, why: str) -> None:
        """Keep count of calls without an answer; a single one is nothing to talk about."""
        before, self._failures = self._failures, 0 if something else self._failures + 1
        if self._failures == _SILENT_CALLS:
            self._told(False, f"{self.server} does not answer: {why.rstrip('.')}. Trying again until it does.")
        elif something and before >= _SILENT_CALLS:
            self._told(True, f"{self.server} answers again.")


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", wire.PROTOCOL_HEADER: str(wire.PROTOCOL_VERSION)}


async def _blocks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while block := await asyncio.to_thread(file.read, FILE_BLOCK_BYTES):
            yield block


def _answered(reply: Reply, foreign: bool) -> bytes:
    """The body of a success. Raises the refusal of the farm, or `NoAnswerError` where nothing counts as an answer."""
    if reply.succeeded:
        return reply.content
    passing = reply.status >= 500 or reply.status in _PASSING
    refusal = reply.refusal()
    if refusal is not None and not passing:
        raise refusal
    if foreign and not passing:
        raise ObjectStoreRefused(f"The object store where the farm keeps its audio refused with status {reply.status}.")
    raise NoAnswerError(refusal.message if refusal else f"status {reply.status} and no word of a farm")
