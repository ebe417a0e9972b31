"""Workers and servers of different releases: who speaks another protocol is told so, ends, and harms nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select
from support.farm_processes import Farm, Process, Recording, assert_says, until
from support.processes import all_end

from whisper_farm.protocol.wire import PROTOCOL_VERSION
from whisper_farm.store.tables import workers

OTHER_RELEASE = """
from whisper_farm.protocol import wire
wire.PROTOCOL_VERSION = {version}
"""
"""A `sitecustomize`: Python runs it before anything else, in the process and in its children."""


def release(folder: Path, version: int) -> dict[str, str]:
    """The environment of a process that speaks that version of the protocol."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(OTHER_RELEASE.format(version=version))
    return {"PYTHONPATH": str(folder)}


def last_words(worker: Process) -> str:
    """What it said at its end: one line, without a traceback."""
    assert "Traceback" not in worker.said()
    return worker.said().rstrip().splitlines()[-1]


def names_of_workers(farm: Farm) -> list[str]:
    return farm.look_inside(lambda tx: list(tx.connection.scalars(select(workers.c.name))))


@pytest.mark.parametrize("other", [PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1], ids=["older", "newer"])
def test_a_worker_of_another_release_says_what_to_do_and_ends(farm: Farm, tmp_path: Path, other: int) -> None:
    talk = Recording.long(tmp_path / "talk.wav", 10)
    made = farm.submit(talk)
    with farm.worker(**release(tmp_path / "release", other)) as stranger:
        assert stranger.ended() == 1
    server = f"This server speaks protocol version {PROTOCOL_VERSION}, the worker {other}"
    assert stranger.said().splitlines() == [f"whisper-farm: {server}: install the same release on both."]
    assert stranger.log.stem not in names_of_workers(farm)
    assert [job.attempts for job in farm.jobs(made)] == [()], "it took nothing"
    with farm.worker():
        assert_says(farm.finished(made), talk)


def test_a_worker_that_outlives_its_servers_release_ends_and_its_jobs_go_on(tmp_path: Path) -> None:
    """The server is replaced by a newer one in the middle of the work."""
    talk, newer = Recording.long(tmp_path / "talk.wav", 60), release(tmp_path / "newer", PROTOCOL_VERSION + 1)
    with Farm(tmp_path / "farm") as farm:
        with farm.worker() as old:
            made = farm.submit(talk, "x5")
            farm.progress(made, chunks_done=2)
            children = old.children()
            farm.server.terminate()
            assert farm.server.ended() == 0
            farm.start(**newer)
            assert old.ended() == 1
        assert "install the same release on both" in last_words(old)
        assert children
        all_end(children)
        with farm.worker(**newer):
            assert_says(farm.finished(made), talk)
        until(lambda: not farm.attempts(made, "live"), "nobody holds anything")
