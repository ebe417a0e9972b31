"""Two channels that cancel each other out: their mix would be silence, so one of them is heard alone.

Happens where one side of a stereo cable or microphone is wired the wrong way round. Looks at the beginning only, and
is a function of the recording alone.
"""

from __future__ import annotations

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

LOOK_SECONDS = 20.0
"""How much of a recording is looked at."""
CANCELLED_SHARE = 0.01
"""Of the louder channel's energy: a mix that keeps less has lost the sound."""
AUDIBLE = 1e-3
"""Softer sound (full scale is 1) says nothing."""


def cancelling_channel(container: InputContainer, stream: AudioStream) -> int | None:
    """The louder of two channels that cancel each other out; None if they do not. Reads from the container."""
    mix, each, seconds = 0.0, np.zeros(2), 0.0
    try:
        for frame in container.decode(stream):
            if frame.layout.nb_channels != 2 or not frame.samples:
                continue
            left, right = _channels(frame)
            energies = float(np.sum(left**2)), float(np.sum(right**2))
            if max(energies) > AUDIBLE**2 * frame.samples:
                mix += float(np.sum((left + right) ** 2)) / 4
                each += energies
            seconds += frame.samples / frame.sample_rate
            if seconds >= LOOK_SECONDS:
                break
    except (av.FFmpegError, ValueError, IndexError):
        pass  # what is wrong with the recording is found when it is decoded
    return int(each.argmax()) if mix < CANCELLED_SHARE * each.max() else None


def _channels(frame: AudioFrame) -> NDArray[np.float64]:
    """The two channels of a frame, full scale 1."""
    samples = frame.to_ndarray()
    whole = samples.astype(np.float64)
    if samples.dtype == np.uint8:
        whole = whole / 128 - 1
    elif samples.dtype.kind == "i":
        whole /= 1 << (8 * samples.dtype.itemsize - 1)
    return whole if frame.format.is_planar else whole.reshape(-1, 2).T
