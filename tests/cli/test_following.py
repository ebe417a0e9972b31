"""Whoever waits is told for what: a model that loads, a recording of which there are no words yet."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from support.fake_server import FakeServer, Talk, error, view
from support.talks import Recorder

from whisper_farm.cli import following as following_module
from whisper_farm.cli import transcribing
from whisper_farm.cli.following import GATHER_SECONDS, Following
from whisper_farm.cli.main import outcome
from whisper_farm.cli.notices import Notices
from whisper_farm.cli.progress import Display
from whisper_farm.cli.words import hour
from whisper_farm.client.farm import FarmClient
from whisper_farm.protocol.client import TranscriptionView
from whisper_farm.worker.notices import Notice


class Stages(Display):
    """Remembers the stages and the notes it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []
        self.notes: list[str] = []

    def note(self, line: str) -> None:
        self.notes.append(line)

    def begin(self, name: str, stage: str) -> None:
        self.told.append(f"{name}: {stage}")
        super().begin(name, stage)


@pytest.mark.parametrize(
    ("state", "done_seconds", "stage"),
    [("queued", 0, "waiting"), ("running", 0, "waiting for the first words"), ("running", 12, ""),
     ("assembling", 60, "putting together")],
)  # fmt: skip
def test_the_stage_of_a_recording_is_said_until_there_are_words(state: str, done_seconds: float, stage: str) -> None:
    display = Stages()
    seen = TranscriptionView.model_validate_json(view(state=state, progress={"done_seconds": done_seconds}))
    with FarmClient("http://127.0.0.1:9", "secret") as farm:
        Following(farm, display, headings=False).watch("a.wav", seen)
    assert display.told == [f"a.wav: {stage}"]


@pytest.mark.parametrize("is_ready_before", [False, True])
def test_while_the_model_loads_that_is_said(is_ready_before: bool) -> None:
    display = Stages()
    notices = Notices(display)
    ready = Notice("model_ready", "tones is ready.", {"model": "instant"})
    if is_ready_before:  # a worker loads it while files are read
        notices(ready)
    notices.waiting_for("instant")
    assert display.told == ([] if is_ready_before else ["model instant: loading"])
    notices(ready)
    assert display.shown == {}


def test_no_model_is_said_to_load_at_the_end(record: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    record("a.wav")
    display = Stages()
    monkeypatch.setattr(transcribing, "open_display", lambda quiet, verbose: display)
    assert outcome(["transcribe", "a.wav", "-f", "txt", "--engine", "tones", "--model", "instant"]) == 0
    assert display.told.count("model instant: loading") <= 1
    assert display.shown == {}


def test_a_recording_that_nobody_can_serve_is_told_with_what_the_last_worker_said() -> None:
    display = Stages()
    seen = TranscriptionView.model_validate_json(view(state="running", warning="No live worker runs it."))
    said = {"error_code": "model_unavailable", "error_message": "It is not on this machine."}
    attempt = {"number": 1, "worker_id": "w", "worker_name": "mac", "state": "failed", "charged": False, "hedge": False}
    job = {"id": f"{seen.id}.0", "kind": "transcribe", "position": 0, "state": "queued", "start_seconds": 0}
    job |= {"end_seconds": 1, "charged_attempts": 0, "attempts": [attempt | said | {"started_at": 0}]}
    with FakeServer() as server, FarmClient(server.address, "secret", timeout=5) as farm:
        server.tell(f"GET /api/transcriptions/{seen.id}/jobs", (200, json.dumps({"jobs": [job]}).encode()))
        Following(farm, display, headings=False).watch("a.wav", seen)
    assert display.notes == ["a.wav: No live worker runs it.", "a.wav: mac said: It is not on this machine."]


def test_a_farm_that_is_away_for_a_while_is_said_to_be_once_each_time() -> None:
    seen = TranscriptionView.model_validate_json(view(state="running"))
    call, display = f"GET /api/transcriptions/{seen.id}", Stages()
    with FakeServer() as server, FarmClient(server.address, "secret", timeout=5) as farm:
        following = Following(farm, display, headings=False)
        one = following.watch("a.wav", seen)
        for answer, notes in (
            (Talk.hang_up, 1),
            (Talk.hang_up, 1),
            ((200, view(state="running")), 1),
            (Talk.hang_up, 2),
        ):
            server.tell(call, answer)
            one.looked_at = 0.0
            following.wake.set()
            assert following.step() == []
            assert len(display.notes) == notes
    assert display.notes[0].startswith(f"The farm at {server.address} does not answer (")
    assert display.notes[0].endswith(" It may come back: waiting for a minute.")


def test_news_after_a_pause_are_shown_at_once_and_those_that_follow_together(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [1000.0], list[float]()
    monkeypatch.setattr(following_module, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=slept.append))
    seen = TranscriptionView.model_validate_json(view(state="running"))
    with FakeServer() as server, FarmClient(server.address, "secret", timeout=5) as farm:
        server.tell(f"GET /api/transcriptions/{seen.id}", *[(200, view(state="running"))] * 3)
        following = Following(farm, Stages(), headings=False)
        one = following.watch("a.wav", seen)
        for seconds_later in (0.0, 0.03, 5.0):
            now[0] += seconds_later
            one.looked_at = 0.0
            following.wake.set()
            following.step()
    assert slept == pytest.approx([0.0, GATHER_SECONDS - 0.03, 0.0])


def test_why_a_link_is_not_there_yet_is_said_once() -> None:
    display, why = Stages(), "example.com has no address."
    fetch = {
        "url": "https://example.com/a.mp3",
        "received_bytes": 0,
        "tries": 1,
        "error": why,
        "next_at": 5,
        "last_try_at": 95,
    }
    seen = TranscriptionView.model_validate_json(view(state="fetching", fetch=fetch))
    with FakeServer() as server, FarmClient(server.address, "secret", timeout=5) as farm:
        server.tell(f"GET /api/transcriptions/{seen.id}", (200, view(state="fetching", fetch=fetch | {"tries": 2})))
        following = Following(farm, display, headings=False, warns=False)
        following.watch("https://example.com/a.mp3", seen)
        assert following.step() == []
    assert display.notes == [f"https://example.com/a.mp3: {why} It is tried again."]
    assert display.told[-1] == f"https://example.com/a.mp3: fetched again at {hour(5)}, given up after {hour(95)}"


def test_what_somebody_deletes_meanwhile_has_ended_and_the_others_go_on() -> None:
    display = Stages()
    gone, there = (TranscriptionView.model_validate_json(view(state="running", id=one)) for one in ("aaaa", "bbbb"))
    missing = error("not_found", "There is no transcription aaaa.")
    with FakeServer() as server, FarmClient(server.address, "secret", timeout=5) as farm:
        server.tell(f"GET /api/transcriptions/{gone.id}", (404, missing))
        server.tell(f"GET /api/transcriptions/{there.id}", (200, view(state="running", id=there.id)))
        following = Following(farm, display, headings=False)
        following.watch("a.wav", gone), following.watch("b.wav", there)
        (ended,) = following.step()
    assert (ended.name, ended.view.state, ended.view.error) == (
        "a.wav",
        "cancelled",
        {"code": "not_found", "message": "There is no transcription aaaa."},
    )
    assert [one.name for one in following.active] == ["b.wav"]
