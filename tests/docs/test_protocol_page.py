"""Every call of the server is on the protocol's page, and every call on the page is the server's."""

from __future__ import annotations

import re
from pathlib import Path

from whisper_farm.coordinator.app import create_app
from whisper_farm.settings import Policy, ServerSettings
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Database

PAGE = Path(__file__).resolve().parents[2] / "docs" / "PROTOCOL.md"


def test_every_call_is_on_the_page_of_the_protocol(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "farm.db")
    paths = create_app(ServerSettings(data=tmp_path), Policy(), database, Blobs.open(tmp_path / "blobs")).openapi()
    database.close()
    served = {f"{method.upper()} {path}" for path, calls in paths["paths"].items() for method in calls}
    described = set(
        re.findall(r"^\| `((?:GET|POST|PUT|DELETE) \S+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert described == {call for call in served if not call.startswith("HEAD ")}
