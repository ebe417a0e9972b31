"""Claims whose requests and answers get lost, ten thousand times: nothing is stranded, nothing is held twice.

The claims wait in the coordinator's own long polls, in front of the real queue; only the sockets are left out.
The same over real sockets is `test_lost_claim_reply` in `tests/farm`.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import func, select
from support.hand_farm import Farm

from whisper_farm.coordinator.claims import try_claims
from whisper_farm.coordinator.long_poll import LongPolls, Tried
from whisper_farm.leases.claim import Claimed
from whisper_farm.protocol.worker import ClaimRequest
from whisper_farm.store.tables import attempts, jobs

DROPS = {"sqlite": 10_000, "postgresql": 300}
CLIENTS = 6
AHEAD = 4
"""Queued chunks for all clients together: most claims find nothing and wait."""
FATES = {"request lost": 6, "reply lost": 3, "client gone": 3, "answered": 1}
"""What befalls a call, and how often."""
STEP_SECONDS = 0.001
"""How far the clock moves with every call."""


class Losses:
    """Clients that claim and complete, and lose most of what they ask and are answered. All dice are seeded."""

    def __init__(self, farm: Farm, drops: int, seed: int) -> None:
        self.farm, self.drops = farm, drops
        self.dice = random.Random(seed)
        self.suffered: Counter[str] = Counter()
        self.polls = LongPolls(self._attempt)
        self.held: dict[str, str] = {}
        """Every job that was ever handed to a client, with the token."""
        self.cut = self.finished = 0
        farm.worker("cutter", models=())
        self.recording = farm.submit().id
        (self.cutting,) = farm.claim("cutter", chunk=1, transcribe=0)
        self._left_behind: set[asyncio.Task[Tried]] = set()

    async def run(self) -> None:
        """Until so many calls have been lost and all that was cut is done."""
        serving = asyncio.create_task(self.polls.run())
        self._feed(AHEAD)
        async with asyncio.TaskGroup() as clients:
            for number in range(CLIENTS):
                clients.create_task(self._client(self.farm.worker(f"client{number}", cuts=False)))
        await asyncio.gather(*self._left_behind)
        await serving

    def _feed(self, chunks: int) -> None:
        """Cut more, as long as there is more to lose."""
        if self.suffered.total() < self.drops:
            self.farm.append(self.cutting, chunks, first=self.cut, worker="cutter")
            self.cut += chunks
            self.polls.wake()

    async def _client(self, name: str) -> None:
        while self.finished < self.cut:
            request = self.farm.request(name, transcribe=self.dice.randint(1, 3))
            tried = await self._answered(request.model_copy(update={"wait_seconds": 60.0}))
            for job in tried.claims:
                assert self.held.setdefault(job.job_id, job.token) == job.token, f"{job.job_id} is held twice"
            await self._complete(tried.claims)

    async def _complete(self, claims: Sequence[Claimed]) -> None:
        if not claims:
            return
        await asyncio.sleep(0)
        outcomes = self.farm.finish(*(self.farm.finished(job) for job in claims))
        assert [outcome.error_code for outcome in outcomes] == [None] * len(claims)
        self.finished += len(claims)
        self._feed(len(claims))
        if self.finished == self.cut:
            await self.polls.close()

    async def _answered(self, request: ClaimRequest) -> Tried:
        """Ask until an answer arrives."""
        while (fate := self.dice.choices(list(FATES), list(FATES.values()))[0]) != "answered":
            self.suffered[fate] += 1
            if fate == "reply lost":
                await self.polls.claim(request, _never())
            elif fate == "client gone":
                await self._walk_out(request)
            else:
                await asyncio.sleep(0)
        return await self.polls.claim(request, _never())

    async def _walk_out(self, request: ClaimRequest) -> None:
        """Leave the long poll at any moment of it; the next call may come before the coordinator has noticed."""
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        call = asyncio.create_task(self.polls.claim(request, gone))
        for _ in range(self.dice.randrange(12)):
            await asyncio.sleep(0)
        gone.set_result(None)
        if self.dice.random() < 0.5:
            self._left_behind.add(call)
        else:
            await call

    async def _attempt(self, request: ClaimRequest) -> Tried:
        """As `coordinator.claims.Claims` does it; clients come and go before and after."""
        await asyncio.sleep(0)
        self.farm.now += STEP_SECONDS
        tried: Tried = self.farm.write(lambda tx: try_claims(tx, [request], self.farm.policy)[0])
        await asyncio.sleep(0)
        return tried


def _never() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


def test_ten_thousand_lost_claims_strand_nothing_and_hand_nothing_out_twice(farm: Farm) -> None:
    losses = Losses(farm, DROPS[farm.database.dialect], seed=7)

    async def play() -> None:
        async with asyncio.timeout(500):
            await losses.run()

    asyncio.run(play())
    assert losses.suffered.total() >= DROPS[farm.database.dialect]
    assert min(losses.suffered[fate] for fate in FATES if fate != "answered") > losses.drops / 10
    assert farm.finish_cutting(losses.cutting, losses.cut).error_code is None
    assert farm.find(losses.recording).state == "assembling"
    assert farm.states() == {"done": losses.cut + 1}
    made = select(attempts.c.state, attempts.c.charged, func.count()).group_by(attempts.c.state, attempts.c.charged)
    rows = farm.database.read(lambda tx: [tuple(row) for row in tx.connection.execute(made)])
    assert rows == [("done", False, losses.cut + 1)], "one attempt at each job, and none was ever charged"
    tried = farm.database.read(lambda tx: tx.connection.scalar(select(func.max(jobs.c.attempts))))
    assert tried == 1
