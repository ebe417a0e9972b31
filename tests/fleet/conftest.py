"""What the fleet's tests stand on: worlds on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.fleet_world import World

from whisper_farm.fleet.pools import parse_pools

POOL = """
[pools.p]
provider = "played"
engine = "tones"
maximum = 4
price_per_hour = 1
idle_seconds = 60
regions = ["a", "b"]
"""
RULES = """
[fleet]
target_drain_seconds = 600
started_seconds = 100
registered_seconds = 60
hysteresis_seconds = 60
"""


@pytest.fixture
def make_world() -> Iterator[Callable[..., World]]:
    """Makes worlds of one pool `p`; what is given is added to the pool's table."""
    made: list[World] = []

    def make(more: str = "", rules: str = "", **given: Any) -> World:
        made.append(World(parse_pools(POOL + more + RULES + rules), **given))
        return made[-1]

    yield make
    for world in made:
        world.close()
