"""The demonstration: transcribe the sample podcast on a farm of local workers, then count the wrong words.

Uses the engine that needs no download (PocketSphinx), with state in a temporary folder, so that every run
does all of the work. Arguments are handed on to `whisper-farm transcribe`, so
`./run demo --engine faster-whisper --model small` shows the same with Whisper.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from whisper_farm.transcript.error_rate import word_error_rate

FOLDER = Path(__file__).resolve().parent
PODCAST = next(FOLDER.glob("podcast.[!tp]*"))
KNOWN_WORDS = FOLDER / "podcast.txt"
RESULTS = FOLDER / "out"


def main(arguments: list[str]) -> int:
    """Run the demonstration; its exit status is that of the transcription."""
    engine = [] if any(a.startswith("--engine") for a in arguments) else ["--engine", "pocketsphinx"]
    command = [sys.executable, "-m", "whisper_farm.cli.main", "transcribe", os.path.relpath(PODCAST), *engine]
    command += ["--output_dir", os.path.relpath(RESULTS), *arguments]
    print("$ whisper-farm " + " ".join(command[3:]), flush=True)
    heard = RESULTS / f"{PODCAST.stem}.txt"
    heard.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="whisper-farm-demo-") as state:
        status = subprocess.run(command, env={**os.environ, "WHISPER_FARM_DATA": state}, check=False).returncode
    if status == 0:
        print(f"\n{rate_of(heard)}")
        if engine:
            print("The voices are synthetic and the recogniser is PocketSphinx, which needs no download.")
            print("Real voices need Whisper: whisper-farm transcribe YOUR.mp3 fetches it once and uses it.")
    return status


def rate_of(heard: Path) -> str:
    """How many words of a transcript are wrong, in a sentence; or why that is not counted."""
    if not heard.is_file():
        return f"The wrong words were not counted: this run wrote no {heard.name} into {heard.parent}."
    wrong = word_error_rate(KNOWN_WORDS.read_text(encoding="utf-8"), heard.read_text(encoding="utf-8"))
    return f"Word error rate against the known words: {wrong:.1%}."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
