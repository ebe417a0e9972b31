"""Two channels that cancel each other out: their mix would be silence, so one of them is heard alone.

Happens where one side of a stereo cable or microphone is wired the wrong way round, perhaps of one speaker only. Looks
at some places of a recording, and is a function of the recording alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

PLACES = (0.0, 0.2, 0.4, 0.6, 0.8)
"""Where a recording is looked at, as shares of its length."""
LOOK_SECONDS = 5.0
"""How much sound is looked at in each place."""
SILENT_SECONDS = 120.0
"""How long sound is waited for."""
CANCELLED_SHARE = 0.01
"""Of the louder channel's energy: a mix that keeps less has lost the sound."""
LOUDER = 1.05
"""So much louder the right channel is, to be taken before the left."""
MOST_BROKEN = 20
"""So many packets of a place may be broken."""
AUDIBLE = 1e-3
"""Softer sound (full scale is 1) says nothing."""


def cancelling_channel(container: InputContainer, stream: AudioStream, seconds: float, size: int = 0) -> int | None:
    """The louder of two channels that cancel each other out anywhere; None if they do not. Reads from the container.

    With `size`, its bytes, places are found by bytes: without an index, all before them would be read to find a time.
    """
    cancelled = np.zeros(2)
    for share in PLACES if seconds > LOOK_SECONDS * len(PLACES) else PLACES[:1]:
        try:
            if share and size:
                container.seek(int(share * size), unsupported_byte_offset=True)
            elif share:
                container.seek(int(share * seconds * av.time_base))
            mix, each = _energies(container, stream)
        except (av.FFmpegError, ValueError, IndexError):
            continue  # what is wrong with the recording is found when it is decoded
        if mix < CANCELLED_SHARE * each.max():
            cancelled += each
    return int(cancelled[1] > LOUDER * cancelled[0]) if cancelled.any() else None


def _energies(container: InputContainer, stream: AudioStream) -> tuple[float, NDArray[np.float64]]:
    """Of the mix, and of each channel, from here on."""
    mix, each, looked, seen = 0.0, np.zeros(2), 0.0, 0.0
    for frame in _frames(container, stream):
        if frame.layout.nb_channels != 2 or not frame.samples:
            continue
        length = frame.samples / frame.sample_rate
        left, right = _channels(frame)
        energies = float(np.sum(left**2)), float(np.sum(right**2))
        if max(energies) > AUDIBLE**2 * frame.samples:
            mix += float(np.sum((left + right) ** 2)) / 4
            each += energies
            seen += length
        looked += length
        if seen >= LOOK_SECONDS or looked >= SILENT_SECONDS:
            break
    return mix, each


def _frames(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    """The frames from here on. The first packets are no whole ones where a place was found by bytes."""
    broken = 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            broken += 1
            if broken > MOST_BROKEN:
                raise
        else:
            yield from frames


def _channels(frame: AudioFrame) -> NDArray[np.float64]:
    """The two channels of a frame, full scale 1."""
    samples = frame.to_ndarray()
    whole = samples.astype(np.float64)
    if samples.dtype == np.uint8:
        whole = whole / 128 - 1
    elif samples.dtype.kind == "i":
        whole /= 1 << (8 * samples.dtype.itemsize - 1)
    return whole if frame.format.is_planar else whole.reshape(-1, 2).T
