"""What a transcription costs: its share of the machines that heard it, so that all shares are the whole bill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fresh_database import fresh_database
from support.hand_farm import Farm

from whisper_farm.store.machines import MachineRow, cost_of, heard_by, keep, work_in_hand


@pytest.fixture(params=["sqlite", "postgresql"])
def farm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Farm]:
    with fresh_database(request, tmp_path, "costs") as database:
        yield Farm(database)


def machine(farm: Farm, launch_id: str, worker: str, seconds: float) -> None:
    """A machine that ran for so long, for a thousandth a second."""
    row = MachineRow(
        launch_id, "p", "local", "", "gone", 3.6, farm.now, farm.now, "It is over.", worker_id=worker,
        ended_at=farm.now + seconds, stretches=[[farm.now, farm.now + seconds]], spent=seconds / 1000,
    )  # fmt: skip
    farm.write(lambda tx: keep(tx, [row], [], []))


def hear(farm: Farm, worker: str, chunks: int) -> None:
    for job in farm.claim(worker, transcribe=chunks):
        farm.done(job)


def test_the_shares_of_all_transcriptions_are_the_whole_bill(farm: Farm) -> None:
    farm.worker("w1", launch="p-1")
    farm.worker("w2", launch="p-2")
    farm.worker("mine")
    machine(farm, "p-1", "w1", 100)
    machine(farm, "p-2", "w2", 50)
    first = farm.recording(3, "first.mp3")
    hear(farm, "w1", 1)
    hear(farm, "w2", 2)
    second = farm.recording(4, "second.mp3")
    hear(farm, "w1", 3)
    hear(farm, "mine", 1)
    costs = [farm.database.read(lambda tx, one=one: cost_of(tx, one.id)) for one in (first, second)]
    assert costs == [pytest.approx(0.1 / 4 + 0.05), pytest.approx(0.1 * 3 / 4)], "by what each machine has heard"
    assert sum(costs) == pytest.approx(0.15)
    assert farm.database.read(lambda tx: heard_by(tx, ["p-1", "p-2", "p-3"])) == {"p-1": 120, "p-2": 60}


def test_a_machine_that_was_started_again_is_shared_by_what_both_of_its_workers_heard(farm: Farm) -> None:
    farm.worker("w1", launch="p-1")
    first = farm.recording(1, "first.mp3")
    hear(farm, "w1", 1)
    farm.worker("w2", launch="p-1")
    machine(farm, "p-1", "w2", 100)
    farm.recording(3, "second.mp3")
    hear(farm, "w2", 3)
    assert farm.database.read(lambda tx: cost_of(tx, first.id)) == pytest.approx(0.1 / 4)


def test_what_the_farm_did_not_place_costs_nothing_that_it_knows_of(farm: Farm) -> None:
    farm.worker("mine")
    recording = farm.recording(2)
    hear(farm, "mine", 2)
    assert farm.database.read(lambda tx: cost_of(tx, recording.id)) is None


def test_what_a_worker_does_now_is_told_by_transcription(farm: Farm) -> None:
    farm.worker("w1", launch="p-1")
    recording = farm.recording(5, "talk.mp3")
    farm.claim("w1", transcribe=3)
    (work,) = farm.database.read(lambda tx: work_in_hand(tx, ["w1", "w2"]))
    assert (work.transcription_id, work.name, work.jobs) == (recording.id, "talk.mp3", 3)
    assert (work.start_seconds, work.end_seconds) == (0, 90)
    assert farm.database.read(lambda tx: work_in_hand(tx, [])) == []
