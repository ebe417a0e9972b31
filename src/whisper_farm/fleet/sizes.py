"""How many machines a pool should have: from the backlog, the measured speed, the limits and the money.

Pure, as the whole decision is (see `decide.py`). A pool takes its share of the work, and what it cannot take is left to
the next one. It grows only as far as every limit allows. It loses only machines that have nothing to do, that are not
paid, or that are more than its maximum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

from whisper_farm.fleet.books import Books
from whisper_farm.fleet.pools import Pool
from whisper_farm.fleet.snapshot import COMING, LEAVING, SERVING, Decision, Snapshot, Verdict, about
from whisper_farm.store.machines import MachineRow
from whisper_farm.store.workers import PresentWorker
from whisper_farm.times import DAY_SECONDS

BOOT_SAMPLES = 20


@dataclass(slots=True)
class Work:
    """What is left of one need while pools take their shares."""

    engine: str
    model: str
    jobs: float
    audio_seconds: float


def work_left(books: Books) -> list[Work]:
    """The work that is there, without what workers do that no pool has brought."""
    work = [Work(one.engine, one.model, one.jobs, one.audio_seconds) for one in books.snapshot.needs]
    target = books.rules.target_drain_seconds
    for worker in books.snapshot.workers:
        if worker.launch_id in books.snapshot.machines or worker.state != "live" or worker.paused:
            continue
        mine = [one for one in work if _offers(worker, one)]
        _take(mine, worker.slots, worker.slots * (worker.speed or 0) * target)
    return work


def _offers(worker: PresentWorker, work: Work) -> bool:
    found = (offer.get("models") for offer in worker.engines if offer.get("engine") == work.engine)
    return any(models is None or work.model in models for models in found)


def _take(work: list[Work], jobs: float, audio_seconds: float) -> None:
    """Take so much of it away: at least as many jobs as there are slots, and with the audio also its share of jobs."""
    for one in work:
        slots = min(jobs, one.jobs)
        heard = min(audio_seconds, one.audio_seconds)
        share = one.jobs * heard / one.audio_seconds if one.audio_seconds > 0 else 0
        jobs, one.jobs = jobs - slots, one.jobs - max(slots, share)
        audio_seconds, one.audio_seconds = audio_seconds - heard, one.audio_seconds - heard


@dataclass(frozen=True, slots=True)
class Sizes:
    """The numbers of one pool."""

    coming: int
    serving: int
    counted: int
    jobs: float
    audio_seconds: float
    speed: float | None
    boot_seconds: float | None
    spent_today: float
    spent: float


def _sizes(books: Books, pool: Pool, work: list[Work]) -> Sizes:
    rows = [row for row in books.snapshot.machines.values() if row.pool == pool.name and row.state != "gone"]
    ended = [row for row in books.snapshot.ended_today if row.pool == pool.name]
    gone_now = [row for row in books.snapshot.machines.values() if row.pool == pool.name and row.state == "gone"]
    mine = [one for one in work if pool.serves(one.engine, one.model)]
    midnight = books.now - books.now % DAY_SECONDS
    registered = [row for row in [*ended, *gone_now, *rows] if row.registered_at is not None][-BOOT_SAMPLES:]
    boots = [(row.registered_at or 0) - row.intended_at for row in registered]
    return Sizes(
        coming=sum(row.state in COMING for row in rows),
        serving=sum(row.state in SERVING for row in rows),
        counted=len(rows),
        jobs=sum(one.jobs for one in mine),
        audio_seconds=sum(one.audio_seconds for one in mine),
        speed=measured_speed(books, pool),
        boot_seconds=sum(boots) / len(boots) if boots else None,
        spent_today=sum(row.cost(books.now, midnight) for row in [*rows, *gone_now, *ended]),
        spent=books.snapshot.spent.get(pool.name, 0) + sum(row.cost(books.now) for row in [*rows, *gone_now]),
    )


def measured_speed(books: Books, pool: Pool) -> float | None:
    """Audio-seconds a second that one machine of this pool does; of its like elsewhere if it has none yet."""
    machines = books.snapshot.machines | {row.launch_id: row for row in books.snapshot.ended_today}
    fast = [one for one in books.snapshot.workers if one.work_seconds > 0]
    mine = [one for one in fast if (row := machines.get(one.launch_id or "")) is not None and row.pool == pool.name]
    alike = [one for one in fast if any(offer.get("engine") == pool.engine for offer in one.engines)]
    workers = mine or alike
    if not workers:
        return None
    return sum(one.slots * one.audio_seconds for one in workers) / sum(one.work_seconds for one in workers)


def resize(books: Books, pool: Pool, work: list[Work]) -> Iterator[Decision]:
    """Make a pool larger or smaller, and say why it is as large as it is."""
    sizes = _sizes(books, pool, work)
    wanted, why = _wanted(books.rules.target_drain_seconds, pool, sizes)
    if (fixed := books.pool(pool.name).fixed) is not None:
        wanted = min(fixed, pool.maximum)
        why = f"{wanted} wanted: {fixed} were asked for by hand, at most {pool.maximum}."
    present = sizes.coming + sizes.serving
    may, limit = _may_add(books, pool, sizes)
    grow = max(0, min(wanted - present, may))
    mine = [one for one in work if pool.serves(one.engine, one.model)]
    served = min(wanted, present + grow)
    _take(mine, served * pool.slots, served * (sizes.speed or 0) * books.rules.target_drain_seconds)
    if wanted > present + grow:
        why += f" Only {grow} more now: {limit}."
    told = ((one.name, getattr(sizes, one.name)) for one in fields(sizes))
    inputs = {name: round(value, 4) for name, value in told if value is not None}
    books.judge(Verdict(pool.name, max(wanted, 0), why, inputs))
    yield from _grow(books, pool, grow, why)
    yield from _shrink(books, pool, sizes, _unpaid(books, pool, sizes))


def total_wanted(snapshot: Snapshot, pool: Pool) -> tuple[int, str]:
    """How many workers like those of this pool there should be in all, those that are busy now included."""
    books = Books(snapshot)
    work = [Work(one.engine, one.model, one.jobs, one.audio_seconds) for one in snapshot.needs]
    sizes = _sizes(books, pool, work)
    wanted, why = _wanted(books.rules.target_drain_seconds, pool, sizes)
    alike = [one for one in snapshot.workers if any(_offers(one, each) for each in work)]
    busy = sum(one.jobs > 0 and one.state != "gone" for one in alike)
    return max(wanted, min(busy, pool.maximum)), why


def _wanted(target: float, pool: Pool, sizes: Sizes) -> tuple[int, str]:
    by_work = math.ceil(sizes.jobs / pool.slots)
    if sizes.speed:
        by_time = math.ceil(sizes.audio_seconds / (sizes.speed * target)) if sizes.audio_seconds else by_work
        said = (
            f"{sizes.audio_seconds:.0f} s of audio at {sizes.speed:.1f} times real time in {target:g} s need {by_time}"
        )
    else:
        by_time, said = by_work, f"no speed is known yet: one for each job of {math.ceil(sizes.jobs)}"
    wanted = min(by_work, max(by_time, 1)) if sizes.jobs > 0 else 0
    said = f"{said}; there is work for {by_work} at a time"
    present = sizes.coming + sizes.serving
    if sizes.boot_seconds and sizes.speed and 0 < present < wanted:
        left = sizes.audio_seconds / (present * sizes.speed)
        if left <= sizes.boot_seconds:
            wanted, said = present, f"{said}; those present are done before another is here ({left:.0f} s)"
    bounded = min(max(wanted, pool.minimum), pool.maximum)
    return bounded, f"{bounded} wanted: {said}; {pool.minimum} to {pool.maximum} are allowed."


def _may_add(books: Books, pool: Pool, sizes: Sizes) -> tuple[int, str]:
    """How many may be started now, and what keeps it from being more."""
    row = books.pool(pool.name)
    limits = [(pool.maximum - sizes.counted, f"{sizes.counted} count against the maximum of {pool.maximum}")]
    if row.switch != "on":
        limits.append((0, f"the pool is {row.switch}"))
    if row.blocked_until > books.now:
        limits.append((0, f"it is blocked: {row.blocked_why}"))
    if row.next_launch_at > books.now:
        limits.append((0, f"a pause of {row.next_launch_at - books.now:.0f} s after a failure"))
    if books.region(pool) is None:
        limits.append((0, "every region is full"))
    if not pool.is_open(books.now):
        limits.append((0, f"it starts machines from {pool.hours} UTC only"))
    if not books.is_fresh(pool.provider):
        limits.append((0, "its provider has not answered lately"))
    rules = books.rules
    ramp = max(rules.coming_most, sizes.serving) - sizes.coming
    limits.append((ramp, f"{sizes.coming} are on their way"))
    if row.crashes:
        limits.append((1 - sizes.coming, "the last one ended before it worked: one at a time"))
    if (left := _budget_left(pool, sizes)) is not None and pool.price_per_hour > 0:
        each = pool.price_per_hour * rules.budget_reserve_seconds / 3600
        paid = math.floor(left / each) if each > 0 else (sizes.counted + ramp if left > 0 else 0)
        limits.append((paid - sizes.counted, f"{left:.2f} of the budget is left"))
    return max(0, min(limits)[0]), min(limits)[1]


def _budget_left(pool: Pool, sizes: Sizes) -> float | None:
    """What may still be spent; None without a budget."""
    left = []
    if pool.budget_per_day is not None:
        left.append(pool.budget_per_day - sizes.spent_today)
    if pool.budget_total is not None:
        left.append(pool.budget_total - sizes.spent)
    return min(left) if left else None


def _unpaid(books: Books, pool: Pool, sizes: Sizes) -> int:
    """How many machines the budget does not pay for the time that a drain may take."""
    left = _budget_left(pool, sizes)
    each = pool.price_per_hour * books.rules.budget_reserve_seconds / 2 / 3600
    if left is None or each == 0:
        return 0
    return max(0, sizes.counted - max(0, math.floor(left / each)))


def _grow(books: Books, pool: Pool, count: int, why: str) -> Iterator[Decision]:
    stopped = [row for row in _rows(books, pool, "stopped") if row.next_call_at <= books.now]
    for row in stopped[:count]:
        yield about(row, "start", f"A stopped machine is started before a new one is made. {why}")
    region = books.region(pool)
    for _ in range(count - len(stopped)):
        yield books.launch(pool, region or "", why)


def _shrink(books: Books, pool: Pool, sizes: Sizes, unpaid: int) -> Iterator[Decision]:
    """Drain what has no work, what is more than the maximum, and what is not paid; destroy what is kept too many."""
    serving = _rows(books, pool, *SERVING)
    serving.sort(key=lambda row: (_jobs(books, row), -row.intended_at))
    leaving = len(_rows(books, pool, *LEAVING, "destroying"))
    keep = min(max(math.ceil(sizes.jobs / pool.slots), pool.minimum), pool.maximum)
    if (fixed := books.pool(pool.name).fixed) is not None:
        keep = min(fixed, pool.maximum)
    grown = max((row.intended_at for row in _rows(books, pool, *COMING, *SERVING)), default=0.0)
    calm = books.now - grown >= books.rules.hysteresis_seconds and books.is_fresh(pool.provider)
    for number, row in enumerate(serving):
        left = len(serving) - number
        if number < unpaid - leaving:
            yield about(row, "drain", f"The budget does not pay it: {_money(pool, sizes)}.")
        elif left > pool.maximum:
            yield about(row, "drain", f"The pool has {left} machines, at most {pool.maximum}.")
        elif left > keep and calm and _jobs(books, row) == 0:
            yield about(row, "drain", f"There is work for {keep}, and {left} work.")
    if unpaid - leaving > len(serving):
        for row in _rows(books, pool, *COMING)[: unpaid - leaving - len(serving)]:
            yield about(row, "destroy" if row.unsure or row.machine_id else "close", "The budget does not pay it.")
    stopped = sorted(_rows(books, pool, "stopped"), key=lambda row: row.intended_at)
    for row in stopped[: max(0, len(stopped) - pool.warm)]:
        yield about(row, "destroy", f"It has ended; {pool.warm} stopped machines are kept. {row.why}")


def _rows(books: Books, pool: Pool, *states: str) -> list[MachineRow]:
    return [row for row in books.snapshot.machines.values() if row.pool == pool.name and row.state in states]


def _jobs(books: Books, row: MachineRow) -> int:
    worker = books.worker_of(row)
    return worker.jobs if worker is not None else 0


def _money(pool: Pool, sizes: Sizes) -> str:
    day = f"{sizes.spent_today:.2f} of {pool.budget_per_day:g} spent today" if pool.budget_per_day is not None else ""
    total = f"{sizes.spent:.2f} of {pool.budget_total:g} spent" if pool.budget_total is not None else ""
    return ", ".join(part for part in (day, total) if part)
