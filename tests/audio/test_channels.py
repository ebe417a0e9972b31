"""Which sound of a recording is heard: one of several tracks, one of two channels, both apart."""

from __future__ import annotations

import io
from collections.abc import Sequence

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from support.recordings import beep_times, beeps, encoded, stereo, talk

from whisper_farm.audio.chunking import Chunking, ChunkingEnd
from whisper_farm.audio.flac import decode_flac
from whisper_farm.audio.sound import SAMPLE_RATE, Waveform
from whisper_farm.audio.source import AudioSource
from whisper_farm.errors import NoAudioTrack
from whisper_farm.transcript.languages import code_of, code_of_tag
from whisper_farm.transcript.options import Channel

LEFT, RIGHT = beeps(9, [1.0, 5.0]), beeps(9, [3.0, 7.0])


def cut_up(
    recording: bytes, channel: Channel = "mix", track: str | None = None, seconds: float = 30, first: int = 0
) -> tuple[Waveform, ChunkingEnd]:
    """All of the sound, and what is said at the end."""
    with Chunking(AudioSource(io.BytesIO(recording), "recording", channel, track), seconds) as cutting:
        sound = np.concatenate([decode_flac(chunk.flac) for chunk in cutting])
    assert cutting.end is not None
    return sound, cutting.end


def tracks(sounds: Sequence[tuple[str | None, Waveform]], container: str = "matroska") -> bytes:
    """A recording with a track for each language and sound."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        streams = [output.add_stream("aac", rate=SAMPLE_RATE, layout="mono") for _ in sounds]
        for stream, (language, _) in zip(streams, sounds, strict=True):
            if language:
                stream.metadata["language"] = language
        packets = []
        for stream, (_, sound) in zip(streams, sounds, strict=True):
            for start in range(0, len(sound), 1024):
                part = sound[start : start + 1024].reshape(1, -1)
                frame = AudioFrame.from_ndarray(np.ascontiguousarray(part), format="fltp", layout="mono")
                frame.sample_rate, frame.pts = SAMPLE_RATE, start
                packets += stream.encode(frame)
            packets += stream.encode(None)
        for packet in sorted(packets, key=lambda one: one.dts * one.time_base):
            output.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [("wav", "pcm_s16le", 8_000), ("flac", "flac", 44_100), ("mp3", "mp3", 44_100), ("webm", "libopus", 48_000)],
)
def test_a_channel_is_heard_alone_or_both_apart(container: str, codec: str, rate: int) -> None:
    call = stereo(LEFT, RIGHT, container, codec, rate)
    assert beep_times(cut_up(call, "left")[0]) == pytest.approx([1.0, 5.0], abs=0.06)
    assert beep_times(cut_up(call, "right")[0]) == pytest.approx([3.0, 7.0], abs=0.06)
    both, _ = cut_up(call, "each")
    assert beep_times(both[:, 0]) == pytest.approx([1.0, 5.0], abs=0.06)
    assert beep_times(both[:, 1]) == pytest.approx([3.0, 7.0], abs=0.06)


def test_channels_apart_are_cut_where_neither_speaks_and_resume_with_the_very_same_chunks() -> None:
    call = stereo(talk(70, seed=1), -talk(70, seed=1), "flac", "flac", 16_000)
    with Chunking(AudioSource(io.BytesIO(call), "call", "each"), 20) as cutting:
        whole = list(cutting)
    third = whole[2]
    with Chunking(AudioSource(io.BytesIO(call), "call", "each"), 20, third.position, third.start_seconds) as cutting:
        assert list(cutting) == whole[2:]
    for chunk in whole[:-1]:
        assert np.abs(decode_flac(chunk.flac)[-400:]).max() < 0.01, "a word is cut in two"


@pytest.mark.parametrize("channel", ["left", "right", "each"])
def test_a_recording_of_one_channel_is_heard_whatever_is_asked_for_and_that_is_said(channel: Channel) -> None:
    sound, end = cut_up(encoded(LEFT, "wav", "pcm_s16le", 16_000), channel)
    assert sound.ndim == 1
    assert beep_times(sound) == pytest.approx([1.0, 5.0], abs=0.05)
    assert end.remarks == (f"it has one channel, so --channel {channel} makes no difference",)


def test_channels_that_cancel_each_other_out_are_said_to() -> None:
    assert cut_up(stereo(0.5 * LEFT, -0.55 * LEFT, "wav", "pcm_s16le", 16_000))[1].remarks == (
        "its two channels cancel each other out, so the right one alone was heard",
    )
    assert cut_up(stereo(LEFT, RIGHT, "wav", "pcm_s16le", 16_000))[1].remarks == ()


@pytest.mark.parametrize(("share", "cancelled"), [(0.78, False), (0.82, True)])
def test_a_mix_that_keeps_a_hundredth_of_the_louder_channel_is_a_mix(share: float, cancelled: bool) -> None:
    assert bool(cut_up(stereo(LEFT, -share * LEFT, "wav", "pcm_s16le", 16_000))[1].remarks) == cancelled


@pytest.mark.parametrize(
    ("container", "codec", "before"),
    [
        ("wav", "pcm_s16le", "silence"),
        ("mp3", "mp3", "silence"),
        ("wav", "pcm_s16le", "both alike"),
        ("flac", "flac", "both alike"),
        ("ipod", "aac", "both alike"),
        ("mp3", "mp3", "both alike"),
        ("adts", "aac", "both alike"),
        ("ac3", "ac3", "both alike"),
        ("avi", "mp3", "both alike"),
    ],
)
def test_channels_that_cancel_each_other_out_later_on_are_heard(container: str, codec: str, before: str) -> None:
    first = 0.0 * talk(30) if before == "silence" else talk(30, seed=2)
    voice = talk(30, seed=3)
    left, right = np.concatenate([first, voice]), np.concatenate([first, -voice])
    sound, end = cut_up(stereo(left, right, container, codec, 44_100))
    assert end.remarks == ("its two channels cancel each other out, so the left one alone was heard",)
    assert np.sqrt(np.mean(sound[-15 * SAMPLE_RATE :] ** 2)) > 0.05


@pytest.mark.parametrize("container", ["matroska", "mp4", "mpegts", "nut"])
def test_a_track_is_chosen_by_number_or_language_and_the_others_are_named(container: str) -> None:
    film = tracks([("ger", LEFT), ("eng", RIGHT)], container)
    sound, end = cut_up(film)
    assert beep_times(sound) == pytest.approx([1.0, 5.0], abs=0.1)
    assert end.remarks == ("this is track 1 of 2 (ger); others: 2 (eng)",)
    assert cut_up(film, track="deu")[1].remarks == end.remarks
    for wanted in ("2", "eng", "en"):
        sound, end = cut_up(film, track=wanted)
        assert beep_times(sound) == pytest.approx([3.0, 7.0], abs=0.1)
        assert end.remarks == ("this is track 2 of 2 (eng); others: 1 (ger)",)


@pytest.mark.parametrize(
    ("container", "tag", "language"),
    [
        ("mp4", "ger", "de"),
        ("matroska", "ger", "de"),
        ("mp4", None, None),
        ("matroska", None, None),
        ("mp4", "eng", "en"),
    ],
)
def test_the_language_of_a_track_is_that_of_its_tag(container: str, tag: str | None, language: str | None) -> None:
    assert AudioSource(io.BytesIO(tracks([(tag, LEFT)], container)), "recording").facts.language == language


@pytest.mark.parametrize("wanted", ["3", "fra", "fr"])
def test_a_track_that_is_not_there_is_refused_with_those_that_are(wanted: str) -> None:
    film = tracks([("ger", LEFT), (None, RIGHT)], "mp4")
    with pytest.raises(NoAudioTrack, match=rf"^recording: it has no audio track {wanted}; there are 1 \(ger\), 2 \("):
        cut_up(film, track=wanted)


@pytest.mark.parametrize(
    ("tag", "code"), [("ger", "de"), ("deu", "de"), ("de", "de"), ("de-AT", "de"), ("chi", "zh"), ("xyz", None)]
)
def test_tags_of_languages_are_those_of_whisper(tag: str, code: str | None) -> None:
    assert code_of_tag(tag) == code
    if code:
        assert code_of(tag) == code


def headerless(sound: Waveform, codec: str, rate: int) -> bytes:
    """The bare samples, as telephone systems keep them."""
    return b"".join(bytes(packet) for packet in packets_of(encoded(sound, "wav", codec, rate)))


def packets_of(recording: bytes) -> list[av.Packet]:
    with av.open(io.BytesIO(recording)) as container:
        return [packet for packet in container.demux(audio=0) if packet.size]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("call.al", "pcm_alaw"), ("CALL.ALAW", "pcm_alaw"), ("call.ul", "pcm_mulaw"), ("c.ulaw", "pcm_mulaw")],
)
def test_telephone_recordings_without_a_header_are_known_by_their_names(name: str, codec: str) -> None:
    with Chunking(AudioSource(io.BytesIO(headerless(LEFT, codec, 8_000)), name)) as cutting:
        sound = np.concatenate([decode_flac(chunk.flac) for chunk in cutting])
    assert beep_times(sound) == pytest.approx([1.0, 5.0], abs=0.05)
    assert len(sound) == pytest.approx(9 * SAMPLE_RATE, abs=1)


@pytest.mark.parametrize(
    ("raw", "codec", "rate"),
    [
        ("s16le@16000", "pcm_s16le", 16_000),
        ("s16le", "pcm_s16le", 8_000),
        ("f32le@48000", "pcm_f32le", 48_000),
        ("alaw", "pcm_alaw", 8_000),
        ("mulaw@16000", "pcm_mulaw", 16_000),
    ],
)
def test_other_recordings_without_a_header_are_read_as_they_are_said_to_be(raw: str, codec: str, rate: int) -> None:
    with Chunking(AudioSource(io.BytesIO(headerless(LEFT, codec, rate)), "call.raw", raw=raw)) as cutting:
        sound = np.concatenate([decode_flac(chunk.flac) for chunk in cutting])
    assert beep_times(sound) == pytest.approx([1.0, 5.0], abs=0.05)
    assert len(sound) == pytest.approx(9 * SAMPLE_RATE, abs=1)


def test_a_header_counts_more_than_a_name() -> None:
    with AudioSource(io.BytesIO(encoded(LEFT, "wav", "pcm_s16le", 16_000)), "call.al") as source:
        assert source.container.format.name == "wav"


def test_gsm_without_a_header_is_known_by_its_name() -> None:
    frames = (bytes([0xD0]) + bytes(32)) * 100
    with Chunking(AudioSource(io.BytesIO(frames), "call.gsm")) as cutting:
        assert sum(chunk.end_seconds - chunk.start_seconds for chunk in cutting) == pytest.approx(2.0)
