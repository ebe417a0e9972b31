"""The embedded engine: PocketSphinx with the English model that its wheel carries. No download, no GPU, no network.

Far less accurate than Whisper on real voices, and English only: another language or a translation is
refused. Of the options it heeds language, task and word_timestamps; the others steer Whisper's search
and have no meaning here. The decoder holds Python's lock, so every lane needs a process of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from whisper_farm.engines.engine import (
    SAMPLE_RATE,
    Audio,
    ChunkAudio,
    EngineFacts,
    EngineSettings,
    FetchProgress,
    Recognition,
)
from whisper_farm.engines.phrases import phrases
from whisper_farm.errors import EngineUnavailable, ModelUnavailable, OptionUnsupported
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.speech import Segment, Word

if TYPE_CHECKING:
    from pocketsphinx import Decoder

MODEL = "en-us"
LANGUAGE = "en"

_FRAMES_A_SECOND = 100
_SHORTEST_SECONDS = 0.1
_SOFTEST = 0.001
# Of 30,000, the library's default: as accurate on synthetic voices and half the time on real ones.
_ACTIVE_STATES = 3000
_VARIANT = re.compile(r"\(\d+\)$")


class SphinxEngine:
    """PocketSphinx, for one thread at a time.

    Every chunk gets a new decoder (under half a second): a used one remembers what it heard, and neither
    cmn="batch" nor reinit_feat makes it forget all of it, so the same chunk would give other words elsewhere.
    """

    def __init__(self, new_decoder: Callable[[], Decoder]) -> None:
        self.facts = EngineFacts(
            engine="pocketsphinx",
            version=version("pocketsphinx"),
            model=MODEL,
            revision=version("pocketsphinx"),
            device="cpu",
            compute_type="default",
        )
        self._new_decoder = new_decoder
        self._decoder: Decoder | None = new_decoder()

    def recognise(
        self,
        chunks: Sequence[ChunkAudio],
        options: RecognitionOptions,
        cancelled: Callable[[int], bool],
    ) -> Iterator[tuple[int, Recognition]]:
        """Recognise chunk after chunk; see the contract in `engine.Engine`. `cancelled` is asked between chunks."""
        for chunk in chunks:
            refuse_what_it_cannot(options, chunk.language)
        for index, chunk in enumerate(chunks):
            if not cancelled(index):
                yield index, Recognition(self._segments(chunk.audio, options), LANGUAGE)

    def _segments(self, audio: Audio, options: RecognitionOptions) -> tuple[Segment, ...]:
        seconds = len(audio) / SAMPLE_RATE
        # In digital silence PocketSphinx makes up words, and they depend on what it heard before.
        if seconds < _SHORTEST_SECONDS or np.abs(audio).max() < _SOFTEST:
            return ()
        return tuple(_segment(run, options.word_timestamps) for run in phrases(self._words(audio, seconds)))

    def _words(self, audio: Audio, seconds: float) -> Iterator[Word]:
        decoder, self._decoder = self._decoder or self._new_decoder(), None
        decoder.start_utt()
        decoder.process_raw(_samples(audio).tobytes(), no_search=False, full_utt=True)
        decoder.end_utt()
        for heard in decoder.seg() or ():
            if heard.word[0] in "<[":
                continue
            start = min(heard.start_frame / _FRAMES_A_SECOND, seconds)
            end = min((heard.end_frame + 1) / _FRAMES_A_SECOND, seconds)
            yield Word(start, end, f" {_VARIANT.sub('', heard.word)}", min(1.0, max(0.0, float(heard.prob))))


def load(
    options: RecognitionOptions, settings: EngineSettings, progress: Callable[[FetchProgress], None]
) -> SphinxEngine:
    """Load the decoder; EngineUnavailable if PocketSphinx cannot be, ModelUnavailable for any model but its own."""
    if options.model != MODEL:
        raise ModelUnavailable(f"PocketSphinx has no model {options.model!r}; its only one is {MODEL!r}.")
    refuse_what_it_cannot(options, None)
    try:
        from pocketsphinx import Decoder
    except ImportError as problem:
        raise EngineUnavailable(
            f"PocketSphinx cannot be loaded: {problem}. Install it: pip install pocketsphinx"
        ) from problem
    return SphinxEngine(
        lambda: Decoder(samprate=SAMPLE_RATE, cmn="batch", maxhmmpf=_ACTIVE_STATES, loglevel="FATAL"),
    )


def refuse_what_it_cannot(options: RecognitionOptions, language: str | None) -> None:
    """OptionUnsupported for a translation and for any language but English."""
    if options.task != "transcribe":
        raise OptionUnsupported("PocketSphinx cannot translate; use --engine faster-whisper.")
    for code in (options.language, language):
        if code not in (None, LANGUAGE):
            raise OptionUnsupported(
                f"PocketSphinx knows English only, not {code!r}; use --engine faster-whisper for other languages."
            )


def _samples(audio: Audio) -> NDArray[np.int16]:
    return np.clip(np.rint(audio * 32767), -32768, 32767).astype(np.int16)


def _segment(words: tuple[Word, ...], keep_words: bool) -> Segment:
    logs = [math.log(max(word.probability or 0.0, 1e-10)) for word in words]
    return Segment(
        start=words[0].start,
        end=words[-1].end,
        text="".join(word.text for word in words),
        words=words if keep_words else (),
        avg_logprob=round(sum(logs) / len(logs), 4),
    )
