"""Long polls on their own: who is tried when something may have become claimable, and who is not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest

from whisper_farm.coordinator import long_poll
from whisper_farm.coordinator.long_poll import EMPTY_HANDS, LongPolls, Tried
from whisper_farm.errors import StoreUnavailable, WorkerUnknown
from whisper_farm.leases.claim import Claimed
from whisper_farm.protocol.worker import ClaimRequest


def claimed(job_id: str) -> Claimed:
    return Claimed(
        token="t" * 20, job_id=job_id, transcription_id="t", kind="transcribe", position=0, attempt=1, lease_seconds=20,
        hedge=False, alone=False, asked={}, language=None, tagged_language=None, revision=None, without_speakers=None,
        start_seconds=0, end_seconds=1, audio_key="k", audio_size=1, audio_sha256="0" * 64, source="blob:s",
        source_name="s", source_size=1, chunk_seconds=30, resume_position=0, resume_seconds=0,
    )  # fmt: skip


class Queue:
    """Work that is there, who may take it, and who was tried."""

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.shunned: dict[str, str] = {}
        self.interests: dict[str, str] = {}
        self.due: float | None = None
        self.error: Exception | None = None
        self.tried: Counter[str] = Counter()
        self.calls = 0
        self.gate: asyncio.Event | None = None
        self.unknown = "unknown"
        self.warm: set[str] = set()

    async def attempt(self, request: ClaimRequest) -> Tried:
        self.calls += 1
        if self.error is not None:
            raise self.error
        tried = self._one(request)
        if self.gate is not None:
            await self.gate.wait()
        return tried

    def _one(self, request: ClaimRequest) -> Tried:
        self.tried[request.worker_id] += 1
        if request.worker_id == self.unknown:
            raise WorkerUnknown
        for job in self.jobs:
            if self.shunned.get(job) != request.worker_id:
                self.jobs.remove(job)
                return Tried((claimed(job),))
        own = request.worker_id if request.worker_id in self.shunned.values() else "same"
        interest = self.interests.get(request.worker_id, own)
        return Tried(interest=interest, due_seconds=self.due, warm=request.worker_id in self.warm)


Scenario = Callable[[Queue, LongPolls], Coroutine[Any, Any, None]]


def play(scenario: Scenario) -> None:
    """Run a scenario in a polls that is served, and close it."""

    async def everything() -> None:
        queue = Queue()
        polls = LongPolls(queue.attempt)
        serving = asyncio.create_task(polls.run())
        async with asyncio.timeout(20):
            await scenario(queue, polls)
            await polls.close()
            await serving

    asyncio.run(everything())


def ask(polls: LongPolls, worker: str, request: str = "r", seconds: float = 15) -> asyncio.Task[Tried]:
    wanted = ClaimRequest(worker_id=worker, request_id=request, jobs={"transcribe": 1}, wait_seconds=seconds)
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    return asyncio.create_task(polls.claim(wanted, gone))


async def crowd(queue: Queue, polls: LongPolls, size: int) -> list[asyncio.Task[Tried]]:
    """So many waiting workers, each tried once."""
    tasks = [ask(polls, f"w{number}") for number in range(size)]
    await until(lambda: len(polls) == size)
    queue.tried.clear()
    queue.calls = 0
    return tasks


async def until(look: Callable[[], object]) -> None:
    while not look():  # noqa: ASYNC110 - what is looked at has no event
        await asyncio.sleep(0.001)


async def settled(tasks: Sequence[Awaitable[Tried]]) -> list[str]:
    return [one.claims[0].job_id for one in await asyncio.gather(*tasks)]


@pytest.fixture(autouse=True)
def no_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried without a cause, unless the test wants that."""
    monkeypatch.setattr(long_poll, "TICK_SECONDS", 1000)


def test_three_hundred_idle_workers_cost_two_empty_claims() -> None:
    async def scenario(queue: Queue, polls: LongPolls) -> None:
        await crowd(queue, polls, 300)
        for wakes in (1, 2):
            polls.wake()
            await until(lambda wakes=wakes: queue.calls == wakes * EMPTY_HANDS)
            await asyncio.sleep(0.05)
            assert queue.calls == wakes * EMPTY_HANDS
        assert set(queue.tried.values()) == {1}, "the next ones are tried next"

    play(scenario)


def test_the_longest_waiting_are_served_first_and_only_as_many_as_there_is_work() -> None:
    async def scenario(queue: Queue, polls: LongPolls) -> None:
        tasks = await crowd(queue, polls, 40)
        queue.jobs = [f"job{number}" for number in range(20)]
        polls.wake()
        assert await settled(tasks[:20]) == [f"job{number}" for number in range(20)]
        await until(lambda: queue.tried.total() == 20 + EMPTY_HANDS)
        assert not any(task.done() for task in tasks[20:])
        assert queue.calls == 20 + EMPTY_HANDS

    play(scenario)


def test_a_job_one_worker_may_not_take_finds_the_next() -> None:
    async def scenario(queue: Queue, polls: LongPolls) -> None:
        tasks = await crowd(queue, polls, 3)
        queue.jobs, queue.shunned = ["job"], {"job": "w0"}
        polls.wake()
        assert await settled([tasks[1]]) == ["job"]

    play(scenario)


def test_workers_that_want_other_things_are_tried_whatever_the_others_found() -> None:
    async def scenario(queue: Queue, polls: LongPolls) -> None:
        queue.interests = {"w9": "another"}
        tasks = await crowd(queue, polls, 10)
        queue.jobs, queue.shunned = ["job"], {}
        real = queue._one

        def only_w9(request: ClaimRequest) -> Tried:
            if request.worker_id == "w9":
                return real(request)
            queue.tried[request.worker_id] += 1
            return Tried(interest="same")

        queue._one = only_w9  # type: ignore[method-assign] # a queue in which only w9 may take the job
        polls.wake()
        assert await settled([tasks[9]]) == ["job"]

    play(scenario)


def test_what_happened_during_the_first_try_is_not_missed() -> None:
    async def scenario(queue: Queue, polls: LongPolls) -> None:
        queue.gate = asyncio.Event()
        task = ask(polls, "w")
        await until(lambda: queue.calls == 1)
        queue.jobs = ["job"]
        polls.wake()
        queue.gate.set()
        assert await settled([task]) == ["job"]

    play(scenario)


def test_a_wait_that_ends_while_it_is_tried_answers_what_it_got() -> None:
    async def scenario(queue: Queue, polls: LongPolls) -> None:
        first = queue.gate = asyncio.Event()
        task = ask(polls, "w", seconds=0.05)
        await until(lambda: queue.calls == 1)
        queue.jobs, queue.gate = ["job"], asyncio.Event()
        polls.wake()  # so that it is tried again as soon as it waits
        first.set()
        await until(lambda: queue.calls == 2)
        await asyncio.wait({task}, timeout=0.2)
        assert not task.done()
        queue.gate.set()
        assert await settled([task]) == ["job"]

    play(scenario)


def test_closing_while_a_claim_is_tried_answers_what_it_got() -> None:
    async def scenario(queue: Queue, polls: LongPolls) -> None:
        tasks = await crowd(queue, polls, 4)
        queue.jobs, queue.gate = ["job"], asyncio.Event()
        polls.wake()
        await until(lambda: queue.calls == 1)
        closing = asyncio.create_task(polls.close())
        queue.gate.set()
        await closing
        answers = await asyncio.gather(*tasks)
        assert [len(one.claims) for one in answers] == [1, 0, 0, 0]

    play(scenario)


def test_the_same_request_twice_is_one_wait_and_one_answer() -> None:
    async def scenario(queue: Queue, polls: LongPolls) -> None:
        first, second = ask(polls, "w", "same", 0.05), ask(polls, "w", "same")
        assert not (await first).claims
        assert len(polls) == 1, "the other one still waits"
        queue.jobs = ["job"]
        polls.wake()
        assert await settled([second]) == ["job"]
        await until(lambda: len(polls) == 0)

    play(scenario)


def test_a_client_that_left_is_not_tried_any_more() -> None:
    async def scenario(queue: Queue, polls: LongPolls) -> None:
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wanted = ClaimRequest(worker_id="left", request_id="r", jobs={"transcribe": 1}, wait_seconds=30)
        leaving = asyncio.create_task(polls.claim(wanted, gone))
        await until(lambda: len(polls) == 1)
        gone.set_result(None)
        assert not (await leaving).claims
        assert len(polls) == 0
        queue.jobs = ["job"]
        assert await settled([ask(polls, "stays")]) == ["job"]
        assert queue.tried["left"] == 1

    play(scenario)


def test_a_due_time_wakes_the_polls_by_itself() -> None:
    async def scenario(queue: Queue, polls: LongPolls) -> None:
        queue.due = 0.05
        task = ask(polls, "w")
        await until(lambda: len(polls) == 1)
        queue.jobs = ["job"]
        assert await settled([task]) == ["job"]

    play(scenario)


def test_waiting_claims_are_tried_now_and_then_without_a_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_poll, "TICK_SECONDS", 0.01)

    async def scenario(queue: Queue, polls: LongPolls) -> None:
        task = ask(polls, "w")
        await until(lambda: len(polls) == 1)
        queue.jobs = ["job"]
        assert await settled([task]) == ["job"]

    play(scenario)


def test_a_database_that_fails_for_a_while_ends_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_poll, "PAUSE_SECONDS", 0.01)

    async def scenario(queue: Queue, polls: LongPolls) -> None:
        tasks = await crowd(queue, polls, 2)
        for error in (StoreUnavailable(), ValueError("unforeseen")):
            queue.error = error
            queue.calls = 0
            polls.wake()
            await until(lambda: queue.calls)
        queue.error = None
        queue.jobs = ["a", "b"]
        polls.wake()
        assert await settled(tasks) == ["a", "b"]

    play(scenario)


def test_a_worker_that_is_to_drain_is_tried_first() -> None:
    async def scenario(queue: Queue, polls: LongPolls) -> None:
        await crowd(queue, polls, 20)
        polls.prefer("w15")
        await until(lambda: queue.calls)
        assert queue.tried["w15"] == 1

    play(scenario)


def test_who_has_a_model_in_memory_is_tried_before_those_who_have_waited_longer() -> None:
    async def scenario(queue: Queue, polls: LongPolls) -> None:
        queue.warm = {"w15"}
        tasks = await crowd(queue, polls, 20)
        queue.jobs = ["job"]
        polls.wake()
        assert await settled([tasks[15]]) == ["job"]

    play(scenario)


def test_an_error_is_the_answer_of_its_own_claim_only() -> None:
    async def scenario(queue: Queue, polls: LongPolls) -> None:
        with pytest.raises(WorkerUnknown):
            await ask(polls, "unknown")
        tasks = await crowd(queue, polls, 3)
        queue.unknown, queue.jobs = "w0", ["job"]
        polls.wake()
        with pytest.raises(WorkerUnknown):
            await tasks[0]
        assert await settled([tasks[1]]) == ["job"]
        assert len(polls) == 1

    play(scenario)
