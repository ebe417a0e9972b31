"""The farm against faster-whisper's own pipelines: same model, same audio, same machine, one run after the other.

The model has Whisper's true shape and random weights, so the work is real and the words mean nothing: quality
thresholds are off and every window decodes about 100 tokens, as real podcast speech does.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

from bench.measure import run
from bench.shaped_model import write_model

TOKENS = 100
MINUTES = 10
ROUNDS = 3

PIPELINE = """
import sys
from faster_whisper import BatchedInferencePipeline, WhisperModel
model_folder, audio, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
model = WhisperModel(model_folder, device="cpu", compute_type="int8", cpu_threads={cores})
options = dict(language="en", beam_size=5, temperature=0.0, word_timestamps=True, max_new_tokens={tokens},
               compression_ratio_threshold=None, log_prob_threshold=None, no_speech_threshold=None)
if batch:
    segments, info = BatchedInferencePipeline(model).transcribe(audio, batch_size=batch, **options)
else:
    segments, info = model.transcribe(audio, condition_on_previous_text=False, **options)
print(sum(1 for _ in segments), info.duration)
"""


def speech(folder: Path, minutes: int = MINUTES) -> Path:
    """The sample podcast, repeated."""
    import av

    sample = next((Path(__file__).parent.parent / "examples").glob("podcast.[!tp]*"))
    path = folder / "speech.flac"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("flac", rate=16_000, layout="mono")
        left = minutes * 60 * 16_000
        pts = 0
        while left > 0:
            with av.open(str(sample)) as source:
                resampler = av.AudioResampler(format="s16", layout="mono", rate=16_000)
                for frame in source.decode(audio=0):
                    for piece in resampler.resample(frame):
                        if left <= 0:
                            break
                        piece.pts = pts
                        pts += piece.samples
                        left -= piece.samples
                        out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return path


def farm_command(model: Path, audio: Path, out: Path) -> list[str]:
    """What a user types, with the random weights' peculiarities switched off."""
    return [
        sys.executable, "-m", "whisper_farm.cli.main", "transcribe", str(audio), "--engine", "faster-whisper",
        "--model", str(model), "--language", "en", "--temperature", "0", "--temperature_increment_on_fallback", "None",
        "--compression_ratio_threshold", "None", "--logprob_threshold", "None", "--no_speech_threshold", "None",
        "--vad_filter", "False", "--max_new_tokens", str(TOKENS), "--device", "cpu",
        "--output_dir", str(out), "--quiet",
    ]  # fmt: skip


def main(models: tuple[str, ...] = ("tiny", "base")) -> None:
    """Print one table a model."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pipeline = PIPELINE.format(cores=cores, tokens=TOKENS)
    for name in models:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            model, audio = folder / name, speech(folder)
            write_model(name, model)
            commands = {
                "faster-whisper, sequential": [sys.executable, "-c", pipeline, str(model), str(audio), "0"],
                "faster-whisper, batched (8)": [sys.executable, "-c", pipeline, str(model), str(audio), "8"],
                "whisper-farm transcribe": farm_command(model, audio, folder / "out"),
            }
            print(f"\nRecognition, whisper-shaped {name}, int8, {MINUTES} min of speech, {TOKENS} tokens a window,")
            print(f"{cores} cores, whole processes from start to exit, median of {ROUNDS} rounds in turn")
            compare(commands, folder)


def compare(commands: dict[str, list[str]], folder: Path) -> None:
    """Run every command in turn, several rounds; print speeds and the farm's ratio to the better of the others."""
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(ROUNDS):
        for name, command in commands.items():
            state = {**os.environ, "WHISPER_FARM_DATA": str(folder / f"state{number}")}
            cost = run(command, state)
            costs[name].append((cost.seconds, cost.peak_mb))
    medians = {name: statistics.median(seconds for seconds, _ in each) for name, each in costs.items()}
    for name, each in costs.items():
        peak = max(mb for _, mb in each)
        spread = f"{min(s for s, _ in each):.1f}–{max(s for s, _ in each):.1f}"
        print(f"  {name:30} {MINUTES * 60 / medians[name]:6.1f} × real time   {spread:>11} s   peak {peak:5.0f} MB")
    *others, farm = medians.values()
    print(f"  ratio to the better of the two: {min(others) / farm:.2f} (aim: 1.3)")


if __name__ == "__main__":
    main()
