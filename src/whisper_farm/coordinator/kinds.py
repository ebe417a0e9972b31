"""What the kinds of jobs have of their own in the coordinator: what a task carries, and how a result is looked at.

Everything else about claims and completions is the same for all kinds. Another kind is another case in each function.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import assert_never, get_args

from whisper_farm.coordinator.transfers import CHUNK_SECONDS, SOURCE_SECONDS, chunk_key, listening_key, to_fetch
from whisper_farm.errors import InvalidRequest
from whisper_farm.leases.claim import Claimed
from whisper_farm.protocol import jobs
from whisper_farm.protocol.wire import MAX_CHUNK_BYTES, MAX_COPY_BYTES, JobKind
from whisper_farm.protocol.worker import Claim
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.jobs import AttemptedJob
from whisper_farm.transcript.languages import LANGUAGES

TOLERANCE_SECONDS = 1.0
"""How far a recogniser's times may lie outside its chunk. More than rounding means a wrong offset."""
READS_SOURCE: tuple[JobKind, ...] = tuple(
    task.model_fields["kind"].default for task in get_args(jobs.Task) if "source" in task.model_fields
)
"""The kinds whose workers may fetch the recording: those that are told where it is."""
FREE_LETTERS, LETTERS_PER_SECOND = 2000, 200
"""Letters a result may have, segments and words together: ten times as many as the fastest speakers say."""
FREE_VOICES, VOICES_PER_SECOND = 10, 4
LETTERS_OF_ALL = 4
"""So many more each of them counts for: a million words without a letter would fill the memory, too."""


async def claims_of(blobs: Blobs, claimed: Sequence[Claimed]) -> tuple[Claim, ...]:
    """Claims as the worker gets them."""
    return tuple([Claim.of(one, task=await _task(blobs, one)) for one in claimed])


async def _task(blobs: Blobs, claimed: Claimed) -> jobs.Task:
    match claimed.kind:
        case "chunk":
            heard = claimed.options.model_dump(include={"channel", "track", "raw", "end_seconds"})
            return jobs.ChunkTask.of(claimed, source=await _source(blobs, claimed), **heard)
        case "peaks":
            source, options = await _source(blobs, claimed), claimed.options
            return jobs.PeaksTask(source=source, track=options.track, raw=options.raw)
        case "transcribe":
            path = f"/api/work/audio/{claimed.token}"
            audio = await to_fetch(blobs, claimed.audio_key, CHUNK_SECONDS, path)
            about = {"size": claimed.audio_size, "sha256": claimed.audio_sha256}
            return jobs.TranscribeTask.of(claimed, transfer=audio, **about)
    assert_never(claimed.kind)


async def _source(blobs: Blobs, claimed: Claimed) -> jobs.Source:
    key = claimed.source.removeprefix("blob:") if claimed.source.startswith("blob:") else None
    transfer = await to_fetch(blobs, key, SOURCE_SECONDS, f"/api/work/source/{claimed.token}")
    return jobs.Source(name=claimed.source_name, size=claimed.source_size, transfer=transfer)


def upload_place(held: AttemptedJob, token: str, position: int) -> tuple[str, int]:
    """Where the holder of this job puts what it made at that position, and how many bytes that may have."""
    match held.kind:
        case "chunk":
            return chunk_key(held.transcription_id, token, position), MAX_CHUNK_BYTES
        case "peaks":
            if position:
                raise InvalidRequest("A listening copy is one file: its position is 0.")
            return listening_key(held.transcription_id, token), MAX_COPY_BYTES
        case "transcribe":
            raise InvalidRequest("A chunk is recognised without storing anything before its result.")
    assert_never(held.kind)


async def must_have_arrived(blobs: Blobs, result: jobs.Result) -> None:
    """Raise what is wrong with a blob that this result names. Its size says so: to read it all would take too long."""
    if isinstance(result, jobs.PeaksResult):
        await blobs.verify(result.audio.key, result.audio.size, limit=MAX_COPY_BYTES)


def check_result(result: jobs.Result, token: str, place: AttemptedJob) -> None:
    """Raise what is wrong with the result of this live attempt."""
    match result:
        case jobs.ChunkResult():
            pass  # the queue holds it against the chunks that it has
        case jobs.TranscribeResult():
            _must_be_asked_for(result, place)
            _must_fit(result, place)
        case jobs.PeaksResult():
            if result.audio.key != listening_key(place.transcription_id, token):
                raise InvalidRequest(f"{result.audio.key} was not minted for this attempt.")
        case _:
            assert_never(result)


def _must_be_asked_for(result: jobs.TranscribeResult, place: AttemptedJob) -> None:
    """It is of what was asked for, in a language there is, and says no more than anybody can in that time."""
    made, asked = (result.engine, result.model), (place.options["engine"], place.options["model"])
    if made != asked:
        raise InvalidRequest(f"{' '.join(asked)} was asked for; this result is of {' '.join(made)}.")
    if result.language not in (*LANGUAGES, place.options["language"]):
        raise InvalidRequest(f"There is no language {result.language!r}.")
    said = ((one.text, one.speaker, one.language, *(word.text for word in one.words)) for one in result.segments)
    letters = sum(len(text or "") + LETTERS_OF_ALL for texts in said for text in texts)
    if result.voices is not None:
        _must_be_few(len(result.voices.spans), place)
    most = FREE_LETTERS + LETTERS_PER_SECOND * (place.end_seconds - place.start_seconds)
    if letters > most:
        raise InvalidRequest(f"The result has {letters} letters; {most:.0f} are the most for its chunk.")


def _must_be_few(voices: int, place: AttemptedJob) -> None:
    if not place.options.get("diarize"):
        raise InvalidRequest("The result has voices; nobody asked for them.")
    most = FREE_VOICES + VOICES_PER_SECOND * (place.end_seconds - place.start_seconds)
    if voices > most:
        raise InvalidRequest(f"The result has {voices} voices; {most:.0f} are the most for its chunk.")


def _must_fit(result: jobs.TranscribeResult, place: AttemptedJob) -> None:
    """Times count from the start of the recording and lie in the chunk; anything else would be a silent mix-up."""
    earliest, latest = place.start_seconds - TOLERANCE_SECONDS, place.end_seconds + TOLERANCE_SECONDS
    for start, end in _spans(result):
        if not (earliest <= start <= latest and earliest <= end <= latest):  # also for what is no number
            raise InvalidRequest(
                f"The result speaks of [{start:g}, {end:g}] s; its chunk is "
                f"[{place.start_seconds:g}, {place.end_seconds:g}] s, counted from the start of the recording."
            )


def _spans(result: jobs.TranscribeResult) -> Iterator[tuple[float, float]]:
    yield from result.unheard
    yield from result.voices.spans if result.voices else ()
    for segment in result.segments:
        yield segment.start, segment.end
        for word in segment.words:
            yield word.start, word.end
