"""The demonstration: two recordings, a farm of local workers, real Whisper; then the wrong words are counted.

The model is `tiny.en`, the smallest there is, because it comes from the package index. State is in a temporary folder,
so that every run does all of the work. Arguments are handed on to `whisper-farm transcribe`:
`./run demo --model small` shows the same with a larger model, which the model hub must have.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.error_rate import word_error_rate
from examples.weights import tiny_en

FOLDER = Path(__file__).resolve().parent
RECORDINGS = {
    FOLDER / "podcast.mp3": "two synthetic voices",
    FOLDER / "inaugural.flac": "President Kennedy, 1961",
}
RESULTS = FOLDER / "out"


def main(arguments: list[str]) -> int:
    """Run the demonstration; its exit status is that of the transcription."""
    own_model = not any(argument.partition("=")[0] in ("--model", "--engine") for argument in arguments)
    model = ["--model", os.path.relpath(tiny_en()), "--language", "en"] if own_model else []
    command = [sys.executable, "-m", "whisper_farm", "transcribe", *map(os.path.relpath, RECORDINGS), *model]
    command += ["--output_dir", os.path.relpath(RESULTS), *arguments]
    print("$ whisper-farm " + " ".join(command[3:]), flush=True)
    for recording in RECORDINGS:
        heard_in(recording).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="whisper-farm-demo-") as state:
        status = subprocess.run(command, env={**os.environ, "WHISPER_FARM_DATA": state}, check=False).returncode
    if status == 0:
        print()
        for recording, voice in RECORDINGS.items():
            print(f"{recording.name} ({voice}): {rate_of(recording)}")
        if own_model:
            print("This was Whisper tiny.en, the smallest model, from the package index.")
            print("Better ones come from the model hub by name: whisper-farm transcribe YOUR.mp3 fetches small,")
            print("--model turbo the one for a GPU. Without a hub, give the folder of a model: --model FOLDER.")
    return status


def heard_in(recording: Path) -> Path:
    """Where the text of a recording is written."""
    return RESULTS / f"{recording.stem}.txt"


def rate_of(recording: Path) -> str:
    """How many words of a transcript are wrong, in a sentence; or why that is not counted."""
    heard = heard_in(recording)
    if not heard.is_file():
        return f"the wrong words were not counted, for this run wrote no {heard.name} into {heard.parent}."
    said = recording.with_suffix(".txt").read_text(encoding="utf-8")
    return f"word error rate {word_error_rate(said, heard.read_text(encoding='utf-8')):.1%}."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
