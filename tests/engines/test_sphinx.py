"""The embedded engine on real speech, and what it refuses. One short recording, since PocketSphinx is slow."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_farm.engines import sphinx
from whisper_farm.engines.engine import SAMPLE_RATE, Audio, ChunkAudio, EngineSettings, Recognition
from whisper_farm.engines.phrases import LONGEST_PHRASE_SECONDS, PAUSE_SECONDS, phrases
from whisper_farm.errors import ModelUnavailable, OptionUnsupported
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.speech import Word

OPTIONS = RecognitionOptions(engine="pocketsphinx", model="en-us")


@pytest.fixture(scope="module")
def engine() -> sphinx.SphinxEngine:
    return sphinx.load(OPTIONS, EngineSettings(), lambda _: None)


def buzz(seconds: float, seed: int) -> Audio:
    """Noise with the rhythm of speech: PocketSphinx hears some words in it, always the same."""
    generator = np.random.default_rng(seed)
    count = round(seconds * SAMPLE_RATE)
    rhythm = np.repeat(generator.uniform(0, 0.3, count // 1600 + 1), 1600)[:count]
    voice = np.sin(
        2 * np.pi * np.cumsum(generator.uniform(80, 900, count // 800 + 1).repeat(800)[:count]) / SAMPLE_RATE
    )
    return (rhythm * voice).astype(np.float32)


def said(recognition: Recognition) -> str:
    return "".join(segment.text for segment in recognition.segments)


def test_a_chunk_gives_the_same_words_whatever_was_heard_before(engine: sphinx.SphinxEngine) -> None:
    silence = ChunkAudio(np.zeros(SAMPLE_RATE, np.float32))
    chunks = [ChunkAudio(buzz(1.2, 0)), silence, ChunkAudio(buzz(0.5, 1)), silence]
    forwards = dict(engine.recognise(chunks, OPTIONS, lambda _: False))
    backwards = dict(engine.recognise(chunks[::-1], OPTIONS, lambda _: False))
    assert said(forwards[0])
    assert forwards == {3 - index: each for index, each in backwards.items()}


def test_silence_and_next_to_nothing_hold_no_words(engine: sphinx.SphinxEngine) -> None:
    chunks = [ChunkAudio(np.zeros(count, np.float32)) for count in (0, 1, 1000, SAMPLE_RATE)]
    answers = dict(engine.recognise(chunks, OPTIONS, lambda _: False))
    assert [answers[index].segments for index in range(4)] == [(), (), (), ()]


def test_cancelled_chunks_are_left_out(engine: sphinx.SphinxEngine) -> None:
    chunks = [ChunkAudio(np.zeros(SAMPLE_RATE // 2, np.float32))] * 3
    assert [index for index, _ in engine.recognise(chunks, OPTIONS, lambda index: index != 2)] == [2]


def test_other_languages_and_translation_are_refused(engine: sphinx.SphinxEngine) -> None:
    chunk = ChunkAudio(np.zeros(SAMPLE_RATE, np.float32))
    for options in (OPTIONS.model_copy(update={"language": "de"}), OPTIONS.model_copy(update={"task": "translate"})):
        with pytest.raises(OptionUnsupported, match="faster-whisper"):
            list(engine.recognise([chunk], options, lambda _: False))
        with pytest.raises(OptionUnsupported, match="faster-whisper"):
            sphinx.load(options, EngineSettings(), lambda _: None)
    with pytest.raises(OptionUnsupported, match="English"):
        list(engine.recognise([ChunkAudio(chunk.audio, "fr")], OPTIONS, lambda _: False))


def test_it_has_one_model_only() -> None:
    with pytest.raises(ModelUnavailable, match="en-us"):
        sphinx.load(OPTIONS.model_copy(update={"model": "small"}), EngineSettings(), lambda _: None)


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0.01, 1)), max_size=60))
def test_phrases_keep_every_word_and_end_at_every_pause(rhythm: list[tuple[float, float]]) -> None:
    words, at = [], 0.0
    for number, (gap, length) in enumerate(rhythm):
        words.append(Word(at + gap, at + gap + length, f" {number}"))
        at += gap + length
    runs = phrases(words)
    assert [word for run in runs for word in run] == words
    for run in runs:
        assert run[-1].end - run[0].start <= LONGEST_PHRASE_SECONDS
        assert all(b.start - a.end < PAUSE_SECONDS for a, b in pairwise(run))


@pytest.mark.skipif(
    "WHISPER_FARM_REAL_AUDIO" not in os.environ, reason="WHISPER_FARM_REAL_AUDIO names no folder of speech"
)
def test_a_real_reader_is_understood_in_part(engine: sphinx.SphinxEngine) -> None:
    import av

    with av.open(str(Path(os.environ["WHISPER_FARM_REAL_AUDIO"]) / "jfk.flac")) as container:
        resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
        audio = np.concatenate([frame.to_ndarray()[0] for frame in [*frames, *resampler.resample(None)]])
    [(_, recognition)] = engine.recognise([ChunkAudio(audio)], OPTIONS, lambda _: False)
    words = [word for segment in recognition.segments for word in segment.words]
    assert len({"ask", "not", "your", "country", "can", "do", "for", "you"} & set(said(recognition).split())) >= 5
    assert len(words) == len(said(recognition).split())
    assert all(a.start < a.end <= b.start for a, b in pairwise(words))
    assert words[-1].end <= len(audio) / SAMPLE_RATE
    assert all(0 <= (word.probability or 0) <= 1 for word in words)
    assert not re.search(r"[<>()\[\]]", said(recognition))
    assert len(recognition.segments) > 1
