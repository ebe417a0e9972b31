"""The files of the app as they are served, and the page where it was not built."""

from __future__ import annotations

from pathlib import Path

import pytest

from whisper_farm.coordinator.web_app import WebApp, best_encoding


@pytest.fixture
def built(tmp_path: Path) -> WebApp:
    """An app of one script."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text('<meta content="{{nonce}}"><script src="./assets/index-1.js"></script>')
    (tmp_path / "assets" / "index-1.js").write_text("run()")
    (tmp_path / "assets" / "index-1.js.br").write_bytes(b"small")
    (tmp_path / "notes.txt").write_text("not for browsers")
    return WebApp.read(tmp_path)


def test_an_app_that_was_not_built_says_what_to_do(tmp_path: Path) -> None:
    content, _ = WebApp.read(tmp_path / "nowhere").begin()
    assert "./run web" in content


def test_each_page_has_a_nonce_of_its_own_and_finds_its_files_below_any_path(built: WebApp) -> None:
    (first, nonce), (second, other) = built.begin(), built.begin()
    assert nonce != other
    assert nonce in first
    assert other in second
    assert 'src="./app/assets/index-1.js"' in first


def test_only_files_of_the_app_are_served_in_the_best_form_that_a_browser_takes(built: WebApp) -> None:
    assert list(built.files) == ["/assets/index-1.js"]
    file = built.files["/assets/index-1.js"]
    assert file.encoded == {"br": b"small"}
    for accepted, best in [
        ("gzip, br", "br"),
        ("gzip", None),
        ("", None),
        ("br;q=0", None),
        ("br;q=0.5", "br"),
        ("*", None),
    ]:
        assert best_encoding(accepted, file) == best
