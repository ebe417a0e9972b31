"""The JSON document: whisper's shape, exact there and back, and no damage gets past it."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.spoken import transcript_of, transcripts

from whisper_farm.errors import FarmError, InvalidTranscript
from whisper_farm.transcript.document import from_json, to_json
from whisper_farm.transcript.transcript import Coverage, MissingStretch, Segment, Transcript, Word, length_of

HELLO = transcript_of(
    Segment(
        12.5, 13.25, " Hello there.", (Word(12.5, 12.75, " Hello", 0.98), Word(12.75, 13.25, " there.", 0.5)), -0.25
    ),
    Segment(13.25, 14.0, " Good day."),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def damaged(document: Any, chance: random.Random, value: Any) -> Any:
    """The document with one place, chosen by chance, replaced or removed."""
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return document
        key = chance.choice(keys)
        if not isinstance(place[key], (dict, list)) or chance.random() < 0.3:
            break
        place = place[key]
    if chance.random() < 0.3:
        del place[key]
    else:
        place[key] = value
    return document


@given(transcripts)
@settings(max_examples=50)
def test_a_transcript_comes_back_exactly(transcript: Transcript) -> None:
    assert from_json(json.loads(json.dumps(to_json(transcript)))) == transcript


@given(transcripts)
@settings(max_examples=50)
def test_a_document_comes_back_exactly(transcript: Transcript) -> None:
    document = to_json(transcript)

    assert to_json(from_json(document)) == document


@given(transcripts, st.randoms(use_true_random=False), json_values)
@settings(max_examples=100)
def test_a_damaged_document_is_refused_or_is_a_transcript_again(
    transcript: Transcript, chance: random.Random, value: Any
) -> None:
    document = damaged(json.loads(json.dumps(to_json(transcript))), chance, value)
    try:
        read = from_json(document)
    except InvalidTranscript:
        return
    assert from_json(to_json(read)) == read


@given(json_values)
def test_what_is_no_document_at_all_is_refused(value: Any) -> None:
    with pytest.raises(InvalidTranscript):
        from_json(value)


def test_the_shape_is_that_of_whisper_with_what_made_it_and_what_it_covers() -> None:
    document = to_json(HELLO)

    assert document["text"] == "Hello there. Good day."
    assert document["segments"][0] == {
        "id": 0,
        "seek": 1250,
        "start": 12.5,
        "end": 13.25,
        "text": " Hello there.",
        "tokens": [],
        "temperature": None,
        "avg_logprob": -0.25,
        "compression_ratio": None,
        "no_speech_prob": None,
        "words": [
            {"word": " Hello", "start": 12.5, "end": 12.75, "probability": 0.98},
            {"word": " there.", "start": 12.75, "end": 13.25, "probability": 0.5},
        ],
    }
    assert document["segments"][1]["words"] == []
    assert {key: value for key, value in document.items() if key not in ("text", "segments")} == {
        "language": "en",
        "languages": [],
        "duration": 3600.0,
        "task": "transcribe",
        "engine": "faster-whisper",
        "engine_version": "1.2.1",
        "model": "small",
        "revision": "5d8c3a",
        "devices": ["cuda:0 float16"],
        "workers": ["attic", "cellar"],
        "coverage": {
            "complete": True,
            "duration": 3600.0,
            "covered": 3600.0,
            "chunks": 1,
            "missing": [],
            "damaged_packets": 0,
        },
    }


def test_a_missing_stretch_is_told_and_makes_the_coverage_incomplete() -> None:
    coverage = Coverage(60.0, 30.0, 2, (MissingStretch(30.0, 60.0, "engine_error: no"),), 3)

    document = to_json(replace(HELLO, coverage=coverage))["coverage"]

    assert document["complete"] is False
    assert document["missing"] == [{"start": 30.0, "end": 60.0, "reason": "engine_error: no"}]


def test_without_word_times_no_segment_has_a_list_of_words() -> None:
    assert "words" not in to_json(transcript_of(Segment(0, 1, " Hi.")))["segments"][0]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d.pop("language"), "language"),
        (lambda d: d["segments"][0].update(start=-1.0), r"segments\[0\]\.start"),
        (lambda d: d["segments"][0].update(start=True), r"segments\[0\]\.start"),
        (lambda d: d["segments"][0].update(end="13.25"), r"segments\[0\]\.end"),
        (lambda d: d["segments"][0].update(avg_logprob=float("nan")), r"segments\[0\]\.avg_logprob"),
        (lambda d: d["segments"][0]["words"][1].update(word=7), r"segments\[0\]\.words\[1\]\.word"),
        (lambda d: d["segments"][1].update(start=1.0), r"segments\[1\] are not in order"),
        (lambda d: d["segments"][0]["words"][0].update(end=0.0), r"segments\[0\] are not in order"),
        (lambda d: d.update(task="sing"), "task"),
        (lambda d: d["coverage"].update(chunks=-1), r"coverage\.chunks"),
    ],
)
def test_a_wrong_field_is_named(change: Any, complaint: str) -> None:
    document = copy.deepcopy(to_json(HELLO))
    change(document)

    with pytest.raises(InvalidTranscript, match=complaint) as caught:
        from_json(document)
    assert isinstance(caught.value, FarmError)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))))
def test_overlapping_stretches_are_counted_once(pairs: list[tuple[int, int]]) -> None:
    stretches = [(min(pair), max(pair)) for pair in pairs]
    assert length_of(stretches) == len({second for start, end in stretches for second in range(start, end)})
