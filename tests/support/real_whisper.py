"""A farm with real Whisper (tiny.en) on this machine, for clients of others."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.error_rate import word_error_rate
from examples.speaker_weights import speaker_model
from examples.weights import tiny_en
from support.farm_processes import Farm, until
from whisper_farm.engines.voices import DEFAULT, FILE

SPEECH = Path(__file__).resolve().parents[2] / "examples" / "inaugural.flac"
"""A real speaker, eleven seconds, with the known words beside it."""
WORKER = ("--engine", "faster-whisper", "--device", "cpu", "--slots", "1", "--batch_size", "1")


@contextmanager
def farm_with_whisper(folder: Path) -> Iterator[Farm]:
    """A farm whose `whisper-1` is tiny.en, with one worker. The default speaker model is in its cache."""
    settings = {
        "WHISPER_FARM_DEFAULT_MODEL": str(tiny_en()),
        "WHISPER_FARM_LOCAL_MODELS": "true",
        "WHISPER_FARM_LEASE_SECONDS": "60",
        "WHISPER_FARM_HEARTBEAT_SECONDS": "2",
    }
    with Farm(folder, settings=settings) as farm, farm.worker(*WORKER, HF_HUB_CACHE=str(_cache(folder / "hub"))):
        until(lambda: list(farm.client.workers()), "the worker is there")
        yield farm


def _cache(hub: Path) -> Path:
    home, commit = hub / f"models--{DEFAULT.repo.replace('/', '--')}", "0" * 40
    snapshot = home / "snapshots" / commit
    snapshot.mkdir(parents=True)
    shutil.copyfile(speaker_model(), snapshot / FILE)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    return hub


def wrong(text: str) -> float:
    """The word error rate of what was heard in `SPEECH`."""
    return word_error_rate(SPEECH.with_suffix(".txt").read_text(encoding="utf-8"), text)
