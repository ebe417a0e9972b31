"""Nothing is deleted because it is unknown: another farm's files, or those of a database that was lost."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from click.testing import CliRunner
from support.hand_worker import MakeWorker
from support.served_farm import ServedFarm, StartFarm, eventually, files_in
from support.service_bench import Bench
from support.submitting import submit

from whisper_farm.cli.main import menu
from whisper_farm.coordinator.readiness import settle_identity
from whisper_farm.coordinator.services.cleaner import Sweeper
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.errors import FarmMismatch, StorageError
from whisper_farm.store.backup import back_up, restore
from whisper_farm.store.blobs import BlobEntry, Blobs
from whisper_farm.store.database import Database
from whisper_farm.store.references import farm_id, set_farm_id
from whisper_farm.store.schema import upgrade

DAYS = 86_400


def filled(farm: ServedFarm, make_worker: MakeWorker) -> set[Path]:
    """Two finished recordings; returns their files, made old."""
    for name in ("one.mp3", "two.mp3"):
        submit(farm.admin, name)
    make_worker(farm).work_off()
    eventually(lambda: {one["state"] for one in listed(farm)} == {"done"}, "the transcripts")
    files = set(files_in(farm.data / "blobs"))
    for file in files:
        os.utime(file, (time.time() - 300 * DAYS,) * 2)
    return files


def listed(farm: ServedFarm) -> list[dict[str, str]]:
    found: list[dict[str, str]] = farm.admin.get("/api/transcriptions").json()["transcriptions"]
    return found


def lose_database(farm: ServedFarm) -> None:
    for file in farm.data.glob("farm.db*"):
        file.unlink()


def test_an_empty_database_beside_a_full_store_starts_no_server(start_farm: StartFarm, make_worker: MakeWorker) -> None:
    farm = start_farm()
    files = filled(farm, make_worker)
    farm.stop()
    lose_database(farm)
    with pytest.raises(FarmMismatch, match="db restore"):
        start_farm()
    assert all(file.exists() for file in files)


def test_a_store_without_an_id_that_is_full_starts_no_server_either(
    start_farm: StartFarm, make_worker: MakeWorker
) -> None:
    farm = start_farm()
    filled(farm, make_worker)
    farm.stop()
    lose_database(farm)
    (farm.data / "blobs" / "farm-id").unlink(missing_ok=True)
    with pytest.raises(FarmMismatch, match="knows nothing of it"):
        start_farm()


def start_with(store: StoreThreads, blobs: Blobs, **calls: Any) -> None:
    """Settle which farm it is, with these in place of calls of the blobs' own."""

    async def start() -> None:
        with patch.multiple(blobs, **calls):
            await settle_identity(store, blobs)
        await store.close()

    asyncio.run(start())


@pytest.mark.parametrize("other_starts", ["before the look", "after it"])
def test_two_that_start_at_the_same_moment_are_one_farm(tmp_path: Path, other_starts: str) -> None:
    """The other settles everything while the first looks at the blob store."""
    database, blobs = Database.open(tmp_path / "farm.db"), Blobs.open(tmp_path / "blobs")
    upgrade(database)
    store, get, others = StoreThreads(database), blobs.get, 1 if other_starts == "before the look" else 2
    looks = 0

    async def found(key: str, limit: int | None = None) -> bytes:
        nonlocal looks
        looks += 1
        if looks == others:
            await settle_identity(store, blobs)
        return await get(key, limit)

    start_with(store, blobs, get=found)
    assert (tmp_path / "blobs" / "farm-id").read_text() == database.read(farm_id)
    database.close()


def test_one_that_starts_as_another_takes_its_first_upload_is_of_the_same_farm(tmp_path: Path) -> None:
    """The first blob is there before the database knows of it."""
    database, blobs = Database.open(tmp_path / "farm.db"), Blobs.open(tmp_path / "blobs")
    upgrade(database)
    store, list_all, begun = StoreThreads(database), blobs.list, False

    async def listed(prefix: str) -> AsyncIterator[BlobEntry]:
        nonlocal begun
        if not begun:
            begun = True
            await settle_identity(store, blobs)
            await blobs.put("sources/first/upload", b"sound")
        async for entry in list_all(prefix):
            yield entry

    start_with(store, blobs, list=listed)
    assert (tmp_path / "blobs" / "farm-id").read_text() == database.read(farm_id)
    database.close()


def test_a_second_farm_on_the_same_store_starts_no_server(
    start_farm: StartFarm, make_worker: MakeWorker, tmp_path: Path
) -> None:
    blobs = str(tmp_path / "blobs")
    start_farm(blobs=blobs)
    with pytest.raises(FarmMismatch, match="different farms"):
        start_farm(data=tmp_path / "second", blobs=blobs)


def test_a_farm_that_starts_again_is_the_same_one(start_farm: StartFarm, make_worker: MakeWorker) -> None:
    farm = start_farm()
    filled(farm, make_worker)
    farm.stop()
    assert len(listed(start_farm())) == 2


def test_a_backup_made_while_the_server_runs_brings_a_lost_database_back(
    start_farm: StartFarm, make_worker: MakeWorker, tmp_path: Path
) -> None:
    farm, copy = start_farm(), tmp_path / "copy.db"
    filled(farm, make_worker)
    command = CliRunner().invoke(menu, ["db", "backup", str(copy), "--data", str(farm.data)])
    assert command.exit_code == 0, command.output
    assert copy.stat().st_mode & 0o077 == 0
    command = CliRunner().invoke(menu, ["db", "restore", str(copy), "--data", str(farm.data)])
    assert "stop the farm's servers first" in str(command.exception), "nothing is replaced under a server that runs"
    assert len(listed(farm)) == 2
    farm.stop()
    lose_database(farm)
    command = CliRunner().invoke(menu, ["db", "restore", str(copy), "--data", str(farm.data)])
    assert command.exit_code == 0, command.output
    again = start_farm()
    assert {one["name"] for one in listed(again)} == {"one.mp3", "two.mp3"}
    assert again.admin.get(f"/api/transcriptions/{listed(again)[0]['id']}/transcript").is_success


def test_what_is_no_copy_of_a_farm_is_not_brought_back(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("nothing of the kind")
    database = Database.open(tmp_path / "farm.db")
    upgrade(database)
    with pytest.raises(StorageError):
        restore(database, tmp_path / "other")
    with pytest.raises(StorageError, match="no file"):
        restore(database, tmp_path / "missing")
    database.close()


@pytest.mark.parametrize("harm", ["bytes", "cut", "letters", "trigger"])
def test_a_copy_that_was_damaged_or_changed_does_not_replace_what_is_there(tmp_path: Path, harm: str) -> None:
    """A damaged one was brought back without a word; one with a letter that is none ended in a traceback."""
    database, copy = Database.open(tmp_path / "farm.db"), tmp_path / "copy.db"
    upgrade(database)
    database.write(lambda tx: set_farm_id(tx, "mine"))
    back_up(database, copy)
    whole = copy.read_bytes()
    match harm:
        case "bytes":
            copy.write_bytes(whole[: len(whole) // 2] + b"\xff" * 5000 + whole[len(whole) // 2 + 5000 :])
        case "cut":
            copy.write_bytes(whole[: len(whole) // 2])
        case "letters":
            copy.write_bytes(whole.replace(b"CREATE TABLE jobs", b"CREATE TABLE \xffobs"))
        case _:
            with closing(sqlite3.connect(copy)) as mine:
                mine.execute("CREATE TRIGGER t AFTER INSERT ON tokens BEGIN UPDATE tokens SET scope = 'admin'; END")
                mine.commit()
    with pytest.raises(StorageError, match="no whole copy"):
        restore(database, copy)
    database.close()
    again = Database.open(tmp_path / "farm.db")
    assert again.read(farm_id) == "mine"
    again.close()


def test_a_sweeper_with_a_foreign_database_deletes_nothing(
    start_farm: StartFarm, make_worker: MakeWorker, tmp_path: Path
) -> None:
    farm = start_farm()
    files = filled(farm, make_worker)
    database = Database.open(tmp_path / "other.db")
    upgrade(database)
    bench = Bench(database, farm.data / "blobs")
    with pytest.raises(FarmMismatch):
        bench.run(Sweeper(bench.store, bench.blobs, bench.settings).run_once())
    bench.run(bench.store.close())
    database.close()
    assert all(file.exists() for file in files)


def test_what_nobody_refers_to_is_kept_in_the_trash_for_a_while(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "farm.db")
    upgrade(database)
    bench = Bench(database, tmp_path / "blobs")
    bench.recognised(chunks=1)
    stray = bench.put("results/gone/0.a.b.json", age_seconds=300 * DAYS)
    keep = Sweeper(bench.store, bench.blobs, bench.settings_with(trash_hours=72))
    for _ in range(2):
        assert bench.run(keep.run_once())["blobs"] == 0
    assert stray in bench.files()
    database.write(lambda tx: tx.connection.exec_driver_sql("UPDATE trash SET found_at = found_at - 300000"))
    assert bench.run(keep.run_once())["blobs"] == 1
    assert stray not in bench.files()
    bench.run(bench.store.close())
    database.close()
