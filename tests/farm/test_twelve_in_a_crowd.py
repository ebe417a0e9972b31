"""Tests that every queue of this kind should pass: those with more than a few workers, driven by hand.

On SQLite and on PostgreSQL, on farms with leases that cannot run out meanwhile. `./run chaos` does the same for long.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.crowds import MODEL, PATIENT, Load, Losses
from support.farm_processes import Farm, assert_done_once

from bench.seed import seed_jobs
from whisper_farm.store.database import Database

CLAIMERS, GROUP = 32, 8
CHUNKS = {"sqlite": 2000, "postgresql": 1000}
DROPS = 250


@pytest.fixture
def patient_farm(tmp_path: Path, database_url: str) -> Iterator[Farm]:
    """A farm on a fresh database of either kind, on which no lease runs out."""
    with Farm(tmp_path / "patient", database_url, PATIENT) as farm:
        yield farm


def test_lost_claim_reply_of_a_crowd(patient_farm: Farm, tmp_path: Path) -> None:
    """Requests and answers get lost, come late or never, clients hang up on their long polls: nothing is stranded or
    held twice."""
    file = tmp_path / "file.wav"
    file.write_bytes(b"never decoded")
    losses = Losses(patient_farm, file, drops=DROPS, seed=11)
    losses.run()
    assert losses.suffered.total() >= DROPS
    assert min(losses.suffered["hung up"], losses.befell["lose_reply"], losses.befell["lose_request"]) > DROPS / 10
    assert min(losses.befell["late_reply"], losses.befell["hold_reply"]) > 0
    assert losses.doubles == []
    words = patient_farm.finished(losses.recording).text.split()
    assert words == [f"word{position}" for position in range(losses.chunks)]
    jobs = patient_farm.jobs(losses.recording)
    assert [[attempt.state for attempt in job.attempts] for job in jobs] == [["done"]] * (losses.chunks + 1)


def test_load(patient_farm: Farm) -> None:
    """Many claimers and beaters on a long recording: no error reaches one, and a short recording starts at once."""
    database = Database.open(patient_farm.database)
    chunks = CHUNKS[database.dialect]
    (long,) = seed_jobs(database, 1, chunks, MODEL)
    database.close()
    load = Load(patient_farm, CLAIMERS, beaters=4, group=GROUP)
    load.run(short_after=chunks // 4)
    assert load.errors == []
    assert load.beats > CLAIMERS
    assert len(load.order) == len(set(load.order)) == chunks + 3
    assert load.wait_of_short <= CLAIMERS * GROUP, "each claimer is given one more group at most before its end"
    words = patient_farm.finished(long).text.split()
    assert words == [f"word{position}" for position in range(chunks)]
    assert_done_once(patient_farm.jobs(load.short))
