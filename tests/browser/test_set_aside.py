"""What cannot be recognised is shown with the evidence of every attempt, and tried again."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect
from support.browsers import Visitor, barriers
from support.farm_processes import Farm, Process, Recording, until
from support.hand_worker import HandWorker
from support.tone_audio import tone_words


def test_chunks_that_failed_are_shown_with_their_attempts_and_tried_again(browser: Browser, tmp_path: Path) -> None:
    recording = Recording.of(tmp_path / "broken.wav", [*tone_words(12), "fail", *tone_words(12, 12)])
    with Farm(tmp_path / "other", settings={"WHISPER_FARM_MAX_ATTEMPTS": "1"}) as farm, farm.worker():
        made = farm.submit(recording, "faulty")
        visitor = Visitor(browser, farm)
        page = visitor.signed_in()
        page.goto(f"{farm.url}/#/farm")
        row = page.get_by_role("list", name="Set aside").get_by_role("listitem")
        expect(row.get_by_text("1 chunk set aside")).to_be_visible()
        row.get_by_role("button", name="Attempts").click()
        sheet = page.get_by_role("dialog")
        expect(sheet.get_by_text("worker1")).to_contain_text("failed")
        expect(sheet.get_by_role("listitem").get_by_text("set aside")).to_be_visible()
        assert barriers(page) == []
        sheet.get_by_role("button", name="Try again what is missing").click()
        expect(sheet.get_by_text("worker1")).to_have_count(2)
        expect(sheet.get_by_role("listitem").get_by_text("set aside")).to_be_visible()
        sheet.get_by_role("button", name="Try this one again").click()
        expect(sheet.get_by_text("worker1")).to_have_count(3)
        expect(sheet.get_by_role("listitem").get_by_text("set aside")).to_be_visible()
        assert [attempt.number for attempt in farm.attempts(made, "failed")] == [1, 2, 3]
        visitor.close()


def test_a_recording_that_failed_says_why_and_is_renamed_and_deleted_on_its_own_page(
    visitor: Visitor, farm: Farm, worker: Process, tmp_path: Path
) -> None:
    letter = tmp_path / "letter.mp3"
    letter.write_bytes(b"PK" + b"no sound" * 1000)
    made = farm.submit(Recording(letter, ()))
    until(lambda: (view := farm.look(made)) and view.state == "failed", "it has failed")
    page = visitor.signed_in()
    page.goto(f"{farm.url}/#/farm")
    page.get_by_role("list", name="Set aside").get_by_role("link", name="letter.mp3").click()
    expect(page.get_by_text("It is no audio or video file")).to_be_visible()
    expect(page.get_by_role("button", name="Chunks")).to_be_visible()
    expect(page.get_by_role("button", name="Export")).to_have_count(0)
    page.get_by_role("button", name="Actions for letter.mp3").click()
    page.get_by_role("menuitem", name="Rename").click()
    page.get_by_label("New name").fill("A letter, no sound")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="A letter, no sound")).to_be_visible()
    page.get_by_role("button", name="Actions for A letter, no sound").click()
    page.get_by_role("menuitem", name="Delete").click()
    expect(page.get_by_role("heading", level=1, name="Transcriptions")).to_be_visible()
    expect(page.get_by_text("“A letter, no sound” is deleted.")).to_be_visible()
    expect(page.get_by_role("link", name="A letter, no sound")).to_have_count(0)


def test_a_listening_copy_that_failed_is_made_when_somebody_asks_for_it(browser: Browser, tmp_path: Path) -> None:
    recording = Recording.of(tmp_path / "talk.wav", tone_words(12))
    with Farm(tmp_path / "copies") as farm:
        made = farm.submit(recording)
        faulty = HandWorker(farm.url, farm.token)
        faulty.register()
        faulty.work_off(1)
        (claim,) = faulty.told("claim", **faulty.claim_body() | {"jobs": {"peaks": 1}})["claims"]
        failure = {"token": claim["token"], "code": "not_audio", "message": "It is not.", "permanent": True}
        faulty.told("fail", failures=[failure])
        faulty.close()
        farm.finished(made)
        visitor = Visitor(browser, farm)
        page = visitor.signed_in()
        page.goto(f"{farm.url}/#/transcriptions/{made}")
        page.get_by_role("button", name="Chunks").click()
        copy = page.get_by_role("dialog").get_by_role("listitem").filter(has_text="Listening copy")
        expect(copy.get_by_text("set aside")).to_be_visible()
        with farm.worker():
            copy.get_by_role("button", name="Try this one again").click()
            expect(copy.get_by_text("worker1")).to_be_visible()
            expect(copy.get_by_text("set aside")).to_be_hidden()
            page.keyboard.press("Escape")
            expect(page.get_by_role("button", name="Play")).to_be_enabled()
            until(lambda: farm.client.get(made).state == "done", "nothing else has changed")
        visitor.close()
