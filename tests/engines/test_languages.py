"""Several languages in one window, by real Whisper: each is written as it is spoken, and neither lost nor translated.

The German and the Spanish are espeak-ng's (`-v de -s 140`, `-v es -s 135`); the English is that of `examples/`.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from support.recordings import decoded, silence

from bench.error_rate import word_errors
from examples.weights import base
from whisper_farm.audio.sound import SAMPLE_RATE, Waveform
from whisper_farm.engines.engine import ChunkAudio, Engine, EngineSettings, Recognition
from whisper_farm.engines.registry import engine_traits
from whisper_farm.transcript.options import RecognitionOptions

EXAMPLES = Path(__file__).parents[2] / "examples"
SPEECH = Path(__file__).parents[1] / "support" / "speech"
OPTIONS = RecognitionOptions(model="base", temperature=(0.0,))
SAID = {
    "de": "Guten Abend und herzlich willkommen zu unserer Sendung über die Küste und ihre Menschen. "
    "Sie wohnt in einem kleinen Haus am Meer. Der Hund schläft unter dem Tisch.",
    "es": "Buenas noches y bienvenidos a nuestro programa. Hoy vamos a visitar una granja muy grande junto al río. "
    "Los niños quieren mucho a los animales.",
    "en": (EXAMPLES / "inaugural.txt").read_text(encoding="utf-8"),
}


@pytest.fixture(scope="module")
def whisper() -> Engine:
    """Real Whisper, base: all languages."""
    settings = EngineSettings(device="cpu", threads=2)
    return engine_traits("faster-whisper").load(RecognitionOptions(model=str(base())), settings, lambda _: None)


def spoken(language: str) -> Waveform:
    """Some ten seconds of a language, and a pause."""
    file = EXAMPLES / "inaugural.flac" if language == "en" else SPEECH / f"{language}.opus"
    return np.concatenate([decoded(file.read_bytes()), silence(0.5)])


def heard(engine: Engine, *languages: str, expected: str | None = None) -> Recognition:
    """What is heard in one window in which they are spoken one after the other."""
    audio = np.concatenate([spoken(language) for language in languages])
    assert len(audio) < 30 * SAMPLE_RATE, "it is one window"
    [(_, recognition)] = list(
        engine.recognise([ChunkAudio(audio, expected_language=expected)], OPTIONS, lambda _: False)
    )
    return recognition


def text_of(recognition: Recognition) -> str:
    return "".join(segment.text for segment in recognition.segments)


def errors_of(recognition: Recognition, languages: Iterable[str]) -> int:
    return word_errors(" ".join(SAID[language] for language in languages), text_of(recognition))


@pytest.mark.parametrize("languages", [("de", "es"), ("en", "es")])
def test_a_window_of_two_languages_is_heard_in_each_where_it_is_spoken(
    whisper: Engine, languages: tuple[str, ...]
) -> None:
    recognition = heard(whisper, *languages)
    assert errors_of(recognition, languages) <= 12, "22 and more where all of it is heard in one language"
    assert [language for language, _ in groupby(one.language for one in recognition.segments)] == list(languages)
    assert recognition.unheard == ()


@pytest.mark.parametrize("languages", [("es", "en"), ("de", "en")])
def test_what_comes_after_another_language_is_neither_translated_nor_lost(
    whisper: Engine, languages: tuple[str, ...]
) -> None:
    recognition = heard(whisper, *languages)
    assert errors_of(recognition, languages) <= 3
    assert recognition.unheard == ()


def test_a_language_that_is_sure_is_kept_where_another_is_expected(whisper: Engine) -> None:
    recognition = heard(whisper, "es", expected="de")
    assert (recognition.language, recognition.language_sure) == ("es", True)
    assert errors_of(recognition, ["es"]) == 0
