"""The commands that talk to a running farm, against one: a real server on loopback, a real worker, real children."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.fake_server import FakeServer, view
from support.talks import Recorder

from whisper_farm.cli import progress
from whisper_farm.cli.main import outcome
from whisper_farm.cli.progress import Display
from whisper_farm.coordinator.server import open_stores
from whisper_farm.farm import FarmThread
from whisper_farm.settings import Policy, ServerSettings, WorkerSettings
from whisper_farm.worker.local import LocalWorker

INSTANT = ("--engine", "tones", "--model", "instant")
Captured = pytest.CaptureFixture[str]


@dataclass
class Server:
    """A running server, whose admin's token is where the commands look for it."""

    farm: FarmThread
    data: Path

    @property
    def address(self) -> str:
        return self.farm.address

    @property
    def token(self) -> str:
        return (self.data / "admin-token").read_text().strip()

    def worker(self) -> LocalWorker:
        worker = LocalWorker(self.farm.loop, WorkerSettings(engines=("tones",), slots=2, name="hand"))
        worker.work_for(self.address, self.token)
        return worker


@pytest.fixture
def server(own_data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    settings = ServerSettings(port=0, data=own_data_folder)
    with open_stores(settings) as stores, FarmThread(settings, Policy(), *stores) as farm:
        monkeypatch.setenv("WHISPER_FARM_SERVER", farm.address)
        yield Server(farm, own_data_folder)
        farm.check()


@pytest.fixture
def worker(server: Server) -> Iterator[LocalWorker]:
    worker = server.worker()
    yield worker
    assert worker.ending() is None
    worker.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no uvloop for Windows")
def test_a_served_farm_runs_on_the_fast_event_loop(server: Server) -> None:
    """For days only the farms of the tests did, and nobody noticed but a benchmark."""

    async def name() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert server.farm.loop.run(name()) == "uvloop"


def said(capsys: Captured, *words: str, code: int = 0) -> str:
    """What a command printed; it must have ended with this exit code."""
    capsys.readouterr()
    assert outcome(list(words)) == code, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.usefixtures("worker")
def test_a_recording_is_submitted_followed_fetched_and_deleted(record: Recorder, capsys: Captured) -> None:
    talk = record("das Gespräch.wav")
    one = said(capsys, "submit", "das Gespräch.wav", "--quiet", *INSTANT).strip()
    assert " ".join(line.partition("]  ")[2] for line in said(capsys, "follow", one).splitlines()) == talk.text
    assert said(capsys, "get", one).split() == talk.text.split()
    assert said(capsys, "get", one, "-f", "srt").startswith("1\n00:00:00,")
    assert said(capsys, "search", talk.text.split()[0]).startswith(f"{one}  0:0")
    assert said(capsys, "search", "nobody", "said", "that") == ""
    assert "das Gespräch.srt, .txt" in said(capsys, "get", one, "-o", "out", "-f", "srt,txt")
    assert Path("out/das Gespräch.txt").read_text(encoding="utf-8").split() == talk.text.split()
    rows = said(capsys, "list").splitlines()
    assert rows[0].split() == ["ID", "STATE", "DONE", "SUBMITTED", "NAME"]
    assert rows[1].startswith(f"{one}  done")
    assert rows[1].endswith("das Gespräch.wav")
    assert json.loads(said(capsys, "list", "--state", "done", "--json"))["id"] == one
    assert said(capsys, "list", "--state", "failed") == ""
    assert "state      done, 0:25, 1 of 1 chunks" in said(capsys, "status", one)
    assert said(capsys, "delete", one) == f"{one}  deleted\n"
    assert outcome(["status", one]) == 1
    assert f"There is no transcription {one}" in capsys.readouterr().err


@pytest.mark.usefixtures("worker")
def test_transcribe_sends_its_recordings_to_a_farm_and_never_twice(
    record: Recorder, capsys: Captured, server: Server
) -> None:
    talks = [record("a.wav"), record("b.wav")]
    Path("c.wav").write_bytes(b"no sound at all" * 100)
    words = ("transcribe", "a.wav", "b.wav", "c.wav", "-f", "txt", "--server", server.address, *INSTANT)
    assert outcome(list(words)) == 1
    out, err = capsys.readouterr()
    assert [Path(f"{name}.txt").read_text().split() for name in "ab"] == [talk.text.split() for talk in talks]
    assert " ".join(line.partition("]  ")[2] for line in out.splitlines() if "]" in line) == " ".join(
        talk.text for talk in talks
    )
    assert "a.wav: 25 s in " in err
    assert ", 1 worker → a.txt" in err
    assert sum("c.wav" in line for line in err.splitlines() if line.startswith("whisper-farm:")) == 1
    uploads = len(list((server.data / "blobs" / "sources").rglob("*")))
    assert uploads
    assert outcome([*words[:3], *words[4:]]) == 0
    assert capsys.readouterr().err.count("transcribed before") == 2
    assert len(list((server.data / "blobs" / "sources").rglob("*"))) == uploads


@pytest.mark.usefixtures("worker")
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text, and longer")
def test_names_that_are_no_text_or_very_long_are_sent_and_got(
    record: Recorder, capsys: Captured, server: Server
) -> None:
    for number, name in enumerate((os.fsdecode(b"Gespr\xe4ch.wav"), "日" * 83 + ".wav", "two\nlines.wav")):
        talk = record("talk.wav", 4 + number)
        talk.path.rename(name)
        assert outcome(["transcribe", name, "-f", "txt", "--server", server.address, *INSTANT]) == 0
    ids = said(capsys, "list").split()
    ids = [word for word in ids if re.fullmatch("[a-z2-7]{12}", word)]
    assert len(ids) == 3
    written = said(capsys, "get", *ids, "-f", "whisperx-json,podcast-srt", "-o", "out")
    assert written.count(".whisperx.json, .podcast.srt\n") == written.count("\n") == 3


@pytest.mark.usefixtures("server")
def test_while_a_recording_is_sent_that_is_shown(record: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    size = record("a.wav").path.stat().st_size
    display = Display()
    seen: list[tuple[str, str, float, float | None]] = []
    monkeypatch.setattr(
        display, "_changed", lambda shown: seen.append((shown.name, shown.stage, shown.done, shown.total))
    )
    monkeypatch.setattr(progress, "open_display", lambda quiet, verbose: display)
    assert outcome(["submit", "a.wav", *INSTANT]) == 0
    assert seen[-1] == ("a.wav", "sending", size, size)
    assert display.shown == {}


@pytest.mark.usefixtures("worker")
def test_what_is_piped_can_be_submitted(record: Recorder, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = record("talk.wav", 24)
    with talk.path.open("rb") as standard_input:
        monkeypatch.setattr("sys.stdin", standard_input)
        one, name = said(capsys, "submit", "-", *INSTANT).split()
    assert name == "stdin"
    said(capsys, "follow", one)
    assert said(capsys, "get", one).split() == talk.text.split()


def test_a_list_of_one_state_is_made_by_the_server(capsys: Captured) -> None:
    with FakeServer() as server:
        server.tell("GET /api/transcriptions", (200, b'{"transcriptions": [' + view(state="failed") + b"]}"))
        text = said(capsys, "list", "--state", "failed", "--server", server.address, "--token", "x")
    assert "3k7qz2m9xw4a  failed" in text
    assert [asked.path for asked in server.asked] == ["/api/transcriptions?state=failed"]


def test_a_list_says_why_a_transcript_is_not_whole(capsys: Captured) -> None:
    gaps = [{"start_seconds": 60, "end_seconds": 90, "reason": "engine_error: no"}]
    with FakeServer() as server:
        server.tell(
            "GET /api/transcriptions", (200, b'{"transcriptions": [' + view(state="incomplete", gaps=gaps) + b"]}")
        )
        text = said(capsys, "list", "--server", server.address, "--token", "x")
    assert "(1:00–1:30 is missing (engine_error: no))" in text


def test_a_farm_that_takes_nothing_is_one_line_however_many_recordings(
    record: Recorder, capsys: Captured, server: Server
) -> None:
    for name in ("a.wav", "b.wav"):
        record(name, 4)
    for where, reason in (
        (("--token", "wf_user_nonsense"), "This token is not known here, or was revoked."),
        (("--server", "http://127.0.0.1:9", "--token", "x"), "The farm at http://127.0.0.1:9 does not answer"),
    ):
        assert outcome(["submit", "a.wav", "b.wav", *where, *INSTANT]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"whisper-farm: {reason}")


@pytest.mark.usefixtures("server")
def test_without_a_worker_a_submission_waits_and_can_be_cancelled_and_retried(
    record: Recorder, capsys: Captured
) -> None:
    record("a.wav")
    one = said(capsys, "submit", "a.wav", "--quiet", *INSTANT).strip()
    assert "warning    No worker is there" in said(capsys, "status", one)
    assert said(capsys, "cancel", one) == f"{one}  cancelled\n"
    assert said(capsys, "follow", one, code=1) == ""
    assert said(capsys, "retry", one) == f"{one}  queued\n"
    assert outcome(["retry", one]) == 1
    assert "a.wav is queued; only what failed, is incomplete or was cancelled can be" in capsys.readouterr().err
    assert said(capsys, "delete", one, "nonsense", code=1) == ""


@pytest.mark.usefixtures("worker")
def test_what_could_only_fail_again_is_left_out_unless_its_job_is_named(record: Recorder, capsys: Captured) -> None:
    Path("broken.wav").write_bytes(b"no sound at all" * 100)
    record("talk.wav")
    broken = said(capsys, "submit", "broken.wav", "--quiet", *INSTANT).strip()
    said(capsys, "follow", broken, code=1)
    waiting = said(capsys, "submit", "talk.wav", "--quiet", "--engine", "tones", "--model", "nobody-has-it").strip()
    said(capsys, "cancel", waiting)
    assert outcome(["retry", broken, waiting]) == 1
    out, err = capsys.readouterr()
    assert [row.partition(" ")[0] for row in out.splitlines()] == [waiting]
    (line,) = err.splitlines()
    assert line.startswith(f"whisper-farm: {broken}: broken.wav: it is no audio or video file")
    assert line.endswith("; there is nothing to try again.")
    assert said(capsys, "retry", f"{broken}.c").startswith(f"{broken}.c  ")


def test_the_farm_and_its_workers_are_described(capsys: Captured, server: Server, worker: LocalWorker) -> None:
    while "hand" not in (text := said(capsys, "status")):
        pass
    assert "you are admin (admin)" in text
    assert "tones on cpu" in text
    assert said(capsys, "doctor").rstrip().endswith(" as admin (admin), 1 live worker")


def test_tokens_open_what_they_are_for_and_nothing_after_they_are_revoked(capsys: Captured, server: Server) -> None:
    secret = said(capsys, "token", "create", "ada").strip()
    assert secret.startswith("wf_user_")
    row = next(line for line in said(capsys, "token", "list").splitlines() if line.endswith("ada"))
    assert row.split()[1:3] == ["user", "ada"]
    assert secret not in row
    assert said(capsys, "list", "--token", secret) == ""
    assert outcome(["token", "create", "bob", "--scope", "worker", "--token", secret]) == 1
    said(capsys, "token", "revoke", row.split()[0])
    assert outcome(["list", "--token", secret]) == 1
    assert "not known here, or was revoked" in capsys.readouterr().err


def test_the_hours_of_a_worker_are_changed_by_its_name(capsys: Captured, server: Server, worker: LocalWorker) -> None:
    while "hand" not in said(capsys, "status"):
        pass
    assert said(capsys, "hours", "hand", "00:00-24:00") == "hand  00:00-24:00\n"
    assert said(capsys, "hours", "hand", "always") == "hand  at any time\n"
    assert said(capsys, "hours", "hand", "own") == "hand  at any time\n"
    assert outcome(["hours", "nobody", "always"]) == 1
    assert "There is no worker nobody" in capsys.readouterr().err
    assert outcome(["hours", "hand", "late"]) == 2
    assert "'late' is neither" in capsys.readouterr().err


def test_limits_are_shown_and_changed(capsys: Captured, server: Server) -> None:
    def limit(name: str, *change: str) -> list[str]:
        return next(line.split() for line in said(capsys, "limits", *change).splitlines() if line.startswith(name))

    assert limit("retention_days") == ["retention_days", "none", "none"]
    assert limit("retention_days", "retention_days=30", "max_workers=5") == ["retention_days", "30", "none"]
    assert limit("max_workers") == ["max_workers", "5", "1000"]
    assert limit("max_workers", "max_workers=", "retention_days=none") == ["max_workers", "1000", "1000"]
    assert limit("retention_days") == ["retention_days", "none", "none"]
    assert limit("max_stored_bytes", "max_stored_bytes=536870912")[-2:] == ["0.5", "GiB"], "as people count it"
    assert limit("max_waiting_seconds")[-2:] == ["1000", "h"]
    for wrong in ("max_upload_bytes=1", "max_workers", "max_workers=many", "max_workers=none"):
        assert outcome(["limits", wrong]) == 2
        assert wrong.partition("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize("command", ["status", "follow", "get"])
@pytest.mark.parametrize("word", ["", "..", "a/b"])
@pytest.mark.usefixtures("own_data_folder")
def test_what_is_no_id_is_not_looked_up_as_something_else(command: str, word: str, capsys: Captured) -> None:
    assert outcome([command, word, "--token", "x"]) == 1
    assert capsys.readouterr().err == f"whisper-farm: '{word}' is no id; `list` shows the ids there are.\n"


def test_a_wrong_id_among_tokens_keeps_no_other_from_being_revoked(capsys: Captured, server: Server) -> None:
    secret = said(capsys, "token", "create", "ada").strip()
    row = next(line for line in said(capsys, "token", "list").splitlines() if line.endswith("ada"))
    one = row.split()[0]
    assert outcome(["token", "revoke", "nonsense", "..", one]) == 1
    out, err = capsys.readouterr()
    assert out == f"{one}  revoked\n"
    assert err.splitlines() == [
        "whisper-farm: There is no token nonsense.",
        "whisper-farm: '..' is no id; `list` shows the ids there are.",
    ]
    assert outcome(["list", "--token", secret]) == 1


def test_doctor_greets_the_server_that_was_named(capsys: Captured, server: Server) -> None:
    text = said(capsys, "doctor")
    assert "– command: The engine command needs WHISPER_COMMAND" in text
    assert f"✓ server: {server.address}, version " in text


def test_doctor_knows_a_workers_token_from_a_server_that_is_broken(capsys: Captured, server: Server) -> None:
    secret = said(capsys, "token", "create", "machines", "--scope", "worker").strip()
    text = said(capsys, "doctor", "--server", server.address, "--token", secret)
    assert f"✓ server: {server.address} answers; this token is for workers" in text
    text = said(capsys, "doctor", "--server", server.address, "--token", "wf_user_nonsense", code=1)
    assert "✗ server: This token is not known here, or was revoked." in text
    assert "→ give its token with --token" in text
    assert "whisper-farm serve`" not in text


def test_a_user_sees_how_the_farm_is_without_its_workers(capsys: Captured, server: Server, worker: LocalWorker) -> None:
    secret = said(capsys, "token", "create", "ada").strip()
    text = said(capsys, "status", "--token", secret)
    assert "you are ada (user)" in text
    assert "hand" not in text
    assert json.loads(said(capsys, "status", "--json", "--token", secret))["scope"] == "user"


def test_doctor_says_what_is_broken_and_what_to_do(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHISPER_FARM_TOKEN", "x")
    text = said(capsys, "doctor", "--server", "http://127.0.0.1:9", code=1)
    assert "✗ server: The farm at http://127.0.0.1:9 does not answer" in text
    assert "→ start it with `whisper-farm serve`" in text
    for name in ("faster-whisper", "audio", "disk", "data folder", "processor"):
        assert f"✓ {name}: " in text


def test_without_a_token_the_way_to_one_is_said(capsys: Captured) -> None:
    assert outcome(["list", "--server", "http://farm.example:8765"]) == 1
    assert "A token is needed for http://farm.example:8765: give --token" in capsys.readouterr().err


def test_the_admin_token_of_this_machine_is_not_sent_elsewhere(capsys: Captured, own_data_folder: Path) -> None:
    (own_data_folder / "admin-token").write_text("secret\n")
    assert outcome(["list", "--server", "http://farm.example:8765"]) == 1
    assert "A token is needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("token", "create", ""), "name"),
        (("token", "create", "x" * 300), "name"),
        (("token", "create", "a", "--days", "nan"), "days"),
        (("token", "create", "a", "--days", "-1"), "days"),
        (("webhook", "add", ""), "url"),
        (("webhook", "add", f"https://example.com/{'x' * 3000}"), "url"),
        (("feed", "add", "https://example.com/feed", "--title", "x" * 300), "words"),
    ],
)
def test_what_no_message_can_hold_is_one_line(words: tuple[str, ...], field: str, capsys: Captured) -> None:
    assert outcome([*words, "--server", "http://127.0.0.1:9", "--token", "secret"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"whisper-farm: {field}: ")
    assert "pydantic" not in line


def test_several_transcripts_need_a_folder(capsys: Captured) -> None:
    assert outcome(["get", "one", "two"]) == 2
    assert "give -o FOLDER" in capsys.readouterr().err


def test_a_database_is_brought_to_the_tables_of_this_release(capsys: Captured, own_data_folder: Path) -> None:
    assert "farm.db has the tables of this release." in said(capsys, "db", "upgrade", "--data", str(own_data_folder))
    place = f"sqlite:///{own_data_folder / 'other.db'}"
    assert "other.db has the tables of this release." in said(capsys, "db", "upgrade", "--database", place)
    assert outcome(["db", "upgrade", "--database", "mysql://x/y"]) == 1
    assert "whisper-farm: A database is sqlite:///PATH or postgresql://" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "value", "words", "line"),
    [
        ("PORT", "many", ["db", "upgrade"], "The setting port cannot be 'many': "),
        ("LEASE_SECONDS", "abc", ["serve"], "The setting lease_seconds cannot be 'abc': "),
        ("LEASE_SECONDS", "abc", ["transcribe", "a.wav", *INSTANT], "The setting lease_seconds cannot be 'abc': "),
        (
            "WORKER_ENGINES",
            "tones, whisper",
            ["worker", "--token", "x"],
            "The setting engines cannot be 'tones, whisper': it is a list and wants JSON, "
            """as in WHISPER_FARM_WORKER_ENGINES='["tones", "whisper"]'.""",
        ),
        ("WORKER_MODELS", "tiny", ["worker", "--token", "x"], "is a list and wants JSON"),
        ("WORKER_HOURS", "22-7", ["worker", "--token", "x"], "cannot be '22-7': it is written as 22:00-07:00."),
        (
            "WORKER_DEVICE",
            "gpu",
            ["worker", "--token", "x"],
            "'gpu': Input should be 'auto', 'cpu' or 'cuda'.",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(
    variable: str,
    value: str,
    words: list[str],
    line: str,
    record: Recorder,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record("a.wav")
    monkeypatch.setenv(f"WHISPER_FARM_{variable}", value)
    assert outcome(words) == 1
    err = capsys.readouterr().err
    assert err.startswith("whisper-farm: The setting ")
    assert line in err
    assert err.count("\n") == 1
