"""A worker beside a farm in one program: what it does before it knows where that is."""

from __future__ import annotations

from contextlib import closing

from support.served_farm import eventually

from whisper_farm.client.loop_thread import LoopThread
from whisper_farm.settings import WorkerSettings
from whisper_farm.worker.local import LocalWorker
from whisper_farm.worker.notices import Notice

SETTINGS = WorkerSettings(server="http://127.0.0.1:9", engines=("tones",), models=("instant",), cuts=False)


def test_a_worker_loads_its_model_before_it_knows_its_farm_and_calls_no_other() -> None:
    told: list[Notice] = []
    with closing(LoopThread("farm")) as loop, closing(LocalWorker(loop, SETTINGS, told.append)) as worker:
        eventually(lambda: [one.kind for one in told] == ["model_ready"], "the model is loaded")
        assert worker.ending() is None
    assert worker.ending() == "left"
    assert [one.kind for one in told] == ["model_ready"]
