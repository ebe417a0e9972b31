"""What Whisper's decoder wrote about one window: is it good, which phrases is it, and where does the next window begin.

Pure: tokens in, phrases out. The rules are openai/whisper's, with one difference: text after the last time
stamp is dropped and decoded again only where more audio follows; at the end of a chunk, which is a pause
and not a cut through speech, it is kept as the last phrase.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from whisper_farm.transcript.options import RecognitionOptions

TIME_STEP_SECONDS = 0.02
SURE_LOGPROB = -0.5
"""A text at least as likely is sure of itself."""
SURE_LANGUAGE = 0.8
"""A language at least as likely is sure, if the text in it is sure of itself, too."""
LIKELY_LANGUAGE, POSSIBLE_LANGUAGE = 0.5, 0.05
"""One at least as likely as the first is heard in place of an expected one that is less likely than the second."""
WORSE_LOGPROB = 0.5
"""A text that is below the threshold by more than this is no answer."""
MOST_OF_A_LIST = 2.0
"""An honest list compresses at most so much better than the threshold, or as much as it has phrases."""
REPEATED = 2.4
"""A text that compresses better says something more than once."""
MOST_RUNS, LONGEST_RUN = 4, 24
"""The same words, up to so many, may come fewer times than this running."""
LONGEST_WORD = 30
"""Of a longer word each letter counts for a word: there are languages without spaces."""
FASTEST_TOKENS = 8.0
"""Nobody says more tokens in a second for long."""
LEAST_STEP_SECONDS = 1.0
"""The next window begins at least this much later, and so little of a chunk's end is not decoded by itself."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one window decoded to, and the measures by which it is judged. `ended`: by itself, not at the limit."""

    tokens: tuple[int, ...]
    ended: bool
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    temperature: float
    circles: bool = False
    """Whether the same words come many times running inside a phrase."""
    phrases: int = 1

    @property
    def sure(self) -> bool:
        """Whether the text is sure of itself."""
        return self.avg_logprob >= SURE_LOGPROB and self.temperature == 0

    def acceptable(self, options: RecognitionOptions) -> bool:
        """Whether the text needs no second try."""
        if self.silent(options) and options.logprob_threshold is not None:
            return True
        return not self.repeats(options) and not _below(self.avg_logprob, options.logprob_threshold)

    def silent(self, options: RecognitionOptions) -> bool:
        """Whether this is no speech: likely none by its own token, and an unlikely text."""
        likely_none = _above(self.no_speech_prob, options.no_speech_threshold)
        return likely_none and (options.logprob_threshold is None or self.avg_logprob <= options.logprob_threshold)

    def repeats(self, options: RecognitionOptions) -> bool:
        """Whether the text goes round in circles.

        An honest list compresses well, too, but is sure of itself. What somebody says many times has a phrase each.
        """
        threshold = options.compression_ratio_threshold
        if threshold is None or self.compression_ratio <= threshold:
            return False
        most = max(MOST_OF_A_LIST * threshold, self.phrases)
        return self.circles or self.avg_logprob < SURE_LOGPROB or self.compression_ratio > most

    def worthless(self, options: RecognitionOptions) -> bool:
        """Whether the text is known to be bad, so that it is no answer however many tries it took."""
        threshold = options.logprob_threshold
        unlikely = threshold is not None and self.avg_logprob < threshold - WORSE_LOGPROB
        return self.repeats(options) or unlikely


@dataclass(frozen=True, slots=True)
class Phrase:
    """A run of text tokens with its times in seconds from the start of the window."""

    start: float
    end: float
    tokens: tuple[int, ...]

    def holds(self, start: float, end: float) -> bool:
        """Whether the middle of a span lies in the phrase."""
        return self.start <= (start + end) / 2 <= self.end

    def spread(self, words: Sequence[str]) -> list[tuple[float, float]]:
        """Times of these words, by their letters."""
        letters = list(accumulate(map(len, words), initial=0))
        return list(pairwise(self.start + (self.end - self.start) * count / letters[-1] for count in letters))


def best(tries: Sequence[Decoded], options: RecognitionOptions) -> Decoded:
    """The last try if it is acceptable, else the likeliest, of those that do not repeat themselves if there are any."""
    if tries[-1].acceptable(options):
        return tries[-1]
    varied = [one for one in tries if not one.repeats(options)]
    return max(varied or tries, key=lambda one: one.avg_logprob)


def language_of(likely: Mapping[str, float], expected: str) -> tuple[str, bool]:
    """The language to hear a window in, and whether it is surely spoken. If not, the expected one holds, if any."""
    first = max(likely, key=likely.__getitem__)
    if likely[first] >= SURE_LANGUAGE:
        return first, True
    impossible = likely[first] >= LIKELY_LANGUAGE and likely.get(expected, 0.0) < POSSIBLE_LANGUAGE
    return first if impossible else expected or first, False


def mean_logprob(one: Decoded, other: Decoded) -> float:
    """The average log probability of two texts that are one."""
    weights = len(one.tokens), len(other.tokens)
    return (weights[0] * one.avg_logprob + weights[1] * other.avg_logprob) / sum(weights)


def in_circles(text: str) -> bool:
    """Whether the same few words, or letters of a long word, come `MOST_RUNS` times running."""
    words = text.split()
    return any(_many_running(one) for one in (words, *(word for word in words if len(word) > LONGEST_WORD)))


def _many_running(words: Sequence[str]) -> bool:
    for size in range(1, LONGEST_RUN + 1):
        same = 0
        for at in range(size, len(words)):
            same = same + 1 if words[at] == words[at - size] else 0
            if same >= size * (MOST_RUNS - 1) and same + size >= 6:
                return True
    return False


def phrases_of(tokens: Sequence[int], first_stamp: int, end_of_text: int, seconds: float) -> list[Phrase]:
    """The phrases of a window `seconds` long: a new one wherever two time stamps meet."""
    pieces: list[list[int]] = [[]]
    for token in tokens:
        if token >= first_stamp and pieces[-1] and pieces[-1][-1] >= first_stamp:
            pieces.append([])
        pieces[-1].append(token)
    phrases: list[Phrase] = []
    for piece in pieces:
        if not (text := tuple(token for token in piece if token < end_of_text)):
            continue
        stamps = [(token - first_stamp) * TIME_STEP_SECONDS for token in piece if token >= first_stamp]
        before = phrases[-1].end if phrases else 0.0
        start = min(stamps[0] if piece[0] >= first_stamp else before, seconds)
        end = min(stamps[-1], seconds) if piece[-1] >= first_stamp and stamps[-1] > start else seconds
        phrases.append(Phrase(start, end, text))
    return phrases


def step(one: Decoded, first_stamp: int, seconds: float, last: bool) -> tuple[tuple[int, ...], float | None]:
    """The tokens to keep of a window, and after how many seconds the next begins; None if there is no other."""
    everything = one.tokens, None if last else seconds
    tokens = one.tokens
    meetings = [i for i in range(1, len(tokens)) if tokens[i] >= first_stamp and tokens[i - 1] >= first_stamp]
    if not meetings:
        return everything
    at = meetings[-1]
    text_follows = at < len(tokens) - 1
    closed = text_follows and tokens[-1] >= first_stamp
    # Two stamps at the very end announce a phrase that the model wants to hear from its beginning.
    if closed or (last and (text_follows or not one.ended)):
        return everything
    resume = (tokens[at - 1] - first_stamp) * TIME_STEP_SECONDS
    if resume < LEAST_STEP_SECONDS or (last and seconds - resume < LEAST_STEP_SECONDS):
        return everything
    return tokens[:at], min(resume, seconds)


def goes_on(rest: Decoded, first_stamp: int, seconds: float) -> bool:
    """Whether tokens that begin with a stamp are the rest of a window: sure, forward in time, no faster than speech."""
    stamps = [(token - first_stamp) * TIME_STEP_SECONDS for token in rest.tokens if token >= first_stamp]
    most = (seconds - stamps[0]) * FASTEST_TOKENS if stamps else 0
    return rest.sure and stamps == sorted(stamps) and 0 < len(rest.tokens) - len(stamps) <= most


def _above(value: float, threshold: float | None) -> bool:
    return threshold is not None and value > threshold


def _below(value: float, threshold: float | None) -> bool:
    return threshold is not None and value < threshold
