"""When each word of a window's phrases is said, by the library's alignment: many windows at once.

Knows neither what was decoded nor why: phrases come in as drafts, the library's own dictionaries, and get their words.
Promises: times are inside the window and in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import WhisperModel

from whisper_farm.audio.sound import SAMPLE_RATE
from whisper_farm.engines.windows import Phrase
from whisper_farm.transcript.transcript import Word

WINDOW_FRAMES = 3000
FRAMES_A_SECOND = 100
_BEFORE, _AFTER = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"
"""Punctuation that belongs to the word behind it, or before it."""

Drafts = list[dict[str, Any]]
"""The phrases of one window as the library's dictionaries."""


def drafts_of(phrases: Sequence[Phrase]) -> Drafts:
    """The phrases of a window, without words."""
    return [{"seek": 0, "start": one.start, "end": one.end, "tokens": list(one.tokens), "words": []} for one in phrases]


def align(
    model: WhisperModel, tokenizer: Tokenizer, encoded: Any, drafts: Sequence[Drafts], samples: Sequence[int]
) -> None:
    """Align windows of one language at once; then the library places the words of each as if it were alone.

    `encoded` is the encoder's output of these windows, `samples` says how long each is.
    """
    texts = [[token for phrase in each for token in phrase["tokens"]] for each in drafts]
    frames = [min(WINDOW_FRAMES, 1 + length * FRAMES_A_SECOND // SAMPLE_RATE) for length in samples]
    alignments = model.find_alignment(tokenizer, texts, encoded, frames)
    for each, alignment, count in zip(drafts, alignments, frames, strict=True):
        alone = SimpleNamespace(
            find_alignment=lambda *_, alignment=alignment: [alignment], frames_per_second=FRAMES_A_SECOND
        )
        WhisperModel.add_word_timestamps(alone, [each], tokenizer, None, count, _BEFORE, _AFTER, 0.0)


def keep_in_phrase(draft: dict[str, Any], phrase: Phrase) -> None:
    """Where the same is said again, alignment leaps: words beside their phrase are spread over it."""
    words = draft["words"]
    if words and not phrase.holds(words[0]["start"], words[-1]["end"]):
        for word, (start, end) in zip(words, phrase.spread([word["word"] for word in words]), strict=True):
            word.update(start=start, end=end)
        draft.update(start=phrase.start, end=phrase.end)


def words_of(draft: dict[str, Any], limit: float) -> tuple[Word, ...]:
    """The words of a phrase in a window that is `limit` seconds long."""
    return tuple(
        Word(*bounded(word["start"], word["end"], limit), word["word"], float(word["probability"]))
        for word in draft["words"]
    )


def bounded(start: float, end: float, limit: float) -> tuple[float, float]:
    """Times inside the window, in order."""
    start = min(max(0.0, float(start)), limit)
    return start, min(max(start, float(end)), limit)
