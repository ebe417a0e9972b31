"""The event stream: order, resume, reset, filters, and listeners that go away or do not keep up."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading

import pytest
from support.hand_worker import MakeWorker
from support.listening import Arrivals, following, parsed, past
from support.served_farm import ServedFarm, eventually
from support.submitting import submit

from whisper_farm.coordinator import event_log
from whisper_farm.coordinator.event_log import EventLog, Filter, Reset
from whisper_farm.coordinator.layers import auth
from whisper_farm.coordinator.routes import events as events_route
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.protocol.events import JobReleased, TranscriptionDone
from whisper_farm.store.database import Database
from whisper_farm.store.events import emit, newest_event, retire_events
from whisper_farm.store.tokens import revoke_token


def told(arrived: Arrivals) -> str | None:
    """The recording that the next event is about; None if the stream ends instead."""
    view = arrived.get(timeout=60)[1]
    return view and view.transcription_id


def test_what_happens_to_a_recording_is_told_in_order(either_farm: ServedFarm, make_worker: MakeWorker) -> None:
    farm = either_farm
    worker = make_worker(farm)
    made = submit(farm.admin)
    worker.work_off(chunks=2)
    eventually(lambda: farm.admin.get(f"/api/transcriptions/{made['id']}").json()["state"] == "done")
    told = past(farm.admin, transcription=made["id"])
    assert [view.kind for view in told] == [
        "transcription_submitted",
        "transcription_started",
        "chunks_appended",
        "chunking_done",
        "job_done",
        "language_decided",
        "job_done",
        "transcription_assembling",
        "transcription_done",
    ]
    assert [view.id for view in told] == sorted({view.id for view in told})
    assert past(farm.admin, after=told[4].id, transcription=made["id"]) == told[5:]


def test_a_stream_says_where_it_begins_so_that_a_break_before_the_first_event_loses_none(farm: ServedFarm) -> None:
    before = past(farm.admin)[-1:]
    with farm.admin.stream("GET", "/api/events") as answer:
        lines = [line for _, line in zip(range(3), answer.iter_lines(), strict=False)]  # a fourth would be waited for
    begins_at = int(lines[1].removeprefix("id: "))
    assert begins_at == (before[0].id if before else 0)
    made = submit(farm.admin)
    assert [one.transcription_id for one in past(farm.admin, after=begins_at)] == [made["id"]]


def test_last_event_id_resumes_where_the_stream_broke(farm: ServedFarm) -> None:
    made = [submit(farm.admin, name=f"{number}.mp3")["id"] for number in range(3)]
    seen = past(farm.admin)
    assert [view.transcription_id for view in seen] == made
    with following(farm.admin, after=0, limit=2) as arrived:
        first = [arrived.get(timeout=60)[1] for _ in range(3)]
    assert first == [*seen[:2], None]
    answer = farm.admin.get("/api/events", params={"once": True}, headers={"Last-Event-ID": str(seen[1].id)})
    assert list(parsed(answer.text.splitlines())) == seen[2:]
    for nonsense in ("yesterday", "-5", "9" * 30):
        assert farm.admin.get("/api/events", params={"once": True}, headers={"Last-Event-ID": nonsense}).is_success


def test_the_past_and_the_present_join_without_gap_or_repeat(farm: ServedFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "PAGE", 3)
    write = farm.coordinator.database.write
    for number in range(10):
        write(lambda tx, number=number: emit(tx, JobReleased(position=number), None, "admin"))
    stop = threading.Event()
    sent = [10]

    def keep_writing() -> None:
        while not stop.is_set():
            write(lambda tx: emit(tx, JobReleased(position=sent[0]), None, "admin"))
            sent[0] += 1

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        with following(farm.admin, after=0, limit=60) as arrived:
            views = [arrived.get(timeout=60)[1] for _ in range(60)]
    finally:
        stop.set()
        writer.join(60)
    assert [view.data["position"] for view in views if view] == list(range(60))


def test_users_see_their_own_events_only(farm: ServedFarm) -> None:
    ann, bob = farm.user("ann"), farm.user("bob")
    hers, his = submit(ann), submit(bob)
    assert {view.transcription_id or view.data["what"] for view in past(ann)} == {hers["id"], "tokens"}
    with following(bob) as arrived:
        submit(ann)
        again = submit(bob)
        view = arrived.get(timeout=60)[1]
    assert view is not None
    assert view.transcription_id == again["id"]
    assert {view.transcription_id for view in past(farm.admin)} > {hers["id"], his["id"]}


def test_a_follower_that_was_away_too_long_is_told_to_start_over(farm: ServedFarm) -> None:
    for _ in range(5):
        submit(farm.admin)
    database = farm.coordinator.database
    database.write(lambda tx: retire_events(tx, tx.now + 1))
    (reset,) = past(farm.admin, after=1)
    assert reset.kind == "reset"
    assert past(farm.admin, after=reset.id) == []
    assert past(farm.admin, after=1 << 40)[0].kind == "reset"
    made = submit(farm.admin)
    assert [view.transcription_id for view in past(farm.admin, after=reset.id)] == [made["id"]]


def test_a_quiet_stream_shows_signs_of_life_and_moves_its_place_on(
    farm: ServedFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_route, "KEEP_ALIVE_SECONDS", 0.05)
    ann = farm.user("ann")
    newest = max(view.id for view in past(farm.admin)) if past(farm.admin) else 0
    with ann.stream("GET", "/api/events") as answer:
        lines = answer.iter_lines()
        eventually(lambda: next(lines).startswith(": "), "a sign of life")
        submit(farm.admin)
        eventually(lambda: (line := next(lines)).startswith("id: ") and int(line[4:]) > newest, "a later place")


def test_streams_end_at_once_when_the_server_stops(farm: ServedFarm) -> None:
    with following(farm.admin) as arrived:
        assert farm.stop() < 3
        assert arrived.get(timeout=5)[1] is None


def test_a_follower_that_leaves_is_forgotten(farm: ServedFarm) -> None:
    with following(farm.admin):
        eventually(lambda: len(farm.coordinator.event_log._listeners) == 1)
    eventually(lambda: not farm.coordinator.event_log._listeners, "the end of the listener")


def test_a_stream_ends_before_the_next_event_once_its_token_is_revoked(farm: ServedFarm) -> None:
    ann, again = farm.user("ann"), farm.user("ann")
    with following(ann) as arrived, following(again) as others:
        first = submit(again)
        assert told(arrived) == told(others) == first["id"]
        hers = [token["id"] for token in farm.admin.get("/api/tokens").json()["tokens"] if token["owner"] == "ann"]
        assert farm.admin.delete(f"/api/tokens/{hers[0]}").status_code == 204
        second = submit(again)
        assert told(others) == second["id"]
        assert told(arrived) is None


def test_a_quiet_stream_ends_with_a_sign_of_life_after_another_coordinator_revoked_its_token(
    farm: ServedFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_route, "KEEP_ALIVE_SECONDS", 0.05)
    monkeypatch.setattr(auth, "REMEMBER_SECONDS", 0.1)
    with following(farm.user("ann")) as arrived, following(farm.admin):
        (hers,) = [token["id"] for token in farm.admin.get("/api/tokens").json()["tokens"] if token["owner"] == "ann"]
        assert farm.coordinator.database.write(lambda tx: revoke_token(tx, hers))
        assert told(arrived) is None
        eventually(lambda: len(farm.coordinator.event_log._listeners) == 1, "the end of the one listener")


def test_a_database_that_does_not_answer_ends_no_stream(farm: ServedFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_route, "KEEP_ALIVE_SECONDS", 0.05)
    monkeypatch.setattr(auth, "REMEMBER_SECONDS", 0)
    with farm.admin.stream("GET", "/api/events") as answer:
        lines = answer.iter_lines()
        eventually(lambda: next(lines).startswith(": "), "a sign of life")
        farm.coordinator.database.close()
        assert farm.client("").get("/readyz").status_code == 503
        signs = [line for line in itertools.islice(lines, 40) if line.startswith(": ")]
    assert len(signs) > 10


def test_a_listener_that_does_not_keep_up_is_dropped_and_misses_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "LISTENER_EVENTS", 5)

    async def scenario() -> None:
        store = StoreThreads(database)
        reader = EventLog(store)
        await reader.start()
        running = asyncio.create_task(reader.run())
        slow = reader.follow(0, Filter(), once=False, idle_seconds=10)
        await store.write(lambda tx: emit(tx, TranscriptionDone()))
        seen = [(await asyncio.wait_for(anext(slow), 10))]
        for number in range(20):
            await store.write(lambda tx, number=number: emit(tx, JobReleased(position=number)))
        await asyncio.to_thread(eventually, lambda: reader.position == 21)
        seen += [one async for one in slow]
        assert len(seen) < 21
        again = reader.follow(seen[-1].id, Filter(), once=True, idle_seconds=10)
        seen += [one async for one in again]
        assert not any(isinstance(one, Reset) for one in seen)
        assert [one.id for one in seen] == list(range(1, 22))
        reader.close()
        await asyncio.wait_for(running, 10)
        await store.close()

    asyncio.run(scenario())


def test_events_retired_while_the_past_is_being_read_are_told_by_a_reset(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "PAGE", 3)

    async def scenario() -> list[object]:
        store = StoreThreads(database)
        await store.write(lambda tx: emit(tx, TranscriptionDone()))
        start = await store.read(newest_event)
        await store.write(lambda tx: [emit(tx, JobReleased(position=number)) for number in range(10)])
        seen: list[object] = []
        async for one in EventLog(store).follow(start, Filter(), once=True, idle_seconds=1):
            seen.append("reset" if isinstance(one, Reset) else one.data["position"])
            if len(seen) == 3:
                await store.write(lambda tx: retire_events(tx, tx.now + 1))
        await store.close()
        return seen

    assert asyncio.run(scenario()) == [0, 1, 2, "reset"]


def test_events_are_json_whatever_a_name_holds(farm: ServedFarm) -> None:
    name = 'a "quoted"\nname: ünïcode\u2028 \U0001f399.mp3'
    submit(farm.admin, name=name)
    (view,) = past(farm.admin)
    assert view.data["name"] == name
    assert json.loads(view.model_dump_json())["data"]["name"] == name
