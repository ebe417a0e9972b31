"""Recordings for the tests of the command line, and what is said in them."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

from support.tone_audio import tone_speech, tone_words
from whisper_farm.audio.sound import SAMPLE_RATE


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
