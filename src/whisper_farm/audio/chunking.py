"""A recording as a stream of encoded chunks: the whole work of a chunk job.

One pass, constant memory, the first chunk as soon as its window is decoded. The chunks are a pure
function of the recording and `chunk_seconds`. It may be started again with the position and end of the last
chunk that is safe. Then it yields exactly the chunks that an undisturbed run yields from there.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from whisper_farm.audio.cuts import cut
from whisper_farm.audio.decode import Decoding
from whisper_farm.audio.flac import encode
from whisper_farm.audio.sound import Waveform, either, samples_of, seconds_of
from whisper_farm.audio.source import AudioSource, SourceFacts
from whisper_farm.audio.speech import speech_seconds

ENCODE_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """One chunk `[start_seconds, end_seconds)` of the recording, as FLAC."""

    position: int
    start_seconds: float
    end_seconds: float
    speech_seconds: float
    """About how much of it is speech; 0 only if it is silence from end to end."""
    flac: bytes


@dataclass(frozen=True, slots=True)
class ChunkingEnd:
    """What there is to say when the recording is cut to its end."""

    duration_seconds: float
    """As decoded: where the last chunk ends."""
    declared_seconds: float | None
    """As the file's header says; None where it says nothing."""
    chunks: int
    damaged_packets: int
    damaged_seconds: tuple[tuple[float, float], ...]
    remarks: tuple[str, ...] = ()
    """What whoever wants the transcript should know of how the recording was read."""


class Chunking:
    """An iterator over the chunks of one recording; `facts` is known at once, `end` after the last chunk.

    Iterating raises an `AudioError` that names the recording if it cannot be used. What its file raises while it is
    read comes through as it is (an `OSError` as `SourceUnreadable`).
    """

    def __init__(
        self,
        source: AudioSource,
        chunk_seconds: float = 30.0,
        resume_position: int = 0,
        resume_seconds: float = 0.0,
        end_seconds: float | None = None,
    ) -> None:
        """`resume_*` are the position after, and the end of, the last chunk that is safe.

        With `end_seconds` only what comes before is cut. The source is closed with this.
        """
        self.facts: SourceFacts = source.facts
        self.expected_seconds = _at_most(source.facts.duration_seconds, end_seconds)
        """Where it will end, for progress; None where nobody knows."""
        self.end: ChunkingEnd | None = None
        self._source, self._end_seconds = source, end_seconds
        self._chunks = self._cut(chunk_seconds, resume_position, samples_of(resume_seconds))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> EncodedChunk:
        return next(self._chunks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop, and close what was opened. Done by itself after the last chunk."""
        self._chunks.close()
        self._source.close()

    def _cut(self, chunk_seconds: float, position: int, start: int) -> Generator[EncodedChunk, None, None]:
        decoding = Decoding(self._source, first=start)
        blocks = decoding.blocks()
        if self._end_seconds is not None:
            blocks = _limited(blocks, samples_of(self._end_seconds) - start)
        for chunk in _encoded(cut(blocks, chunk_seconds), position, start):
            position, start = chunk.position + 1, samples_of(chunk.end_seconds)
            yield chunk
        self.end = ChunkingEnd(
            duration_seconds=seconds_of(start),
            declared_seconds=_at_most(self.facts.declared_seconds, self._end_seconds),
            chunks=position,
            damaged_packets=decoding.damage.packets,
            damaged_seconds=decoding.damage.seconds(seconds_of(start)),
            remarks=self._source.remarks(),
        )
        self._source.close()


def _at_most(seconds: float | None, most: float | None) -> float | None:
    return seconds if seconds is None or most is None else min(seconds, most)


def _limited(blocks: Iterator[Waveform], samples: int) -> Iterator[Waveform]:
    """The first samples of a stream; the rest is not decoded."""
    while samples > 0 and (block := next(blocks, None)) is not None:
        yield block[:samples]
        samples -= len(block)


def _encoded(pieces: Iterable[Waveform], position: int, start: int) -> Iterator[EncodedChunk]:
    """Encode on a second thread, one chunk behind the decoder: FFmpeg's libraries need no Python lock."""
    with ThreadPoolExecutor(1, "whisper-farm-encode") as encoder:
        waiting: Future[EncodedChunk] | None = None
        for samples in pieces:
            done, waiting = waiting, encoder.submit(_encode, samples, position, start)
            position, start = position + 1, start + len(samples)
            if done:
                yield done.result(ENCODE_TIMEOUT_SECONDS)
        if waiting:
            yield waiting.result(ENCODE_TIMEOUT_SECONDS)


def _encode(samples: Waveform, position: int, start: int) -> EncodedChunk:
    end = start + len(samples)
    return EncodedChunk(position, seconds_of(start), seconds_of(end), speech_seconds(either(samples)), encode(samples))
