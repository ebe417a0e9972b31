"""Transcripts as OpenAI's audio API writes them: the formats that it has of its own, and the last event of a stream."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from whisper_farm.transcript.formats import FORMATS, OutputFormat
from whisper_farm.transcript.languages import LANGUAGES
from whisper_farm.transcript.transcript import Transcript, Word


@dataclass(frozen=True, slots=True)
class Wish:
    """How the answer is to be written."""

    format: str
    granularities: frozenset[str]
    stream: bool
    logprobs: bool


def written_as(wish: Wish) -> OutputFormat:
    """The format asked for, as a writer of transcripts."""
    if wish.format in ("srt", "vtt"):
        return FORMATS[wish.format]
    if wish.format == "text":
        return OutputFormat("text", "txt", "text/plain; charset=utf-8", lambda heard: f"{heard.text}\n".encode())
    if wish.format == "json":
        return OutputFormat("json", "json", "application/json", lambda heard: _json(_plain(heard, wish)))
    return OutputFormat("verbose_json", "json", "application/json", lambda heard: _json(_verbose(heard, wish)))


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def _plain(heard: Transcript, wish: Wish) -> dict[str, Any]:
    return {"text": heard.text, "usage": _usage(heard), **_logprobs(heard, wish)}


def _verbose(heard: Transcript, wish: Wish) -> dict[str, Any]:
    language = "en" if heard.task == "translate" else heard.language
    document: dict[str, Any] = {
        "task": heard.task,
        "language": LANGUAGES.get(language, language),
        "duration": heard.duration,
        "text": heard.text,
        "usage": _usage(heard),
    }
    if "segment" in wish.granularities:
        document["segments"] = [
            {
                "id": number,
                "seek": int(segment.start * 100),
                "start": segment.start,
                "end": segment.end,
                "text": segment.text,
                "tokens": [],
                "temperature": segment.temperature or 0.0,
                "avg_logprob": segment.avg_logprob or 0.0,
                "compression_ratio": segment.compression_ratio or 0.0,
                "no_speech_prob": segment.no_speech_prob or 0.0,
            }
            for number, segment in enumerate(heard.segments)
        ]
    if "word" in wish.granularities:
        document["words"] = [
            {"word": word.text.strip(), "start": word.start, "end": word.end} for word in _words(heard)
        ]
    return document


def _usage(heard: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": float(math.ceil(heard.duration))}


def _logprobs(heard: Transcript, wish: Wish) -> dict[str, Any]:
    """Of words: the farm keeps no tokens."""
    if not wish.logprobs:
        return {}
    scored = [(word.text, math.log(max(word.probability, 1e-9))) for word in _words(heard) if word.probability]
    return {"logprobs": [{"token": text, "logprob": log, "bytes": list(text.encode())} for text, log in scored]}


def _words(heard: Transcript) -> Iterable[Word]:
    return (word for segment in heard.segments for word in segment.words)


def done_event(wish: Wish) -> OutputFormat:
    """The last event of a stream, which has all of the text."""
    return OutputFormat("done", "json", "application/json", lambda heard: _json(_done(heard, wish)))


def _done(heard: Transcript, wish: Wish) -> dict[str, Any]:
    return {"type": "transcript.text.done", "text": heard.text, **_logprobs(heard, wish)}
