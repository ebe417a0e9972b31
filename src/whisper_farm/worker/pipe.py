"""The pipe between the agent and each of its children: the messages, how they are framed, and the child's end.

A fetcher child: `Fetch` → `Fetching`…, then `Fetched` or `Unavailable`.

A recogniser child: `LookAround` → `Capability` or `Unavailable`; `Load` → `Ready`, `Missing` or `Unavailable`. A batch
is a run of `BatchChunk` (audio in the body), closed by `Recognise`. The answers are `Recognised` or `Refused` for each
chunk in any order, then `BatchEnded`. `Cancel` takes one chunk out of a batch.

A cutter child: `ReadRecording` → `CutChunk`… (audio in the body), then `CutEnded`; or `PeaksGoOn`…, then `PeaksMade`;
or `CutFailed`. Meanwhile `WantBlock` → `Block` (bytes of the recording in the body). It needs no address and no token.

A message is its kind and JSON, with a body of bytes (may be empty), both of bounded length. A mark before each shows at
once that something else got into the pipe. A child that cannot go on sends nothing and dies; its last words are on its
standard error.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from whisper_farm.models import ModelName
from whisper_farm.protocol.jobs import ChunkResult, ChunkTask, PeaksTask, TranscribeResult
from whisper_farm.protocol.wire import MAX_BATCH, MAX_CHUNK_BYTES, Name
from whisper_farm.transcript.options import RecognitionOptions

if TYPE_CHECKING:
    from asyncio import StreamReader

MAX_HEADER_BYTES = 16 << 20
MAX_BODY_BYTES = MAX_CHUNK_BYTES
"""The longest chunk (690 s) has 22 MB of samples before it is compressed."""
CRASHED = 70
"""The exit status of a child that met an error nobody expected."""
_MARK = b"WhFa"
_PREFIX = struct.Struct(">4sII")


class PipeError(Exception):
    """What came through the pipe is no message of ours, or a longer one than is allowed."""


class PipeMessage(BaseModel):
    """What goes through the pipe. The name of the class goes before its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LookAround(PipeMessage):
    """Say what this engine can do here, with what the owner of the worker has decided (None: choose)."""

    engine: str
    device: Literal["auto", "cpu", "cuda"] = "auto"
    device_index: int = 0
    compute_type: str = "default"
    slots: int | None = None
    batch_size: int | None = None
    threads: int | None = None
    model_dir: str | None = None
    local_files_only: bool = False
    chunk_timeout_seconds: float | None = None
    """What a batch may take on the clock, and on each of the machine's cores; None bounds no core."""


class Capability(PipeMessage):
    """What this engine can do here. It takes `slots` batches at once: in one process if it shares its model.

    The bounds are those of `protocol.worker.EngineOffer`: what an engine says of itself never spoils a registration.
    """

    engine: Name
    version: Name
    device: Name
    slots: int = Field(ge=1, le=4096)
    threads: int = Field(ge=1)
    batch: int = Field(ge=1, le=MAX_BATCH)
    shares_model: bool
    models: tuple[ModelName, ...] | None = Field(default=None, max_length=64)
    options: tuple[Name, ...] | None = Field(default=None, max_length=64)


class Load(PipeMessage):
    """Load the model of these options, for so many slots in this process."""

    options: RecognitionOptions
    slots: int = Field(ge=1)
    threads: int = Field(ge=1)


class Fetching(PipeMessage):
    """How far the fetch of a model is."""

    model: ModelName
    done_bytes: int
    total_bytes: int | None


class Missing(PipeMessage):
    """The model cannot be had without fetching it, which a recogniser cannot: why (an `EngineError`)."""

    code: str
    message: str


class Fetch(PipeMessage):
    """To a fetcher: bring the model of these options to this machine, for an engine with this order."""

    order: LookAround
    options: RecognitionOptions


class Fetched(PipeMessage):
    """The model is here, as far as can be known before it is loaded."""


class Ready(PipeMessage):
    """The model is loaded."""

    engine: Name
    version: Name
    model: ModelName
    revision: str
    device: Name
    compute_type: Name


class Unavailable(PipeMessage):
    """The engine or its model cannot be used, and why (an `EngineError`)."""

    code: str
    message: str


class BatchChunk(PipeMessage):
    """One chunk of a batch; its FLAC audio is the body. Its index is how many of the batch came before it."""

    batch: int
    start_seconds: float
    seconds: float
    """How long it was announced to be: no more of it is decoded."""
    language: str | None
    expected_language: str | None


class Recognise(PipeMessage):
    """The batch is complete: recognise it."""

    batch: int
    options: RecognitionOptions


class Cancel(PipeMessage):
    """Nobody wants this chunk any more."""

    batch: int
    index: int


class Recognised(PipeMessage):
    """The result of one chunk, in seconds from the start of the recording."""

    batch: int
    index: int
    result: TranscribeResult


class Refused(PipeMessage):
    """This one chunk's audio cannot be read, whoever tries."""

    batch: int
    index: int
    code: str
    message: str


class BatchEnded(PipeMessage):
    """Nothing more of this batch will come; with a code, because the engine gave up on what is missing."""

    batch: int
    code: str | None = None
    message: str | None = None


class ReadRecording(PipeMessage):
    """Read a recording. Cut it from where the chunks that are there already end; or find its peaks, and write its
    listening copy to a file. The task says nothing of where the recording is."""

    task: ChunkTask | PeaksTask = Field(discriminator="kind")
    copy_path: str = ""


class WantBlock(PipeMessage):
    """Send this block of the recording."""

    ask: int = Field(ge=0)
    number: int = Field(ge=0)


class Block(PipeMessage):
    """What was asked for is the body."""

    ask: int


class PeaksGoOn(PipeMessage):
    """How far it is: a sign of life."""

    seconds: float


class PeaksMade(PipeMessage):
    """The copy is written; these are the peaks."""

    duration_seconds: float
    peaks: tuple[float, ...]


class CutChunk(PipeMessage):
    """One chunk; its FLAC audio is the body. `declared_seconds` is the container's word for the whole length."""

    position: int
    start_seconds: float
    end_seconds: float
    speech_seconds: float
    declared_seconds: float | None = None
    tagged_language: str | None = None


class CutEnded(PipeMessage):
    """The recording is cut to its end."""

    result: ChunkResult


class CutFailed(PipeMessage):
    """The recording cannot be cut (`permanent`: by nobody), or not here."""

    code: str
    message: str
    permanent: bool


def packed(message: PipeMessage, body: bytes = b"") -> bytes:
    """The message as it goes through the pipe."""
    header = f"{type(message).__name__} {message.model_dump_json()}".encode()
    _check(len(header), len(body))
    return _PREFIX.pack(_MARK, len(header), len(body)) + header + body


def read_message(pipe: BinaryIO) -> tuple[PipeMessage, bytes] | None:
    """The next message, blocking; None when the pipe has ended, in the middle of a message too."""
    prefix = pipe.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size:
        return None
    header_length, body_length = _lengths(prefix)
    header, body = pipe.read(header_length), pipe.read(body_length)
    if len(header) < header_length or len(body) < body_length:
        return None
    return _understood(header), body


async def receive_message(stream: StreamReader) -> tuple[PipeMessage, bytes] | None:
    """The next message from an asyncio stream; None when it has ended, in the middle of a message too."""
    try:
        header_length, body_length = _lengths(await stream.readexactly(_PREFIX.size))
        header, body = await stream.readexactly(header_length), await stream.readexactly(body_length)
    except (EOFError, ConnectionError):
        return None
    return _understood(header), body


def _lengths(prefix: bytes) -> tuple[int, int]:
    mark, header_length, body_length = _PREFIX.unpack(prefix)
    if mark != _MARK:
        raise PipeError(f"Expected a message, got {prefix!r}.")
    _check(header_length, body_length)
    return header_length, body_length


def _check(header_length: int, body_length: int) -> None:
    if header_length > MAX_HEADER_BYTES or body_length > MAX_BODY_BYTES:
        raise PipeError(f"A message of {header_length} + {body_length} bytes is longer than allowed.")


def _understood(header: bytes) -> PipeMessage:
    name, _, fields = header.partition(b" ")
    kinds = {kind.__name__.encode(): kind for kind in PipeMessage.__subclasses__()}
    try:
        return kinds[name].model_validate_json(fields)
    except (KeyError, ValidationError) as error:
        raise PipeError(f"An unknown message: {error}") from error


class AgentPipe:
    """A child's end of the pipe to its agent. Any thread may send."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._lock = threading.Lock()

    @classmethod
    def on_standard_streams(cls) -> AgentPipe:
        """Take the standard streams for the agent: from here on, prints go to standard error and nothing is read."""
        incoming, outgoing = os.dup(0), os.dup(1)
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, 0)
        os.close(empty)
        os.dup2(2, 1)
        return cls(os.fdopen(incoming, "rb"), os.fdopen(outgoing, "wb"))

    def send(self, message: PipeMessage, body: bytes = b"") -> None:
        """Send one message, blocking while the agent has no room for it. Ends the process if the agent is gone."""
        try:
            with self._lock:
                self._outgoing.write(packed(message, body))
                self._outgoing.flush()
        except OSError:
            os._exit(0)

    def received(self) -> Iterator[tuple[PipeMessage, bytes]]:
        """All messages of the agent, until it closes the pipe or dies."""
        while message := read_message(self._incoming):
            yield message


def crash() -> NoReturn:
    """End the process with the current exception as its last words."""
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(CRASHED)


def or_crash(work: Callable[[], None]) -> Callable[[], None]:
    """The same work, for another thread: an error in it ends the process."""

    def run() -> None:
        try:
            work()
        except BaseException:
            crash()

    return run
