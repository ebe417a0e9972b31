"""One farm for all tests that leave its server alone, and what undisturbed runs say about its recordings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from farm_processes import Farm, Known, Recording

sys.path.append(str(Path(__file__).parent.with_name("coordinator")))  # for its `hand_worker`


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A server on SQLite with leases of about a second. Tests bring their own workers."""
    with Farm(tmp_path_factory.mktemp("farm")) as farm:
        yield farm


@pytest.fixture(scope="session")
def undisturbed(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Known]:
    """`talk`: a minute. `long`: more than 120 chunks."""
    folder: Path = tmp_path_factory.mktemp("recordings")
    recordings = {
        "talk": Recording.long(folder / "talk.wav", 150),
        "long": Recording.long(folder / "long.wav", 560, gap=0.6, first=1000),
    }
    with farm.worker("--slots", "2", "--batch_size", "16"):
        ids = {name: farm.submit(recording) for name, recording in recordings.items()}
        return {name: Known(recording, farm.finished(ids[name])) for name, recording in recordings.items()}


@pytest.fixture(scope="session")
def talk(undisturbed: dict[str, Known]) -> Known:
    """A minute of speech."""
    return undisturbed["talk"]


@pytest.fixture(scope="session")
def long_talk(undisturbed: dict[str, Known]) -> Known:
    """More than 120 chunks."""
    return undisturbed["long"]
