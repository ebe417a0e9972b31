"""The worker protocol: register, claim, beat, upload, append, complete, fail, release. See docs/PROTOCOL.md.

Where blobs are kept in a folder, workers also fetch and send their bytes here. Those are streamed, never held in memory
whole, and the claim token in the path says what may be fetched. With an object store, claims carry presigned addresses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.types import Scope

from whisper_farm import errors
from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.answers.files import OCTETS, serve_blob, serve_file
from whisper_farm.coordinator.answers.openapi import ClaimTokenInPath, PositionInPath, binary, ranges
from whisper_farm.coordinator.coordinator import Coordinator, Farm
from whisper_farm.coordinator.dialect import Dialect, routes_for, sub_application
from whisper_farm.coordinator.kinds import READS_SOURCE, claims_of, upload_place
from whisper_farm.coordinator.layers.auth import (
    AnyCaller,
    Caller,
    must_have,
    must_speak_our_protocol,
    secret_of,
)
from whisper_farm.coordinator.layers.quotas import address_of
from whisper_farm.coordinator.transfers import chunk_key, to_store
from whisper_farm.leases.append import append as append_chunks
from whisper_farm.leases.attempts import heartbeat as beat
from whisper_farm.leases.attempts import jobs_of
from whisper_farm.leases.claim import Claimed
from whisper_farm.leases.fail import fail as fail_attempts
from whisper_farm.leases.fail import release as release_attempts
from whisper_farm.leases.workers import register_worker
from whisper_farm.protocol import worker as protocol
from whisper_farm.protocol.wire import MAX_CHUNK_BYTES, JobKind
from whisper_farm.store.database import Transaction
from whisper_farm.store.jobs import AttemptedJob, held_job
from whisper_farm.store.join_codes import join as join_by
from whisper_farm.store.limits import limits_in_force

VERIFIES_AT_ONCE = 8
LIST_BYTES = 512 << 10
"""Of a list of claim tokens or of new chunks: twice what the longest need."""
RESULT_BYTES = 1 << 26
"""Of results and failures; the setting bounds them further."""
LARGER = {
    "/complete": RESULT_BYTES,
    "/fail": RESULT_BYTES,
    **dict.fromkeys(("/append", "/heartbeat", "/release"), LIST_BYTES),
}
"""Calls whose bodies may be larger than the calls of users."""
FLAC = "audio/flac"

router = routes_for("work", "", errors.ProtocolMismatch)
_SOURCE = {
    **documented(errors.ProtocolMismatch, errors.LeaseLost, errors.BlobMissing, errors.SourceUnreadable),
    **ranges(OCTETS),
}
_AUDIO = {**documented(errors.ProtocolMismatch, errors.LeaseLost, errors.BlobMissing), **ranges(FLAC)}


def worker_protocol(coordinator: Coordinator) -> FastAPI:
    """The dialect of workers: a token of scope `worker` or `admin`, and our version of the protocol."""

    async def enter(scope: Scope) -> Caller:
        found = await coordinator.tokens.caller(secret_of(scope), scope)
        must_speak_our_protocol(scope)
        return must_have(found, "worker", "admin")

    own = Dialect(enter, open_paths=frozenset({"/join"}), uploads="/uploads/", larger=LARGER)
    return sub_application(coordinator, [router], own)


@router.post("/join", responses=documented(errors.ProtocolMismatch, errors.TooManyTries))
async def join(body: protocol.JoinRequest, request: Request, farm: Farm) -> protocol.JoinAnswer:
    """Let a worker in by a join code, or have it wait for an administrator. Needs no token."""
    must_speak_our_protocol(request.scope)
    most = farm.settings.max_tokens
    with farm.failed_tries.one_try(address_of(request.scope)):
        state = await farm.store.write(lambda tx: join_by(tx, body.code, body.name, body.token_hash, most))
        if state is None:
            raise errors.Unauthorized("This join code does not work (any more); the farm page makes another one.")
    farm.log.info("a worker joins", action="join", name=body.name, state=state)
    return protocol.JoinAnswer(state=state)


@router.post("/register")
async def register(body: protocol.RegisterRequest, caller: AnyCaller, farm: Farm) -> protocol.RegisterAnswer:
    """Present a worker, or say anew what it offers."""

    def taken_in(tx: Transaction) -> protocol.RegisterAnswer:
        most = limits_in_force(tx, farm.settings).max_workers
        return register_worker(tx, body, caller.owner, farm.policy, caller.token_id, most)

    answer = await farm.store.write(taken_in)
    farm.log.info("a worker registered", action="register", worker_id=body.worker_id, name=body.name)
    return answer


@router.post("/claim", responses=documented(errors.ProtocolMismatch, errors.WorkerUnknown))
async def claim(body: protocol.ClaimRequest, request: Request, caller: AnyCaller, farm: Farm) -> protocol.ClaimAnswer:
    """Claim jobs, waiting up to `wait_seconds` for some. The same `request_id` again gets the same live attempts."""
    await farm.workers.check(caller, body.worker_id)
    gone = asyncio.ensure_future(_gone(request))
    try:
        tried = await farm.long_polls.claim(body, gone)
    finally:
        gone.cancel()
    if tried.claims:
        jobs = [claimed.job_id for claimed in tried.claims]
        farm.log.info("jobs claimed", action="claim", worker_id=body.worker_id, jobs=jobs)
    return protocol.ClaimAnswer(claims=await claims_of(farm.blobs, tried.claims), drain=tried.drain)


@router.post("/heartbeat", responses=documented(errors.ProtocolMismatch, errors.WorkerUnknown))
async def heartbeat(body: protocol.HeartbeatRequest, caller: AnyCaller, farm: Farm) -> protocol.HeartbeatAnswer:
    """Renew all leases of a worker; hear which are lost or cancelled, and whether to leave."""
    await farm.workers.check(caller, body.worker_id)
    return await farm.store.beat(lambda tx: beat(tx, body, farm.policy))


@router.post("/uploads", responses=documented(errors.ProtocolMismatch, errors.LeaseLost))
async def uploads(body: protocol.UploadRequest, caller: AnyCaller, farm: Farm) -> protocol.UploadAnswer:
    """Where the audio of new chunks goes, or the listening copy."""
    held = await _held_by(farm, caller, body.token, body.worker_id, *READS_SOURCE)
    keys = {one: upload_place(held, body.token, one)[0] for one in body.positions}
    targets = [await to_store(farm.blobs, key, body.token, one) for one, key in keys.items()]
    return protocol.UploadAnswer(uploads=tuple(targets))


@router.post(
    "/append",
    responses=documented(
        errors.ProtocolMismatch, errors.LeaseLost, errors.PositionConflict, errors.DigestMismatch, errors.BlobMissing
    ),
)
async def append(body: protocol.AppendRequest, caller: AnyCaller, farm: Farm) -> protocol.AppendAnswer:
    """Add chunks that were cut and uploaded, once what was uploaded is verified."""
    held = await _held_by(farm, caller, body.token, body.worker_id, "chunk")
    for chunk in body.chunks:
        if chunk.key != chunk_key(held.transcription_id, body.token, chunk.position):
            raise errors.InvalidRequest(f"{chunk.key} was not minted for chunk {chunk.position} of this attempt.")
    await _verify(farm, body.chunks)
    answer = await farm.store.write(lambda tx: append_chunks(tx, body, farm.policy))
    farm.log.info(
        "chunks appended",
        action="append",
        transcription_id=held.transcription_id,
        first=body.chunks[0].position,
        count=len(body.chunks),
    )
    return answer


@router.post("/complete")
async def complete(body: protocol.CompleteRequest, caller: AnyCaller, farm: Farm) -> protocol.CompleteAnswer:
    """End attempts with their results and claim the next ones in the same transaction. That claim does not wait.

    A worker that has been given up meanwhile is told the outcomes like any other, and claims nothing. Its next
    heartbeat or claim is refused with `worker_unknown`.
    """
    await farm.workers.check(caller, body.worker_id)
    if body.claim is not None and body.claim.worker_id != body.worker_id:
        raise errors.InvalidRequest("The claim inside a completion is for the same worker.")
    outcomes, tried, jobs = await farm.completions.complete(body)
    _note_outcomes(farm, "complete", body.worker_id, outcomes, jobs, tried.claims)
    claims = await claims_of(farm.blobs, tried.claims)
    return protocol.CompleteAnswer(outcomes=tuple(outcomes), claims=claims, drain=tried.drain)


@router.post("/fail")
async def fail(body: protocol.FailRequest, caller: AnyCaller, farm: Farm) -> protocol.OutcomeAnswer:
    """End attempts without a result."""
    tokens = [failure.token for failure in body.failures]
    return await _end(farm, "fail", caller, body, tokens, lambda tx: fail_attempts(tx, body, farm.policy))


@router.post("/release")
async def release(body: protocol.ReleaseRequest, caller: AnyCaller, farm: Farm) -> protocol.OutcomeAnswer:
    """Hand jobs back untouched, uncharged."""
    return await _end(farm, "release", caller, body, body.tokens, lambda tx: release_attempts(tx, body, farm.policy))


@router.get("/source/{token}", response_class=Response, responses=_SOURCE)
@router.head("/source/{token}", response_class=Response, include_in_schema=False)
async def source(token: ClaimTokenInPath, request: Request, caller: AnyCaller, farm: Farm) -> Response:
    """The recording of a job that needs all of it. Answers `Range`."""
    held = await _held(farm, caller, token, *READS_SOURCE)
    if held.source.startswith("file:"):
        return await serve_file(request, Path(held.source.removeprefix("file:")), held.source_size)
    return await serve_blob(request, farm.blobs, held.source.removeprefix("blob:"), held.source_size)


@router.get("/audio/{token}", response_class=Response, responses=_AUDIO)
@router.head("/audio/{token}", response_class=Response, include_in_schema=False)
async def audio(token: ClaimTokenInPath, request: Request, caller: AnyCaller, farm: Farm) -> Response:
    """The audio of the chunk to recognise (FLAC). Answers `Range`."""
    held = await _held(farm, caller, token, "transcribe")
    assert held.audio_key is not None  # the table says so of every such job
    return await serve_blob(request, farm.blobs, held.audio_key, held.audio_size or 0, FLAC)


@router.put(
    "/uploads/{token}/{position}",
    status_code=204,
    openapi_extra={"requestBody": {"required": True, **binary(OCTETS)}},
    responses=documented(errors.ProtocolMismatch, errors.LeaseLost, errors.PositionConflict),
)
async def upload_chunk(
    token: ClaimTokenInPath, position: PositionInPath, request: Request, caller: AnyCaller, farm: Farm
) -> None:
    """The audio of a new chunk, or the listening copy.

    Sent again, the newer bytes count. Once a chunk is appended, no more are taken.
    """
    held = await _held(farm, caller, token, *READS_SOURCE)
    if held.kind == "chunk" and position < held.chunks:
        raise errors.PositionConflict(f"Chunk {position} of {held.source_name} is appended; its audio stays as it is.")
    key, most = upload_place(held, token, position)
    await farm.blobs.put_stream(key, request.stream(), most)


async def _gone(request: Request) -> None:
    """Ends when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _held(farm: Coordinator, caller: Caller, token: str, *kinds: JobKind) -> AttemptedJob:
    """The job behind a claim token, which a worker of this caller holds."""
    held = await farm.store.read(lambda tx: held_job(tx, token, *kinds))
    await farm.workers.check(caller, held.worker_id)
    return held


async def _held_by(farm: Coordinator, caller: Caller, token: str, worker_id: str, *kinds: JobKind) -> AttemptedJob:
    """The same, if it is that worker."""
    held = await _held(farm, caller, token, *kinds)
    if held.worker_id != worker_id:
        raise errors.LeaseLost
    return held


async def _verify(farm: Coordinator, chunks: Sequence[protocol.NewChunk]) -> None:
    turns = asyncio.Semaphore(VERIFIES_AT_ONCE)

    async def verify(chunk: protocol.NewChunk) -> None:
        async with turns:
            await farm.blobs.verify(chunk.key, chunk.size, chunk.sha256, MAX_CHUNK_BYTES)

    await asyncio.gather(*(verify(chunk) for chunk in chunks))


async def _end(
    farm: Coordinator,
    call: str,
    caller: Caller,
    request: protocol.FailRequest | protocol.ReleaseRequest,
    tokens: Sequence[str],
    end: Callable[[Transaction], list[protocol.Outcome]],
) -> protocol.OutcomeAnswer:
    await farm.workers.check(caller, request.worker_id)
    jobs, outcomes = await farm.store.write(lambda tx: (jobs_of(tx, tokens), end(tx)))
    _note_outcomes(farm, call, request.worker_id, outcomes, jobs)
    return protocol.OutcomeAnswer(outcomes=tuple(outcomes))


def _note_outcomes(
    farm: Coordinator,
    call: str,
    worker_id: str,
    outcomes: Sequence[protocol.Outcome],
    jobs: Sequence[str],
    claimed: Sequence[Claimed] = (),
) -> None:
    for outcome in outcomes:
        farm.metrics.outcomes.labels(call, outcome.error_code or "accepted").inc()
    refused = [outcome.error_code for outcome in outcomes if outcome.error_code]
    counts = {"accepted": len(outcomes) - len(refused), "refused": refused, "claimed": [one.job_id for one in claimed]}
    farm.log.info("attempts ended", action=call, worker_id=worker_id, jobs=jobs, **counts)
