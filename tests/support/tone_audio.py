"""Recordings whose every word is known: speech made of tones, for tests and benchmarks.

A word is a pip of four tones, one out of sixteen in each of four bands, so there are 65,536 words and
a long recording need not say one twice: a word that is lost, doubled or moved shows at once. Between
words is silence. The engine `tones` hears these words and nothing else.

    speech = tone_speech(tone_words(50))     # audio, and its words with exact times
    for block in tone_recording(36_000):     # ten hours, a block at a time
        ...

Loud enough to be found by energy, robust to lossy codecs and resampling. No attempt at a human voice:
a detector of human speech need not notice it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from whisper_farm.audio.sound import SAMPLE_RATE, Waveform
from whisper_farm.transcript.transcript import Word

WORDS = 1 << 16
"""How many different words there are."""
WORD_SECONDS = 0.24
GAP_SECONDS = 0.12
PAUSE_SECONDS = 0.6
SENTENCE_WORDS = 8
LEVEL = 0.5
"""Peak of a pip; 1 is full scale."""

TONES = tuple(tuple(300.0 + 800.0 * band + 50.0 * step for step in range(16)) for band in range(4))
"""Hertz of the sixteen tones of each of the four bands: 300 to 3,450, 50 apart."""
_SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "va")

SIGNALS = {"die": 4000.0, "fail": 4200.0, "hang": 4400.0, "deutsch": 4600.0, "mumble": 4800.0}
"""Words of one pure tone (hertz) that the engine `tones` may act on; see there."""

_SPREAD = 40_503
_RAMP = SAMPLE_RATE // 500
_BLOCK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ToneSpeech:
    """A recording and exactly what is said in it; times in seconds from its start."""

    audio: Waveform
    words: tuple[Word, ...]

    @property
    def seconds(self) -> float:
        return len(self.audio) / SAMPLE_RATE

    @property
    def text(self) -> str:
        """Everything said, words apart by one space."""
        return "".join(word.text for word in self.words).strip()


def tone_word(number: int) -> str:
    """The word of this number, the same for `number + WORDS`; neighbours sound and look different."""
    code = (number * _SPREAD) % WORDS
    return "".join(_SYLLABLES[(code >> shift) & 15] for shift in (12, 8, 4, 0))


def tone_number(word: str) -> int:
    """The number of a word; raises ValueError for what is no tone word."""
    code = 0
    for place in range(0, 8, 2):
        code = code << 4 | _SYLLABLES.index(word[place : place + 2])
    if len(word) != 8:
        raise ValueError(f"{word!r} is no tone word.")
    return code * pow(_SPREAD, -1, WORDS) % WORDS


def tone_words(count: int, first: int = 0) -> list[str]:
    """`count` words, all different up to 65,536, beginning with number `first`."""
    return [tone_word(number) for number in range(first, first + count)]


def word_of_tones(steps: Sequence[int]) -> str:
    """The word of a pip whose tone in each band is the one of these places."""
    return "".join(_SYLLABLES[step] for step in steps)


def pip(word: str, seconds: float = WORD_SECONDS) -> Waveform:
    """The sound of one word."""
    if word in SIGNALS:
        tones = [_tone(SIGNALS[word], round(seconds * SAMPLE_RATE))]
    else:
        tone_number(word)
        steps = [_SYLLABLES.index(word[place : place + 2]) for place in range(0, 8, 2)]
        tones = [_tone(TONES[band][step], round(seconds * SAMPLE_RATE)) for band, step in enumerate(steps)]
    sound = np.zeros(len(tones[0]), np.float32)
    for tone in tones:
        sound += tone
    sound *= LEVEL / len(tones)
    return sound


def tone_speech(
    words: Iterable[str],
    gap: float | Sequence[float] | None = None,
    *,
    word_seconds: float = WORD_SECONDS,
    lead: float = 0.3,
    tail: float = 0.3,
) -> ToneSpeech:
    """Speak the words. `gap` is the silence between two of them in seconds, or one for each (cycled); by default
    short gaps with a pause after every eighth word. `lead` and `tail` are the silences at both ends."""
    spoken = list(words)
    gaps = _gaps(gap)
    parts: list[Waveform] = [_silence(lead)]
    times: list[Word] = []
    at = len(parts[0])
    for number, word in enumerate(spoken):
        parts.append(pip(word, word_seconds))
        times.append(Word(at / SAMPLE_RATE, (at + len(parts[-1])) / SAMPLE_RATE, f" {word}", 1.0))
        parts.append(_silence(gaps[number % len(gaps)] if number < len(spoken) - 1 else tail))
        at += len(parts[-1]) + len(parts[-2])
    return ToneSpeech(np.concatenate(parts), tuple(times))


def tone_recording(seconds: float, first: int = 0) -> Iterator[Waveform]:
    """A recording of exactly `seconds`, block by block in constant memory; what it says is `tone_recording_words`."""
    left = round(seconds * SAMPLE_RATE)
    for block in _sentences(first):
        if left <= 0:
            return
        yield block if left >= len(block) else _whole_words(block, left)
        left -= len(block)


def tone_recording_words(seconds: float, first: int = 0) -> Iterator[Word]:
    """Every word of `tone_recording(seconds, first)` with its exact times."""
    length, gap, pause = (round(each * SAMPLE_RATE) for each in (WORD_SECONDS, GAP_SECONDS, PAUSE_SECONDS))
    total, at, number = round(seconds * SAMPLE_RATE), 0, 0
    while at + length <= total:
        yield Word(at / SAMPLE_RATE, (at + length) / SAMPLE_RATE, f" {tone_word(first + number)}", 1.0)
        number += 1
        at += length + (gap if number % SENTENCE_WORDS else pause)


def _sentences(first: int) -> Iterator[Waveform]:
    """The endless recording in blocks of whole sentences, about ten seconds each."""
    gap, pause = _silence(GAP_SECONDS), _silence(PAUSE_SECONDS)
    each = SENTENCE_WORDS * (WORD_SECONDS + GAP_SECONDS) - GAP_SECONDS + PAUSE_SECONDS
    block = SENTENCE_WORDS * max(1, round(_BLOCK_SECONDS / each))
    while True:
        parts: list[Waveform] = []
        for place in range(block):
            parts += (pip(tone_word(first + place)), pause if (place + 1) % SENTENCE_WORDS == 0 else gap)
        yield np.concatenate(parts)
        first += block


def _whole_words(block: Waveform, samples: int) -> Waveform:
    """The block cut to length, with a word that the end would cut through left out."""
    cut = block[:samples].copy()
    length, gap, pause = (round(each * SAMPLE_RATE) for each in (WORD_SECONDS, GAP_SECONDS, PAUSE_SECONDS))
    at, number = 0, 0
    while at + length <= samples:
        number += 1
        at += length + (gap if number % SENTENCE_WORDS else pause)
    cut[at:] = 0
    return cut


def _gaps(gap: float | Sequence[float] | None) -> list[float]:
    if gap is None:
        return [GAP_SECONDS] * (SENTENCE_WORDS - 1) + [PAUSE_SECONDS]
    return [float(gap)] if isinstance(gap, int | float) else list(gap)


def _silence(seconds: float) -> Waveform:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


@cache
def _tone(hertz: float, samples: int) -> Waveform:
    """One tone at full scale with 2 ms ramps at both ends."""
    wave: Waveform = np.sin(2 * np.pi * hertz / SAMPLE_RATE * np.arange(samples)).astype(np.float32)
    ramp = np.linspace(0, 1, min(_RAMP, samples // 2), dtype=np.float32)
    wave[: len(ramp)] *= ramp
    wave[len(wave) - len(ramp) :] *= ramp[::-1]
    wave.flags.writeable = False
    return wave


assert all(low[-1] < high[0] for low, high in pairwise(TONES))
