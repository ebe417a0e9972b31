"""Finding a recording again: by its name, by what was said, sorted and renamed."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect
from support.browsers import Visitor, barriers, drop
from support.farm_processes import Farm, Process, Recording


def listed(page: Page) -> list[str]:
    return page.get_by_role("list", name="Transcriptions").get_by_role("link").all_inner_texts()


def sent(page: Page, recording: Recording, name: str) -> None:
    drop(page, recording.path, name)
    row = page.get_by_role("listitem").filter(has_text=name)
    expect(row.get_by_text("Done", exact=True)).to_be_visible()


def test_a_word_is_found_and_one_click_leads_to_its_second(
    visitor: Visitor, farm: Farm, worker: Process, podcast: Path
) -> None:
    recording = Recording.long(podcast, 600)
    page = visitor.invited("finder")
    sent(page, recording, "needle.wav")
    word, start = recording.words[431]
    page.get_by_role("searchbox", name="Search names and everything said").fill(word)
    hit = page.get_by_role("list", name="Said in").get_by_role("link").first
    expect(hit.locator("mark").first).to_have_text(word)
    expect(page.get_by_text("No name matches.")).to_be_visible()
    hit.click()
    expect(page.locator("p[dir=auto]").filter(has_text=word).first).to_be_in_viewport()
    second = float(page.url.partition("?t=")[2])
    assert second <= start < second + 30
    page.get_by_role("button", name="Play").wait_for()  # its listening copy is made meanwhile
    page.wait_for_function(
        "(at) => Math.abs((document.querySelector('audio')?.currentTime ?? -1) - at) < 0.2", arg=second
    )
    page.go_back()
    expect(page.get_by_role("searchbox")).to_have_value(word)
    page.get_by_role("searchbox").fill("nobody said that")
    expect(page.get_by_text("No sentence has all of these words.")).to_be_visible()
    page.get_by_role("searchbox").fill("NEED")
    expect(page.get_by_role("link", name="needle.wav")).to_be_visible()
    other = visitor.invited("stranger")
    other.goto(f"{farm.url}/#/?words={word}")
    expect(other.get_by_role("searchbox")).to_have_value(word)
    expect(other.get_by_text("No sentence has all of these words.")).to_be_visible()


def test_a_list_is_sorted_filtered_and_renamed(visitor: Visitor, farm: Farm, worker: Process, podcast: Path) -> None:
    page = visitor.invited("sorter")
    for name, words in (("b.wav", 60), ("c.wav", 12), ("a.wav", 24)):
        sent(page, Recording.long(podcast, words), name)
    assert listed(page) == ["a.wav", "c.wav", "b.wav"]
    page.get_by_role("combobox", name="Order").click()
    page.get_by_role("option", name="Longest first").click()
    expect(page.get_by_role("listitem").first).to_contain_text("b.wav")
    page.reload()
    expect(page.get_by_role("listitem").first).to_contain_text("b.wav")
    assert listed(page) == ["b.wav", "a.wav", "c.wav"]
    page.get_by_text("Problems", exact=True).click()
    expect(page.get_by_text("No transcription matches.")).to_be_visible()
    page.get_by_text("All", exact=True).click()
    page.get_by_role("button", name="Actions for a.wav").click()
    page.get_by_role("menuitem", name="Rename").click()
    page.get_by_label("New name").fill("Der Äpfel wegen")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Der Äpfel wegen")).to_be_visible()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("searchbox").fill("apfel")
    expect(page.get_by_role("listitem")).to_have_count(1)


def test_a_link_lets_a_stranger_read_and_hear_until_it_is_revoked(
    visitor: Visitor, farm: Farm, worker: Process, podcast: Path
) -> None:
    recording = Recording.long(podcast, 60)
    page = visitor.invited("sharer")
    sent(page, recording, "shared by link.wav")
    page.get_by_role("link", name="shared by link.wav").click()
    page.get_by_role("button", name="Play").wait_for()
    page.get_by_role("button", name="Share", exact=True).click()
    page.get_by_role("button", name="Make a link").click()
    address = page.locator("code").inner_text()
    assert barriers(page) == []
    reader = visitor.stranger()
    reader.goto(address)
    expect(reader.get_by_role("heading", level=1, name="shared by link.wav")).to_be_visible()
    expect(reader.locator("p[dir=auto]").first).to_contain_text(recording.words[0][0])
    expect(reader.get_by_role("button", name="Play")).to_be_visible()
    reader.get_by_role("button", name="Export").click()
    with reader.expect_download() as download:
        reader.get_by_role("menuitem", name="Plain text").click()
    assert recording.words[0][0] in Path(download.value.path()).read_text()
    expect(reader.get_by_role("menu")).to_be_hidden()
    assert barriers(reader) == []
    reader.goto(f"{address}?t=5")
    reader.wait_for_function("() => Math.abs((document.querySelector('audio')?.currentTime ?? -1) - 5) < 0.2")
    reader.goto(f"{farm.url}/#/")
    expect(reader.get_by_role("button", name="Sign in", exact=True)).to_be_visible()
    page.get_by_role("button", name="Revoke").click()
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("button", name="Revoke")).to_be_hidden()
    reader.goto(address)
    reader.reload()
    expect(reader.get_by_text("This link works no more.")).to_be_visible()
