"""A form with a file (`multipart/form-data`) as it arrives: its fields are kept, its file goes to the blob store.

Nothing of the file is held in memory. Fields and file may come in any order; a file needs no name, no type and no
length. A field that is too long for any option is read and left out: newer clients send more than we know. Other files
than the one asked for are read and left out, too. Numbers of parts and sizes are bounded; the parser bounds what stands
before the content of a part. This module does not know what the fields mean.
"""

from __future__ import annotations

import re
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, get_origin

from fastapi import Request
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from whisper_farm.coordinator.transfers import source_key
from whisper_farm.errors import InvalidRequest, SourceEmpty, TooLarge
from whisper_farm.store.blobs import Blobs

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

Model = TypeVar("Model", bound=BaseModel)
MOST_PARTS = 200
MOST_FIELD_BYTES = 64 << 10
"""A longer field is no option of ours."""
MOST_OTHER_BYTES = 16 << 20
"""Of everything in the form that is not the file."""
MOST_NAME = 200
EVERY_BYTE = 1 << 62


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
    fields: dict[str, list[str]]
    file: SentFile

    def read(self, kind: type[Model]) -> Model:
        """The fields as a model: all values of a set, the last of anything else. What is empty was left out."""
        sets = {name for name, field in kind.model_fields.items() if get_origin(field.annotation) is frozenset}
        given = {name: values if name in sets else values[-1] for name, values in self.fields.items() if values[-1]}
        return checked(kind, given)


@dataclass(frozen=True, slots=True)
class FileWanted:
    """Which part of the form is the file, and what is to become of it."""

    part: str
    limit: int
    head: bytes = b""
    """Put before the bytes of the file."""
    most: int = EVERY_BYTE
    """Keep no more than so many bytes of the file."""


def checked(kind: type[Model], given: Mapping[str, object]) -> Model:
    """What was given as a model; the refusal names the first that is wrong as its `param`."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name, problem = str(first["loc"][0]), first["msg"].removeprefix("Value error, ").rstrip(".")
        raise InvalidRequest(f"`{name}`: {problem}.", param=name) from None


async def read_form(request: Request, blobs: Blobs, wanted: FileWanted) -> Form:
    """The fields, and the file as a blob; where anything is wrong, no blob stays behind."""
    kept: list[SentFile] = []
    try:
        return await _read(_pieces(request), blobs, wanted, kept)
    except BaseException:
        await blobs.delete([each.key for each in kept])
        raise


async def _read(pieces: _Pieces, blobs: Blobs, wanted: FileWanted, kept: list[SentFile]) -> Form:
    fields: dict[str, list[str]] = {}
    others = 0
    async for part in pieces:
        assert isinstance(part, _Part)
        if part.name == wanted.part and not kept:
            kept.append(await _keep(part.file_name or "", _content(pieces), blobs, wanted))
            continue
        value = bytearray()
        async for piece in _content(pieces):
            others += len(piece)
            if others > MOST_OTHER_BYTES:
                raise TooLarge(f"The form has more than {MOST_OTHER_BYTES} bytes beside its file.")
            value += piece if len(value) <= MOST_FIELD_BYTES else b""
        if part.file_name is None and len(value) <= MOST_FIELD_BYTES:
            name = part.name.partition("[]")[0]  # of a list, as clients write it, sometimes twice
            fields.setdefault(name, []).append(_text(bytes(value)).replace("\0", ""))
    if not kept:
        raise InvalidRequest(
            f"The form has no file: send the recording as the part `{wanted.part}`.", param=wanted.part
        )
    return Form(fields, kept[0])


async def read_body(request: Request, blobs: Blobs, limit: int) -> SentFile:
    """A body that is the file itself; where it breaks off, no blob stays behind."""
    try:
        return await _keep("", request.stream(), blobs, FileWanted("body", limit))
    except ClientDisconnect:
        raise InvalidRequest("The connection was lost before the recording was complete.") from None


async def _keep(file_name: str, content: AsyncIterator[bytes], blobs: Blobs, wanted: FileWanted) -> SentFile:
    upload_id = secrets.token_hex(8)
    key = source_key(upload_id)
    async with aclosing(_as_wanted(content, wanted)) as source:
        facts = await blobs.put_stream(key, source, wanted.limit)
    name = _plain_name(file_name)
    if facts.size == len(wanted.head):
        await blobs.delete([key])
        raise SourceEmpty(f"{name} is empty.", param=wanted.part)
    return SentFile(upload_id, key, name, facts.size, facts.sha256)


async def _as_wanted(content: AsyncIterator[bytes], wanted: FileWanted) -> AsyncGenerator[bytes, None]:
    """The head and the first bytes of a file; the others are read and dropped."""
    left = wanted.most
    if wanted.head:
        yield wanted.head
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


_Pieces = AsyncGenerator[_Part | bytes | None, None]


async def _pieces(request: Request) -> _Pieces:
    """What a form holds, as it comes: a part, its content piece by piece, and None at its end; then the next part."""
    kind, options = parse_options_header(request.headers.get("Content-Type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise InvalidRequest("The body must be a form with a file (multipart/form-data).")
    told = _Told()
    parser = MultipartParser(options[b"boundary"], told.callbacks())
    try:
        async for block in request.stream():
            parser.write(block)
            while told.pieces:
                yield told.pieces.popleft()
    except ClientDisconnect:
        raise InvalidRequest("The connection was lost before the form was complete.") from None
    except FormParserError:
        raise InvalidRequest("The body is no valid form (multipart/form-data).") from None
    if not told.complete:
        raise InvalidRequest("The form ends before its last part is complete; send it again.")


async def _content(pieces: _Pieces) -> AsyncIterator[bytes]:
    async for piece in pieces:
        if not isinstance(piece, bytes):
            return
        yield piece


class _Told:
    """What the parser tells while it is fed, kept until it is asked for."""

    def __init__(self) -> None:
        self.pieces: deque[_Part | bytes | None] = deque()
        self.complete = False
        self._parts = 0
        self._name = self._value = self._disposition = b""

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": lambda data, start, end: self.pieces.append(data[start:end]),
            "on_part_end": lambda: self.pieces.append(None),
            "on_end": self._on_end,
        }

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        file_name = options.get(b"filename")
        self._disposition = b""
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise InvalidRequest(f"The form has more than {MOST_PARTS} parts.")
        self.pieces.append(_Part(_text(options.get(b"name", b"")), None if file_name is None else _text(file_name)))

    def _on_end(self) -> None:
        self.complete = True


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")
