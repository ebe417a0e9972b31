"""The pool of recognisers bears what processes and engines do; the slots of a process are given out once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.bare_farm import serving
from support.fake_farm import FakeFarm
from support.work_here import add_speech, same, speech, until, worker_settings, working

from whisper_farm import to_the_end
from whisper_farm.audio.flac import encode
from whisper_farm.engines.engine import Engine, EngineFacts, Recognition
from whisper_farm.errors import EngineError, EngineUnavailable, ModelUnavailable, OptionUnsupported
from whisper_farm.protocol.jobs import TranscribeTask
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Segment, Word
from whisper_farm.worker import pipe, recogniser, recogniser_child, recogniser_pool
from whisper_farm.worker.api import WorkerApi
from whisper_farm.worker.child import Child, ChildDiedError
from whisper_farm.worker.handing_in import JobFailure
from whisper_farm.worker.recogniser import ChunkJob, Recogniser
from whisper_farm.worker.recogniser_pool import RecogniserPool
from whisper_farm.worker.recognising import Recognising
from whisper_farm.worker.tasks import BackgroundTasks, ended, now

INSTANT = RecognitionOptions(engine="tones", model="instant")


@pytest.fixture(autouse=True)
def long_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be had rests until a test moves the clock."""
    monkeypatch.setattr(recogniser_pool, "_FIRST_REST_SECONDS", 3600.0)
    monkeypatch.setattr(recogniser_pool, "_LONGEST_REST_SECONDS", 3600.0)


class Pool:
    """A pool of the engine that hears tones, and what it said."""

    def __init__(self, **settings: object) -> None:
        self.said: list[str] = []
        self.tasks = BackgroundTasks(failed=lambda: self.said.append("failed"))
        self.pool = RecogniserPool(
            worker_settings("http://127.0.0.1:9", **settings),
            self.tasks,
            changed=lambda: None,
            tell=lambda notice: self.said.append(notice.kind),
        )

    async def close(self) -> None:
        await self.tasks.end()
        await self.pool.close()


def with_pool(scene: Callable[[Pool], object], **settings: object) -> None:
    """Play a scene with a pool that has looked around."""

    async def play() -> None:
        here = Pool(**settings)
        try:
            await here.pool.look_around()
            await scene(here)  # type: ignore[misc]
        finally:
            await here.close()

    asyncio.run(play())


def test_a_model_is_loaded_by_the_process_that_looked_around() -> None:
    async def scene(here: Pool) -> None:
        spare = here.pool._spare["tones"].pid
        await here.pool.switch(INSTANT)
        assert here.pool.loading
        await until(lambda: here.pool.ready, "it is ready")
        assert [each.pid for each in here.pool.recognisers] == [spare]
        assert (here.pool.slots, here.pool.free_slots, here.pool.batch) == (2, 2, 4)
        assert here.pool.serves(INSTANT)
        assert here.pool.serves(INSTANT.model_copy(update={"revision": here.pool.ready.revision}))
        assert not here.pool.serves(INSTANT.model_copy(update={"revision": "another"}))
        assert not here.pool.serves(INSTANT.model_copy(update={"model": "x2"}))

    with_pool(scene, slots=2)


def test_another_model_means_another_process_and_the_first_one_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(here: Pool) -> None:
        await here.pool.switch(INSTANT)
        await until(lambda: here.pool.ready, "it is ready")
        (first,) = here.pool.recognisers
        other, load = INSTANT.model_copy(update={"model": "x2"}), Recogniser.load
        running: list[bool] = []

        def watched(*told: Any) -> Any:
            running.append(first._child.running)
            return load(*told)

        monkeypatch.setattr(Recogniser, "load", watched)
        await here.pool.switch(other)
        await until(lambda: here.pool.serves(other) and here.pool.ready, "the other is ready")
        assert running == [False], "its memory is free before the other loads"
        assert here.pool.recognisers[0].pid != first.pid
        assert here.said == ["model_ready", "model_ready"]

    with_pool(scene)


def test_models_in_folders_one_after_the_other_leave_no_process_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Child] = []
    start = Child.start

    async def noted(*told: Any, **more: Any) -> Child:
        started.append(one := await start(*told, **more))
        return one

    async def scene(here: Pool) -> None:
        for number in range(4):
            (folder := tmp_path / str(number)).mkdir()
            model = INSTANT.model_copy(update={"model": f"once:{folder}"})
            await here.pool.switch(model)
            await until(lambda model=model: here.pool.serves(model) and here.pool.ready, "it is ready")
        assert len([one for one in started if one.running]) <= 2, "one works, and one may wait"

    monkeypatch.setattr(Child, "start", noted)
    with_pool(scene)
    assert not [one.pid for one in started if one.running]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (INSTANT.model_copy(update={"engine": "another"}), EngineUnavailable),
        (INSTANT.model_copy(update={"model": "no-such-model"}), ModelUnavailable),
        (INSTANT.model_copy(update={"revision": "another"}), ModelUnavailable),
    ],
)
def test_what_cannot_be_had_is_said_and_may_be_tried_again(
    options: RecognitionOptions, error: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(here: Pool) -> None:
        await here.pool.switch(options)
        await until(lambda: here.pool.refusal(options), "it is known")
        assert isinstance(here.pool.refusal(options), error)
        assert here.said == ["model_unavailable"]
        assert here.pool.refusal(INSTANT) is None
        await here.pool.switch(INSTANT)
        await until(lambda: here.pool.ready, "it is ready, without a rest")
        later = now() + 3600
        monkeypatch.setattr(recogniser_pool, "now", lambda: later)
        assert here.pool.refusal(options) is None, "the other may be tried again"

    with_pool(scene)


def test_however_often_a_load_fails_the_rest_is_bounded() -> None:
    async def scene(here: Pool) -> None:
        for _ in range(3000):
            here.pool._give_up(INSTANT, ModelUnavailable())
        assert here.pool._troubles["tones instant"].until <= now() + recogniser_pool._LONGEST_REST_SECONDS

    with_pool(scene)


def test_a_model_that_cannot_be_had_rests_and_the_loaded_one_works_on() -> None:
    async def scene(here: Pool) -> None:
        await here.pool.switch(INSTANT)
        await until(lambda: here.pool.ready, "it is ready")
        pids = [each.pid for each in here.pool.recognisers]
        missing = RecognitionOptions(engine="faster-whisper", model="nobody/no-such-model")
        await here.pool.switch(missing)
        while not here.pool.refusal(missing):
            assert here.pool.serves(INSTANT), "while the other is looked for"
            await asyncio.sleep(0.01)
        assert here.pool.serves(INSTANT)
        assert [each.pid for each in here.pool.recognisers] == pids
        assert here.pool.resting("faster-whisper") == ("nobody/no-such-model",)
        assert here.pool.resting("tones") == ()

    with_pool(scene, engines=("tones", "faster-whisper"), local_files_only=True)


def test_after_a_model_that_does_not_load_the_one_before_comes_back_by_itself() -> None:
    async def scene(here: Pool) -> None:
        await here.pool.switch(INSTANT)
        await until(lambda: here.pool.ready, "it is ready")
        broken = INSTANT.model_copy(update={"model": "no-such-model"})
        await here.pool.switch(broken)
        await until(lambda: here.pool.refusal(broken), "it is known")
        assert here.pool.resting("tones") == ("no-such-model",)
        await until(lambda: (here.pool.fill(), here.pool.serves(INSTANT) and here.pool.ready)[1], "the first is back")

    with_pool(scene)


def test_an_option_or_a_revision_that_cannot_be_had_speaks_against_no_other_job() -> None:
    async def scene(here: Pool) -> None:
        await here.pool.switch(INSTANT)
        await until(lambda: here.pool.ready, "it is ready")
        other = INSTANT.model_copy(update={"revision": "another"})
        await here.pool.switch(other)
        await until(lambda: here.pool.refusal(other), "it is known")
        await until(lambda: (here.pool.fill(), here.pool.serves(INSTANT) and here.pool.ready)[1], "the first is back")
        wish = INSTANT.model_copy(update={"beam_size": 7})
        here.pool._give_up(wish, OptionUnsupported())
        assert here.pool.refusal(wish) is not None
        assert here.pool.refusal(INSTANT) is None
        assert here.pool.resting("tones") == ()
        assert here.pool.serves(INSTANT)

    with_pool(scene)


class _NoChild:
    """Stands for a process where only the books of the slots are looked at."""

    pid = 1


def test_slots_are_given_out_once_and_a_suspect_gets_the_whole_process() -> None:
    capability = pipe.Capability(
        engine="tones", version="1", device="cpu", slots=2, threads=1, batch=1, shares_model=True
    )
    recogniser = Recogniser(cast(Child, _NoChild()), capability)
    assert not recogniser.take_slot(alone=False), "no model, no slot"
    recogniser.slots = recogniser.free_slots = 2
    assert recogniser.take_slot(alone=False)
    assert not recogniser.take_slot(alone=True), "another batch is beside it"
    assert recogniser.take_slot(alone=False)
    assert not recogniser.take_slot(alone=False)
    recogniser.free_slots = 2
    assert recogniser.take_slot(alone=True)
    assert not recogniser.take_slot(alone=False), "nothing beside a suspect"
    recogniser.alive = False
    assert not recogniser.take_slot(alone=False)


@pytest.mark.skipif(sys.platform == "win32", reason="stops a process with a POSIX signal")
def test_a_process_that_cannot_be_killed_is_left_behind_and_the_worker_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that waits in the kernel for a broken disk or GPU."""
    farm = FakeFarm()
    farm.options = INSTANT
    truth = add_speech(farm, speech(0))
    unkillable: list[int] = []
    kill = asyncio.subprocess.Process.kill
    monkeypatch.setattr(to_the_end, "END_SECONDS", 0.3)
    monkeypatch.setattr(
        asyncio.subprocess.Process, "kill", lambda process: None if process.pid in unkillable else kill(process)
    )

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url)) as worker:
                await until(lambda: farm.all_are("done"), "the first is done")
                pid = worker.said("model_ready")[0].data["pid"]
                assert isinstance(pid, int)
                unkillable.append(pid)
                os.kill(pid, signal.SIGSTOP)
                try:
                    farm.add_chunk(farm.blobs["chunk-0"], 0, 1, INSTANT.model_copy(update={"model": "x100"}))
                    await until(lambda: worker.task.done() or farm.all_are("done"), "another model does the second")
                    assert not worker.task.done(), "the worker has ended"
                finally:
                    unkillable.clear()
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    asyncio.run(scene())
    same(farm.heard()[: len(truth)], truth)


def test_messages_out_of_turn_cost_no_worker() -> None:
    async def scene(here: Pool) -> None:
        await here.pool.switch(INSTANT)
        await until(lambda: here.pool.ready, "it is ready")
        (recogniser,) = here.pool.recognisers
        for number in (7, -1):
            await recogniser._child.send(pipe.Cancel(batch=number, index=3))
        assert recogniser.take_slot(alone=False)
        end = await recogniser.recognise([], INSTANT, 60, lambda job, answer: None)
        assert end.code is None

    with_pool(scene)
    odd = recogniser._engine_error(pipe.Cancel(batch=1, index=1))
    assert type(odd) is EngineError
    assert "Cancel" in odd.message


def test_a_chunk_that_an_engine_answers_twice_is_handed_in_once() -> None:
    """And one that it leaves out is tried alone, then failed."""
    farm = FakeFarm()
    add_speech(farm, speech(0), speech(1))
    claims = [farm._claim(farm._begin(job, "w")) for job in farm.chunks]

    class Twice:
        async def recognise(
            self, jobs: list[ChunkJob], options: object, seconds: float, answered: Callable[..., None]
        ) -> pipe.BatchEnded:
            for _ in range(2):
                answered(jobs[0], pipe.Refused(batch=1, index=0, code="not_audio", message="No."))
            return pipe.BatchEnded(batch=1)

    async def scene() -> list[tuple[str, str]]:
        tasks = BackgroundTasks(failed=lambda: None)
        api, pool = cast(WorkerApi, None), cast(RecogniserPool, None)
        recognising = Recognising(api, pool, tasks, 60, lambda: None)
        jobs = [ChunkJob(one, one.task, b"", suspect=True) for one in claims if isinstance(one.task, TranscribeTask)]
        await recognising._recognise(cast(Recogniser, Twice()), jobs)
        return [(job.claim.job_id, cast(JobFailure, job.end.result()).code) for job in jobs]

    assert asyncio.run(scene()) == [("t.0", "not_audio"), ("t.1", "engine_error")]


def test_a_process_that_dies_ends_every_batch_in_it() -> None:
    async def scene(here: Pool) -> None:
        farm = FakeFarm()
        farm.options = INSTANT.model_copy(update={"model": "x0.1"})
        add_speech(farm, speech(0))
        await here.pool.switch(farm.options)
        await until(lambda: here.pool.ready, "it is ready")
        (recogniser,) = here.pool.recognisers
        token = farm._begin(farm.chunks[0], "w")
        claim = farm._claim(token)
        assert isinstance(claim.task, TranscribeTask)
        job = ChunkJob(claim, claim.task, farm.blobs["chunk-0"], suspect=False)
        assert recogniser.take_slot(alone=False)
        work = asyncio.create_task(recogniser.recognise([job], farm.options, 60, lambda job, answer: None))
        try:
            await until(lambda: recogniser._batches, "it works")
            os.kill(recogniser.pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
            with pytest.raises(ChildDiedError):
                await work
        finally:
            await ended(work)
        assert (recogniser.alive, recogniser.free_slots, here.pool.slots) == (False, 1, 0)
        assert "child_died" in here.said
        here.pool.fill()
        await until(lambda: here.pool.slots, "it is replaced")

    with_pool(scene)


@pytest.mark.parametrize("ends", [(8.0, 8.0, 8.0, 8.0), (2.0, 4.0, 6.0, 8.0), (0.0, 8.0, 8.0, 8.0)])
def test_each_chunk_has_its_share_of_the_time_that_its_batch_took(
    ends: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[pipe.Recognised] = []
    clock = iter([100.0, *(100.0 + end for end in ends)])
    monkeypatch.setattr(recogniser_child, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    heard = [(i, Recognition((), "en")) for i in range(4)]
    monkeypatch.setattr(recogniser_child, "recognise_channels", lambda *_: iter(heard))
    answers = SimpleNamespace(send=lambda message, body=b"": sent.append(message))
    child = recogniser_child.RecogniserChild(cast(pipe.AgentPipe, answers))
    child._engine = cast(Engine, SimpleNamespace(facts=EngineFacts("tones", "1", "instant", "", "cpu", "none")))
    flac = encode(speech(0).audio)
    seconds = speech(0).seconds
    chunks = [
        (pipe.BatchChunk(batch=1, start_seconds=0, seconds=seconds, language=None, expected_language=None), flac)
    ] * 4
    child._recognise(pipe.Recognise(batch=1, options=INSTANT), chunks)
    shares = [one.result.work_seconds for one in sent[:4]]
    assert sum(shares) == pytest.approx(8.0)
    assert max(shares) <= ends[-1] / 2


def test_a_text_with_nul_is_handed_in_without_it() -> None:
    words = Word(0, 1, " a\0b", 0.9), Word(1, 2, "\0", 0.9)
    segments = Segment(0, 2, " a\0b\0", words), Segment(2, 3, " fine", (Word(2, 3, " fine", 0.9),))
    facts = EngineFacts("tones", "1", "instant", "", "cpu", "none")
    first, second = recogniser_child._result(Recognition(segments, "en"), 10, facts, 0.0).segments
    assert first == Segment(10, 12, " ab", (Word(10, 11, " ab", 0.9),))
    assert second == segments[1].shifted(10)
