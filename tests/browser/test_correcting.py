"""Correcting a transcript in a real browser: nothing is lost, everybody sees it, and every file says the same."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4
from zipfile import ZipFile

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect
from support.browsers import PHONE, Visitor, barriers, too_wide
from support.farm_processes import Farm, Process, Recording


class Transcript:
    """A finished transcription, as its page and as the API shows it."""

    def __init__(self, farm: Farm, page: Page, name: str) -> None:
        self.farm, self.page, self.name = farm, page, name
        found = re.search(r"#/transcriptions/([\w-]+)", page.url)
        assert found is not None
        self.place = f"{farm.url}/api/transcriptions/{found[1]}"
        self.headers = {"Authorization": f"Bearer {farm.token}"}

    def file(self, format: str = "txt") -> str:
        return httpx.get(f"{self.place}/transcript", params={"format": format}, headers=self.headers).text

    def segments(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(
            f"{self.place}/transcript", params={"format": "json", "struck": True}, headers=self.headers
        ).json()["segments"]
        return found

    def texts(self) -> list[str]:
        return [segment["text"].strip() for segment in self.segments()]

    def open(self, row: int = 0) -> Locator:
        """The first field of a paragraph, opened by its button."""
        paragraph = self.page.locator(f"[data-index='{row}']")
        paragraph.hover()
        paragraph.get_by_role("button", name=re.compile("^Correct the text")).click()
        return paragraph.get_by_role("textbox").first

    def edit(self, **edit: Any) -> None:
        """Somebody edits by the API."""
        number = httpx.get(f"{self.place}/edits", headers=self.headers).json()["number"]
        answer = httpx.post(f"{self.place}/edits", json={"based_on": number, **edit}, headers=self.headers)
        assert answer.status_code == 201, answer.text


def patch(segment: dict[str, Any], text: str) -> dict[str, Any]:
    start, end = segment["start"], segment["end"]
    return {"start": start, "end": end, "segments": [{"start": start, "end": end, "text": text}]}


def eventually(look: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline, look()
        time.sleep(0.05)


@pytest.fixture
def transcript(visitor: Visitor, farm: Farm, worker: Process, tmp_path: Path) -> Transcript:
    """A recording of a minute, transcribed and opened."""
    name = f"{uuid4().hex}.wav"
    made = farm.submit(Recording.long(tmp_path / name, 60), "x30", chunk_seconds=30)
    farm.finished(made)
    page = visitor.signed_in()
    page.goto(f"{farm.url}/#/transcriptions/{made}")
    page.locator("p[dir=auto]").first.wait_for()
    return Transcript(farm, page, name)


def test_what_is_edited_split_named_and_struck_out_is_there_after_a_reload_and_in_every_file(
    transcript: Transcript, tmp_path: Path
) -> None:
    page = transcript.page
    before = transcript.segments()
    first = before[0]["text"].split()
    box = page.locator("p[dir=auto]").first.bounding_box()
    assert box is not None
    page.mouse.dblclick(box["x"] + 12, box["y"] + 14)
    field = page.get_by_role("textbox", name=re.compile("^Text at")).first
    expect(field).to_be_focused()
    field.press("Home")
    field.type("Hello ")
    eventually(lambda: transcript.texts()[0].startswith(f"Hello {first[0]}"))
    expect(page.get_by_text("All is saved")).to_be_visible()
    kept = transcript.segments()[0]["words"]
    assert [word["word"].strip() for word in kept] == ["Hello", *first]
    assert [word["start"] for word in kept[1:]] == [word["start"] for word in before[0]["words"]]
    for _ in first[0]:
        field.press("ArrowRight")
    field.press("Enter")
    eventually(lambda: transcript.texts()[:2] == [f"Hello {first[0]}", " ".join(first[1:])])
    second = page.get_by_role("textbox", name=re.compile("^Text at")).nth(1)
    expect(second).to_be_focused()
    page.get_by_role("button", name="Say who speaks").first.click()
    page.get_by_role("menuitem", name="Another name").click()
    page.get_by_label("Name of the speaker").fill("Ann")
    page.keyboard.press("Enter")
    eventually(lambda: transcript.segments()[0].get("speaker") == "Ann")
    page.get_by_role("button", name="Ann speaks; change that").first.click()
    page.get_by_role("menuitem", name="Rename Ann everywhere").click()
    page.get_by_label("Name of the speaker").fill("Ann Smith")
    page.keyboard.press("Enter")
    eventually(lambda: transcript.segments()[0].get("speaker") == "Ann Smith")
    second = page.get_by_role("textbox", name=re.compile("^Text at")).first  # the first one has a paragraph of its own
    second.press("Alt+x")
    eventually(lambda: transcript.segments()[1].get("struck"))
    second.press("Escape")
    page.reload()
    page.get_by_role("button", name="Ann Smith speaks; change that").wait_for()
    expect(page.locator("p[dir=auto]").first).to_have_text(f"Hello {first[0]}")
    assert " ".join(first[1:]) not in transcript.file()
    for shown, format in {"Plain text": "txt", "Subtitles (SRT)": "srt", "Subtitles (WebVTT)": "vtt"}.items():
        page.get_by_role("button", name="Export").click()
        with page.expect_download() as download:
            page.get_by_role("menuitem", name=shown, exact=True).click()
        download.value.save_as(tmp_path / "export")
        said = (tmp_path / "export").read_text()
        assert said == transcript.file(format)
        assert "Ann Smith" in said
        assert f"Hello {first[0]}" in said
    page.get_by_role("button", name="Export").click()
    page.get_by_role("menuitem", name="Several as a ZIP file").click()
    expect(page.get_by_role("menu")).to_have_count(0)  # it closes in its own time
    assert barriers(page) == []
    for shown in ("Subtitles (WebVTT)", "Word document (DOCX)"):
        page.get_by_role("checkbox", name=shown, exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download 2 files").click()
    with ZipFile(download.value.path()) as files:
        assert sorted(name.rpartition(".")[2] for name in files.namelist()) == ["srt", "txt"]
        assert all("Ann Smith" in files.read(name).decode() for name in files.namelist())


def test_undo_and_redo_work_after_a_reload_and_the_machines_text_comes_back(transcript: Transcript) -> None:
    page = transcript.page
    original = transcript.texts()
    field = transcript.open()
    field.fill("changed once")
    eventually(lambda: transcript.texts()[0] == "changed once")
    field.fill("changed twice")
    field.press("Control+z")
    expect(field).to_have_value("changed once")
    page.reload()
    expect(page.get_by_role("button", name="Redo")).to_be_enabled()
    page.keyboard.press("Control+Shift+Z")
    eventually(lambda: transcript.texts()[0] == "changed twice")
    page.get_by_role("button", name="More").click()
    page.get_by_role("menuitem", name="Name this version").click()
    page.get_by_label("Name of the version").fill("sent")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Undo", exact=True).click()
    eventually(lambda: transcript.texts()[0] == "changed once")
    page.get_by_role("button", name="More").click()
    page.get_by_role("menuitem", name="Back to “sent”").click()
    eventually(lambda: transcript.texts()[0] == "changed twice")
    field = transcript.open()
    field.press("Alt+r")
    eventually(lambda: transcript.texts() == original)
    page.get_by_role("button", name="More").click()
    page.get_by_role("menuitem", name="Back to the machine").click()
    eventually(lambda: transcript.texts() == original)


def test_segments_are_joined_at_their_ends_and_by_their_beginning(transcript: Transcript) -> None:
    before = transcript.texts()
    assert len(before) > 2
    field = transcript.open()
    second = transcript.page.get_by_role("textbox", name=re.compile("^Text at")).nth(1)
    second.press("Home")
    second.press("Backspace")
    eventually(lambda: transcript.texts()[0] == f"{before[0]} {before[1]}")
    expect(field).to_be_focused()
    field.press("Control+End")
    field.press("Delete")
    eventually(lambda: transcript.texts()[0] == f"{before[0]} {before[1]} {before[2]}")


def test_a_text_is_replaced_everywhere_with_one_undo(transcript: Transcript) -> None:
    page = transcript.page
    word = transcript.texts()[0].split()[0]
    often = sum(text.count(word) for text in transcript.texts())
    page.keyboard.press("/")
    page.get_by_placeholder("Find in the transcript").fill(word)
    page.get_by_role("button", name="Find and replace").click()
    page.get_by_label("Replace by").fill("Okonkwo")
    page.get_by_role("button", name=f"Replace all ({often})").click()
    eventually(lambda: sum(text.count("Okonkwo") for text in transcript.texts()) == often)
    page.get_by_role("button", name="Expect “Okonkwo”").click()
    preferences = f"{transcript.farm.url}/app/preferences"
    eventually(lambda: "Okonkwo" in httpx.get(preferences, headers=transcript.headers).json()["glossary"])
    httpx.patch(preferences, json={"glossary": ""}, headers=transcript.headers).raise_for_status()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Undo", exact=True).click()
    eventually(lambda: not any("Okonkwo" in text for text in transcript.texts()))


def test_two_browsers_see_each_other_correct_and_neither_loses_a_word(visitor: Visitor, transcript: Transcript) -> None:
    one = transcript.page
    other = visitor.signed_in()
    other.goto(one.url)
    other.locator("p[dir=auto]").first.wait_for()
    segments = transcript.segments()
    field = transcript.open()
    field.fill("written by one")
    begun = time.monotonic()
    expect(other.locator("p[dir=auto]").first).to_contain_text("written by one")
    print(f"seen by another browser {time.monotonic() - begun:.2f} s after the last key")
    field.press("End")
    one.route("**/edits", lambda route: (time.sleep(0.5), route.continue_()))
    field.type(" and more")
    transcript.edit(patches=[patch(segments[0], "written by the other")])
    expect(one.get_by_text("at the same time")).to_be_visible()
    expect(one.get_by_text("written by one and more", exact=True)).to_be_visible()
    expect(one.get_by_text("All is saved")).to_be_hidden()
    expect(one.locator("dd").filter(has_text="written by the other")).to_be_visible()
    expect(field).to_have_value("written by the other")
    one.unroute("**/edits")  # nobody would answer it while the farm is looked at
    one.get_by_role("button", name="Take yours").click()
    eventually(lambda: transcript.texts()[0] == "written by one and more")
    expect(other.locator("p[dir=auto]").first).to_contain_text("written by one and more")


def test_what_is_typed_while_the_farm_is_away_is_saved_when_it_is_back(transcript: Transcript) -> None:
    page = transcript.page
    field = transcript.open()
    page.route("**/edits", lambda route: route.abort("connectionrefused"))
    field.fill("while it was away")
    expect(page.get_by_text("Not saved yet")).to_be_visible()
    page.unroute("**/edits")
    eventually(lambda: transcript.texts()[0] == "while it was away")
    expect(page.get_by_text("All is saved")).to_be_visible()


def test_typing_holds_the_sound_and_it_rolls_back_when_it_goes_on(transcript: Transcript) -> None:
    page = transcript.page
    page.get_by_role("button", name="Play").wait_for()
    field = transcript.open()
    page.evaluate("() => { document.querySelector('audio').currentTime = 5; }")
    field.press("Alt+k")
    page.wait_for_function("() => !document.querySelector('audio').paused")
    field.press("End")
    field.type("x")
    page.wait_for_function("() => document.querySelector('audio').paused")
    stopped = page.evaluate(
        """() => {
          const audio = document.querySelector("audio");
          audio.play = () => { audio.began = audio.currentTime; return HTMLMediaElement.prototype.play.call(audio); };
          return audio.currentTime;
        }"""
    )
    field.press("Alt+k")
    page.wait_for_function("() => !document.querySelector('audio').paused")
    assert page.evaluate("() => document.querySelector('audio').began") < stopped - 0.5


def test_a_pedal_plays_and_skips_while_one_types(transcript: Transcript) -> None:
    page = transcript.page
    page.get_by_role("button", name="Play").wait_for()
    field = transcript.open()
    page.evaluate("() => { document.querySelector('audio').currentTime = 8; }")
    written = field.input_value()
    field.press("F7")
    page.wait_for_function("() => document.querySelector('audio').currentTime === 3")
    field.press("F9")
    page.wait_for_function("() => document.querySelector('audio').currentTime === 8")
    field.press("F8")
    page.wait_for_function("() => !document.querySelector('audio').paused")
    assert field.input_value() == written
    expect(field).to_be_focused()


def test_correcting_keeps_nobody_out(visitor: Visitor, transcript: Transcript) -> None:
    transcript.edit(rename={"speaker": None, "name": "Ann"})
    for scheme, viewport in (("light", None), ("dark", None), ("light", PHONE)):
        given = {"viewport": viewport} if viewport else {}
        page = visitor.signed_in(color_scheme=scheme, **given)
        page.goto(transcript.page.url)
        mine = Transcript(transcript.farm, page, transcript.name)
        page.locator("p[dir=auto]").first.wait_for()
        mine.open().focus()
        page.keyboard.press("Escape")
        mine.open()
        page.wait_for_timeout(300)
        assert barriers(page) == [], scheme
        assert too_wide(page) <= 0, (scheme, viewport)
        page.get_by_role("button", name="More").click()
        page.get_by_role("menuitem", name="Speakers").click()
        page.get_by_role("dialog", name="Speakers").wait_for()
        page.wait_for_timeout(300)
        assert barriers(page) == [], scheme


def recognise_again(page: Page, transcript: Transcript, scope: str) -> None:
    transcript.open()
    page.get_by_role("button", name="Recognise again").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text(scope, exact=True).click()
    assert barriers(page) == []
    dialog.get_by_role("button", name="Recognise", exact=True).click()
    page.get_by_text("was recognised again").wait_for()


def test_a_passage_is_recognised_again_and_both_texts_are_shown_until_one_is_taken(transcript: Transcript) -> None:
    page = transcript.page
    heard = transcript.texts()
    transcript.edit(patches=[patch(transcript.segments()[0], "misheard")])
    expect(page.locator("p[dir=auto]").first).to_contain_text("misheard")
    recognise_again(page, transcript, "This passage")
    page.reload()
    ready = page.get_by_role("status").filter(has_text="was recognised again")
    expect(ready.locator("dd").first).to_contain_text("misheard")
    expect(ready.locator("dd").last).to_contain_text(heard[0].rstrip("."))
    assert barriers(page) == []
    ready.get_by_role("button", name="Take what was heard now").click()
    eventually(lambda: "misheard" not in transcript.file() and heard[0].split()[0] in transcript.file())
    expect(ready).to_be_hidden()
    page.get_by_role("button", name="Undo", exact=True).click()
    eventually(lambda: transcript.texts()[0] == "misheard")
    page.goto(f"{transcript.farm.url}/#/")
    expect(page.get_by_role("link", name=transcript.name)).to_have_count(1)


def test_another_run_keeps_what_people_wrote(transcript: Transcript) -> None:
    page = transcript.page
    heard = transcript.texts()
    segments = transcript.segments()
    transcript.edit(patches=[patch(segments[0], "written by somebody")])
    transcript.edit(rename={"speaker": None, "name": "Ann"})
    recognise_again(page, transcript, "The whole recording")
    page.get_by_role("button", name="Take it, but keep what people wrote").click()
    expect(page.get_by_text("was recognised again")).to_be_hidden()
    assert transcript.texts() == ["written by somebody", *heard[1:]]
    assert {segment["speaker"] for segment in transcript.segments()} == {"Ann"}
