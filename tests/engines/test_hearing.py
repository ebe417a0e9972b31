"""What was heard is held against the speech that is there: nothing lost, nothing invented, times in the chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.recordings import decoded, noise, silence

from bench.error_rate import word_error_rate, words_of
from examples.weights import base, tiny_en
from whisper_farm.audio.cuts import cut
from whisper_farm.audio.sound import Waveform
from whisper_farm.audio.speech import normalised, speech_probabilities, stretches_above
from whisper_farm.engines.decoding import Window, WindowDecoder, WindowText
from whisper_farm.engines.engine import ChunkAudio, Engine, EngineFacts, EngineSettings, Recognition
from whisper_farm.engines.hearing import MOST_ROUNDS, WhisperEngine
from whisper_farm.engines.hearing import SPEECH as SPOKEN
from whisper_farm.engines.hearing import SPEECH_GOES_ON as SPOKEN_GOES_ON
from whisper_farm.engines.registry import engine_traits
from whisper_farm.engines.trust import overlap, without_words
from whisper_farm.engines.windows import Decoded
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Segment, Word

PODCAST = Path(__file__).parents[2] / "examples" / "podcast.mp3"
SPEECH = Path(__file__).parents[2] / "examples" / "inaugural.flac"
KNOWN = SPEECH.with_suffix(".txt").read_text(encoding="utf-8")
FACTS = EngineFacts("faster-whisper", "1", "tiny.en", "1", "cpu", "int8")


@pytest.fixture(scope="module")
def speech() -> Waveform:
    """Eleven seconds of a real voice, with words that are known."""
    return decoded(SPEECH.read_bytes())


@pytest.fixture(scope="module")
def whisper() -> Engine:
    """Real Whisper, tiny.en."""
    settings = EngineSettings(device="cpu", threads=2)
    return engine_traits("faster-whisper").load(RecognitionOptions(model=str(tiny_en())), settings, lambda _: None)


def heard(engine: Engine, audio: Waveform, **options: object) -> Recognition:
    """What is heard in one chunk."""
    wanted = RecognitionOptions.model_validate({"model": "tiny.en", "language": "en", **options})
    [(_, recognition)] = list(engine.recognise([ChunkAudio(audio)], wanted, lambda _: False))
    return recognition


def said(recognition: Recognition) -> str:
    return "".join(segment.text for segment in recognition.segments)


Texts = Sequence[tuple[float, float, str]]


class Scripted:
    """A decoder that answers window after window by a script, then nothing; it remembers how long they were."""

    multilingual = False

    def __init__(self, script: Sequence[Texts], logprob: float) -> None:
        self.windows: list[float] = []
        self._script, self._logprob = list(script), logprob

    def knows(self, language: str) -> bool:
        return language == "en"

    def hear(self, windows: Sequence[Window], options: RecognitionOptions) -> list[WindowText]:
        decoded = Decoded((1,), True, self._logprob, 0.1, 1.5, 0.0)
        answers = []
        for window in windows:
            self.windows.append(round(window.seconds, 1))
            texts = self._script.pop(0) if self._script else ()
            inside = ((min(a, window.seconds), min(b, window.seconds), text) for a, b, text in texts)
            segments = tuple(Segment(a, b, text, (Word(a, b, text, 0.9),)) for a, b, text in inside)
            answers.append(WindowText(decoded, segments, None))
        return answers


def scripted(*script: Texts, logprob: float = -0.2) -> tuple[WhisperEngine, Scripted]:
    decoder = Scripted(script, logprob)
    return WhisperEngine(decoder, FACTS), decoder  # type: ignore[arg-type]


def test_speech_that_got_no_words_is_heard_again_from_where_they_end(speech: Waveform) -> None:
    late = [(n + 0.4, n + 1.2, " late") for n in range(9)]
    engine, decoder = scripted([(0.3, 1.2, " early")], late)
    recognition = heard(engine, speech)
    assert said(recognition) == " early" + " late" * 9
    assert len(decoder.windows) == 2
    assert decoder.windows[1] < decoder.windows[0] - 1
    assert recognition.segments[1].start > 1.5, "the second window begins behind the first word"


def test_speech_that_stays_without_words_is_heard_no_third_time_and_named(speech: Waveform) -> None:
    engine, decoder = scripted([(0.3, 1.2, " early")])
    recognition = heard(engine, speech)
    assert len(decoder.windows) == 2
    ((start, end),) = recognition.unheard
    assert 1 < start < 4
    assert 10 < end <= 11


def test_what_was_heard_in_part_is_heard_again_while_that_helps_but_not_for_ever(speech: Waveform) -> None:
    engine, decoder = scripted([(0.3, 1.2, " one")], [(0.4, 1.4, " two")])
    assert said(heard(engine, speech)) == " one two"
    assert len(decoder.windows) == 3, "the third try said nothing"
    engine, decoder = scripted(*[[(0.4, 1.0, f" w{n}")] for n in range(20)])
    recognition = heard(engine, speech)
    assert len(decoder.windows) == MOST_ROUNDS
    assert recognition.unheard


class Polyglot(Scripted):
    """A scripted decoder that finds out languages by its script, too: for each window one, and a probability."""

    multilingual = True

    def __init__(self, *script: tuple[str, float, Texts]) -> None:
        super().__init__([texts for *_, texts in script], -0.2)
        self.asked: list[tuple[str, str]] = []
        self._speaks = [(language, probability) for language, probability, _ in script]

    def knows(self, language: str) -> bool:
        return True

    def hear(self, windows: Sequence[Window], options: RecognitionOptions) -> list[WindowText]:
        answers = super().hear(windows, options)
        for number, window in enumerate(windows):
            language, probability = self._speaks.pop(0) if self._speaks else ("", 0.0)
            self.asked.append((window.language, window.expected))
            window.language = window.language or language or window.expected
            segments = tuple(
                replace(one, language=window.language, words=(replace(one.words[0], probability=probability),))
                for one in answers[number].segments
            )
            answers[number] = replace(answers[number], segments=segments)
        return answers


FOREIGN = [(float(n), n + 0.9, f" f{n}") for n in range(11)]


def polyglot(audio: Waveform, again: str, probability: float, language: str | None = None) -> tuple[str, Polyglot]:
    """What is said where eleven segments are improbable French, and what they are when heard again."""
    decoder = Polyglot(("fr", 0.5, FOREIGN), (again, probability, [(a, b, text.upper()) for a, b, text in FOREIGN]))
    engine = WhisperEngine(decoder, FACTS)  # type: ignore[arg-type]
    return said(heard(engine, audio, language=language)), decoder


def test_improbable_words_give_way_to_more_probable_ones_of_another_language(speech: Waveform) -> None:
    text, decoder = polyglot(speech, "es", 0.9)
    assert text == "".join(text.upper() for *_, text in FOREIGN)
    assert decoder.asked == [("", ""), ("", "fr")], "it is found out anew, and French is what one expects"


@pytest.mark.parametrize(("again", "probability"), [("fr", 0.9), ("es", 0.4)])
def test_the_same_language_and_less_probable_words_replace_nothing(
    speech: Waveform, again: str, probability: float
) -> None:
    assert polyglot(speech, again, probability)[0] == "".join(text for *_, text in FOREIGN)


def test_a_language_that_was_given_is_doubted_nowhere(speech: Waveform) -> None:
    text, decoder = polyglot(speech, "es", 0.9, language="fr")
    assert (text, decoder.asked) == ("".join(text for *_, text in FOREIGN), [("fr", "")])


EARLY = [(float(n), n + 0.9, f" w{n}") for n in range(7)]


def test_a_segment_with_speech_without_words_gives_way_to_a_text_that_says_more(speech: Waveform) -> None:
    engine, decoder = scripted(
        [*EARLY, (7.5, 10.6, " mumbled")], [(n * 0.45, n * 0.45 + 0.4, f" c{n}") for n in range(6)]
    )
    recognition = heard(engine, speech)
    assert said(recognition) == "".join(text for *_, text in EARLY) + " c0 c1 c2 c3 c4 c5"
    assert (len(decoder.windows), recognition.unheard) == (2, ())


def test_a_text_that_says_no_more_replaces_nothing_and_the_speech_is_heard_alone_once(speech: Waveform) -> None:
    engine, decoder = scripted([*EARLY, (7.5, 10.6, " mumbled")], [], [(1.0, 1.8, " clear")])
    recognition = heard(engine, speech)
    assert said(recognition).endswith(" w6 mumbled clear")
    assert len(decoder.windows) == 3
    assert decoder.windows[2] < decoder.windows[1]


def test_words_that_nobody_spoke_are_dropped_unless_they_are_sure_of_themselves(speech: Waveform) -> None:
    audio = np.concatenate([speech, silence(0.9), speech])
    texts = [(float(n), n + 0.9, f" w{n}") for n in range(10)] + [(11.05, 11.6, " invented")]
    unsure, _ = scripted(texts, logprob=-0.9)
    assert "invented" not in said(heard(unsure, audio))
    sure, _ = scripted(texts, logprob=-0.1)
    assert "invented" in said(heard(sure, audio))


def test_every_second_of_speech_without_a_word_is_named(speech: Waveform) -> None:
    engine, _ = scripted()
    recognition = heard(engine, np.concatenate([silence(4), speech, silence(4)]))
    assert recognition.segments == ()
    assert sum(end - start for start, end in recognition.unheard) > 7
    assert all(4 <= start < end <= 15.1 for start, end in recognition.unheard)


spoken = st.tuples(st.floats(0, 11), st.floats(0, 3)).map(lambda one: (one[0], one[0] + one[1], " word"))
scripts = st.lists(st.lists(spoken, max_size=6).map(sorted), max_size=4)


@given(scripts, st.sampled_from([-0.2, -0.9]))
@settings(max_examples=25)
def test_whatever_a_model_writes_every_second_of_speech_has_words_or_is_named(
    script: list[Texts], logprob: float
) -> None:
    audio = decoded(SPEECH.read_bytes())
    engine, decoder = scripted(*script, logprob=logprob)
    recognition = heard(engine, audio)
    words = [(word.start, word.end) for segment in recognition.segments for word in segment.words]
    probabilities = speech_probabilities(normalised(audio))
    assert probabilities is not None
    speech = [(a / 16_000, b / 16_000) for a, b in stretches_above(probabilities, SPOKEN, SPOKEN_GOES_ON)]
    for hole in without_words(speech, [*words, *recognition.unheard]):
        assert any(overlap(hole, [one]) for one in recognition.unheard), f"{hole} is neither words nor missing"
    assert all(0 <= start <= end <= 11.1 for start, end in [*words, *recognition.unheard])
    assert len(decoder.windows) <= 12, "retries are bounded"


def test_the_same_sound_gives_the_same_text_in_any_batch(whisper: Engine, speech: Waveform) -> None:
    pieces = [speech, speech[: len(speech) // 2], np.concatenate([silence(3), speech]), speech * np.float32(0.1)]
    options = RecognitionOptions(model="tiny.en", language="en", temperature=(0.0,))
    together = dict(whisper.recognise([ChunkAudio(one) for one in pieces], options, lambda _: False))
    for number, piece in enumerate(pieces):
        [(_, alone)] = list(whisper.recognise([ChunkAudio(piece)], options, lambda _: False))
        assert said(alone) == said(together[number])
        assert alone.unheard == together[number].unheard


@pytest.mark.parametrize("level", [0.001, 0.003, 0.05])
def test_noise_goes_to_no_recogniser(level: float) -> None:
    engine, decoder = scripted([(0.0, 1.0, " Thank you.")])
    recognition = heard(engine, noise(20, level))
    assert (recognition.segments, recognition.unheard, decoder.windows) == ((), (), [])


def test_without_the_filter_a_window_is_heard_as_it_is() -> None:
    engine, decoder = scripted([(0.0, 1.0, " Thank you.")])
    assert said(heard(engine, noise(20), vad_filter=False)) == " Thank you."
    assert decoder.windows == [20.0]


def test_real_speech_between_long_silences_fills_one_window_and_keeps_its_times(
    whisper: Engine, speech: Waveform
) -> None:
    audio = np.concatenate([silence(9), speech, silence(15), speech, silence(6)])
    recognition = heard(whisper, audio)
    assert word_error_rate(f"{KNOWN} {KNOWN}", said(recognition)) == 0
    words = [word for segment in recognition.segments for word in segment.words]
    assert len(words) == 2 * len(words_of(KNOWN))
    assert [word.start for word in words] == sorted(word.start for word in words)
    first, second = words[: len(words) // 2], words[len(words) // 2 :]
    assert all(8.6 <= word.start <= word.end <= 20.1 for word in first)
    assert all(34.6 <= word.start <= word.end <= 46.1 for word in second)
    for one, other in zip(first, second, strict=True):
        assert other.start - one.start == pytest.approx(26, abs=0.5)
    assert recognition.unheard == ()


def test_a_full_window_whose_text_ends_early_is_gone_on_with_and_heard_once(
    whisper: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = list(cut([decoded(PODCAST.read_bytes())], 30.0))
    windows: list[int] = []
    texts: list[str] = []
    hear = WindowDecoder.hear

    def counted(decoder: WindowDecoder, some: Sequence[Window], *more: Any) -> Any:
        windows.append(len(some))
        return hear(decoder, some, *more)

    monkeypatch.setattr(WindowDecoder, "hear", counted)
    wanted = RecognitionOptions(model="tiny.en", language="en")
    for _, recognition in sorted(whisper.recognise([ChunkAudio(one) for one in chunks], wanted, lambda _: False)):
        texts.append(said(recognition))
        assert recognition.unheard == ()
    assert sum(windows) == len(chunks), "each chunk is one window"
    assert word_error_rate(PODCAST.with_suffix(".txt").read_text(encoding="utf-8"), "".join(texts)) < 0.04


def test_a_model_of_all_languages_finds_out_which_is_spoken(speech: Waveform) -> None:
    machine = EngineSettings(device="cpu", threads=2)
    options = RecognitionOptions(model=str(base()), multilingual=True)
    engine = engine_traits("faster-whisper").load(options, machine, lambda _: None)
    [(_, recognition)] = list(engine.recognise([ChunkAudio(speech)], options, lambda _: False))
    assert (recognition.language, recognition.language_probability > 0.8) == ("en", True)
    assert word_error_rate(KNOWN, said(recognition)) == 0
    assert {segment.language for segment in recognition.segments} == {"en"}
    expecting = ChunkAudio(speech, expected_language="fr")
    [(_, kept)] = list(engine.recognise([expecting], options, lambda _: False))
    assert (kept.language, kept.language_sure, said(kept)) == ("en", True, said(recognition))


def test_a_sentence_that_is_said_ten_times_running_is_heard_ten_times_where_it_is_said(
    whisper: Engine, speech: Waveform
) -> None:
    sentence = speech[: round(2.4 * 16_000)]
    recognition = heard(whisper, np.concatenate([sentence] * 10), temperature=(0.0,))
    assert word_error_rate("And so, my fellow Americans. " * 10, said(recognition)) == 0
    words = [word for segment in recognition.segments for word in segment.words]
    assert [word.start for word in words[::5]] == pytest.approx([0.3 + 2.4 * n for n in range(10)], abs=0.6)


@pytest.mark.parametrize("decibels", [-45, -55])
def test_very_quiet_speech_is_understood(whisper: Engine, speech: Waveform, decibels: float) -> None:
    quiet = np.rint(speech * 10 ** (decibels / 20) * 32_768) / np.float32(32_768)
    assert word_error_rate(KNOWN, said(heard(whisper, quiet.astype(np.float32)))) < 0.1


def test_a_prompt_becomes_no_transcript_where_nobody_speaks(whisper: Engine) -> None:
    recognition = heard(whisper, noise(25, 0.002), initial_prompt="Ada Lovelace, Grace Hopper, Katherine Johnson.")
    assert recognition.segments == ()
