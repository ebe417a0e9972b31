"""Real Whisper on recordings with known words: the farm against faster-whisper's own pipelines with the same weights.

Everything is here: the weights come from the package index, the recordings are those of `examples/` and what is made of
them (long pauses, noise alone, quiet speech). Printed for each: word errors, passages of five or more words lost, words
made up where nobody speaks, the longest cue, seconds.

    ./run accuracy [--model FOLDER]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import jiwer
import numpy as np

from bench.error_rate import words_of
from bench.measure import run
from examples.weights import tiny_en
from whisper_farm.audio.decode import Decoding
from whisper_farm.audio.flac import encode
from whisper_farm.audio.sound import SAMPLE_RATE, Waveform
from whisper_farm.audio.source import AudioSource

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PASSAGE_WORDS = 5
PIPELINE = """
import json, sys
from faster_whisper import BatchedInferencePipeline, WhisperModel
model = WhisperModel(sys.argv[1], device="cpu", compute_type="int8")
options = dict(language="en", beam_size=5, word_timestamps=True)
if sys.argv[3] == "batched":
    segments, _ = BatchedInferencePipeline(model).transcribe(sys.argv[2], batch_size=8, **options)
else:
    segments, _ = model.transcribe(sys.argv[2], condition_on_previous_text=False, **options)
print(json.dumps([segment.text for segment in segments]))
"""


@dataclass(frozen=True, slots=True)
class KnownRecording:
    """A recording, and the words that are said in it."""

    name: str
    audio: Waveform
    words: str


def recordings() -> Iterator[KnownRecording]:
    """Those of the examples, and what is made of them."""
    podcast, real = examples()
    speech, words = real.audio, real.words
    chance = np.random.default_rng(1)
    silence = np.zeros(20 * SAMPLE_RATE, np.float32)
    noise = chance.normal(0, 0.003, 40 * SAMPLE_RATE).astype(np.float32)
    yield podcast
    yield real
    yield KnownRecording("long pauses", np.concatenate([silence, speech, silence, speech, silence]), f"{words} {words}")
    yield KnownRecording("noise, then speech", np.concatenate([noise, speech, noise]), words)
    yield KnownRecording("noise alone", noise, "")
    yield KnownRecording("45 dB softer", speech * np.float32(10 ** (-45 / 20)), words)


@dataclass(frozen=True, slots=True)
class System:
    """How a recording becomes texts: a command, and where its texts are found afterwards."""

    command: Callable[[str, Path, Path], list[str]]
    """From a model, a recording and a folder of its own."""
    texts: Callable[[str, Path], list[str]]
    """From what the command printed, and its folder."""


def farm_command(model: str, path: Path, folder: Path) -> list[str]:
    """What a user types."""
    command = [sys.executable, "-m", "whisper_farm.cli.main", "transcribe", str(path), "--model", model]
    return [*command, "--language", "en", "-f", "json", "-o", str(folder), "--quiet"]


def farm_texts(_: str, folder: Path) -> list[str]:
    """The texts of the segments in the file that was written."""
    document = json.loads(next(folder.glob("*.json")).read_text(encoding="utf-8"))
    return [segment["text"] for segment in document["segments"]]


def library(how: str) -> System:
    """faster-whisper over the whole file, in a process of its own."""
    return System(
        lambda model, path, _: [sys.executable, "-c", PIPELINE, model, str(path), how],
        lambda printed, _: [str(text) for text in json.loads(printed.splitlines()[-1])],
    )


SYSTEMS = {
    "farm": System(farm_command, farm_texts),
    "sequential": library("sequential"),
    "batched": library("batched"),
}


def measures(words: str, texts: list[str]) -> str:
    """One line about what was heard."""
    said, heard = words_of(words), words_of(" ".join(texts))
    longest = max((len(text.strip()) for text in texts), default=0)
    if not said:
        return f"made up {len(heard):3} words                                   longest cue {longest:3}"
    found = jiwer.process_words(" ".join(said), " ".join(heard))
    lost = [one.ref_end_idx - one.ref_start_idx for one in found.alignments[0] if one.type == "delete"]
    passages = [count for count in lost if count >= PASSAGE_WORDS]
    errors = f"S {found.substitutions:2} D {found.deletions:2} I {found.insertions:2}"
    return f"WER {100 * found.wer:5.1f} %  {errors}  passages lost {passages!s:8}  longest cue {longest:3}"


def examples() -> list[KnownRecording]:
    """The recordings of `examples/`."""
    names = {"two synthetic voices": "podcast.mp3", "a real voice": "inaugural.flac"}
    return [_example(name, EXAMPLES / file) for name, file in names.items()]


def _example(name: str, path: Path) -> KnownRecording:
    with AudioSource(path, path.name) as source:
        audio = np.concatenate(list(Decoding(source).blocks()))
    return KnownRecording(name, audio, path.with_suffix(".txt").read_text(encoding="utf-8"))


@click.command()
@click.option("--model", help="A model's name or folder. [default: tiny.en from the package index]")
def main(model: str | None) -> None:
    """Measures of the farm and of the library's pipelines, for each recording."""
    weights = model or str(tiny_en())
    with tempfile.TemporaryDirectory() as place:
        for number, recording in enumerate(recordings()):
            folder = Path(place) / str(number)
            folder.mkdir()
            path = folder / "recording.flac"
            path.write_bytes(encode(recording.audio))
            print(f"\n{recording.name}, {len(recording.audio) / SAMPLE_RATE:.0f} s")
            for name, system in SYSTEMS.items():
                out = folder / name
                out.mkdir()
                cost = run(system.command(weights, path, out), {**os.environ, "WHISPER_FARM_DATA": str(out / "state")})
                line = measures(recording.words, system.texts(cost.output, out))
                print(f"  {name:11} {line}  {cost.seconds:5.1f} s", flush=True)


if __name__ == "__main__":
    main()
