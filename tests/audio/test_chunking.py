"""Chunk jobs on real containers: times are those of the file, damage is counted, all of it is used, all resume."""

from __future__ import annotations

import io
import itertools
import random
import threading
import wave
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import pytest
from support.recordings import (
    CONTAINERS,
    beep_times,
    beeps,
    decoded,
    encoded,
    film,
    noise,
    speech,
    talk,
    without,
)

from whisper_farm.audio import speech as speech_module
from whisper_farm.audio.chunking import Chunking, ChunkingEnd, EncodedChunk
from whisper_farm.audio.flac import decode_flac
from whisper_farm.audio.sound import SAMPLE_RATE, Waveform, samples_of
from whisper_farm.audio.source import AudioSource
from whisper_farm.errors import NotAudio, SourceEmpty, SourceUnreadable

BEEPS = [0.5, 3.25, 7.0, 11.5, 18.0, 22.75, 26.0]


def cut_up(
    file: bytes | str | Path | BinaryIO, chunk_seconds: float = 5, position: int = 0, seconds: float = 0
) -> tuple[list[EncodedChunk], ChunkingEnd]:
    source = io.BytesIO(file) if isinstance(file, bytes) else file
    with Chunking(AudioSource(source, "recording"), chunk_seconds, position, seconds) as cutting:
        found = list(cutting)
        assert cutting.end is not None
        return found, cutting.end


def sound_of(found: list[EncodedChunk]) -> Waveform:
    return np.concatenate([decode_flac(chunk.flac) for chunk in found])


@pytest.mark.parametrize(("container", "codec", "rate"), CONTAINERS)
def test_chunks_tile_the_recording_and_times_are_those_of_the_file(container: str, codec: str, rate: int) -> None:
    found, end = cut_up(encoded(beeps(28, BEEPS), container, codec, rate))
    assert [chunk.position for chunk in found] == list(range(len(found)))
    assert found[0].start_seconds == 0
    assert all(a.end_seconds == b.start_seconds for a, b in itertools.pairwise(found))
    assert all(len(decode_flac(c.flac)) == samples_of(c.end_seconds) - samples_of(c.start_seconds) for c in found)
    assert all(chunk.end_seconds - chunk.start_seconds <= 5 for chunk in found)
    assert end.duration_seconds == found[-1].end_seconds == pytest.approx(28, abs=0.06)
    assert (end.chunks, end.damaged_packets, end.damaged_seconds) == (len(found), 0, ())
    assert beep_times(sound_of(found)) == pytest.approx(BEEPS, abs=0.05)


@pytest.mark.parametrize(("container", "codec", "rate"), CONTAINERS)
def test_a_chunk_job_that_died_is_resumed_with_the_very_same_chunks(container: str, codec: str, rate: int) -> None:
    recording = encoded(speech()[: samples_of(26)], container, codec, rate)
    whole, whole_end = cut_up(recording)
    for done in (2, len(whole) - 1, len(whole)):
        rest, end = cut_up(recording, position=done, seconds=whole[done - 1].end_seconds)
        assert rest == whole[done:]
        assert end == whole_end


@pytest.mark.parametrize(("container", "codec", "rate"), CONTAINERS)
def test_a_stretch_is_cut_out_of_a_recording_sample_for_sample(container: str, codec: str, rate: int) -> None:
    recording = encoded(beeps(28, BEEPS), container, codec, rate)
    with Chunking(AudioSource(io.BytesIO(recording), "recording"), 5, resume_seconds=6.5, end_seconds=19.25) as cutting:
        found = list(cutting)
        end = cutting.end
    assert end is not None
    assert (found[0].start_seconds, found[-1].end_seconds, end.duration_seconds) == (6.5, 19.25, 19.25)
    assert (end.chunks, end.damaged_packets) == (len(found), 0)
    assert end.declared_seconds in (None, 19.25)
    assert (cutting.expected_seconds or 0) <= 19.25  # some containers only let one guess
    assert [at + 6.5 for at in beep_times(sound_of(found))] == pytest.approx([7.0, 11.5, 18.0], abs=0.05)
    with Chunking(AudioSource(io.BytesIO(recording), "recording"), 5, resume_seconds=26.5, end_seconds=90) as cutting:
        assert [(one.start_seconds, one.end_seconds) for one in cutting] == [(26.5, pytest.approx(28, abs=0.06))]
    with Chunking(AudioSource(io.BytesIO(recording), "recording"), 5, resume_seconds=60, end_seconds=90) as cutting:
        assert list(cutting) == []


def test_a_path_is_read_like_a_file_object(tmp_path: Path) -> None:
    path = tmp_path / "Aufnahme № 1.mp3"
    path.write_bytes(encoded(talk(12), "mp3", "mp3", 44_100))
    assert cut_up(path) == cut_up(str(path)) == cut_up(path.read_bytes())


class Ranges:
    """The least a file object has to be, like one that fetches ranges over a network: short reads included."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def read(self, size: int = -1) -> bytes:
        found = self.data[self.position : self.position + min(size, 1000)]
        self.position += len(found)
        return found

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = max(0, offset + (0, self.position, len(self.data))[whence])
        return self.position

    def tell(self) -> int:
        return self.position


@pytest.mark.parametrize(("container", "codec"), [("ipod", "aac"), ("wav", "pcm_s16le"), ("mp3", "mp3")])
def test_any_object_that_reads_and_seeks_will_do(container: str, codec: str) -> None:
    recording = encoded(talk(12), container, codec, 44_100)
    ranges: BinaryIO = Ranges(recording)  # type: ignore[assignment]
    assert cut_up(ranges) == cut_up(recording)


def test_a_film_gives_its_sound_and_silence_until_that_begins() -> None:
    found, end = cut_up(film(beeps(10, [1.0, 4.0, 8.0]), 14, sound_start=2.5))
    assert end.duration_seconds == pytest.approx(12.5, abs=0.1)
    assert beep_times(sound_of(found)) == pytest.approx([3.5, 6.5, 10.5], abs=0.05)


@pytest.mark.parametrize("start", [7.0, 40_000.0])
def test_time_begins_where_the_container_begins(start: float) -> None:
    found, _ = cut_up(encoded(beeps(12, [1.0, 9.0]), "mpegts", "aac", 48_000, start=start))
    assert beep_times(sound_of(found)) == pytest.approx([1.0, 9.0], abs=0.05)


@pytest.mark.parametrize("layout", ["mono", "stereo", "7.1"])
def test_a_hole_in_the_timestamps_stays_a_hole(layout: str) -> None:
    first = encoded(beeps(6, [1.0]), "mpegts", "aac", 48_000, start=2, layout=layout)
    second = encoded(beeps(6, [1.0]), "mpegts", "aac", 48_000, start=22, layout=layout)
    found, end = cut_up(first + second)
    assert end.duration_seconds == pytest.approx(26, abs=0.1)
    assert beep_times(sound_of(found)) == pytest.approx([1.0, 21.0], abs=0.05)
    assert list(itertools.chain(*end.damaged_seconds)) == pytest.approx([6, 20], abs=0.1)


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("webm", "libopus", 48_000),
        ("matroska", "aac", 44_100),
        ("flv", "aac", 44_100),
        ("ogg", "libopus", 48_000),
        ("mp4", "aac", 44_100),
        ("asf", "mp2", 44_100),
        ("nut", "mp2", 48_000),
        ("mpeg", "mp2", 48_000),
        ("mpegts", "mp2", 48_000),
        ("mpegts", "aac", 48_000),
    ],
)
def test_a_hole_that_somebody_cut_is_a_pause_and_no_damage(container: str, codec: str, rate: int) -> None:
    whole = encoded(beeps(20, [1.0, 12.0]), container, codec, rate)
    found, end = cut_up(without(whole, container, 5, 9))
    assert beep_times(sound_of(found)) == pytest.approx([1.0, 12.0], abs=0.06)
    assert (end.damaged_packets, end.damaged_seconds) == (0, ())


@pytest.mark.parametrize("container", ["matroska", "mpegts", "nut"])
def test_a_hole_in_the_sound_of_a_film_is_a_pause_too(container: str) -> None:
    film_with_hole = without(film(beeps(9, [1.0, 7.0]), 9, container=container), container, 3, 6)
    found, end = cut_up(film_with_hole)
    assert beep_times(sound_of(found)) == pytest.approx([1.0, 7.0], abs=0.06)
    assert (end.damaged_packets, end.damaged_seconds) == (0, ())


@pytest.mark.parametrize(("container", "codec"), [("ogg", "libopus"), ("webm", "libopus"), ("flv", "aac")])
def test_a_hole_whose_bytes_are_in_the_file_is_damage_from_end_to_end(container: str, codec: str) -> None:
    whole = bytearray(encoded(noise(40), container, codec, 48_000 if codec == "libopus" else 44_100))
    middle, size = len(whole) // 2, len(whole) // 8
    whole[middle : middle + size] = bytes(size)
    _, end = cut_up(bytes(whole))
    assert sum(stop - start for start, stop in end.damaged_seconds) > 2


@pytest.mark.parametrize("options", [{}, {"write_id3v1": "1"}, {"write_xing": "0"}])
def test_mp3s_glued_together_are_one_recording_without_damage(options: dict[str, str]) -> None:
    one, other = (encoded(beeps(8, [2.0]), "mp3", "mp3", rate, **options) for rate in (44_100, 24_000))
    found, end = cut_up(one + one + other)
    assert end.duration_seconds == pytest.approx(24, abs=0.3)
    assert beep_times(sound_of(found)) == pytest.approx([2.0, 10.0, 18.0], abs=0.2)
    assert (end.damaged_packets, end.damaged_seconds) == (0, ())
    assert end.declared_seconds is None or end.declared_seconds < end.duration_seconds + 1


def test_zeros_after_the_last_frame_of_an_mp3_are_no_damage() -> None:
    _, end = cut_up(encoded(talk(8), "mp3", "mp3", 44_100) + bytes(9000))
    assert end.duration_seconds == pytest.approx(8, abs=0.1)
    assert end.damaged_packets == 0
    assert end.declared_seconds == pytest.approx(8, abs=0.1)


def test_timestamps_that_start_again_are_sound_after_sound() -> None:
    found, end = cut_up(encoded(beeps(30, [1.0]), "mpegts", "aac", 48_000) * 2)
    assert end.duration_seconds == pytest.approx(60, abs=0.2)
    assert beep_times(sound_of(found)) == pytest.approx([1.0, 31.0], abs=0.1)


def test_recordings_of_two_rates_in_one_file_are_one_recording() -> None:
    both = encoded(beeps(6, [1.0]), "adts", "aac", 44_100) + encoded(beeps(6, [1.0]), "adts", "aac", 22_050)
    found, end = cut_up(both)
    assert end.duration_seconds == pytest.approx(12, abs=0.2)
    assert beep_times(sound_of(found)) == pytest.approx([1.0, 7.0], abs=0.15)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("container", "codec", "off"),
    [
        ("mp3", "mp3", 0.1),
        ("ipod", "aac", 0.1),
        ("flac", "flac", 0.05),
        ("ogg", "libopus", 0.1),
        ("matroska", "aac", 0.1),
        ("adts", "aac", 0.25),  # no timestamps and a varying bit rate: how long lost bytes lasted is a guess
    ],
)
def test_damage_in_the_middle_is_counted_and_shifts_nothing_after_it(
    container: str, codec: str, off: float, seed: int
) -> None:
    sound = speech()[: samples_of(20)] * 0.1 + beeps(20, [3.0, 18.0])
    recording = bytearray(encoded(sound, container, codec, 48_000))
    place = len(recording) // 2
    recording[place : place + 4_000] = random.Random(seed).randbytes(4_000)
    found, end = cut_up(bytes(recording), 30)
    assert end.damaged_packets > 0
    assert all(5 < start <= stop < 15 for start, stop in end.damaged_seconds)
    assert end.duration_seconds == pytest.approx(20, abs=off)
    assert [time for time in beep_times(sound_of(found)) if time < 4 or time > 17] == pytest.approx([3, 18], abs=off)


def test_a_damaged_recording_resumes_with_the_same_chunks() -> None:
    recording = bytearray(encoded(speech()[: samples_of(40)], "flac", "flac", 16_000))
    recording[100_000:104_000] = random.Random(1).randbytes(4_000)
    whole, whole_end = cut_up(bytes(recording))
    rest, end = cut_up(bytes(recording), position=6, seconds=whole[5].end_seconds)
    assert (rest, end) == (whole[6:], whole_end)
    assert end.damaged_packets > 0


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("wav", "pcm_s16le", {}),
        ("mp3", "mp3", {}),
        ("flac", "flac", {}),
        ("matroska", "aac", {}),
        ("ipod", "aac", {"movflags": "faststart"}),
    ],
)
def test_a_file_cut_off_in_the_middle_is_used_as_far_as_it_goes(
    tmp_path: Path, container: str, codec: str, options: dict[str, str]
) -> None:
    whole = encoded_on_disk(tmp_path, container, codec, options)
    found, end = cut_up(whole[: len(whole) // 2])
    assert 10 < end.duration_seconds < 20
    assert end.duration_seconds == found[-1].end_seconds
    assert end.declared_seconds == pytest.approx(30, abs=0.1)


def encoded_on_disk(folder: Path, container: str, codec: str, options: dict[str, str]) -> bytes:
    """An index is only moved to the front of a file that can be read again."""
    whole = encoded(talk(30), container, codec, 44_100)
    if not options:
        return whole
    path = folder / "whole.m4a"
    with av.open(io.BytesIO(whole), "r") as source, av.open(path, "w", format=container, options=options) as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    return path.read_bytes()


def test_the_index_of_an_mp4_may_be_at_its_end() -> None:
    recording = encoded(beeps(12, [2.0, 9.0]), "ipod", "aac", 44_100)
    assert recording.find(b"moov") > recording.find(b"mdat")
    assert beep_times(sound_of(cut_up(recording)[0])) == pytest.approx([2.0, 9.0], abs=0.05)


def test_an_audio_track_without_sound_is_empty() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
    with pytest.raises(SourceEmpty, match=r"^recording: its audio track is empty$"):
        cut_up(file.getvalue())


def test_a_track_of_nothing_but_damage_is_no_audio() -> None:
    recording = bytearray(encoded(talk(5), "ipod", "aac", 44_100))
    start, stop = recording.find(b"mdat") + 4, recording.find(b"moov") - 4
    recording[start:stop] = b"\xff" * (stop - start)
    with pytest.raises(NotAudio, match=r"none of its \d+ packets"):
        cut_up(bytes(recording))


class FailsLater(io.BytesIO):
    """A file that can be read to a point, and not beyond."""

    failure: BaseException = OSError(5, "Input/output error")

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > 2_000_000:
            raise self.failure
        return super().read(size)


def test_a_read_that_fails_later_is_not_taken_for_the_end_of_the_file() -> None:
    recording = encoded(talk(60), "wav", "pcm_s16le", 44_100)
    with Chunking(AudioSource(FailsLater(recording), "talk.wav"), 5) as cutting:
        with pytest.raises(SourceUnreadable, match=r"^talk\.wav: reading failed: Input/output error$"):
            list(cutting)
        assert cutting.end is None


def test_a_failure_of_the_network_comes_through_as_it_is() -> None:
    class LeaseGoneError(Exception):
        pass

    file = FailsLater(encoded(talk(60), "wav", "pcm_s16le", 44_100))
    file.failure = LeaseGoneError()
    with pytest.raises(LeaseGoneError):
        cut_up(file)


def test_ctrl_c_in_the_middle_of_a_read_is_not_swallowed() -> None:
    file = FailsLater(encoded(talk(60), "wav", "pcm_s16le", 44_100))
    file.failure = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        cut_up(file)


def test_stopping_early_leaves_no_thread_and_no_open_file(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(encoded(talk(30), "wav", "pcm_s16le", 16_000))
    threads = set(threading.enumerate())
    with Chunking(AudioSource(path, "talk.wav"), 5) as cutting:
        assert next(cutting).position == 0
    assert set(threading.enumerate()) <= threads
    assert list(cutting) == []
    path.unlink()


def test_facts_are_known_before_anything_is_decoded() -> None:
    with Chunking(AudioSource(io.BytesIO(encoded(talk(12), "mp3", "mp3", 44_100)), "talk.mp3")) as cutting:
        assert cutting.facts.duration_seconds == pytest.approx(12, abs=0.01)
        assert cutting.end is None


def test_more_than_a_thousand_chunks_keep_their_order_and_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_module, "_model", lambda: None)
    minutes, tick = 19, 0.1 * np.sin(np.arange(160) * 0.4)
    sound = np.zeros(minutes * 60 * 8_000, np.int16)
    for second in range(minutes * 60):
        sound[second * 8_000 : second * 8_000 + 160] = tick * 32_767
    sound[-160:] = tick * 32_767
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setparams((1, 2, 8_000, 0, "NONE", "not compressed"))
        output.writeframes(sound.tobytes())
    found, end = cut_up(file.getvalue(), 1.0)
    assert end.chunks == len(found) > 1_000
    heard = sound_of(found)
    assert len(heard) == minutes * 60 * SAMPLE_RATE
    ticks = np.flatnonzero(np.abs(heard.reshape(-1, SAMPLE_RATE)[:, :400]).max(axis=1) > 0.05)
    assert len(ticks) == minutes * 60
    assert np.abs(heard[-400:]).max() > 0.05


def test_silent_chunks_say_so_and_others_never_do() -> None:
    found, _ = cut_up(encoded(np.concatenate([beeps(20, []), talk(12)]), "wav", "pcm_s16le", 16_000))
    silent = [chunk.speech_seconds == 0 for chunk in found]
    assert silent[:3] == [True] * 3
    assert not any(silent[4:])


def test_the_same_recording_decodes_to_the_same_samples_from_any_sample_on() -> None:
    recording = encoded(talk(30), "wav", "pcm_s16le", 44_100)
    whole = decoded(recording)
    for first in (1, 159, 16_001, 222_222, 400_001, len(whole) - 1, len(whole), len(whole) + 5):
        assert np.array_equal(decoded(recording, first), whole[first:])
