"""Real Whisper on recordings with known words: the farm against faster-whisper's own pipelines with the same weights.

The recordings are made by a script (`bench/known_recordings.py`), the weights come from the package index. Each system
hears them as a process of its own. For each are printed: word errors as S, D and I; passages of five or more words
lost; words made up where nobody speaks; errors within a second of the farm's cuts, and elsewhere; the longest cue, and
how many are over 84 characters; how late turns begin; seconds, and processor-seconds. Where it is known who speaks, the
farm tells speakers apart in the same run: the words that it gives to the wrong one are printed, too.

    ./run accuracy [--model FOLDER] [--only PART OF A NAME]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import click
import jiwer
import numpy as np

from bench.error_rate import APOSTROPHES, words_of
from bench.known_recordings import KnownRecording, Turn, everything
from bench.measure import Cost, run
from bench.speakers import wrong_words
from examples.speaker_weights import speaker_model
from examples.weights import base
from whisper_farm.audio.chunking import Chunking
from whisper_farm.audio.flac import encode
from whisper_farm.audio.source import AudioSource
from whisper_farm.transcript.cues import MOST_CHARACTERS

PASSAGE_WORDS = 5
NEAR_SECONDS = 1.0
"""So near to a cut an error may come from it."""
QUIET_SECONDS, EDGE_SECONDS = 5.0, 0.5
"""Words are made up where nobody speaks for at least so long, and not within so much of its edges."""
PIPELINE = """
import json, sys
from faster_whisper import BatchedInferencePipeline, WhisperModel
model = WhisperModel(sys.argv[1], device="cpu", compute_type="int8")
options = dict(beam_size=5, word_timestamps=True, language=sys.argv[4] or None, multilingual=not sys.argv[4])
if sys.argv[3] == "batched":
    segments, _ = BatchedInferencePipeline(model).transcribe(sys.argv[2], batch_size=8, **options)
else:
    segments, _ = model.transcribe(sys.argv[2], condition_on_previous_text=False, **options)
shape = lambda one: dict(text=one.text, words=[dict(word=w.word, start=w.start, end=w.end) for w in one.words])
print(json.dumps([shape(one) for one in segments]))
"""

Segments = Sequence[dict[str, Any]]
"""As Whisper's JSON has them."""


@dataclass(frozen=True, slots=True)
class System:
    """How a recording becomes segments: a command, and where they are found afterwards."""

    command: Callable[[str, Path, Path, KnownRecording], list[str]]
    """From a model, a file, a folder of its own and what is known; without a language, each stretch has its own."""
    segments: Callable[[str, Path], Segments]
    """From what the command printed, and its folder."""

    def run(self, model: str, path: Path, folder: Path, known: KnownRecording) -> tuple[Cost, Segments]:
        """Hear a recording as a whole process."""
        folder.mkdir()
        environment = {**os.environ, "WHISPER_FARM_DATA": str(folder / "state")}
        cost = run(self.command(model, path, folder, known), environment)
        return cost, self.segments(cost.output, folder)


def farm_command(model: str, path: Path, folder: Path, known: KnownRecording) -> list[str]:
    """What a user types; where it is known who speaks, speakers are told apart as well."""
    command = [sys.executable, "-m", "whisper_farm", "transcribe", str(path), "--model", model]
    spoken = ["--language", known.language] if known.language else ["--multilingual"]
    apart = ["--diarize", "--speaker_model", str(speaker_model())] if known.speakers else []
    return [*command, *spoken, *apart, "-f", "json", "-o", str(folder), "--quiet"]


def farm_segments(_: str, folder: Path) -> Segments:
    """Those in the file that was written."""
    found: Segments = json.loads(next(folder.glob("*.json")).read_text(encoding="utf-8"))["segments"]
    return found


def library(how: str) -> System:
    """faster-whisper over the whole file, in a process of its own."""
    return System(
        lambda model, path, _, known: [sys.executable, "-c", PIPELINE, model, str(path), how, known.language or ""],
        lambda printed, _: json.loads(printed.splitlines()[-1]),
    )


SYSTEMS = {
    "farm": System(farm_command, farm_segments),
    "sequential": library("sequential"),
    "batched": library("batched"),
}


class Timed(NamedTuple):
    """A word as it is compared, and when it is spoken."""

    word: str
    start: float
    end: float
    turn: int = -1


@dataclass
class Measures:
    """What one system made of recordings. Lists have one entry for each of what they are about."""

    words: int
    substituted: int
    deleted: int
    inserted: int
    passages: list[int]
    made_up: int
    near_errors: int
    near_words: int
    cues: list[int]
    late: list[float]
    seconds: float
    processor_seconds: float

    def __add__(self, other: Measures) -> Measures:
        return Measures(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def __str__(self) -> str:
        errors = self.substituted + self.deleted + self.inserted
        near = 100 * self.near_errors / max(1, self.near_words)
        elsewhere = 100 * (errors - self.near_errors) / max(1, self.words - self.near_words)
        late = np.array(self.late or [0.0])
        return (
            f"{100 * errors / self.words if self.words else 0:6.2f} % "
            f"{self.substituted:4}{self.deleted:4}{self.inserted:4}  "
            f"{'+'.join(map(str, self.passages)) or '–':>10} {self.made_up:8}   {near:5.1f} {elsewhere:5.1f} % "
            f"{max(self.cues, default=0):5} {sum(one > MOST_CHARACTERS for one in self.cues):4}  "
            f"{np.median(late):+6.2f} {np.percentile(np.abs(late), 90):5.2f} s "
            f"{self.seconds:6.1f} {self.processor_seconds:6.1f} s"
        )


HEADING = (
    f"{'':11} {'WER':>8}    S   D   I   passages  made up   near  else       cues       starts            time   CPU"
)


def measures(known: KnownRecording, segments: Segments, cuts: Sequence[float], cost: Cost) -> Measures:
    """What these segments are worth."""
    said, heard = list(words_said(known)), list(words_heard(segments))
    found = jiwer.process_words(" ".join(one.word for one in said) or "–", " ".join(one.word for one in heard))
    alignment = found.alignments[0] if said else []
    lost = [one.ref_end_idx - one.ref_start_idx for one in alignment if one.type == "delete"]
    times = list(times_of_errors(alignment, said, heard)) if said else [word.start for word in heard]
    return Measures(
        words=len(said),
        substituted=found.substitutions if said else 0,
        deleted=found.deletions if said else 0,
        inserted=found.insertions if said else len(heard),
        passages=[count for count in lost if count >= PASSAGE_WORDS],
        made_up=sum(in_quiet(word, known.turns) for word in heard),
        near_errors=sum(is_near(time, cuts) for time in times),
        near_words=sum(is_near((word.start + word.end) / 2, cuts) for word in said),
        cues=[len(one["text"].strip()) for one in segments],
        late=list(lateness(alignment, known, said, heard)),
        seconds=cost.seconds,
        processor_seconds=cost.processor_seconds,
    )


def words_said(known: KnownRecording) -> Iterator[Timed]:
    """The words of the turns; each lasts as long as its letters are many."""
    for number, turn in enumerate(known.turns):
        words = words_of(turn.words)
        letters = np.cumsum([0, *(len(word) + 1 for word in words)])
        times = turn.start + (turn.end - turn.start) * letters / letters[-1] if words else []
        for word, start, end in zip(words, times, times[1:], strict=False):
            yield Timed(word, float(start), float(end), number)


def words_heard(segments: Segments) -> Iterator[Timed]:
    """The words of the segments, as they are compared; Whisper times `d` and `'agent` apart, which is one word."""
    for segment in segments:
        joined: list[list[dict[str, Any]]] = []
        for one in segment["words"]:
            if joined and one["word"][:1] in APOSTROPHES:
                joined[-1].append(one)
            else:
                joined.append([one])
        for parts in joined:
            text = "".join(one["word"] for one in parts)
            yield from (Timed(word, parts[0]["start"], parts[-1]["end"]) for word in words_of(text))


def times_of_errors(
    alignment: Sequence[jiwer.AlignmentChunk], said: Sequence[Timed], heard: Sequence[Timed]
) -> Iterator[float]:
    """When each error is: that of the word that was heard, or that should have been."""
    for one in alignment:
        if one.type != "equal":
            words = said[one.ref_start_idx : one.ref_end_idx] if one.type == "delete" else ()
            yield from ((word.start + word.end) / 2 for word in words or heard[one.hyp_start_idx : one.hyp_end_idx])


def lateness(
    alignment: Sequence[jiwer.AlignmentChunk], known: KnownRecording, said: Sequence[Timed], heard: Sequence[Timed]
) -> Iterator[float]:
    """How much later than its turn each first word is heard, where it is the right one."""
    for one in alignment if heard else ():
        if one.type == "equal":
            for number, word in enumerate(said[one.ref_start_idx : one.ref_end_idx], one.ref_start_idx):
                if not number or said[number - 1].turn != word.turn:
                    start = heard[one.hyp_start_idx + number - one.ref_start_idx].start
                    yield start - known.turns[word.turn].start


def in_quiet(word: Timed, turns: Sequence[Turn]) -> bool:
    """Whether a word is where nobody speaks for long."""
    middle = (word.start + word.end) / 2
    return any(
        not turn.words
        and turn.end - turn.start >= QUIET_SECONDS
        and turn.start + EDGE_SECONDS < middle < turn.end - EDGE_SECONDS
        for turn in turns
    )


def is_near(time: float, cuts: Sequence[float]) -> bool:
    """Whether a time is near a cut."""
    return any(abs(time - cut) <= NEAR_SECONDS for cut in cuts)


@click.command()
@click.option("--model", help="A model's name or folder. [default: base from the package index]")
@click.option("--only", default="", help="Part of the names of the recordings that are heard.")
def main(model: str | None, only: str) -> None:
    """Measures of the farm and of the library's pipelines, for each recording and for all."""
    model = model or str(base())
    totals: dict[str, Measures] = {}
    with tempfile.TemporaryDirectory() as place:
        for number, known in enumerate(one for one in everything() if only in one.name):
            folder = Path(place) / str(number)
            folder.mkdir()
            path = folder / "recording.flac"
            path.write_bytes(encode(known.audio))
            with Chunking(AudioSource(path, path.name)) as cutting:
                cuts = [chunk.end_seconds for chunk in cutting][:-1]
            spoken = known.language or "of each stretch"
            print(f"\n{known.name}, {known.seconds:.0f} s, {len(cuts)} cuts, language: {spoken}\n{HEADING}")
            for name, system in SYSTEMS.items():
                cost, segments = system.run(model, path, folder / name, known)
                found = measures(known, segments, cuts, cost)
                totals[name] = totals[name] + found if name in totals else found
                print(f"{name:11} {found}", flush=True)
                if known.speakers and name == "farm":
                    wrong, words, there = wrong_words(segments, known.turns)
                    print(f"  speakers: {wrong} of {words} words wrong, {there} of {len(known.speakers)} found")
    print(f"\nall of them\n{HEADING}")
    for name, total in totals.items():
        print(f"{name:11} {total}")


if __name__ == "__main__":
    main()
