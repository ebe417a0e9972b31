"""The event log by itself, where a served farm would be too slow to catch it in the act."""

from __future__ import annotations

import asyncio

import pytest

from whisper_farm.coordinator import event_log
from whisper_farm.coordinator.event_log import EventLog, Filter, Reset
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.protocol.events import JobReleased, TranscriptionDone
from whisper_farm.store.database import Database
from whisper_farm.store.events import emit, newest_event, retire_events


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
