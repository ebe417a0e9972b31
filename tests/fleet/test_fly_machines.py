"""An empty farm with a pool at Fly: podcasts come, machines appear, work and vanish; the bill is in the books."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from support.farm_processes import Farm, Recording, assert_says, until
from support.fly_emulator import APP, TOKEN, FlyEmulator, fly_emulator
from support.placed_farm import all_gone, another_server, machines, placing_farm, pools

POOL = f"""
[pools.cloud]
provider = "fly"
image = "registry.fly.io/farm:1"
engine = "tones"
regions = ["cdg", "ams"]
maximum = 3
idle_seconds = 2
grace_seconds = 5
price_per_hour = 3.6

[providers.fly]
app = "{APP}"
address = "ADDRESS"
"""


@pytest.fixture
def fly(tmp_path: Path) -> Iterator[FlyEmulator]:
    with fly_emulator(tmp_path / "fly") as emulator:
        yield emulator


def placing(folder: Path, fly: FlyEmulator, database: str | None = None, **more: str) -> AbstractContextManager[Farm]:
    pool = POOL.replace("ADDRESS", fly.url)
    return placing_farm(folder / "farm", pool, database, FLY_API_TOKEN=TOKEN, **more)


def bill_is_right(farm: Farm, fly: FlyEmulator) -> None:
    """Every second on the bill is in the books, and no other."""
    rows = all_gone(farm)
    assert sum(row.seconds(0) for row in rows) == pytest.approx(fly.seconds(), abs=0.01)
    assert sum(row.spent for row in rows) == pytest.approx(fly.seconds() / 1000, abs=0.0001)
    assert fly.running() == 0
    assert fly.processes() == []


def test_an_empty_farm_gets_machines_for_three_podcasts_and_pays_for_nothing_else(
    tmp_path: Path, fly: FlyEmulator
) -> None:
    recordings = [Recording.long(tmp_path / f"talk{number}.wav", 12, first=number * 20) for number in range(3)]
    with placing(tmp_path, fly) as farm:
        submitted = [farm.submit(recording) for recording in recordings]
        for transcription, recording in zip(submitted, recordings, strict=True):
            assert_says(farm.finished(transcription), recording)
        bill_is_right(farm, fly)
        assert 1 <= len(fly.machines) <= 3
        assert {one.config["metadata"]["whisper_farm_pool"] for one in fly.machines.values()} == {"cloud"}
        assert fly.limited == 0


def test_full_regions_lost_answers_and_a_bad_hour_lose_nothing(tmp_path: Path, fly: FlyEmulator) -> None:
    recording = Recording.long(tmp_path / "talk.wav", 20)
    fly.full = {"cdg"}
    fly.unlisted_seconds = 0.5
    fly.script("create", 408, "deadline_exceeded: upstream", happens=True)
    with placing(tmp_path, fly) as farm:
        transcription = farm.submit(recording)
        until(lambda: fly.machines, "a machine was made")
        fly.down = True
        until(lambda: fly.calls["list"] > 3, "calls that fail")
        fly.down = False
        assert_says(farm.finished(transcription), recording)
        bill_is_right(farm, fly)
        assert {one.region for one in fly.machines.values()} == {"ams"}
        launches = [one.name for one in fly.machines.values()]
        assert len(set(launches)) == len(launches)


def test_the_server_is_killed_while_machines_work_and_the_next_one_knows_them(tmp_path: Path, fly: FlyEmulator) -> None:
    recording = Recording.long(tmp_path / "talk.wav", 30)
    with placing(tmp_path, fly) as farm:
        transcription = farm.submit(recording, model="x4")
        farm.progress(transcription, chunks_done=1)
        before = set(fly.machines)
        farm.server.kill()
        farm.start()
        assert_says(farm.finished(transcription), recording)
        bill_is_right(farm, fly)
        assert before <= {row.machine_id for row in machines(farm)}


def test_a_quota_stops_the_pool_in_words(tmp_path: Path, fly: FlyEmulator) -> None:
    fly.most = 0
    with placing(tmp_path, fly) as farm:
        farm.submit(Recording.long(tmp_path / "talk.wav", 12))
        until(lambda: "machine limit" in (pools(farm)["cloud"].why if pools(farm) else ""), "the pool says so")
        assert not fly.machines


def test_of_two_coordinators_one_looks_after_the_machines_and_the_other_takes_over(
    tmp_path: Path, fly: FlyEmulator, postgres_url: str
) -> None:
    recordings = [Recording.long(tmp_path / f"talk{number}.wav", 24, first=number * 30) for number in range(2)]
    with placing(tmp_path, fly, postgres_url) as farm, another_server(farm, FLY_API_TOKEN=TOKEN):
        submitted = [farm.submit(recording, model="x4") for recording in recordings]
        farm.progress(submitted[0], chunks_done=1)
        farm.server.kill()
        decided = pools(farm)["cloud"].decided_at
        until(lambda: pools(farm)["cloud"].decided_at > decided, "the other one decides")
        farm.start()
        for transcription, recording in zip(submitted, recordings, strict=True):
            assert_says(farm.finished(transcription), recording)
        bill_is_right(farm, fly)
        names = [machine.name for machine in fly.machines.values()]
        assert len(set(names)) == len(names), "never two machines for one launch"
