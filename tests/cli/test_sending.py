"""Recordings are handed over once, taken up where they stopped, and known by what is in them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from support.fake_server import FakeServer, error, view

from whisper_farm.cli import sending
from whisper_farm.cli.files import Recording
from whisper_farm.cli.local_sending import LocalSender
from whisper_farm.cli.notices import Notices
from whisper_farm.cli.progress import Display, Shown
from whisper_farm.cli.sending import Sender, TranscriptionRequest, fingerprint_of
from whisper_farm.client.farm import FarmClient
from whisper_farm.errors import SourceEmpty, SourceMissing, SourceUnreadable
from whisper_farm.farm import LocalFarm
from whisper_farm.transcript.options import RecognitionOptions

ONE = "/api/transcriptions/3k7qz2m9xw4a"
REQUEST = TranscriptionRequest(RecognitionOptions(), 30)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def farm(server: FakeServer) -> Iterator[FarmClient]:
    with FarmClient(server.address, "secret", timeout=5) as farm:
        yield farm


@pytest.fixture
def talk(tmp_path: Path) -> Recording:
    file = tmp_path / "talk.mp3"
    file.write_bytes(b"sound" * 500_000)
    return Recording(file, "talk")


def elsewhere(farm: FarmClient) -> Sender:
    return Sender(farm, REQUEST, threading.Event())


def here(farm: FarmClient) -> Sender:
    local = cast(LocalFarm, SimpleNamespace(client=farm, point_to=lambda transcription_id, path: None))
    return LocalSender(local, REQUEST, threading.Event(), Notices(Display()))


def send(farm: FarmClient, talk: Recording) -> str:
    return here(farm).send(talk, 3, Display()).state


class Seen(Display):
    """Remembers every stage, and how much of how much was shown in it."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: list[tuple[str, str]] = []

    def _changed(self, shown: Shown) -> None:
        self.stages.append((shown.stage, shown.figures()[0]))


def calls(server: FakeServer) -> list[str]:
    return [f"{asked.method} {asked.path}" for asked in server.asked]


def test_a_recording_is_submitted_by_its_path_under_the_digest_of_its_bytes(
    server: FakeServer, farm: FarmClient, talk: Recording
) -> None:
    server.tell("POST /api/transcriptions", (201, view()))
    assert send(farm, talk) == "queued"
    submission = json.loads(server.asked[0].body)
    assert submission["path"] == str(talk.path.resolve())
    assert submission["sha256"] == fingerprint_of(talk.path, threading.Event()).sha256
    assert submission["key"] == REQUEST.key(submission["sha256"])
    assert submission["priority"] == -3


def test_the_key_depends_on_the_sound_and_on_everything_asked_for() -> None:
    asked = [
        REQUEST.key("a" * 64),
        REQUEST.key("b" * 64),
        TranscriptionRequest(RecognitionOptions(model="tiny"), 30).key("a" * 64),
        TranscriptionRequest(RecognitionOptions(language="en"), 30).key("a" * 64),
        TranscriptionRequest(RecognitionOptions(), 15).key("a" * 64),
        TranscriptionRequest(RecognitionOptions(), 30, "float32").key("a" * 64),
    ]
    assert len(set(asked)) == len(asked)
    assert asked[0] == TranscriptionRequest(RecognitionOptions(), 30).key("a" * 64)


@pytest.mark.parametrize("state", ["queued", "running", "assembling", "done"])
def test_what_is_under_way_or_done_is_left_alone(
    server: FakeServer, farm: FarmClient, talk: Recording, state: str
) -> None:
    server.tell("POST /api/transcriptions", (200, view(state=state)))
    assert send(farm, talk) == state
    assert calls(server) == ["POST /api/transcriptions"]


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "cancelled"},
        {"state": "incomplete", "mendable": True},
    ],
)
def test_what_was_stopped_or_set_aside_is_tried_again(
    server: FakeServer, farm: FarmClient, talk: Recording, fields: dict[str, object]
) -> None:
    server.tell("POST /api/transcriptions", (200, view(**fields)))
    server.tell(f"POST {ONE}/retry", (200, view(state="running")))
    assert send(farm, talk) == "running"


def test_the_end_that_a_cut_off_file_lacks_is_not_tried_again(
    server: FakeServer, farm: FarmClient, talk: Recording
) -> None:
    server.tell("POST /api/transcriptions", (200, view(state="incomplete")))
    assert send(farm, talk) == "incomplete"
    assert calls(server) == ["POST /api/transcriptions"]


def test_what_failed_altogether_is_begun_anew(server: FakeServer, farm: FarmClient, talk: Recording) -> None:
    server.tell("POST /api/transcriptions", (200, view(state="failed")), (201, view()))
    server.tell(f"DELETE {ONE}", (204, b""))
    assert send(farm, talk) == "queued"
    assert calls(server) == ["POST /api/transcriptions", f"DELETE {ONE}", "POST /api/transcriptions"]


@pytest.mark.parametrize("kind", [here, elsewhere])
def test_a_copy_in_the_same_run_shares_what_became_of_the_first(
    server: FakeServer, farm: FarmClient, talk: Recording, kind: Callable[[FarmClient], Sender]
) -> None:
    copy = Recording(talk.path.with_name("copy.mp3"), "copy")
    copy.path.write_bytes(talk.path.read_bytes())
    server.tell("POST /api/transcriptions", (201, view()), (200, view(state="failed")))
    sender = kind(farm)
    assert [sender.send(one, 0, Display()).state for one in (talk, copy)] == ["queued", "failed"]
    assert calls(server) == ["POST /api/transcriptions"] * 2


def test_two_commands_that_begin_anew_at_once_do_not_hinder_each_other(
    server: FakeServer, farm: FarmClient, talk: Recording
) -> None:
    server.tell("POST /api/transcriptions", (200, view(state="failed")), (200, view(state="running")))
    server.tell(f"DELETE {ONE}", (404, error("not_found", "Gone.")))
    assert send(farm, talk) == "running"


def test_a_farm_that_has_the_recording_is_not_sent_it_again(
    server: FakeServer, farm: FarmClient, talk: Recording
) -> None:
    server.tell("POST /api/transcriptions", (200, view(state="done")))
    sent = elsewhere(farm).send(talk, 0, Display())
    assert sent.state == "done"
    assert calls(server) == ["POST /api/transcriptions"]


def test_a_farm_that_has_it_not_is_sent_the_recording(server: FakeServer, farm: FarmClient, talk: Recording) -> None:
    transfer = {"url": "/api/uploads/u1", "method": "PATCH"}
    server.tell("POST /api/transcriptions", (422, error("invalid_request", "No upload.")), (201, view()))
    server.tell("POST /api/uploads", (201, json.dumps({"upload_id": "u1", "transfer": transfer}).encode()))
    size = talk.path.stat().st_size
    server.tell("PATCH /api/uploads/u1", (200, json.dumps({"received_bytes": size}).encode()))
    display = Seen()
    elsewhere(farm).send(talk, 0, display)
    assert server.asked[2].body == talk.path.read_bytes()
    assert display.stages[0] == ("reading", "0:00 / ?")
    assert display.stages[-1] == ("sending", "2.5 / 2.5 MB")


@pytest.mark.parametrize("kind", [here, elsewhere])
def test_what_takes_its_time_to_be_read_is_shown_in_bytes(
    server: FakeServer,
    farm: FarmClient,
    talk: Recording,
    kind: Callable[[FarmClient], Sender],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.tell("POST /api/transcriptions", (201, view()))
    monkeypatch.setattr(sending, "NOTICED_SECONDS", 0)
    display = Seen()
    kind(farm).send(talk, 0, display)
    assert display.stages == [
        ("reading", "0:00 / ?"),
        ("reading", "1.0 / 2.5 MB"),
        ("reading", "2.1 / 2.5 MB"),
        ("reading", "2.5 / 2.5 MB"),
    ]


def test_what_is_read_at_once_needs_no_figures(
    server: FakeServer, farm: FarmClient, talk: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.tell("POST /api/transcriptions", (201, view()))
    monkeypatch.setattr(sending, "NOTICED_SECONDS", 3600)
    display = Seen()
    here(farm).send(talk, 0, display)
    assert display.stages == [("reading", "0:00 / ?")]


def test_a_file_that_cannot_be_read_is_the_error_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name, kind in (("gone", SourceMissing), ("empty", SourceEmpty), (".", SourceUnreadable)):
        with pytest.raises(kind):
            fingerprint_of(tmp_path / name, threading.Event())
