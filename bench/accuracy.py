"""Real Whisper on public speech: the farm, cut into chunks, against one pass of the same model over the whole file.

Needs a model hub (another one by `HF_ENDPOINT`), so it cannot run where none is reachable; it says so and ends with
status 1. Speech: recordings of LibriSpeech's test-clean (CC BY 4.0), the utterances of a chapter joined into
one recording with their words known. Both sides use equal options; word error rates are those of
`bench.error_rate`.

    ./run accuracy [--model small] [--recordings 5]
"""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from whisper_farm.errors import FarmError

SPEECH = "https://www.openslr.org/resources/12/test-clean.tar.gz"
SPEECH_MB = 350
TIMEOUT_SECONDS = 60
PAUSE_SECONDS = 0.7


@dataclass(frozen=True, slots=True)
class Recording:
    """One chapter read aloud, as a file, and its words."""

    path: Path
    words: str


def fetch(folder: Path) -> Path:
    """The speech, kept in `folder`; fetched once."""
    import httpx

    archive = folder / "test-clean.tar.gz"
    if archive.exists():
        return archive
    part = archive.with_suffix(".part")
    print(f"Fetching {SPEECH_MB} MB of speech ...")
    with httpx.stream("GET", SPEECH, timeout=TIMEOUT_SECONDS, follow_redirects=True) as answer:
        answer.raise_for_status()
        with part.open("wb") as file:
            for block in answer.iter_bytes():
                file.write(block)
    part.replace(archive)
    return archive


def chapters(archive: Path, folder: Path, count: int) -> Iterator[Recording]:
    """The first `count` chapters, each one recording."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    texts = sorted(folder.glob("LibriSpeech/test-clean/*/*/*.trans.txt"))
    for text in texts[:count]:
        lines = [line.split(" ", 1) for line in text.read_text().splitlines()]
        path = folder / f"{text.stem}.flac"
        join([text.parent / f"{name}.flac" for name, _ in lines], path)
        yield Recording(path, " ".join(words for _, words in lines))


def join(parts: list[Path], path: Path) -> None:
    """Write recordings one after the other, with pauses between."""
    import av
    import numpy as np

    silence = np.zeros((1, int(PAUSE_SECONDS * 16_000)), np.int16)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("flac", rate=16_000, layout="mono")
        position = 0
        for part in parts:
            resampler = av.AudioResampler(format="s16", layout="mono", rate=16_000)
            with av.open(str(part)) as source:
                blocks = [piece.to_ndarray() for frame in source.decode(audio=0) for piece in resampler.resample(frame)]
            for block in (*blocks, silence):
                frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
                frame.sample_rate, frame.pts = 16_000, position
                position += frame.samples
                out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def one_pass(model: str, path: Path) -> str:
    """faster-whisper over the whole file, as it comes."""
    from faster_whisper import WhisperModel

    segments, _ = WhisperModel(model).transcribe(str(path), language="en", beam_size=5)
    return "".join(segment.text for segment in segments)


def by_farm(model: str, path: Path, folder: Path) -> str:
    """`whisper-farm transcribe` on the same file."""
    import subprocess

    command = [sys.executable, "-m", "whisper_farm.cli.main", "transcribe", str(path), "--engine", "faster-whisper"]
    command += ["--model", model, "--language", "en", "-f", "txt", "-o", str(folder), "--quiet"]
    subprocess.run(command, check=True, env={**os.environ, "WHISPER_FARM_DATA": str(folder / "state")})
    return (folder / f"{path.stem}.txt").read_text(encoding="utf-8")


@click.command()
@click.option("--model", default="small", show_default=True)
@click.option("--recordings", default=5, show_default=True, type=click.IntRange(1, 87))
@click.option("--cache", default="~/.cache/whisper-farm-speech", show_default=True, help="Where the speech is kept.")
def main(model: str, recordings: int, cache: str) -> None:
    """Word error rates of the farm and of one pass, per recording and over all."""
    import httpx

    from bench.error_rate import word_error_rate
    from whisper_farm.engines.engine import EngineSettings
    from whisper_farm.engines.hub import find_model

    kept = Path(cache).expanduser()
    kept.mkdir(parents=True, exist_ok=True)
    try:
        find_model(model, EngineSettings(), None, lambda progress: None)
        archive = fetch(kept)
    except (FarmError, httpx.HTTPError) as error:
        sys.exit(f"This needs a model hub and public speech, and cannot reach them: {error}")
    heard: dict[str, list[str]] = {"farm": [], "one pass": []}
    said: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for recording in chapters(archive, folder, recordings):
            said.append(recording.words)
            heard["farm"].append(by_farm(model, recording.path, folder))
            heard["one pass"].append(one_pass(model, recording.path))
            rates = "  ".join(f"{side} {word_error_rate(said[-1], texts[-1]):.2%}" for side, texts in heard.items())
            print(f"{recording.path.stem:20} {rates}")
    for side, texts in heard.items():
        print(f"{'all, ' + side:20} {word_error_rate(' '.join(said), ' '.join(texts)):.2%}")


if __name__ == "__main__":
    main()
