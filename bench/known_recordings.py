"""Recordings whose every word and time is known, made anew from the voices: what podcasts are like, and what hurts.

Turns back to back, music under speech and alone, a telephone's band, silence, quiet speech, a change of language.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, cycle
from pathlib import Path

import numpy as np

from bench.voices import SPEECH_DB, Said, conversation, prompts, readers, sound_of
from examples.make_podcast import TURNS
from whisper_farm.audio.sound import SAMPLE_RATE, Waveform

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
GAPS = (0.0, 0.3, 0.0, 0.0, 1.5, 0.15, 0.0, 4.0, 0.6)
"""Seconds between turns: four of nine are back to back."""
BED_DB = SPEECH_DB - 12
TELEPHONE_HERTZ = 300, 3400


@dataclass(frozen=True, slots=True)
class Turn:
    """A stretch of a recording, what is said in it, and by whom, where that is known. Without words nobody speaks."""

    start: float
    end: float
    words: str
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class KnownRecording:
    """A recording, and the words that are said in it. A language of None is not told to anybody."""

    name: str
    audio: Waveform
    turns: tuple[Turn, ...]
    language: str | None = "en"

    @property
    def words(self) -> str:
        """All that is said."""
        return " ".join(turn.words for turn in self.turns if turn.words)

    @property
    def speakers(self) -> set[str]:
        """Those that are known to speak."""
        return {turn.speaker for turn in self.turns if turn.speaker}

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.audio) / SAMPLE_RATE


def everything() -> Iterator[KnownRecording]:
    """The whole set, some twelve minutes. Those of real people are left out where their packages cannot be had."""
    turns = conversation()
    half = len(turns) // 2
    yield recording("two voices, back to back", spaced(turns), speakers=[who for who, _ in TURNS])
    low, high = [over_music(one) for one in spaced(turns[:half])], [over_music(one) for one in spaced(turns[half:])]
    alone = over_music(Said("", silence(20)))
    yield recording("over music, and music and silence alone", [alone, *low[:12], Said("", silence(25)), *high, alone])
    yield recording("by telephone", [Said(one.words, by_telephone(one.audio)) for one in spaced(turns[:half])])
    inaugural = example("inaugural.flac")
    loud = recording("a real voice, 45 dB softer", [inaugural])
    yield replace(loud, audio=loud.audio * np.float32(10 ** (-45 / 20)))
    yield recording("noise alone", [Said("", noise(40))])
    english, french = prompts("en", 90), prompts("fr", 75)
    if french:
        yield recording("real voices", spaced([*readers(), inaugural, *english]))
        part = len(french) // 2
        in_turn = list(chain.from_iterable(zip(french[part:], english[part:], strict=False)))
        yield recording("French and English in turn", spaced(in_turn), None)
        yield recording("40 s of music, then French", [alone, alone, *spaced(french[:part])], None)


def example(name: str) -> Said:
    """A recording of `examples/`."""
    path = EXAMPLES / name
    return Said(path.with_suffix(".txt").read_text(encoding="utf-8"), sound_of(path, name))


def recording(
    name: str, pieces: Iterable[Said], language: str | None = "en", speakers: Iterable[str] = ()
) -> KnownRecording:
    """One piece after the other; `speakers` say those with words, in turn."""
    whose = iter(speakers)
    turns: list[Turn] = []
    parts: list[Waveform] = []
    at = 0
    for words, audio in pieces:
        speaker = next(whose, "") if words else ""
        turns.append(Turn(at / SAMPLE_RATE, (at := at + len(audio)) / SAMPLE_RATE, words, speaker))
        parts.append(audio)
    return KnownRecording(name, np.clip(np.concatenate(parts), -1, 1), tuple(turns), language)


def spaced(turns: Sequence[Said]) -> list[Said]:
    """Turns with pauses between them, of which many have none."""
    pauses = (Said("", noise(gap, 0.0005)) for gap in cycle(GAPS))
    return [piece for pair in zip(turns, pauses, strict=False) for piece in pair if len(piece.audio)]


def over_music(piece: Said) -> Said:
    """With music under it."""
    bed = music(len(piece.audio) / SAMPLE_RATE)
    loudness = np.float32(10 ** (BED_DB / 20) / 0.05)
    return Said(piece.words, piece.audio + loudness * bed)


def by_telephone(audio: Waveform) -> Waveform:
    """A telephone's band, and its eight bits a sample."""
    spectrum, hertz = np.fft.rfft(audio), np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE)
    spectrum[(hertz < TELEPHONE_HERTZ[0]) | (hertz > TELEPHONE_HERTZ[1])] = 0
    band = np.fft.irfft(spectrum, len(audio))
    bits = np.rint(127 * np.sign(band) * np.log1p(255 * np.abs(band)) / np.log(256)) / 127
    return np.asarray(np.sign(bits) * (256 ** np.abs(bits) - 1) / 255, np.float32)


def silence(seconds: float) -> Waveform:
    """Nothing at all."""
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def noise(seconds: float, level: float = 0.003) -> Waveform:
    """White noise, soft."""
    return np.random.default_rng(1).normal(0, level, round(seconds * SAMPLE_RATE)).astype(np.float32)


def music(seconds: float) -> Waveform:
    """A chord every half second."""
    at = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    roots = np.array([220.0, 261.6, 293.7, 196.0])[(at * 2).astype(int) % 4]
    chord = sum(np.sin(2 * np.pi * roots * ratio * at) for ratio in (1, 1.25, 1.5)) * np.exp(-4 * (at % 0.5))
    return np.asarray(0.1 * chord, np.float32)
