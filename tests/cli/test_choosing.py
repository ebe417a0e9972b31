"""The choice of engine is shown: a fetch while it goes on, a fall-back with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.talks import Recorder

from whisper_farm.cli import choosing
from whisper_farm.cli.choosing import chosen_engine
from whisper_farm.cli.main import outcome
from whisper_farm.cli.progress import Display, Shown
from whisper_farm.cli.recognition_flags import Wish, wish_of
from whisper_farm.cli.submit import farm_engine
from whisper_farm.cli.transcribe import transcribe
from whisper_farm.engines.choose import Choice
from whisper_farm.engines.engine import EngineSettings, FetchProgress
from whisper_farm.engines.registry import ENGINES
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


def wish(*flags: str) -> Wish:
    return wish_of(transcribe.make_context("transcribe", ["a.mp3", *flags]).params)


def test_a_fetch_is_shown_and_a_fall_back_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(*asked: object) -> Choice:
        engine, model, language, task, settings, progress = asked
        assert (engine, model, language, task) == ("auto", "tiny", "en", "transcribe")
        assert settings == EngineSettings(device="cuda", device_index=1, model_dir="models")
        assert callable(progress)
        progress(FetchProgress("tiny", 1_000_000, 75_000_000))
        return Choice("pocketsphinx", "en-us", "The hub does not answer. PocketSphinx stands in.")

    monkeypatch.setattr(choosing, "choose", choose)
    display = Heard()
    machine = WorkerSettings(device="cuda", device_index=1, slots=3, model_dir="models")
    assert chosen_engine(wish("--model", "tiny", "--language", "English"), machine, display) == (
        "pocketsphinx",
        "en-us",
    )
    assert display.told == [
        "model: looking for it 0:00 / ?",
        "model: over",
        "model tiny: fetching 0:00 / ?",
        "model tiny: fetching 1.0 / 75.0 MB",
        "model tiny: over",
        "The hub does not answer. PocketSphinx stands in.",
    ]


def test_the_environment_says_where_models_are_as_it_does_for_workers(
    record: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    record("talk.wav")
    monkeypatch.setenv("WHISPER_FARM_WORKER_MODEL_DIR", "models")
    monkeypatch.setenv("WHISPER_FARM_WORKER_DEVICE", "cpu")
    monkeypatch.setenv("WHISPER_FARM_WORKER_LOCAL_FILES_ONLY", "1")
    seen: list[object] = []

    def choose(*asked: object) -> Choice:
        seen.append(asked[4])
        raise ModelUnavailable("It is not here.")

    monkeypatch.setattr(choosing, "choose", choose)
    assert outcome(["transcribe", "talk.wav"]) == 1
    assert seen == [EngineSettings(device="cpu", model_dir="models", local_files_only=True)]


def test_a_fetch_that_fails_leaves_no_bar_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(*asked: object) -> Choice:
        asked[5](FetchProgress("tiny", 5_000_000, None))  # type: ignore[operator]
        raise ModelUnavailable("The fetch broke off.")

    monkeypatch.setattr(choosing, "choose", choose)
    display = Heard()
    with pytest.raises(ModelUnavailable):
        chosen_engine(wish(), WorkerSettings(), display)
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


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_a_farm_is_asked_for_a_model_that_the_engine_has(engine: str) -> None:
    name, model = farm_engine(wish("--engine", engine))
    kind = ENGINES[engine]
    assert name == engine
    assert model in (kind.models or ("small", "instant"))


@pytest.mark.parametrize(
    ("command", "model", "engine"),
    [
        ("transcribe", "[default: small; turbo on a GPU]", "auto: faster-whisper if its model is here"),
        ("submit", "[default: small]", "auto: faster-whisper, whichever workers will come."),
    ],
)
def test_the_help_says_what_is_chosen_where_nothing_is_said(
    command: str, model: str, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome([command, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert model in text
    assert engine in text


@pytest.mark.parametrize("command", ["transcribe", "submit"])
@pytest.mark.parametrize("model", ["turbo", "distil-large-v3", "small.en"])
def test_to_translate_with_a_model_that_was_not_trained_to_is_wrong_usage(
    command: str, model: str, capsys: pytest.CaptureFixture[str], own_data_folder: Path
) -> None:
    assert outcome([command, "a.mp3", "--task", "translate", "--model", model]) == 2
    assert f"{model} was not trained to translate. Choose large-v3, medium or small." in capsys.readouterr().err
    assert list(own_data_folder.iterdir()) == []


@pytest.mark.parametrize("command", ["transcribe", "submit"])
def test_a_model_that_the_engine_does_not_have_is_wrong_usage(
    command: str, capsys: pytest.CaptureFixture[str], own_data_folder: Path
) -> None:
    assert outcome([command, "a.mp3", "--engine", "pocketsphinx", "--model", "small"]) == 2
    assert "pocketsphinx has no model 'small'. Did you mean 'en-us'?" in capsys.readouterr().err
    assert list(own_data_folder.iterdir()) == []
