"""The engine of tests and benchmarks: its words are a function of the tones it is given (`tone_audio`).

Exact, deterministic and fast: the same samples give the same words wherever they are cut, whatever
was heard before, with times that are within 3 ms of the truth and do not move with the cut. A pip that
a cut went through is heard on both sides, as a doubled word. Imports nothing but NumPy.

Models:

- `instant` answers at once;
- `x40` (any number) answers when audio/40 seconds have passed, spent asleep, not computing;
- `faulty` is `instant`, but obeys these words: `die` ends the process (exit status 70) without a goodbye,
  `fail` raises, `hang` never comes back and does not heed a cancel. All other models hear them as words;
- `once:FOLDER` is `faulty`, but each such word acts only the first time that it is heard with that folder
  (a marker file in it remembers), and is an ordinary word thereafter.

A chunk whose language nobody has decided is English, or German if it says `deutsch`. The word `mumble` is heard as
speech that has no words.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from support.tone_audio import SIGNALS, TONES, word_of_tones
from whisper_farm.audio.sound import SAMPLE_RATE, Waveform
from whisper_farm.engines.engine import ChunkAudio, EngineFacts, EngineSettings, EngineTraits, Progress, Recognition
from whisper_farm.errors import EngineError, ModelUnavailable, OptionUnsupported
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Segment, Word

EXIT_STATUS = 70
"""With what status the process ends at the word `die`."""
FAULTS = ("die", "fail", "hang")

_LOUD = 0.04
_FRAME = 80
_SHORTEST_FRAMES = 10
_SEGMENT_PAUSE_SECONDS = 0.4
_PURITY = 0.5
_FFT = 4096
_NAP_SECONDS = 0.1
_TONE_BINS = np.rint(np.array(TONES) * _FFT / SAMPLE_RATE).astype(np.intp)


@dataclass(slots=True)
class ToneEngine:
    """Hears tone words. `speed` is × real time (None: at once); `obeys` says whether fault words act."""

    facts: EngineFacts
    speed: float | None = None
    obeys: bool = False
    memory: Path | None = None

    def recognise(
        self,
        chunks: Sequence[ChunkAudio],
        options: RecognitionOptions,
        cancelled: Callable[[int], bool],
    ) -> Iterator[tuple[int, Recognition]]:
        """Recognise chunk after chunk; see the contract in `engine.Engine`."""
        if options.task == "translate":
            raise OptionUnsupported("The engine tones cannot translate.")
        for index, chunk in enumerate(chunks):
            ready_at = time.monotonic() + (len(chunk.audio) / SAMPLE_RATE / self.speed if self.speed else 0)
            if cancelled(index):
                continue
            words = hear(chunk.audio)
            for word in words:
                self._act_on(word.text.strip())
            if _wait(ready_at, partial(cancelled, index)):
                yield index, _recognition(words, chunk.language or chunk.expected_language, options)

    def _act_on(self, word: str) -> None:
        if not self.obeys or word not in FAULTS:
            return
        if self.memory is not None:
            try:
                (self.memory / word).touch(exist_ok=False)
            except FileExistsError:
                return
        if word == "die":
            os._exit(EXIT_STATUS)
        if word == "fail":
            raise EngineError("The engine tones heard the word `fail` and failed, as it was told to.")
        while True:
            time.sleep(3600)


def load(options: RecognitionOptions, settings: EngineSettings, progress: Progress) -> ToneEngine:
    """Make the engine for the model named in `options`; ModelUnavailable if there is no such model."""
    facts = EngineFacts("tones", "1", options.model, "1", "cpu", "default")
    if options.model == "instant":
        return ToneEngine(facts)
    if options.model == "faulty":
        return ToneEngine(facts, obeys=True)
    if options.model.startswith("once:"):
        memory = Path(options.model.removeprefix("once:"))
        if not memory.is_dir():
            raise ModelUnavailable(f"The folder of the model {options.model!r} does not exist.")
        return ToneEngine(facts, obeys=True, memory=memory)
    if (match := re.fullmatch(r"x(\d+(?:\.\d+)?)", options.model)) and float(match[1]) > 0:
        return ToneEngine(facts, speed=float(match[1]))
    raise ModelUnavailable(
        f"The engine tones has no model {options.model!r}; use instant, x40 (any number), faulty or once:FOLDER."
    )


TRAITS = EngineTraits(
    name="tones",
    load=load,
    version=lambda: "1",
    default_model=lambda device, task: "instant",
    options=frozenset({"language", "word_timestamps"}),
    tasks=("transcribe",),
    needs=frozenset({"files"}),
)


def hear(audio: Waveform) -> tuple[Word, ...]:
    """The tone words in the audio with their times, in order; sounds that are no tone words are not heard."""
    words: list[Word] = []
    for start, end in _loud_stretches(audio):
        text, purity = _name(audio[start:end])
        if purity >= _PURITY:
            words.append(Word(start / SAMPLE_RATE, end / SAMPLE_RATE, f" {text}", round(purity, 3)))
    return tuple(words)


def _loud_stretches(audio: Waveform) -> Iterator[tuple[int, int]]:
    """Samples [start, end) of what is louder than silence, edges exact to the sample."""
    count = -(-len(audio) // _FRAME)
    loud = np.zeros(count * _FRAME, np.bool_)
    loud[: len(audio)] = np.abs(audio) > _LOUD
    frames = np.zeros(count + 2, np.int8)
    frames[1:-1] = loud.reshape(-1, _FRAME).any(axis=1)
    steps = np.diff(frames)
    for first, after in zip(np.flatnonzero(steps == 1), np.flatnonzero(steps == -1), strict=True):
        if after - first >= _SHORTEST_FRAMES:
            within = np.flatnonzero(loud[first * _FRAME : after * _FRAME])
            yield int(first * _FRAME + within[0]), int(first * _FRAME + within[-1]) + 1


def _name(sound: Waveform) -> tuple[str, float]:
    """The word that these tones make, and the share of the sound's power that is in its tones."""
    sound = sound[:_FFT]
    window = np.hanning(len(sound)).astype(np.float32)
    power = np.abs(np.fft.rfft(sound * window, _FFT)) ** 2
    total = float(power.sum())
    for word, hertz in SIGNALS.items():
        if (share := _share(power, hertz, len(sound)) / total) >= _PURITY:
            return word, min(1.0, share)
    steps = power[_TONE_BINS].argmax(axis=1).tolist()
    share = sum(_share(power, band[step], len(sound)) for band, step in zip(TONES, steps, strict=True)) / total
    return word_of_tones(steps), min(1.0, share)


def _share(power: NDArray[np.float64], hertz: float, samples: int) -> float:
    """The power around one frequency, as wide as the main lobe of a sound of that length."""
    middle = hertz * _FFT / SAMPLE_RATE
    reach = 2 * _FFT / samples
    return float(power[max(0, int(middle - reach)) : int(middle + reach) + 2].sum())


def _wait(until: float, cancelled: Callable[[], bool]) -> bool:
    """Sleep until that moment; False if cancelled meanwhile."""
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _NAP_SECONDS))
        if cancelled():
            return False
    return True


def _recognition(words: tuple[Word, ...], language: str | None, options: RecognitionOptions) -> Recognition:
    guess = "de" if any(word.text == " deutsch" for word in words) else "en"
    segments: list[list[Word]] = []
    mumbled = [word for word in words if word.text == " mumble"]
    for word in (word for word in words if word not in mumbled):
        if segments and word.start - segments[-1][-1].end < _SEGMENT_PAUSE_SECONDS:
            segments[-1].append(word)
        else:
            segments.append([word])
    return Recognition(
        segments=tuple(
            Segment(
                start=run[0].start,
                end=run[-1].end,
                text="".join(word.text for word in run),
                words=tuple(run) if options.word_timestamps else (),
                avg_logprob=0.0,
                no_speech_prob=0.0,
                compression_ratio=1.0,
                temperature=0.0,
            )
            for run in segments
        ),
        language=language or guess,
        language_probability=1.0 if language else 0.9,
        unheard=tuple((word.start, word.end) for word in mumbled),
    )
