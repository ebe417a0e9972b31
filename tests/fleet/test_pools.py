"""A file of pools is read as it is meant, or refused with the line of the mistake."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from whisper_farm.errors import PoolsInvalid
from whisper_farm.fleet.pools import Pool, parse_pools, read_pools

GOOD = """
# machines that cost nothing first
[pools.here]
provider = "local"
engine = "tones"
maximum = 4

[pools.cloud]
provider = "fly"
image = "registry.fly.io/farm@sha256:00"
size = "performance-2x"
regions = ["cdg", "ams"]
model = "small"
maximum = 20
price_per_hour = 0.25
budget_per_day = 12.5
hours = "22:00-06:00"

[pools.cloud.environment]
HF_HOME = "/models"

[providers.fly]
app = "my-farm"

[fleet]
target_drain_seconds = 300
"""


def test_a_good_file_gives_its_pools_in_order_with_their_names() -> None:
    fleet = parse_pools(GOOD)
    assert list(fleet.pools) == ["here", "cloud"]
    cloud = fleet.pools["cloud"]
    assert (cloud.name, cloud.regions, cloud.environment) == ("cloud", ("cdg", "ams"), {"HF_HOME": "/models"})
    assert fleet.providers == {"fly": {"app": "my-farm"}}
    assert fleet.fleet.target_drain_seconds == 300


@pytest.mark.parametrize(
    ("line", "wrong", "said"),
    [
        (6, GOOD.replace("maximum = 4", "maximum = -4"), "pools.here.maximum: Input should be greater than or equal"),
        (6, GOOD.replace("maximum = 4", "maximun = 4"), "pools.here.maximun: there is no such setting"),
        (11, GOOD.replace('size = "performance-2x"', "size = "), "this is no TOML"),
        (8, GOOD.replace("maximum = 20", "minimum = 30\nmaximum = 20"), "pools.cloud: minimum (30) is more than"),
        (8, GOOD.replace("price_per_hour = 0.25", ""), "pools.cloud: a budget needs price_per_hour"),
        (8, GOOD.replace("22:00-06:00", "22-6"), "pools.cloud: hours are written as HH:MM-HH:MM"),
        (8, GOOD.replace('"ams"', '"cdg"'), "pools.cloud: regions names a region twice"),
        (3, GOOD.replace("[pools.here]", "[pools.Here]"), "pools.Here: String should match pattern"),
        (26, GOOD.replace("target_drain_seconds = 300", "target_drain_seconds = 0"), "fleet.target_drain_seconds"),
        (3, GOOD.replace("[pools.here]", "[pool.here]"), "pool: there is no such setting"),
    ],
)
def test_a_mistake_is_refused_with_its_line(line: int, wrong: str, said: str) -> None:
    with pytest.raises(PoolsInvalid) as refused:
        parse_pools(wrong, "farm.toml")
    assert refused.value.message.startswith(f"farm.toml:{line}: ")
    assert said in refused.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PoolsInvalid, match=r"nowhere\.toml cannot be read: No such file"):
        read_pools(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("hours", "clock", "is_open"),
    [
        (None, "03:00", True),
        ("08:00-20:00", "07:59", False),
        ("08:00-20:00", "08:00", True),
        ("08:00-20:00", "20:00", False),
        ("22:00-06:00", "23:30", True),
        ("22:00-06:00", "05:59", True),
        ("22:00-06:00", "12:00", False),
        ("00:00-24:00", "23:59", True),
    ],
)
def test_hours_open_a_pool_also_over_midnight(hours: str | None, clock: str, is_open: bool) -> None:
    now = datetime.fromisoformat(f"2026-11-28T{clock}:00").replace(tzinfo=UTC).timestamp()
    assert Pool(hours=hours).is_open(now) is is_open


def test_a_pool_without_a_model_serves_every_model_of_its_engine() -> None:
    assert Pool(engine="tones").serves("tones", "instant")
    assert not Pool(engine="tones", model="x40").serves("tones", "instant")
    assert not Pool(engine="tones").serves("faster-whisper", "instant")
