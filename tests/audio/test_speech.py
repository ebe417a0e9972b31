"""How much of a chunk is speech: nothing only in silence, little in music and noise, much in speech."""

from __future__ import annotations

import numpy as np
import pytest
from support.recordings import noise, silence, speech
from support.tone_audio import tone_recording

from bench.known_recordings import by_telephone, example
from whisper_farm.audio import speech as speech_module
from whisper_farm.audio.packing import MAYBE, packing_of
from whisper_farm.audio.sound import SAMPLE_RATE, samples_of
from whisper_farm.audio.speech import (
    FRAME,
    SpeechDetector,
    normalised,
    speech_probabilities,
    speech_seconds,
)


def test_silence_from_end_to_end_is_no_speech() -> None:
    assert speech_seconds(silence(30)) == 0.0
    assert speech_seconds(noise(30, level=2**-16)) == 0.0, "the last bit of a 16-bit recording is silence too"


def test_no_sound_at_all_is_no_speech() -> None:
    assert speech_seconds(silence(0)) == 0.0


@pytest.mark.parametrize("level", [0.0005, 0.01, 0.2])
def test_noise_is_little_speech_but_never_none(level: float) -> None:
    assert 0 < speech_seconds(noise(30, level)) < 1


def test_most_of_a_podcast_is_speech() -> None:
    assert 10 < speech_seconds(speech()[: samples_of(30)]) <= 30


def test_a_short_answer_in_a_long_silence_is_heard() -> None:
    sound = silence(30)
    sound[samples_of(7) : samples_of(9)] = speech()[samples_of(1) : samples_of(3)]
    assert 0.5 < speech_seconds(sound) < 4


def test_a_whisper_far_away_is_speech() -> None:
    assert speech_seconds(speech()[: samples_of(30)] * 0.003) > 1


def test_there_is_a_probability_for_every_frame_and_it_knows_speech() -> None:
    sound = np.concatenate([silence(5), speech()[: samples_of(5)]])
    probabilities = speech_probabilities(sound)
    assert probabilities is not None
    assert len(probabilities) == -(-len(sound) // 512)
    assert probabilities[: 5 * SAMPLE_RATE // 512].max() < 0.35
    assert np.mean(probabilities[5 * SAMPLE_RATE // 512 + 1 :] > 0.5) > 0.4


@pytest.mark.parametrize(("name", "start_seconds"), [("podcast.mp3", 95.25), ("inaugural.flac", 1.75)])
def test_by_telephone_a_voice_is_heard_from_its_first_words_on(name: str, start_seconds: float) -> None:
    sound = normalised(by_telephone(example(name).audio)[samples_of(start_seconds) :][: samples_of(15)])
    probabilities = speech_probabilities(sound)
    assert probabilities is not None
    assert packing_of(probabilities, len(sound)).kept[0][0] == 0


def test_tones_are_no_speech_however_often_they_are_heard() -> None:
    sound = normalised(np.concatenate(list(tone_recording(15))))
    probabilities = speech_probabilities(sound)
    assert probabilities is not None
    assert probabilities.max() < MAYBE


def test_sound_that_comes_piece_by_piece_is_heard_as_it_is_at_once() -> None:
    sound, pieces = by_telephone(speech()[: 900 * FRAME]), SpeechDetector()
    at_once = speech_probabilities(sound)
    heard = [pieces.hear(sound[start : start + 320 * FRAME]) for start in range(0, len(sound), 320 * FRAME)]
    assert at_once is not None
    np.testing.assert_allclose(np.concatenate([piece for piece in heard if piece is not None]), at_once, atol=1e-4)


def test_without_the_model_whatever_is_not_silent_counts_as_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_module, "_model", lambda: None)
    assert speech_probabilities(noise(1)) is None
    assert speech_seconds(noise(12)) == 12.0
    assert speech_seconds(silence(12)) == 0.0
