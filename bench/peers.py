"""Two well-known Python queues on PostgreSQL, drained of no-op jobs by one worker, for the table of `queue.py`.

Each runs in a process of its own: `python -m bench.peers NAME DATABASE_URL JOBS` prints jobs per second, counted from
the first job's start until the database knows that all are done, as with ours.
"""

from __future__ import annotations

import asyncio
import sys
import time

CONCURRENCY = 8
LOOK_SECONDS = 0.01


class Meter:
    """Counts job starts; `full` is set at the last."""

    def __init__(self, jobs: int) -> None:
        self.jobs, self.seen = jobs, 0
        self.first = 0.0
        self.full = asyncio.Event()

    def count(self) -> None:
        self.first = self.first or time.perf_counter()
        self.seen += 1
        if self.seen == self.jobs:
            self.full.set()

    def rate(self) -> float:
        """Jobs a second until now."""
        return self.jobs / (time.perf_counter() - self.first)


async def procrastinate(url: str, jobs: int) -> float:
    """Its worker with eight jobs at a time."""
    from procrastinate import App, PsycopgConnector

    meter = Meter(jobs)
    app = App(connector=PsycopgConnector(conninfo=url))

    @app.task(name="no_op")
    async def no_op() -> None:
        meter.count()

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await no_op.batch_defer_async(*({} for _ in range(jobs)))
        await app.run_worker_async(concurrency=CONCURRENCY, wait=False, install_signal_handlers=False)
    return meter.rate()


async def pgqueuer(url: str, jobs: int) -> float:
    """Its defaults: batches of ten, no cap."""
    import asyncpg
    from pgqueuer import AsyncpgDriver, PgQueuer, Queries

    meter = Meter(jobs)
    connection = await asyncpg.connect(url)
    driver = AsyncpgDriver(connection)
    queries = Queries(driver)
    await queries.install()
    await queries.enqueue(["no_op"] * jobs, [None] * jobs, [0] * jobs)
    queue = PgQueuer(driver)

    @queue.entrypoint("no_op")
    async def no_op(_job: object) -> None:
        meter.count()

    running = asyncio.create_task(queue.run())
    await asyncio.wait_for(meter.full.wait(), timeout=120)
    looking = await asyncpg.connect(url)
    while await looking.fetchval("SELECT count(*) FROM pgqueuer"):  # noqa: ASYNC110 - it is another process's event
        await asyncio.sleep(LOOK_SECONDS)
    rate = meter.rate()
    queue.shutdown.set()
    await asyncio.wait([running], timeout=30)
    await connection.close()
    await looking.close()
    return rate


PEERS = {"procrastinate": procrastinate, "pgqueuer": pgqueuer}

if __name__ == "__main__":
    print(asyncio.run(PEERS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))))
