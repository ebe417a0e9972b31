"""Whatever a receiver of webhooks answers, the try is noted once, and nobody else is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.any_answer import HEADERS, STATUS, Headers, RawServer, head
from support.web_server import Canary

from whisper_farm.coordinator.services.webhooks import Webhooks, message
from whisper_farm.coordinator.threads import StoreThreads
from whisper_farm.settings import ServerSettings
from whisper_farm.store import webhooks
from whisper_farm.store.database import Database, Transaction

QUICK = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
SETTINGS = ServerSettings(private_networks=(ip_network("127.0.0.1/32"),))


@pytest.fixture
def server() -> Iterator[RawServer]:
    one = RawServer()
    yield one
    one.close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    one = Canary()
    yield one
    one.close()


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    one = Database.open(sqlite_url)
    yield one
    one.close()


def tried(
    database: Database, server: RawServer, answer: bytes, settings: ServerSettings = SETTINGS
) -> webhooks.DeliveryRow:
    """What is noted of a message to a server that answers so."""
    server.answer = answer
    (hook,) = database.read(webhooks.webhooks_of) or [
        database.write(lambda tx: webhooks.add_webhook(tx, "ann", server.url, False, 0))
    ]
    sent = database.write(lambda tx: webhooks.add_test(tx, hook.id, message(webhooks.TEST, tx.now, {})))

    async def run() -> None:
        store = StoreThreads(database)
        try:
            await Webhooks(store, settings).run_once()
        finally:
            await store.close()

    asyncio.run(run())
    return database.read(lambda tx: webhooks.find_delivery(tx, hook.id, sent.id))


@given(STATUS, HEADERS, st.binary(max_size=200))
@QUICK
def test_any_head_is_a_success_or_a_failure_with_its_reason(
    database: Database, server: RawServer, canary: Canary, status: int, headers: Headers, body: bytes
) -> None:
    found = tried(database, server, head(status, headers, canary) + body)
    assert found.state in ("delivered", "failed")
    assert found.tries == 1
    assert (found.state == "delivered") == (found.error is None)
    assert found.state == "failed" or 200 <= status < 300
    assert canary.visits == 0


@given(st.binary(max_size=400))
@QUICK
def test_any_bytes_are_a_failure_with_its_reason(
    database: Database, server: RawServer, canary: Canary, answer: bytes
) -> None:
    found = tried(database, server, answer)
    assert found.state == "failed" or answer.startswith(b"HTTP/")
    assert canary.visits == 0


def test_nothing_is_sent_to_a_network_that_is_not_public(database: Database, server: RawServer) -> None:
    """A name may lead there later than when it was added."""
    found = tried(database, server, b"HTTP/1.1 204 No Content\r\n\r\n", ServerSettings())
    assert found.state == "failed"
    assert found.error == "127.0.0.1 is no public address; WHISPER_FARM_PRIVATE_NETWORKS may allow it."


def test_messages_of_one_owner_hold_up_no_other(database: Database) -> None:
    """One owner has twenty receivers that never answer, and thousands of messages for them."""

    def fill(tx: Transaction) -> list[str]:
        greedy = [webhooks.add_webhook(tx, "greedy", f"http://192.0.2.{n}/", False, 0) for n in range(3)]
        for hook in greedy * 100:
            webhooks.add_delivery(tx, hook.id, "transcription_done", None, {})
        honest = webhooks.add_webhook(tx, "honest", "http://192.0.2.9/", False, 0)
        return [webhooks.add_delivery(tx, honest.id, "transcription_done", None, {}) for _ in range(2)]

    mine = database.write(fill)
    due = [each.id for each in database.write(lambda tx: webhooks.take_due(tx, 10))]
    assert set(mine) <= set(due)
    assert len(due) == 10
