"""Heartbeats renew every lease, drop what is gone, and ask again before anything doubtful is published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.bare_farm import TOKEN, FakeServer, serving
from support.fake_farm import FakeFarm
from support.work_here import add_speech, speech

from whisper_farm.errors import Unauthorized
from whisper_farm.protocol.worker import Claim, ClaimRequest, RegisterRequest
from whisper_farm.worker import heartbeats
from whisper_farm.worker.api import WorkerApi
from whisper_farm.worker.heartbeats import Heartbeats, Leases

ME = RegisterRequest(worker_id="w", name="w", version="1", platform="here", slots=1, engines=())


class Scene:
    """A worker's heartbeats and leases, and what they told it."""

    def __init__(self, api: WorkerApi) -> None:
        self.gone: list[tuple[str, str]] = []
        self.orders: list[bool] = []
        self.api = api
        api.worker_id = "w"
        self.leases = Leases(lambda claim, how: self.gone.append((claim.job_id, how)))
        self.heartbeats = Heartbeats(api, self.leases, self.orders.append)

    async def claim(self, jobs: int) -> tuple[Claim, ...]:
        """Claim so many jobs."""
        answer = await self.api.claim(ClaimRequest(worker_id="w", request_id="r", jobs={"transcribe": jobs}))
        for claim in answer.claims:
            assert self.leases.add(claim)
        return answer.claims


@asynccontextmanager
async def beating(server: FakeServer) -> AsyncIterator[Scene]:
    api = WorkerApi(server.url, TOKEN, 60.0, lambda answers, why: None)
    try:
        await api.register(ME)
        yield Scene(api)
    finally:
        await api.close()


def farm_with(chunks: int) -> FakeFarm:
    farm = FakeFarm()
    add_speech(farm, *(speech(number) for number in range(chunks)))
    return farm


def test_more_leases_than_one_call_may_name_are_all_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "MAX_TOKENS", 2)
    farm = farm_with(5)

    async def scene() -> None:
        with serving(farm) as server:
            async with beating(server) as me:
                claims = await me.claim(5)
                before = {token: attempt.lease_until for token, attempt in farm.attempts.items()}
                assert await me.heartbeats.beat()
                assert len(server.named("heartbeat")) == 3
                assert all(farm.attempts[claim.token].lease_until > before[claim.token] for claim in claims)

    asyncio.run(scene())


def test_what_the_server_says_is_gone_is_dropped_once() -> None:
    farm = farm_with(3)

    async def scene() -> None:
        with serving(farm) as server:
            async with beating(server) as me:
                claims = await me.claim(3)
                farm.cancel(farm.chunks[0])
                farm.attempts[claims[1].token].state = "lost"
                for _ in range(2):
                    assert await me.heartbeats.beat()
                assert sorted(me.gone) == [("t.0", "cancelled"), ("t.1", "lost")]
                assert me.leases.tokens() == (claims[2].token,)

    asyncio.run(scene())


def test_a_claim_that_comes_twice_is_entered_once() -> None:
    farm = farm_with(1)

    async def scene() -> None:
        with serving(farm) as server:
            async with beating(server) as me:
                (claim,) = await me.claim(1)
                assert not me.leases.add(claim)
                assert (len(me.leases), me.leases.unfinished("transcribe")) == (1, 1)
                me.leases.finish(claim.token)
                assert (len(me.leases), me.leases.unfinished("transcribe")) == (1, 0)
                me.leases.end(claim.token)
                assert (len(me.leases), me.gone) == (0, [])

    asyncio.run(scene())


def test_the_server_is_asked_before_publishing_only_if_the_lease_may_have_run_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after the sleep of a laptop: our clock says that the lease is over, the server says what is so."""
    farm = farm_with(2)
    late = [0.0]
    clock = heartbeats.now
    monkeypatch.setattr(heartbeats, "now", lambda: clock() + late[0])

    async def scene() -> None:
        with serving(farm) as server:
            async with beating(server) as me:
                claims = await me.claim(2)
                tokens = [claim.token for claim in claims]
                await me.heartbeats.sure_of(tokens)
                assert not farm.beats
                late[0] = 61.0
                farm.attempts[tokens[0]].state = "lost"
                server.lose_requests["heartbeat"] = 1
                await me.heartbeats.sure_of(tokens)
                assert len(farm.beats) == 1
                assert me.gone == [("t.0", "lost")]
                assert tokens[1] in me.leases

    asyncio.run(scene())


@pytest.mark.parametrize(("order", "at_once"), [("drain", False), ("dismissed", True)])
def test_the_orders_of_the_server_are_passed_on(order: str, at_once: bool) -> None:
    farm = farm_with(0)

    async def scene() -> None:
        with serving(farm) as server:
            async with beating(server) as me:
                assert await me.heartbeats.beat()
                assert me.orders == []
                setattr(farm, order, True)
                assert await me.heartbeats.beat()
                assert me.orders == [at_once]

    asyncio.run(scene())


def test_a_heartbeat_that_fails_changes_nothing_and_one_refused_for_good_is_an_error() -> None:
    farm = farm_with(1)

    async def scene() -> None:
        with serving(farm) as server:
            async with beating(server) as me:
                await me.claim(1)
                server.lose_replies["heartbeat"] = 1
                assert not await me.heartbeats.beat()
                assert (len(me.leases), me.gone) == (1, [])
                stranger = Scene(WorkerApi(server.url, "wrong", 60.0, lambda answers, why: None))
                with pytest.raises(Unauthorized):
                    await stranger.heartbeats.beat()
                await stranger.api.close()

    asyncio.run(scene())


def test_a_shorter_lease_quickens_the_beat_and_a_longer_one_does_not_slow_it() -> None:
    async def scene() -> None:
        with serving(farm_with(0)) as server:
            async with beating(server) as me:
                me.heartbeats.set_pace(20.0, 5.0)
                me.heartbeats.keep_up_with(40.0)
                assert (me.heartbeats.lease_seconds, me.heartbeats.heartbeat_seconds) == (20.0, 5.0)
                me.heartbeats.keep_up_with(4.0)
                assert (me.heartbeats.lease_seconds, me.heartbeats.heartbeat_seconds) == (4.0, 1.0)

    asyncio.run(scene())
