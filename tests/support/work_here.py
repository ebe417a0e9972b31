"""Running a worker in a test: settings for a fake farm, an agent in this process, audio with known words."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import time
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import pytest

from support.bare_farm import TOKEN
from support.fake_farm import FakeFarm
from support.tone_audio import ToneSpeech, tone_speech, tone_words
from whisper_farm.audio.flac import encode
from whisper_farm.audio.sound import Waveform
from whisper_farm.settings import WorkerSettings
from whisper_farm.worker.agent import Agent
from whisper_farm.worker.notices import Notice

T = TypeVar("T")
PATIENCE = 90.0
"""Longer than anything takes on a loaded machine; tests wait for events, never for time."""


def worker_settings(url: str, **changes: object) -> WorkerSettings:
    """A worker with one lane of the engine that hears tones."""
    usual: dict[str, object] = {
        "server": url,
        "token": TOKEN,
        "name": "tester",
        "engines": ("tones",),
        "slots": 1,
        "batch_size": 4,
        "cuts": False,
        "request_timeout_seconds": 5.0,
    }
    return WorkerSettings.model_validate(usual | changes)


def speech(number: int, words: int = 4) -> ToneSpeech:
    """Speech whose words no other number has."""
    return tone_speech(tone_words(words, first=number * words))


def add_speech(farm: FakeFarm, *spoken: ToneSpeech) -> list[tuple[str, float]]:
    """Queue one chunk for each, one after the other in the recording; every word with its true start."""
    truth, at = [], 0.0
    for each in spoken:
        farm.add_chunk(encode(each.audio), at, each.seconds)
        truth += [(word.text.strip(), at + word.start) for word in each.words]
        at += each.seconds
    return truth


def wav(audio: Waveform) -> bytes:
    """The audio as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        out.writeframes((audio * 32767).astype("<i2").tobytes())
    return file.getvalue()


def recording(words: int) -> tuple[bytes, list[tuple[str, float]]]:
    """A WAV file with a pause after every word, so that no cut goes through one; its words with their starts."""
    spoken = tone_speech(tone_words(words), gap=0.3)
    return wav(spoken.audio), [(word.text.strip(), word.start) for word in spoken.words]


async def until(look: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """Wait until there is something to see; fail the test if there is not."""
    give_up_at = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < give_up_at, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.01)
    return found


class Worker:
    """An agent that runs, and what it has said."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.notices: list[Notice] = []
        self.agent = Agent(settings, self.notices.append)
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(self.agent.run(self.stop))

    def said(self, kind: str) -> list[Notice]:
        """Its notices of one kind."""
        return [notice for notice in self.notices if notice.kind == kind]

    async def ended(self) -> None:
        """Wait for its end."""
        await asyncio.wait_for(asyncio.shield(self.task), PATIENCE)


@asynccontextmanager
async def working(settings: WorkerSettings) -> AsyncIterator[Worker]:
    """A worker while the block runs; ended at once afterwards, if it has not ended."""
    worker = Worker(settings)
    try:
        yield worker
    finally:
        worker.agent.leave_now()
        await worker.ended()


@contextmanager
def worker_process(settings: WorkerSettings) -> Iterator[subprocess.Popen[str]]:
    """A worker in a process of its own, as the command line runs it; killed after the block if it has not ended."""
    given = settings.model_dump(mode="json", exclude_none=True)
    environment = {f"WHISPER_FARM_WORKER_{name.upper()}": _as_text(value) for name, value in given.items()}
    program = (
        "from whisper_farm.settings import WorkerSettings; from whisper_farm.worker.run import run_worker;"
        "run_worker(WorkerSettings())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def same(heard: list[tuple[str, float]], truth: list[tuple[str, float]]) -> None:
    assert [word for word, _ in heard] == [word for word, _ in truth]
    assert [at for _, at in heard] == pytest.approx([at for _, at in truth], abs=0.01)
