"""Where somebody speaks: Silero's small model, an estimate for a chunk that is cut, a map of one that is heard.

Levels are normalised first, so that quiet speech is judged like loud speech.

The model is the one that ships inside faster-whisper, run with onnxruntime on one thread; nothing
of faster-whisper itself is imported. Where it is not to be had, nothing is known about speech and callers fall
back to loudness.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from whisper_farm.audio.sound import SAMPLE_RATE, SILENT_DB, Waveform, decibels, powers, seconds_of

FRAME = 512
"""Samples of one probability."""
SPEECH = 0.5
"""A frame at least as probable as this is speech."""
ORDINARY_DB = -23.0
"""How loud the loud parts of ordinary speech are."""
BEGINNING_FRAMES = 100
"""So much is the beginning of a chunk: three seconds."""
_CONTEXT = 64
_SAMPLES_ASKED = 3
_SAMPLE_SECONDS = 1
_LITTLE_SPEECH = 0.25


def speech_probabilities(audio: Waveform) -> NDArray[np.float32] | None:
    """The probability of speech in every frame (the last one padded); None where the model is missing."""
    return SpeechDetector().hear(audio)


def speech_in_chunk(audio: Waveform) -> NDArray[np.float32] | None:
    """The same for a chunk that is recognised, of which nothing may be lost.

    The model hears a voice that it does not know yet badly, by telephone for seconds. So it hears the beginning
    backwards, too, then forwards again, and the highest probability holds.
    """
    heard, again = speech_probabilities(audio), SpeechDetector()
    beginning = audio[: min(BEGINNING_FRAMES, len(audio) // FRAME) * FRAME]
    for sound, step in ((np.ascontiguousarray(beginning[::-1]), -1), (beginning, 1)):
        found = again.hear(sound)
        if heard is not None and found is not None:
            heard[: len(found)] = np.maximum(heard[: len(found)], found[::step])
    return heard


class SpeechDetector:
    """Tells where speech is in sound that comes piece by piece, as if it were heard at once.

    Each piece but the last is of whole frames.
    """

    def __init__(self) -> None:
        self._context = np.zeros(_CONTEXT, np.float32)
        self._state = np.zeros((2, 1, 1, 128), np.float32)

    def hear(self, audio: Waveform) -> NDArray[np.float32] | None:
        """The probability of speech in every frame of the next piece; None where the model is missing."""
        session = _model()
        if session is None or not len(audio):
            return None
        frames = np.pad(audio, (0, -len(audio) % FRAME)).reshape(-1, FRAME)
        context = np.roll(frames[:, -_CONTEXT:], 1, axis=0)
        self._context, context[0] = context[0].copy(), self._context
        heard, *state = session.run(
            None, {"input": np.concatenate([context, frames], axis=1), "h": self._state[0], "c": self._state[1]}
        )
        self._state = np.stack(state)
        return heard.reshape(-1)


def normalised(audio: Waveform) -> Waveform:
    """The sound with its loud parts at the level of ordinary speech. Digital silence stays what it is."""
    levels = decibels(powers(audio))
    loud = float(np.percentile(levels, 95)) if len(levels) else SILENT_DB
    if loud <= SILENT_DB or loud >= ORDINARY_DB:
        return audio
    louder: Waveform = np.clip(audio * np.float32(10 ** ((ORDINARY_DB - loud) / 20)), -1, 1)
    return louder


def stretches_above(probabilities: NDArray[np.float32], begin: float, end: float) -> list[tuple[int, int]]:
    """Samples `[first, last)` of every run of frames that reaches `begin` and does not fall below `end`."""
    found: list[tuple[int, int]] = []
    edges = np.flatnonzero(np.diff(np.concatenate([[False], probabilities >= end, [False]])))
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if probabilities[first:last].max() >= begin:
            found.append((first * FRAME, last * FRAME))
    return found


def speech_seconds(audio: Waveform) -> float:
    """About how much of a chunk is speech; 0 only if it is silence from end to end.

    Three samples of a second stand for the whole. If they hold little speech, all of it is heard. So a chunk of
    music is not taken for speech, nor a short answer in a long silence for nothing.
    """
    levels = decibels(powers(audio))
    if not len(levels) or levels.max() <= SILENT_DB:
        return 0.0
    whole = seconds_of(len(audio))
    audio = normalised(audio)
    share = _share(_samples(audio))
    if share is not None and share < _LITTLE_SPEECH:
        share = _share([audio])
    return round(max(0.1, whole * (1.0 if share is None else share)), 2)


def _samples(audio: Waveform) -> list[Waveform]:
    size = _SAMPLE_SECONDS * SAMPLE_RATE
    if len(audio) <= 2 * _SAMPLES_ASKED * size:
        return [audio]
    part = len(audio) // _SAMPLES_ASKED
    return [audio[part * number + (part - size) // 2 :][:size] for number in range(_SAMPLES_ASKED)]


def _share(stretches: list[Waveform]) -> float | None:
    found = [speech_probabilities(stretch) for stretch in stretches]
    known = [probabilities for probabilities in found if probabilities is not None]
    return float(np.mean(np.concatenate(known) >= SPEECH)) if known else None


class _Model(Protocol):
    def run(self, outputs: None, inputs: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]: ...


@functools.cache
def _model() -> _Model | None:
    package = importlib.util.find_spec("faster_whisper")
    folders = package.submodule_search_locations if package else None
    files = sorted(Path(folders[0], "assets").glob("silero_vad*.onnx")) if folders else []
    if not files:
        return None
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    model: _Model = onnxruntime.InferenceSession(str(files[-1]), options, providers=["CPUExecutionProvider"])
    return model
