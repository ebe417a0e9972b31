"""The machines API: pools and machines are shown to administrators, switched, and counted for scalers outside."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.served_farm import ServedFarm, StartFarm, eventually

from whisper_farm.errors import PoolsInvalid

SLEEP = f'["{sys.executable}", "-c", "import time; time.sleep(100)"]'
POOLS = f"""
[pools.here]
provider = "local"
engine = "tones"
command = {SLEEP}
maximum = 3
grace_seconds = 0
price_per_hour = 1

[providers.local]
folder = "FOLDER"

[fleet]
look_seconds = 0.2
settle_seconds = 0.1
"""


@pytest.fixture
def placing(start_farm: StartFarm, tmp_path: Path) -> ServedFarm:
    file = tmp_path / "farm.toml"
    file.write_text(POOLS.replace("FOLDER", str(tmp_path / "machines")))
    return start_farm(pools=file)


def machines(farm: ServedFarm) -> list[dict[str, object]]:
    answer = farm.admin.get("/api/machines")
    assert answer.status_code == 200, answer.text
    return [one for one in answer.json()["machines"] if one["state"] != "gone"]


def test_a_number_asked_for_by_hand_is_kept_within_the_maximum_and_given_back(placing: ServedFarm) -> None:
    asked = placing.admin.post("/api/pools/here", json={"fixed": 9})
    assert asked.status_code == 200
    assert asked.json()["pools"][0]["fixed"] == 9
    eventually(lambda: len(machines(placing)) == 3, "three machines")
    pool = placing.admin.get("/api/machines").json()["pools"][0]
    assert pool["why"].startswith("3 wanted: 9 were asked for by hand, at most 3.")
    placing.admin.post("/api/pools/here", json={"automatic": True, "switch": "stopped"})
    eventually(lambda: not machines(placing), "none is left")
    lines = placing.admin.get("/api/machines/log").json()["lines"]
    assert {"create", "accepted", "destroy", "gone"} <= {line["kind"] for line in lines}


def test_one_machine_is_destroyed_and_replaced(placing: ServedFarm) -> None:
    placing.admin.post("/api/pools/here", json={"fixed": 1})
    first = eventually(lambda: [one for one in machines(placing) if one["state"] == "started"], "it runs")[0]["id"]
    answer = placing.admin.post(f"/api/machines/{first}/destroy")
    assert answer.status_code == 200
    eventually(lambda: [one["id"] for one in machines(placing)] not in ([], [first]), "another one is there")
    log = placing.admin.get("/api/machines/log", params={"machine": first}).json()["lines"]
    assert "An administrator destroys it." in [line["text"] for line in log]
    gone = eventually(lambda: placing.admin.post(f"/api/machines/{first}/stop").status_code == 409, "it is gone")
    assert gone


def test_the_providers_are_looked_at_when_somebody_asks(placing: ServedFarm) -> None:
    placing.admin.post("/api/pools/here", json={"fixed": 1})
    eventually(lambda: [one for one in machines(placing) if one["state"] == "started"], "it runs")
    answer = placing.admin.post("/api/machines/sync")
    assert answer.status_code == 200
    assert [one["pool"] for one in answer.json()["machines"]] == ["here"]


def test_a_pool_and_a_machine_that_are_not_there_are_named(placing: ServedFarm) -> None:
    unknown = placing.admin.post("/api/pools/gpu", json={"switch": "on"})
    assert unknown.status_code == 404
    assert unknown.json()["error"]["message"] == "There is no pool gpu. The pools are: here."
    assert placing.admin.post("/api/machines/x/stop").status_code == 404
    assert placing.admin.post("/api/machines/x/explode").status_code == 422


def test_a_farm_without_pools_shows_none(farm: ServedFarm) -> None:
    assert farm.admin.get("/api/machines").json() == {"pools": [], "machines": []}
    assert farm.admin.get("/api/scaling", params={"engine": "tones"}).json()["wanted"] == 0


def test_a_file_with_a_mistake_keeps_the_server_from_starting(start_farm: StartFarm, tmp_path: Path) -> None:
    file = tmp_path / "farm.toml"
    file.write_text("[pools.here]\nmaximum = -1\n")
    with pytest.raises(PoolsInvalid, match=r"farm\.toml:2: pools\.here\.maximum"):
        start_farm(pools=file)
