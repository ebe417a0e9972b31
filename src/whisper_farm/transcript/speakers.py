"""Who says what: voices that are alike are one speaker, and every word is given to a speaker.

Promises: how many speakers there are is found out, within the bounds that were given. The same voices give the same
speakers, however many chunks they came in. No word is lost or changed. A segment in which speakers change becomes
several. Time grows in proportion to the recording: ten hours take seconds.
Does not hear two who speak at once, and may miss a word or two of somebody inside the turn of another.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from whisper_farm.transcript.cues import SENTENCE_ENDS
from whisper_farm.transcript.options import MOST_SPEAKERS
from whisper_farm.transcript.transcript import Segment, text_of

ALIKE = 0.41
"""Groups whose voices have at least this cosine on the average are one speaker."""
SAME = 0.68
"""Groups are one speaker, too, if the means of their voices have this cosine: what differs in windows is evened out."""
ALIKE_BY_TELEPHONE, SAME_BY_TELEPHONE = 0.46, 0.78
"""Where a whole recording is narrow: voices are more alike then, those of different people most of all."""
STEP, STRICTEST = 0.03, 0.9
"""Where too few speakers are found, groups must be more alike than that, by so much at a time, up to this."""
SURE_SECONDS = 1.0
"""Shorter windows say too little to find speakers by."""
LEAST_WINDOWS, LEAST_SHARE = 4, 0.005
"""A group with less is no speaker: windows in which two speak, and noise."""
STRANGE = 0.3
"""Windows with less of a cosine to every speaker are somebody else's, who needs no share then."""
IN_A_ROW = 0.4
"""So many of these must follow another of the same group: where two speak at once, few do."""
BLOCK = 600
"""Windows that are compared each with each; then their groups are."""
CHANGE, CHANGE_AT_END = 0.8, 0.3
"""What it costs to change the speaker, in cosines of words: inside a phrase, and where it ends."""
PAUSE_SECONDS = 0.5
"""A longer pause ends a phrase."""
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Voices:
    """What a speaker model made of windows `(start, end)`, in seconds: a vector, a row, of each.

    They are `narrow` if the sound has the band of a telephone.
    """

    model: str
    spans: Sequence[tuple[float, float]]
    vectors: Vectors
    narrow: bool = False

    def packed(self) -> str:
        """The vectors in few letters: a signed byte for each number, which changes no cosine by more than 0.001."""
        largest = np.abs(self.vectors).max(axis=1, keepdims=True, initial=1e-9)
        return b64encode(np.rint(self.vectors * (127 / largest)).astype(np.int8).tobytes()).decode()

    @classmethod
    def unpacked(cls, model: str, spans: Sequence[tuple[float, float]], packed: str, narrow: bool = False) -> Voices:
        """What was packed, each of length one."""
        numbers = np.frombuffer(b64decode(packed), np.int8).astype(np.float32)
        vectors = _unit(numbers.reshape(len(spans), -1) if spans else np.zeros((0, 1), np.float32))
        return cls(model, spans, vectors, narrow)


@dataclass(frozen=True, slots=True)
class Speakers:
    """The speakers of a recording: the mean voice of each, a row. They are called by their row, `0`, `1` …"""

    model: str
    means: Vectors

    def told_apart(self, segments: Sequence[Segment], voices: Voices) -> tuple[Segment, ...]:
        """The segments of one chunk with their speakers, cut where those change between words."""
        alike = voices.model == self.model and voices.vectors.shape[1] == self.means.shape[1]
        if not (alike and len(self.means) and voices.spans):
            return tuple(segments)
        units = [unit for segment in segments for unit in _units(segment)]
        who = iter(_likeliest(*_scores(units, voices, self.means)))
        return tuple(piece for one in segments for piece in _cut(one, [str(next(who)) for _ in _units(one)]))


@dataclass(frozen=True, slots=True)
class _Unit:
    """A word, or a segment without any, with its middle; and whether a phrase ends with it."""

    start: float
    end: float
    text: str

    def ends_phrase(self, after: _Unit) -> bool:
        return phrase_ends(self.text, self.end, after.start)


def phrase_ends(text: str, end: float, next_start: float) -> bool:
    """Whether a phrase ends with this word: with a sentence, or before a pause."""
    return next_start - end > PAUSE_SECONDS or text.rstrip().endswith(SENTENCE_ENDS)


def speakers_of(voices: Sequence[Voices], least: int | None = None, most: int | None = None) -> Speakers:
    """The speakers of a recording by the voices in all of its chunks, as many as these bounds allow.

    What few chunks have of another speaker model cannot be compared with the others, and is left out.
    """
    kinds = Counter((one.model, one.vectors.shape[1]) for one in voices if one.spans)
    if not kinds:
        return Speakers("", np.zeros((0, 1), np.float32))
    kind = max(kinds, key=lambda one: (kinds[one], one))
    mine = [one for one in voices if one.spans and (one.model, one.vectors.shape[1]) == kind]
    lengths = np.array([end - start for one in mine for start, end in one.spans])
    vectors = np.concatenate([one.vectors for one in mine])
    sure = lengths >= min(SURE_SECONDS, lengths.max())
    narrow = all(one.narrow for one in mine)
    likeness = (ALIKE_BY_TELEPHONE, SAME_BY_TELEPHONE) if narrow else (ALIKE, SAME)
    return Speakers(kind[0], _means(vectors[sure], likeness, least or 1, most or MOST_SPEAKERS))


def _means(vectors: Vectors, likeness: tuple[float, float], least: int, most: int) -> Vectors:
    """The mean voices of as many speakers as are found, or as must be."""
    alike, same = likeness
    while True:
        sums, counts = _grouped(vectors, alike)
        enough = counts >= max(LEAST_WINDOWS, LEAST_SHARE * len(vectors))
        if not enough.any():
            enough = counts == counts.max()
        means = _with_strangers(vectors, _one_each(vectors, _unit(sums[enough]), same, least, most), most)
        if len(means) >= least or alike >= STRICTEST:
            return means
        alike += STEP


def _one_each(vectors: Vectors, means: Vectors, same: float, least: int, most: int) -> Vectors:
    """The means of the windows nearest to each, after those that are alike were made one, until none are."""
    before = 0
    while len(means) != before:
        before = len(means)
        sums, _ = _merged(means, np.ones(before, np.float32), same, least, most)
        means = _settled(vectors, _unit(sums))
    return means


def _with_strangers(vectors: Vectors, means: Vectors, most: int) -> Vectors:
    """With those who say little of a long recording: groups of windows that sound like nobody else, some in a row."""
    strange = np.flatnonzero((vectors @ means.T).max(axis=1) < STRANGE)
    if not len(strange) or len(means) == most:
        return means
    sums, counts = _grouped(vectors[strange], ALIKE)
    groups = _unit(sums[counts >= LEAST_WINDOWS])
    whose = (vectors[strange] @ groups.T).argmax(axis=1) if len(groups) else strange
    rows = [np.diff(strange[whose == n], prepend=-2) == 1 for n in range(len(groups))]
    speak = [n for n, row in enumerate(rows) if row.sum() >= IN_A_ROW * len(row)]
    return _settled(vectors, np.concatenate([means, groups[speak][: most - len(means)]]))


def _grouped(vectors: Vectors, alike: float) -> tuple[Vectors, Vectors]:
    """The groups in each block, then the groups of those, and so on."""
    sums, counts = vectors, np.ones(len(vectors), np.float32)
    while True:
        blocks = [slice(at, at + BLOCK) for at in range(0, len(sums), BLOCK)]
        groups = [_largest(*_merged(sums[block], counts[block], alike)) for block in blocks]
        sums, counts = np.concatenate([sums for sums, _ in groups]), np.concatenate([counts for _, counts in groups])
        if len(blocks) == 1:
            return sums, counts


def _largest(sums: Vectors, counts: Vectors) -> tuple[Vectors, Vectors]:
    """The groups that may be speakers: whatever workers send, the work is bounded."""
    kept = np.sort(np.argsort(-counts, kind="stable")[: 2 * MOST_SPEAKERS])
    return sums[kept], counts[kept]


def _merged(
    sums: Vectors, counts: Vectors, alike: float, least: int = 1, most: int | None = None
) -> tuple[Vectors, Vectors]:
    """Groups, as the sum of their vectors and how many they are, after those most alike were made one, again and again:
    while they are alike enough and more than `least`, and as long as there are more than `most`."""
    sums, counts = sums.copy(), counts.copy()
    cosines = (sums @ sums.T) / np.outer(counts, counts)
    np.fill_diagonal(cosines, -np.inf)
    left = np.ones(len(sums), bool)
    while left.sum() > least:
        one, other = sorted(divmod(int(cosines.argmax()), len(sums)))
        if cosines[one, other] < alike and (most is None or left.sum() <= most):
            break
        sums[one] += sums[other]
        counts[one] += counts[other]
        left[other] = False
        row = (sums @ sums[one]) / (counts * counts[one])
        row[one], row[~left] = -np.inf, -np.inf
        cosines[one] = cosines[:, one] = row
        cosines[other] = cosines[:, other] = -np.inf
    return sums[left], counts[left]


def _settled(vectors: Vectors, means: Vectors) -> Vectors:
    """The means of the windows that are nearest to each of these."""
    nearest = (vectors @ means.T).argmax(axis=1)
    found = [vectors[nearest == n].sum(axis=0) if (nearest == n).any() else means[n] for n in range(len(means))]
    return _unit(np.stack(found))


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-9))
    return unit


def _units(segment: Segment) -> list[_Unit]:
    if segment.spelled_words:
        return [_Unit(word.start, word.end, word.text) for word in segment.words]
    return [_Unit(segment.start, segment.end, segment.text)]


def _scores(units: Sequence[_Unit], voices: Voices, means: Vectors) -> tuple[Vectors, Vectors]:
    """How much each unit sounds like each speaker; and what a change before it costs."""
    spans = np.array(voices.spans)
    near = _unit(voices.vectors) @ means.T
    scores = np.zeros((len(units), len(means)), np.float32)
    for row, unit in enumerate(units):
        shared = np.minimum(spans[:, 1], unit.end + 0.01) - np.maximum(spans[:, 0], unit.start - 0.01)
        weights = np.clip(shared, 0, None) * np.minimum(spans[:, 1] - spans[:, 0], SURE_SECONDS)
        if weights.sum() > 0:
            scores[row] = weights @ near / weights.sum()
    ends = [CHANGE_AT_END if one.ends_phrase(after) else CHANGE for one, after in pairwise(units)]
    return scores, np.array([0.0, *ends], np.float32)


def _likeliest(scores: Vectors, costs: Vectors) -> list[int]:
    """The speaker of each unit, by the best way through all of them."""
    best, ways = scores[0] if len(scores) else np.zeros(1, np.float32), []
    for row, cost in zip(scores[1:], costs[1:], strict=True):
        first = int(best.argmax())
        stays = best >= best[first] - cost
        ways.append(np.where(stays, np.arange(len(best)), first))
        best = np.where(stays, best, best[first] - cost) + row
    who = [int(best.argmax())]
    for way in reversed(ways):
        who.append(int(way[who[-1]]))
    return who[::-1][: len(scores)]


def _cut(segment: Segment, who: Sequence[str]) -> Iterator[Segment]:
    """The segment with its speakers, cut between words where they change."""
    if len(set(who)) == 1:
        yield replace(segment, speaker=who[0])
        return
    runs = [[word for word, _ in run] for _, run in groupby(zip(segment.words, who, strict=True), lambda one: one[1])]
    names = [name for name, _ in groupby(who)]
    for number, (words, name) in enumerate(zip(runs, names, strict=True)):
        start = segment.start if number == 0 else words[0].start
        end = segment.end if number == len(runs) - 1 else words[-1].end
        yield replace(segment, start=start, end=end, text=text_of(words), words=tuple(words), speaker=name)
