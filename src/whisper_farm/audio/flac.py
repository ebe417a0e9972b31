"""Chunks as FLAC: 16 kHz, 16 bits, one channel, or two that are kept apart.

What is decoded is exactly what was encoded, rounded to 16 bits."""

from __future__ import annotations

import io

import av
import numpy as np
from av.audio.frame import AudioFrame

from whisper_farm.audio.sound import SAMPLE_RATE, Waveform, samples_of
from whisper_farm.errors import AudioError

LONGEST_SECONDS = 600.0
"""Of any chunk."""
SLACK_SAMPLES = SAMPLE_RATE
_LEVEL = "5"
"""Of compression: higher levels are slower and save under one per cent, lower ones are no faster."""
_FULL_SCALE = 32_768
_UNREADABLE = f"the audio of a chunk is no readable FLAC of one or two channels at {SAMPLE_RATE} Hz"


def encode(samples: Waveform) -> bytes:
    """A FLAC file of these samples."""
    whole = np.clip(np.rint(samples * np.float32(_FULL_SCALE)), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
    layout = "mono" if samples.ndim == 1 else "stereo"
    frame = AudioFrame.from_ndarray(whole.reshape(1, -1), format="s16", layout=layout)
    frame.sample_rate, frame.pts = SAMPLE_RATE, 0
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, options={"compression_level": _LEVEL}, layout=layout)
        stream.format = "s16"
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def decode_flac(data: bytes, most_seconds: float = LONGEST_SECONDS) -> Waveform:
    """The samples of a FLAC file that `encode` made; raises `AudioError` for anything else.

    Decoding stops as soon as there is more sound than `most_seconds`: a few bytes may hold gigabytes of it.
    """
    samples_left = samples_of(most_seconds) + SLACK_SAMPLES
    try:
        with av.open(io.BytesIO(data), "r", format="flac") as container:
            stream = container.streams.audio[0]
            if stream.sample_rate != SAMPLE_RATE or stream.channels > 2:
                raise AudioError(_UNREADABLE)
            frames = []
            for frame in container.decode(stream):
                samples_left -= frame.samples
                if samples_left < 0:
                    raise AudioError(
                        f"the audio of a chunk is longer than the {most_seconds:g} s it was announced with"
                    )
                frames.append(frame.to_ndarray().reshape((-1, 2) if stream.channels == 2 else -1))
    except (av.FFmpegError, IndexError, ValueError) as failure:
        raise AudioError(_UNREADABLE) from failure
    whole = np.concatenate(frames) if frames else np.zeros(0, np.int16)
    return whole.astype(np.float32) / np.float32(_FULL_SCALE)
