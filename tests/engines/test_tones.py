"""Tone speech and the engine that hears it: exact, independent of cuts and neighbours, with faults on demand."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tones
from support.tone_audio import (
    WORDS,
    pip,
    tone_number,
    tone_recording,
    tone_recording_words,
    tone_speech,
    tone_word,
    tone_words,
)

from whisper_farm.audio.sound import SAMPLE_RATE
from whisper_farm.engines.engine import ChunkAudio, EngineSettings, Recognition
from whisper_farm.errors import EngineError, ModelUnavailable, OptionUnsupported
from whisper_farm.transcript.options import RecognitionOptions


def engine(model: str = "instant") -> tones.ToneEngine:
    return tones.load(RecognitionOptions(engine="tones", model=model), EngineSettings(), lambda _: None)


def heard(chunk: ChunkAudio, model: str = "instant", **options: object) -> Recognition:
    wanted = RecognitionOptions.model_validate({"engine": "tones", "model": model, **options})
    [(_, recognition)] = engine(model).recognise([chunk], wanted, lambda _: False)
    return recognition


def text_of(recognition: Recognition) -> str:
    return "".join(segment.text for segment in recognition.segments).strip()


@given(st.lists(st.integers(0, WORDS - 1), max_size=12), st.floats(0.05, 1.0), st.floats(0.06, 0.4))
@settings(max_examples=60)
def test_every_spoken_word_is_heard_with_its_times(numbers: list[int], gap: float, seconds: float) -> None:
    speech = tone_speech([tone_word(number) for number in numbers], gap, word_seconds=seconds)
    words = tones.hear(speech.audio)
    assert [word.text for word in words] == [word.text for word in speech.words]
    for got, true in zip(words, speech.words, strict=True):
        assert abs(got.start - true.start) < 0.003
        assert abs(got.end - true.end) < 0.003


@given(st.integers(0, 10_000_000))
def test_words_and_numbers_are_two_names_of_the_same(number: int) -> None:
    assert tone_number(tone_word(number)) == number % WORDS


def test_no_word_is_said_twice() -> None:
    assert len(set(tone_words(WORDS))) == WORDS


def test_a_recording_cut_in_its_pauses_says_the_same_at_the_same_times() -> None:
    speech = tone_speech(tone_words(40))
    cuts = [
        0,
        *(round((a.end + b.start) / 2 * SAMPLE_RATE) for a, b in zip(speech.words, speech.words[1:], strict=False)),
    ]
    pieces = [
        (start, word)
        for start, end in zip(cuts, [*cuts[1:], len(speech.audio)], strict=True)
        for word in tones.hear(speech.audio[start:end])
    ]
    whole = tones.hear(speech.audio)
    assert [word.text for _, word in pieces] == [word.text for word in whole]
    assert [start / SAMPLE_RATE + word.start for start, word in pieces] == pytest.approx([word.start for word in whole])


def test_a_word_that_is_cut_through_is_heard_twice() -> None:
    speech = tone_speech(tone_words(1))
    middle = round((speech.words[0].start + speech.words[0].end) / 2 * SAMPLE_RATE)
    assert (
        tones.hear(speech.audio[:middle])[0].text == tones.hear(speech.audio[middle:])[0].text == speech.words[0].text
    )


def test_tones_are_heard_through_soft_noise_and_through_eight_bits() -> None:
    speech = tone_speech(tone_words(30))
    noise = np.random.default_rng(1).normal(0, 0.006, len(speech.audio)).astype(np.float32)
    assert text_of(heard(ChunkAudio(speech.audio + noise))) == speech.text
    assert text_of(heard(ChunkAudio(np.round(speech.audio * 127).astype(np.float32) / 127))) == speech.text


def test_noise_and_silence_are_no_words() -> None:
    noise = np.random.default_rng(2).normal(0, 0.3, 3 * SAMPLE_RATE).astype(np.float32)
    assert heard(ChunkAudio(noise)).segments == ()
    assert heard(ChunkAudio(np.zeros(SAMPLE_RATE, np.float32))).segments == ()
    assert heard(ChunkAudio(np.zeros(0, np.float32))).segments == ()


@pytest.mark.parametrize("seconds", [0, 0.1, 9.99, 10.3, 25, 61.03])
def test_a_streamed_recording_has_its_length_and_says_its_words(seconds: float) -> None:
    audio = np.concatenate([np.zeros(0, np.float32), *tone_recording(seconds, first=7)])
    assert len(audio) == round(seconds * SAMPLE_RATE)
    true = list(tone_recording_words(seconds, first=7))
    words = tones.hear(audio)
    assert [word.text for word in words] == [word.text for word in true]
    assert [word.start for word in words] == pytest.approx([word.start for word in true], abs=0.003)


def test_segments_end_at_pauses_and_hold_their_words() -> None:
    speech = tone_speech(tone_words(20))
    recognition = heard(ChunkAudio(speech.audio))
    assert [len(segment.words) for segment in recognition.segments] == [8, 8, 4]
    for segment in recognition.segments:
        assert segment.text == "".join(word.text for word in segment.words)
        assert (segment.start, segment.end) == (segment.words[0].start, segment.words[-1].end)
    assert all(segment.words == () for segment in heard(ChunkAudio(speech.audio), word_timestamps=False).segments)


def test_a_batch_is_answered_like_its_chunks_one_by_one() -> None:
    chunks = [ChunkAudio(tone_speech(tone_words(5, first=number * 5)).audio) for number in range(4)]
    options = RecognitionOptions(engine="tones", model="instant")
    together = dict(engine().recognise(chunks, options, lambda _: False))
    assert together == {number: heard(chunk) for number, chunk in enumerate(chunks)}


def test_the_language_is_the_given_one_else_a_guess() -> None:
    german = tone_speech(["deutsch", *tone_words(3)]).audio
    assert heard(ChunkAudio(german)).language == "de"
    assert heard(ChunkAudio(german, "fr")).language == "fr"
    assert heard(ChunkAudio(tone_speech(tone_words(3)).audio)).language == "en"


def test_a_cancelled_chunk_is_left_out() -> None:
    chunks = [ChunkAudio(tone_speech(tone_words(2)).audio)] * 3
    options = RecognitionOptions(engine="tones", model="instant")
    assert [index for index, _ in engine().recognise(chunks, options, lambda index: index == 1)] == [0, 2]


def test_a_slow_model_takes_its_share_of_the_audio_asleep() -> None:
    chunk = ChunkAudio(np.zeros(10 * SAMPLE_RATE, np.float32))
    began, worked = time.monotonic(), time.thread_time()
    heard(chunk, "x25")
    assert time.monotonic() - began >= 0.4
    assert time.thread_time() - worked < 0.2


def test_a_slow_model_heeds_a_cancel_while_it_sleeps() -> None:
    cancel = threading.Event()
    threading.Timer(0.1, cancel.set).start()
    chunk = ChunkAudio(np.zeros(600 * SAMPLE_RATE, np.float32))
    began = time.monotonic()
    answers = engine("x1").recognise([chunk], RecognitionOptions(engine="tones", model="x1"), lambda _: cancel.is_set())
    assert list(answers) == []
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("model", ["small", "x", "x0", "x-3", "40x", "once:/no/such/folder"])
def test_an_unknown_model_is_refused(model: str) -> None:
    with pytest.raises(ModelUnavailable, match="model"):
        engine(model)


def test_it_does_not_translate() -> None:
    with pytest.raises(OptionUnsupported):
        heard(ChunkAudio(np.zeros(10, np.float32)), task="translate")


def test_fault_words_are_only_words_to_other_models() -> None:
    speech = tone_speech(["die", "fail", "hang"])
    assert text_of(heard(ChunkAudio(speech.audio))) == "die fail hang"


def test_the_faulty_model_fails_and_dies_when_told_to() -> None:
    with pytest.raises(EngineError, match="fail"):
        heard(ChunkAudio(tone_speech(["fail"]).audio), "faulty")
    program = (
        "from support import tones; from whisper_farm.engines.engine import *;"
        "from support.tone_audio import pip;"
        "o = RecognitionOptions(engine='tones', model='faulty');"
        "e = tones.load(o, EngineSettings(), print);"
        "print(list(e.recognise([ChunkAudio(pip('die'))], o, lambda _: False)))"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert (child.returncode, child.stdout) == (tones.EXIT_STATUS, b"")


def test_the_faulty_model_hangs_when_told_to() -> None:
    answers = engine("faulty").recognise(
        [ChunkAudio(pip("hang"))], RecognitionOptions(engine="tones", model="faulty"), lambda _: True
    )
    assert list(answers) == [], "a cancel that comes before the chunk is heeded"
    thread = threading.Thread(target=heard, args=(ChunkAudio(pip("hang")), "faulty"), daemon=True)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()


def test_a_once_model_is_faulty_only_the_first_time(tmp_path: Path) -> None:
    chunk = ChunkAudio(tone_speech(["fail"]).audio)
    with pytest.raises(EngineError):
        heard(chunk, f"once:{tmp_path}")
    assert text_of(heard(chunk, f"once:{tmp_path}")) == "fail"
