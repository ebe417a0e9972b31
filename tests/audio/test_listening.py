"""What is made to be listened to: a copy that plays anywhere and keeps its times, and peaks of bounded number."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from support.recordings import encoded, talk

from whisper_farm.audio.listening import MOST_PAIRS, RATE, Playable, WaveformPeaks, listen
from whisper_farm.audio.sound import Waveform
from whisper_farm.audio.source import AudioSource
from whisper_farm.errors import NotAudio, TooLarge

GIGABYTE = 1 << 30


def made(tmp_path: Path, recording: bytes, most: int = GIGABYTE) -> tuple[Playable, Path]:
    copy = tmp_path / "copy.m4a"
    with AudioSource(io.BytesIO(recording), "talk") as source:
        return listen(source, copy, most, lambda seconds: None), copy


def heard(copy: Path) -> Waveform:
    with av.open(str(copy)) as container:
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])


@pytest.mark.parametrize(("container", "codec", "rate"), [("wav", "pcm_s16le", 16_000), ("mp3", "libmp3lame", 44_100)])
def test_the_copy_is_aac_with_its_index_in_front_and_as_long_as_the_recording(
    tmp_path: Path, container: str, codec: str, rate: int
) -> None:
    playable, copy = made(tmp_path, encoded(talk(20), container, codec, rate))
    assert playable.duration_seconds == pytest.approx(20, abs=0.1)
    data = copy.read_bytes()
    assert data.index(b"ftyp") < data.index(b"moov") < data.index(b"mdat"), "a browser may begin before it has it all"
    with av.open(str(copy)) as opened:
        (stream,) = opened.streams.audio
        assert (stream.codec_context.name, stream.rate, stream.channels) == ("aac", RATE, 1)
        assert float(opened.duration) / av.time_base == pytest.approx(playable.duration_seconds, abs=0.1)
    assert len(data) * 8 / 20 < 96_000


def test_what_is_heard_in_the_copy_is_at_its_time(tmp_path: Path) -> None:
    sound = np.zeros(16_000 * 12, np.float32)
    sound[16_000 * 7 : 16_000 * 7 + 8_000] = np.sin(np.arange(8_000) * 0.3) * 0.5
    playable, copy = made(tmp_path, encoded(sound, "wav", "pcm_s16le", 16_000))
    loud = np.flatnonzero(np.abs(heard(copy)) > 0.2) / RATE
    assert (loud[0], loud[-1]) == (pytest.approx(7, abs=0.05), pytest.approx(7.5, abs=0.05))
    pairs = np.array(playable.peaks).reshape(-1, 2)
    tall = np.flatnonzero(pairs[:, 1] > 0.2) * 12 / len(pairs)
    assert (tall[0], tall[-1]) == (pytest.approx(7, abs=0.05), pytest.approx(7.5, abs=0.05))


@pytest.mark.parametrize("seconds", [0.001, 0.5, 39.9, 40.1, 3600, 36_000])
def test_the_number_of_peaks_is_bounded_however_long_the_recording_is(seconds: float) -> None:
    peaks, samples, block = WaveformPeaks(), round(seconds * RATE), np.full(RATE * 60, 0.5, np.float32)
    block[::2] = -0.25
    while samples:
        peaks.add(block[: min(samples, len(block))])
        samples -= min(samples, len(block))
    values = peaks.values()
    assert len(values) % 2 == 0
    assert 2 <= len(values) <= 2 * MOST_PAIRS
    assert len(values) >= MOST_PAIRS or seconds < 40
    assert set(values[:-2]) <= {-0.25, 0.5}


def test_peaks_are_the_same_in_whatever_blocks_the_sound_comes() -> None:
    sound = np.random.default_rng(7).uniform(-1.5, 1.5, 7_654_321).astype(np.float32)

    def of(blocks: Iterator[Waveform]) -> tuple[float, ...]:
        peaks = WaveformPeaks(most_pairs=50, block=16)
        for block in blocks:
            peaks.add(block)
        return peaks.values()

    whole = of(iter([sound]))
    assert whole == of(iter(np.array_split(sound, 999)))
    assert min(whole) == -1
    assert max(whole) == 1
    assert len(whole) <= 100


def test_a_recording_too_long_to_listen_to_is_refused_before_the_copy_has_that_size(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="talk"):
        made(tmp_path, encoded(talk(30), "wav", "pcm_s16le", 16_000), most=100_000)
    assert (tmp_path / "copy.m4a").stat().st_size < 200_000


def test_what_is_no_recording_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(NotAudio):
        made(tmp_path, b"no recording" * 1000)
