"""Who speaks, as numbers: a speaker model hears short windows of what was recognised, and makes a vector of each.

Promises: the vectors of one chunk depend on that chunk alone. Windows lie inside phrases, so that few hold two
speakers. Which vectors are of one speaker is decided where the transcript is put together (`transcript.speakers`).

The model is an ONNX file in the form of 3D-Speaker and WeSpeaker: filter banks in, a vector out. It comes from the
model hub at first use, or is a file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whisper_farm.audio.filter_banks import BANDS, FRAMES_PER_SECOND, Features, filter_banks
from whisper_farm.audio.sound import Waveform
from whisper_farm.engines.cache import FoundModel, digest_of
from whisper_farm.engines.engine import EngineSettings, Progress
from whisper_farm.engines.hub import HubModel, fetched
from whisper_farm.errors import ModelUnavailable, SpeakersUnavailable
from whisper_farm.transcript.options import MOST_DIMENSIONS
from whisper_farm.transcript.speakers import Voices, phrase_ends
from whisper_farm.transcript.transcript import Segment

FILE = "3dspeaker_speech_campplus_sv_zh_en_16k-common_advanced.onnx"
"""CAM++, trained on 200,000 speakers of Chinese and English (Apache-2.0)."""
DEFAULT = HubModel(
    model="CAM++",
    repo="csukuangfj/speaker-embedding-models",
    names=(FILE,),
    is_whole=lambda folder: (folder / FILE).is_file(),
    lacking=f"no {FILE}",
    instead="a file with a speaker model (--speaker_model FILE)",
)
WINDOW_SECONDS, STEP_SECONDS = 1.5, 1.0
LEAST_SECONDS = 0.3
"""Nothing is known of the voice in a shorter phrase."""
NARROW = 0.015
"""Of the sound of a telephone a smaller share is above four kilohertz; of voices in rooms 6 % and more is."""
_FRAMES = round(WINDOW_SECONDS * FRAMES_PER_SECOND)
_AT_ONCE = 8
Span = tuple[float, float]


def find_speaker_model(file: str | None, settings: EngineSettings, progress: Progress) -> FoundModel:
    """The speaker model: this file, or the default one, fetched if it is not here. SpeakersUnavailable otherwise."""
    if file is not None:
        path = Path(file).expanduser().absolute()
        if not path.is_file():
            raise SpeakersUnavailable(f"There is no file {path}: give a speaker model in ONNX with --speaker_model.")
        return FoundModel(file, path, digest_of(path))
    try:
        found = fetched(DEFAULT, settings, progress)
    except ModelUnavailable as problem:
        raise SpeakersUnavailable(f"Speakers cannot be told apart: {problem.message}") from problem
    return FoundModel(found.model, found.path / FILE, found.revision)


def have_speaker_model(file: str | None, settings: EngineSettings, progress: Progress) -> None:
    """Bring the speaker model to this machine, and try whether it works. SpeakersUnavailable otherwise."""
    SpeakerModel(find_speaker_model(file, settings, progress), threads=1)


class SpeakerModel:
    """A loaded speaker model. Several threads may use it at once."""

    def __init__(self, found: FoundModel, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(found.path), options, providers=["CPUExecutionProvider"])
            self._input = self._session.get_inputs()[0].name
            made = self._vectors([np.zeros((_FRAMES, BANDS), np.float32)])
        except Exception as problem:  # the library has an exception for each of its statuses
            raise _no_speaker_model(found.path, str(problem)) from problem
        if made.ndim != 2 or made.shape[1] > MOST_DIMENSIONS:
            raise _no_speaker_model(found.path, f"it makes an array of {made.shape}")
        self.revision = found.revision

    def voices(self, audio: Waveform, segments: Sequence[Segment]) -> Voices:
        """The voices in one chunk of one channel; times count from its start."""
        features = filter_banks(audio)
        spans = [span for phrase in phrases(segments) for span in windows(*phrase)]
        heard = [(span, rows) for span in spans if len(rows := _rows(features, span))]
        vectors = [
            self._vectors([rows for _, rows in heard[at : at + _AT_ONCE]]) for at in range(0, len(heard), _AT_ONCE)
        ]
        made = np.concatenate(vectors or [np.zeros((0, 0), np.float32)])
        return Voices(self.revision, [span for span, _ in heard], made, bool(heard) and is_narrow(audio))

    def _vectors(self, windows: Sequence[Features]) -> NDArray[np.float32]:
        (made,) = self._session.run(None, {self._input: np.stack([each - each.mean(axis=0) for each in windows])})
        return np.asarray(made, np.float32)


def is_narrow(audio: Waveform) -> bool:
    """Whether the sound has the band of a telephone, however loud it is."""
    power = np.square(np.abs(np.fft.rfft(np.diff(audio))))  # the difference lifts the highs
    return bool(power[len(power) // 2 :].sum() < NARROW * power.sum())


def phrases(segments: Sequence[Segment]) -> Iterator[Span]:
    """Where somebody speaks without a pause or an end of a sentence: few change the speaker inside."""
    for segment in segments:
        if not segment.words:
            yield segment.start, segment.end
            continue
        start = segment.words[0].start
        for word, after in zip(segment.words, (*segment.words[1:], None), strict=True):
            if after is None or phrase_ends(word.text, word.end, after.start):
                yield start, word.end
                start = after.start if after else 0.0


def windows(start: float, end: float) -> list[Span]:
    """Where in a phrase to listen: windows that overlap, from its start to its end."""
    length = end - start
    if length <= WINDOW_SECONDS:
        return [(start, end)] if length >= LEAST_SECONDS else []
    count = 1 + math.ceil((length - WINDOW_SECONDS) / STEP_SECONDS)
    return [(float(at), float(at) + WINDOW_SECONDS) for at in np.linspace(start, end - WINDOW_SECONDS, count)]


def _rows(features: Features, span: Span) -> Features:
    """The filter banks of a window, over and over where it is a short one."""
    first, last = (round(at * FRAMES_PER_SECOND) for at in span)
    rows = features[max(0, first) : max(0, last)][:_FRAMES]
    return np.resize(rows, (_FRAMES, BANDS)) if len(rows) else rows


def _no_speaker_model(path: Path, why: str) -> SpeakersUnavailable:
    return SpeakersUnavailable(f"{path} is no speaker model in ONNX: {why.strip().splitlines()[0]}")
