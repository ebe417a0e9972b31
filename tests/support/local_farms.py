"""The farm inside `transcribe`, without the command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from whisper_farm.client.loop_thread import LoopThread
from whisper_farm.farm import LocalFarm
from whisper_farm.settings import Policy, WorkerSettings
from whisper_farm.worker.local import LocalWorker


@contextmanager
def local_farm(data: Path) -> Iterator[LocalFarm]:
    """A farm with its state in this folder, and a worker that recognises tones."""
    settings = WorkerSettings(engines=("tones",))
    with (
        closing(LoopThread("farm")) as loop,
        closing(LocalWorker(loop, settings)) as worker,
        LocalFarm(data, Policy(), worker) as farm,
    ):
        yield farm
