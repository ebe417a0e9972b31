"""How a recording is to be recognised. Pinned when a transcription is accepted, the same for every chunk of it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from whisper_farm import DEFAULT_ENGINE
from whisper_farm.models import ModelName

Task = Literal["transcribe", "translate"]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
Channel = Literal["mix", "left", "right", "each"]
Track = Annotated[str, Field(pattern=r"^([1-9][0-9]?|[a-z]{2,3})$")]
"""Of a recording with several: its number, or its language."""
Raw = Annotated[str, Field(pattern=r"^(alaw|mulaw|gsm|g722|u8|s8|s16le|s16be|s24le|s32le|f32le)(@[1-9][0-9]{3,5})?$")]
"""How a recording without any header is coded, and its samples a second: `s16le@16000`; 8,000 where none are given."""
HINTS = frozenset({"initial_prompt", "hotwords"})
"""What may help an engine that knows what to do with it; the others do as well without."""
MOST_HINT = 4096
"""Letters of each."""
WITHOUT_SPEAKERS = {"diarize": False, "min_speakers": None, "max_speakers": None, "speaker_model": None}
"""What is asked for where speakers cannot be told apart: the words alone."""
HEEDED_BY_ALL = {
    *("engine", "model", "revision", "channel", "track", "raw", "start_seconds", "end_seconds"),
    *WITHOUT_SPEAKERS,
}
"""Options that choose the engine or the sound, or that are about speakers."""
MOST_SPEAKERS = 20
MOST_DIMENSIONS = 512
"""Of the vector that a speaker model makes of a voice."""
FALLBACK_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

MOST_WITHOUT_SPEECH_SECONDS = 90.0
"""A chunk spans at most so much of a recording beyond what it may hold of speech."""


def longest_seconds(chunk_seconds: float) -> float:
    """The longest stretch of a recording that a chunk may span which holds at most `chunk_seconds` of speech."""
    return chunk_seconds + min(3 * chunk_seconds, MOST_WITHOUT_SPEECH_SECONDS)


class RecognitionOptions(BaseModel):
    """What every chunk of a recording is recognised with; names and defaults are those of openai/whisper."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    engine: str = Field(default=DEFAULT_ENGINE, pattern=r"^[a-z][a-z0-9-]{0,31}$")
    model: ModelName = "small"
    """A model's name, a repository of the model hub, or (on the worker's machine) a folder."""
    revision: str | None = Field(default=None, max_length=128)
    """The model's revision; None until the first worker that finishes a chunk has pinned it."""
    language: Language | None = None
    """Language code; None lets the first chunk with enough speech decide, unless the recording is `multilingual`."""
    multilingual: bool = False
    """Every chunk has a language of its own: for recordings that change language."""
    channel: Channel = "mix"
    """What of two channels is heard: `each` means apart, as two speakers."""
    track: Track | None = None
    """Which of several tracks is heard; None means the one that players play."""
    raw: Raw | None = None
    """Read the recording as sound without a header, in one channel."""
    start_seconds: float = Field(default=0, ge=0, le=10_000_000)
    end_seconds: float | None = Field(default=None, gt=0, le=10_000_000)
    """The stretch that is heard; None means to the end of the recording."""
    diarize: bool = False
    """Tell speakers apart by their voices."""
    min_speakers: int | None = Field(default=None, ge=1, le=MOST_SPEAKERS)
    max_speakers: int | None = Field(default=None, ge=1, le=MOST_SPEAKERS)
    """How many there are; None lets the voices decide."""
    speaker_model: ModelName | None = None
    """What voices are compared by: a file on the worker's machine; None means the default one."""
    task: Task = "transcribe"
    initial_prompt: str | None = Field(default=None, max_length=MOST_HINT)
    hotwords: str | None = Field(default=None, max_length=MOST_HINT)
    """Names and words to expect, as Whisper is told them: before the prompt, in every chunk."""
    word_timestamps: bool = True
    vad_filter: bool = True
    """Hold speech and text against each other: without speech nothing is recognised, speech without words is told."""
    beam_size: int = Field(default=5, ge=1, le=16)
    temperature: tuple[float, ...] = Field(default=FALLBACK_TEMPERATURES, min_length=1, max_length=8)
    """Tried in turn for a chunk whose text fails the quality thresholds."""
    compression_ratio_threshold: float | None = 2.4
    logprob_threshold: float | None = -1.0
    no_speech_threshold: float | None = 0.6
    max_new_tokens: int | None = Field(default=None, ge=1, le=448)

    @model_validator(mode="after")
    def _has_a_length(self) -> Self:
        if self.end_seconds is not None and self.end_seconds <= self.start_seconds:
            raise ValueError("end_seconds comes after start_seconds")
        return self

    @model_validator(mode="after")
    def _speakers_fit(self) -> Self:
        if not self.diarize and (self.min_speakers, self.max_speakers, self.speaker_model) != (None, None, None):
            raise ValueError("min_speakers, max_speakers and speaker_model go with diarize")
        if self.diarize and self.channel == "each":
            raise ValueError("channel each names its speakers Left and Right: leave diarize out, or mix the channels")
        if (self.min_speakers or 1) > (self.max_speakers or MOST_SPEAKERS):
            raise ValueError("max_speakers is at least min_speakers")
        return self

    def unusual(self) -> list[str]:
        """The options that are not as they are by default, but for those that every engine heeds."""
        usual = RecognitionOptions()
        names = type(self).model_fields.keys() - HEEDED_BY_ALL
        return sorted(name for name in names if getattr(self, name) != getattr(usual, name))
