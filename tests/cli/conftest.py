"""No test touches the farm of whoever runs it."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

import pytest

from whisper_farm.engines.engine import SAMPLE_RATE
from whisper_farm.engines.tone_audio import tone_speech, tone_words


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of the test's own, and no farm in the environment."""
    folder = tmp_path_factory.mktemp("data")
    monkeypatch.setenv("WHISPER_FARM_DATA", str(folder))
    for name in ("WHISPER_FARM_SERVER", "WHISPER_FARM_TOKEN", "WHISPER_FARM_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return folder


@dataclass(frozen=True)
class Talk:
    """A recording and what is said in it."""

    path: Path
    text: str
    seconds: float


class Recorder:
    """Makes recordings of tone words, which the engine `tones` understands exactly."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._next_word = 0

    def __call__(self, name: str, words: int | list[str] = 60) -> Talk:
        """A new recording, with words that no other has."""
        if isinstance(words, int):
            self._next_word, first = self._next_word + words, self._next_word
            words = tone_words(words, first)
        speech = tone_speech(words)
        path = self.folder / name
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes((speech.audio * 32767).astype("<i2").tobytes())
        return Talk(path, speech.text, speech.seconds)


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A recorder whose recordings are in the current folder."""
    monkeypatch.chdir(tmp_path)
    return Recorder(tmp_path)
