"""Farms for all tests that leave their server alone, and what undisturbed runs say about their recordings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.farm_processes import LONG_TALK_CHUNK_SECONDS, Farm, Known, Recording
from support.made_once import made_once
from support.postgres import PostgresServer


@pytest.fixture(scope="session")
def sqlite_farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A server on SQLite with leases of about a second. Tests bring their own workers."""
    with Farm(tmp_path_factory.mktemp("farm")) as farm:
        yield farm


@pytest.fixture(scope="session")
def postgres_farm(
    postgres_server: PostgresServer, postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Farm]:
    """The same on PostgreSQL."""
    folder: Path = tmp_path_factory.mktemp("postgres_farm")
    name = f"by_hand_{tmp_path_factory.getbasetemp().name}".replace("-", "_")
    with Farm(folder, postgres_server.create(name, template=postgres_template)) as farm:
        yield farm


@pytest.fixture(scope="session")
def farm(sqlite_farm: Farm) -> Farm:
    """The one on SQLite; `test_twelve_by_hand` takes both in turn."""
    return sqlite_farm


@pytest.fixture(scope="session")
def undisturbed(sqlite_farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Known]:
    """`talk`: a minute. `long`: more than 120 chunks."""

    def heard(folder: Path) -> dict[str, Known]:
        recordings = {
            "talk": Recording.long(folder / "talk.wav", 150),
            "long": Recording.long(folder / "long.wav", 560, gap=0.6, first=1000),
        }
        with sqlite_farm.worker("--slots", "2", "--batch_size", "16"):
            ids = {"talk": sqlite_farm.submit(recordings["talk"])}
            ids["long"] = sqlite_farm.submit(recordings["long"], chunk_seconds=LONG_TALK_CHUNK_SECONDS)
            return {name: Known(recording, sqlite_farm.finished(ids[name])) for name, recording in recordings.items()}

    return made_once(tmp_path_factory, "undisturbed", heard)


@pytest.fixture(scope="session")
def talk(undisturbed: dict[str, Known]) -> Known:
    """A minute of speech."""
    return undisturbed["talk"]


@pytest.fixture(scope="session")
def long_talk(undisturbed: dict[str, Known]) -> Known:
    """More than 120 chunks."""
    return undisturbed["long"]
