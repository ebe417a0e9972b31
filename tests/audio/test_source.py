"""Opening recordings: what they say of themselves, and one clear line for everything that is none."""

from __future__ import annotations

import io
import os
import struct
import threading
import wave
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from support.recordings import CONTAINERS, decoded, encoded, film, noise, silence, stereo, talk

from whisper_farm.audio import source as source_module
from whisper_farm.audio.chunking import Chunking
from whisper_farm.audio.source import AudioSource, SourceFacts
from whisper_farm.errors import (
    AudioError,
    NoAudioTrack,
    NotAudio,
    SourceEmpty,
    SourceMissing,
    SourceUnreadable,
)


def probe(file: str | Path | io.BytesIO, name: str) -> SourceFacts:
    with AudioSource(file, name) as source:
        return source.facts


def facts(recording: bytes) -> SourceFacts:
    return probe(io.BytesIO(recording), "recording")


@pytest.mark.parametrize(("container", "codec", "rate"), CONTAINERS)
def test_a_recording_says_what_it_is(container: str, codec: str, rate: int) -> None:
    found = facts(encoded(talk(6), container, codec, rate))
    assert found.channels == 1
    assert found.duration_seconds is not None
    if container in ("adts", "avi"):
        assert found.declared_seconds is None, "there is no header that says it, or it counts packets without sound"
    else:
        assert found.duration_seconds == pytest.approx(6, abs=0.1)
        assert found.declared_seconds == pytest.approx(found.duration_seconds, abs=0.02)


@pytest.mark.parametrize("name", ["talk.wav", "Gespräch – Teil 1.wav", "会議の録音.wav", 'it\'s "me".wav', "a b\n.wav"])
def test_paths_in_any_language_are_read(tmp_path: Path, name: str) -> None:
    if os.name == "nt" and set(name) & set('"\n'):
        pytest.skip("not a file name on Windows")
    path = tmp_path / name
    path.write_bytes(encoded(talk(1), "wav", "pcm_s16le", 16_000))
    assert probe(path, path.name).duration_seconds == pytest.approx(1)
    assert probe(str(path), path.name).duration_seconds == pytest.approx(1)


def test_a_name_that_looks_like_an_address_is_only_a_name(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing):
        probe("http://127.0.0.1:9/talk.mp3", "talk.mp3")
    with pytest.raises(SourceMissing):
        probe("concat:a.mp3|b.mp3", "talk.mp3")


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match=r"^talk\.mp3: there is no such file$"):
        probe(tmp_path / "talk.mp3", "talk.mp3")


def test_a_folder_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match=r"^talks: it is a folder"):
        probe(tmp_path, "talks")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp3")
    with pytest.raises(SourceUnreadable, match="no regular file"):
        probe(tmp_path / "pipe.mp3", "pipe.mp3")


def test_a_file_without_permission_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "talk.mp3").write_bytes(b"sound")

    def forbidden(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(SourceUnreadable, match=r"^talk\.mp3: no permission to read it$"):
        probe(tmp_path / "talk.mp3", "talk.mp3")


def test_an_empty_file_is_empty(tmp_path: Path) -> None:
    (tmp_path / "talk.mp3").touch()
    with pytest.raises(SourceEmpty, match=r"^talk\.mp3: the file is empty$"):
        probe(tmp_path / "talk.mp3", "talk.mp3")


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"only a text, and no sound anywhere in it\n" * 100,
        np.random.default_rng(1).bytes(100_000),
        bytes(100_000),
        b"%PDF-1.7\n" + bytes(5_000),
        b"PK\x03\x04" + np.random.default_rng(2).bytes(5_000),
    ],
    ids=["one byte", "text", "noise", "zeros", "pdf", "zip"],
)
@pytest.mark.parametrize("name", ["talk.mp3", "talk.wav", "talk.txt", "talk"])
def test_what_is_no_sound_is_not_audio(data: bytes, name: str) -> None:
    with pytest.raises(NotAudio, match=rf"^{name}: "):
        probe(io.BytesIO(data), name)


def test_a_picture_is_not_audio() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="image2pipe") as output:
        stream = output.add_stream("png", width=16, height=16, pix_fmt="rgb24")
        output.mux(stream.encode(av.VideoFrame(16, 16, "rgb24")))
        output.mux(stream.encode(None))
    with pytest.raises(NotAudio, match="a picture"):
        probe(file, "cover.png")


def test_a_film_without_sound_has_no_audio_track() -> None:
    with pytest.raises(NoAudioTrack, match=r"^film\.mp4: it holds no audio track$"):
        probe(io.BytesIO(film(None, 2)), "film.mp4")


@pytest.mark.parametrize(
    ("container", "own"), [("matroska", 3), ("asf", None), ("mpegts", None), ("nut", None), ("avi", None)]
)
def test_the_length_of_a_film_is_no_promise_for_its_sound(container: str, own: float | None) -> None:
    found = facts(film(talk(3), 8, container=container))
    assert found.declared_seconds == pytest.approx(own, abs=0.1), "only what the track says of itself"


@pytest.mark.parametrize("promised", [
        0x7FFFF000, 0x7FFFFFFF, 0x80000000, 2_000_000_000, 0, 0xFFFFFFFF, 4_000_000_000, 0x7FFFF024, 1_000_000_000,
        0x40000000, 0x3FFFFFFF, 0x70000000, 500_000_000, 0x10000000, 100_000_000, 0xFFFFF000,
    ])  # fmt: skip
def test_a_length_that_a_pipe_was_given_is_no_promise(promised: int) -> None:
    whole = bytearray(encoded(talk(3), "wav", "pcm_s16le", 16_000))
    at = whole.index(b"data") + 4
    whole[at : at + 4] = promised.to_bytes(4, "little")
    whole[4:8] = min(promised + at - 4, 0xFFFFFFFF).to_bytes(4, "little")
    with Chunking(AudioSource(io.BytesIO(bytes(whole)), "talk.wav")) as cutting:
        assert sum(chunk.end_seconds - chunk.start_seconds for chunk in cutting) == pytest.approx(3)
    assert cutting.end is not None
    assert cutting.end.declared_seconds == pytest.approx(3)
    assert cutting.end.damaged_packets == 0


@pytest.mark.parametrize("promised", [0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF, 1_000_000_000])
def test_a_promise_in_another_header_is_none_either(promised: int) -> None:
    whole = bytearray(encoded(talk(3), "au", "pcm_s16be", 16_000))
    whole[8:12] = promised.to_bytes(4, "big")
    assert facts(bytes(whole)).declared_seconds == pytest.approx(3, abs=0.01)


def test_a_length_that_its_bytes_cannot_hold_is_no_promise() -> None:
    whole = bytearray(encoded(talk(3), "flac", "flac", 16_000))
    whole[21:26] = bytes([whole[21] | 0x0F, 0xFF, 0xFF, 0xFF, 0xFF])
    assert facts(bytes(whole)).declared_seconds is None


@pytest.mark.parametrize(("codec", "rate"), [("pcm_s16le", 16_000), ("pcm_mulaw", 8_000), ("pcm_f32le", 48_000)])
def test_a_wav_that_is_cut_off_declares_what_its_header_says(codec: str, rate: int) -> None:
    whole = encoded(talk(10), "wav", codec, rate)
    assert facts(whole[: len(whole) // 2]).declared_seconds == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("wav", "pcm_s16le", 44_100),
        ("wav", "pcm_u8", 16_000),
        ("wav", "pcm_f32le", 48_000),
        ("mp3", "mp3", 44_100),
        ("flac", "flac", 16_000),
        ("ogg", "libopus", 48_000),
        ("ipod", "aac", 44_100),
    ],
)
def test_channels_that_cancel_each_other_out_are_heard_all_the_same(container: str, codec: str, rate: int) -> None:
    sound = talk(6)
    inverted = stereo(sound, -0.9 * sound, container, codec, rate)
    heard = decoded(inverted)
    assert np.sqrt(np.mean(heard**2)) == pytest.approx(np.sqrt(np.mean(sound**2)), rel=0.2)
    assert decoded(inverted, first=50_000).tolist() == heard[50_000:].tolist(), "wherever decoding begins"
    assert np.abs(decoded(stereo(sound, sound, container, codec, rate))).max() > 0.1


def test_silence_on_two_channels_stays_a_mix_of_both() -> None:
    with AudioSource(io.BytesIO(stereo(silence(2), silence(2), "wav", "pcm_s16le", 16_000)), "silence") as source:
        assert source.only_channel is None


def test_a_film_that_outlasts_its_sound_declares_the_sound() -> None:
    found = facts(film(talk(3), 8))
    assert found.declared_seconds == pytest.approx(3, abs=0.1)


def test_an_mp4_whose_index_is_gone_is_said_to_be_cut_off() -> None:
    whole = encoded(talk(5), "ipod", "aac", 44_100)
    with pytest.raises(NotAudio, match="cut off"):
        facts(whole[: len(whole) // 2])


def test_a_wav_that_is_cut_off_still_declares_its_whole_length() -> None:
    whole = encoded(talk(10), "wav", "pcm_s16le", 16_000)
    found = facts(whole[: len(whole) // 2])
    assert found.duration_seconds == pytest.approx(5, abs=0.1)
    assert found.declared_seconds == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF])
def test_a_wav_written_to_a_pipe_declares_no_false_length(size: int) -> None:
    whole = bytearray(encoded(talk(3), "wav", "pcm_s16le", 16_000))
    whole[4:8] = struct.pack("<I", size)
    found = facts(bytes(whole))
    assert found.declared_seconds == pytest.approx(3, abs=0.01)


def strange_wav(channels: int, rate: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(2)
        output.setframerate(16_000)
        output.writeframes(noise(1).astype("<i2").tobytes())
    data = bytearray(file.getvalue())
    data[22:24] = struct.pack("<H", channels)
    data[24:28] = struct.pack("<I", rate)
    return bytes(data)


@pytest.mark.parametrize(("channels", "rate"), [(1, 4_000_000_000), (1, 1), (100, 44_100), (60_000, 44_100)])
def test_absurd_sounds_are_refused(channels: int, rate: int) -> None:
    with pytest.raises(NotAudio, match=r"^recording: "):
        decoded(strange_wav(channels, rate))


@pytest.mark.parametrize("channels", [2, 3, 5, 6, 9, 16, 64])
def test_any_number_of_channels_becomes_one(channels: int) -> None:
    file = io.BytesIO()
    sound = (talk(2) * 20_000).astype("<i2")
    with wave.open(file, "wb") as output:
        output.setnchannels(channels)
        output.setsampwidth(2)
        output.setframerate(16_000)
        output.writeframes(np.repeat(sound[:, None], channels, axis=1).tobytes())
    heard = decoded(file.getvalue())
    assert len(heard) == len(sound)
    assert np.corrcoef(heard, sound)[0, 1] > 0.999
    assert np.abs(heard).max() > 0.05


def test_tags_in_an_old_code_page_do_no_harm() -> None:
    tag = b"TIT2\0\0\0\x08\0\0\x03Gespr\xe4c"
    header = b"ID3\x03\0\0" + bytes([0, 0, 0, len(tag)]) + tag
    assert facts(header + encoded(talk(2), "mp3", "mp3", 44_100, write_id3v1="0")).channels == 1


class Listener:
    """An HTTP server that counts who comes."""

    def __init__(self) -> None:
        self.visits: list[str] = []
        visits = self.visits

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                visits.append(self.path)
                self.send_error(404)

            def log_message(self, format: str, *values: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)


@pytest.mark.parametrize("suffix", [".mp3", ".m3u8", ".mpd", ".ffconcat", ".sdp", ""])
def test_a_file_that_points_elsewhere_opens_nothing(tmp_path: Path, suffix: str) -> None:
    secret = tmp_path / "secret.mp3"
    secret.write_bytes(encoded(talk(2), "mp3", "mp3", 44_100))
    listener = Listener()
    listener.thread.start()
    try:
        for target in (str(secret), "secret.mp3", f"file:{secret}", f"{listener.url}/secret.mp3"):
            for text in (
                f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
                f"ffconcat version 1.0\nfile '{target}'\n",
                '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
                f'<AdaptationSet mimeType="audio/mpeg"><BaseURL>{target}</BaseURL><Representation id="1"/>'
                "</AdaptationSet></Period></MPD>",
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n",
            ):
                (tmp_path / f"list{suffix}").write_text(text)
                with pytest.raises(AudioError):
                    probe(tmp_path / f"list{suffix}", f"list{suffix}")
        assert listener.visits == []
    finally:
        listener.server.shutdown()
        listener.thread.join(10)
        listener.server.server_close()


class Bottomless(io.BytesIO):
    """A file that goes on for ever and never makes sense."""

    def seek(self, offset: int, whence: int = 0) -> int:
        return 1 << 40 if whence == 2 else offset

    def read(self, size: int | None = -1) -> bytes:
        return b"\x47" + bytes((size or 1) - 1)


def test_recognising_a_file_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "PROBE_BYTES", 1 << 20)
    with pytest.raises(NotAudio, match="endless"):
        probe(Bottomless(), "endless")


class Broken(io.BytesIO):
    """A file that fails after so many bytes."""

    def __init__(self, data: bytes, good_bytes: int, failure: BaseException) -> None:
        super().__init__(data)
        self.good_bytes, self.failure = good_bytes, failure

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() + (size or 0) > self.good_bytes:
            raise self.failure
        return super().read(size)


def test_a_file_that_cannot_be_read_to_be_recognised_is_unreadable() -> None:
    with pytest.raises(SourceUnreadable, match=r"^talk\.wav: reading failed: Input/output error$"):
        probe(Broken(encoded(talk(5), "wav", "pcm_s16le", 16_000), 20, OSError(5, "Input/output error")), "talk.wav")


def test_what_a_file_object_raises_comes_through() -> None:
    class NetworkGoneError(Exception):
        pass

    with pytest.raises(NetworkGoneError):
        probe(Broken(encoded(talk(5), "wav", "pcm_s16le", 16_000), 20, NetworkGoneError()), "talk.wav")


def test_something_without_seek_is_refused() -> None:
    class Pipe(io.RawIOBase):
        def readable(self) -> bool:
            return True

    with pytest.raises(SourceUnreadable, match="seek"):
        probe(Pipe(), "talk.mp3")  # type: ignore[arg-type]
