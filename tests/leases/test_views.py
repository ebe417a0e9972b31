"""What clients see."""

from __future__ import annotations

import pytest
from support.hand_farm import TONES, Farm

from whisper_farm.cli.describing import describe_transcription
from whisper_farm.cli.words import hour
from whisper_farm.coordinator.metrics import farm_gauges
from whisper_farm.coordinator.transcripts import transcript_key_of
from whisper_farm.coordinator.views import (
    job_list,
    transcription_list,
    transcription_view,
)
from whisper_farm.errors import InvalidRequest, NotFound, WrongState
from whisper_farm.leases.transcriptions import Assembled, NewTranscription, assembled, results_of, submit
from whisper_farm.protocol.client import JobList, TranscriptionList, TranscriptionView
from whisper_farm.store.fetches import let_go, take_fetch
from whisper_farm.store.transcriptions import Wanted, find
from whisper_farm.store.workers import find_worker, list_workers
from whisper_farm.transcript.transcript import Coverage, MissingStretch


def _view(farm: Farm, recording: str) -> TranscriptionView:
    return farm.database.read(lambda tx: transcription_view(tx, recording, farm.policy), now=farm.now)


def _list(farm: Farm, after: str | None = None, owner: str | None = None, limit: int = 2) -> TranscriptionList:
    return farm.database.read(lambda tx: transcription_list(tx, farm.policy, Wanted(owner), after, limit), now=farm.now)


def _jobs(farm: Farm, recording: str, after: int | None = None) -> JobList:
    return farm.database.read(lambda tx: job_list(tx, recording, after=after, limit=2))


def test_a_view_shows_progress_options_and_gaps(farm: Farm) -> None:
    recording = farm.recording(4)
    farm.worker("ann")
    first, second, *_ = farm.claim("ann", transcribe=3)
    farm.done(first, language="de")
    farm.fail(second, permanent=True)
    view = _view(farm, recording.id)
    assert (view.state, view.language, view.options.language, view.options.revision) == ("running", "de", "de", "r1")
    progress = view.progress
    assert (progress.duration_seconds, progress.cut_seconds, progress.done_seconds) == (120, 120, 30)
    assert (progress.chunks, progress.chunks_done, progress.chunks_failed, progress.chunking_done) == (4, 1, 1, True)
    assert [(gap.start_seconds, gap.end_seconds, gap.position) for gap in view.gaps] == [(30, 60, 1)]
    assert view.warning is None
    with pytest.raises(NotFound):
        _view(farm, "nothing")


def test_a_file_damaged_in_very_many_places_shows_them_only_by_itself(farm: Farm) -> None:
    recording = farm.submit()
    farm.worker("ann")
    (cutting,) = farm.claim("ann", chunk=1)
    farm.submit()
    farm.append(cutting, 10)
    damaged = tuple((2.0 * place, 2.0 * place + 1.5) for place in range(101))
    farm.finish_cutting(cutting, 10, damaged_packets=150, damaged_seconds=damaged)
    view = _view(farm, recording.id)
    assert (len(view.gaps), view.damaged_packets) == (101, 150)
    assert [(one.gaps, one.damaged_packets) for one in _list(farm).transcriptions if one.id == recording.id] == [
        ((), 150)
    ]


def test_a_recording_nobody_can_serve_says_so(farm: Farm) -> None:
    recording = farm.submit(options=TONES.model_copy(update={"model": "large"}))

    def warning() -> tuple[str | None, str]:
        view = _view(farm, recording.id)
        return view.warning_code, view.warning or ""

    code, said = warning()
    assert code == "no_worker"
    assert "No worker is there" in said
    farm.worker("ann", models=["large"], cuts=False)
    code, said = warning()
    assert code == "nobody_cuts"
    assert "cuts" in said
    farm.worker("bob", models=["small"])
    assert warning() == (None, "")
    farm.release("ann", leaving=True)
    code, said = warning()
    assert code == "nobody_runs"
    assert "tones with the model large" in said
    farm.worker("eve", resting=["large"])
    code, said = warning()
    assert code == "nobody_has_model"
    assert said.startswith("eve cannot have the model large of tones for now; the log there says why.")
    farm.now += 30
    assert warning()[0] == "no_worker", "bob has not been heard of for a lease"
    farm.cancel(recording.id)
    assert warning() == (None, "")


def test_what_has_failed_has_no_transcript_and_says_why_in_words(farm: Farm) -> None:
    recording = farm.submit("talk.mp3")
    farm.worker("ann")
    (cutting,) = farm.claim("ann", chunk=1)
    farm.fail(cutting, permanent=True)
    told = describe_transcription(_view(farm, recording.id), _jobs(farm, recording.id).jobs)
    assert not [line for line in told if "missing" in line], "of nothing no stretch is missing"
    with pytest.raises(WrongState, match=r"^talk\.mp3 has failed and has no transcript: It broke\.$"):
        farm.database.read(lambda tx: transcript_key_of(find(tx, recording.id)))


@pytest.mark.parametrize(("code", "mendable"), [("not_audio", False), ("source_empty", False), ("lease_lost", True)])
def test_another_try_is_offered_where_it_may_end_otherwise(farm: Farm, code: str, mendable: bool) -> None:
    """Not where the recording itself is at fault."""
    recording = farm.submit()
    farm.worker("ann")
    (cutting,) = farm.claim("ann", chunk=1)
    assert not _view(farm, recording.id).mendable
    farm.fail(cutting, code=code, permanent=True)
    assert _view(farm, recording.id).state == "failed"
    assert _view(farm, recording.id).mendable is mendable


def test_chunks_that_failed_may_be_mended_and_a_damaged_file_may_not(farm: Farm) -> None:
    farm.worker("ann")
    lacking = Coverage(60, 50, 2, (MissingStretch(0, 10, "lost"),))
    for damaged, failed, mendable in (((1.0, 9.0),), 0, False), ((), 1, True):
        recording = farm.submit()
        (cutting,) = farm.claim("ann", chunk=1)
        farm.append(cutting, 2)
        farm.finish_cutting(cutting, 2, damaged_packets=len(damaged), damaged_seconds=damaged)
        for number, chunk in enumerate(farm.claim("ann", transcribe=2)):
            farm.fail(chunk, permanent=True) if number < failed else farm.done(chunk)
        results = farm.database.read(lambda tx, one=recording.id: results_of(tx, one))
        made = Assembled(f"transcripts/{recording.id}", 5, lacking, results)
        farm.write(lambda tx, one=recording.id, made=made: assembled(tx, one, made))
        view = _view(farm, recording.id)
        assert (view.state, view.mendable) == ("incomplete", mendable)
    farm.cancel(another := farm.submit().id)
    assert _view(farm, another).mendable


def test_a_link_that_is_waited_for_says_when_it_is_tried_again(farm: Farm) -> None:
    made = farm.write(lambda tx: submit(tx, NewTranscription("ann", "talk", "link:http://x.example/a", 0, TONES)))
    taken = farm.write(lambda tx: take_fetch(tx, "me", 4))
    assert not [line for line in describe_transcription(_view(farm, made), ()) if "again" in line]
    farm.write(lambda tx: let_go(tx, made, taken.holder, "No.", 5, counts=True))
    (line,) = [line for line in describe_transcription(_view(farm, made), ()) if "fetched again" in line]
    assert hour(farm.now + 5) in line


def test_tries_that_failed_alike_are_told_in_one_line(farm: Farm) -> None:
    recording = farm.recording(1)
    for name, code in (("ann", "engine_error"), ("ann", "engine_error"), ("ann", "not_audio")):
        farm.now += 200
        farm.worker(name)
        (job,) = farm.claim(name)
        farm.fail(job, code=code)
    lines = list(describe_transcription(_view(farm, recording.id), _jobs(farm, recording.id).jobs))
    assert [line for line in lines if "attempt" in line] == [
        "  attempts 1 to 2 on ann: engine_error: It broke.",
        "  attempt 3 on ann: not_audio: It broke.",
    ]


def test_pages_are_stable_while_new_recordings_come_in(farm: Farm) -> None:
    made = []
    for number in range(5):
        farm.now += number % 2  # some at the same moment
        made.append((farm.now, farm.submit(f"{number}.mp3").id))
    expected = [name for _, name in sorted(made, reverse=True)]
    farm.submit("of bob", owner="bob")
    seen, after = [], None
    while True:
        page = _list(farm, after, owner="ann")
        seen += [view.id for view in page.transcriptions]
        farm.now += 1
        farm.submit("late.mp3")
        if page.next is None:
            break
        after = page.next
    assert seen == expected
    assert [view.owner for view in _list(farm, limit=100).transcriptions].count("bob") == 1
    with pytest.raises(InvalidRequest):
        _list(farm, after="yesterday")


def test_jobs_come_with_the_evidence_of_every_attempt(farm: Farm) -> None:
    recording = farm.recording(3)
    farm.worker("ann")
    (job,) = farm.claim("ann")
    farm.now += 21
    farm.worker("bob")
    (again,) = farm.claim("bob")
    farm.fail(again, code="engine_error")
    page = _jobs(farm, recording.id)
    assert [(view.kind, view.position) for view in page.jobs] == [("chunk", 0), ("transcribe", 0), ("transcribe", 1)]
    lost, failed = page.jobs[1].attempts
    assert (lost.number, lost.worker_name, lost.state, lost.charged, lost.error_code) == (
        1, "ann", "lost", True, "lease_lost",
    )  # fmt: skip
    assert (failed.state, failed.error_code, failed.error_message) == ("failed", "engine_error", "It broke.")
    assert page.jobs[1].charged_attempts == 2
    rest = _jobs(farm, recording.id, after=page.next)
    assert [(view.kind, view.position) for view in rest.jobs] == [("transcribe", 2)]
    assert rest.next is None
    assert job.job_id == page.jobs[1].id


def test_workers_show_what_they_hold_and_how_fast_they_are(farm: Farm) -> None:
    farm.recording(3)
    farm.worker("ann")
    one, _ = farm.claim("ann", transcribe=2)
    farm.done(one)
    (view,) = farm.database.read(list_workers)
    assert (view.id, view.state, view.jobs, view.speed) == ("ann", "live", 1, 30.0)
    assert len(farm.database.read(lambda tx: list_workers(tx, gone_since=0.0))) == 2
    assert farm.database.read(lambda tx: find_worker(tx, "cutter")).state == "gone"
    with pytest.raises(NotFound):
        farm.database.read(lambda tx: find_worker(tx, "nobody"))


def test_the_farm_is_counted(farm: Farm) -> None:
    farm.recording(5)
    farm.submit("waiting.mp3")
    farm.worker("ann")
    farm.claim("ann", transcribe=2)
    farm.now += 7
    now = farm.database.read(farm_gauges, now=farm.now)

    def counted(name: str, of: str) -> dict[str, float | None]:
        return {kind: now.get_sample_value(f"whisper_farm_{name}", {"kind": kind}) for kind in of.split()}

    assert counted("jobs_queued", "chunk peaks transcribe") == {"chunk": 1, "peaks": 0, "transcribe": 3}
    assert counted("job_age_seconds", "chunk peaks transcribe") == {"chunk": 7.0, "peaks": 0.0, "transcribe": 7.0}
    assert counted("jobs_running", "transcribe") == {"transcribe": 2}
    assert now.get_sample_value("whisper_farm_leases_live", {"hedge": "no"}) == 2
    assert now.get_sample_value("whisper_farm_workers", {"state": "live"}) == 1
