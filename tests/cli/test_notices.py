"""How long the work on a recording took is told of that recording, whatever shared a batch with it."""

from __future__ import annotations

import time

import pytest

from whisper_farm.cli.notices import Notices
from whisper_farm.cli.progress import Display
from whisper_farm.worker.notices import Notice


@pytest.mark.parametrize(
    ("ends", "took"),
    [
        ([("a", 8.0), ("a", 8.0), ("b", 8.1), ("b", 8.1)], {"a": 8.0, "b": 8.0}),
        ([("a", 2.0), ("a", 4.0), ("b", 6.0), ("b", 8.0)], {"a": 4.0, "b": 4.0}),
        ([("b", 3.0), ("a", 3.2), ("a", 9.0), ("b", 9.0)], {"a": 9.0, "b": 9.0}),
    ],
    ids=["all at once", "one after the other", "in two rounds"],
)
def test_the_work_on_a_recording_begins_when_it_is_heard(
    ends: list[tuple[str, float]], took: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    notices = Notices(Display())
    notices(Notice("batch_begun", "", {"transcription_ids": ["a", "b"]}))
    for name, seconds in ends:
        now = 100.0 + seconds
        notices(Notice("job_finished", "", {"transcription_id": name, "work_seconds": 1.0}))
    last = {name: 100.0 + seconds for name, seconds in ends}
    assert {name: pytest.approx(seconds, abs=0.15) for name, seconds in took.items()} == {
        name: last[name] - notices.began[name] for name in last
    }
