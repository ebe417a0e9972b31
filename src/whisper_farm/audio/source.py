"""An opened recording: which audio track, what it declares, where its time begins.

Opening recognises any audio or video that FFmpeg's libraries read. It refuses all else with one clear line
that names the file. It never lets a file make them open another one: playlists and file lists
that point elsewhere are refused. It decodes nothing; see `decode.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from types import TracebackType
from typing import Self

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard

from whisper_farm.audio import containers
from whisper_farm.audio.channels import cancelling_channel
from whisper_farm.audio.length import declared_seconds, duration_seconds
from whisper_farm.audio.reader import AudioFile, ProbeOverrunError, Reader, ReadStoppedError
from whisper_farm.errors import AudioError, NoAudioTrack, NotAudio
from whisper_farm.transcript.languages import code_of_tag
from whisper_farm.transcript.options import Channel, Raw, Track

TELEPHONE_RATE = 8_000
PROBE_BYTES = 256 << 20
PROBE_SECONDS = 120.0
"""What recognising a file may cost; the index of a video of many hours is tens of megabytes."""
READ_BYTES = 128 << 10
SMALL_READ_BYTES = 4 << 10
MOST_STREAMS = 64
LOWEST_RATE, HIGHEST_RATE, MOST_CHANNELS = 1_000, 768_000, 64
MOST_FRAME_SAMPLES = 1 << 22
"""A frame larger than any real one (some four million samples) is damage, not sound."""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What a recording says of itself before anything is decoded."""

    channels: int
    duration_seconds: float | None
    """For progress; an estimate where the format has no header that says it."""
    language: str | None
    """As the track is tagged."""
    declared_seconds: float | None
    """Where the header says it: a decoded duration much shorter than this means the file was cut off."""


class AudioSource:
    """A recording opened for one pass. Use it in `with`, or close it."""

    def __init__(
        self, file: AudioFile, name: str, channel: Channel = "mix", track: Track | None = None, raw: Raw | None = None
    ) -> None:
        self.name = name
        self._wanted, self._channel, self._raw = track, channel, raw
        self.reader = Reader(file, name)
        try:
            self.container = self._open(READ_BYTES)
            if self.skips_bytes:
                self.container.close()
                self.reader.seek(0)
                self.container = self._open(SMALL_READ_BYTES)
            self.stream = self._track()
            self.facts = self._facts()
            stereo = self.facts.channels > 1
            self.cancelling = self._cancelling_channel() if channel == "mix" and self.facts.channels == 2 else None
            """The louder of two channels whose mix would be silence; None: mix them."""
            self.apart = stereo and channel == "each"
            """Whether two channels come out, which are never mixed."""
            self.only_channel = {"left": 0, "right": 1}.get(channel, self.cancelling) if stereo else None
        except BaseException:
            self.close()
            raise

    @property
    def counts_time_by_bytes(self) -> bool:
        """Whether the format has no timestamps of its own, so that lost bytes are lost time."""
        return self.container.format.name in containers.RAW_FORMATS

    @property
    def skips_bytes(self) -> bool:
        """Whether FFmpeg steps over damage in this format without a word, so that only the bytes read tell of it."""
        return self.container.format.name == "aac"

    @property
    def times_are_exact(self) -> bool:
        """Whether every packet knows the number of its first sample, so that no hole is too short to be believed."""
        return self.packets_are_independent or self.container.format.name == "flac"

    @property
    def holes_are_seen_in_bytes(self) -> bool:
        """Whether every packet says where in the file it stands, so that lost ones leave a gap there."""
        return self.container.format.name in containers.PLACED_FORMATS

    @property
    def packets_are_independent(self) -> bool:
        """Whether decoding may begin anywhere and gives the same samples: plain PCM in a plain container."""
        plain = self.container.format.name in containers.PLAIN_FORMATS
        return plain and self.stream.codec_context.name.startswith("pcm_")

    @property
    def start_seconds(self) -> float | None:
        """The timestamp that players show as 0:00, if the container knows it."""
        if self.times_are_exact:
            return float((self.stream.start_time or 0) * (self.stream.time_base or 0))
        start: int | None = self.container.start_time
        return None if start is None else start / av.time_base

    def close(self) -> None:
        """Close the container, and the file if it was given as a path."""
        if hasattr(self, "container"):
            self.container.close()
        self.reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _open(self, read_bytes: int) -> InputContainer:
        self.reader.limit(PROBE_BYTES, PROBE_SECONDS)
        form, _, rate = (self._raw or self._named()).partition("@")
        pcm = form not in ("", "gsm", "g722")
        shape = {"sample_rate": rate or str(TELEPHONE_RATE), "ch_layout": "mono"} if pcm else {}
        try:
            return av.open(
                self.reader,
                mode="r",
                format=form or None,
                # Playlists and file lists name other files and addresses; none of them may be opened.
                # No decoder but those of sound runs while the file is looked at.
                container_options={
                    "protocol_whitelist": "none",
                    "format_whitelist": form or f"{containers.FORMATS},{containers.PICTURES}",
                    "codec_whitelist": containers.CODECS,
                    "max_streams": str(MOST_STREAMS),
                    **shape,
                },
                metadata_errors="replace",
                buffer_size=read_bytes,
                timeout=(PROBE_SECONDS, None),
            )
        except (av.FFmpegError, ReadStoppedError, ValueError, RuntimeError) as failure:
            raise self._unrecognised() from failure
        finally:
            self.reader.unlimit()

    def _named(self) -> Raw:
        """How the recording is coded by its name; nothing where it has a header, or another name."""
        with_header = self.reader.head.startswith(containers.HEADERS) or self.reader.head[4:8] == b"ftyp"
        return "" if with_header else containers.HEADERLESS.get(PurePath(self.name).suffix.lower(), "")

    def _unrecognised(self) -> AudioError:
        try:
            self.reader.raise_failure()
        except ProbeOverrunError:
            return NotAudio(f"{self.name}: not recognised within {PROBE_BYTES >> 20} MB and {PROBE_SECONDS:.0f} s")
        if self.reader.head[4:8] == b"ftyp":
            return NotAudio(f"{self.name}: the index of this MP4 file is missing or damaged; the file seems cut off")
        headerless = "; if it is sound without a header, say how it is coded: --raw s16le@8000"
        hint = headerless if PurePath(self.name).suffix.lower() in (".raw", ".pcm", ".bin") else ""
        return NotAudio(f"{self.name}: it is no audio or video file that FFmpeg's libraries can read{hint}")

    def _track(self) -> AudioStream:
        container, streams = self.container, self.container.streams
        form = container.format.name
        if form == "tty" or form.endswith("_pipe"):
            raise NotAudio(f"{self.name}: it is a text or a picture, no audio or video file")
        if not streams.audio:
            raise NoAudioTrack(f"{self.name}: it holds no audio track")
        best = self._chosen() or streams.best("audio") or streams.audio[0]
        for stream in streams:
            if stream.index != best.index and not self.holes_are_seen_in_bytes:
                stream.discard = Discard.all
        if not isinstance(best, AudioStream) or best.codec_context is None:
            raise NotAudio(f"{self.name}: there is no decoder for its audio track")
        best.codec_context.options = {"max_samples": str(MOST_FRAME_SAMPLES)}
        return best

    def _chosen(self) -> AudioStream | None:
        """The track that is asked for, by number or by language; None where none is."""
        if self._wanted is None:
            return None
        tracks, wanted = self._tracks, self._wanted
        for number, (stream, language) in enumerate(tracks, 1):
            if wanted in (str(number), language) or (language and code_of_tag(wanted) == code_of_tag(language)):
                return stream
        there = ", ".join(f"{number} ({language or 'no language'})" for number, (_, language) in enumerate(tracks, 1))
        raise NoAudioTrack(
            f"{self.name}: it has no audio track {wanted}; there {'is' if len(tracks) == 1 else 'are'} {there}"
        )

    def _language(self) -> str | None:
        """The language of the track's tag. Matroska's is English where there is no tag at all, so that says nothing."""
        code = code_of_tag(self.language_tag or "")
        return None if code == "en" and self.container.format.name.startswith("matroska") else code

    def remarks(self) -> tuple[str, ...]:
        """What whoever wants the transcript should know of how the recording was read."""
        said = []
        tracks = [f"{number} ({language or 'no language'})" for number, (_, language) in enumerate(self._tracks, 1)]
        if len(tracks) > 1:
            at = 1 + [stream.index for stream, _ in self._tracks].index(self.stream.index)
            others = ", ".join(tracks[: at - 1] + tracks[at:])
            said.append(f"this is track {at} of {len(tracks)} ({self.language_tag or 'no language'}); others: {others}")
        if self.cancelling is not None:
            side = ("left", "right")[self.cancelling]
            said.append(f"its two channels cancel each other out, so the {side} one alone was heard")
        if self._channel != "mix" and self.facts.channels == 1:
            said.append(f"it has one channel, so --channel {self._channel} makes no difference")
        return tuple(said)

    @property
    def language_tag(self) -> str | None:
        """The language that the track says it is in, as it is written there."""
        return _tag(self.stream)

    @property
    def _tracks(self) -> list[tuple[AudioStream, str | None]]:
        return [(stream, _tag(stream)) for stream in self.container.streams.audio]

    def _cancelling_channel(self) -> int | None:
        """Listen to the beginning; then open the recording anew, so that decoding begins where it always does."""
        size = self.reader.size if self.counts_time_by_bytes else 0
        try:
            found = cancelling_channel(self.container, self.stream, self.facts.duration_seconds or 0.0, size)
        except ReadStoppedError:
            self.reader.raise_failure()
            raise
        read_bytes = SMALL_READ_BYTES if self.skips_bytes else READ_BYTES
        self.container.close()
        self.reader.seek(0)
        self.container = self._open(read_bytes)
        self.stream = self._track()
        return found

    def _facts(self) -> SourceFacts:
        context = self.stream.codec_context
        rate, channels = context.sample_rate, context.channels
        if not bearable(rate or LOWEST_RATE, channels or 1):
            raise NotAudio(f"{self.name}: a sound of {channels} channels at {rate} Hz is beyond what is accepted")
        duration = duration_seconds(self.container, self.stream, self.start_seconds)
        return SourceFacts(
            channels=channels,
            language=self._language(),
            duration_seconds=duration,
            declared_seconds=declared_seconds(self.container, self.stream, self.reader, duration),
        )


def bearable(sample_rate: int, channels: int) -> bool:
    """Whether sound of this shape is decoded at all."""
    return LOWEST_RATE <= sample_rate <= HIGHEST_RATE and 1 <= channels <= MOST_CHANNELS


def _tag(stream: AudioStream) -> str | None:
    language: str | None = stream.language or stream.metadata.get("language")
    return language.lower() if language and language.lower() not in ("und", "unk", "mul", "zxx") else None
