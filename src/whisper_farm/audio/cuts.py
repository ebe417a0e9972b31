"""Where to cut: a pure function of the sound from a chunk's own start.

Chunks tile the recording: every sample is in exactly one. A chunk holds at most `chunk_seconds` of what packing keeps,
for Whisper pays for a full window whether it is full or not. So it spans more of the recording where nobody speaks for
a while, `longest_seconds` at most. Of windows shorter than ten seconds a recogniser may keep a little more: it has less
sound to know a voice by than the cutter.

A chunk ends at the best pause in the last tenth of what it may hold, farther back only when there is no pause there. A
pause is a place of 200 ms far quieter than the speech around it. When nothing is (music under the voice, noise), the
speech model is asked; when that hears no pause either, the quietest place has to do. Where nobody is heard to speak at
all, the clock counts. Nothing is carried from chunk to chunk, so cutting that was interrupted goes on exactly as it
would have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from whisper_farm.audio.packing import Packing, packing_of
from whisper_farm.audio.sound import (
    HOP,
    SAMPLE_RATE,
    SILENT_DB,
    Levels,
    Waveform,
    decibels,
    either,
    powers,
    samples_of,
    seconds_of,
)
from whisper_farm.audio.speech import FRAME, SpeechDetector, normalised
from whisper_farm.transcript.options import longest_seconds

PAUSE_HOPS = 20
"""A pause lasts at least 200 ms: the silence inside a consonant does not."""
CLEAR_DB = 30.0
"""A pause that is so far below the loud parts of the chunk needs no second opinion; at 25 dB some are consonants."""
ALIKE_DB = 6.0
"""Places this close to the quietest are as good; the longest pause among them is best."""
NO_SPEECH = 0.35
"""Below this probability a frame is no speech."""
MARGIN = SAMPLE_RATE // 2
"""Silence enough before the next word."""
_PAUSE_FRAMES = 7
_FULL_SHARE = 60
"""A chunk is full when less than this part of its window is free."""
_SHARES = ((10, False), (5, True), (2, True))
"""Look in the last tenth of the window, then in its last fifth, then in its later half; is the speech model asked?"""

Sound = Callable[[int], Waveform]
"""The first samples from a chunk's start, so many as are asked for, or all that are left."""
Probabilities = NDArray[np.float32]


class _Stream:
    """A stream of blocks, of which the beginning can be looked at before it is taken."""

    def __init__(self, blocks: Iterable[Waveform]) -> None:
        self._blocks = iter(blocks)
        self._sound = np.zeros(0, np.float32)

    def first(self, length: int) -> Waveform:
        """The first samples that were not taken yet, or all that are left."""
        held = [self._sound] if len(self._sound) else []
        missing = length - len(self._sound)
        while missing > 0 and (block := next(self._blocks, None)) is not None:
            held.append(block)
            missing -= len(block)
        if held:
            self._sound = np.concatenate(held) if len(held) > 1 else held[0]
        return self._sound[:length]

    def take(self, length: int) -> Waveform:
        """The first samples; the stream begins behind them now."""
        taken, self._sound = self._sound[:length], self._sound[length:]
        return taken


def cut(blocks: Iterable[Waveform], chunk_seconds: float) -> Iterator[Waveform]:
    """The chunks of a stream of blocks, in order; together they are the stream, sample for sample."""
    stream = _Stream(blocks)
    window, longest = samples_of(chunk_seconds), samples_of(longest_seconds(chunk_seconds))
    while len(stream.first(1)):
        yield stream.take(cut_point(lambda length: either(stream.first(length)), window, longest))


def shortest_tail(window: int) -> int:
    """How much must be left over when the recording ends soon after a cut: a scrap is recognised badly."""
    return window // 10


def cut_point(sound: Sound, window: int, longest: int) -> int:
    """Where the chunk that begins with `sound` ends.

    It looks at `longest + shortest_tail(window)` samples at most. Whatever follows makes no difference.
    """
    if len(sound(window + 1)) <= window:
        return len(sound(window))
    probabilities, reach = _full(sound, window, longest)
    ahead = sound(reach + shortest_tail(window))
    if len(ahead) <= reach:
        return len(ahead)
    latest = min(reach, len(ahead) - shortest_tail(window))
    power = powers(ahead[:latest])
    for share, ask in _SHARES:
        earliest = _earliest(probabilities, latest, window // share)
        found = _clear_pause(power, earliest) or (ask and _heard_pause(probabilities, earliest, latest))
        if found:
            return found
    return _quietest(power, earliest)


def _full(sound: Sound, window: int, longest: int) -> tuple[Probabilities, int]:
    """How far a chunk reaches that is full of speech, or as long as it may be; and the speech in it, by frames."""
    detector = SpeechDetector()
    heard, reach = np.zeros(0, np.float32), window // FRAME * FRAME
    while True:
        done = len(heard) * FRAME
        more = detector.hear(normalised(sound(reach))[done:])
        if more is None:
            return heard, max(reach, window)
        heard = np.concatenate([heard, more])
        packing = packing_of(heard, reach)
        kept = packing.length
        if kept > window:
            return heard, _in_the_recording(packing, window)
        free = (window - kept) // FRAME * FRAME
        further = min(reach + free, longest // FRAME * FRAME)
        if not kept or free * _FULL_SHARE < window or further == reach or len(sound(reach + 1)) <= reach:
            return heard, max(reach, window)
        reach = further


def _earliest(probabilities: Probabilities, latest: int, share: int) -> int:
    """From where on packing keeps such a share of a window before `latest`; by the clock where it keeps less."""
    packing = packing_of(probabilities[: latest // FRAME], latest)
    if packing.length <= share:
        return latest - share
    return _in_the_recording(packing, packing.length - share)


def _in_the_recording(packing: Packing, sample: int) -> int:
    """The sample that became this one of the packed sound."""
    at = seconds_of(sample)
    return samples_of(packing.unpacked(at, at)[0])


def _clear_pause(power: Levels, earliest: int) -> int | None:
    """A place in the longest clear pause, of places that are nearly as quiet as the quietest."""
    first, levels = _pause_levels(power, earliest)
    loud = float(np.percentile(decibels(power), 90))
    quietest = float(levels.min())
    clear = max(loud - CLEAR_DB, SILENT_DB)
    if quietest > clear:
        return None
    begin, end = _longest_run(levels <= min(quietest + ALIKE_DB, clear))
    return _place_in((first + begin) * HOP, (first + end - 1 + PAUSE_HOPS) * HOP)


def _heard_pause(probabilities: Probabilities, earliest: int, latest: int) -> int | None:
    """A place in the longest stretch that reaches behind `earliest` in which the speech model hears nobody speak."""
    start, end = _longest_run(probabilities[: latest // FRAME] < NO_SPEECH, earliest // FRAME)
    if end - start < _PAUSE_FRAMES:
        return None
    return _place_in(start * FRAME, end * FRAME)


def _place_in(begin: int, end: int) -> int:
    """The middle of a pause; of a long one a place near its end, so that chunks are full."""
    return max((begin + end) // 2, end - MARGIN)


def _quietest(power: Levels, earliest: int) -> int:
    first, levels = _pause_levels(power, earliest)
    return (first + int(levels.argmin())) * HOP + PAUSE_HOPS * HOP // 2


def _pause_levels(power: Levels, earliest: int) -> tuple[int, Levels]:
    """The level of every 200 ms that begin at or after `earliest`, and the hop of the first."""
    first = max(0, min(-(-earliest // HOP), len(power) - PAUSE_HOPS))
    sums = np.cumsum(power[first:], dtype=np.float64)
    sums[PAUSE_HOPS:] -= sums[:-PAUSE_HOPS].copy()
    return first, decibels((sums[PAUSE_HOPS - 1 :] / PAUSE_HOPS).astype(np.float32))


def _longest_run(wanted: NDArray[np.bool_], behind: int = -1) -> tuple[int, int]:
    """`[begin, end)` of the longest run of True that ends behind a place; the last of equals; empty without any."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wanted, [False]])))
    begins, ends = edges[::2], edges[1::2]
    begins, ends = begins[ends > behind], ends[ends > behind]
    if not len(ends):
        return 0, 0
    best = len(begins) - 1 - int(np.argmax((ends - begins)[::-1]))
    return int(begins[best]), int(ends[best])
