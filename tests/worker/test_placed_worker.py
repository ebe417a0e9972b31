"""A worker that was placed somewhere ends by itself, takes its children with it, and says where it is."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache

import psutil
import pytest
from support.bare_farm import serving
from support.fake_farm import FakeFarm
from support.processes import all_end
from support.work_here import PATIENCE, TOKEN, add_speech, speech, until, worker_settings

from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.worker.machine import Hours, PlacedWorker, machine_facts
from whisper_farm.worker.notices import Notice, tell_nobody
from whisper_farm.worker.run import Ending, rest

PROGRAM = (sys.executable, "-m", "whisper_farm", "worker", "--engine", "tones")


def watched(held: Callable[[], int] = lambda: 0, **given: object) -> tuple[list[str], PlacedWorker]:
    said: list[str] = []
    placed = PlacedWorker(worker_settings("http://x", **given), held, lambda news: said.append(news.message))
    placed.heed(Notice("registered", ""))
    return said, placed


async def end_of(placed: PlacedWorker, seconds: float = PATIENCE) -> tuple[bool, bool]:
    """Whether it was told to drain, and whether to leave at once."""
    stop, left = asyncio.Event(), asyncio.Event()
    watching = asyncio.create_task(placed.watch(stop, left.set))
    await asyncio.wait_for(stop.wait(), seconds)
    with_grace = asyncio.wait({watching}, timeout=2)
    await with_grace
    watching.cancel()
    return stop.is_set(), left.is_set()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"idle_seconds": 0.2}, "was idle for 0.2 s"),
        ({"life_seconds": 0.2}, "has lived for 0.2 s"),
        ({"patience_seconds": 0.2}, "The farm was away for 0.2 s"),
    ],
)
def test_it_drains_when_it_is_idle_old_or_forsaken(given: dict[str, float], words: str) -> None:
    said, placed = watched(**given)
    placed.heed(Notice("unreachable", ""))
    assert asyncio.run(end_of(placed)) == (True, False)
    assert words in said[0]


def test_with_a_grace_it_leaves_at_once_when_that_is_over() -> None:
    _, placed = watched(life_seconds=0.1, grace_seconds=0.2)
    assert asyncio.run(end_of(placed)) == (True, True)


def test_a_farm_that_comes_back_and_a_job_in_hand_keep_it() -> None:
    said, placed = watched(lambda: 1, idle_seconds=0.1, patience_seconds=0.6)
    placed.heed(Notice("unreachable", ""))
    placed.heed(Notice("reachable", ""))
    with pytest.raises(TimeoutError):
        asyncio.run(end_of(placed, 1.0))
    assert said == []


def test_it_ends_when_the_process_that_started_it_is_gone() -> None:
    farm = FakeFarm()
    with serving(farm) as server:
        code = (
            "import os, subprocess, sys; "
            f"child = subprocess.Popen([*{PROGRAM!r}, '--server', {server.url!r}, '--token', {TOKEN!r}, '--parent', "
            "str(os.getpid())]); print(child.pid, flush=True); sys.stdin.readline()"
        )
        parent = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        asyncio.run(until(lambda: farm.registrations, "it has registered"))
        family = [worker, *worker.children(recursive=True)]
        parent.kill()
        parent.wait(PATIENCE)
        all_end(family)
        for stream in (parent.stdin, parent.stdout):
            assert stream is not None
            stream.close()


def test_one_signal_is_enough_with_a_grace() -> None:
    farm = FakeFarm()
    farm.options = RecognitionOptions(engine="tones", model="x0.1")
    add_speech(farm, speech(1))
    with serving(farm) as server:
        worker = subprocess.Popen(
            [*PROGRAM, "--server", server.url, "--token", TOKEN, "--grace", "1"], stderr=subprocess.DEVNULL
        )
        asyncio.run(until(lambda: any(job.state == "running" for job in farm.chunks), "it has claimed"))
        began = time.monotonic()
        worker.terminate()
        assert worker.wait(PATIENCE) == 0
        assert time.monotonic() - began < 8
        assert {job.state for job in farm.chunks} == {"queued"}, "what was not finished is back"


@pytest.mark.parametrize("flag", ["--idle", "--life", "--patience"])
def test_a_placed_process_finds_all_it_needs_around_it_and_ends_by_itself(flag: str) -> None:
    farm = FakeFarm()
    facts = {"provider": "fly", "launch_id": "p-1", "region": "cdg", "price_per_hour": "0.5", "accelerators": '["a10"]'}
    with ExitStack() as stack:
        server = stack.enter_context(serving(farm))
        told = {"server": server.url, "token": TOKEN, **facts}
        environment = {f"WHISPER_FARM_WORKER_{name.upper()}": value for name, value in told.items()}
        command = [*PROGRAM, flag, "0.3"]
        worker = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
        asyncio.run(until(lambda: farm.registrations or worker.poll() is not None, "it has registered"))
        if flag == "--patience":
            stack.close()  # the farm is away
        _, said = worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 0, said
    words = {
        "--idle": "was idle for 0.3 s",
        "--life": "has lived for 0.3 s",
        "--patience": "The farm was away for 0.3 s",
    }
    assert words[flag] in said
    if flag == "--life" and not farm.registrations:
        return  # it was over before it had begun
    machine = farm.registrations[0].machine
    assert machine is not None
    assert (machine.provider, machine.launch_id, machine.region) == ("fly", "p-1", "cdg")
    assert (machine.price_per_hour, machine.accelerators) == (0.5, ("a10",))


def test_it_says_what_machine_it_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLY_MACHINE_ID", "148ed123")
    monkeypatch.setenv("FLY_REGION", "cdg")
    assert machine_facts(worker_settings("http://x")) is None
    given = worker_settings("http://x", provider="fly", launch_id="p-1", price_per_hour=0.5)
    facts = machine_facts(given)
    assert facts is not None
    assert facts.model_dump() == {
        "provider": "fly", "launch_id": "p-1", "machine_id": "148ed123", "region": "cdg", "price_per_hour": 0.5,
        "accelerators": (),
    }  # fmt: skip


@cache
def elsewhen() -> str:
    """An hour of the day that is far from now, the same for as long as the tests run."""
    hour = (time.localtime().tm_hour + 12) % 24
    return f"{hour:02}:00-{hour + 1:02}:00"


def test_it_drains_at_the_end_of_its_working_hours() -> None:
    said, placed = watched(hours=elsewhen())
    assert asyncio.run(end_of(placed)) == (True, False)
    assert said == [f"The working hours {elsewhen()} are over: this worker rests."]


@pytest.mark.parametrize(
    ("hours", "at", "works"),
    [
        ("22:00-07:00", "22:00", True),
        ("22:00-07:00", "06:59", True),
        ("22:00-07:00", "07:00", False),
        ("22:00-07:00", "12:00", False),
        ("09:00-17:00", "16:59", True),
        ("09:00-17:00", "17:00", False),
        ("18:00-24:00", "23:59", True),
        (None, "03:00", True),
    ],
)
def test_working_hours_are_of_the_machines_own_day(hours: str | None, at: str, works: bool) -> None:
    assert Hours(hours).go_on(time.strptime(at, "%H:%M")) is works


def test_what_the_farm_wants_of_the_hours_counts_more_until_it_wants_nothing() -> None:
    hours = Hours("22:00-07:00")
    for wanted, counts in [
        ("09:00-17:00", "09:00-17:00"),
        ("nonsense", "09:00-17:00"),
        ("", None),
        (None, "22:00-07:00"),
    ]:
        hours.heed(wanted)
        assert hours.in_force == counts


def resting(change: Callable[[FakeFarm, Ending], None]) -> tuple[bool, FakeFarm]:
    """Whether a worker that rests begins to work, when somebody has done something."""
    farm = FakeFarm()

    async def rests(url: str) -> bool:
        hours, ending = Hours(elsewhen()), Ending()
        settings = worker_settings(url, hours=elsewhen(), cuts=True)
        doing = asyncio.create_task(rest(settings, hours, "w-1", ending.asked, tell_nobody))
        await until(lambda: farm.last_beats.get("w-1"), "it beats")
        seen = farm.workers["w-1"]
        assert (seen.engines, seen.cuts, seen.hours) == ((), False, elsewhen())
        change(farm, ending)
        return await asyncio.wait_for(doing, PATIENCE)

    with serving(farm) as server:
        return asyncio.run(rests(server.url)), farm


def test_it_rests_offering_nothing_until_somebody_ends_it() -> None:
    begins, farm = resting(lambda farm, ending: ending.on_signal())
    assert not begins
    assert farm.left == ["w-1"]


def test_it_begins_when_the_farm_gives_it_other_hours_and_is_there_all_the_time() -> None:
    begins, farm = resting(lambda farm, ending: setattr(farm, "hours", ""))
    assert begins
    assert farm.left == []


def test_it_can_be_sent_away_while_it_rests() -> None:
    assert resting(lambda farm, ending: setattr(farm, "drain", True))[0] is False


def test_a_worker_rests_when_the_farm_wants_it_to_and_works_again_as_the_same() -> None:
    farm = FakeFarm()
    with serving(farm) as server, ExitStack() as stack:
        command = [*PROGRAM, "--server", server.url, "--token", TOKEN]
        worker = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        stack.callback(worker.wait, PATIENCE)
        stack.callback(worker.kill)

        def offers() -> tuple[object, ...] | None:
            return farm.registrations[-1].engines if farm.registrations else None

        asyncio.run(until(lambda: offers(), "it works"))
        farm.hours = elsewhen()
        asyncio.run(until(lambda: offers() == (), "it rests"))
        assert not psutil.Process(worker.pid).children(), "the machine is free"
        farm.hours = None
        asyncio.run(until(lambda: offers(), "it works again"))
        assert len({one.worker_id for one in farm.registrations}) == 1
        worker.terminate()
        assert worker.wait(PATIENCE) == 0
