"""Completions: a result is checked, put into the blob store, and only then does the queue hear of it.

The text of a result is hashed as it came, validated once, and stored as it came; nothing here writes it anew. What a
worker sends twice is stored once. What the queue refuses afterwards leaves a blob nobody refers to, which the sweeper
removes. The coordinator does not correct results: the stitcher keeps times inside their chunk.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import ValidationError

from whisper_farm.coordinator.answers.errors import MOST_NAMED
from whisper_farm.coordinator.claims import count_claims, try_claims
from whisper_farm.coordinator.coalescing import Coalescing
from whisper_farm.coordinator.kinds import check_result, must_have_arrived
from whisper_farm.coordinator.layers.limits import holds_nul
from whisper_farm.coordinator.long_poll import Tried
from whisper_farm.coordinator.metrics import Metrics
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.coordinator.transfers import result_key
from whisper_farm.errors import BlobMissing, DigestMismatch, FarmError, InvalidRequest, TooLarge
from whisper_farm.leases.attempts import refused
from whisper_farm.leases.complete import Finished
from whisper_farm.leases.complete import complete as end_attempts
from whisper_farm.leases.second_opinion import is_doubtful, words_of
from whisper_farm.protocol import worker as protocol
from whisper_farm.protocol.jobs import RESULTS, ChunkResult, Result
from whisper_farm.settings import Policy
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Transaction
from whisper_farm.store.jobs import AttemptedJob, attempted_jobs

Taken = tuple[list[protocol.Outcome], Tried, list[str]]
"""The outcomes of one call, its claim, and the ids of the jobs that were spoken of."""


class Completions:
    """Takes completions: those of several workers together when they come together."""

    def __init__(self, store: StoreThreads, blobs: Blobs, policy: Policy, metrics: Metrics) -> None:
        self._store, self._blobs, self._policy, self._metrics = store, blobs, policy, metrics
        self.group_commit = Coalescing(self._complete)

    async def complete(self, request: protocol.CompleteRequest) -> Taken:
        """End attempts with their results, and claim the next in the same transaction if asked to."""
        return await self.group_commit.ask(request)

    async def _complete(self, requests: Sequence[protocol.CompleteRequest]) -> list[Taken]:
        tokens = [completion.token for request in requests for completion in request.completions]
        places = {one.token: one for one in await self._store.read(lambda tx: attempted_jobs(tx, tokens))}
        calls = await asyncio.to_thread(lambda: [_Call(request, places, self._policy) for request in requests])
        for call in calls:
            await _check_blobs(self._blobs, call)
        await self._blobs.put_all({key: text for call in calls for key, text in call.blobs.items()})
        taken, tried = await self._store.write(lambda tx: self._end(tx, calls))
        count_claims(self._metrics, tried)
        each = iter(taken)  # in order of the calls, and of what was not refused of each
        outcomes = [call.outcomes([next(each) for _ in call.finished]) for call in calls]
        return [(told, claim or Tried(), call.jobs) for told, claim, call in zip(outcomes, tried, calls, strict=True)]

    def _end(self, tx: Transaction, calls: Sequence[_Call]) -> tuple[list[protocol.Outcome], list[Tried | None]]:
        """All results first: their attempts are locked at once, as is the rule beside heartbeats.

        The claims that came along do not wait. A worker that was given up gets nothing.
        """
        taken = end_attempts(tx, [one for call in calls for one in call.finished.values()], self._policy)
        claims = [call.request.claim for call in calls if call.request.claim is not None]
        tried = iter(try_claims(tx, [one.model_copy(update={"wait_seconds": 0}) for one in claims], self._policy))
        return taken, [next(tried) if call.request.claim else None for call in calls]


async def _check_blobs(blobs: Blobs, call: _Call) -> None:
    for number, finished in list(call.finished.items()):
        place = call.places.get(finished.token)
        if place is not None and place.state == "live":
            try:
                await must_have_arrived(blobs, finished.result)
            except (BlobMissing, DigestMismatch, TooLarge) as error:
                call.refuse(number, finished.token, error)


class _Call:
    """One request, looked at before the queue hears of it: what is wrong is refused, the rest is ready to be stored."""

    def __init__(self, request: protocol.CompleteRequest, places: Mapping[str, AttemptedJob], policy: Policy) -> None:
        self.request, self.policy = request, policy
        self.places = {one.token: places[one.token] for one in request.completions if one.token in places}
        self.jobs = [place.job_id for place in self.places.values()]
        self.refused: dict[int, protocol.Outcome] = {}
        self.finished: dict[int, Finished] = {}
        self.blobs: dict[str, bytes] = {}
        for number, completion in enumerate(request.completions):
            try:
                self._take(number, completion, self.places.get(completion.token))
            except FarmError as error:
                self.refused[number] = refused(completion.token, error)

    def _take(self, number: int, completion: protocol.Completion, place: AttemptedJob | None) -> None:
        text = completion.result.encode()
        result = _checked(completion, text, place)
        finished = Finished(self.request.worker_id, completion.token, completion.digest, result)
        if place is not None and not isinstance(result, ChunkResult):
            key = result_key(place.transcription_id, place.position, completion.token, completion.digest)
            finished = replace(finished, result_key=key, result_size=len(text))
            if place.state == "live":
                self.blobs[key] = text
        if place is not None:
            chosen = completion.kind == "transcribe" and random.random() < self.policy.verify
            doubted = chosen or is_doubtful(result, place.speech_seconds, self.policy)
            silent = completion.kind == "transcribe" and place.speech_seconds == 0
            finished = replace(finished, doubted=doubted, silent=silent, words=words_of(result))
        self.finished[number] = finished

    def refuse(self, number: int, token: str, error: FarmError) -> None:
        """This one is not taken after all."""
        self.refused[number] = refused(token, error)
        self.blobs.pop(self.finished.pop(number).result_key or "", None)

    def outcomes(self, taken: Sequence[protocol.Outcome]) -> list[protocol.Outcome]:
        """What was refused here and what the queue said of the rest, in order."""
        all_of_them = self.refused | dict(zip(self.finished, taken, strict=True))
        return [all_of_them[number] for number in range(len(self.request.completions))]


def _checked(completion: protocol.Completion, text: bytes, place: AttemptedJob | None) -> Result:
    """The result of this completion; raises what is wrong with it."""
    if protocol.digest_of(text) != completion.digest:
        raise DigestMismatch("The result is not the one its digest was made of. Send it again.")
    if holds_nul(text):
        raise InvalidRequest("The result holds a NUL character, which no text here may have.")
    try:
        result = RESULTS[completion.kind].model_validate_json(text)
    except ValidationError as error:
        raise InvalidRequest(f"This is no result of a {completion.kind} job: {_first(error)}.") from None
    if place is not None and place.state == "live":
        check_result(result, completion.token, place)
    return result


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, in few words; of too many only how many they are."""
    if error.error_count() > MOST_NAMED:
        return f"{error.error_count()} mistakes"
    wrong = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"[:500]
