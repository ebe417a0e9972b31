"""What the tests of the web app stand on: a served farm, and people who are signed in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.people import People
from support.served_farm import ServedFarm


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[ServedFarm]:
    """A farm on SQLite and a folder."""
    with ServedFarm(tmp_path / "data") as farm:
        yield farm


@pytest.fixture
def people(farm: ServedFarm) -> People:
    """Signs people in to the farm."""
    return People(farm)
