"""The Python client of a farm, for programs with an event loop; `client/farm.py` is the one for all others.

::

    async with AsyncFarmClient("http://farm.example:8765", token) as farm:
        view = await farm.submit_file(Path("talk.mp3"), options=RecognitionOptions(model="turbo"))
        async for event in farm.events(transcription=view.id):
            ...
        print((await farm.transcript(view.id)).text)

Promises: an error of the farm comes back as the same exception class that the farm raised. A call that may be sent
twice without harm is sent again after a lost answer. Files are streamed, never held in memory. Every call ends within
its time-out, all tries together; a body that passes at a fair rate may take longer. It keeps no state: whoever submits
the same key again gets the transcription that is there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal, Self, TypeVar
from urllib.parse import quote, urlsplit

from whisper_farm.client.events import AsyncEventStream
from whisper_farm.client.transport import Content, NoAnswerError, Query, Reply, Transport, try_again, understood
from whisper_farm.errors import (
    FarmError,
    ObjectStoreRefused,
    ServerUnreachable,
    SourceMissing,
    SourceUnreadable,
    StoreUnavailable,
    WrongState,
)
from whisper_farm.protocol.client import (
    Batch,
    BatchView,
    DeliveryList,
    DeliveryView,
    EventView,
    FeedList,
    FeedView,
    Hit,
    HitList,
    JobList,
    JobView,
    NewFeed,
    NewToken,
    NewWebhook,
    Scope,
    SegmentPage,
    ServerView,
    Submission,
    Submitted,
    TokenList,
    TokenView,
    TranscriptionList,
    TranscriptionState,
    TranscriptionView,
    UploadProgress,
    UploadStart,
    UploadTarget,
    WebhookList,
    WebhookView,
    WorkerList,
    WorkerView,
)
from whisper_farm.protocol.machines import MachineAction, MachineLine, MachineList, MachineLog, MachineView, PoolChange
from whisper_farm.protocol.wire import Answer, Request, Transfer
from whisper_farm.transcript.document import from_json
from whisper_farm.transcript.layout import PLAIN, CueLayout
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Transcript

TRIES = 4
BUSY = frozenset({502, 503, 504})
UPLOAD_BLOCK_BYTES = 1 << 20
UPLOAD_PART_BYTES = 8 << 20
"""What is sent again after a connection broke."""
PATIENCE_SECONDS = 300.0
"""An upload waits so long for a farm that was there: it may be started anew meanwhile."""
UPLOAD_SECONDS = 300.0
"""An upload may be silent for this long: the server passes the file on before it answers."""

Method = Literal["GET", "POST", "PUT", "DELETE"]
Progress = Callable[[int, int], None]
"""Told how many bytes were sent, and how many there are."""
Told = TypeVar("Told", bound=Answer)


def no_progress(sent: int, total: int) -> None:
    """For who does not want to know how far an upload is."""


class BusyError(NoAnswerError):
    """The farm, or what stands before it, has no time just now."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"status {reply.status}")
        self.reply = reply


class AsyncFarmClient:
    """One farm, seen through one access token."""

    def __init__(self, server: str, token: str, timeout: float = 30.0) -> None:
        self._transport = Transport(server, {"Authorization": f"Bearer {token}"})
        self.address = self._transport.server
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of all connections."""
        await self._transport.close()

    async def server(self) -> ServerView:
        """Who answers, and what it can do."""
        return await self._ask(ServerView, "GET", "/api/server")

    async def submit(self, submission: Submission) -> TranscriptionView:
        """Ask for a transcription. With a key it may be sent again; without one it is sent once."""
        again = submission.key is not None
        return await self._ask(TranscriptionView, "POST", "/api/transcriptions", body=submission, again=again)

    async def submit_batch(self, submissions: Sequence[Submission]) -> list[Submitted]:
        """Ask for up to a hundred transcriptions; each is taken or refused by itself, and answered in its place."""
        again = all(one.key is not None for one in submissions)
        batch = Batch(submissions=list(submissions))
        answer = await self._ask(BatchView, "POST", "/api/transcriptions/batch", body=batch, again=again)
        return answer.submissions

    async def submit_file(
        self,
        path: Path,
        *,
        options: RecognitionOptions | None = None,
        chunk_seconds: float = 30,
        priority: int = 0,
        key: str | None = None,
        sha256: str | None = None,
        progress: Progress = no_progress,
    ) -> TranscriptionView:
        """Upload a recording and ask for its transcription."""
        upload_id = await self.upload(path, progress)
        return await self.submit(
            Submission(
                name=_sendable(path.name),
                upload_id=upload_id,
                options=options or RecognitionOptions(),
                chunk_seconds=chunk_seconds,
                priority=priority,
                key=key,
                sha256=sha256,
            )
        )

    async def upload(self, path: Path, progress: Progress = no_progress) -> str:
        """Send a file to the farm; returns the id under which it can be submitted."""
        try:
            size = (await asyncio.to_thread(path.stat)).st_size
        except OSError as error:
            raise SourceMissing(f"{path}: cannot be read ({error.strerror}).") from error
        start = UploadStart(name=_sendable(path.name), size=size)
        target = await self._ask(UploadTarget, "POST", "/api/uploads", body=start, again=True)
        await self._send_file(target.transfer, path, size, progress)
        return target.upload_id

    async def get(self, transcription_id: str) -> TranscriptionView:
        """A transcription: state, progress, gaps."""
        return await self._ask(TranscriptionView, "GET", _place(transcription_id))

    async def list(self, state: TranscriptionState | None = None) -> AsyncGenerator[TranscriptionView, None]:
        """The transcriptions this token may see, newest first, asked for page by page as they are taken."""
        query: dict[str, str | int | float] = {} if state is None else {"state": state}
        while True:
            page = await self._ask(TranscriptionList, "GET", "/api/transcriptions", query=query)
            for view in page.transcriptions:
                yield view
            if page.next is None:
                return
            query["after"] = page.next

    async def search(self, words: str, limit: int = 50) -> tuple[Hit, ...]:
        """Passages in which these words are said, the newest transcription first."""
        return (await self._ask(HitList, "GET", "/api/search", query={"words": words, "limit": limit})).hits

    async def jobs(self, transcription_id: str) -> AsyncGenerator[JobView, None]:
        """Every job of a transcription with the evidence of its attempts."""
        query: dict[str, str | int | float] = {}
        while True:
            page = await self._ask(JobList, "GET", f"{_place(transcription_id)}/jobs", query=query)
            for job in page.jobs:
                yield job
            if page.next is None:
                return
            query["after"] = page.next

    async def cancel(self, transcription_id: str) -> TranscriptionView:
        """Stop a transcription."""
        return await self._ask(TranscriptionView, "POST", f"{_place(transcription_id)}/cancel", again=True)

    async def retry(self, transcription_id: str) -> TranscriptionView:
        """Try again what failed or was cancelled; what is done is kept."""
        return await self._ask(TranscriptionView, "POST", f"{_place(transcription_id)}/retry")

    async def delete(self, transcription_id: str) -> None:
        """Delete a finished transcription, its audio and its transcript."""
        await self._call("DELETE", _place(transcription_id), again=True)

    async def transcript(self, transcription_id: str) -> Transcript:
        """The whole transcript."""
        return from_json(json.loads(await self._document(transcription_id, "json")))

    async def rendered(self, transcription_id: str, format: str, layout: CueLayout = PLAIN) -> bytes:
        """The transcript as the content of a file in one of the output formats; subtitles in this layout."""
        return await self._document(transcription_id, format, layout)

    async def segments(self, transcription_id: str, after: int = -1) -> SegmentPage:
        """What was said in the finished chunks after position `after`, as far as they follow it without a hole."""
        place = f"{_place(transcription_id)}/segments"
        return await self._ask(SegmentPage, "GET", place, query={"after": after})

    async def workers(self) -> tuple[WorkerView, ...]:
        """The workers the farm has heard of lately."""
        return (await self._ask(WorkerList, "GET", "/api/workers")).workers

    async def add_feed(self, feed: NewFeed) -> FeedView:
        """Have the episodes of a feed transcribed."""
        return await self._ask(FeedView, "POST", "/api/feeds", body=feed)

    async def feeds(self) -> tuple[FeedView, ...]:
        """The feeds that are looked at."""
        return (await self._ask(FeedList, "GET", "/api/feeds")).feeds

    async def remove_feed(self, feed_id: str) -> None:
        """Look at a feed no more; what was transcribed stays."""
        await self._call("DELETE", f"/api/feeds/{_quoted(feed_id)}", again=True)

    async def add_webhook(self, webhook: NewWebhook) -> WebhookView:
        """Have an address told of the own transcriptions; only this answer has the secret."""
        return await self._ask(WebhookView, "POST", "/api/webhooks", body=webhook)

    async def webhooks(self) -> tuple[WebhookView, ...]:
        """The addresses that are told."""
        return (await self._ask(WebhookList, "GET", "/api/webhooks")).webhooks

    async def remove_webhook(self, webhook_id: str) -> None:
        """Send nothing there any more."""
        await self._call("DELETE", _hook(webhook_id), again=True)

    async def test_webhook(self, webhook_id: str) -> DeliveryView:
        """Send it a message that tells of nothing; `deliveries` says what became of it."""
        return await self._ask(DeliveryView, "POST", f"{_hook(webhook_id)}/test")

    async def deliveries(self, webhook_id: str) -> tuple[DeliveryView, ...]:
        """The newest messages of a webhook, and what became of them."""
        return (await self._ask(DeliveryList, "GET", f"{_hook(webhook_id)}/deliveries")).deliveries

    async def redeliver(self, webhook_id: str, message_id: str) -> DeliveryView:
        """Send a message once more."""
        place = f"{_hook(webhook_id)}/deliveries/{_quoted(message_id)}/redeliver"
        return await self._ask(DeliveryView, "POST", place)

    async def drain(self, worker_id: str) -> None:
        """Let a worker finish what it holds and leave."""
        await self._call("POST", f"/api/workers/{_quoted(worker_id)}/drain", again=True)

    async def machines(self) -> MachineList:
        """The pools of machines, and the machines that count or ended today."""
        return await self._ask(MachineList, "GET", "/api/machines")

    async def sync_machines(self) -> MachineList:
        """The same, and let the farm look at all providers now."""
        return await self._ask(MachineList, "POST", "/api/machines/sync", again=True)

    async def machine_log(self, machine: str | None = None) -> tuple[MachineLine, ...]:
        """What happened to machines, newest first; to one of them or to all."""
        return (
            await self._ask(MachineLog, "GET", "/api/machines/log", query={"machine": machine} if machine else None)
        ).lines

    async def change_pool(self, pool: str, change: PoolChange) -> MachineList:
        """Switch a pool, or fix how many machines it shall have."""
        return await self._ask(MachineList, "POST", f"/api/pools/{_quoted(pool)}", body=change, again=True)

    async def change_machine(self, machine: str, action: MachineAction) -> MachineView:
        """Ask that a machine be started, drained, stopped or destroyed."""
        return await self._ask(MachineView, "POST", f"/api/machines/{_quoted(machine)}/{action}", again=True)

    async def create_token(
        self, name: str, scope: Scope, owner: str | None = None, days: float | None = None
    ) -> TokenView:
        """Make an access token, for so many days; the secret is in this answer and nowhere else."""
        body = NewToken(name=name, scope=scope, owner=owner, days=days)
        return await self._ask(TokenView, "POST", "/api/tokens", body=body)

    async def tokens(self) -> tuple[TokenView, ...]:
        """The access tokens, without their secrets."""
        return (await self._ask(TokenList, "GET", "/api/tokens")).tokens

    async def revoke_token(self, token_id: str, only: bool = False) -> None:
        """End an access token and, unless `only`, all that were made with it."""
        await self._call("DELETE", f"/api/tokens/{_quoted(token_id)}", query={"only": only}, again=True)

    def events(self, after: int | None = None, transcription: str | None = None) -> AsyncGenerator[EventView, None]:
        """Follow what happens, of one transcription or of all that this token may see, for ever."""
        return aiter(AsyncEventStream(self._transport, self._error, after, transcription))

    async def _document(self, transcription_id: str, format: str, layout: CueLayout = PLAIN) -> bytes:
        query = {"format": format, **{name: value for name, value in asdict(layout).items() if value}}
        return await self._call("GET", f"{_place(transcription_id)}/transcript", query, again=True)

    async def _send_file(self, transfer: Transfer, path: Path, size: int, progress: Progress) -> None:
        """Send a file to whom a transfer names: to an object store at once, to the farm part by part."""
        if self._transport.is_own(transfer.url):
            await self._send_parts(transfer, path, size, progress)
            return
        store = f"The object store at {urlsplit(transfer.url).netloc}, where the farm keeps its files,"

        async def once() -> bytes:
            reply = await self._exchange(transfer, transfer.url, _blocks(path, 0, size, size, progress), size)
            if not reply.succeeded and reply.status not in BUSY:
                raise ObjectStoreRefused(f"{store} refused the upload: {reply.status} {reply.phrase}.")
            return self._answered(reply, again=True)

        try:
            await self._until_answered(once, patience_seconds=float("inf"), again=True)
        except ServerUnreachable as error:
            raise StoreUnavailable(f"{store} does not answer ({error.__cause__}).") from error

    async def _send_parts(self, transfer: Transfer, path: Path, size: int, progress: Progress) -> None:
        """After a break an empty part asks where to go on: an early refusal of a large one could break again."""
        offset, sure = 0, True

        async def once() -> bytes:
            nonlocal sure
            if not sure:
                await send(0)
            sure = False
            answer = await send(min(UPLOAD_PART_BYTES, size - offset))
            sure = True
            return answer

        async def send(length: int) -> bytes:
            blocks = _blocks(path, offset, length, size, progress)
            return self._answered(
                await self._exchange(transfer, f"{transfer.url}?offset={offset}", blocks, length), True
            )

        while True:
            try:
                answer = await self._until_answered(once, patience_seconds=PATIENCE_SECONDS, again=True, tries=None)
                offset = understood(UploadProgress, answer).received_bytes
            except WrongState as refused:
                received = refused.details.get("received_bytes")
                if not isinstance(received, int) or received == offset:
                    raise
                offset, sure = received, True
                continue
            if offset >= size:
                return

    async def _exchange(self, transfer: Transfer, url: str, blocks: AsyncIterator[bytes], length: int) -> Reply:
        headers = {"Content-Length": str(length), **transfer.headers}
        seconds = max(self._timeout, UPLOAD_SECONDS)
        return await self._transport.exchange(transfer.method, url, seconds, headers=headers, content=blocks)

    async def _ask(
        self,
        kind: type[Told],
        method: Method,
        path: str,
        *,
        query: Query | None = None,
        body: Request | None = None,
        again: bool = False,
    ) -> Told:
        return understood(kind, await self._call(method, path, query, body, again=again or method == "GET"))

    async def _call(
        self, method: Method, path: str, query: Query | None = None, body: Request | None = None, *, again: bool
    ) -> bytes:
        """Send a request, again where that does no harm, all within the time-out."""
        content: Content | None = None if body is None else body.model_dump_json(exclude_unset=True).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._timeout

        async def once() -> bytes:
            left = max(0.0, give_up_at - loop.time())
            reply = await self._transport.exchange(method, path, left, query=query, headers=headers, content=content)
            return self._answered(reply, again)

        return await self._until_answered(once, patience_seconds=self._timeout, again=again)

    async def _until_answered(
        self, once: Callable[[], Awaitable[bytes]], *, patience_seconds: float, again: bool, tries: int | None = TRIES
    ) -> bytes:
        """Try until there is an answer. What the farm may have heard is sent again only if that does no harm."""

        def failed(error: NoAnswerError) -> None:
            if error.sent and not again:
                raise error

        try:
            return await try_again(once, patience_seconds=patience_seconds, tries=tries, failed=failed)
        except BusyError as busy:
            raise self._error(busy.reply) from busy
        except NoAnswerError as error:
            raise ServerUnreachable(f"The farm at {self.address} does not answer ({error}).") from error

    def _answered(self, reply: Reply, again: bool) -> bytes:
        if again and reply.status in BUSY:
            raise BusyError(reply)
        if not reply.succeeded:
            raise self._error(reply)
        return reply.content

    def _error(self, reply: Reply) -> FarmError:
        """The exception that an answer stands for that is no success."""
        where = f"{self.address} answered {reply.status} {reply.phrase}"
        return reply.refusal() or ServerUnreachable(
            f"{where}, and not as a Whisper Farm server does; is the address right?"
        )


async def _blocks(path: Path, start: int, length: int, size: int, progress: Progress) -> AsyncIterator[bytes]:
    """So many bytes of a file of that size, exactly as many as were announced."""
    sent = 0
    try:
        file = await asyncio.to_thread(path.open, "rb")
        with file:
            file.seek(start)
            while sent < length and (
                block := await asyncio.to_thread(file.read, min(UPLOAD_BLOCK_BYTES, length - sent))
            ):
                yield block
                sent += len(block)
                progress(start + sent, size)
    except OSError as error:
        raise SourceUnreadable(f"{path}: cannot be read ({error.strerror}).") from error
    if sent < length:
        raise SourceMissing(f"{path}: became shorter while it was sent; try again.")


def _quoted(identifier: str) -> str:
    """An id as part of an address: whatever a user typed, it stays one step of the path."""
    return quote(identifier, safe="")


def _place(transcription_id: str) -> str:
    return f"/api/transcriptions/{_quoted(transcription_id)}"


def _hook(webhook_id: str) -> str:
    return f"/api/webhooks/{_quoted(webhook_id)}"


def _sendable(name: str) -> str:
    """A file's name as UTF-8 can carry it, within what the protocol allows."""
    return name.encode("utf-8", "replace").decode("utf-8")[-255:] or "recording"
