"""The interface every recogniser has: chunks in, recognitions out, in batches; and the traits it tells about itself.

An engine lives in a child process of its own. It promises that the recognition of a chunk depends on
that chunk and the options alone, never on what was recognised before or beside it.

An engine is added by one file with its `EngineTraits` and an entry point in the group `whisper_farm.engines`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from whisper_farm.transcript.options import RecognitionOptions, Task
from whisper_farm.transcript.transcript import Segment

if TYPE_CHECKING:  # who only asks what engines there are needs no NumPy
    from whisper_farm.audio.sound import Waveform

Device = Literal["cpu", "cuda"]
Need = Literal["network", "programs", "files"]


@dataclass(frozen=True, slots=True)
class ChunkAudio:
    """The audio of one chunk, as `audio.sound` has it. `language` is the one that somebody gave, else None."""

    audio: Waveform
    language: str | None = None
    expected_language: str | None = None
    """That of the recording as far as is known. An engine may hear another, if it is sure of that."""


@dataclass(frozen=True, slots=True)
class Recognition:
    """What was heard in one chunk; times count from the start of the chunk."""

    segments: tuple[Segment, ...]
    language: str
    language_probability: float = 1.0
    language_sure: bool = False
    """Whether this language holds even where the recording's is another."""
    unheard: tuple[tuple[float, float], ...] = ()
    """Stretches in which somebody speaks and no words could be made out."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What made a result: goes into every transcript."""

    engine: str
    version: str
    model: str
    revision: str
    device: str
    compute_type: str


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What the owner of a worker decides (an owner of a transcription decides `RecognitionOptions`)."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    device_index: int = 0
    compute_type: str = "default"
    threads: int = 0
    """Processor threads for one batch; 0 lets the engine divide the cores among its slots."""
    slots: int = 1
    """Batches recognised at the same time by one engine that `shares_model`."""
    model_dir: str | None = None
    local_files_only: bool = False


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """How far the fetch of a model is, in bytes."""

    model: str
    done_bytes: int
    total_bytes: int | None


Progress = Callable[[FetchProgress], None]


class Engine(Protocol):
    """A loaded recogniser. `recognise` may be called from `slots` threads at once if it `shares_model`."""

    facts: EngineFacts

    def recognise(
        self, chunks: Sequence[ChunkAudio], options: RecognitionOptions, cancelled: Callable[[int], bool]
    ) -> Iterator[tuple[int, Recognition]]:
        """Recognise a batch; yield (index in `chunks`, recognition) as soon as each is known, in any order.

        `cancelled(index)` is asked between windows; a cancelled chunk is left out of the answer.
        Raises an `EngineError` when nothing more can be recognised.
        """
        ...


@dataclass(frozen=True, slots=True)
class EngineTraits:
    """What is known of an engine before it is loaded. Making one imports no recogniser's library."""

    name: str
    load: Callable[[RecognitionOptions, EngineSettings, Progress], Engine]
    """Load the model of these options; fetch it first where it is missing."""
    version: Callable[[], str]
    """Import the library and say its version; an ImportError or OSError says why it does not work here."""
    default_model: Callable[[Device, Task], str]
    """The model for who names none."""
    options: frozenset[str]
    """The options that it heeds, by their names in `RecognitionOptions`."""
    shares_model: bool = True
    """One process can serve several slots from one copy of the model; else each slot needs a process."""
    slots: int | None = None
    """Batches at once on a processor for who says nothing; None divides the cores."""
    needs: frozenset[Need] = frozenset()
    """What its process must be left to recognise at all, beside the model."""
    best_batch: Mapping[Device, int] = field(default_factory=lambda: {"cpu": 1})
    """Chunks in one batch, for each device that it can use."""
    models: tuple[str, ...] | None = None
    """None means any model."""
    languages: tuple[str, ...] | None = None
    """None means every language Whisper knows."""
    tasks: tuple[Task, ...] = get_args(Task)
    fetch: Callable[[RecognitionOptions, EngineSettings, Progress], object] | None = None
    """Bring the model of these options to this machine if it is not here; None where there is nothing to be fetched."""
