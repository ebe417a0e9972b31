"""Completions: a result is checked, put into the blob store, and only then does the queue hear of it.

What a worker sends twice is stored once; what the queue refuses afterwards leaves a blob nobody refers to, which
the sweeper removes. The coordinator does not correct results: the stitcher keeps times inside their chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from whisper_farm.coordinator.claims import try_claim
from whisper_farm.coordinator.keys import result_key
from whisper_farm.coordinator.metrics import Metrics
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.coordinator.waiting import Tried
from whisper_farm.errors import DigestMismatch, FarmError, InvalidRequest
from whisper_farm.leases.complete import Finished, TranscribeFacts, complete
from whisper_farm.protocol.digest import digest_of
from whisper_farm.protocol.work import CompleteRequest, Completion, Outcome, TranscribeResult
from whisper_farm.settings import Policy
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Transaction
from whisper_farm.store.tables import attempts, jobs

TOLERANCE_SECONDS = 1.0
"""How far a recogniser's times may lie outside its chunk. More than rounding means a wrong offset."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the job of an attempt is, as far as its result must fit it."""

    job_id: str
    state: str
    transcription_id: str
    position: int
    start_seconds: float
    end_seconds: float


class Results:
    """Takes completions."""

    def __init__(self, store: StoreThreads, blobs: Blobs, policy: Policy, metrics: Metrics) -> None:
        self._store = store
        self._blobs = blobs
        self._policy = policy
        self._metrics = metrics

    async def complete(self, request: CompleteRequest) -> tuple[list[Outcome], Tried, list[str]]:
        """End attempts with their results, and claim the next in the same transaction if asked to.

        Returns the outcomes, the claim, and the ids of the jobs that were spoken of.
        """
        places = await self._store.read(lambda tx: _places(tx, request.completions))
        refused: dict[int, Outcome] = {}
        finished: dict[int, Finished] = {}
        blobs: dict[str, bytes] = {}
        for number, completion in enumerate(request.completions):
            place = places.get(completion.token)
            try:
                body = _checked(completion, place)
            except FarmError as error:
                refused[number] = Outcome(token=completion.token, error_code=error.code, message=error.message)
                continue
            finished[number] = one = _finished(completion, place, len(body))
            if one.result_key is not None and place is not None and place.state == "live":
                blobs[one.result_key] = body
        await self._blobs.put_all(blobs)
        taken, tried = await self._store.write(lambda tx: self._record(tx, request, list(finished.values())))
        outcomes = refused | dict(zip(finished, taken, strict=True))
        self._count(request, outcomes, places, tried)
        ordered = [outcomes[number] for number in range(len(request.completions))]
        return ordered, tried, [place.job_id for place in places.values()]

    def _record(
        self, tx: Transaction, request: CompleteRequest, finished: Sequence[Finished]
    ) -> tuple[list[Outcome], Tried]:
        taken = complete(tx, request.worker_id, finished, self._policy)
        if request.claim is None:
            return taken, Tried()
        return taken, try_claim(tx, request.claim.model_copy(update={"wait_seconds": 0}), self._policy)

    def _count(
        self, request: CompleteRequest, outcomes: dict[int, Outcome], places: dict[str, Place], tried: Tried
    ) -> None:
        for number, outcome in outcomes.items():
            self._metrics.outcome("complete", outcome.error_code)
            place = places.get(outcome.token)
            accepted = outcome.error_code is None and place is not None and place.state == "live"
            if accepted and place is not None and request.completions[number].transcribe is not None:
                self._metrics.audio_done(place.end_seconds - place.start_seconds)
        for claimed in tried.claims:
            self._metrics.claimed(claimed.kind, claimed.hedge)


def _places(tx: Transaction, completions: Sequence[Completion]) -> dict[str, Place]:
    query = (
        select(
            attempts.c.token,
            attempts.c.job_id,
            attempts.c.state,
            jobs.c.transcription_id,
            jobs.c.position,
            jobs.c.start_seconds,
            jobs.c.end_seconds,
        )
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(attempts.c.token.in_([completion.token for completion in completions]))
    )
    return {row[0]: Place(*row[1:]) for row in tx.connection.execute(query)}


def _checked(completion: Completion, place: Place | None) -> bytes:
    """The result as it is stored; raises what is wrong with it."""
    result = completion.chunk or completion.transcribe
    if result is None or (completion.chunk is not None and completion.transcribe is not None):
        raise InvalidRequest("A completion has exactly one of `chunk` and `transcribe`.")
    if digest_of(result) != completion.digest:
        raise DigestMismatch("The result is not the one its digest was made of. Send it again.")
    if isinstance(result, TranscribeResult) and place is not None and place.state == "live":
        _must_fit(result, place)
    return result.model_dump_json().encode()


def _finished(completion: Completion, place: Place | None, size: int) -> Finished:
    """The completion as the queue takes it. An unknown token gets no blob, and is refused there."""
    if completion.transcribe is None:
        return Finished(completion.token, completion.digest, chunk=completion.chunk)
    facts = TranscribeFacts.of(completion.transcribe)
    if place is None:
        return Finished(completion.token, completion.digest, transcribe=facts)
    key = result_key(place.transcription_id, place.position, completion.token, completion.digest)
    return Finished(completion.token, completion.digest, transcribe=facts, result_key=key, result_size=size)


def _must_fit(result: TranscribeResult, place: Place) -> None:
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
