"""Who speaks, with real weights: how many words the farm gives to the wrong speaker, and how many speakers it finds.

The recordings are made by a script from voices of packages (`bench/voices.py`): two neural ones, and, where Debian's
packages can be had, readers and people who record prompts. Turns follow each other back to back or with pauses.

    .venv/bin/python -m bench.speakers [--model FOLDER]     # after ./run accuracy has set everything up
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import click

from bench.known_recordings import Turn, by_telephone, example, over_music, recording, spaced
from bench.measure import run
from bench.voices import Said, conversation, prompts, readers
from examples.make_podcast import TURNS
from examples.speaker_weights import speaker_model
from examples.weights import base
from whisper_farm.audio.flac import encode

Turns = list[tuple[str, Said]]
"""Who speaks, and what."""


def everything() -> Iterator[tuple[str, Turns]]:
    """The recordings by name."""
    two = list(zip((who for who, _ in TURNS), conversation(), strict=True))
    half = two[: len(two) // 2]
    yield "two voices, back to back", two
    yield "over music", [(who, over_music(one)) for who, one in half]
    yield "by telephone", [(who, Said(one.words, by_telephone(one.audio))) for who, one in half]
    for name in ("Anna", "Ben"):
        yield f"{name} alone", [(who, one) for who, one in two if who == name]
    voices = {"prompts": prompts("en", 60), "reader": readers(), "Kennedy": [example("inaugural.flac")]}
    if voices["prompts"]:
        voices |= {name: [one for who, one in half if who == name] for name in ("Anna", "Ben")}
        rounds = max(map(len, voices.values()))
        yield "five voices", [(who, said[n]) for n in range(rounds) for who, said in voices.items() if n < len(said)]


def wrong_words(segments: Sequence[dict[str, Any]], turns: Sequence[Turn]) -> tuple[int, int, int]:
    """How many words have the wrong speaker, by the names that fit best; of how many; and how many were found."""
    seen: Counter[tuple[str, str]] = Counter()
    for segment in segments:
        for word in segment["words"]:
            middle = (word["start"] + word["end"]) / 2
            who = next((turn.speaker for turn in turns if turn.speaker and turn.start <= middle <= turn.end), None)
            if who is not None:
                seen[segment.get("speaker", "nobody"), who] += 1
    found, there = sorted({name for name, _ in seen}), sorted({who for _, who in seen})
    names = found + [""] * (len(there) - len(found))
    right = max(sum(seen[pair] for pair in zip(way, there, strict=False)) for way in permutations(names, len(there)))
    return seen.total() - right, seen.total(), len(found)


@click.command()
@click.option("--model", help="A model's name or folder. [default: base from the package index]")
def main(model: str | None) -> None:
    """Words with the wrong speaker, speakers found, and processor-seconds, for each recording."""
    print(f"{'':28} {'wrong':>11}  speakers  processor")
    with tempfile.TemporaryDirectory() as place:
        for number, (name, turns) in enumerate(everything()):
            known = recording(name, spaced([said for _, said in turns]), speakers=[who for who, _ in turns])
            path = Path(place) / f"{number}.flac"
            path.write_bytes(encode(known.audio))
            command = [sys.executable, "-m", "whisper_farm", "transcribe", str(path), "--model", model or str(base())]
            speakers = ["--diarize", "--speaker_model", str(speaker_model()), "--language", "en"]
            environment = {**os.environ, "WHISPER_FARM_DATA": f"{place}/state"}
            cost = run([*command, *speakers, "-f", "json", "-o", place, "--quiet"], environment)
            segments = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["segments"]
            wrong, words, found = wrong_words(segments, known.turns)
            there, cpu = len(known.speakers), cost.processor_seconds
            took = f"{cpu:5.1f} s for {known.seconds:.0f} s"
            print(f"{name:28} {wrong:3} of {words:4}  {found} of {there}  {took}", flush=True)


if __name__ == "__main__":
    main()
