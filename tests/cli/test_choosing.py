"""The choice of a model is shown: a fetch while it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.talks import Recorder

from whisper_farm.cli import transcribing
from whisper_farm.cli.main import outcome
from whisper_farm.cli.progress import Display, Shown
from whisper_farm.cli.recognition_flags import RecognitionWish, wish_of
from whisper_farm.cli.submit import farm_model
from whisper_farm.cli.transcribe import transcribe
from whisper_farm.cli.transcribing import chosen_model
from whisper_farm.engines.engine import EngineSettings, FetchProgress
from whisper_farm.engines.registry import engine_names
from whisper_farm.errors import ModelUnavailable
from whisper_farm.settings import WorkerSettings


class Heard(Display):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def _changed(self, shown: Shown) -> None:
        self.told.append(f"{shown.name}: {shown.stage} {shown.figures()[0]}")

    def _ended(self, shown: Shown) -> None:
        self.told.append(f"{shown.name}: over")

    def note(self, line: str) -> None:
        self.told.append(line)


def wish(*flags: str) -> RecognitionWish:
    return wish_of(transcribe.make_context("transcribe", ["a.mp3", *flags]).params)


def test_a_fetch_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(*asked: object) -> str:
        engine, model, task, settings, progress = asked
        assert (engine, model, task) == ("faster-whisper", "tiny", "transcribe")
        assert settings == EngineSettings(device="cuda", device_index=1, model_dir="models")
        assert callable(progress)
        progress(FetchProgress("tiny", 1_000_000, 75_000_000))
        return "tiny"

    monkeypatch.setattr(transcribing, "choose_model", choose)
    display = Heard()
    machine = WorkerSettings(device="cuda", device_index=1, slots=3, model_dir="models")
    assert chosen_model(wish("--model", "tiny", "--language", "English"), machine, display) == "tiny"
    assert display.told == [
        "model: looking for it 0:00 / ?",
        "model: over",
        "model tiny: fetching 0:00 / ?",
        "model tiny: fetching 1.0 / 75.0 MB",
        "model tiny: over",
    ]


def test_the_environment_says_where_models_are_as_it_does_for_workers(
    record: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    record("talk.wav")
    monkeypatch.setenv("WHISPER_FARM_WORKER_MODEL_DIR", "models")
    monkeypatch.setenv("WHISPER_FARM_WORKER_DEVICE", "cpu")
    monkeypatch.setenv("WHISPER_FARM_WORKER_LOCAL_FILES_ONLY", "1")
    seen: list[object] = []

    def choose(*asked: object) -> str:
        seen.append(asked[3])
        raise ModelUnavailable("It is not here.")

    monkeypatch.setattr(transcribing, "choose_model", choose)
    assert outcome(["transcribe", "talk.wav"]) == 1
    assert seen == [EngineSettings(device="cpu", model_dir="models", local_files_only=True)]


def test_a_fetch_that_fails_leaves_no_bar_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(*asked: object) -> str:
        asked[4](FetchProgress("tiny", 5_000_000, None))  # type: ignore[operator]
        raise ModelUnavailable("The fetch broke off.")

    monkeypatch.setattr(transcribing, "choose_model", choose)
    display = Heard()
    with pytest.raises(ModelUnavailable):
        chosen_model(wish(), WorkerSettings(), display)
    assert display.told[-2:] == ["model tiny: fetching 5.0 / ? MB", "model tiny: over"]
    assert display.shown == {}


def test_the_flags_become_the_options_of_the_farm() -> None:
    flags = ("--initial_prompt", "Ada", "--word_timestamps", "False", "--beam_size", "1", "--task", "translate")
    options = wish(*flags, "--logprob_threshold", "None", "--temperature", "0.5").options("faster-whisper", "small")
    assert options.initial_prompt == "Ada"
    assert not options.word_timestamps
    assert options.beam_size == 1
    assert options.task == "translate"
    assert options.logprob_threshold is None
    assert options.temperature == (0.5, 0.7, 0.9)
    assert wish().options("faster-whisper", "small").model_dump() == type(options)(model="small").model_dump()


@pytest.mark.parametrize(("engine", "model"), [("faster-whisper", "small"), ("tones", "instant")])
def test_a_farm_is_asked_for_a_model_that_the_engine_has(engine: str, model: str) -> None:
    assert engine in engine_names()
    assert farm_model(wish("--engine", engine)) == model


@pytest.mark.parametrize(
    ("command", "model"), [("transcribe", "[default: small; turbo on a GPU]"), ("submit", "[default: small]")]
)
def test_the_help_says_what_is_chosen_where_nothing_is_said(
    command: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome([command, "--help"]) == 0
    assert model in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", ["transcribe", "submit"])
@pytest.mark.parametrize("model", ["turbo", "distil-large-v3", "small.en"])
def test_to_translate_with_a_model_that_was_not_trained_to_is_wrong_usage(
    command: str, model: str, capsys: pytest.CaptureFixture[str], own_data_folder: Path
) -> None:
    assert outcome([command, "a.mp3", "--task", "translate", "--model", model]) == 2
    assert f"{model} cannot translate; choose large-v3, medium or small." in capsys.readouterr().err
    assert list(own_data_folder.iterdir()) == []


@pytest.mark.parametrize("command", ["transcribe", "submit"])
@pytest.mark.parametrize("flags", [("--initial_prompt", "Ada"), ("--task", "translate"), ("--beam_size", "3")])
def test_what_the_engine_does_not_have_is_wrong_usage(
    command: str, flags: tuple[str, str], capsys: pytest.CaptureFixture[str], own_data_folder: Path
) -> None:
    assert outcome([command, "a.mp3", "--engine", "tones", *flags]) == 2
    assert "tones " in capsys.readouterr().err
    assert list(own_data_folder.iterdir()) == []


@pytest.mark.parametrize("command", ["transcribe", "submit"])
def test_one_language_and_one_for_every_chunk_exclude_each_other(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome([command, "a.mp3", "--language", "en", "--multilingual"]) == 2
    assert "leave --language out" in capsys.readouterr().err
