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

from bench.accuracy import SYSTEMS
from bench.error_rate import word_error_rate
from bench.known_recordings import KnownRecording, Said, example, music, noise, recording, silence
from bench.measure import Cost
from examples.weights import base
from whisper_farm.audio.flac import encode
from whisper_farm.audio.sound import SAMPLE_RATE, Waveform

SECONDS = 600
ROUNDS = int(os.environ.get("ROUNDS", "3"))
Sound = Callable[[float], Waveform]


def recordings() -> Iterator[KnownRecording]:
    """The three of them."""
    yield joined("clean speech", [lambda _: silence(0)])
    yield joined("pauses, music and noise", [silence, music, noise])
    yield recording("a clip", [example("inaugural.flac")])


def joined(name: str, between: Sequence[Sound]) -> KnownRecording:
    """The examples one after the other for ten minutes, and something between them."""
    pieces: list[Said] = []
    lengths, fillers = cycle([2.0, 20.0, 7.0, 40.0]), cycle(between)
    speech = cycle([example("podcast.mp3"), example("inaugural.flac")])
    while sum(len(piece.audio) for piece in pieces) < SECONDS * SAMPLE_RATE:
        pieces += [Said("", next(fillers)(next(lengths))), next(speech)]
    return recording(name, pieces)


def main() -> None:
    """One table a recording."""
    model = str(base())
    for known in recordings():
        print(f"\nRecognition, base, int8, {known.name}, {known.seconds:.0f} s, median of {ROUNDS} rounds in turn")
        with tempfile.TemporaryDirectory() as place:
            compare(known, model, Path(place))


def compare(known: KnownRecording, model: str, folder: Path) -> None:
    """Run every system in turn, several rounds; print what it cost, and the farm beside the better of the others."""
    path = folder / "recording.flac"
    path.write_bytes(encode(known.audio))
    costs: dict[str, list[Cost]] = {name: [] for name in SYSTEMS}
    errors: dict[str, float] = {}
    for number in range(ROUNDS):
        for name, system in SYSTEMS.items():
            cost, segments = system.run(model, path, folder / f"{name}{number}", known)
            costs[name].append(cost)
            errors[name] = word_error_rate(known.words, " ".join(one["text"] for one in segments))
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
