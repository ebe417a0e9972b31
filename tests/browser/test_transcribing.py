"""From the sign-in link to the exported text, in a real browser."""

from __future__ import annotations

import re
import time
from pathlib import Path

import httpx
from docx import Document
from playwright.sync_api import Page, expect
from support.browsers import PHONE, Visitor, barriers, drop, too_wide
from support.farm_processes import Farm, Process, Recording

from whisper_farm.transcript.formats import FORMATS

PARTS = ("recordings", "account", "programs", "people", "limits", "about")
EXPORTS = {
    "Plain text": "txt", "Subtitles (SRT)": "srt", "Subtitles (WebVTT)": "vtt", "Table (TSV)": "tsv",
    "Everything (JSON)": "json", "Markdown": "md", "Word document (DOCX)": "docx", "Web page (HTML)": "html",
    "Table with speakers (CSV)": "csv", "Lyrics (LRC)": "lrc", "Words (WhisperX JSON)": "whisperx-json",
    "Podcast (JSON)": "podcast-json", "Podcast subtitles (SRT)": "podcast-srt",
    "Podcast subtitles (WebVTT)": "podcast-vtt",
}  # fmt: skip


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def transcript(farm: Farm, page: Page, format: str = "txt") -> str:
    found = re.search(r"#/transcriptions/([\w-]+)", page.url)
    assert found is not None
    answer = httpx.get(
        f"{farm.url}/api/transcriptions/{found[1]}/transcript",
        params={"format": format},
        headers={"Authorization": f"Bearer {farm.token}"},
    )
    return answer.text


def text_of(page: Page) -> str:
    """All text of the reader, by its own copy."""
    page.evaluate("() => { navigator.clipboard.writeText = async (text) => { window.copied = text; }; }")
    page.get_by_role("button", name="Export").click()
    page.get_by_role("menuitem", name="Copy as text").click()
    page.wait_for_function("() => window.copied !== undefined")
    return str(page.evaluate("() => window.copied"))


def opened(page: Page, name: str) -> None:
    page.get_by_role("link", name=name).first.click()
    expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()


def finished(visitor: Visitor, page: Page, recording: Recording, name: str) -> None:
    """Drop a recording, wait until it is done, open it."""
    drop(page, recording.path, name)
    row = page.get_by_role("listitem").filter(has_text=name)
    expect(row.get_by_text("Done", exact=True)).to_be_visible()
    opened(page, name)


def test_a_dropped_recording_is_watched_read_and_exported(
    visitor: Visitor, farm: Farm, worker: Process, podcast: Path, tmp_path: Path
) -> None:
    recording = Recording.long(podcast, 500)
    page = visitor.signed_in()
    drop(page, podcast, "morning.wav")
    row = page.get_by_role("listitem").filter(has_text="morning.wav")
    expect(row.get_by_text("Transcribing")).to_be_visible()
    opened(page, "morning.wav")
    expect(page.get_by_text(re.compile("Being transcribed by worker")).first).to_be_visible()
    first = page.locator("p[dir=auto]").first
    expect(first).to_contain_text(recording.words[0][0])
    expect(page.get_by_text("Done", exact=True)).to_be_visible()
    said = [word for word, _ in recording.words]
    assert words(text_of(page)) == words(transcript(farm, page)) == said
    assert sorted(EXPORTS.values()) == sorted(FORMATS)
    page.set_viewport_size(PHONE)
    page.get_by_role("button", name="Export").click()
    page.get_by_role("menuitem", name="Copy as text").scroll_into_view_if_needed()
    expect(page.get_by_role("menuitem", name="Copy as text")).to_be_in_viewport(ratio=1)
    assert not too_wide(page)
    page.keyboard.press("Escape")
    for shown, format in EXPORTS.items():
        page.get_by_role("button", name="Export").click()
        with page.expect_download() as download:
            page.get_by_role("menuitem", name=shown, exact=True).click()
        assert download.value.suggested_filename == f"morning.{FORMATS[format].extension}"
        download.value.save_as(tmp_path / "export")
        if format == "docx":
            assert words(" ".join(one.text for one in Document(str(tmp_path / "export")).paragraphs)) == said
        else:
            assert (tmp_path / "export").read_bytes().decode() == transcript(farm, page, format)


def test_a_clicked_word_is_heard_from_its_start(visitor: Visitor, farm: Farm, worker: Process, podcast: Path) -> None:
    recording = Recording.long(podcast, 60)
    page = visitor.signed_in()
    finished(visitor, page, recording, "click.wav")
    word, start = recording.words[23]
    page.locator("p[dir=auto]").filter(has_text=word).wait_for()
    place = page.evaluate(
        """(word) => {
          const text = document.querySelector("p[dir=auto]").firstChild;
          const at = text.data.indexOf(word);
          const range = new Range();
          range.setStart(text, at);
          range.setEnd(text, at + word.length);
          const box = range.getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2];
        }""",
        word,
    )
    page.get_by_role("button", name="Play").wait_for()  # its listening copy is made meanwhile
    page.mouse.click(*place)
    page.wait_for_function("() => document.querySelector('audio').currentTime > 0")
    assert abs(page.evaluate("() => document.querySelector('audio').currentTime") - start) <= 0.1
    marked = "() => [...(CSS.highlights.get('spoken') ?? [])].map((range) => range.toString()).join()"
    page.wait_for_function(f"(word) => ({marked})() === word", arg=word)
    page.keyboard.press("k")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.wait_for_function(f"(word) => ({marked})() !== word", arg=word)
    page.mouse.wheel(0, 200)
    expect(page.get_by_role("button", name="Back to now")).to_be_visible()
    page.get_by_role("button", name="Back to now").click()
    expect(page.get_by_role("button", name="Back to now")).to_be_hidden()


def test_a_link_to_a_second_leads_to_it(visitor: Visitor, farm: Farm, worker: Process, podcast: Path) -> None:
    recording = Recording.long(podcast, 600)
    page = visitor.signed_in()
    finished(visitor, page, recording, "second.wav")
    word, start = recording.words[560]
    page.goto(f"{page.url}?t={start + 0.05:.2f}")
    page.reload()
    expect(page.locator("p[dir=auto]").filter(has_text=word).first).to_be_in_viewport()
    page.get_by_role("button", name="Play").wait_for()  # its listening copy is made meanwhile
    page.wait_for_function("(start) => Math.abs(document.querySelector('audio').currentTime - start) < 0.2", arg=start)


def test_what_one_browser_does_another_shows_at_once(
    visitor: Visitor, farm: Farm, worker: Process, podcast: Path
) -> None:
    Recording.long(podcast, 2000)
    one, other = visitor.signed_in(), visitor.signed_in()
    drop(one, podcast, "shared.wav")
    expect(other.get_by_role("listitem").filter(has_text="shared.wav").get_by_text("Transcribing")).to_be_visible()
    one.get_by_role("button", name="Actions for shared.wav").click()
    shown = other.get_by_role("listitem").filter(has_text="shared.wav").get_by_text("Cancelled")
    with one.expect_response(lambda answer: answer.url.endswith("/cancel")):
        one.get_by_role("menuitem", name="Cancel").click()
    begun = time.monotonic()
    expect(shown).to_be_visible()
    assert time.monotonic() - begun < 1.0
    one.get_by_role("button", name="Actions for shared.wav").click()
    one.get_by_role("menuitem", name="Delete").click()
    one.get_by_role("button", name="Undo", exact=True).click()
    expect(one.get_by_role("link", name="shared.wav")).to_be_visible()
    one.get_by_role("button", name="Actions for shared.wav").click()
    one.get_by_role("menuitem", name="Delete").click()
    expect(one.get_by_role("link", name="shared.wav")).to_be_hidden()
    expect(other.get_by_role("link", name="shared.wav")).to_be_hidden()


def test_names_and_words_are_text_and_nothing_else(
    visitor: Visitor, farm: Farm, worker: Process, podcast: Path
) -> None:
    name = '<img src=x onerror="window.hurt = 1">.wav'
    page = visitor.signed_in()
    finished(visitor, page, Recording.long(podcast, 12), name)
    page.goto(f"{farm.url}/#/farm")
    page.get_by_role("heading", name="Farm", exact=True).wait_for()
    assert page.evaluate("() => window.hurt") is None


def test_no_page_keeps_people_out_in_light_and_in_dark(
    visitor: Visitor, farm: Farm, worker: Process, podcast: Path
) -> None:
    finished(visitor, page := visitor.signed_in(), Recording.long(podcast, 60), "barriers.wav")
    here = page.url.removeprefix(farm.url)
    for scheme, viewport in (("light", None), ("dark", None), ("light", PHONE)):
        given = {"viewport": viewport} if viewport else {}
        page = visitor.signed_in(color_scheme=scheme, **given)
        page.get_by_role("button", name="Options").click()
        for path in ("/#/", here, "/#/farm", "/#/feeds", *(f"/#/settings/{part}" for part in PARTS)):
            page.goto(farm.url + path)
            page.get_by_role("heading", level=1).wait_for()
            page.wait_for_timeout(400)
            assert barriers(page) == [], (scheme, path)
            assert too_wide(page) <= 0, (scheme, path)
        stranger = visitor.stranger(color_scheme=scheme, **given)
        stranger.goto(f"{farm.url}/#/sign-in")
        stranger.get_by_role("heading", level=1).wait_for()
        assert barriers(stranger) == []


def test_the_list_and_the_reader_work_by_keys_alone(
    visitor: Visitor, farm: Farm, worker: Process, podcast: Path
) -> None:
    finished(visitor, page := visitor.signed_in(), Recording.long(podcast, 60), "keys.wav")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("e")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("textbox")).to_have_count(0)  # what is under a dialog hears no keys
    word = words(text_of(page))[0]
    expect(page.get_by_role("menu")).to_be_hidden()
    page.keyboard.press("/")
    page.keyboard.type(word)
    marked = "(word) => [...(CSS.highlights.get('current') ?? [])].join().toLowerCase() === word"
    page.wait_for_function(marked, arg=word)
    page.keyboard.type("zzzz")
    expect(page.get_by_text("not found")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_placeholder("Find in the transcript")).to_be_hidden()
    page.goto(f"{farm.url}/#/")
    page.reload()
    page.get_by_role("link", name="keys.wav").wait_for()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    for _ in range(30):
        page.keyboard.press("Tab")
        if "keys.wav" in page.evaluate("() => document.activeElement.textContent"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="keys.wav")).to_be_visible()
