"""The transcript as a JSON document: what is stored, what the API answers and what the `.json` file holds.

The shape is openai/whisper's, with what made the transcript and what it covers added at the top level.
`from_json(to_json(transcript))` equals the transcript. A document from outside is checked in full: kinds,
bounds and order of time. Does not limit the length of a document; whoever reads its bytes does.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Annotated, Any, NotRequired, cast

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from whisper_farm.errors import InvalidTranscript
from whisper_farm.transcript.options import Task
from whisper_farm.transcript.transcript import Coverage, Maker, MissingStretch, Segment, Transcript, Word

SEEK_FRAMES_PER_SECOND = 100

Seconds = Annotated[float, Field(ge=0, le=10_000_000, allow_inf_nan=False)]
Score = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class WordDocument(TypedDict):
    """One word; `word` keeps its leading space."""

    word: str
    start: Seconds
    end: Seconds
    probability: Score | None


class SegmentDocument(TypedDict):
    """One segment. `tokens` is always empty: tokens are not kept; `seek` is where the segment starts, in frames.

    `speaker` is there where one is named, and `struck` where the segment is struck out.
    """

    id: int
    seek: int
    start: Seconds
    end: Seconds
    text: str
    tokens: list[int]
    temperature: Score | None
    avg_logprob: Score | None
    compression_ratio: Score | None
    no_speech_prob: Score | None
    language: NotRequired[str]
    words: NotRequired[list[WordDocument]]
    speaker: NotRequired[str]
    struck: NotRequired[bool]


class MissingDocument(TypedDict):
    """A stretch without a result."""

    start: Seconds
    end: Seconds
    reason: str


class CoverageDocument(TypedDict):
    """What was recognised and what was not; `complete` is true when nothing is missing.

    `without_speakers` is there, and says why, where speakers were asked for and nobody could tell them apart.
    """

    complete: bool
    duration: Seconds
    covered: Seconds
    chunks: Count
    missing: list[MissingDocument]
    damaged_packets: Count
    without_speakers: NotRequired[str]


class TranscriptDocument(TypedDict):
    """The whole document. `languages` are those that were heard, that with most text first."""

    text: str
    segments: list[SegmentDocument]
    language: str
    languages: NotRequired[list[str]]
    duration: Seconds
    task: Task
    engine: str
    engine_version: str
    model: str
    revision: str
    devices: list[str]
    workers: list[str]
    coverage: CoverageDocument
    edits: NotRequired[Count]


_DOCUMENT: TypeAdapter[TranscriptDocument] = TypeAdapter(TranscriptDocument)


def to_json(transcript: Transcript) -> TranscriptDocument:
    """The transcript as a dictionary for `json.dumps`."""
    maker = transcript.maker
    with_words = any(segment.words for segment in transcript.segments)
    document: TranscriptDocument = {
        "text": transcript.text,
        "segments": [segment_document(i, segment, with_words) for i, segment in enumerate(transcript.segments)],
        "language": transcript.language,
        "languages": list(transcript.languages),
        "duration": transcript.duration,
        "task": transcript.task,
        "engine": maker.engine,
        "engine_version": maker.version,
        "model": maker.model,
        "revision": maker.revision,
        "devices": list(maker.devices),
        "workers": list(maker.workers),
        "coverage": _coverage_document(transcript.coverage),
    }
    if transcript.edits:
        document["edits"] = transcript.edits
    return document


def from_json(document: object) -> Transcript:
    """The transcript of a parsed JSON document. Raises `InvalidTranscript`, which names the first wrong field."""
    try:
        found = _DOCUMENT.validate_python(document, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        raise InvalidTranscript(f"This is no transcript: {place or 'the document'}: {first['msg']}.") from None
    segments = tuple(_segment(segment) for segment in found["segments"])
    _check_order(segments)
    return Transcript(
        segments=segments,
        language=found["language"],
        duration=found["duration"],
        task=found["task"],
        maker=Maker(
            engine=found["engine"],
            version=found["engine_version"],
            model=found["model"],
            revision=found["revision"],
            devices=tuple(found["devices"]),
            workers=tuple(found["workers"]),
        ),
        coverage=_coverage(found["coverage"]),
        edits=found.get("edits", 0),
    )


def segment_document(number: int, segment: Segment, with_words: bool) -> SegmentDocument:
    """One segment as it stands in the document, `number` being its place in it."""
    document: SegmentDocument = {
        "id": number,
        "seek": int(segment.start * SEEK_FRAMES_PER_SECOND),
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": [],
        "temperature": segment.temperature,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": segment.no_speech_prob,
    }
    if segment.language is not None:
        document["language"] = segment.language
    if with_words:
        document["words"] = [
            {"word": word.text, "start": word.start, "end": word.end, "probability": word.probability}
            for word in segment.words
        ]
    if segment.speaker is not None:
        document["speaker"] = segment.speaker
    if segment.struck:
        document["struck"] = True
    return document


def _segment(found: SegmentDocument) -> Segment:
    told: dict[str, Any] = {one.name: found.get(one.name) for one in fields(Segment)}
    words = (Word(word["start"], word["end"], word["word"], word["probability"]) for word in found.get("words", ()))
    return Segment(**told | {"words": tuple(words), "struck": found.get("struck", False)})


def _coverage_document(coverage: Coverage) -> CoverageDocument:
    told: dict[str, Any] = {"complete": coverage.complete} | asdict(coverage)
    told["missing"] = list(told["missing"])
    if coverage.without_speakers is None:
        del told["without_speakers"]
    return cast(CoverageDocument, told)


def _coverage(found: CoverageDocument) -> Coverage:
    told: dict[str, Any] = {name: value for name, value in found.items() if name != "complete"}
    return Coverage(**told | {"missing": tuple(MissingStretch(**gap) for gap in found["missing"])})


def _check_order(segments: tuple[Segment, ...]) -> None:
    earliest = 0.0
    for number, segment in enumerate(segments):
        backwards = segment.end < segment.start or any(word.end < word.start for word in segment.words)
        if backwards or segment.start < earliest:
            raise InvalidTranscript(f"This is no transcript: the times of segments[{number}] are not in order.")
        earliest = segment.start
