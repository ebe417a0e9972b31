"""What the attacks are tried on: a served farm on SQLite and a folder, and workers by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hand_worker import HandWorker
from support.served_farm import ServedFarm

StartFarm = Callable[..., ServedFarm]


@pytest.fixture
def start_farm(tmp_path: Path) -> Iterator[StartFarm]:
    """Starts served farms, by default in one data folder; all are stopped at the end."""
    started: list[ServedFarm] = []

    def start(**given: Any) -> ServedFarm:
        farm = ServedFarm(**{"data": tmp_path / "data", **given})
        farm.__enter__()
        started.append(farm)
        return farm

    yield start
    for farm in reversed(started):
        farm.__exit__(None, None, None)


@pytest.fixture
def farm(start_farm: StartFarm) -> ServedFarm:
    """A farm with default settings."""
    return start_farm()


@pytest.fixture
def make_worker() -> Iterator[Callable[..., HandWorker]]:
    """Registers workers by hand; all are closed at the end."""
    made: list[HandWorker] = []

    def make(farm: ServedFarm, worker_id: str = "w-1", token: str | None = None, **given: Any) -> HandWorker:
        worker = HandWorker(farm.url, token or farm.token, worker_id, **given)
        made.append(worker)
        worker.register()
        return worker

    yield make
    for worker in made:
        worker.close()
