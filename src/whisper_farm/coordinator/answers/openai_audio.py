"""Transcripts as OpenAI's audio API writes them: the formats that it has of its own, and the last event of a stream."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from string import ascii_uppercase
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from whisper_farm.coordinator.answers.openapi import CuesAsked
from whisper_farm.transcript.document import segment_document
from whisper_farm.transcript.formats import FORMATS, OutputFormat
from whisper_farm.transcript.languages import LANGUAGES
from whisper_farm.transcript.transcript import Transcript, Word

UNKNOWN = "unknown"
"""Where nobody knows who speaks: the form wants a name."""


class Wish(CuesAsked):
    """How the answer is to be written."""

    model_config = ConfigDict(validate_by_name=True, loc_by_alias=False)

    response_format: Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"] = "json"
    timestamp_granularities: frozenset[Literal["word", "segment"]] = Field(
        default=frozenset({"segment"}), alias="timestamp_granularities[]"
    )
    stream: bool = Field(default=False, description="Answer with server-sent events.")
    include: frozenset[str] = Field(
        default=frozenset(), alias="include[]", description="`logprobs`: of each word, in json."
    )

    @field_validator("timestamp_granularities")
    @classmethod
    def _words_are_in_verbose_json(cls, wanted: frozenset[str], info: ValidationInfo) -> frozenset[str]:
        if "word" in wanted and info.data.get("response_format") != "verbose_json":
            raise ValueError("times of words need `response_format` verbose_json")
        return wanted


def written_as(wish: Wish) -> OutputFormat:
    """The format asked for, as a writer of transcripts."""
    match wish.response_format:
        case "srt" | "vtt":
            return FORMATS[wish.response_format].laid_out(wish.layout)
        case "text":
            return OutputFormat("text", "txt", "text/plain; charset=utf-8", lambda heard: f"{heard.text}\n".encode())
        case "json":
            return json_format("json", lambda heard: _plain(heard, wish))
        case "verbose_json":
            return json_format("verbose_json", lambda heard: _verbose(heard, wish))
        case "diarized_json":
            return json_format("diarized_json", _diarized)


def json_format(name: str, document_of: Callable[[Transcript], dict[str, Any]]) -> OutputFormat:
    return OutputFormat(name, "json", "application/json", lambda heard: json.dumps(document_of(heard)).encode())


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
    if "segment" in wish.timestamp_granularities:
        bare = (replace(segment, language=None, speaker=None, struck=False) for segment in heard.segments)
        document["segments"] = [
            {name: 0.0 if value is None else value for name, value in segment_document(number, one, False).items()}
            for number, one in enumerate(bare)
        ]
    if "word" in wish.timestamp_granularities:
        document["words"] = [
            {"word": word.text.strip(), "start": word.start, "end": word.end} for word in _words(heard)
        ]
    return document


def _letter(speaker: str | None) -> str:
    """As OpenAI names voices: `A`, `B` … in place of the farm's numbers. Names that people gave stay."""
    numbered = re.fullmatch(r"Speaker ([1-9]|1[0-9]|20)", speaker or "")
    return ascii_uppercase[int(numbered[1]) - 1] if numbered else speaker or UNKNOWN


def _diarized(heard: Transcript) -> dict[str, Any]:
    segments = [
        {
            "id": f"seg_{number}",
            "type": "transcript.text.segment",
            "start": segment.start,
            "end": segment.end,
            "text": segment.text,
            "speaker": _letter(segment.speaker),
        }
        for number, segment in enumerate(heard.segments)
    ]
    return {**_plain(heard, Wish()), "task": heard.task, "duration": heard.duration, "segments": segments}


def _usage(heard: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": float(math.ceil(heard.duration))}


def _logprobs(heard: Transcript, wish: Wish) -> dict[str, Any]:
    """Of words: the farm keeps no tokens."""
    if "logprobs" not in wish.include:
        return {}
    scored = [(word.text, math.log(max(word.probability, 1e-9))) for word in _words(heard) if word.probability]
    return {"logprobs": [{"token": text, "logprob": log, "bytes": list(text.encode())} for text, log in scored]}


def _words(heard: Transcript) -> Iterable[Word]:
    return (word for segment in heard.segments for word in segment.words)


def done_event(wish: Wish) -> OutputFormat:
    """The last event of a stream, which has all of the text."""
    return json_format(
        "done", lambda heard: {"type": "transcript.text.done", "text": heard.text, **_logprobs(heard, wish)}
    )
