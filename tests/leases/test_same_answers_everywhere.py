"""One behaviour: the same questions, chosen by chance, get the same answers from the model, SQLite and PostgreSQL.

Hypothesis plays a busy farm: workers that come, claim, forget, repeat themselves, lie about tokens, fall silent
and leave; clients that submit, cancel, retry and delete; a clock that jumps. After every question all rows and
events are compared and the promises in `always.py` are checked; at the end of every play a fresh worker must be
able to bring every recording to its end, so nothing can be stranded. This is `test_model` of the twelve in
`docs/TESTING.md`. `WHISPER_FARM_LONG=1` plays for long.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from support.busy_farm import BusyFarm
from support.everywhere import check_columns

from whisper_farm.store.database import Database

LONG = bool(os.environ.get("WHISPER_FARM_LONG"))


@pytest.fixture(scope="module")
def databases(
    sqlite_template: Path, postgres_server: Any, postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Database, Database]]:
    """One of each kind, with the farm's tables, for all plays."""
    file = tmp_path_factory.mktemp("everywhere") / "farm.db"
    shutil.copyfile(sqlite_template, file)
    url = postgres_server.create("everywhere", template=postgres_template)
    opened = (Database.open(f"sqlite:///{file}"), Database.open(url))
    yield opened
    for database in opened:
        database.close()
    postgres_server.drop("everywhere")


HAPPENS = (
    *("submit", "submit again", "register", "drain", "dismiss", "told again", "next_due", "something is due"),
    *("claim chunk", "claim peaks", "claim transcribe", "claim answered again", "hedge live", "hedge done"),
    *("heartbeat", "heartbeat lost", "heartbeat cancelled", "append", "append again", "complete"),
    *("finished together", "same job together"),
    *("outcome None", "outcome lease_lost", "outcome result_conflict", "outcome invalid_request"),
    *("outcome model_mismatch", "late but alone", "fail charged", "fail uncharged", "fail permanent"),
    *("release", "release leaving", "cancel", "retry", "delete", "assembled", "assembled late", "lost"),
    *("reap", "reaped workers", "reaped jobs"),
    *(f"attempt {state}" for state in ("live", "done", "failed", "lost", "released", "cancelled", "superseded")),
    *(f"event job_{kind}" for kind in ("done", "retried", "released", "redo", "set_aside")),
    *("event language_decided", "event chunks_appended", "event chunking_done", "event peaks_done"),
    *(f"event transcription_{how}" for how in ("started", "assembling", "done", "incomplete", "failed", "cancelled")),
    *(
        "event transcription_unserved",
        "event transcription_retried",
        "event transcription_deleted",
        "event worker_gone",
        "event worker_joined",
    ),
)
"""What must have come about in every run, or the machine has shown less than it seems to."""


@pytest.mark.timeout(7200 if LONG else 600)
def test_model(databases: tuple[Database, Database]) -> None:
    check_columns()
    happened: Counter[str] = Counter()
    play = settings(
        max_examples=300 if LONG else 5,
        stateful_step_count=150 if LONG else 80,
        derandomize=not LONG,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=tuple(Phase) if LONG else (Phase.generate,),
    )
    run_state_machine_as_test(lambda: BusyFarm(databases, happened), settings=play)
    for seed in range(60):
        if all(happened[one] for one in HAPPENS):
            break
        BusyFarm(databases, happened).play_alone(random.Random(seed), steps=150)
    missing = [one for one in HAPPENS if not happened[one]]
    assert not missing, f"never happened: {missing}; happened: {happened}"
