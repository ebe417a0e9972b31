"""The sample podcast in `examples/` is what its script says it is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import av

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PODCAST = EXAMPLES / "podcast.mp3"


def test_the_known_words_are_those_of_the_script() -> None:
    specification = importlib.util.spec_from_file_location("make_podcast", EXAMPLES / "make_podcast.py")
    assert specification is not None
    assert specification.loader is not None
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)

    assert (EXAMPLES / "podcast.txt").read_text(encoding="utf-8") == script.words_of_turns()
    assert {speaker for speaker, _ in script.TURNS} == set(script.VOICES)


def test_the_recording_is_small_and_about_three_and_a_half_minutes_long() -> None:
    assert PODCAST.stat().st_size < 1_500_000
    with av.open(str(PODCAST)) as container:
        assert container.duration is not None
        assert 180 < container.duration / av.time_base < 240
