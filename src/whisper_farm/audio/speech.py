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
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from whisper_farm.audio.sound import SAMPLE_RATE, SILENT_DB, Waveform, decibels, powers, seconds_of

FRAME = 512
"""Samples of one probability."""
SPEECH = 0.5
"""A frame at least as probable as this is speech."""
ORDINARY_DB = -23.0
"""How loud the loud parts of ordinary speech are."""
_BEGINNING = 100 * FRAME
"""Samples in which the model may not hear a voice that it does not know yet: three seconds."""
_KNOWN_AFTER = 188 * FRAME, 312 * FRAME
"""Samples after which it knows the voice better: six seconds, and ten."""
_CONTEXT = 64
_SAMPLES_ASKED = 3
_SAMPLE_SECONDS = 1
_LITTLE_SPEECH = 0.25


def speech_probabilities(audio: Waveform) -> NDArray[np.float32] | None:
    """The probability of speech in every frame (the last one padded); None where the model is missing."""
    return SpeechDetector().hear(audio)


class _Memory(NamedTuple):
    """What the model knows of the sound before: its last samples, and a state."""

    context: Waveform
    state: NDArray[np.float32]


class SpeechDetector:
    """Tells where speech is in sound that comes piece by piece, as if it were heard at once.

    The first piece is of ten seconds or more, or all there is; each but the last is of whole frames. The model hears a
    voice that it does not know yet badly, by telephone for seconds. So it hears the beginning again after six seconds
    and after ten, and the highest probability holds.
    """

    def __init__(self) -> None:
        self._memory = _Memory(np.zeros(_CONTEXT, np.float32), np.zeros((2, 1, 1, 128), np.float32))
        self._began = False

    def hear(self, audio: Waveform) -> NDArray[np.float32] | None:
        """The probability of speech in every frame of the next piece; None where the model is missing."""
        model = _model()
        if model is None or not len(audio):
            return None
        if self._began:
            heard, self._memory = _heard(model, audio, self._memory)
            return heard
        self._began = True
        return self._first(model, audio)

    def _first(self, model: _Model, audio: Waveform) -> NDArray[np.float32]:
        heard: list[NDArray[np.float32]] = []
        for part in (one for one in np.split(audio, _KNOWN_AFTER) if len(one)):
            found, self._memory = _heard(model, part, self._memory)
            heard.append(found)
            if len(heard) <= len(_KNOWN_AFTER):
                again, _ = _heard(model, audio[:_BEGINNING], self._memory)
                heard[0][: len(again)] = np.maximum(heard[0][: len(again)], again)
        return np.concatenate(heard)


def _heard(model: _Model, audio: Waveform, memory: _Memory) -> tuple[NDArray[np.float32], _Memory]:
    frames = np.pad(audio, (0, -len(audio) % FRAME)).reshape(-1, FRAME)
    context = np.roll(frames[:, -_CONTEXT:], 1, axis=0)
    context[0] = memory.context
    heard, *state = model.run(
        None, {"input": np.concatenate([context, frames], axis=1), "h": memory.state[0], "c": memory.state[1]}
    )
    return heard.reshape(-1), _Memory(frames[-1, -_CONTEXT:], np.stack(state))


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
