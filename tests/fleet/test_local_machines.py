"""An empty farm with a pool on this machine: podcasts come, workers appear, work, and vanish; nothing is left."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.farm_processes import Farm, Recording, assert_says, until
from support.placed_farm import all_gone, log, machines, placing_farm, pools, worker_processes

POOL = """
[pools.here]
provider = "local"
engine = "tones"
maximum = 2
idle_seconds = 2
grace_seconds = 5
price_per_hour = 3.6
"""


def heard_by(farm: Farm, submitted: list[str]) -> set[str]:
    """The workers that have recognised something."""
    jobs = [job for one in submitted for job in farm.jobs(one) if job.kind == "transcribe"]
    return {attempt.worker_id for job in jobs for attempt in job.attempts if attempt.state == "done"}


def recording_seconds(farm: Farm, transcription: str) -> float:
    return farm.client.get(transcription).progress.done_seconds


def test_an_empty_farm_places_workers_here_and_ends_them_when_the_work_is_done(tmp_path: Path) -> None:
    recordings = [Recording.long(tmp_path / f"talk{number}.wav", 12, first=number * 20) for number in range(3)]
    with placing_farm(tmp_path / "farm", POOL) as farm:
        assert machines(farm) == []
        submitted = [farm.submit(recording) for recording in recordings]
        for transcription, recording in zip(submitted, recordings, strict=True):
            assert_says(farm.finished(transcription), recording)
        launched = all_gone(farm)
        assert 1 <= len(launched) <= 2
        assert worker_processes(tmp_path / "farm") == []
        for row in launched:
            assert row.registered_at is not None
            assert row.worker_id is not None
            (ran,) = row.stretches
            assert 0 < ran[1] - ran[0] < row.ended_at - row.intended_at + 1  # type: ignore[operator]
            assert row.spent == pytest.approx((ran[1] - ran[0]) / 1000), "3.60 an hour are a thousandth a second"
        heard = [row for row in launched if row.worker_id in heard_by(farm, submitted)]
        costs = sum(farm.client.get(one).cost or 0 for one in submitted)
        assert costs == pytest.approx(sum(row.spent for row in heard)), "the shares are the whole bill"
        (pool,) = farm.client.machines().pools
        hours = sum(recording_seconds(farm, one) for one in submitted) / 3600
        assert pool.price_per_audio_hour == pytest.approx(sum(row.spent for row in launched) / hours, rel=0.01)
        kinds = [line.kind for line in log(farm)]
        assert {"create", "accepted", "registered", "gone"} <= set(kinds)
        assert "wanted" in pools(farm)["here"].why


def test_a_coordinator_that_is_killed_takes_its_workers_with_it_and_the_next_one_goes_on(tmp_path: Path) -> None:
    recording = Recording.long(tmp_path / "talk.wav", 30)
    with placing_farm(tmp_path / "farm", POOL) as farm:
        transcription = farm.submit(recording, model="x4")
        farm.progress(transcription, chunks_done=1)
        before = {row.launch_id for row in machines(farm)}
        farm.server.kill()
        until(lambda: not worker_processes(tmp_path / "farm"), "the workers have ended with it")
        farm.start()
        assert_says(farm.finished(transcription), recording)
        after = all_gone(farm)
        assert {row.launch_id for row in after} > before
        assert worker_processes(tmp_path / "farm") == []


def test_a_worker_that_is_killed_is_replaced_and_no_word_is_lost(tmp_path: Path) -> None:
    recording = Recording.long(tmp_path / "talk.wav", 30)
    with placing_farm(tmp_path / "farm", POOL) as farm:
        transcription = farm.submit(recording, model="x4")
        farm.progress(transcription, chunks_done=1)
        for process in worker_processes(tmp_path / "farm"):
            process.kill()
        assert_says(farm.finished(transcription), recording)
        assert len(all_gone(farm)) >= 2
        assert pools(farm)["here"].crashes == 0, "an eviction is no crash"


def test_a_command_that_fails_stops_the_pool_and_says_why(tmp_path: Path) -> None:
    broken = POOL + 'command = ["sh", "-c", "echo the image is broken; exit 3"]\n'
    with placing_farm(tmp_path / "farm", broken) as farm:
        farm.submit(Recording.long(tmp_path / "talk.wav", 12))

        def said() -> bool:
            return "the image is broken" in pools(farm)["here"].why if "here" in pools(farm) else False

        until(said, "the pool says what is wrong")
        assert "is the image right?" in pools(farm)["here"].why
        all_gone(farm)
        assert len(machines(farm)) <= 5
