"""One pass over a recording: packets in, blocks of 16 kHz mono sound out, in constant memory.

A packet that does not decode is skipped, counted and noted with its place; the silence that takes its
place keeps the times of everything after it. What comes out from a sample on is the same
whether decoding began there or at the start of the file: plain PCM is sought, everything else is
decoded from the start (but not resampled), because decoders remember and damage must be counted.

Times are those that players show: 0 is where the container begins. Sound follows sound without a seam
as long as timestamps agree with it (they are often rounded to milliseconds). A hole is kept as silence,
so that everything after it stays at its time. Timestamps that run backwards cost no sound: it goes on, and
the next hole pays for the overlap. A jump that no recording makes starts a new count, so a hostile file
cannot ask for years of silence.
"""

from __future__ import annotations

from collections.abc import Iterator

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet

from whisper_farm.audio.containers import MP4
from whisper_farm.audio.damage import MOST_LAG_BYTES, BytesBetween, DamageLog, LostBytes, is_filling, is_torn
from whisper_farm.audio.reader import ReadStoppedError
from whisper_farm.audio.resample import Stretch, silence
from whisper_farm.audio.sound import SAMPLE_RATE, Waveform
from whisper_farm.audio.source import AudioSource, bearable
from whisper_farm.errors import NotAudio, SourceEmpty

MOST_READ_ERRORS = 100
"""Errors of the container in a row, without a packet between them, that end the file."""
HOLE_SECONDS = 0.5
"""A hole in timestamps that are only roughly right is damage from here on; shorter ones are pauses in sending."""
LOST_SHARE = 0.4
"""Of the bytes that a hole should have held: fewer between its edges, and it is a pause and no damage."""
EXACT_SECONDS = 1e-3
"""What timestamps may be off where they are exact, or where damage has just left a hole."""
SEEK_FROM_SECONDS = 10.0
TOLERANCE_SECONDS = 0.1
"""Timestamps may disagree with the sound by so much before a hole is believed."""
LONGEST_HOLE_SECONDS = 3_600.0
MOST_SILENCE_SECONDS = 86_400.0
LONGEST_OVERLAP_SECONDS = 10.0
_SEEK_EARLY_SECONDS = 2.0


class Decoding:
    """The sound of a source from output sample `first` on, at `rate` samples a second.

    `damage` is complete when `blocks` ends.
    """

    def __init__(self, source: AudioSource, first: int = 0, rate: int = SAMPLE_RATE) -> None:
        self.damage = DamageLog()
        self._source, self._stream, self._first, self._rate = source, source.stream, first, rate
        self._exact, self._skips = source.times_are_exact, source.skips_bytes
        self._time_base = float(source.stream.time_base or 0)
        self._timeline = Timeline(source.start_seconds)
        self._stretch: Stretch | None = None
        self._lost = LostBytes() if source.counts_time_by_bytes else None
        self._after_damage = self._sought = False
        self._frames = 0
        self._reached = 0
        self._place = -1
        """Of the newest packet, in the file."""
        self._between = BytesBetween() if source.holes_are_seen_in_bytes else None

    def blocks(self) -> Iterator[Waveform]:
        """Decode. Raises what reading the file raises, and an `AudioError` where there is no sound at all."""
        self._sought = self._seek()
        try:
            for packet in self._packets():
                for frame in self._frames_of(packet):
                    yield from self._put(frame)
            yield from self._close_stretch()
        except av.FFmpegError as failure:
            raise NotAudio(f"{self._source.name}: its sound cannot be resampled: {failure.strerror}") from failure
        self._source.reader.raise_failure()
        if not self._frames and not self._first:
            raise self._silent_file()

    def _seek(self) -> bool:
        seconds = self._first / self._rate - _SEEK_EARLY_SECONDS
        if not self._source.packets_are_independent or seconds < SEEK_FROM_SECONDS or not self._time_base:
            return False
        stamp = (self._source.start_seconds or 0.0) + seconds
        try:
            self._source.container.seek(int(stamp / self._time_base), stream=self._stream)
        except (av.FFmpegError, ReadStoppedError):
            self._source.reader.raise_failure()
            return False
        return True

    def _packets(self) -> Iterator[Packet[AudioStream] | None]:
        """All packets of the track, then None for what the decoder still holds."""
        errors = 0
        while errors < MOST_READ_ERRORS:
            try:
                for packet in self._source.container.demux(*([] if self._between else [self._stream])):
                    errors = 0 if packet.size else errors
                    if packet.stream_index == self._stream.index and packet.size:
                        yield packet  # type: ignore[misc]  # the stream is one of sound
                    elif self._between:
                        self._between.taken += packet.size
                break
            except (av.FFmpegError, ReadStoppedError, IndexError):
                self._source.reader.raise_failure()
                errors += 1
        yield None

    def _frames_of(self, packet: Packet[AudioStream] | None) -> list[AudioFrame]:
        self._look_for_lost_bytes(packet)
        if packet is not None:
            self._place = packet.pos if packet.pos is not None else -1
            if self._between:
                self._between.take(self._place, packet.size)
        try:
            frames = self._stream.codec_context.decode(packet)
        except av.FFmpegError:
            if packet is not None:
                self._skip(packet)
            return []
        if packet is not None:
            # The last block of plain PCM may be short: its length is what is there.
            if packet.is_corrupt and not self._source.packets_are_independent:
                self._note(packet, self._seconds(packet.duration))
            if self._lost:
                self._lost.decoded(packet.size, self._seconds(packet.duration))
        return [frame for frame in frames if frame.samples]

    def _is_loss(self, hole: float, position: float) -> bool:
        """Whether the file lost what a hole in time should have held; a gap that somebody cut held nothing."""
        if position <= self.damage.end + HOLE_SECONDS:
            return True
        if self._between and position > 0:
            return self._between.lost > max(MOST_LAG_BYTES, LOST_SHARE * hole * self._between.passed / position)
        if self._source.container.format.name == "mpegts":
            return is_torn(self._source.reader, self._place, self._stream.id)
        return bool(self._source.container.format.name != MP4)  # whose times are those of an index

    def _skip(self, packet: Packet[AudioStream]) -> None:
        duration = self._seconds(packet.duration)
        if self._lost and is_filling(bytes(packet), (packet.pos or 0) + packet.size >= self._source.reader.size):
            self._lost.shift -= duration
            return
        length = self._lost.lasted(packet.size, duration) if self._lost else duration
        self._note(packet, length)
        if self._lost:
            self._lost.shift += length - duration
        self._after_damage = True

    def _look_for_lost_bytes(self, packet: Packet[AudioStream] | None) -> None:
        if not self._lost or packet is None:
            return
        if self._skips and (skipped := self._lost.skipped(self._source.reader.tell())):
            self._note(packet, skipped)
            self._lost.shift += skipped
            self._after_damage = True
        self._lost.take(packet.size)

    def _note(self, packet: Packet[AudioStream], length: float) -> None:
        stamp = packet.pts if packet.pts is not None else packet.dts
        start = self._position if stamp is None else self._timeline.time_of(self._stamp(stamp))
        self.damage.add(start, start + length)

    def _put(self, frame: AudioFrame) -> Iterator[Waveform]:
        if not bearable(frame.sample_rate, frame.layout.nb_channels):
            self.damage.add(self._position, self._position)
            return
        self._frames += 1
        stamp = None if frame.pts is None else self._stamp(frame.pts)
        if self._stretch is None:
            self._stretch = self._first_stretch(frame, stamp)
        hole = self._hole(stamp)
        if hole or not self._stretch.fits(frame):
            yield from self._begin_again(frame, hole)
        yield from self._stretch.push(frame)
        self._after_damage = False

    def _first_stretch(self, frame: AudioFrame, stamp: float | None) -> Stretch:
        stretch = self._new_stretch(frame, 0)
        if self._sought and stamp is not None:
            stretch.count = min(stretch.begin, round(self._timeline.time_of(stamp) * frame.sample_rate))
        return stretch

    def _hole(self, stamp: float | None) -> float:
        position = self._position
        tolerance = EXACT_SECONDS if self._exact or self._after_damage else TOLERANCE_SECONDS
        hole = self._timeline.silence_before(stamp, position, tolerance)
        told = hole > HOLE_SECONDS or (self._exact and hole)
        if self._frames > 1 and told and self._is_loss(hole, position):
            self.damage.add(position, position + hole, packets=0 if self._after_damage else 1)
        return hole

    def _begin_again(self, frame: AudioFrame, hole: float) -> Iterator[Waveform]:
        before = self._position
        yield from self._close_stretch()
        base = max(self._reached, round((before + hole) * self._rate)) if hole else self._reached
        yield from silence(max(self._reached, self._first), base, self._source.apart)
        self._stretch = self._new_stretch(frame, base)

    def _new_stretch(self, frame: AudioFrame, base: int) -> Stretch:
        return Stretch(frame, base, self._first, self._source.only_channel, self._source.apart, self._rate)

    def _close_stretch(self) -> Iterator[Waveform]:
        if self._stretch is not None:
            yield from self._stretch.finish()
            self._reached = self._stretch.end

    @property
    def _position(self) -> float:
        return self._stretch.seconds if self._stretch else 0.0

    def _stamp(self, stamp: int) -> float:
        return stamp * self._time_base + (self._lost.shift if self._lost else 0.0)

    def _seconds(self, duration: int | None) -> float:
        return (duration or 0) * self._time_base

    def _silent_file(self) -> NotAudio | SourceEmpty:
        name = self._source.name
        if self.damage.packets:
            return NotAudio(f"{name}: none of its {self.damage.packets} packets of sound can be decoded")
        return SourceEmpty(f"{name}: its audio track is empty")


class Timeline:
    """Decides for every frame how many seconds of silence come before it."""

    def __init__(self, start_seconds: float | None) -> None:
        self._start = start_seconds
        self._begun = False
        self._silence_left = MOST_SILENCE_SECONDS

    def time_of(self, stamp: float) -> float:
        """The time of a timestamp; never negative."""
        return max(0.0, stamp - (self._start if self._start is not None else stamp))

    def silence_before(self, stamp: float | None, position: float, tolerance: float = TOLERANCE_SECONDS) -> float:
        """Seconds of silence between `position`, where the sound so far ends, and a frame stamped `stamp`."""
        if stamp is None:
            return 0.0
        if not self._begun:  # a container's start that is later than its first frame is wrong
            self._begun = True
            self._start = stamp if self._start is None else min(self._start, stamp)
        assert self._start is not None
        hole = stamp - self._start - position
        if not -LONGEST_OVERLAP_SECONDS <= hole <= min(LONGEST_HOLE_SECONDS, self._silence_left):
            self._start += hole
            return 0.0
        if hole <= tolerance:
            return 0.0
        self._silence_left -= hole
        return hole
