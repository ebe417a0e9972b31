"""Completions: a result is checked, put into the blob store, and only then does the queue hear of it.

What a worker sends twice is stored once; what the queue refuses afterwards leaves a blob nobody refers to, which
the sweeper removes. The coordinator does not correct results: the stitcher keeps times inside their chunk.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from whisper_farm.coordinator.claiming.claims import try_claim
from whisper_farm.coordinator.claiming.long_poll import Tried
from whisper_farm.coordinator.metrics import Metrics
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.coordinator.transfers import result_key
from whisper_farm.errors import DigestMismatch, FarmError, InvalidRequest, WorkerUnknown
from whisper_farm.leases.attempts import refused
from whisper_farm.leases.complete import Finished, complete
from whisper_farm.protocol.worker import ClaimRequest, CompleteRequest, Completion, Outcome, TranscribeResult
from whisper_farm.settings import Policy
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Transaction
from whisper_farm.store.jobs import AttemptedJob, attempted_jobs

TOLERANCE_SECONDS = 1.0
"""How far a recogniser's times may lie outside its chunk. More than rounding means a wrong offset."""
Taken = tuple[list[Outcome], Tried, list[str]]
"""The outcomes of one call, its claim, and the ids of the jobs that were spoken of."""


class Completions:
    """Takes completions."""

    def __init__(self, store: StoreThreads, blobs: Blobs, policy: Policy, metrics: Metrics) -> None:
        self._store = store
        self._blobs = blobs
        self._policy = policy
        self._metrics = metrics

    async def complete(self, request: CompleteRequest) -> Taken:
        """End attempts with their results, and claim the next in the same transaction if asked to."""
        tokens = [completion.token for completion in request.completions]
        places = await self._store.read(lambda tx: attempted_jobs(tx, tokens))
        call = await asyncio.to_thread(_Call, request, {place.token: place for place in places})
        await self._blobs.put_all(call.blobs)
        taken, tried = await self._store.write(lambda tx: self._record(tx, call))
        outcomes = call.outcomes(taken)
        for outcome in outcomes:
            self._metrics.outcome("complete", outcome.error_code)
        for claimed in tried.claims:
            self._metrics.claimed(claimed.kind, claimed.hedge)
        return outcomes, tried, call.jobs

    def _record(self, tx: Transaction, call: _Call) -> tuple[list[Outcome], Tried]:
        taken = complete(tx, list(call.finished.values()), self._policy)
        return taken, self._claim(tx, call.request.claim)

    def _claim(self, tx: Transaction, request: ClaimRequest | None) -> Tried:
        """The claim that came along. It does not wait, and a worker that was given up gets nothing."""
        if request is None:
            return Tried()
        try:
            return try_claim(tx, request.model_copy(update={"wait_seconds": 0}), self._policy)
        except WorkerUnknown:
            return Tried()


class _Call:
    """One request, looked at before the queue hears of it: what is wrong is refused, the rest is ready to be stored."""

    def __init__(self, request: CompleteRequest, places: Mapping[str, AttemptedJob]) -> None:
        self.request = request
        self.places = {one.token: places[one.token] for one in request.completions if one.token in places}
        self.jobs = [place.job_id for place in self.places.values()]
        self.refused: dict[int, Outcome] = {}
        self.finished: dict[int, Finished] = {}
        self.blobs: dict[str, bytes] = {}
        for number, completion in enumerate(request.completions):
            try:
                self._take(number, completion, self.places.get(completion.token))
            except FarmError as error:
                self.refused[number] = refused(completion.token, error)

    def _take(self, number: int, completion: Completion, place: AttemptedJob | None) -> None:
        body = _checked(completion, place)
        self.finished[number] = one = _finished(self.request.worker_id, completion, place, len(body))
        if one.result_key is not None and place is not None and place.state == "live":
            self.blobs[one.result_key] = body

    def outcomes(self, taken: Sequence[Outcome]) -> list[Outcome]:
        """What was refused here and what the queue said of the rest, in order."""
        all_of_them = self.refused | dict(zip(self.finished, taken, strict=True))
        return [all_of_them[number] for number in range(len(self.request.completions))]


def _checked(completion: Completion, place: AttemptedJob | None) -> bytes:
    """The result as it is stored; raises what is wrong with it."""
    result = completion.chunk or completion.transcribe
    if result is None or (completion.chunk is not None and completion.transcribe is not None):
        raise InvalidRequest("A completion has exactly one of `chunk` and `transcribe`.")
    body = result.model_dump_json(exclude_unset=True).encode()  # as sent: a worker of before knows fewer fields
    if hashlib.sha256(body).hexdigest() != completion.digest:
        raise DigestMismatch("The result is not the one its digest was made of. Send it again.")
    if isinstance(result, TranscribeResult) and place is not None and place.state == "live":
        _must_fit(result, place)
    return body


def _finished(worker_id: str, completion: Completion, place: AttemptedJob | None, size: int) -> Finished:
    """The completion as the queue takes it. An unknown token gets no blob, and is refused there."""
    token, digest = completion.token, completion.digest
    finished = Finished(worker_id, token, digest, completion.chunk or completion.transcribe)
    if completion.transcribe is None or place is None:
        return finished
    key = result_key(place.transcription_id, place.position, token, digest)
    return replace(finished, result_key=key, result_size=size)


def _must_fit(result: TranscribeResult, place: AttemptedJob) -> None:
    """Times count from the start of the recording and lie in the chunk; anything else would be a silent mix-up."""
    earliest, latest = place.start_seconds - TOLERANCE_SECONDS, place.end_seconds + TOLERANCE_SECONDS
    for start, end in _spans(result):
        if not (earliest <= start <= latest and earliest <= end <= latest):  # also for what is no number
            raise InvalidRequest(
                f"The result speaks of [{start:g}, {end:g}] s; its chunk is "
                f"[{place.start_seconds:g}, {place.end_seconds:g}] s, counted from the start of the recording."
            )


def _spans(result: TranscribeResult) -> Iterator[tuple[float, float]]:
    for segment in result.segments:
        yield segment.start, segment.end
        for word in segment.words:
            yield word.start, word.end
