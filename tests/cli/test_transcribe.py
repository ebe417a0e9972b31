"""One command turns recordings into transcripts: through the real queue, protocol, worker and child processes."""

from __future__ import annotations

import json
import random
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.local_farms import local_farm
from support.talks import Recorder
from support.tone_audio import tone_speech, tone_words

from whisper_farm.audio.flac import encode
from whisper_farm.audio.sound import Waveform
from whisper_farm.cli import files, sending
from whisper_farm.cli.files import Outputs
from whisper_farm.cli.main import outcome

TONES = ("--engine", "tones", "--model", "instant", "--slots", "2")
Captured = pytest.CaptureFixture[str]


def transcribe(*words: str) -> int:
    return outcome(["transcribe", *words])


def text_of(file: Path) -> str:
    return " ".join(file.read_text(encoding="utf-8").split())


def test_a_recording_becomes_a_transcript_on_the_screen_and_in_files(record: Recorder, capsys: Captured) -> None:
    talk = record("talk.wav", 150)
    assert transcribe("talk.wav", "-o", "out", *TONES) == 0
    out, err = capsys.readouterr()
    assert " ".join(line.partition("]  ")[2] for line in out.splitlines()) == talk.text
    assert out.startswith("[00:00.")
    assert "talk.wav: 1 min 3 s in " in err
    assert "× real time, 1 worker with 2 slots" in err
    assert "→ out/talk.txt, .srt, .vtt, .tsv, .json" in err
    assert text_of(Path("out/talk.txt")) == talk.text
    assert sorted(file.name for file in Path("out").iterdir()) == [
        f"talk.{format}" for format in ("json", "srt", "tsv", "txt", "vtt")
    ]
    document = json.loads(Path("out/talk.json").read_text(encoding="utf-8"))
    assert document["engine"] == "tones"
    assert document["coverage"]["complete"]


def test_the_same_command_again_writes_the_outputs_anew_without_recognising_anything(
    record: Recorder, capsys: Captured, own_data_folder: Path
) -> None:
    talk = record("talk.wav")
    assert transcribe("talk.wav", "-f", "txt", *TONES) == 0
    Path("talk.txt").unlink()
    before = attempts(own_data_folder)
    talk.path.rename("moved.wav")
    capsys.readouterr()
    assert transcribe("moved.wav", "-f", "txt", *TONES) == 0
    out, err = capsys.readouterr()
    assert text_of(Path("moved.txt")) == talk.text
    assert "transcribed before" in err
    assert len(out.splitlines()) > 1
    assert attempts(own_data_folder) == before


def test_a_bad_file_gets_one_line_and_the_others_go_on(record: Recorder, capsys: Captured) -> None:
    good = record("good.wav")
    Path("notes.mp3").write_text("this is no audio at all, whatever it is called\n" * 50)
    Path("empty.wav").touch()
    assert transcribe("notes.mp3", "good.wav", "empty.wav", "gone.wav", "-f", "txt", *TONES) == 1
    err = capsys.readouterr().err
    lines = err.splitlines()
    for name in ("notes.mp3", "empty.wav", "gone.wav"):
        assert [line for line in lines if name in line and line.startswith(f"whisper-farm: {name}: ")] != []
    assert sum(line.startswith("good.wav: ") for line in lines) == 1
    assert lines[-1].startswith("1 of 4 recordings transcribed")
    assert len(lines) == 5
    assert text_of(Path("good.txt")) == good.text
    assert sorted(file.name for file in Path().glob("*.txt")) == ["good.txt"]


def test_two_bad_files_with_the_same_bytes_get_a_line_each_that_names_that_file_only(
    record: Recorder, capsys: Captured
) -> None:
    for name in ("text.txt", "text.mp3"):
        Path(name).write_text("this is no audio at all, whatever it is called\n" * 50)
    assert transcribe("text.txt", "text.mp3", *TONES) == 1
    reason = "it is no audio or video file that FFmpeg's libraries can read"
    *lines, last = capsys.readouterr().err.splitlines()
    assert sorted(lines) == [f"whisper-farm: text.{kind}: {reason}" for kind in ("mp3", "txt")]
    assert last == "0 of 2 recordings transcribed."


def test_a_file_that_was_cut_off_gives_what_is_there_and_says_what_is_missing(
    record: Recorder, capsys: Captured
) -> None:
    talk = record("talk.wav", 150)
    whole = talk.path.read_bytes()
    talk.path.write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        assert transcribe("talk.wav", "-f", "txt", *TONES) == 1
        err = capsys.readouterr().err
        assert err.count("whisper-farm: talk.wav: the transcript is incomplete: 0:32–1:03 is missing") == 1
        assert len(text_of(Path("talk.txt")).split()) in range(70, 80)
        assert talk.text.startswith(text_of(Path("talk.txt")))


def test_speech_without_any_words_is_asked_to_be_heard_by_another_model(record: Recorder, capsys: Captured) -> None:
    record("talk.wav", ["mumble"] * 3)
    assert transcribe("talk.wav", "-f", "txt", *TONES) == 0
    assert re.search(
        r"of speech got no words, at 0:00.*; does this model know the language\?\n", capsys.readouterr().err
    )


def test_speech_that_got_no_words_is_named_and_fails_nothing(record: Recorder, capsys: Captured) -> None:
    record("talk.wav", [*tone_words(8), "mumble", *tone_words(8)])
    for _ in range(2):
        assert transcribe("talk.wav", "-f", "txt", "-f", "json", *TONES) == 0
        assert "talk.wav: 0.2 s of speech got no words, at 0:04\n" in capsys.readouterr().err
    assert "mumble" not in text_of(Path("talk.txt"))
    coverage = json.loads(Path("talk.json").read_text(encoding="utf-8"))["coverage"]
    (missing,) = coverage["missing"]
    assert missing["reason"] == "speech without words"
    assert missing["end"] - missing["start"] == pytest.approx(0.24, abs=0.02)
    assert not coverage["complete"]
    assert coverage["covered"] == pytest.approx(coverage["duration"] - 0.24, abs=0.02)


def test_a_recording_in_which_nobody_speaks_is_said_to_be_one(record: Recorder, capsys: Captured) -> None:
    record("talk.wav", [])
    assert transcribe("talk.wav", "-f", "txt", *TONES) == 0
    assert "talk.wav: no speech was found\n" in capsys.readouterr().err


def damaged_talk(share: float) -> list[tuple[str, float]]:
    """Writes `talk.flac` with random bytes over this share of its middle; returns its words and when they start."""
    speech = tone_speech(tone_words(150))
    sound = bytearray(encode(speech.audio))
    size, start = round(len(sound) * share), len(sound) // 2
    sound[start : start + size] = random.Random(1).randbytes(size)
    Path("talk.flac").write_bytes(sound)
    return [(word.text.strip(), word.start) for word in speech.words]


@contextmanager
def state_served(data: Path) -> Iterator[tuple[str, ...]]:
    """What names the one transcription of `transcribe`, and the farm it is on, to the commands for a running farm."""
    ((made,),) = query(data, "SELECT id FROM transcriptions")
    with local_farm(data / "transcribe") as farm:
        yield str(made), "--server", farm.client.address, "--token", farm.token


def test_damage_in_the_middle_of_a_file_is_named_as_missing_whenever_the_command_is_given(
    record: Recorder, capsys: Captured, own_data_folder: Path
) -> None:
    words = damaged_talk(1 / 6)
    for _ in range(2):
        assert transcribe("talk.flac", "-f", "txt,json", *TONES) == 1
        err = capsys.readouterr().err
        assert err.count("whisper-farm: talk.flac: the transcript is incomplete: 0:31–0:4") == 1
        assert err.count("of the file is damaged)") == 1
        coverage = json.loads(Path("talk.json").read_text(encoding="utf-8"))["coverage"]
        (gap,) = coverage["missing"]
        assert 9 < gap["end"] - gap["start"] < 12
        assert not coverage["complete"]
        assert coverage["covered"] == pytest.approx(coverage["duration"] - (gap["end"] - gap["start"]))
        heard = set(text_of(Path("talk.txt")).split())
        assert heard >= {word for word, start in words if start < gap["start"] - 1 or start > gap["end"] + 1}
        Path("talk.txt").unlink()
    with state_served(own_data_folder) as where:
        assert outcome(["status", *where]) == 0
        assert "missing    0:31–0:4" in capsys.readouterr().out
        assert outcome(["retry", *where]) == 1
        assert "there is nothing to try again" in capsys.readouterr().err


def test_damage_too_short_to_lose_words_is_told_in_a_line_and_fails_nothing(
    record: Recorder, capsys: Captured, own_data_folder: Path
) -> None:
    damaged_talk(1 / 200)
    assert transcribe("talk.flac", "-f", "json", *TONES) == 0
    err = capsys.readouterr().err
    assert err.count("of the file is damaged, for no longer than a second at a time") == 1
    coverage = json.loads(Path("talk.json").read_text(encoding="utf-8"))["coverage"]
    assert coverage["complete"]
    assert coverage["damaged_packets"] > 0
    with state_served(own_data_folder) as where:
        assert outcome(["status", *where]) == 0
        assert "damage     1 packet of the file is damaged" in capsys.readouterr().out
        assert outcome(["follow", *where]) == 0
        assert "1 packet of the file is damaged" in capsys.readouterr().err


def test_a_chunk_that_cannot_be_recognised_is_missing_from_a_transcript_that_says_so(
    record: Recorder, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHISPER_FARM_RETRY_BASE_SECONDS", "0.01")
    good = record("good.wav", 40)
    record("talk.wav", ["fail", *good.text.split()])
    flags = ("talk.wav", "-f", "txt", "--engine", "tones", "--model", "faulty", "--chunk_seconds", "10")
    assert transcribe(*flags) == 1
    err = capsys.readouterr().err
    assert "whisper-farm: talk.wav: the transcript is incomplete: 0:00–0:" in err
    assert "heard the word `fail`" in err
    said = text_of(Path("talk.txt"))
    assert said
    assert good.text.endswith(said)


def test_names_with_any_letters_go_through_and_existing_outputs_are_skipped_when_asked(
    record: Recorder, capsys: Captured
) -> None:
    names = ['it\'s "my" talk.wav', "Überträge ☕.wav", "講演 第1回.wav"]
    talks = [record(name) for name in names]
    record("old.wav")
    Path("выход").mkdir()
    for format in ("srt", "txt"):
        Path(f"выход/old.{format}").write_text("mine")
    assert transcribe("old.wav", *names, "-f", "srt", "txt", "-o", "выход", "--skip-existing", *TONES) == 0
    assert [text_of(Path("выход") / f"{Path(name).stem}.txt") for name in names] == [talk.text for talk in talks]
    assert text_of(Path("выход/old.txt")) == "mine"
    err = capsys.readouterr().err
    assert all(name in err for name in names)
    assert "old.wav: skipped, выход/old.srt, .txt is there" in err


def test_several_recordings_are_shown_one_after_another_and_never_share_a_file(
    record: Recorder, capsys: Captured
) -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
    talks = [record("a/talk.wav"), record("b/talk.wav"), record("b/other.wav")]
    assert transcribe(".", "-f", "txt", "-o", "out", *TONES) == 0
    out, err = capsys.readouterr()
    texts = {str(file): text_of(file) for file in Path("out").rglob("*.*")}
    assert texts == {
        f"out/{name}.txt": talk.text for name, talk in zip(["a/talk", "b/talk", "b/other"], talks, strict=True)
    }
    headings = [line for line in out.splitlines() if line.endswith(".wav:")]
    assert headings == ["a/talk.wav:", "b/other.wav:", "b/talk.wav:"]
    said = " ".join(line.partition("]  ")[2] for line in out.splitlines() if not line.endswith(".wav:"))
    assert said == " ".join([talks[0].text, talks[2].text, talks[1].text])
    assert "3 of 3 recordings transcribed, " in err


def test_work_begins_with_the_first_recording_while_the_next_one_is_still_being_read(
    record: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    talks = [record("a.wav"), record("b.wav")]
    first_is_there = threading.Event()
    read, write = sending.fingerprint_of, Outputs.write

    def read_late(path: Path, *more: Any) -> sending.Fingerprint:
        assert path.name == "a.wav" or first_is_there.wait(60)
        return read(path, *more)

    def write_and_tell(*given: Any) -> list[Path]:
        files = write(*given)
        first_is_there.set()
        return files

    monkeypatch.setattr(sending, "fingerprint_of", read_late)
    monkeypatch.setattr(Outputs, "write", write_and_tell)
    assert transcribe("a.wav", "b.wav", "-f", "txt", *TONES) == 0
    assert [text_of(Path(f"{name}.txt")) for name in "ab"] == [talk.text for talk in talks]


def test_a_recording_that_waits_for_others_is_not_called_slow_and_the_last_line_counts_everything(
    record: Recorder, capsys: Captured
) -> None:
    for name in ("a.wav", "b.wav", "c.wav"):
        record(name, 100)
    assert transcribe(".", "-f", "txt", "--engine", "tones", "--model", "x20", "--slots", "1") == 0
    err = capsys.readouterr().err
    each = [float(seconds) for seconds in re.findall(r"wav: 42 s in ([\d.]+) s, ", err)]
    total = re.search(r"3 of 3 recordings transcribed, 2 min [67] s in ([\d.]+) s, [\d.]+ × real time\.", err)
    assert len(each) == 3
    assert total is not None
    assert sum(each) < 1.5 * float(total[1]), "with what they waited it would be twice as long"


def test_the_last_line_says_how_many_were_skipped(record: Recorder, capsys: Captured) -> None:
    for name in ("a.wav", "b.wav"):
        record(name)
        Path(name).with_suffix(".txt").write_text("mine")
    assert transcribe(".", "-f", "txt", "--skip_existing", *TONES) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "0 of 2 recordings transcribed, 2 skipped."


def test_quiet_says_nothing_and_audio_that_nobody_needs_any_more_is_cleared_away(
    record: Recorder, capsys: Captured, own_data_folder: Path
) -> None:
    record("talk.wav", 150)
    assert transcribe("talk.wav", "--quiet", *TONES) == 0
    assert capsys.readouterr() == ("", "")
    stored = [file.stat().st_size for file in (own_data_folder / "transcribe" / "blobs").rglob("*") if file.is_file()]
    assert stored
    assert sum(stored) < 50_000


def test_a_model_that_cannot_be_had_is_one_line_and_ends_the_run(record: Recorder, capsys: Captured) -> None:
    record("talk.wav")
    assert transcribe("talk.wav", "--engine", "tones", "--model", "gigantic") == 1
    err = capsys.readouterr().err
    assert "The engine tones has no model 'gigantic'" in err
    assert "Traceback" not in err


def test_an_output_folder_that_cannot_be_is_said_before_any_work(record: Recorder, capsys: Captured) -> None:
    record("talk.wav")
    Path("out").touch()
    assert transcribe("talk.wav", "-o", "out", *TONES) == 1
    assert "out: cannot be used as output folder" in capsys.readouterr().err


def test_an_output_folder_that_takes_no_files_is_said_before_any_work(
    record: Recorder, capsys: Captured, monkeypatch: pytest.MonkeyPatch, own_data_folder: Path
) -> None:
    record("talk.wav")

    def refuse(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files, "NamedTemporaryFile", refuse)
    assert transcribe("talk.wav", "-o", "out", *TONES) == 1
    line = "whisper-farm: out: cannot be used as output folder (Read-only file system); give another with -o.\n"
    assert capsys.readouterr().err == line
    assert list(own_data_folder.iterdir()) == []


def test_nothing_is_left_in_an_output_folder_that_was_tried(tmp_path: Path) -> None:
    Outputs.into(str(tmp_path / "out"), ("txt",))
    assert list((tmp_path / "out").iterdir()) == []


def attempts(data: Path) -> list[tuple[object, ...]]:
    return query(data, "SELECT token, state FROM attempts ORDER BY token")


def query(data: Path, statement: str) -> list[tuple[object, ...]]:
    database = sqlite3.connect(data / "transcribe" / "farm.db")
    try:
        return database.execute(statement).fetchall()
    finally:
        database.close()


def stereo_file(name: str, left: Waveform, right: Waveform) -> None:
    """A call with a party on each channel."""
    length = max(len(left), len(right))
    sides = [np.pad(side, (0, length - len(side))) for side in (left, right)]
    Path(name).write_bytes(encode(np.stack(sides, axis=1)))


def test_two_parties_on_two_channels_come_out_as_speakers_in_order_of_time(record: Recorder, capsys: Captured) -> None:
    left, right = tone_speech(tone_words(150)), tone_speech(tone_words(150, first=200), lead=0.4)
    stereo_file("call.flac", left.audio, right.audio)
    assert transcribe("call.flac", "--channel", "each", "-f", "json,vtt,txt", *TONES) == 0
    segments = json.loads(Path("call.json").read_text(encoding="utf-8"))["segments"]
    for speaker, said in (("Left", left), ("Right", right)):
        assert "".join(one["text"] for one in segments if one["speaker"] == speaker).split() == said.text.split()
    assert [one["start"] for one in segments] == sorted(one["start"] for one in segments)
    assert "<v Left>" in Path("call.vtt").read_text(encoding="utf-8")
    assert "Right: " in Path("call.txt").read_text(encoding="utf-8")


def test_one_channel_alone_is_heard_and_channels_that_cancel_are_said_to(record: Recorder, capsys: Captured) -> None:
    left, right = tone_speech(tone_words(30)), tone_speech(tone_words(30, first=100))
    stereo_file("call.flac", left.audio, right.audio)
    for channel, said in (("left", left), ("right", right)):
        assert transcribe("call.flac", "--channel", channel, "-f", "txt", *TONES) == 0
        assert text_of(Path("call.txt")) == said.text
    stereo_file("wired.flac", left.audio, -left.audio)
    capsys.readouterr()
    assert transcribe("wired.flac", "-f", "txt", *TONES) == 0
    assert text_of(Path("wired.txt")) == left.text
    _, err = capsys.readouterr()
    assert "wired.flac: its two channels cancel each other out, so the left one alone was heard" in err
