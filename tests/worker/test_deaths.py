"""Recognisers die; the guilty chunk is found, the innocent are not charged, everything else is done."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from support.bare_farm import serving
from support.fake_farm import FakeFarm
from support.tone_audio import tone_speech, tone_words
from support.tones import EXIT_STATUS
from support.work_here import add_speech, same, speech, until, worker_settings, working

from whisper_farm.errors import EngineUnavailable
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.worker import recogniser_pool


def test_a_child_killed_in_the_middle_of_a_batch_costs_no_job_anything() -> None:
    farm = FakeFarm()
    farm.options = RecognitionOptions(engine="tones", model="x10")
    truth = add_speech(farm, *(speech(number) for number in range(10)))

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url, slots=2, batch_size=4, models=("x10",))) as worker:
                busy = worker.agent._recognising._begun
                await until(lambda: busy and any(job.state == "done" for job in farm.chunks), "the first result")
                pid = worker.said("model_ready")[0].data["pid"]
                assert isinstance(pid, int)
                os.kill(pid, signal.SIGKILL)
                await until(lambda: farm.all_are("done"), "all chunks done")
                await until(lambda: len(worker.said("model_ready")) == 2, "there is a new child")
                assert "SIGKILL" in worker.said("child_died")[0].message
                assert worker.agent._pool.batch == 2, "and in case memory was short, it gets smaller batches"

    asyncio.run(scene())
    same(farm.heard(), truth)
    assert [job.charged for job in farm.chunks] == [0] * 10
    assert [job.attempts for job in farm.chunks] == [1] * 10, "the worker tried again by itself"


def test_a_poison_chunk_is_failed_alone_and_its_neighbours_are_done() -> None:
    farm = FakeFarm()
    farm.max_attempts = 2
    farm.options = RecognitionOptions(engine="tones", model="faulty")
    spoken = [speech(number) for number in range(8)]
    spoken[2] = tone_speech([*tone_words(2), "die"])
    spoken[5] = tone_speech([*tone_words(2), "fail"])
    add_speech(farm, *spoken)

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url, slots=2, batch_size=4)):
                await until(lambda: farm.all_are("done", "failed"), "all chunks done or failed")

    asyncio.run(scene())
    poison, faulty = farm.chunks[2], farm.chunks[5]
    assert [job.position for job in farm.chunks if job.state == "failed"] == [2, 5]
    assert [failure.code for failure in poison.failures] == ["recogniser_crashed"] * 2
    assert all(f"exit status {EXIT_STATUS}" in failure.message for failure in poison.failures), "the evidence"
    assert [failure.code for failure in faulty.failures] == ["engine_error"] * 2
    assert all(failure.charged and not failure.permanent for failure in poison.failures + faulty.failures)
    innocent = [job for job in farm.chunks if job.state == "done"]
    assert [(job.charged, job.attempts, job.failures) for job in innocent] == [(0, 1, [])] * 6


def test_a_batch_that_takes_too_long_is_killed_and_tried_again(tmp_path: Path) -> None:
    farm = FakeFarm()
    farm.options = RecognitionOptions(engine="tones", model=f"once:{tmp_path}")
    add_speech(farm, speech(0), tone_speech(["hang", *tone_words(2)]), speech(1))

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url, chunk_timeout_seconds=1)) as worker:
                await until(lambda: worker.said("child_died"), "it is killed")
                worker.agent._recognising._chunk_timeout_seconds = 60  # a busy machine may take its time
                await until(lambda: farm.all_are("done"), "all chunks done")
                assert "not done after 1 s" in worker.said("child_died")[0].message

    asyncio.run(scene())
    assert [word for word, _ in farm.heard()][4] == "hang"
    assert [job.charged for job in farm.chunks] == [0, 0, 0]


def test_a_model_that_cannot_be_had_fails_jobs_uncharged_and_others_are_done() -> None:
    farm = FakeFarm()
    farm.retry_seconds = 3600
    missing = RecognitionOptions(engine="tones", model="no-such-model")
    add_speech(farm, speech(0))
    farm.add_chunk(b"not needed", 10, 1, missing)

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url)) as worker:
                await until(lambda: farm.chunks[0].state == "done" and farm.chunks[1].failures, "both ended")
                assert "no-such-model" in worker.said("model_unavailable")[0].message

    asyncio.run(scene())
    failure = farm.chunks[1].failures[0]
    assert (failure.code, failure.charged, failure.permanent) == ("model_unavailable", False, False)


def test_an_option_that_the_engine_lacks_fails_the_job_for_good() -> None:
    farm = FakeFarm()
    farm.options = RecognitionOptions(engine="tones", model="instant", task="translate")
    add_speech(farm, speech(0), speech(1))

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url)):
                await until(lambda: farm.all_are("failed"), "the jobs failed")

    asyncio.run(scene())
    assert {(job.failures[0].code, job.failures[0].permanent) for job in farm.chunks} == {("option_unsupported", True)}


def test_a_worker_without_any_engine_that_runs_says_so_and_ends() -> None:
    async def scene() -> None:
        with serving(FakeFarm()) as server:
            async with working(worker_settings(server.url, engines=("tone",))) as worker:
                with pytest.raises(EngineUnavailable, match="tones"):
                    await worker.ended()

    with pytest.raises(EngineUnavailable):
        asyncio.run(scene())


def test_models_are_switched_and_the_farm_is_told_what_is_loaded() -> None:
    farm = FakeFarm()
    truth = add_speech(farm, speech(0), speech(1))
    for job, model in zip(farm.chunks, ("instant", "x100"), strict=True):
        job.task = job.task.model_copy(update={"options": RecognitionOptions(engine="tones", model=model)})

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url)):
                await until(lambda: farm.all_are("done"), "both chunks done")
                loaded = lambda: [offer.loaded for each in farm.registrations for offer in each.engines]  # noqa: E731
                await until(lambda: loaded()[-1] == ("x100",), "the farm knows")
                assert loaded()[0] == ()
                assert ("instant",) in loaded()

    asyncio.run(scene())
    same(farm.heard(), truth)
    assert all(job.attempts == 1 for job in farm.chunks)


@pytest.mark.skipif(sys.platform == "win32", reason="stands a shell script in for Python")
def test_children_that_die_while_they_load_are_tried_again_with_pauses_and_then_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little memory, say: the jobs go back uncharged, and later it works again."""
    sick, python = tmp_path / "sick", tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ -e "{sick}" ] && echo out of memory >&2 && exit 3\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(recogniser_pool, "_FIRST_REST_SECONDS", 0.05)
    monkeypatch.setattr(recogniser_pool, "_LONGEST_REST_SECONDS", 0.2)
    farm = FakeFarm()
    truth = add_speech(farm, speech(0))

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url)) as worker:
                await until(lambda: farm.all_are("done"), "it works")
                pid = worker.said("model_ready")[0].data["pid"]
                assert isinstance(pid, int)
                monkeypatch.setattr(sys, "executable", str(python))
                sick.touch()
                os.kill(pid, signal.SIGKILL)
                await until(lambda: worker.said("model_unavailable"), "it gives up")
                assert len(worker.said("child_died")) == 1 + recogniser_pool.LOAD_DEATHS
                assert "out of memory" in worker.said("model_unavailable")[0].message
                farm.jobs.clear()
                add_speech(farm, speech(0))
                await until(lambda: farm.chunks[0].failures, "the job goes back")
                sick.unlink()
                await until(lambda: farm.all_are("done"), "it works again")

    asyncio.run(scene())
    same(farm.heard(), truth)
    assert {(each.code, each.charged) for each in farm.chunks[0].failures} == {("model_unavailable", False)}
