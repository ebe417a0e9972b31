"""Processes of this machine: one for each launch, seen by every coordinator, and really gone when said to be."""

from __future__ import annotations

import asyncio
import errno
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from whisper_farm.fleet.pools import Pool
from whisper_farm.fleet.providers import local
from whisper_farm.fleet.providers.local import LocalProvider
from whisper_farm.fleet.providers.provider import CallFailed, Launch, Seen

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)",
)


def run(work: Coroutine[Any, Any, Any]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def launch(launch_id: str, *command: str, owner: str = "farm") -> Launch:
    return Launch(launch_id, owner, Pool(name="here", command=command or SLEEP), "")


@asynccontextmanager
async def provider(folder: Path) -> AsyncIterator[LocalProvider]:
    one = LocalProvider(str(folder))
    try:
        yield one
    finally:
        await one.close()


async def until(look: Callable[[], Coroutine[Any, Any, object]]) -> None:
    give_up_at = time.monotonic() + 30
    while not await look():
        assert time.monotonic() < give_up_at
        await asyncio.sleep(0.02)


async def the(provider: LocalProvider, launch_id: str) -> Seen:
    seen = await provider.look("farm", {launch_id: launch_id})
    return next(one for one in seen if one.launch_id == launch_id)


def is_state(provider: LocalProvider, launch_id: str, state: str) -> Callable[[], Coroutine[Any, Any, bool]]:
    async def look() -> bool:
        return (await the(provider, launch_id)).state == state

    return look


def pid_of(folder: Path, launch_id: str) -> int:
    import json

    return int(json.loads((folder / "farm" / f"{launch_id}.json").read_text())["pid"])


def test_a_launch_twice_is_one_process_even_from_two_coordinators(tmp_path: Path) -> None:
    async def work() -> None:
        async with provider(tmp_path) as one, provider(tmp_path) as other:
            assert (await one.create(launch("a"))).state == "running"
            for each in (one, other):
                with pytest.raises(CallFailed) as refused:
                    await each.create(launch("a"))
                assert refused.value.fault == "exists"
                assert [seen.launch_id for seen in await each.look("farm", {})] == ["a"]
            assert await one.look("another", {}) == []

    run(work())


def test_a_stop_is_one_sigterm_and_after_the_grace_the_end(tmp_path: Path) -> None:
    async def work() -> None:
        async with provider(tmp_path) as one:
            await one.create(launch("gentle"))
            await one.stop("gentle", 30)
            await until(is_state(one, "gentle", "gone"))
            assert (await the(one, "gentle")).exit == "requested"
            await one.create(launch("stubborn", *STUBBORN))
            log = tmp_path / "farm" / "stubborn.log"

            async def ready() -> bool:
                return "ready" in log.read_text()

            await until(ready)
            pid = pid_of(tmp_path, "stubborn")
            await one.stop("stubborn", 0.3)
            await until(is_state(one, "stubborn", "gone"))
            assert not psutil.pid_exists(pid)

    run(work())


def test_a_disk_that_is_full_keeps_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def work() -> None:
        async with provider(tmp_path) as one:
            for launch_id in ("stopped", "destroyed"):
                await one.create(launch(launch_id))
            monkeypatch.setattr(local, "_write", full)
            await one.stop("stopped", 30)
            await one.destroy("destroyed")
            with pytest.raises(CallFailed) as refused:
                await one.create(launch("new"))
            assert refused.value.fault == "transient"
            for launch_id in ("stopped", "destroyed"):
                await until(is_state(one, launch_id, "gone"))
            assert [seen.launch_id for seen in await one.look("farm", {})] == []

    run(work())


def test_a_destroy_ends_the_children_too(tmp_path: Path) -> None:
    code = f"import subprocess; print(subprocess.Popen({[*SLEEP]!r}).pid, flush=True); import time; time.sleep(60)"

    async def work() -> None:
        async with provider(tmp_path) as one:
            await one.create(launch("parent", sys.executable, "-c", code))
            log = tmp_path / "farm" / "parent.log"

            async def told() -> str:
                return log.read_text().strip()

            await until(told)
            child = psutil.Process(int(await told()))
            await one.destroy("parent")
            await until(is_state(one, "parent", "gone"))
            child.wait(20)
            with pytest.raises(CallFailed) as refused:
                await one.destroy("parent")
            assert refused.value.fault == "missing"

    run(work())


@pytest.mark.parametrize(
    ("code", "exit_", "message"),
    [
        ("raise SystemExit(0)", "ok", ""),
        ("print('no such model'); raise SystemExit(3)", "crash", "It ended with status 3: no such model"),
        ("import os; os.kill(os.getpid(), 9)", "lost", "It was ended by signal 9."),
    ],
)
def test_an_end_is_told_apart_from_a_crash_and_an_eviction(code: str, exit_: str, message: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with provider(tmp_path) as one:
            await one.create(launch("x", sys.executable, "-c", code))
            await until(is_state(one, "x", "gone"))

            async def reaped() -> bool:
                return (await the(one, "x")).ended_at is not None

            await until(reaped)
            seen = await the(one, "x")
            assert (seen.exit, seen.message) == (exit_, message)
            assert seen.started_at is not None
            assert seen.ended_at is not None
            assert 0 <= seen.ended_at - seen.started_at < 30

    run(work())


def test_a_command_that_is_not_there_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    async def work() -> None:
        async with provider(tmp_path) as one:
            with pytest.raises(CallFailed) as refused:
                await one.create(launch("x", "/nowhere/worker"))
            assert refused.value.fault == "configuration"
            assert await one.look("farm", {"x": None}) == []

    run(work())


def test_closing_ends_and_collects_what_was_started(tmp_path: Path) -> None:
    async def work() -> None:
        one = LocalProvider(str(tmp_path))
        await one.create(launch("a"))
        await one.create(launch("b", *STUBBORN))
        pids = [pid_of(tmp_path, name) for name in "ab"]
        await one.close()
        assert not any(psutil.pid_exists(pid) for pid in pids)

    run(work())
