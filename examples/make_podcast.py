"""Make the sample podcast: `podcast.mp3`, two synthetic voices, and `podcast.txt`, the words they say, a line a turn.

Run it with `uv run python examples/make_podcast.py`. It needs Debian's `flite` (`apt-get install flite`) on the PATH
and gives the same speech every time. The words are plain ones, so that even a small recogniser hears most of them;
the pauses in square brackets, in seconds, are of many lengths, so that a recording is cut in different places.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import wave
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
BIT_RATE = 40_000
VOICES = {"Anna": "slt", "Ben": "rms"}
SLOWER = 1.1
"""Every sound is this much longer than flite would make it."""
PAUSE = re.compile(r"\s*\[([\d.]+)\]\s*")

TURNS = (
    ("Anna", "Hello, and welcome to the program. [0.7] Today we are going to visit a farm. [1.1]"),
    (
        "Ben",
        "It is a very large farm, in a green valley between two rivers. [0.5] "
        "Every autumn the apples have to be picked before the winter comes. [0.8]",
    ),
    ("Anna", "How many trees are we talking about? [0.6]"),
    (
        "Ben",
        "About one thousand trees. [0.9] One man alone would need the whole winter, "
        "and most of the fruit would be lost. [0.4]",
    ),
    ("Anna", "So they ask for help. [0.5]"),
    (
        "Ben",
        "They do. [0.3] People come from every part of the valley. [0.6] Some of them are young and strong. [0.25] "
        "Some of them are old and slow, but they know the trees. [1.4]",
    ),
    ("Anna", "Does somebody tell them what to do? [0.8]"),
    (
        "Ben",
        "No, nobody does. [0.5] That is the best part of the story. [0.7] There is a board at the gate, "
        "with a number for every part of the garden. [0.35] If you want to work, you take a number and go. [0.9]",
    ),
    ("Anna", "What happens when the work is finished? [0.4]"),
    (
        "Ben",
        "Then they come back to the gate, and take the next number. [0.6] The fast workers take many numbers. [0.2] "
        "The slow workers take a few. [0.45] Nobody has to wait for anybody else. [1.8]",
    ),
    ("Anna", "What happens when somebody gets tired, and leaves? [0.7]"),
    (
        "Ben",
        "That is a good question. [0.5] Every hour a boy walks through the trees, and asks each worker one question. "
        "[0.4] Are you still there? [1.2] If there is no answer, the number goes back on the board, "
        "and somebody else will take it. [0.6]",
    ),
    ("Anna", "That means that nothing is forgotten. [0.3]"),
    (
        "Ben",
        "Nothing at all. [0.8] Every part is counted once, "
        "because there is only one piece of paper for each of them. [2.4]",
    ),
    ("Anna", "I like that. [0.5] But the apples will not come back in the right order. [0.6]"),
    (
        "Ben",
        "They come back at all times of the day. [0.7] But there is a number on every box. [0.3] "
        "At the end of the day we put them all in line, from the first to the last. [0.5]",
    ),
    ("Anna", "And then you can see if something has been lost. [0.35]"),
    ("Ben", "Exactly. [0.6] If there is a hole in the line, we know where to look. [1.5]"),
    ("Anna", "How long did it take last year? [0.5]"),
    (
        "Ben",
        "With ten people it takes a week. [0.4] With a hundred people it takes less than a day. [0.8] "
        "The work is the same, but the time is not. [0.7]",
    ),
    ("Anna", "Is there something that does not get faster? [0.9]"),
    (
        "Ben",
        "Yes, there is. [0.4] The evening meal. [1.0] Everybody sits down at the same table, "
        "and there is only one kitchen. [3.2]",
    ),
    ("Anna", "And what can the rest of us learn from this? [0.7]"),
    (
        "Ben",
        "Divide the work into small pieces. [0.5] Let people take a piece when they are ready. [0.65] "
        "Remember who has taken it. [0.3] Always look at the numbers before you go to bed. [1.0]",
    ),
    ("Anna", "That is good advice for any kind of work. [0.4] It was very good to have you on the program. [0.6]"),
    ("Ben", "I was happy to come. [0.3] Come and see us in the autumn. [1.3]"),
    ("Anna", "I would love to. [0.5] Until next week, good night. [1.6]"),
)

Samples = NDArray[np.int16]


def words_of_turns() -> str:
    """What is said: one line for each turn, without pauses and names."""
    return "".join(PAUSE.sub(" ", text).strip() + "\n" for _, text in TURNS)


def spoken(voice: str, sentence: str, folder: Path) -> Samples:
    """One sentence as flite says it."""
    file = folder / "sentence.wav"
    stretch = f"duration_stretch={SLOWER}"
    subprocess.run(["flite", "-voice", voice, "--setf", stretch, "-t", sentence, "-o", file], check=True, timeout=60)
    with wave.open(str(file)) as sound:
        if (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) != (SAMPLE_RATE, 1, 2):
            raise SystemExit(f"flite's voice {voice} does not speak 16-bit mono at {SAMPLE_RATE} Hz")
        return np.frombuffer(sound.readframes(sound.getnframes()), dtype=np.int16)


def conversation(folder: Path) -> Iterator[Samples]:
    """The whole podcast, sentence by sentence, each followed by its pause."""
    for speaker, text in TURNS:
        parts = PAUSE.split(text)[:-1]
        for sentence, pause in zip(parts[::2], parts[1::2], strict=True):
            yield spoken(VOICES[speaker], sentence, folder)
            yield np.zeros(round(float(pause) * SAMPLE_RATE), dtype=np.int16)


def write_mp3(samples: Samples, file: Path) -> None:
    """Compress the samples."""
    with av.open(str(file), "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=SAMPLE_RATE, layout="mono", bit_rate=BIT_RATE)
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis, :], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def main() -> None:
    """Write both files into `--folder`, by default beside this script."""
    parser = argparse.ArgumentParser(description="Make the sample podcast and its words.")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    folder: Path = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as scratch:
        samples = np.concatenate(list(conversation(Path(scratch))))
    write_mp3(samples, folder / "podcast.mp3")
    (folder / "podcast.txt").write_text(words_of_turns(), encoding="utf-8")
    print(f"{folder / 'podcast.mp3'}: {len(samples) / SAMPLE_RATE:.1f} s, {len(words_of_turns().split())} words")


if __name__ == "__main__":
    main()
