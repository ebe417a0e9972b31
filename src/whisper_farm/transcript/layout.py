"""How subtitles are laid out: what a user may ask of formats that consist of cues. Loads nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from whisper_farm.errors import InvalidRequest

MOST_OF_LAYOUT = {"max_line_width": 1000, "max_line_count": 100, "max_words_per_line": 1000}
"""The largest value of each."""


@dataclass(frozen=True, slots=True)
class CueLayout:
    """How the cues of subtitles are laid out, where segments have word times. Names are openai/whisper's.

    A cue never grows by it: it is broken into lines, and split where it has too many of them.
    """

    max_line_width: int | None = None
    max_line_count: int | None = None
    max_words_per_line: int | None = None
    """Without a width or a count every cue is one such line."""
    highlight_words: bool = False
    """Each word underlined while it is spoken: a cue a word."""

    def __post_init__(self) -> None:
        for name, most in MOST_OF_LAYOUT.items():
            if (value := getattr(self, name)) is not None and not 1 <= value <= most:
                raise InvalidRequest(f"{name} is a whole number from 1 to {most}.")
        if self.max_line_count is not None and self.max_line_width is None and self.max_words_per_line is None:
            raise InvalidRequest("max_line_count needs max_line_width.")


PLAIN = CueLayout()
"""Nothing is asked for."""
