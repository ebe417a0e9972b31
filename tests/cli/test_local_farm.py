"""The farm inside a command: one after another and two at a time on the same state, without a worker of their own."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select, update
from support.local_farms import local_farm
from support.served_farm import eventually
from support.talks import Recorder

from whisper_farm.cli.files import Recording
from whisper_farm.cli.local_sending import LocalSender
from whisper_farm.cli.notices import Notices
from whisper_farm.cli.progress import Display
from whisper_farm.cli.sending import TranscriptionRequest
from whisper_farm.coordinator.server import worker_token
from whisper_farm.errors import EngineUnavailable, NoSpace, SourceUnreadable, StoreUnavailable, WrongState
from whisper_farm.farm import LocalFarm
from whisper_farm.store.database import Database
from whisper_farm.store.tables import transcriptions
from whisper_farm.store.tokens import find_token
from whisper_farm.transcript.options import RecognitionOptions

REQUEST = TranscriptionRequest(RecognitionOptions(engine="tones", model="instant"), 30)


def send(farm: LocalFarm, path: Path) -> str:
    return sender(farm).send(Recording(path, path.stem), 0, Display()).id


def sender(farm: LocalFarm) -> LocalSender:
    return LocalSender(farm, REQUEST, threading.Event(), Notices(Display()))


def sources(data: Path) -> list[str]:
    database = Database.open(data / "farm.db")
    try:
        return database.read(lambda tx: list(tx.connection.scalars(select(transcriptions.c.source))))
    finally:
        database.close()


def test_two_farms_at_once_on_the_same_state_know_the_same_recordings(record: Recorder, tmp_path: Path) -> None:
    talk = record("talk.wav")
    with local_farm(tmp_path / "data") as one, local_farm(tmp_path / "data") as other:
        assert one.client.address != other.client.address
        assert send(one, talk.path) == send(other, talk.path)
        assert [view.name for view in other.client.list()] == [str(talk.path)]


def test_a_recording_that_was_moved_before_it_was_cut_is_found_again(record: Recorder, tmp_path: Path) -> None:
    talk = record("talk.wav")
    with local_farm(tmp_path / "data") as farm:
        first = send(farm, talk.path)
        moved = talk.path.rename(tmp_path / "moved.wav")
        assert send(farm, moved) == first
    assert sources(tmp_path / "data") == [f"file:{moved}"]


def test_what_was_abandoned_long_ago_is_forgotten(record: Recorder, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with local_farm(data) as farm:
        send(farm, record("old.wav").path)
    database = Database.open(data / "farm.db")
    database.write(lambda tx: tx.connection.execute(update(transcriptions).values(created_at=1)).rowcount)
    database.close()
    new = record("new.wav").path
    with local_farm(data) as farm:
        send(farm, new)
    assert sources(data) == [f"file:{new}"]


def test_a_file_that_changes_meanwhile_gives_no_transcript(record: Recorder, tmp_path: Path) -> None:
    talk = record("talk.wav")
    with local_farm(tmp_path / "data") as farm:
        local = sender(farm)
        recording = Recording(talk.path, "talk")
        one = local.send(recording, 0, Display()).id
        local.check_unchanged(recording, one)
        farm.client.cancel(one)
        os.utime(talk.path, (1, 1))
        with pytest.raises(SourceUnreadable, match="changed while it was being transcribed"):
            local.check_unchanged(recording, one)
        assert list(farm.client.list()) == []


def test_the_admin_token_is_used_again_and_replaced_when_it_was_lost(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with local_farm(data) as farm:
        first = farm.token
    with local_farm(data) as farm:
        assert farm.token == first
    (data / "admin-token").write_text("nonsense")
    with local_farm(data) as farm:
        assert farm.token != first
        assert farm.client.server().scope == "admin"


def test_a_workers_token_stays_the_same_and_opens_nothing_else(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with local_farm(data):
        database = Database.open(data / "farm.db")
        secret = worker_token(database, data)
        assert worker_token(database, data) == secret
        known = database.read(lambda tx: find_token(tx, secret))
        database.close()
        assert (data / "worker-token").stat().st_mode & 0o077 == 0
        assert known is not None
        assert known.scope == "worker"


def test_a_coordinator_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "farm.db").write_text("this is no database, and was never meant to be one")
    with pytest.raises(Exception, match="database"), local_farm(tmp_path / "data"):
        pass


def left_behind(before: set[object]) -> set[object]:
    """Threads, children and sockets of this process that were not there before."""
    return resources() - before


def resources() -> set[object]:
    here = psutil.Process()
    sockets = {(one.fd, one.laddr, one.status) for one in here.net_connections()}
    return {*threading.enumerate(), *here.children(), *sockets}


@pytest.mark.parametrize(
    "broken",
    [
        "whisper_farm.coordinator.server.create_app",
        "whisper_farm.coordinator.server.listening_socket",
        "whisper_farm.coordinator.event_log.EventLog.start",
        "whisper_farm.farm.unfinished_since",
        "whisper_farm.coordinator.server.find_token",
        "whisper_farm.farm.FarmClient",
    ],
)
def test_a_farm_that_fails_half_way_in_starting_leaves_nothing_behind(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StoreUnavailable("It broke.")

    with local_farm(tmp_path / "data"):
        pass
    before = resources()
    monkeypatch.setattr(broken, fail)
    with pytest.raises(StoreUnavailable, match="It broke"), local_farm(tmp_path / "data"):
        pass
    eventually(lambda: not left_behind(before), "nothing is left behind")


def test_a_worker_that_fails_in_starting_is_told_and_leaves_nothing_behind(
    record: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = record("talk.wav")
    with local_farm(tmp_path / "data"):
        pass
    before = resources()

    async def fail(_: object) -> None:
        raise EngineUnavailable("It broke.")

    monkeypatch.setattr("whisper_farm.worker.recogniser_pool.RecogniserPool.look_around", fail)
    with local_farm(tmp_path / "data") as farm:
        send(farm, talk.path)
        farm.start_worker()

        def ended() -> bool:
            try:
                farm.check()
            except EngineUnavailable:
                return True
            return False

        eventually(ended, "the worker has ended")
    eventually(lambda: not left_behind(before), "nothing is left behind")


def test_coordinator_worker_and_client_share_one_event_loop(record: Recorder, tmp_path: Path) -> None:
    talk = record("talk.wav")
    loops: set[object] = set()
    real, real_run = asyncio.BaseEventLoop.run_forever, asyncio.Runner.run
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(asyncio.BaseEventLoop, "run_forever", lambda loop: (loops.add(loop), real(loop))[1])
        patched.setattr(asyncio.Runner, "run", lambda one, work: (loops.add(one.get_loop()), real_run(one, work))[1])
        with local_farm(tmp_path / "data") as farm:
            one = send(farm, talk.path)
            farm.start_worker()
            eventually(lambda: farm.client.get(one).state == "done", "the transcription is done", 60)
            farm.drop_audio(one)
    assert len(loops) == 1


def test_a_full_disk_stops_the_farm_while_its_state_is_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with local_farm(tmp_path / "data") as farm:
        farm.check()
        monkeypatch.setattr("whisper_farm.farm.LEAST_FREE_BYTES", 1 << 60)
        with pytest.raises(NoSpace, match=r"No space is left in .*data"):
            farm.check()


def test_a_running_transcription_is_not_thrown_away_by_a_command_that_begins_anew(
    record: Recorder, tmp_path: Path
) -> None:
    talk = record("talk.wav")
    with local_farm(tmp_path / "data") as farm:
        one = send(farm, talk.path)
        with pytest.raises(WrongState):
            farm.client.delete(one)
