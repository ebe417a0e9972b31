"""Which tests are slow, and which have deadlines: one list, so that no test file has to say it of itself.

`slow`: real processes, a real browser, real Whisper, plans of long queues, races, and long plays of the state machine.
`./run test fast` leaves them out. `timed`: tests of real processes that must finish by a deadline, which a busy machine
can miss. Only these may be tried a second time by `.ci/run`, and its last lines name them.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

SLOW = (
    *("tests/attacks/", "tests/doors/", "tests/farm/", "tests/fleet/", "tests/web/", "tests/docs/test_demo.py"),
    *("tests/cli/test_processes.py", "tests/cli/test_stopping.py", "tests/cli/test_start_up.py"),
    *("tests/cli/test_local_farm.py", "tests/cli/test_transcribe.py", "tests/cli/test_naming.py"),
    *("tests/cli/test_farm_commands.py", "tests/cli/test_given_links.py", "tests/cli/test_watch.py"),
    *("tests/coordinator/test_http_fuzz.py", "tests/coordinator/test_serving.py"),
    *("tests/coordinator/test_two_coordinators.py", "tests/coordinator/test_services_at_once.py"),
    "tests/coordinator/test_followed_feeds.py::test_two_coordinators_take_each_episode_once",
    *("tests/engines/test_whisper.py", "tests/engines/test_whisper_on_a_farm.py", "tests/engines/test_hearing.py"),
    *("tests/engines/test_transcribe_cpp.py", "tests/engines/test_command.py::test_a_real_program_hears_a_real_voice"),
    "tests/engines/test_openai_engine.py::test_our_own_door_on_another_port_hears_a_real_voice",
    *("tests/leases/test_same_answers_everywhere.py", "tests/leases/test_plans.py", "tests/leases/test_races.py"),
    *("tests/leases/test_lost_claim_replies.py", "tests/leases/test_locks.py", "tests/leases/test_reaper.py"),
    *("tests/leases/test_beside_heartbeats.py", "tests/leases/test_policy.py"),
    *("tests/store/test_postgres_faults.py", "tests/store/test_sqlite_faults.py", "tests/store/test_database.py"),
    *("tests/worker/test_deaths.py", "tests/worker/test_cutting.py", "tests/worker/test_leases.py"),
    *("tests/worker/test_leaving.py", "tests/worker/test_with_the_coordinator.py", "tests/worker/test_child.py"),
    *("tests/worker/test_placed_worker.py", "tests/worker/test_recognisers.py", "tests/worker/test_strange_answers.py"),
)
TIMED = (
    *("tests/doors/", "tests/farm/", "tests/fleet/", "tests/web/", "tests/coordinator/test_two_coordinators.py"),
    *("tests/cli/test_processes.py", "tests/cli/test_stopping.py", "tests/worker/test_leaving.py"),
    "tests/worker/test_placed_worker.py",
)


def mark_lanes(items: Iterable[pytest.Item]) -> None:
    """Mark each of these tests by the list above."""
    for item in items:
        place = item.nodeid if item.nodeid.startswith("tests/") else f"tests/{item.nodeid}"
        if place.startswith(SLOW):
            item.add_marker("slow")
        if place.startswith(TIMED):
            item.add_marker("timed")
