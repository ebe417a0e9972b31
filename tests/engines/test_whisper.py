"""The real path of faster-whisper through a model of Whisper's shape: its words mean nothing, but all else is real."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.model_hub import COMMIT, model_hub

from whisper_farm.audio.sound import SAMPLE_RATE, Waveform
from whisper_farm.engines.cache import digest_of
from whisper_farm.engines.engine import ChunkAudio, Engine, EngineSettings, Recognition
from whisper_farm.engines.registry import engine_traits
from whisper_farm.errors import ModelUnavailable, OptionUnsupported
from whisper_farm.transcript.options import RecognitionOptions

if TYPE_CHECKING:
    from whisper_farm.engines.hearing import WhisperEngine

CPU = EngineSettings(device="cpu", threads=1, slots=2)


def wanted(model: Path | str, **changes: object) -> RecognitionOptions:
    """Options under which a random model says something, and an end of it."""
    plain: dict[str, object] = {
        "model": str(model),
        "temperature": (0.0,),
        "compression_ratio_threshold": None,
        "logprob_threshold": None,
        "no_speech_threshold": None,
        "max_new_tokens": 24,
        "beam_size": 2,
        "vad_filter": False,
    }
    return RecognitionOptions.model_validate(plain | changes)


def noise(seconds: float, seed: int) -> Waveform:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)


def never(_: int) -> bool:
    return False


@pytest.fixture(scope="module")
def engine(nano: Path) -> Engine:
    return engine_traits("faster-whisper").load(wanted(nano), CPU, lambda _: None)


def heard(engine: Engine, chunks: list[ChunkAudio], options: RecognitionOptions) -> list[Recognition]:
    answers = dict(engine.recognise(chunks, options, never))
    return [answers[index] for index in range(len(chunks))]


def said(recognition: Recognition) -> str:
    return "".join(segment.text for segment in recognition.segments)


def test_facts_name_the_very_model(engine: Engine, nano: Path) -> None:
    facts = engine.facts
    assert (facts.engine, facts.model, facts.revision, facts.device) == (
        "faster-whisper",
        str(nano),
        digest_of(nano),
        "cpu",
    )
    assert facts.compute_type.startswith("int8")
    assert "torch" not in sys.modules


def test_a_chunk_says_the_same_alone_and_in_a_batch(engine: Engine, nano: Path) -> None:
    chunks = [ChunkAudio(noise(seconds, seed), "en") for seed, seconds in enumerate((29, 5, 30, 12.3, 0.4))]
    together = heard(engine, chunks, wanted(nano))
    alone = [heard(engine, [chunk], wanted(nano))[0] for chunk in chunks]
    assert all(said(each) for each in together)
    assert [said(each) for each in together] == [said(each) for each in alone]
    for one, other in zip(together, alone, strict=True):
        for a, b in zip(one.segments, other.segments, strict=True):
            assert (a.start, a.end) == pytest.approx((b.start, b.end), abs=0.05)
            assert a.avg_logprob == pytest.approx(b.avg_logprob, abs=1e-3)


def test_segments_and_words_lie_inside_the_chunk_in_order(engine: Engine, nano: Path) -> None:
    for seconds in (0.05, 3.7, 30):
        [recognition] = heard(engine, [ChunkAudio(noise(seconds, 5), "en")], wanted(nano))
        assert any(segment.words for segment in recognition.segments)
        for segment in recognition.segments:
            assert 0 <= segment.start <= segment.end <= seconds
            for word in segment.words:
                assert 0 <= word.start <= word.end <= seconds
                assert 0 <= (word.probability or 0) <= 1


def test_words_are_left_out_when_they_are_not_wanted(engine: Engine, nano: Path) -> None:
    chunk = ChunkAudio(noise(4, 1), "en")
    [without] = heard(engine, [chunk], wanted(nano, word_timestamps=False))
    [timed] = heard(engine, [chunk], wanted(nano))
    assert said(without) == said(timed)
    assert all(segment.words == () for segment in without.segments)


def test_languages_may_differ_within_a_batch_and_a_missing_one_is_guessed(engine: Engine, nano: Path) -> None:
    chunks = [ChunkAudio(noise(6, seed), language) for seed, language in enumerate(("en", "de", None, "ja", "de"))]
    together = heard(engine, chunks, wanted(nano))
    guess = together[2]
    assert [each.language for each in together] == ["en", "de", guess.language, "ja", "de"]
    assert 0 < guess.language_probability < 1
    assert together[0].language_probability == 1
    for chunk, each in zip(chunks, together, strict=True):
        [alone] = heard(engine, [chunk], wanted(nano))
        assert (alone.language, said(alone)) == (each.language, said(each))
        assert alone.language_probability == pytest.approx(each.language_probability, rel=1e-3)
        times, times_alone = ([w.start for s in one.segments for w in s.words] for one in (each, alone))
        assert times == pytest.approx(times_alone, abs=0.05)
        probabilities, probabilities_alone = (
            [w.probability for s in one.segments for w in s.words] for one in (each, alone)
        )
        assert probabilities == pytest.approx(probabilities_alone, rel=1e-2)


def test_the_recordings_language_holds_for_chunks_without_one(engine: Engine, nano: Path) -> None:
    [recognition] = heard(engine, [ChunkAudio(noise(2, 1))], wanted(nano, language="fr"))
    assert (recognition.language, recognition.language_probability) == ("fr", 1)


def test_the_expected_language_is_heard_where_no_other_is_sure(engine: Engine, nano: Path) -> None:
    [recognition] = heard(engine, [ChunkAudio(noise(2, 1), expected_language="fr")], wanted(nano))
    assert (recognition.language, recognition.language_sure) == ("fr", False)
    assert recognition.language_probability < 1


def test_hotwords_are_told_beside_the_prompt(engine: Engine, nano: Path) -> None:
    chunk = ChunkAudio(noise(6, 9), "de")
    plain, hot, both = (
        said(heard(engine, [chunk], wanted(nano, **changes))[0])
        for changes in ({}, {"hotwords": "Ada, Grace"}, {"hotwords": "Ada, Grace", "initial_prompt": "Names."})
    )
    assert len({plain, hot, both}) == 3


def test_task_and_prompt_change_what_is_decoded(engine: Engine, nano: Path) -> None:
    chunk = ChunkAudio(noise(6, 9), "de")
    plain, translated, prompted = (
        said(heard(engine, [chunk], wanted(nano, **changes))[0])
        for changes in ({}, {"task": "translate"}, {"initial_prompt": "Names: Ada, Grace."})
    )
    assert len({plain, translated, prompted}) == 3


def test_a_prompt_and_a_limit_that_are_too_long_are_made_to_fit(engine: Engine, nano: Path) -> None:
    options = wanted(nano, initial_prompt="word " * 800, max_new_tokens=448)
    [recognition] = heard(engine, [ChunkAudio(noise(2, 1), "en")], options)
    assert said(recognition)


def test_a_chunk_longer_than_a_window_is_heard_to_its_end(engine: Engine, nano: Path) -> None:
    chunks = [ChunkAudio(noise(70, 3), "en"), ChunkAudio(noise(5, 4), "en")]
    long, short = heard(engine, chunks, wanted(nano))
    assert long.segments[-1].end > 50
    assert all(0 <= segment.start <= segment.end <= 70 for segment in long.segments)
    assert [said(long), said(short)] == [said(heard(engine, [chunk], wanted(nano))[0]) for chunk in chunks]


def test_silence_says_nothing(engine: Engine, nano: Path) -> None:
    chunks = [ChunkAudio(np.zeros(count, np.float32), language) for count, language in ((0, None), (80_000, "de"))]
    nothing, german = heard(engine, chunks, wanted(nano))
    assert (nothing.segments, nothing.language_probability) == ((), 0)
    assert (german.segments, german.language) == ((), "de")


def test_cancelled_chunks_are_left_out_at_any_time(engine: Engine, nano: Path) -> None:
    chunks = [ChunkAudio(noise(2, seed), "en") for seed in range(3)]
    assert sorted(index for index, _ in engine.recognise(chunks, wanted(nano), lambda index: index == 1)) == [0, 2]
    asked: list[int] = []

    def soon(index: int) -> bool:
        asked.append(index)
        return len(asked) > 2

    assert list(engine.recognise([ChunkAudio(noise(95, 1), "en")], wanted(nano), soon)) == []
    assert len(asked) <= 4


def test_only_suspect_windows_are_decoded_again(
    engine: WhisperEngine, nano: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = [ChunkAudio(noise(3, seed), "en") for seed in range(3)]
    plain = heard(engine, chunks, wanted(nano, word_timestamps=False))
    logprobs = sorted(each.segments[0].avg_logprob or 0 for each in plain)
    between = (logprobs[0] + logprobs[1]) / 2
    batches: list[tuple[float, int]] = []
    decode = engine._decoder._decode

    def watched(encoded: object, prompts: list[list[int]], options: RecognitionOptions, temperature: float) -> object:
        batches.append((temperature, len(prompts)))
        return decode(encoded, prompts, options, temperature)

    monkeypatch.setattr(engine._decoder, "_decode", watched)
    options = wanted(nano, logprob_threshold=between, temperature=(0.0, 0.6), word_timestamps=False)
    again = heard(engine, chunks, options)
    assert batches == [(0.0, 3), (0.6, 1)]
    assert [said(a) == said(b) for a, b in zip(plain, again, strict=True)].count(True) >= 2


def test_a_window_without_speech_is_dropped(engine: Engine, nano: Path) -> None:
    options = wanted(nano, no_speech_threshold=0.0, logprob_threshold=0.0)
    assert heard(engine, [ChunkAudio(noise(3, 1), "en")], options)[0].segments == ()


def test_two_slots_share_one_model_and_say_the_same(engine: Engine, nano: Path) -> None:
    chunks = [ChunkAudio(noise(8, seed), "en") for seed in range(2)]
    expected = [said(each) for each in heard(engine, chunks, wanted(nano))]
    with ThreadPoolExecutor(2) as slots:
        answers = list(slots.map(lambda _: [said(each) for each in heard(engine, chunks, wanted(nano))], range(2)))
    assert answers == [expected] * 2


def test_unknown_languages_are_refused(engine: Engine, nano: Path) -> None:
    for chunk, options in (
        (ChunkAudio(noise(1, 1), "xx"), wanted(nano)),
        (ChunkAudio(noise(1, 1)), wanted(nano, language="xx")),
        (ChunkAudio(noise(1, 1), "yue"), wanted(nano)),
    ):
        with pytest.raises(OptionUnsupported, match="does not know the language"):
            heard(engine, [chunk], options)


def test_a_model_is_loaded_from_a_hub_with_its_commit(
    nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with model_hub(nano) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        settings = EngineSettings(device="cpu", threads=1, model_dir=str(tmp_path))
        engine = engine_traits("faster-whisper").load(wanted("tiny"), settings, lambda _: None)
        assert (engine.facts.model, engine.facts.revision) == ("tiny", COMMIT)
        assert said(heard(engine, [ChunkAudio(noise(2, 1), "en")], wanted("tiny"))[0])
        asked = len(hub.requests)
        engine_traits("faster-whisper").load(wanted("tiny", revision=COMMIT), settings, lambda _: None)
        assert len(hub.requests) == asked


def test_a_model_that_was_not_trained_to_translate_refuses(
    nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with model_hub(nano) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        settings = EngineSettings(device="cpu", threads=1, model_dir=str(tmp_path))
        engine = engine_traits("faster-whisper").load(wanted("turbo"), settings, lambda _: None)
        with pytest.raises(OptionUnsupported, match="turbo cannot translate; choose large-v3"):
            heard(engine, [ChunkAudio(noise(2, 1), "de")], wanted("turbo", task="translate"))


def test_a_broken_model_is_named(nano: Path, tmp_path: Path) -> None:
    for path in nano.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes() if path.name != "model.bin" else b"nonsense")
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        engine_traits("faster-whisper").load(wanted(tmp_path), CPU, lambda _: None)
