"""The whole farm, real processes over real sockets: what goes in comes out, whoever is killed on the way.

A coordinator that is killed is `test_coordinator_and_database_murder`.
"""

from __future__ import annotations

from support.farm_processes import LONG_TALK_CHUNK_SECONDS, Farm, Known, assert_done_once, assert_says
from support.fault_proxy import FaultProxy


def test_every_word_has_the_time_it_was_spoken_at_though_each_chunk_begins_at_nought(long_talk: Known) -> None:
    heard = [(word.text.strip(), word.start) for each in long_talk.transcript.segments for word in each.words]
    true_start = dict(long_talk.recording.words)
    assert len(heard) > 500
    assert max(abs(start - true_start[word]) for word, start in heard) < 0.02
    assert heard[-1][1] > 300


def test_the_order_holds_past_nine_chunks(long_talk: Known) -> None:
    spoken = [word for word, _ in long_talk.recording.words]
    assert [word.text.strip() for each in long_talk.transcript.segments for word in each.words] == spoken
    starts = [each.start for each in long_talk.transcript.segments]
    assert starts == sorted(starts)


def test_nothing_is_dropped_past_ninety_nine_chunks(farm: Farm, long_talk: Known) -> None:
    assert long_talk.transcript.coverage.chunks > 120
    assert long_talk.transcript.coverage.complete
    assert long_talk.transcript.text.split()[-1] == long_talk.recording.words[-1][0]
    assert_says(long_talk.transcript, long_talk.recording)


def test_a_worker_killed_in_the_middle_of_a_run_changes_nothing(farm: Farm, talk: Known) -> None:
    made = farm.submit(talk.recording, "x10")
    with farm.worker() as killed:
        farm.progress(made, chunks_done=3)
        killed.kill()
    with farm.worker():
        assert talk.same(farm.finished(made))
    assert_done_once(farm.jobs(made))


def test_a_recogniser_killed_in_the_middle_of_a_run_changes_nothing(farm: Farm, talk: Known) -> None:
    made = farm.submit(talk.recording, "x10")
    with farm.worker() as worker:
        for done in (1, 8):
            farm.progress(made, chunks_done=done)
            assert worker.kill_child("recogniser")
        assert talk.same(farm.finished(made))
    assert_done_once(farm.jobs(made))
    assert "The recogniser process" in worker.said()


def test_a_cutter_killed_half_way_changes_nothing(farm: Farm, long_talk: Known) -> None:
    with FaultProxy(farm.port, delay_seconds=0.2) as line:
        line.next("uploads", "delay", 100)
        with farm.worker(at=line.url) as worker:
            made = farm.submit(long_talk.recording, chunk_seconds=LONG_TALK_CHUNK_SECONDS)
            farm.progress(made, chunks=16)
            assert worker.kill_child("cutter")
            assert not farm.client.get(made).progress.chunking_done
            assert long_talk.same(farm.finished(made))
    assert_done_once(farm.jobs(made))
    assert "The cutter process" in worker.said()


def test_a_worker_killed_while_it_cuts_changes_nothing(farm: Farm, long_talk: Known) -> None:
    with FaultProxy(farm.port, delay_seconds=0.2) as line, farm.worker(at=line.url) as killed:
        line.next("uploads", "delay", 100)
        made = farm.submit(long_talk.recording, chunk_seconds=LONG_TALK_CHUNK_SECONDS)
        farm.progress(made, chunks=16)
        killed.kill()
    assert not farm.client.get(made).progress.chunking_done
    with farm.worker():
        assert long_talk.same(farm.finished(made))
    cutting = farm.jobs(made)[0]
    assert [attempt.state for attempt in cutting.attempts] == ["lost", "done"]
