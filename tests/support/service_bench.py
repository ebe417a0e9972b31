"""What background services have around them, without a server: a database, blobs, recordings in any state."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from support.hand_farm import claim
from whisper_farm.coordinator.readiness import ID_KEY
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.coordinator.transfers import result_key
from whisper_farm.leases.append import append
from whisper_farm.leases.claim import Claimed
from whisper_farm.leases.complete import Finished, complete
from whisper_farm.leases.transcriptions import NewTranscription, submit
from whisper_farm.leases.workers import register_worker
from whisper_farm.protocol.jobs import ChunkResult, TranscribeResult
from whisper_farm.protocol.worker import (
    AppendRequest,
    ClaimRequest,
    EngineOffer,
    NewChunk,
    RegisterRequest,
    digest_of,
)
from whisper_farm.settings import Policy, ServerSettings
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Database
from whisper_farm.store.transcriptions import TranscriptionRow, find
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Segment, Word

T = TypeVar("T")
POLICY = Policy()
TONES = RecognitionOptions(engine="tones", model="instant")
SHA = "0" * 64


class Bench:
    """A database and a folder of blobs, with what services need around them."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.blobs = Blobs.open(folder)
        self.store = StoreThreads(database)
        self.settings = ServerSettings(data=folder, trash_hours=0)
        self._requests = itertools.count()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            return await asyncio.wait_for(work, 90)

        return asyncio.run(bounded())

    def files(self) -> set[str]:
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()} - {
            ID_KEY
        }

    def put(self, key: str, data: bytes = b"x", age_seconds: float = 0) -> str:
        self.run(self.blobs.put(key, data))
        then = time.time() - age_seconds
        os.utime(self.folder / key, (then, then))
        return key

    def settings_with(self, **given: Any) -> ServerSettings:
        return self.settings.model_copy(update=given)

    def recognised(self, chunks: int, skip: frozenset[int] = frozenset(), words: int = 2, **cut: Any) -> str:
        """A recording with all its chunks done, waiting for its transcript. `skip`: results whose blob is gone.

        `cut` is what else the cutter says of the file.
        """
        source = self.put("sources/up/one")
        new = NewTranscription("ann", "talk.mp3", f"blob:{source}", 1 << 30, TONES)
        made = self.database.write(lambda tx: submit(tx, new))
        offer = EngineOffer(engine="tones", version="1", device="cpu", batch=4)
        hello = RegisterRequest(worker_id="w", name="w", version="1", platform="p", slots=1, engines=(offer,))
        self.database.write(lambda tx: register_worker(tx, hello, "ann", POLICY))
        (cutting,) = self.claims(jobs={"chunk": 1})
        for first in range(0, chunks, 256):
            self.append(cutting, first, min(256, chunks - first))
        result = ChunkResult(duration_seconds=chunks * 10.0, chunks=chunks, **cut)
        done = Finished("w", cutting.token, SHA, result)
        self.database.write(lambda tx: complete(tx, [done], POLICY))
        while claims := self.claims(jobs={"transcribe": 256}):
            finished = [self.heard(one, words, gone=one.position in skip) for one in claims]
            outcomes = self.database.write(lambda tx, finished=finished: complete(tx, finished, POLICY))
            assert not any(outcome.error_code for outcome in outcomes)
        return made

    def claims(self, **wanted: int) -> list[Claimed]:
        request = ClaimRequest(worker_id="w", request_id=f"r{next(self._requests)}", **wanted)
        return self.database.write(lambda tx: claim(tx, request, POLICY))

    def append(self, cutting: Claimed, first: int, count: int) -> None:
        chunks = tuple(
            NewChunk(
                position=n,
                start_seconds=n * 10.0,
                end_seconds=n * 10.0 + 10,
                speech_seconds=8,
                key=f"chunks/{cutting.transcription_id}/a/{n}.flac",
                size=1,
                sha256=SHA,
            )
            for n in range(first, first + count)
        )
        request = AppendRequest(worker_id="w", token=cutting.token, chunks=chunks)
        self.database.write(lambda tx: append(tx, request, POLICY))

    def heard(self, one: Claimed, words: int, gone: bool) -> Finished:
        said = tuple(
            Word(one.start_seconds + n * 0.01, one.start_seconds + n * 0.01 + 0.01, f" word{n or one.position}", 0.5)
            for n in range(words)
        )
        segment = Segment(one.start_seconds, one.start_seconds + 9, "".join(word.text for word in said), said)
        result = TranscribeResult(
            segments=(segment,),
            language="en",
            engine="tones",
            engine_version="1",
            model="instant",
            revision="r",
            device="cpu",
            compute_type="int8",
            work_seconds=1,
        )
        text = result.model_dump_json()
        key = result_key(one.transcription_id, one.position, one.token, digest_of(text.encode()))
        if not gone:
            file = self.folder / key
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return Finished("w", one.token, SHA, result, result_key=key, result_size=1)

    def row(self, transcription_id: str) -> TranscriptionRow:
        return self.database.read(lambda tx: find(tx, transcription_id))
