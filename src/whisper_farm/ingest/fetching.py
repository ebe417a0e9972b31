"""Asks for what a link leads to: through the guard, redirect by redirect, bounded in size, pace and waiting.

Promises: what comes is a recording as far as its first bytes tell, or an error says in words what it is instead. A
fetch that broke off goes on where it stopped, if the server says that it is still the same file. It stores nothing.
The details of `FetchFailed` say whether it may go better later (`again`), whether only from the start (`anew`), and
whether nobody knows the host (`no_host`).
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from urllib.parse import quote, urljoin

import httpcore

from whisper_farm import __version__
from whisper_farm.errors import FetchFailed, LinkIsPage
from whisper_farm.ingest.addresses import check_url, host_of
from whisper_farm.ingest.links import NoSuchHost

MOST_REDIRECTS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which another try may go better."""
TIMEOUTS = {"connect": 20.0, "read": 30.0, "write": 20.0, "pool": 20.0}
PACE_SECONDS = 60.0
LEAST_BYTES = 60 * 2048
"""What must come in that time; who sends less would hold the fetcher for days."""
HEAD_BYTES = 2048
"""As much is looked at to tell a page from a recording."""
MOST_RETRY_AFTER = 3600.0
LOST = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, httpcore.UnsupportedProtocol, OSError)
"""What may come of a request instead of an answer."""

_PLAYLISTS = (b"#extm3u", b"#ext-x-", b"[playlist]", b"ffconcat", b"[reference]")
_SPACE = b"\xef\xbb\xbf \t\r\n\x00"
_RANGE = re.compile(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15})")


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """The answer at the end of all redirects. Names of headers are in small letters."""

    status: int
    url: str
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]

    @property
    def wait_seconds(self) -> float:
        """How long to wait before the next try, as far as the server says."""
        told = self.headers.get("retry-after", "")
        return min(float(told), MOST_RETRY_AFTER) if told.isdecimal() and len(told) < 9 else 0.0


@dataclass(frozen=True, slots=True)
class Download:
    """A recording that is coming, from byte `start` on. `validator` says later whether it is still the same file."""

    start: int
    total: int | None
    validator: str | None
    pieces: AsyncIterator[bytes]


@asynccontextmanager
async def ask(pool: httpcore.AsyncConnectionPool, url: str, headers: Mapping[str, str]) -> AsyncIterator[WebAnswer]:
    """The answer that a link leads to, with its redirects followed. Raises `AddressRefused` and `FetchFailed`."""
    sent = {"accept-encoding": "identity", "user-agent": f"whisper-farm/{__version__}", **headers}
    for _ in range(MOST_REDIRECTS + 1):
        check_url(url)
        with _network(url):
            async with pool.stream("GET", url, headers=list(sent.items()), extensions={"timeout": TIMEOUTS}) as answer:
                told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
                if answer.status not in REDIRECTS or "location" not in told:
                    yield WebAnswer(answer.status, url, told, _at_a_pace(answer.aiter_stream(), url))
                    return
                url = _redirected(url, told["location"])
    raise FetchFailed(f"{host_of(url)} leads from address to address, more than {MOST_REDIRECTS} times.")


@asynccontextmanager
async def download(
    pool: httpcore.AsyncConnectionPool, url: str, have: int = 0, validator: str | None = None
) -> AsyncIterator[Download]:
    """The recording behind a link, without the bytes that are there already, where the server can leave them out."""
    headers = {"accept": "audio/*, video/*;q=0.9, */*;q=0.5"}
    if have and validator:
        headers |= {"range": f"bytes={have}-", "if-range": validator}
    async with ask(pool, url, headers) as answer:
        _check_status(answer, have)
        if answer.headers.get("content-encoding", "identity") not in ("identity", ""):
            raise FetchFailed(f"{host_of(answer.url)} sends the file packed, which it was asked not to do.")
        same = validator_of(answer.headers)
        if answer.status == 206:
            found = _RANGE.fullmatch(answer.headers.get("content-range", ""))
            if found is None or int(found[1]) != have or same not in (None, validator):
                raise FetchFailed(f"{host_of(answer.url)} has another file there by now.", again=True, anew=True)
            yield Download(have, int(found[2]), validator, answer.pieces)
            return
        length = answer.headers.get("content-length", "")
        total = int(length) if length.isdecimal() and len(length) < 16 else None
        yield Download(0, total, same, _recording(answer))


async def _recording(answer: WebAnswer) -> AsyncIterator[bytes]:
    """The pieces; raises `LinkIsPage` if the first bytes are not those of a recording."""
    head = b""
    async for piece in answer.pieces:
        if len(head) < HEAD_BYTES:
            head += piece
            if len(head) < HEAD_BYTES:
                continue
            check_head(head, answer)
            yield head
        else:
            yield piece
    if len(head) < HEAD_BYTES:
        check_head(head, answer)
        yield head


def check_head(head: bytes, answer: WebAnswer) -> None:
    """Raise `LinkIsPage` if a file that begins so is a page, a feed or a playlist."""
    begin = head[:HEAD_BYTES].lstrip(_SPACE).lower()
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    what = None
    if begin.startswith(_PLAYLISTS) or b"<smil" in begin or b"<mpd" in begin or b"<asx" in begin:
        what = "a playlist, not a recording; give the address of one of its recordings"
    elif begin.startswith(b"<") and (b"<rss" in begin or b"<feed" in begin or b"<opml" in begin):
        what = "a feed, not a recording: `whisper-farm feed add` takes it"
    elif begin.startswith(b"<") or (kind in ("text/html", "application/json") and _is_text(head)):
        what = "a page, not a recording; give the address of the recording itself"
    if what is not None:
        raise LinkIsPage(f"{host_of(answer.url)} answers with {what}.")


def validator_of(headers: Mapping[str, str]) -> str | None:
    """What stays the same as long as the file does: a strong ETag, or the time of its last change."""
    etag = headers.get("etag", "")
    found = etag if etag.startswith('"') else headers.get("last-modified", "")
    return found if found and len(found) <= 200 and found.isprintable() else None


def _check_status(answer: WebAnswer, have: int) -> None:
    if answer.status == 200 or (answer.status == 206 and have):
        return
    host = host_of(answer.url)
    if answer.status in (206, 416):
        raise FetchFailed(f"{host} does not go on where it stopped.", again=True, anew=True)
    why = {401: "it wants a password", 403: "it refuses", 404: "it has no such file", 410: "the file is gone"}
    reason = f"{host} answered {answer.status}" + (f": {why[answer.status]}." if answer.status in why else ".")
    raise FetchFailed(reason, again=answer.status in BUSY, wait_seconds=answer.wait_seconds)


def _redirected(url: str, target: str) -> str:
    """The absolute address of a redirect. What is no plain ASCII in it is quoted, as browsers do."""
    try:
        return urljoin(url, quote(target.encode("latin-1", "replace"), safe="%/:=&?~#+!$,;'@()*[]|"))
    except ValueError:
        raise FetchFailed(f"{host_of(url)} redirects to {target[:100]!r}, which is no address.") from None


@contextmanager
def _network(url: str) -> Iterator[None]:
    """Turn what the network does to a request into `FetchFailed`."""
    try:
        yield
    except NoSuchHost as lost:
        raise FetchFailed(f"{lost}; check the address.", again=True, no_host=True) from lost
    except LOST as lost:
        what = str(lost) or type(lost).__name__
        raise FetchFailed(f"{host_of(url)} does not answer as it should ({what[:200]}).", again=True) from lost


async def _at_a_pace(pieces: AsyncIterator[bytes], url: str) -> AsyncIterator[bytes]:
    """The pieces, as long as enough of them come in a minute."""
    waited, came, since = 0.0, 0, time.monotonic()
    async for piece in pieces:
        waited, came = waited + time.monotonic() - since, came + len(piece)
        if waited > PACE_SECONDS:
            if came < LEAST_BYTES:
                raise FetchFailed(f"{host_of(url)} sends too slowly: {came} bytes in {waited:.0f} s.", again=True)
            waited, came = 0.0, 0
        yield piece
        since = time.monotonic()


def _is_text(head: bytes) -> bool:
    return b"\x00" not in head and not any(byte < 9 or 13 < byte < 32 for byte in head)
