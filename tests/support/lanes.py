"""Which tests are slow, and which have deadlines: one list, so that no test file has to say it of itself.

`slow`: real processes, a real browser, real Whisper, plans of long queues, races, long plays of the state machine,
answers and sounds by the hundred; and the second time of what runs with SQLite and with PostgreSQL. `./run test fast`
leaves them out. `timed`: tests of what must happen by a deadline, which a busy machine can miss. Only these may be
tried a second time by `.ci/run`, and its last lines name them. `LONGEST`: tests of half a minute and more; where
several processes share the tests, each begins with some of them, so that none is left alone at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SLOW = (
    *("tests/attacks/", "tests/deploy/", "tests/doors/", "tests/farm/", "tests/fleet/", "tests/web/"),
    *("tests/audio/test_cuts.py", "tests/docs/test_demo.py", "tests/docs/test_examples.py"),
    "tests/audio/test_channels.py::test_channels_that_cancel_each_other_out_later_on_are_heard",
    "tests/audio/test_chunking.py::test_a_chunk_job_that_died_is_resumed_with_the_very_same_chunks",
    "tests/audio/test_chunking.py::test_more_than_a_thousand_chunks_keep_their_order_and_the_last_word",
    *("tests/cli/test_processes.py", "tests/cli/test_stopping.py", "tests/cli/test_start_up.py"),
    "tests/cli/test_connection.py::test_a_data_folder_that_cannot_be_is_one_line_that_names_the_setting",
    *("tests/cli/test_local_farm.py", "tests/cli/test_transcribe.py", "tests/cli/test_naming.py"),
    *("tests/cli/test_farm_commands.py", "tests/cli/test_given_links.py", "tests/cli/test_watch.py"),
    "tests/cli/test_following.py",
    *("tests/coordinator/test_http_fuzz.py", "tests/coordinator/test_serving.py"),
    *("tests/coordinator/test_answers_to_webhooks.py", "tests/ingest/test_any_answer.py"),
    "tests/ingest/test_feeds.py::test_any_feed_is_read_or_refused",
    "tests/coordinator/test_background_services.py::test_assembling_long_recordings_takes_no_more_memory",
    "tests/transcript/test_formats.py::test_ten_hours_of_words_need_less_than_a_hundred_megabytes",
    *("tests/coordinator/test_two_coordinators.py", "tests/coordinator/test_services_at_once.py"),
    "tests/coordinator/test_followed_feeds.py::test_many_slow_feeds",
    "tests/coordinator/test_followed_feeds.py::test_two_coordinators_take_each_episode_once",
    *("tests/engines/test_whisper.py", "tests/engines/test_whisper_on_a_farm.py", "tests/engines/test_hearing.py"),
    *("tests/engines/test_transcribe_cpp.py", "tests/engines/test_command.py::test_a_real_program_hears_a_real_voice"),
    "tests/engines/test_openai_engine.py::test_our_own_door_on_another_port_hears_a_real_voice",
    *("tests/leases/test_same_answers_everywhere.py", "tests/leases/test_plans.py", "tests/leases/test_races.py"),
    *("tests/leases/test_lost_claim_replies.py", "tests/leases/test_locks.py", "tests/leases/test_reaper.py"),
    "tests/leases/test_policy.py",
    *("tests/store/test_postgres_faults.py", "tests/store/test_sqlite_faults.py", "tests/store/test_database.py"),
    *("tests/worker/test_deaths.py", "tests/worker/test_cutting.py", "tests/worker/test_leases.py"),
    *("tests/worker/test_peaks.py", "tests/worker/test_worker.py"),
    *("tests/worker/test_leaving.py", "tests/worker/test_with_the_coordinator.py", "tests/worker/test_child.py"),
    *("tests/worker/test_placed_worker.py", "tests/worker/test_recognisers.py", "tests/worker/test_strange_answers.py"),
)
TIMED = (
    *("tests/doors/", "tests/farm/", "tests/fleet/", "tests/web/", "tests/coordinator/test_two_coordinators.py"),
    *("tests/cli/test_processes.py", "tests/cli/test_stopping.py", "tests/worker/test_leaving.py"),
    "tests/worker/test_placed_worker.py",
    *(
        "tests/browser/test_live.py",
        "tests/browser/test_long_transcript.py",
        "tests/browser/test_transcribing.py::test_what_one_browser_does_another",
    ),
    # Leases of a second, which must be kept, and bounds of seconds for an answer, an end or a wait that is broken off.
    *("tests/worker/test_leases.py", "tests/worker/test_with_the_coordinator.py", "tests/coordinator/test_serving.py"),
    *("tests/attacks/test_bodies.py", "tests/attacks/test_heads.py", "tests/attacks/test_mutated_calls.py"),
    "tests/cli/test_transcribe.py::test_a_recording_that_waits_for_others_is_not_called_slow_and_the_last_line_counts",
    "tests/client/test_farm_client.py::test_every_call_ends_within_its_time_out_though_the_server_drips",
    "tests/coordinator/test_http_events.py::test_streams_end_at_once_when_the_server_stops",
    "tests/coordinator/test_http_refusals.py::test_a_client_that_sends_half_a_request_is_cut_off",
    "tests/coordinator/test_http_work.py::test_many_idle_workers_share_new_work_without_a_stampede",
    "tests/store/test_database.py::test_listeners_elsewhere_hear_of_a_commit_within_200_ms",
    "tests/worker/test_api.py::test_patience_ends_with_one_clear_error_and_a_beat_has_none",
)
LONGEST = (
    *("tests/coordinator/test_http_fuzz.py", "tests/leases/test_same_answers_everywhere.py::test_model"),
    *(
        "tests/farm/test_twelve_with_workers.py::test_coordinator_and_database_murder",
        "tests/fleet/test_week_of_faults.py",
    ),
    "tests/fleet/test_fly_machines.py::test_of_two_coordinators_one_looks_after_the_machines_and_the_other_takes_over",
    "tests/farm/test_whole_farm.py::test_a_cutter_killed_half_way_changes_nothing",
    "tests/farm/test_twelve_on_a_bad_line.py::test_coordinator_and_database_murder_on_sqlite",
    "tests/farm/test_other_versions.py::test_a_worker_that_outlives_its_servers_release_ends_and_its_jobs_go_on",
    "tests/farm/test_speech_on_a_farm.py::test_the_sample_podcast_is_understood_by_two_workers_together",
    "tests/engines/test_hearing.py::test_a_full_window_whose_text_ends_early_is_gone_on_with_and_heard_once",
)


ALL_SLOW = tuple(place for place in SLOW if "::" not in place)


def is_all_slow(path: Path) -> bool:
    """Whether every test of this file or folder is slow: the fast lane does without loading it."""
    return path.is_relative_to(ROOT) and f"{path.relative_to(ROOT).as_posix()}/".startswith(ALL_SLOW)


def mark_lanes(items: Iterable[pytest.Item]) -> None:
    """Mark each of these tests by the list above."""
    for item in items:
        place = place_of(item)
        if place.startswith(SLOW) or "[postgresql" in place:
            item.add_marker("slow")
        if place.startswith(TIMED):
            item.add_marker("timed")


def place_of(item: pytest.Item) -> str:
    """Its file and name, seen from the root."""
    return item.nodeid if item.nodeid.startswith("tests/") else f"tests/{item.nodeid}"


def longest_first(items: Sequence[pytest.Item], processes: int) -> list[pytest.Item]:
    """The same tests for so many processes, each of which is given an equal part of this list, from its beginning."""
    long = [item for item in items if place_of(item).startswith(LONGEST)]
    long.sort(key=lambda item: next(rank for rank, place in enumerate(LONGEST) if place_of(item).startswith(place)))
    others = iter([item for item in items if not place_of(item).startswith(LONGEST)])
    dealt: list[pytest.Item] = []
    for number in range(processes):
        mine = long[number::processes]
        size = (len(items) - len(dealt)) // (processes - number)
        dealt += [*mine, *islice(others, max(0, size - len(mine)))]
    return [*dealt, *others]
