"""Where to cut: a pure function of the sound from a chunk's own start.

Chunks tile the recording: every sample is in exactly one. A chunk is at most `chunk_seconds` long, and ends
at the best pause in the last fifth of that window. For Whisper pays for a full window whether it is full
or not. It ends farther back only when there is no pause there. A pause is a place of 200 ms far quieter than the
speech around it; when nothing is (music under the voice, noise), the speech model is asked; when that hears
no pause either, the quietest place has to do. Nothing is carried from chunk to chunk, so cutting that was
interrupted goes on exactly as it would have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from whisper_farm.audio.sound import HOP, SAMPLE_RATE, SILENT_DB, Levels, Waveform, decibels, either, powers, samples_of
from whisper_farm.audio.speech import FRAME, speech_probabilities

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
_MODEL_WARM_UP = SAMPLE_RATE
_SHARES = (5, 2)
"""Look in the last fifth of the window, then in its later half."""


def cut(blocks: Iterable[Waveform], chunk_seconds: float) -> Iterator[Waveform]:
    """The chunks of a stream of blocks, in order; together they are the stream, sample for sample."""
    window = samples_of(chunk_seconds)
    ahead = window + shortest_tail(window)
    held: list[Waveform] = []
    length = 0
    for block in blocks:
        held.append(block)
        length += len(block)
        while length >= ahead:
            sound = np.concatenate(held)
            end = cut_point(either(sound), window)
            yield sound[:end]
            held, length = [sound[end:]], length - end
    sound = np.concatenate(held) if held else np.zeros(0, np.float32)
    while len(sound):
        end = cut_point(either(sound), window)
        yield sound[:end]
        sound = sound[end:]


def shortest_tail(window: int) -> int:
    """How much must be left over when the recording ends soon after a cut: a scrap is recognised badly."""
    return window // 10


def cut_point(sound: Waveform, window: int) -> int:
    """Where the chunk that begins with `sound` ends.

    `sound` must hold `window + shortest_tail(window)` samples, or all that are left if they are fewer.
    Whatever follows those samples makes no difference.
    """
    if len(sound) <= window:
        return len(sound)
    latest = min(window, len(sound) - shortest_tail(window))
    power = powers(sound[:latest])
    for share in _SHARES:
        earliest = latest - window // share
        found = _clear_pause(power, earliest) or _heard_pause(sound[:latest], earliest)
        if found:
            return found
    return _quietest(power, latest - window // _SHARES[-1])


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


def _heard_pause(sound: Waveform, earliest: int) -> int | None:
    """A place in the longest stretch in which the speech model hears nobody speak."""
    begin = max(0, earliest - _MODEL_WARM_UP)
    probabilities = speech_probabilities(sound[begin:])
    if probabilities is None:
        return None
    skipped = -((begin - earliest) // FRAME)
    whole = (len(sound) - begin) // FRAME
    start, end = _longest_run(probabilities[skipped:whole] < NO_SPEECH)
    if end - start < _PAUSE_FRAMES:
        return None
    return _place_in(begin + (skipped + start) * FRAME, begin + (skipped + end) * FRAME)


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


def _longest_run(wanted: NDArray[np.bool_]) -> tuple[int, int]:
    """`[begin, end)` of the longest run of True; the last of equals; empty where there is none."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wanted, [False]])))
    if not len(edges):
        return 0, 0
    begins, ends = edges[::2], edges[1::2]
    best = len(begins) - 1 - int(np.argmax((ends - begins)[::-1]))
    return int(begins[best]), int(ends[best])
