"""The farm against faster-whisper's own pipelines: real `base`, same audio, same machine, whole processes in turn.

Ten minutes of speech as it comes, ten minutes with pauses, music and noise in between, and one clip of eleven seconds,
which shows what starting costs. The words of all of them are known, so speed is not bought with words. Where the
machine has other work, compare processor-seconds: wall time says little then.

    ./run bench recognition
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np

from bench.accuracy import SYSTEMS, KnownRecording, examples
from bench.error_rate import word_error_rate
from bench.measure import Cost, run
from examples.weights import base
from whisper_farm.audio.flac import encode
from whisper_farm.audio.sound import SAMPLE_RATE, Waveform

SECONDS = 600
ROUNDS = int(os.environ.get("ROUNDS", "3"))
Sound = Callable[[float], Waveform]


def recordings() -> Iterator[KnownRecording]:
    """The three of them."""
    yield joined("clean speech", [lambda seconds: np.zeros(0, np.float32)])
    yield joined("pauses, music and noise", [silence, music, noise])
    yield examples()[1]


def joined(name: str, between: Sequence[Sound]) -> KnownRecording:
    """The examples one after the other for ten minutes, and something between them."""
    parts: list[Waveform] = []
    words: list[str] = []
    lengths = cycle([2.0, 20.0, 7.0, 40.0])
    fillers = cycle(between)
    for example in cycle(examples()):
        if sum(map(len, parts)) >= SECONDS * SAMPLE_RATE:
            break
        parts += [next(fillers)(next(lengths)), example.audio]
        words.append(example.words)
    return KnownRecording(name, np.concatenate(parts), " ".join(words))


def silence(seconds: float) -> Waveform:
    """Nothing at all."""
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def noise(seconds: float) -> Waveform:
    """White noise, soft."""
    return np.random.default_rng(1).normal(0, 0.003, round(seconds * SAMPLE_RATE)).astype(np.float32)


def music(seconds: float) -> Waveform:
    """A chord every half second."""
    at = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    roots = np.array([220.0, 261.6, 293.7, 196.0])[(at * 2).astype(int) % 4]
    chord = sum(np.sin(2 * np.pi * roots * ratio * at) for ratio in (1, 1.25, 1.5)) * np.exp(-4 * (at % 0.5))
    return np.asarray(0.1 * chord, np.float32)


def main() -> None:
    """One table a recording."""
    model = str(base())
    for recording in recordings():
        length = len(recording.audio) / SAMPLE_RATE
        print(f"\nRecognition, base, int8, {recording.name}, {length:.0f} s, median of {ROUNDS} rounds in turn")
        with tempfile.TemporaryDirectory() as place:
            compare(recording, model, Path(place))


def compare(recording: KnownRecording, model: str, folder: Path) -> None:
    """Run every system in turn, several rounds; print what it cost, and the farm beside the better of the others."""
    path = folder / "recording.flac"
    path.write_bytes(encode(recording.audio))
    costs: dict[str, list[Cost]] = {name: [] for name in SYSTEMS}
    errors: dict[str, float] = {}
    for number in range(ROUNDS):
        for name, system in SYSTEMS.items():
            out = folder / f"{name}{number}"
            out.mkdir()
            cost = run(system.command(model, path, out), {**os.environ, "WHISPER_FARM_DATA": str(out / "state")})
            costs[name].append(cost)
            errors[name] = word_error_rate(recording.words, " ".join(system.texts(cost.output, out)))
    wall = {name: statistics.median(cost.seconds for cost in each) for name, each in costs.items()}
    processor = {name: statistics.median(cost.processor_seconds for cost in each) for name, each in costs.items()}
    peak = {name: max(cost.peak_mb for cost in each) for name, each in costs.items()}
    for name in SYSTEMS:
        print(
            f"  {name:11} {wall[name]:6.1f} s   {processor[name]:6.1f} processor-seconds   peak {peak[name]:5.0f} MB"
            f"   WER {100 * errors[name]:5.2f} %"
        )
    for what, cost_of in (("wall time", wall), ("processor time", processor), ("peak memory", peak)):
        farm, *others = (cost_of[name] for name in SYSTEMS)
        print(f"  {what}: {min(others) / farm:.2f} × the better of the two, {farm - min(others):+.1f}")


if __name__ == "__main__":
    main()
