"""Every call of the server is on the protocol's page with its errors, and what is on the page is the server's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from whisper_farm.coordinator.answers.errors import ALWAYS
from whisper_farm.coordinator.answers.openapi import openapi_document
from whisper_farm.coordinator.coordinator import Coordinator
from whisper_farm.coordinator.dialects import dialects
from whisper_farm.errors import FarmError, ProtocolMismatch
from whisper_farm.settings import Policy, ServerSettings
from whisper_farm.store.blobs import Blobs
from whisper_farm.store.database import Database

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")
WORKERS = (*ALWAYS, ProtocolMismatch)
"""What any call of a worker may answer."""
CALL = re.compile(r"^\| `((?:GET|HEAD|POST|PUT|PATCH|DELETE) \S+)` \|.*\|([^|]*)\|$", re.MULTILINE)
ANY_CALL = re.compile(r"^Any call with a token can also answer (.+?); any call of a worker also (.+?)\.$", re.M | re.S)


@pytest.fixture
def calls(tmp_path: Path) -> dict[str, Any]:
    """The calls of the OpenAPI document by method and path."""
    database = Database.open(tmp_path / "farm.db")
    coordinator = Coordinator(ServerSettings(data=tmp_path), Policy(), database, Blobs.open(tmp_path / "blobs"))
    document = openapi_document(dialects(coordinator))
    database.close()
    return {f"{method.upper()} {path}": call for path, of in document["paths"].items() for method, call in of.items()}


def codes(kinds: Iterable[type[FarmError]]) -> set[str]:
    return {kind.code for kind in kinds}


def named(text: str) -> set[str]:
    """The error codes in a piece of the page."""
    return set(re.findall(r"`(\w+)`", text))


def described() -> dict[str, set[str]]:
    """The errors that the page gives each call for its own; those per token come with a success."""
    return {call: named(errors.partition("per token:")[0]) for call, errors in CALL.findall(PAGE)}


def declared(call: dict[str, Any]) -> set[str]:
    """The errors that the OpenAPI document gives a call."""
    answers = [answer["description"] for status, answer in call["responses"].items() if int(status) >= 400]
    return set(re.findall(r"`(\w+)`:", " ".join(answers)))


def of_any(name: str, call: dict[str, Any]) -> set[str]:
    """The errors of a call that are none of its own."""
    if "security" not in call:
        return set()
    return codes(WORKERS if " /api/work/" in name else ALWAYS)


def test_every_call_is_on_the_page_of_the_protocol(calls: dict[str, Any]) -> None:
    assert described().keys() == calls.keys()


def test_the_page_names_the_errors_that_each_call_declares(calls: dict[str, Any]) -> None:
    on_page = described()
    assert {name: on_page[name] | of_any(name, call) for name, call in calls.items()} == {
        name: declared(call) for name, call in calls.items()
    }


def test_what_any_call_may_answer_is_named_once(calls: dict[str, Any]) -> None:
    told = ANY_CALL.search(PAGE)
    assert told is not None
    assert named(told[1]) == codes(ALWAYS)
    assert named(told[2]) == codes(WORKERS) - codes(ALWAYS)
    on_page = described()
    assert {name: again for name, call in calls.items() if (again := on_page[name] & of_any(name, call))} == {}
