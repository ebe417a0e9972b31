"""whisper.cpp's family: real weights in its form hear a real voice; what is missing or cannot be is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import transcribe_cpp as library
from support.ggml_weights import write_ggml
from support.recordings import decoded, silence

from bench.error_rate import word_error_rate
from examples.weights import tiny_en
from whisper_farm.audio.sound import Waveform
from whisper_farm.engines import transcribe_cpp
from whisper_farm.engines.engine import ChunkAudio, Engine, EngineSettings, Recognition
from whisper_farm.engines.registry import engine_traits, library_version
from whisper_farm.engines.whisper_json import recognised
from whisper_farm.errors import EngineUnavailable, ModelUnavailable, OptionUnsupported
from whisper_farm.transcript.document import from_json
from whisper_farm.transcript.options import RecognitionOptions

SPEECH = Path(__file__).parents[2] / "examples" / "inaugural.flac"
KNOWN = SPEECH.with_suffix(".txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny.en as whisper.cpp has it, in a folder of models."""
    file = tmp_path_factory.mktemp("models") / "ggml-tiny.en.bin"
    write_ggml(tiny_en(), file)
    return file


@pytest.fixture(scope="module")
def engine(model: Path) -> Engine:
    return loaded(str(model))


@pytest.fixture(scope="module")
def speech() -> Waveform:
    return decoded(SPEECH.read_bytes())


def loaded(name: str, **wish: object) -> Engine:
    options = RecognitionOptions.model_validate({"engine": "transcribe-cpp", "model": name, **wish})
    folder = str(Path(name).parent) if Path(name).is_file() else None
    return engine_traits("transcribe-cpp").load(options, EngineSettings(threads=2, model_dir=folder), lambda _: None)


def heard(
    engine: Engine, *chunks: ChunkAudio, cancelled: Callable[[int], bool] = lambda _: False, **wish: object
) -> list[Recognition]:
    options = RecognitionOptions.model_validate({"engine": "transcribe-cpp", "model": "tiny.en", **wish})
    found = dict(engine.recognise(chunks, options, cancelled))
    return [found[index] for index in sorted(found)]


def said(recognition: Recognition) -> str:
    return "".join(segment.text for segment in recognition.segments)


def test_a_real_voice_is_heard_and_nothing_where_nobody_speaks(engine: Engine, speech: Waveform) -> None:
    one, two = heard(engine, ChunkAudio(speech), ChunkAudio(silence(3)))
    assert word_error_rate(KNOWN, said(one)) == 0
    assert one.language == "en"
    assert all(0 <= each.start < each.end <= len(speech) / 16_000 for each in one.segments)
    assert two.segments == ()
    (invented,) = heard(engine, ChunkAudio(silence(3)), vad_filter=False)
    assert said(invented) != ""


@pytest.mark.slow
def test_it_recognises_for_a_farm_by_the_name_of_its_file(model: Path, tmp_path: Path) -> None:
    run = subprocess.run(
        [
            *(sys.executable, "-m", "whisper_farm", "transcribe", str(SPEECH), "--engine", "transcribe-cpp"),
            *("--model", "tiny.en", "--model_dir", str(model.parent), "-o", str(tmp_path), "-f", "json", "--quiet"),
        ],
        env={**os.environ, "WHISPER_FARM_DATA": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert (run.returncode, run.stderr) == (0, "")
    transcript = from_json(json.loads((tmp_path / "inaugural.json").read_text(encoding="utf-8")))
    assert word_error_rate(KNOWN, transcript.text) == 0
    maker = transcript.maker
    assert (maker.engine, maker.version, maker.model) == ("transcribe-cpp", library.__version__, "tiny.en")
    assert maker.devices == ("cpu",)
    assert len(maker.revision) == 16


def test_the_expected_language_is_no_more_than_expected_and_a_wanted_one_must_be_known(
    engine: Engine, speech: Waveform
) -> None:
    (one,) = heard(engine, ChunkAudio(speech, None, "de"))
    assert word_error_rate(KNOWN, said(one)) == 0
    with pytest.raises(OptionUnsupported, match="does not know the language 'de'"):
        heard(engine, ChunkAudio(speech, "de"))
    with pytest.raises(OptionUnsupported, match="cannot do that"):
        heard(engine, ChunkAudio(speech), task="translate")


def test_a_chunk_that_nobody_wants_any_more_is_let_go_in_the_middle(
    engine: Engine, speech: Waveform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcribe_cpp, "_LOOK_SECONDS", 0.01)  # before it has heard all
    begun = threading.Event()

    def cancelled(_: int) -> bool:
        was = begun.is_set()
        begun.set()
        return was

    assert heard(engine, ChunkAudio(speech), cancelled=cancelled) == []
    assert heard(engine, ChunkAudio(speech), cancelled=lambda _: True) == []
    assert word_error_rate(KNOWN, said(heard(engine, ChunkAudio(speech))[0])) == 0


def test_a_model_that_is_missing_damaged_or_another_is_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"--model_dir"):
        loaded("small")
    with pytest.raises(ModelUnavailable, match=r"no model '/nowhere/small\.gguf'"):
        loaded("/nowhere/small.gguf")
    with pytest.raises(ModelUnavailable, match="was begun with abc"):
        loaded(str(model), revision="abc")
    for content in (b"", b"GGUF" + bytes(100), model.read_bytes()[:1000]):
        (tmp_path / "broken.gguf").write_bytes(content)
        with pytest.raises(ModelUnavailable, match="cannot be loaded"):
            loaded(str(tmp_path / "broken.gguf"))


def test_a_model_is_not_looked_for_outside_its_folder(model: Path) -> None:
    settings = EngineSettings(model_dir=str(model.parent / "inside"))
    for name in (f"../{model.name}", "..", "../ggml-tiny.en"):
        with pytest.raises(ModelUnavailable):
            engine_traits("transcribe-cpp").load(
                RecognitionOptions(engine="transcribe-cpp", model=name), settings, lambda _: None
            )


def test_a_gpu_that_is_not_there_is_missed(model: Path) -> None:
    options = RecognitionOptions(engine="transcribe-cpp", model=str(model))
    with pytest.raises(EngineUnavailable, match="cannot use cuda"):
        engine_traits("transcribe-cpp").load(options, EngineSettings(device="cuda"), lambda _: None)


def test_without_its_library_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transcribe_cpp", None)
    with pytest.raises(EngineUnavailable, match="pip install transcribe-cpp"):
        library_version(engine_traits("transcribe-cpp"))


def test_words_are_kept_where_a_model_tells_their_times() -> None:
    words = tuple(
        library.Word(text, 100 * n, 100 * n + 50, n // 2, 0, 0) for n, text in enumerate(["So", "it", "is", "now"])
    )
    segments = (
        library.Segment("So it.", 0, 150, 0, 2, 0, 0, -1),
        library.Segment("Is, is now", 200, 350, 2, 2, 0, 0, -1),
    )
    result = library.Result("", "", "en", "word", segments, (), words, (), library.Timings(0, 0, 0, 0))
    heard = recognised(transcribe_cpp._document(result), 1, None)
    assert [[(word.text, word.start) for word in one.words] for one in heard.segments] == [
        [(" So", 0.0), (" it.", 0.1)], [(" Is, is", 0.2), (" now", 0.3)]
    ]  # fmt: skip
