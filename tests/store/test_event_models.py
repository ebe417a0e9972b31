"""Events are a closed set of models: the log keeps their fields, and readers get the same event back."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from whisper_farm.protocol.client import EventView
from whisper_farm.protocol.events import EVENTS, EventKind, JobRetried, event_of, fields_of

EXAMPLES: dict[str, Any] = {
    "name": "talk.mp3", "code": "lease_lost", "message": "Its worker was silent.", "first": 3, "count": 2, "chunks": 5,
    "cut_seconds": 150.5, "duration_seconds": 150.5, "language": "de", "position": 4, "seconds": 29.5,
    "done_seconds": 61.0, "chunks_done": 3, "job_kind": "transcribe", "start": 30.0, "end": 59.5, "worker_id": "w-1",
    "number": 7, "author": "ann", "what": "tokens",
    "received_bytes": 5, "total_bytes": 9, "hours": "22:00-07:00", "changed": {"max_workers": 5.0},
}  # fmt: skip


def test_every_model_has_a_kind_of_its_own_and_every_kind_a_model() -> None:
    kinds = [model.kind for model in EVENTS.values()]
    assert sorted(kinds) == sorted(get_args(EventKind))


@pytest.mark.parametrize("model", EVENTS.values(), ids=lambda model: str(model.kind))
def test_an_event_comes_back_from_what_the_log_keeps(model: type[Any]) -> None:
    event = model(**{name: EXAMPLES[name] for name in model.model_fields})
    view = EventView(id=1, kind=event.kind, at=1.0, data=fields_of(event))
    assert "kind" not in view.data
    assert view.event == event


def test_a_kind_or_field_of_a_newer_server_does_no_harm() -> None:
    newer = {"position": 4, "code": "lease_lost", "machine": "m-7"}
    assert event_of("job_retried", newer) == JobRetried(position=4, code="lease_lost")
    assert event_of("job_admired", newer) is None
    assert event_of("reset", {}) is None


def test_what_events_hold_is_in_the_schema_of_the_api() -> None:
    shown = EventView.model_json_schema()["properties"]["data"]["anyOf"]
    assert {one["title"] for one in shown} == {model.__name__ for model in EVENTS.values()}
    (retried,) = (one for one in shown if one["title"] == "JobRetried")
    assert set(retried["properties"]) == {"position", "code"}
