"""What a browser plays and draws of a recording: a listening copy, and the peaks of its waveform.

The copy is AAC in MP4 with its index in front: every browser plays it and can seek in it. Its times are those of the
chunks, because the same decoder makes both. One pass, a block at a time. The number of peaks is bounded, however long
the recording is. The index of the copy grows by some ten megabytes an hour while it is written, and is on disk then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from whisper_farm.audio.decode import Decoding
from whisper_farm.audio.sound import Waveform
from whisper_farm.audio.source import AudioSource
from whisper_farm.errors import NoSpace, TooLarge

RATE = 32_000
"""Samples a second of the copy: all that is heard of a voice, and most of music."""
BITS_PER_SECOND = 64_000
MOST_PAIRS = 4000
"""Pairs of peaks; never fewer than half as many where the recording has as many blocks of `FIRST_BLOCK`."""
FIRST_BLOCK = 320
"""Samples of one pair at first: ten milliseconds."""
TOLD_SECONDS = 60
_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Playable:
    """What was made."""

    duration_seconds: float
    peaks: tuple[float, ...]
    """The lowest and the highest value of one stretch after the other, all equally long."""


class WaveformPeaks:
    """The lowest and highest values of stretches of equal length, which doubles whenever there are too many."""

    def __init__(self, most_pairs: int = MOST_PAIRS, block: int = FIRST_BLOCK) -> None:
        self._most, self._block = most_pairs, block
        self._pairs: NDArray[np.float32] = np.zeros((2 * most_pairs, 2), np.float32)
        self._count = 0
        self._rest: Waveform = np.zeros(0, np.float32)

    def add(self, samples: Waveform) -> None:
        """Take in the next samples."""
        samples = np.concatenate([self._rest, samples])
        while len(samples) >= self._block:
            whole = min(len(samples) // self._block, 2 * self._most - self._count)
            blocks = samples[: whole * self._block].reshape(whole, self._block)
            self._pairs[self._count : self._count + whole] = np.stack([blocks.min(axis=1), blocks.max(axis=1)], axis=1)
            self._count += whole
            samples = samples[whole * self._block :]
            if self._count == 2 * self._most:
                self._pairs[: self._most] = _halved(self._pairs)
                self._count, self._block = self._most, 2 * self._block
        self._rest = samples

    def values(self) -> tuple[float, ...]:
        """Lowest and highest in turn, from -1 to 1. The last stretch may be a short one."""
        pairs = self._pairs[: self._count]
        if len(self._rest):
            pairs = np.concatenate([pairs, [[self._rest.min(), self._rest.max()]]])
        if len(pairs) > self._most:
            pairs = _halved(np.concatenate([pairs, pairs[-1:]]) if len(pairs) % 2 else pairs)
        return tuple(round(float(value), _DIGITS) for value in np.clip(pairs, -1, 1).reshape(-1))


def _halved(pairs: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([pairs[:, 0].reshape(-1, 2).min(axis=1), pairs[:, 1].reshape(-1, 2).max(axis=1)], axis=1)


def listen(source: AudioSource, copy: Path, max_bytes: int, went_on: Callable[[float], None]) -> Playable:
    """Decode a recording once, write its listening copy to `copy`, and return the peaks.

    `went_on` hears now and then how far it is. Raises an `AudioError` that names the recording if it cannot be used.
    Raises `TooLarge` if its copy would be, and `NoSpace` if there is no room for it here.
    """
    name, peaks, samples, told = source.name, WaveformPeaks(), 0, 0
    try:
        with _Copy(copy) as written:
            for block in Decoding(source, rate=RATE).blocks():
                peaks.add(block)
                written.add(block, samples)
                samples += len(block)
                if samples // (TOLD_SECONDS * RATE) > told:
                    told += 1
                    went_on(samples / RATE)
                if samples * BITS_PER_SECOND // (8 * RATE) > max_bytes:
                    hours = max_bytes * 8 / BITS_PER_SECOND / 3600
                    raise TooLarge(f"{name}: it is longer than {hours:.0f} hours, the most that is made to listen to.")
    except OSError as error:
        raise NoSpace(f"The listening copy of {name} cannot be written on the worker: {error.strerror}.") from error
    return Playable(samples / RATE, peaks.values())


class _Copy:
    """The file on its way."""

    def __init__(self, path: Path) -> None:
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream("aac", rate=RATE, layout="mono")
        self._stream.bit_rate = BITS_PER_SECOND

    def __enter__(self) -> _Copy:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

    def add(self, samples: Waveform, position: int) -> None:
        """Encode the samples that begin at that position."""
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples).reshape(1, -1), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, position, Fraction(1, RATE)
        self._container.mux(self._stream.encode(frame))
