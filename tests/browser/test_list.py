"""The list of transcriptions: page by page, and what its menus do."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import httpx
from playwright.sync_api import Browser, expect
from support.browsers import Visitor, drop
from support.farm_processes import Farm, Process, Recording, until
from support.tone_audio import tone_words

PAGE = 50
MORE = 3


def test_the_list_goes_on_page_by_page_and_stays_live_beyond_the_first(browser: Browser, tmp_path: Path) -> None:
    with Farm(tmp_path / "long") as farm:
        recording = Recording.long(tmp_path / "talk.wav", 3)
        first = farm.submit(recording, "x30")
        with httpx.Client(base_url=farm.url, headers={"Authorization": f"Bearer {farm.token}"}) as http:
            wanted = [{"name": f"talk {n}", "transcription_id": first} for n in range(1, PAGE + MORE)]
            made = http.post("/api/transcriptions/batch", json={"submissions": wanted}).json()["submissions"]
            assert all(one["transcription"] for one in made)
            visitor = Visitor(browser, farm)
            page = visitor.signed_in()
            rows = page.get_by_role("list", name="Transcriptions").get_by_role("listitem")
            expect(rows).to_have_count(PAGE)
            expect(page.get_by_role("link", name="talk.wav", exact=True)).to_have_count(0)
            page.get_by_role("button", name="Show more").click()
            expect(rows).to_have_count(PAGE + MORE)
            expect(page.get_by_role("button", name="Show more")).to_have_count(0)
            assert http.patch(f"/api/transcriptions/{first}", json={"name": "the oldest"}).is_success
            expect(page.get_by_role("link", name="the oldest")).to_be_visible()
            page.get_by_role("combobox", name="Order").click()
            page.get_by_role("option", name="Oldest first").click()
            expect(rows.first).to_contain_text("the oldest")
            expect(rows).to_have_count(PAGE)
            visitor.close()


def test_what_is_missing_is_tried_again_from_the_menu_of_the_list(browser: Browser, tmp_path: Path) -> None:
    recording = Recording.of(tmp_path / "broken.wav", [*tone_words(12), "fail", *tone_words(12, 12)])
    with Farm(tmp_path / "other", settings={"WHISPER_FARM_MAX_ATTEMPTS": "1"}) as farm, farm.worker():
        made = farm.submit(recording, "faulty")
        visitor = Visitor(browser, farm)
        page = visitor.signed_in()
        row = page.get_by_role("listitem").filter(has_text="broken.wav")
        expect(row.get_by_text("Done, with gaps")).to_be_visible()
        page.get_by_role("button", name="Actions for broken.wav").click()
        page.get_by_role("menuitem", name="Try again").click()
        until(lambda: [one.number for one in farm.attempts(made, "failed")] == [1, 2], "it is tried once more")
        expect(row.get_by_text("Done, with gaps")).to_be_visible()
        visitor.close()


def test_all_that_is_listed_is_exported_at_once_with_lines_of_subtitles_as_long_as_chosen(
    visitor: Visitor, farm: Farm, worker: Process, tmp_path: Path
) -> None:
    for name in ("exported Müller #1?", "exported 2"):
        farm.finished(farm.submit(Recording.long(tmp_path / f"{name}.wav", 12), "x30"))
    page = visitor.signed_in()
    page.get_by_role("searchbox").fill("exported")
    page.get_by_role("button", name="Export these 2").click()
    page.get_by_role("dialog").get_by_role("combobox").click()
    page.get_by_role("option", name="32 characters a line, two lines").click()
    for shown in ("Plain text", "Subtitles (WebVTT)", "Word document (DOCX)"):
        page.get_by_role("checkbox", name=shown, exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download 2 files").click()
    with ZipFile(download.value.path()) as packed:
        assert sorted(packed.namelist()) == ["exported 2.srt", "exported Müller #1_.srt"]
        lines = [line for name in packed.namelist() for line in packed.read(name).decode().splitlines()]
    assert max(map(len, lines)) <= 32


def test_what_would_end_the_same_offers_no_other_try(browser: Browser, tmp_path: Path) -> None:
    empty, broken = tmp_path / "empty.wav", tmp_path / "broken.wav"
    empty.touch()
    broken.write_bytes(b"no recording" * 99)
    with Farm(tmp_path / "other") as farm, farm.worker():
        visitor = Visitor(browser, farm)
        page = visitor.signed_in()
        drop(page, empty)
        uploads = page.get_by_role("region", name="Uploads")
        expect(uploads.get_by_text("Not sent: empty.wav is empty.")).to_be_visible()
        expect(uploads.get_by_role("button")).to_have_count(1)
        uploads.get_by_role("button", name="Remove from the list").click()
        drop(page, broken)
        expect(page.get_by_role("listitem").filter(has_text="broken.wav").get_by_text("Failed")).to_be_visible()
        page.get_by_role("button", name="Actions for broken.wav").click()
        expect(page.get_by_role("menuitem", name="Delete")).to_be_visible()
        expect(page.get_by_role("menuitem", name="Try again")).to_have_count(0)
        page.goto(f"{farm.url}/#/farm")
        row = page.get_by_role("list", name="Set aside").get_by_role("listitem")
        expect(row.get_by_role("button", name="Attempts")).to_be_visible()
        expect(row.get_by_role("button", name="Try again")).to_have_count(0)
        visitor.close()
