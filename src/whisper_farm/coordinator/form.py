"""A form with a file (`multipart/form-data`) as it arrives: its fields are kept, its file goes to the blob store.

Nothing of the file is held in memory. Fields and file may come in any order; a file needs no name, no type and no
length. A field that is too long for any option is read and left out: newer clients send more than we know. Other files
than the one asked for are read and left out, too. Numbers of parts and sizes are bounded. This module does not know
what the fields mean.
"""

from __future__ import annotations

import re
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from whisper_farm.coordinator.transfers import source_key
from whisper_farm.errors import InvalidRequest, SourceEmpty, TooLarge
from whisper_farm.store.blobs import Blobs

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MOST_PARTS = 200
MOST_FIELD_BYTES = 64 << 10
"""A longer field is no option of ours."""
MOST_OTHER_BYTES = 16 << 20
"""Of everything in the form that is not the file."""
MOST_NAME = 200


@dataclass(frozen=True, slots=True)
class SentFile:
    """The file of a form, as it lies in the blob store. A farm's upload has the same id."""

    upload_id: str
    key: str
    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Form:
    """What was sent."""

    fields: dict[str, list[str]]
    file: SentFile

    def last(self, name: str, default: str = "") -> str:
        """The value of a field that comes once."""
        return self.fields.get(name, [default])[-1]

    def every(self, name: str) -> list[str]:
        """The values of a list, whether the client writes its name with brackets or without."""
        return [*self.fields.get(f"{name}[]", ()), *self.fields.get(name, ())]


@dataclass(frozen=True, slots=True)
class FileWanted:
    """Which part of the form is the file, and what is to become of it."""

    part: str
    limit: int
    head: bytes = b""
    """Put before the bytes of the file."""
    most: int | None = None
    """Keep no more than so many bytes of the file."""


async def read_form(request: Request, blobs: Blobs, wanted: FileWanted) -> Form:
    """The fields, and the file as a blob; where anything is wrong, no blob stays behind."""
    kept: list[SentFile] = []
    try:
        return await _read(_Parts(request), blobs, wanted, kept)
    except BaseException:
        await blobs.delete([each.key for each in kept])
        raise


async def _read(parts: _Parts, blobs: Blobs, wanted: FileWanted, kept: list[SentFile]) -> Form:
    fields: dict[str, list[str]] = {}
    others = 0
    while (part := await parts.next()) is not None:
        if part.name == wanted.part and not kept:
            kept.append(await _keep(part, parts, blobs, wanted))
            continue
        value = bytearray()
        async for piece in parts.content():
            others += len(piece)
            if others > MOST_OTHER_BYTES:
                raise TooLarge(f"The form has more than {MOST_OTHER_BYTES} bytes beside its file.")
            value += piece if len(value) <= MOST_FIELD_BYTES else b""
        if part.file_name is None and len(value) <= MOST_FIELD_BYTES:
            fields.setdefault(part.name, []).append(_text(bytes(value)).replace("\0", ""))
    if not kept:
        raise InvalidRequest(
            f"The form has no file: send the recording as the part `{wanted.part}`.", param=wanted.part
        )
    return Form(fields, kept[0])


async def _keep(part: _Part, parts: _Parts, blobs: Blobs, wanted: FileWanted) -> SentFile:
    upload_id = secrets.token_hex(8)
    key = source_key(upload_id)
    content = parts.content() if wanted.most is None else _first_bytes(parts.content(), wanted.most)
    async with aclosing(_with_head(wanted.head, content)) as source:
        facts = await blobs.put_stream(key, source, wanted.limit)
    name = _plain_name(part.file_name or "")
    if facts.size == len(wanted.head):
        await blobs.delete([key])
        raise SourceEmpty(f"{name} is empty.", param=wanted.part)
    return SentFile(upload_id, key, name, facts.size, facts.sha256)


async def _with_head(head: bytes, content: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    if head:
        yield head
    async for piece in content:
        yield piece


async def _first_bytes(content: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """The first bytes of a file; the others are read and dropped."""
    left = most
    async for piece in content:
        if left:
            yield piece[:left]
            left -= min(left, len(piece))


def _plain_name(sent: str) -> str:
    """A name to show: the last part of a path, with nothing in it that does not print."""
    last = re.split(r"[/\\]", sent)[-1]
    return "".join(letter for letter in last if letter.isprintable())[:MOST_NAME].strip() or "recording"


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    file_name: str | None


class _Parts:
    """The parts of a form one after the other, and of each its content piece by piece.

    The parser tells what it sees while it is fed. That is kept here until it is asked for.
    """

    def __init__(self, request: Request) -> None:
        kind, options = parse_options_header(request.headers.get("Content-Type"))
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise InvalidRequest("The body must be a form with a file (multipart/form-data).")
        self._seen: deque[_Part | bytes | None] = deque()
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._parts = 0
        self._complete = False
        callbacks: MultipartCallbacks = {
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": lambda data, start, end: self._seen.append(data[start:end]),
            "on_part_end": lambda: self._seen.append(None),
            "on_end": self._on_end,
        }
        self._parser = MultipartParser(options[b"boundary"], callbacks)
        self._stream = request.stream()

    async def next(self) -> _Part | None:
        """The next part; None after the last. The content of the one before must have been read."""
        while not self._seen:
            if not await self._feed():
                return None
        part = self._seen.popleft()
        assert isinstance(part, _Part)
        return part

    async def content(self) -> AsyncIterator[bytes]:
        """The content of the part that `next` gave."""
        while True:
            while not self._seen:
                if not await self._feed():
                    raise _broken()
            piece = self._seen.popleft()
            if piece is None:
                return
            assert isinstance(piece, bytes)
            yield piece

    async def _feed(self) -> bool:
        """Give the parser what has come; False at the end of the body."""
        try:
            piece = await anext(self._stream)
            self._parser.write(piece)
        except StopAsyncIteration:
            if not self._complete:
                raise _broken() from None
            return False
        except ClientDisconnect:
            raise InvalidRequest("The connection was lost before the form was complete.") from None
        except FormParserError:
            raise InvalidRequest("The body is no valid form (multipart/form-data).") from None
        return True

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        file_name = options.get(b"filename")
        self._headers = {}
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise InvalidRequest(f"The form has more than {MOST_PARTS} parts.")
        self._seen.append(_Part(_text(options.get(b"name", b"")), None if file_name is None else _text(file_name)))

    def _on_end(self) -> None:
        self._complete = True


def _broken() -> InvalidRequest:
    return InvalidRequest("The form ends before its last part is complete; send it again.")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")
