"""The layout of subtitles, as a client may ask for it in a query or a form."""

from __future__ import annotations

from pydantic import BaseModel

from whisper_farm.transcript.layout import CueLayout


class CuesAsked(BaseModel):
    """Whisper's options of subtitles."""

    max_line_width: int | None = None
    max_line_count: int | None = None
    max_words_per_line: int | None = None
    highlight_words: bool = False

    @property
    def layout(self) -> CueLayout:
        """What is asked for; raises `InvalidRequest` for what cannot be."""
        return cue_layout(self.max_line_width, self.max_line_count, self.max_words_per_line, self.highlight_words)


def cue_layout(
    max_line_width: int | None = None,
    max_line_count: int | None = None,
    max_words_per_line: int | None = None,
    highlight_words: bool = False,
) -> CueLayout:
    """The layout of subtitles that a query asks for beside other things."""
    return CueLayout(max_line_width, max_line_count, max_words_per_line, highlight_words)
