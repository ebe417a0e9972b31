"""What the tests of the web app stand on: a served farm, and people who are signed in."""

from __future__ import annotations

import pytest
from support.people import People
from support.served_farm import ServedFarm
from support.served_fixtures import farm, start_farm

__all__ = ["farm", "people", "start_farm"]


@pytest.fixture
def people(farm: ServedFarm) -> People:
    """Signs people in to the farm."""
    return People(farm)
