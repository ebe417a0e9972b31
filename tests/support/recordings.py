"""Sound whose content and times are known, in real containers, for the tests of this room."""

from __future__ import annotations

import functools
import io
import random
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame

from whisper_farm.audio.decode import Decoding
from whisper_farm.audio.flac import encode
from whisper_farm.audio.sound import SAMPLE_RATE, Waveform
from whisper_farm.audio.source import AudioSource

PODCAST = Path(__file__).parents[2] / "examples" / "podcast.mp3"

CONTAINERS = [
    ("mp3", "mp3", 44_100),
    ("ipod", "aac", 44_100),
    ("adts", "aac", 44_100),
    ("ogg", "libopus", 48_000),
    ("webm", "libopus", 48_000),
    ("flac", "flac", 44_100),
    ("ogg", "flac", 44_100),
    ("wav", "pcm_s16le", 44_100),
    ("wav", "pcm_u8", 8_000),
    ("aiff", "pcm_s16be", 22_050),
    ("mpegts", "aac", 48_000),
    ("matroska", "aac", 44_100),
    ("avi", "mp3", 44_100),
    ("ipod", "alac", 44_100),
]
"""Containers, codecs and rates that every promise about decoding is tested on."""
HASTE = {"mp3": {"compression_level": "9"}}
"""Options for the least work, where an encoder is slow: it searches less, and writes the same format."""


def silence(seconds: float) -> Waveform:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def noise(seconds: float, level: float = 0.05, seed: int = 0) -> Waveform:
    return (np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE)) * level).astype(np.float32)


def babble(seconds: float, seed: int = 0) -> Waveform:
    """Something with the rhythm of speech: noise in syllables, four a second, with no pause."""
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (noise(seconds, 0.2, seed) * (0.3 + np.sin(2 * np.pi * 4 * times) ** 2)).astype(np.float32)


def talk(seconds: float, seed: int = 0) -> Waveform:
    """Babble with pauses of 0.3 to 1 s every few seconds."""
    chance, pieces, length = random.Random(seed), [], 0.0
    while length < seconds:
        spoken, pause = chance.uniform(0.8, 4), chance.uniform(0.3, 1)
        pieces += [babble(spoken, chance.randrange(1000)), silence(pause)]
        length += spoken + pause
    return np.concatenate(pieces)[: round(seconds * SAMPLE_RATE)]


def two_voices(path: Path) -> Path:
    """The beginning of the sample podcast as FLAC: 24 seconds, four turns of two voices."""
    with AudioSource(PODCAST, PODCAST.name) as source:
        audio = np.concatenate(list(Decoding(source).blocks()))
    path.write_bytes(encode(audio[: 24 * SAMPLE_RATE]))
    return path


def beeps(seconds: float, at: Iterable[float]) -> Waveform:
    """Silence with a short beep at each of these times."""
    sound = silence(seconds)
    beep = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(SAMPLE_RATE // 20) / SAMPLE_RATE)).astype(np.float32)
    for time in at:
        start = round(time * SAMPLE_RATE)
        sound[start : start + len(beep)] += beep[: len(sound) - start]
    return sound


def beep_times(sound: Waveform) -> list[float]:
    """When each beep begins."""
    loud = np.flatnonzero(np.abs(sound) > 0.15)
    first = loud[np.concatenate([[True], np.diff(loud) > SAMPLE_RATE // 5])] if len(loud) else loud
    return [float(sample) / SAMPLE_RATE for sample in first]


def speech() -> Waveform:
    """The bundled podcast: two synthetic voices that Silero hears as speech."""
    return _podcast().copy()


@functools.cache
def _podcast() -> Waveform:
    with AudioSource(PODCAST, PODCAST.name) as source:
        return np.concatenate(list(Decoding(source).blocks()))


def encoded(
    sound: Waveform, container: str, codec: str, rate: int, start: float = 0.0, layout: str = "mono", **options: str
) -> bytes:
    """A recording of `sound`; its timestamps begin at `start`."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout, options=HASTE.get(codec))
        assert isinstance(stream, AudioStream)
        _encode(output, stream, sound, rate, start)
    return file.getvalue()


def stereo(left: Waveform, right: Waveform, container: str, codec: str, rate: int) -> bytes:
    """A recording of two channels."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout="stereo", options=HASTE.get(codec))
        assert isinstance(stream, AudioStream)
        _encode(output, stream, np.stack([left, right]), rate, 0.0)
    return file.getvalue()


def film(sound: Waveform | None, seconds: float, sound_start: float = 0.0, container: str = "mp4") -> bytes:
    """A video of grey pictures, with or without a sound track that begins late."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        video = output.add_stream("mpeg4", rate=5, width=64, height=64, pix_fmt="yuv420p")
        audio = output.add_stream("aac", rate=44_100, layout="mono") if sound is not None else None
        for number in range(round(seconds * 5)):
            picture = VideoFrame(64, 64, "yuv420p")
            for plane in picture.planes:
                plane.update(bytes([128]) * plane.buffer_size)
            picture.pts, picture.time_base = number, Fraction(1, 5)
            output.mux(video.encode(picture))
        output.mux(video.encode(None))
        if sound is not None and isinstance(audio, AudioStream):
            _encode(output, audio, sound, 44_100, sound_start)
    return file.getvalue()


def without(recording: bytes, container: str, start: float, end: float) -> bytes:
    """The same recording, its sound between these seconds left out and the rest where it was."""
    cut, begun = io.BytesIO(), None
    with av.open(io.BytesIO(recording)) as source, av.open(cut, "w", format=container) as output:
        copies = {stream.index: output.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            seconds = float(packet.dts * packet.time_base)
            begun = seconds if begun is None else begun
            if packet.stream.type == "video" or not start < seconds - begun < end:
                packet.stream = copies[packet.stream_index]
                output.mux(packet)
    return cut.getvalue()


def _encode(
    output: av.container.OutputContainer, stream: AudioStream, sound: Waveform, rate: int, start: float
) -> None:
    channels = np.atleast_2d(sound)
    layout = "mono" if len(channels) == 1 else "stereo"
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(channels), format="fltp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
    resampler = av.AudioResampler(stream.format, stream.layout, rate, frame_size=stream.frame_size or 1024)
    stamp = round(start * rate)
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        part.pts, part.time_base = stamp, Fraction(1, rate)
        stamp += part.samples
        output.mux(stream.encode(part))
    output.mux(stream.encode(None))


def decoded(recording: bytes, first: int = 0) -> Waveform:
    """What `Decoding` makes of a recording."""
    with AudioSource(io.BytesIO(recording), "recording") as source:
        blocks = list(Decoding(source, first).blocks())
    return np.concatenate([np.zeros(0, np.float32), *blocks])
