"""The Python client of a farm: submit recordings, watch them, take the transcripts.

::

    with FarmClient("http://farm.example:8765", token) as farm:
        view = farm.submit_file(Path("talk.mp3"), options=RecognitionOptions(model="turbo"))
        for event in farm.events(transcription=view.id):
            ...
        print(farm.transcript(view.id).text)

Promises: an error of the farm comes back as the same exception class that the farm raised; calls that may be
sent twice without harm are sent again after a lost answer; files are streamed, never held in memory; every call
ends within its time-out. Safe to use from several threads. It keeps no state: whoever submits the same key again
gets the transcription that is there.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from whisper_farm.client.events import EventStream, Query, read_message
from whisper_farm.errors import FarmError, InvalidRequest, ServerUnreachable, SourceMissing, every_error
from whisper_farm.protocol.client import (
    JobList,
    JobView,
    NewToken,
    Scope,
    SegmentPage,
    ServerView,
    Submission,
    TokenList,
    TokenView,
    TranscriptionList,
    TranscriptionView,
    UploadStart,
    UploadTarget,
    WorkerList,
    WorkerView,
)
from whisper_farm.protocol.wire import Answer, ErrorBody, Request, Transfer
from whisper_farm.transcript.document import from_json
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Transcript

TRIES = 4
FIRST_PAUSE_SECONDS = 0.2
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Servers on this machine; a proxy named in the environment is not for them."""
BUSY = frozenset({502, 503, 504})
UPLOAD_BLOCK_BYTES = 1 << 20
SILENCE_SECONDS = 45.0
"""An event stream that says nothing for this long, not even that it is alive, is dead."""

Method = Literal["GET", "POST", "PUT", "DELETE"]
Message = TypeVar("Message", bound=Answer)


class FarmClient:
    """One farm, seen through one access token."""

    def __init__(self, server: str, token: str, timeout: float = 30.0) -> None:
        self.address = server.rstrip("/")
        self._token = token
        self._timeout = timeout
        try:
            self._http = httpx.Client(
                base_url=self.address,
                headers={"Authorization": f"Bearer {token}"},
                timeout=timeout,
                trust_env=httpx.URL(self.address).host not in LOOPBACK,
            )
        except (httpx.InvalidURL, UnicodeError, ValueError) as error:
            raise InvalidRequest(f"{server} is no address of a server: {error}.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all connections."""
        self._http.close()

    def server(self) -> ServerView:
        """Who answers, and what it can do."""
        return self._ask(ServerView, "GET", "/api/server")

    def submit(self, submission: Submission) -> TranscriptionView:
        """Ask for a transcription. With a key it may be sent again; without one it is sent once."""
        again = submission.key is not None
        return self._ask(TranscriptionView, "POST", "/api/transcriptions", body=submission, again=again)

    def submit_file(
        self,
        path: Path,
        *,
        options: RecognitionOptions | None = None,
        chunk_seconds: float = 30,
        priority: int = 0,
        key: str | None = None,
        sha256: str | None = None,
        progress: Callable[[int, int], None] = lambda sent, total: None,
    ) -> TranscriptionView:
        """Upload a recording, telling `progress` (bytes sent, bytes there are), and ask for its transcription."""
        upload_id = self.upload(path, progress)
        return self.submit(
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

    def upload(self, path: Path, progress: Callable[[int, int], None] = lambda sent, total: None) -> str:
        """Send a file to the farm; returns the id under which it can be submitted."""
        try:
            size = path.stat().st_size
        except OSError as error:
            raise SourceMissing(f"{path}: cannot be read ({error.strerror}).") from error
        start = UploadStart(name=_sendable(path.name), size=size)
        target = self._ask(UploadTarget, "POST", "/api/uploads", body=start, again=True)
        for attempt in range(TRIES):
            try:
                self._send_file(target.transfer, path, size, progress)
                return target.upload_id
            except ServerUnreachable:
                if attempt == TRIES - 1:
                    raise
                _pause(attempt)
        raise AssertionError("unreachable")

    def get(self, transcription_id: str) -> TranscriptionView:
        """A transcription: state, progress, gaps."""
        return self._ask(TranscriptionView, "GET", _place(transcription_id))

    def list(self) -> Iterator[TranscriptionView]:
        """The transcriptions this token may see, newest first, asked for page by page as they are taken."""
        cursor: str | None = None
        while True:
            query: Query = {} if cursor is None else {"after": cursor}
            page = self._ask(TranscriptionList, "GET", "/api/transcriptions", query=query)
            yield from page.transcriptions
            cursor = page.next
            if cursor is None:
                return

    def jobs(self, transcription_id: str) -> Iterator[JobView]:
        """Every job of a transcription with the evidence of its attempts."""
        after: int | None = None
        while True:
            query: Query = {} if after is None else {"after": after}
            page = self._ask(JobList, "GET", f"{_place(transcription_id)}/jobs", query=query)
            yield from page.jobs
            after = page.next
            if after is None:
                return

    def cancel(self, transcription_id: str) -> TranscriptionView:
        """Stop a transcription."""
        return self._ask(TranscriptionView, "POST", f"{_place(transcription_id)}/cancel", again=True)

    def retry(self, transcription_id: str) -> TranscriptionView:
        """Try again what failed or was cancelled; what is done is kept."""
        return self._ask(TranscriptionView, "POST", f"{_place(transcription_id)}/retry")

    def delete(self, transcription_id: str) -> None:
        """Delete a finished transcription, its audio and its transcript."""
        self._call("DELETE", _place(transcription_id), again=True)

    def transcript(self, transcription_id: str) -> Transcript:
        """The whole transcript."""
        answer = self._call("GET", f"{_place(transcription_id)}/transcript", {"format": "json"}, again=True)
        return from_json(answer.json())

    def rendered(self, transcription_id: str, format: str) -> str:
        """The transcript as the text of a file: txt, srt, vtt, tsv or json."""
        answer = self._call("GET", f"{_place(transcription_id)}/transcript", {"format": format}, again=True)
        return answer.content.decode("utf-8")

    def segments(self, transcription_id: str, after: int = -1) -> SegmentPage:
        """What was said in the finished chunks after position `after`, as far as they follow it without a hole."""
        return self._ask(SegmentPage, "GET", f"{_place(transcription_id)}/segments", query={"after": after})

    def workers(self) -> tuple[WorkerView, ...]:
        """The workers the farm has heard of lately."""
        return self._ask(WorkerList, "GET", "/api/workers").workers

    def drain(self, worker_id: str) -> None:
        """Let a worker finish what it holds and leave."""
        self._call("POST", f"/api/workers/{_quoted(worker_id)}/drain", again=True)

    def create_token(self, name: str, scope: Scope, owner: str | None = None) -> TokenView:
        """Make an access token; the secret is in this answer and nowhere else."""
        return self._ask(TokenView, "POST", "/api/tokens", body=NewToken(name=name, scope=scope, owner=owner))

    def tokens(self) -> tuple[TokenView, ...]:
        """The access tokens, without their secrets."""
        return self._ask(TokenList, "GET", "/api/tokens").tokens

    def revoke_token(self, token_id: str) -> None:
        """End an access token."""
        self._call("DELETE", f"/api/tokens/{_quoted(token_id)}", again=True)

    def events(self, after: int | None = None, transcription: str | None = None) -> EventStream:
        """Follow what happens, of one transcription or of all that this token may see, until it is closed."""
        return EventStream(self._connected_events, after, transcription)

    @contextmanager
    def _connected_events(self, query: Query) -> Iterator[httpx.Response]:
        timeout = httpx.Timeout(self._timeout, read=SILENCE_SECONDS)
        try:
            with self._http.stream("GET", "/api/events", params=dict(query), timeout=timeout) as answer:
                if answer.is_error:
                    answer.read()
                    raise self._error(answer)
                yield answer
        except (httpx.HTTPError, httpx.StreamError, RuntimeError) as error:
            raise self._unreachable(error) from error

    def _send_file(self, transfer: Transfer, path: Path, size: int, progress: Callable[[int, int], None]) -> None:
        """One try at an upload. To an object store it goes without our token."""
        headers = {"Content-Length": str(size), **transfer.headers}
        timeout = httpx.Timeout(self._timeout, read=max(self._timeout, 300))
        own = not transfer.url.startswith(("http://", "https://"))
        http = self._http if own else httpx.Client(timeout=timeout)
        try:
            blocks = _blocks(path, size, progress)
            answer = http.request(transfer.method, transfer.url, content=blocks, headers=headers, timeout=timeout)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        finally:
            if not own:
                http.close()
        if answer.is_error:
            raise self._error(answer)

    def _ask(
        self,
        kind: type[Message],
        method: Method,
        path: str,
        *,
        query: Query | None = None,
        body: Request | None = None,
        again: bool = False,
    ) -> Message:
        answer = self._call(method, path, query, body, again=again or method == "GET")
        return read_message(kind, answer.content)

    def _call(
        self,
        method: Method,
        path: str,
        query: Query | None = None,
        body: Request | None = None,
        *,
        again: bool,
    ) -> httpx.Response:
        """Send a request, again where that does no harm; an error answer becomes its exception."""
        content = None if body is None else body.model_dump_json(exclude_none=True)
        headers = {} if body is None else {"Content-Type": "application/json"}
        for attempt in range(TRIES):
            last = attempt == TRIES - 1
            try:
                answer = self._http.request(method, path, params=dict(query or {}), content=content, headers=headers)
            except httpx.ConnectError as error:
                if last:
                    raise self._unreachable(error) from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                if last or not again or isinstance(error, httpx.UnsupportedProtocol):
                    raise self._unreachable(error) from error
            else:
                if not answer.is_error:
                    return answer
                if last or not again or answer.status_code not in BUSY:
                    raise self._error(answer)
            _pause(attempt)
        raise AssertionError("unreachable")

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        reason = str(error) or type(error).__name__
        return ServerUnreachable(f"The farm at {self.address} does not answer ({reason}).")

    def _error(self, answer: httpx.Response) -> FarmError:
        """The exception that an error answer stands for."""
        try:
            detail = ErrorBody.read(answer.content).error
        except ValidationError:
            where = f"{self.address} answered {answer.status_code} {answer.reason_phrase}"
            return ServerUnreachable(f"{where}, and not as a Whisper Farm server does; is the address right?")
        kind = every_error().get(detail.code, FarmError)
        details = {name: value for name, value in detail.details.items() if name != "message"}
        return kind(detail.message, **details)


def _blocks(path: Path, size: int, progress: Callable[[int, int], None]) -> Iterator[bytes]:
    """A file's bytes, exactly as many as were announced."""
    sent = 0
    with path.open("rb") as file:
        while sent < size and (block := file.read(min(UPLOAD_BLOCK_BYTES, size - sent))):
            yield block
            sent += len(block)
            progress(sent, size)
    if sent < size:
        raise SourceMissing(f"{path}: became shorter while it was sent; try again.")


def _pause(attempt: int) -> None:
    """Back off: doubling, with jitter, so that many clients do not come back at once."""
    time.sleep(FIRST_PAUSE_SECONDS * 2**attempt * random.uniform(0.5, 1))


def _quoted(identifier: str) -> str:
    """An id as part of an address: whatever a user typed, it stays one step of the path."""
    return quote(identifier, safe="")


def _place(transcription_id: str) -> str:
    return f"/api/transcriptions/{_quoted(transcription_id)}"


def _sendable(name: str) -> str:
    """A file's name as UTF-8 can carry it, within what the protocol allows."""
    return name.encode("utf-8", "replace").decode("utf-8")[-255:] or "recording"
