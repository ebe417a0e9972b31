"""Two channels that are kept apart: each is recognised as a chunk of its own, and its speaker is named after it.

Promises: what comes back is in order of time. A chunk of one channel comes back as the engine gave it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from whisper_farm.engines.engine import ChunkAudio, Engine, Recognition
from whisper_farm.transcript.options import RecognitionOptions

SPEAKERS = ("Left", "Right")


def recognise(
    engine: Engine, chunks: Sequence[ChunkAudio], options: RecognitionOptions, cancelled: Callable[[int], bool]
) -> Iterator[tuple[int, Recognition]]:
    """As `Engine.recognise`, for chunks of one channel or of two."""
    parts = [(index, speaker, part) for index, chunk in enumerate(chunks) for speaker, part in _channels(chunk)]
    heard: dict[int, dict[str | None, Recognition]] = {}
    answers = engine.recognise([part for *_, part in parts], options, lambda place: cancelled(parts[place][0]))
    for place, recognition in answers:
        index, speaker, _ = parts[place]
        both = heard.setdefault(index, {})
        both[speaker] = recognition
        if speaker is None:
            yield index, recognition
        elif len(both) == len(SPEAKERS):
            yield index, _together(both)


def _channels(chunk: ChunkAudio) -> Iterator[tuple[str | None, ChunkAudio]]:
    if chunk.audio.ndim == 1:
        yield None, chunk
    else:
        for number, speaker in enumerate(SPEAKERS):
            yield speaker, replace(chunk, audio=chunk.audio[:, number].copy())


def _together(heard: Mapping[str | None, Recognition]) -> Recognition:
    """Both in one: what whoever speaks more speaks is the language of the chunk."""
    most = max(heard.values(), key=lambda one: sum(len(segment.text) for segment in one.segments))
    said = [replace(segment, speaker=speaker) for speaker, one in heard.items() for segment in one.segments]
    unheard = sorted(stretch for one in heard.values() for stretch in one.unheard)
    return replace(most, segments=tuple(sorted(said, key=lambda segment: segment.start)), unheard=tuple(unheard))
