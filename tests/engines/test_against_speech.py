"""What any engine heard is held against the speech: nothing is asked, and nothing believed, where nobody speaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from support.recordings import decoded, noise, silence

from whisper_farm.audio.sound import SAMPLE_RATE, Waveform
from whisper_farm.engines import against_speech
from whisper_farm.engines.against_speech import AgainstSpeech
from whisper_farm.engines.engine import ChunkAudio, EngineFacts, Recognition
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Segment, Word

SPEECH = Path(__file__).parents[2] / "examples" / "inaugural.flac"


@dataclass
class Parrot:
    """Says the same of every chunk."""

    said: tuple[Segment, ...] = ()
    facts: EngineFacts = field(default_factory=lambda: EngineFacts("parrot", "1", "m", "1", "cpu", "default"))
    asked: list[Waveform] = field(default_factory=list)

    def recognise(
        self, chunks: Sequence[ChunkAudio], options: RecognitionOptions, cancelled: Callable[[int], bool]
    ) -> Iterator[tuple[int, Recognition]]:
        for index, chunk in enumerate(chunks):
            if not cancelled(index):
                self.asked.append(chunk.audio)
                yield index, Recognition(self.said, "en")


@pytest.fixture(scope="module")
def speech() -> Waveform:
    return decoded(SPEECH.read_bytes())


def heard(
    parrot: Parrot, *audio: Waveform, cancelled: Callable[[int], bool] = lambda _: False, **wish: object
) -> dict[int, Recognition]:
    options = RecognitionOptions.model_validate(wish)
    return dict(AgainstSpeech(parrot).recognise([ChunkAudio(one) for one in audio], options, cancelled))


def test_a_chunk_without_speech_goes_to_no_recogniser(speech: Waveform) -> None:
    parrot = Parrot((Segment(0, 2, " Thank you for watching."),))
    found = heard(parrot, silence(2), speech, noise(2))
    assert {index: len(one.segments) for index, one in found.items()} == {0: 0, 1: 1, 2: 0}
    assert len(parrot.asked) == 1
    assert found[0].language_probability == 0


def test_text_that_nobody_spoke_is_dropped_unless_it_is_sure_of_itself(speech: Waveform) -> None:
    audio = np.concatenate([speech, silence(5)])
    end = len(audio) / SAMPLE_RATE
    spoken, invented = Segment(0.5, 10, " And so."), Segment(end - 3, end, " Thank you.")
    sure = Segment(end - 1, end, " Yes.", avg_logprob=-0.1)
    assert heard(Parrot((spoken, invented, sure)), audio)[0].segments == (spoken, sure)
    assert heard(Parrot((spoken, invented)), audio, vad_filter=False)[0].segments == (spoken, invented)


def test_speech_without_words_is_told(speech: Waveform) -> None:
    half = len(speech) / SAMPLE_RATE / 2
    (nothing,) = heard(Parrot(), speech).values()
    assert sum(end - start for start, end in nothing.unheard) > 5
    whole = Segment(0, half, " All of the first half.")
    (some,) = heard(Parrot((whole,)), speech).values()
    assert some.unheard
    assert all(start >= half - 1 for start, _ in some.unheard)
    assert sum(end - start for start, end in some.unheard) < half
    words = tuple(Word(second, second + 0.9, f" {second}") for second in range(int(2 * half)))
    assert heard(Parrot((Segment(0, 2 * half, "", words),)), speech)[0].unheard == ()
    assert heard(Parrot(), speech, vad_filter=False)[0].unheard == ()


def test_a_cancelled_chunk_keeps_its_place_beside_those_without_speech(speech: Waveform) -> None:
    parrot = Parrot((Segment(0, 2, " And so."),))
    found = heard(parrot, silence(2), speech, speech, cancelled=lambda index: index == 1)
    assert sorted(found) == [0, 2]


def test_where_speech_cannot_be_known_everything_stands(speech: Waveform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(against_speech, "speech_probabilities", lambda audio: None)
    said = (Segment(0, 2, " Thank you."),)
    assert heard(Parrot(said), silence(2))[0].segments == said
