"""What every room's tests may stand on: `database` runs a test twice, on SQLite and on PostgreSQL; a `bucket`."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.lanes import is_all_slow, longest_first, mark_lanes
from support.object_store import bucket, moto_url
from support.postgres import (
    database,
    database_url,
    kept_postgres,
    postgres_server,
    postgres_template,
    postgres_url,
    sqlite_template,
    sqlite_url,
)

__all__ = [
    "bucket",
    "database",
    "database_url",
    "kept_postgres",
    "moto_url",
    "postgres_server",
    "postgres_template",
    "postgres_url",
    "sqlite_template",
    "sqlite_url",
]

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as a shell's `&` has it: what tests start would ignore Ctrl-C, too
    signal.signal(signal.SIGINT, signal.default_int_handler)
gc.disable()  # to load modules leaves no garbage; `pytest_collection_finish` enables it
# A busy machine is no fault of what is tested: no example has a deadline, and none is made too slowly. Nor is a rare
# example the fault of whoever has changed something else: they are the same in every run, but for those that are long.
settings.register_profile(
    "farm",
    deadline=None,
    derandomize=not os.environ.get("WHISPER_FARM_LONG"),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("farm")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave files alone of which the fast lane runs nothing: to load them takes as long as a tenth of its tests."""
    return True if config.option.markexpr == "not slow" and is_all_slow(collection_path) else None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Sort the tests into lanes before `-m` chooses among them, and for several processes by length afterwards."""
    mark_lanes(items)
    yield
    if processes := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
        items[:] = longest_first(items, processes)


def pytest_collection_finish() -> None:
    """Let the collector of garbage look at what tests make, and no more at the modules: that was a tenth of a run."""
    gc.collect()
    gc.freeze()
    gc.enable()
