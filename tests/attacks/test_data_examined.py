"""`doctor --data` says whether what a farm keeps is there and whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.hand_worker import MakeWorker
from support.served_farm import ServedFarm, StartFarm, eventually, files_in, refused
from support.submitting import submit

from whisper_farm.cli.main import outcome

Captured = pytest.CaptureFixture[str]


def test_what_is_missing_or_damaged_is_named(farm: ServedFarm, capsys: Captured) -> None:
    submit(farm.admin, "one.mp3", audio=b"one")
    submit(farm.admin, "two.mp3", audio=b"two")
    examine = ["doctor", "--data", str(farm.data)]
    assert outcome(examine) == 0
    assert "names 2 blobs" in capsys.readouterr().out
    first, second = files_in(farm.data / "blobs" / "sources")
    first.write_bytes(b"eno")
    second.unlink()
    assert outcome(examine) == 1
    said = capsys.readouterr().out
    assert f"{first.name} of transcription " in said
    assert "is damaged" in said
    assert "is missing" in said


def test_a_transcript_is_made_again_from_its_results_if_all_are_there(
    start_farm: StartFarm, make_worker: MakeWorker, capsys: Captured
) -> None:
    farm = start_farm()
    for name in ("gone.mp3", "changed.mp3", "hopeless.mp3"):
        submit(farm.admin, name)
    make_worker(farm).work_off()
    ids = {one["name"]: one["id"] for one in farm.admin.get("/api/transcriptions").json()["transcriptions"]}
    gone, changed, hopeless = (f"/api/transcriptions/{ids[f'{name}.mp3']}" for name in ("gone", "changed", "hopeless"))
    for place in (gone, changed, hopeless):
        eventually(lambda place=place: farm.admin.get(place).json()["state"] == "done", "the transcript")
    before = {place: farm.admin.get(f"{place}/transcript").text for place in (gone, changed)}

    def files(kind: str, name: str) -> list[Path]:
        return sorted((farm.data / "blobs" / kind / ids[f"{name}.mp3"]).iterdir())

    farm.stop()
    files("transcripts", "gone")[0].unlink()
    document = files("transcripts", "changed")[0]
    document.write_bytes(document.read_bytes().replace(b"word1", b"other"))
    files("transcripts", "hopeless")[0].unlink()
    files("results", "hopeless")[0].write_bytes(b"{}")
    assert outcome(["doctor", "--data", str(farm.data)]) == 1
    said = capsys.readouterr().out
    assert f"of {ids['hopeless.mp3']} cannot be made again: 1 result" in said
    assert said.count("is made again from its results") == 2
    again = start_farm(data=farm.data)
    for place, text in before.items():
        assert again.admin.get(f"{place}/transcript").text == text


@pytest.mark.parametrize("format", ["txt", "json"])
def test_a_transcript_that_was_changed_in_place_is_not_shown(
    farm: ServedFarm, make_worker: MakeWorker, format: str
) -> None:
    place = f"/api/transcriptions/{submit(farm.admin)['id']}"
    make_worker(farm).work_off()
    eventually(lambda: farm.admin.get(place).json()["state"] == "done", "the transcript")
    (document,) = files_in(farm.data / "blobs" / "transcripts")
    document.write_bytes(document.read_bytes().replace(b"word1", b"other"))
    answer = farm.admin.get(f"{place}/transcript", params={"format": format})
    assert refused(answer) == (500, "invalid_transcript")
    eventually(lambda: farm.admin.get(place).json()["state"] == "done", "the transcript made again")
    assert "word1" in farm.admin.get(f"{place}/transcript", params={"format": format}).text


def test_a_result_that_was_changed_in_place_is_a_gap_and_no_text(farm: ServedFarm, make_worker: MakeWorker) -> None:
    place = f"/api/transcriptions/{submit(farm.admin)['id']}"
    make_worker(farm).work_off()
    eventually(lambda: farm.admin.get(place).json()["state"] == "done", "the transcript")
    (changed,) = [file for file in files_in(farm.data / "blobs" / "results") if file.name.startswith("1.")]
    changed.write_bytes(changed.read_bytes().replace(b"word1", b"other"))
    page = farm.admin.get(f"{place}/segments").json()
    assert [gap["position"] for gap in page["lost"]] == [1]
    assert "other" not in str(page)


def test_the_store_of_another_farm_is_named_and_left_alone(
    start_farm: StartFarm, make_worker: MakeWorker, tmp_path: Path, capsys: Captured
) -> None:
    farm = start_farm()
    submit(farm.admin)
    make_worker(farm).work_off()
    farm.stop()
    (farm.data / "blobs" / "farm-id").write_text("another")
    assert outcome(["doctor", "--data", str(farm.data)]) == 1
    assert "of another farm" in capsys.readouterr().out


def test_a_folder_without_a_database_stays_without_one(tmp_path: Path, capsys: Captured) -> None:
    assert outcome(["doctor", "--data", str(tmp_path)]) == 1
    assert "there is none" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
