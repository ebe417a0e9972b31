"""The books of the fleet on both databases: who may write them, what they keep, and what they add up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.service_bench import TONES, Bench

from whisper_farm.errors import NotFound, WrongState
from whisper_farm.leases.transcriptions import NewTranscription, submit
from whisper_farm.leases.workers import register_worker
from whisper_farm.protocol.worker import EngineOffer, MachineFacts, RegisterRequest
from whisper_farm.settings import Policy
from whisper_farm.store import machines as books
from whisper_farm.store.database import Database
from whisper_farm.store.machines import LogRow, MachineRow, NeedRow, PoolRow
from whisper_farm.store.workers import unlabelled_workers

ROW = MachineRow(
    "p-1", "p", "fly", "cdg", "started", 3.6, 100, 100, "It runs.", "m1", asks=1, unsure=True, accepted_at=101,
    started_at=102, running_since=102.5, stretches=[[10, 20]],
)  # fmt: skip


def keep(
    database: Database, *machines: MachineRow, pools: tuple[PoolRow, ...] = (), log: tuple[LogRow, ...] = ()
) -> None:
    database.write(lambda tx: books.keep(tx, machines, pools, log))


def test_one_coordinator_at_a_time_and_the_next_one_after_its_silence(database: Database) -> None:
    def take(holder: str, now: float) -> bool:
        return database.write(lambda tx: books.take_turn(tx, holder, 30), now=now)

    assert take("a", 1000)
    assert not take("b", 1029)
    assert take("a", 1029)
    assert not take("b", 1058)
    assert take("b", 1059)
    with pytest.raises(WrongState):
        database.write(lambda tx: books.check_turn(tx, "a"), now=1060)
    database.write(lambda tx: books.check_turn(tx, "b"), now=1060)
    database.write(lambda tx: books.leave_turn(tx, "b"))
    assert take("a", 1060)


def test_the_tag_of_the_farm_stays(database: Database) -> None:
    assert database.read(books.owner_tag) is None
    database.write(lambda tx: books.take_turn(tx, "a", 1))
    tag = database.read(books.owner_tag)
    database.write(lambda tx: books.take_turn(tx, "b", 1), now=10**10)
    assert database.read(books.owner_tag) == tag


def test_a_row_comes_back_as_it_was_written(database: Database) -> None:
    keep(database, ROW)
    assert database.read(books.counted_machines) == [ROW]
    later = replace(
        ROW, state="gone", ended_at=200.0, running_since=None, stretches=[[10, 20], [102.5, 150]], spent=0.5
    )
    keep(database, later)
    assert database.read(books.counted_machines) == []
    assert database.read(lambda tx: books.machines_gone_since(tx, 200)) == [later]
    assert database.read(lambda tx: books.machines_gone_since(tx, 201)) == []
    assert database.read(lambda tx: books.machines_of(tx, ["p-1", "x"])) == [later]
    assert database.read(books.spent_by_pool) == {"p": 0.5}


def test_a_row_that_contradicts_itself_cannot_be_kept(database: Database) -> None:
    for wrong in (replace(ROW, state="gone"), replace(ROW, ended_at=1.0), replace(ROW, state="working")):
        with pytest.raises(Exception, match=r"(?i)constraint"):
            keep(database, wrong)


def test_what_administrators_ask_for_is_not_overwritten_by_the_holder(database: Database) -> None:
    keep(database, ROW, pools=(PoolRow("p", why="one"),))
    database.write(lambda tx: books.change_pool(tx, "p", switch="paused"))
    database.write(lambda tx: books.change_pool(tx, "p", fixed=3))
    database.write(lambda tx: books.wish_for(tx, "p-1", "drain"))
    keep(database, replace(ROW, region="ams"), pools=(PoolRow("p", why="two", inputs={"a": 1}),))
    pool = database.read(books.pool_rows)["p"]
    assert (pool.switch, pool.fixed, pool.why, pool.inputs) == ("paused", 3, "two", {"a": 1})
    (row,) = database.read(books.counted_machines)
    assert (row.region, row.wish) == ("ams", "drain")
    database.write(lambda tx: books.fulfilled(tx, "p-1", "stop"))
    assert database.read(books.counted_machines)[0].wish == "drain", "another wish came meanwhile"
    database.write(lambda tx: books.fulfilled(tx, "p-1", "drain"))
    assert database.read(books.counted_machines)[0].wish is None
    database.write(lambda tx: books.change_pool(tx, "p", fixed=None))
    assert database.read(books.pool_rows)["p"].fixed is None


def test_a_wish_for_what_is_gone_or_never_was_is_refused(database: Database) -> None:
    keep(database, replace(ROW, state="gone", ended_at=1.0, running_since=None))
    with pytest.raises(WrongState):
        database.write(lambda tx: books.wish_for(tx, "p-1", "stop"))
    with pytest.raises(NotFound):
        database.write(lambda tx: books.wish_for(tx, "p-2", "stop"))


def test_the_log_is_read_newest_first_of_all_or_of_one(database: Database) -> None:
    lines = (LogRow(1, "p", "p-1", "create", "one"), LogRow(2, "p", None, "wanted", "two"))
    keep(database, log=lines)
    assert database.read(books.log_of) == list(lines[::-1])
    assert database.read(lambda tx: books.log_of(tx, "p-1")) == [lines[0]]
    database.write(lambda tx: books.forget_log(tx, 2))
    assert database.read(books.log_of) == [lines[1]]


def test_needs_are_what_waits_and_what_is_worked_on_by_engine_and_model(database: Database, tmp_path: Path) -> None:
    bench = Bench(database, tmp_path)
    bench.recognised(chunks=3)
    assert database.read(books.needs) == [], "all is done"
    database.write(lambda tx: submit(tx, NewTranscription("ann", "talk.mp3", "blob:sources/up/two", 1 << 30, TONES)))
    assert database.read(books.needs) == [NeedRow("tones", "instant", 1, 0)], "a recording is to be cut"
    (cutting,) = bench.claims(jobs={"chunk": 1})
    bench.append(cutting, 0, 4)
    assert database.read(books.needs) == [NeedRow("tones", "instant", 5, 40)]
    bench.claims(jobs={"transcribe": 2})
    assert database.read(books.needs) == [NeedRow("tones", "instant", 5, 40)], "what is worked on counts, too"
    labelled = NewTranscription("ann", "talk.mp3", "blob:sources/up/three", 1 << 30, TONES, label="mine")
    database.write(lambda tx: submit(tx, labelled))
    assert database.read(books.needs) == [NeedRow("tones", "instant", 5, 40)], "no placed worker would take it"


def test_a_worker_tells_the_launch_that_brought_it(database: Database) -> None:
    offer = EngineOffer(engine="tones", version="1", device="cpu", batch=1)
    facts = MachineFacts(provider="fly", launch_id="p-1", region="cdg")
    hello = RegisterRequest(
        worker_id="w", name="w", version="1", platform="p", slots=2, engines=(offer,), machine=facts
    )
    database.write(lambda tx: register_worker(tx, hello, "ann", Policy()))
    (worker,) = database.read(lambda tx: unlabelled_workers(tx, tx.now))
    assert (worker.launch_id, worker.slots, worker.jobs, worker.speed) == ("p-1", 2, 0, None)


def test_the_cost_of_a_day_begins_at_midnight() -> None:
    row = replace(ROW, stretches=[[0, 3600], [7200, 10_800]], running_since=14_400.0, price_per_hour=2.0)
    assert row.seconds(18_000) == 3 * 3600
    assert row.cost(18_000) == 6.0
    assert row.cost(18_000, since=9000) == pytest.approx((1800 + 3600) / 3600 * 2)
