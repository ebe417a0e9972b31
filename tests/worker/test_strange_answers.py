"""Whatever an answer or a job holds: it costs that job, and never the worker or the jobs beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.bare_farm import TOKEN, FakeServer, serving
from support.fake_farm import FakeFarm
from support.work_here import add_speech, recording, same, speech, until, worker_settings, working

from whisper_farm.errors import FarmError, Forbidden, WorkerUnknown
from whisper_farm.protocol.jobs import ChunkTask
from whisper_farm.protocol.wire import ErrorDetail, Transfer
from whisper_farm.protocol.worker import ClaimRequest, RegisterRequest
from whisper_farm.worker.api import WorkerApi

AUDIO = "/api/work/audio/chunk-0"
TRANSFERS = {
    "no end of the host": Transfer(url="http://[::1", method="GET"),
    "a port that cannot be": Transfer(url="http://127.0.0.1:99999/x", method="GET"),
    "a label that is too long": Transfer(url=f"http://{'a' * 70}.example/x", method="GET"),
    "an empty label": Transfer(url="http://a..b/x", method="GET"),
    "blanks": Transfer(url="http://a b/x", method="GET"),
    "a strange scheme": Transfer(url="file:///etc/passwd", method="GET"),
    "no host": Transfer(url="http:///x", method="GET"),
    "a line break": Transfer(url="http://127.0.0.1/\r\nx: y", method="GET"),
    "no end of it": Transfer(url="http://127.0.0.1/" + "x" * 100_000, method="GET"),
    "a host, but no scheme": Transfer(url="//127.0.0.1/x", method="GET"),
    "nothing": Transfer(url="", method="GET"),
    "a line break in a header": Transfer(url=AUDIO, method="GET", headers={"x": "a\r\nb: c"}),
    "a header in another alphabet": Transfer(url=AUDIO, method="GET", headers={"x": "п"}),
    "a name in another alphabet": Transfer(url=AUDIO, method="GET", headers={"п x": "a"}),
    "a strange method": Transfer(url=AUDIO, method="GÉ T"),
}
"""Nobody can make these."""
FIGURES: dict[str, dict[str, object]] = {
    "far too long": {"size": 1 << 44},
    "empty": {"size": 0},
    "ends before it begins": {"end_seconds": 0.0, "start_seconds": 5.0},
    "begins after months": {"start_seconds": 9_999_999.0},
    "another digest": {"sha256": "0" * 64},
}
OPTIONS: dict[str, dict[str, object]] = {
    "a model's name that is too long": {"model": "m" * 300},
    "no model": {"model": ""},
    "a number that is too big": {"beam_size": 10**30},
    "an option that this worker does not know": {"voices": 2},
    "a language that is none": {"language": "klingon"},
    "no options": {"temperature": []},
}
STRANGERS: dict[str, dict[str, object]] = {
    "an engine that is not here": {"engine": "no-such-engine", "model": "small"},
    "the longest name": {"model": "m" * 255},
    "a path": {"model": "../../etc"},
    "a speed that is none": {"model": "x1e999"},
}


def work(farm: FakeFarm, over: Callable[[], object], setup: Callable[[FakeServer], object] = lambda _: None) -> None:
    """Let a worker work until all is over, which it must live to see."""

    async def scene() -> None:
        with serving(farm) as server:
            setup(server)
            settings = worker_settings(server.url, slots=2, cuts=True, request_timeout_seconds=1.0)
            async with working(settings) as worker:
                await until(lambda: worker.task.done() or over(), "all is over")
                assert not worker.task.done(), "the worker has ended"

    asyncio.run(scene())


def strange_and_good(strange: int) -> FakeFarm:
    """Chunks that will be strange, then a good one; one that has failed is not tried again."""
    farm = FakeFarm()
    farm.retry_seconds = 3600
    farm.max_attempts = 1
    add_speech(farm, *(speech(number) for number in range(strange + 1)))
    return farm


def failures_but_one(farm: FakeFarm) -> bool:
    """Whether every chunk has failed but the last, which is done."""
    return farm.chunks[-1].state == "done" and all(job.failures for job in farm.chunks[:-1])


def changed_tasks(farm: FakeFarm, changes: list[dict[str, object]]) -> None:
    for job, change in zip(farm.chunks, changes, strict=False):
        job.task = job.task.model_copy(update=change)


def changed_claims(changes: list[Callable[[Any], object]]) -> Callable[[FakeServer], None]:
    """Change the claims of the first chunks in whatever answer they come."""

    def change(answer: Any) -> Any:
        for claim in answer["claims"]:
            if claim["task"]["kind"] == "transcribe" and claim["position"] < len(changes):
                changes[claim["position"]](claim)
        return answer

    return lambda server: server.changes.update(claim=change, complete=change)


def with_options(options: dict[str, object]) -> Callable[[Any], object]:
    return lambda claim: claim["task"]["options"].update(options)


def test_chunks_at_addresses_that_are_none_fail_and_another_is_done() -> None:
    farm = strange_and_good(len(TRANSFERS))
    changed_tasks(farm, [{"transfer": transfer} for transfer in TRANSFERS.values()])
    work(farm, lambda: failures_but_one(farm))


def test_chunks_with_figures_that_cannot_be_cost_nobody_else_anything() -> None:
    farm = strange_and_good(len(FIGURES))
    changed_tasks(farm, list(FIGURES.values()))
    work(farm, lambda: all(job.failures or job.state == "done" for job in farm.chunks))
    assert farm.chunks[-1].state == "done"


@pytest.mark.parametrize("which", ["no end of the host", "a line break", "a header in another alphabet"])
def test_a_recording_at_an_address_that_is_none_fails_and_a_chunk_is_done(which: str) -> None:
    farm = strange_and_good(0)
    job = farm.add_recording(b"nothing")
    assert isinstance(job.task, ChunkTask)
    source = job.task.source.model_copy(update={"transfer": TRANSFERS[which]})
    job.task = job.task.model_copy(update={"source": source})
    work(farm, lambda: job.failures and failures_but_one(farm))


def test_options_that_this_worker_cannot_take_fail_their_jobs_and_are_counted() -> None:
    """A newer server may say things that an older worker does not understand; others may have such a job."""
    farm = strange_and_good(len(OPTIONS))
    work(farm, lambda: failures_but_one(farm), changed_claims([with_options(each) for each in OPTIONS.values()]))
    for job, options in zip(farm.chunks, OPTIONS.values(), strict=False):
        (failure,) = job.failures
        assert (failure.code, failure.permanent) == ("option_unsupported", False)
        assert next(iter(options)) in failure.message, "it says which"


def test_engines_and_models_that_are_none_fail_their_jobs_and_are_counted() -> None:
    farm = strange_and_good(len(STRANGERS))
    work(farm, lambda: failures_but_one(farm), changed_claims([with_options(each) for each in STRANGERS.values()]))
    assert not any(failure.permanent for job in farm.chunks for failure in job.failures)


def test_a_job_of_an_unknown_kind_is_handed_back_and_does_not_wait_for_ever() -> None:
    farm = strange_and_good(1)
    diarize: Callable[[Any], object] = lambda claim: claim["task"].update(kind="diarize")  # noqa: E731
    work(farm, lambda: failures_but_one(farm), changed_claims([diarize]))
    assert "kind" in farm.chunks[0].failures[0].message


def test_answers_of_a_newer_server_with_more_fields_are_understood() -> None:
    farm = FakeFarm()
    data, truth = recording(20)
    farm.add_recording(data)

    def more(answer: Any) -> Any:
        if isinstance(answer, list):
            return [more(each) for each in answer]
        if not isinstance(answer, dict):
            return answer
        known = {name: value if name in ("options", "headers") else more(value) for name, value in answer.items()}
        return {**known, "of_a_newer_server": {"and": ["more"]}}

    work(
        farm,
        lambda: farm.jobs["t.c"].state == "done" and farm.all_are("done"),
        lambda server: server.changes.update(dict.fromkeys(farm.calls(), more)),
    )
    same(farm.heard(), truth)


@pytest.mark.parametrize("call", ["register", "claim", "heartbeat", "complete", "fail"])
def test_a_refusal_that_may_pass_does_not_end_the_worker(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound that an operator has set too low, a newer server, a proxy that answers in the farm's form."""
    for module in ("claims", "agent"):
        monkeypatch.setattr(f"whisper_farm.worker.{module}._REFUSED_SECONDS", 0.05)
    farm = FakeFarm(lease_seconds=1)  # a failure that is refused is tried again when its lease has lapsed
    odd = ErrorDetail(code="of_a_newer_server", message="No.", details={"message": "No.", "self": 1, "code": 2})

    async def scene() -> None:
        with serving(farm) as server:
            async with working(worker_settings(server.url)) as worker:
                await until(lambda: worker.said("registered") and farm.beats, "it is known")
                server.refusals[call] = [odd] * 3
                if call == "register":
                    farm.workers.clear()
                add_speech(farm, speech(0))
                if call == "fail":
                    changed_tasks(farm, [{"size": 1 << 44}])
                await until(lambda: worker.task.done() or not server.refusals[call], "all refusals are heard")
                farm.add_chunk(b"", 10, 1)
                await until(lambda: worker.task.done() or farm.chunks[1].failures, "it works on")
                assert not worker.task.done(), "the worker has ended"

    asyncio.run(scene())


def test_a_refusal_for_good_ends_the_worker_with_its_reason() -> None:
    async def scene() -> None:
        with serving(FakeFarm()) as server:
            server.refusals["claim"] = [ErrorDetail(code="forbidden", message="Not you.")]
            async with working(worker_settings(server.url)) as worker:
                with pytest.raises(Forbidden, match="Not you"):
                    await worker.ended()

    with pytest.raises(Forbidden):
        asyncio.run(scene())


def test_a_result_refused_with_a_strange_code_fails_its_job() -> None:
    codes = ["Too Strange!", "x" * 100, "ü"]
    farm = strange_and_good(len(codes))

    def refuse(answer: Any) -> Any:
        for outcome in answer["outcomes"]:
            attempt = farm.attempts[outcome["token"]]
            if attempt.job.position < len(codes):
                attempt.state, attempt.job.state, attempt.job.result = "live", "running", None
                outcome.update(error_code=codes[attempt.job.position], message="\0 no")
        return answer

    work(farm, lambda: failures_but_one(farm), lambda server: server.changes.update(complete=refuse))


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 10_000_000.0])
def test_a_lease_of_any_length_is_borne(seconds: float) -> None:
    farm = strange_and_good(1)

    def pace(answer: Any) -> Any:
        for each in (answer, *answer.get("claims", ())):
            each |= {name: seconds for name in ("lease_seconds", "heartbeat_seconds") if name in each}
        return answer

    calls = ("register", "claim", "heartbeat", "complete")
    work(farm, lambda: farm.all_are("done"), lambda server: server.changes.update(dict.fromkeys(calls, pace)))
    assert len(farm.beats) < 1000, "it does not ask without a pause"


def test_the_details_of_an_error_may_have_any_name() -> None:
    error = FarmError("What happened.", **dict.fromkeys(("message", "self"), 1))
    assert (error.message, error.details) == ("What happened.", {"message": 1, "self": 1})


def test_claims_that_cannot_even_be_reported_are_left_alone() -> None:
    farm = FakeFarm()
    add_speech(farm, speech(0))
    strange: list[tuple[str, str]] = []
    me = RegisterRequest(worker_id="w", name="w", version="1", platform="here", slots=1, engines=())

    async def scene() -> None:
        with serving(farm) as server:
            server.changes["claim"] = lambda answer: {"claims": [None, 1, {}, {"token": 3}, *answer["claims"]]}
            api = WorkerApi(server.url, TOKEN, 5.0, lambda answers, why: None)
            api.on_strange_claim = lambda token, why: strange.append((token, why))
            try:
                with pytest.raises(WorkerUnknown):
                    await api.claim(ClaimRequest(worker_id="w", request_id="r"))
                await api.register(me)
                answer = await api.claim(ClaimRequest(worker_id="w", request_id="r", jobs={"transcribe": 1}))
                assert [claim.job_id for claim in answer.claims] == ["t.0"]
            finally:
                await api.close()

    asyncio.run(scene())
    assert len(strange) == 4
