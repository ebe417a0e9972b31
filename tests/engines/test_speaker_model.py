"""A real speaker model: whoever speaks by telephone is one speaker, and two are two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.recordings import two_voices

from bench.known_recordings import by_telephone, example
from bench.voices import sound_of
from examples.speaker_weights import speaker_model
from whisper_farm.audio.sound import SAMPLE_RATE, Waveform
from whisper_farm.engines.cache import FoundModel
from whisper_farm.engines.voices import SpeakerModel, is_narrow
from whisper_farm.transcript.speakers import Voices, speakers_of
from whisper_farm.transcript.transcript import Segment

PHRASES = {
    "two": ((0.2, 2.8), (3.9, 6.3), (7.8, 12.2), (13.0, 17.1), (18.3, 20.4), (21.3, 23.2)),
    "one": ((0.0, 11.0),),
}
"""When somebody speaks: in the beginning of the podcast, and Kennedy."""


def sound(name: str, place: Path) -> Waveform:
    return example("inaugural.flac").audio if name == "one" else sound_of(two_voices(place / "clip.flac"), "clip.flac")


@pytest.mark.parametrize(("name", "speakers"), [("two", 2), ("one", 1)])
def test_by_telephone_as_many_speakers_are_found_as_speak(tmp_path: Path, name: str, speakers: int) -> None:
    model = SpeakerModel(FoundModel("campplus", speaker_model(), "1"), threads=1)
    said = [Segment(start, end, "Something.") for start, end in PHRASES[name]]
    made = model.voices(by_telephone(sound(name, tmp_path)), said)
    voices = Voices.unpacked(made.model, made.spans, made.packed(), made.narrow)
    assert len(speakers_of([voices]).means) == speakers


@pytest.mark.parametrize("loudness", [1.0, 0.02])
def test_a_telephone_is_known_by_its_band_however_loud_it_is(tmp_path: Path, loudness: float) -> None:
    wide = sound("two", tmp_path)
    assert [is_narrow(np.float32(loudness) * one) for one in (wide, by_telephone(wide))] == [False, True]
    assert not is_narrow(np.zeros(SAMPLE_RATE, np.float32))
