"""Fly's machines by its API: found again after a lost answer, made once, refused in Fly's own words."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.fly_emulator import APP, TOKEN, FlyEmulator, fly_emulator

from whisper_farm.errors import PoolsInvalid
from whisper_farm.fleet.pools import Pool, parse_pools
from whisper_farm.fleet.providers.fly import FlyProvider, _seen, refusal
from whisper_farm.fleet.providers.provider import CallFailed, Fault, Launch, Seen, open_providers

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")


@pytest.fixture
def fly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlyEmulator]:
    monkeypatch.setenv("FLY_API_TOKEN", TOKEN)
    with fly_emulator(tmp_path / "fly") as emulator:
        emulator.rates = {}
        yield emulator


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 90))


@asynccontextmanager
async def provider(fly: FlyEmulator) -> AsyncIterator[FlyProvider]:
    one = FlyProvider(app=APP, address=fly.url)
    try:
        yield one
    finally:
        await one.close()


def launch(launch_id: str = "p-1", region: str = "cdg", **pool: Any) -> Launch:
    pool = {"image": "registry.fly.io/farm:1", "command": SLEEP, **pool}
    return Launch(launch_id, "farm-1", Pool(name="p", provider="fly", **pool), region, {"A": "b"})


async def seen_as(one: FlyProvider, state: str, known: dict[str, str | None] | None = None) -> Seen:
    give_up_at = time.monotonic() + 30
    while True:
        seen = await one.look("farm-1", known or {})
        if seen and seen[0].state == state:
            return seen[0]
        assert time.monotonic() < give_up_at, seen
        await asyncio.sleep(0.05)


def test_a_machine_comes_runs_and_ends_and_its_run_is_known_to_the_millisecond(fly: FlyEmulator) -> None:
    async def work() -> None:
        async with provider(fly) as one:
            made = await one.create(launch())
            assert (made.state, made.launch_id, made.region) == ("coming", "p-1", "cdg")
            running = await seen_as(one, "running")
            assert running.pool == "p"
            await one.stop(made.machine_id, 5)
            gone = await seen_as(one, "gone", {"p-1": made.machine_id})
            assert gone.exit == "requested"
            (machine,) = fly.machines.values()
            assert [[gone.started_at, gone.ended_at]] == machine.runs
            assert machine.config["restart"] == {"policy": "no"}
            assert machine.config["auto_destroy"] is True
            assert machine.config["env"] == {"A": "b"}

    run(work())


def test_all_pages_are_read_also_those_after_an_empty_one(fly: FlyEmulator) -> None:
    async def work() -> None:
        async with provider(fly) as one:
            for number in range(5):
                await one.create(launch(f"p-{number}"))
            seen = await one.look("farm-1", {})
            assert sorted(one.launch_id or "" for one in seen) == [f"p-{number}" for number in range(5)]
            assert await one.look("another", {}) == []

    run(work())


def test_a_create_whose_answer_was_lost_is_found_and_cannot_be_made_twice(fly: FlyEmulator) -> None:
    async def work() -> None:
        async with provider(fly) as one:
            fly.script("create", 408, "deadline_exceeded", happens=True)
            fly.unlisted_seconds = 0.3
            with pytest.raises(CallFailed) as lost:
                await one.create(launch())
            assert lost.value.fault == "unknown"
            with pytest.raises(CallFailed) as again:
                await one.create(launch())
            assert again.value.fault == "exists"
            await seen_as(one, "running", {"p-1": None})
            assert len(fly.machines) == 1

    run(work())


def test_a_launch_that_came_and_went_unseen_is_found_by_its_metadata(fly: FlyEmulator) -> None:
    async def work() -> None:
        async with provider(fly) as one:
            fly.script("create", 408, "deadline_exceeded", happens=True)
            with pytest.raises(CallFailed):
                await one.create(launch(command=("sh", "-c", "exit 3")))
            gone = await seen_as(one, "gone", {"p-1": None})
            assert (gone.exit, gone.message) == ("crash", "It ended with status 3.")

    run(work())


def test_a_gpu_is_refused_at_once_in_flys_own_words(fly: FlyEmulator) -> None:
    async def work() -> None:
        async with provider(fly) as one:
            with pytest.raises(CallFailed) as refused:
                await one.create(launch(accelerator="a100-40gb", size="performance-8x"))
            assert refused.value.fault == "configuration"
            assert "GPU machines are no longer supported" in refused.value.message

    run(work())


def test_a_host_that_died_is_shown_as_out_of_reach_with_what_is_known(fly: FlyEmulator) -> None:
    async def work() -> None:
        async with provider(fly) as one:
            await one.create(launch())
            await seen_as(one, "running")
            fly.kill_host(next(iter(fly.machines.values())))
            seen = await seen_as(one, "unreachable")
            assert (seen.launch_id, seen.pool) == ("p-1", "p")
            with pytest.raises(CallFailed) as refused:
                await one.destroy(seen.machine_id)
            assert refused.value.fault == "transient"

    run(work())


def test_a_question_without_an_answer_proves_no_absence(fly: FlyEmulator) -> None:
    async def work() -> None:
        async with provider(fly) as one:
            made = await one.create(launch())
            fly.unlisted_seconds = 1000
            for machine in fly.machines.values():
                machine.shown_at += 1000
            fly.script("get", 408, "deadline_exceeded")
            known: dict[str, str | None] = {"p-1": made.machine_id}
            assert [seen.state for seen in await one.look("farm-1", known)] == ["unreachable"]
            assert [seen.state for seen in await one.look("farm-1", {"p-1": "0123456789abcd"})] == []

    run(work())


def test_a_kept_machine_is_started_again_and_its_second_run_is_told(fly: FlyEmulator) -> None:
    async def work() -> None:
        async with provider(fly) as one:
            made = await one.create(launch(warm=1))
            with pytest.raises(CallFailed) as early:
                await one.start(made.machine_id)
            assert early.value.fault == "conflict"
            first = await seen_as(one, "running")
            await one.start(made.machine_id)  # it starts already: as good as started
            await one.stop(made.machine_id, 5)
            await seen_as(one, "stopped")
            await one.start(made.machine_id)
            second = await seen_as(one, "running")
            assert first.started_at is not None
            assert second.started_at is not None
            assert second.started_at > first.started_at

    run(work())


def test_an_api_that_promises_no_more_than_its_page_is_understood(fly: FlyEmulator) -> None:
    """No bodies where the page has none, unknown fields, events in any order, the deleted in lists of them only."""

    async def work() -> None:
        fly.terse = True
        async with provider(fly) as one:
            kept = await one.create(launch(warm=1))
            await seen_as(one, "running")
            await one.stop(kept.machine_id, 5)
            first = await seen_as(one, "stopped")
            await one.start(kept.machine_id)
            again = await seen_as(one, "running")
            assert first.started_at is not None
            assert again.started_at is not None
            assert again.started_at > first.started_at
            await one.destroy(kept.machine_id)
            gone = await seen_as(one, "gone", {"p-1": kept.machine_id})
            (machine,) = fly.machines.values()
            assert [gone.started_at, gone.ended_at] == machine.runs[-1]
            assert await one.look("farm-1", {"p-2": "0123456789abcd"}) == [], "what never was is nowhere"

    run(work())


def test_a_machine_that_is_stuck_before_it_runs_is_coming_until_it_is_destroyed(fly: FlyEmulator) -> None:
    async def work() -> None:
        fly.stuck = True
        async with provider(fly) as one:
            made = await one.create(launch())
            for _ in range(3):
                assert [seen.state for seen in await one.look("farm-1", {})] == ["coming"]
            await one.destroy(made.machine_id)
            gone = await seen_as(one, "gone", {"p-1": made.machine_id})
            assert gone.started_at is None, "nothing is paid"

    run(work())


@pytest.mark.parametrize(
    ("event", "end"),
    [
        ({"requested_stop": False, "oom_killed": True, "exit_code": 137}, ("crash", "It ran out of memory.")),
        ({"requested_stop": True, "exit_code": 143}, ("requested", "")),
        ({"requested_stop": False, "exit_code": 3}, ("crash", "It ended with status 3.")),
        ({"requested_stop": False}, ("ok", "")),
    ],
)
def test_how_a_machine_ended_is_read_from_its_exit_event(event: dict[str, Any], end: tuple[str, str]) -> None:
    events = [
        {"type": "exit", "status": "stopped", "timestamp": 5000, "request": {"exit_event": event}},
        {"type": "start", "status": "started", "timestamp": 2000},
    ]
    seen = _seen({"id": "1", "state": "stopped", "events": events})
    assert (seen.exit, seen.message) == end
    assert (seen.started_at, seen.ended_at) == (2, 5)


def test_calls_keep_to_flys_limits(fly: FlyEmulator) -> None:
    async def work() -> None:
        async with provider(fly) as one:
            await asyncio.gather(*(one.create(launch(f"p-{number}")) for number in range(5)))
            fly.empty_pages = False
            fly.page_size = 100
            for _ in range(4):
                await one.look("farm-1", {})

    fly.rates = {"create": (1, 3), "list": (1, 3)}
    run(work())
    assert fly.limited == 0


@pytest.mark.parametrize(
    ("call", "status", "body", "fault"),
    [
        ("create", 422, {"error": "could not find a candidate host", "status": "insufficient_capacity"}, "capacity"),
        ("create", 409, {"error": "aborted: no capacity"}, "capacity"),
        ("start", 409, {"error": "aborted: could not reserve resource for machine: insufficient CPUs available to "
                        "fulfill request on the current host"}, "capacity"),
        ("create", 409, {"error": "aborted: insufficient resources available to fulfill request: insufficient memory"},
         "capacity"),
        ("create", 409, {"error": "aborted: insufficient IPs available to fulfill request"}, "capacity"),
        ("start", 412, {"error": "deploys to this host are temporarily disabled"}, "capacity"),
        ("create", 412, {"error": "x", "status": "volume_placement_capacity"}, "capacity"),
        ("create", 409, {"error": "already_exists: unique machine name violation, machine ID 1"}, "exists"),
        ("start", 409, {"error": "aborted: machine update failed due to concurrent update"}, "conflict"),
        ("create", 422, {"error": "Your organization has reached its machine limit. Please contact billing@fly.io"},
         "quota"),
        ("create", 400, {"error": "GPU machines are no longer supported: config.guest.gpu_kind"}, "configuration"),
        ("create", 400, {"error": "target region xyz not found"}, "configuration"),
        ("start", 412, {"error": "failed_precondition: unable to start machine from current state: 'created'"},
         "conflict"),
        ("start", 412, {"error": "failed_precondition: machine getting replaced, refusing to start"}, "conflict"),
        ("destroy", 412, {"error": "failed_precondition: unable to destroy machine"}, "conflict"),
        ("stop", 404, {"error": "machine not found"}, "missing"),
        ("create", 404, {"error": "app not found"}, "configuration"),
        ("start", 409, {"error": "machine ID 1 lease currently held by x@tokens.fly.io, expires at 2026"}, "conflict"),
        ("create", 429, {"error": "rate limit exceeded"}, "transient"),
        ("create", 408, {"error": "deadline_exceeded"}, "unknown"),
        ("destroy", 408, {"error": "deadline_exceeded"}, "transient"),
        ("create", 502, {"error": "bad gateway"}, "unknown"),
        ("create", 400, {"error": "failed to get manifest: MANIFEST_UNKNOWN"}, "transient"),
        ("list", 401, {"error": "Authenticate: token validation error"}, "auth"),
        ("create", 403, {"error": "forbidden"}, "auth"),
    ],
)  # fmt: skip
def test_every_refusal_means_something(call: str, status: int, body: dict[str, str], fault: Fault) -> None:
    refused = refusal(httpx.Response(status, json=body), call)
    assert refused.fault == fault
    assert body["error"] in refused.message


def test_an_api_that_is_away_and_a_token_that_is_not_there_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look() -> str:
        one = FlyProvider(app=APP, address="http://127.0.0.1:1")
        try:
            await one.look("farm-1", {})
        except CallFailed as refused:
            return refused.fault
        finally:
            await one.close()
        return "nothing"

    monkeypatch.setenv("FLY_API_TOKEN", "t")
    assert asyncio.run(look()) == "transient"
    monkeypatch.delenv("FLY_API_TOKEN")
    assert asyncio.run(look()) == "auth"


def test_a_mistake_in_its_settings_is_refused_with_the_file() -> None:
    with pytest.raises(PoolsInvalid, match=r"providers\.fly: .*app"):
        open_providers(parse_pools('[pools.p]\nprovider = "fly"\nimage = "x"\n'))
