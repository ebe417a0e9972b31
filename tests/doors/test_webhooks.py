"""A real receiver hears of transcriptions, in messages that the Standard Webhooks library verifies."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from support.farm_processes import Farm, Recording, until

from whisper_farm.cli.main import outcome
from whisper_farm.coordinator.services import webhooks as service

Speak = Callable[..., Recording]
SETTINGS = {"WHISPER_FARM_PRIVATE_NETWORKS": '["127.0.0.0/8"]', "WHISPER_FARM_DEFAULT_MODEL": "tones:instant"}


class Receiver(ThreadingHTTPServer):
    """Keeps what it gets, and answers with the next of `statuses`, in the end with 204."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: queue.Queue[tuple[bytes, dict[str, str]]] = queue.Queue()
        self.statuses: list[int] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/told"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def next(self, secret: str) -> tuple[Any, dict[str, str]]:
        """The next message, verified, and its headers."""
        body, headers = self.got.get(timeout=60)
        return Webhook(secret).verify(body, headers), headers


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.put((body, dict(self.headers)))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 204)
        self.send_header("Location", self.server.url)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one
        one.shutdown()


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A farm that may send to loopback addresses, with a worker."""
    with Farm(tmp_path_factory.mktemp("telling"), settings=SETTINGS) as farm, farm.worker():
        until(lambda: list(farm.client.workers()), "the worker is there")
        yield farm


def api(farm: Farm, method: str, path: str, token: str = "", **given: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token or farm.token}"}
    return httpx.request(method, f"{farm.url}/api{path}", headers=headers, timeout=30, trust_env=False, **given)


def hooked(farm: Farm, url: str, token: str = "", **asked: Any) -> dict[str, Any]:
    """A new webhook."""
    answer = api(farm, "POST", "/webhooks", token, json={"url": url, **asked})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def deliveries(farm: Farm, hook: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api(farm, "GET", f"/webhooks/{hook['id']}/deliveries").json()["deliveries"]
    return found


def test_a_receiver_hears_what_was_done_and_what_failed(
    telling: Farm, receiver: Receiver, speak: Speak, tmp_path: Path
) -> None:
    hook = hooked(telling, receiver.url)
    talk = speak()
    done = telling.submit(talk)
    told, _ = receiver.next(hook["secret"])
    assert (told["type"], told["data"]) == ("transcription.done", {"id": done, "name": talk.path.name})
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no recording" * 99)
    failed = telling.client.submit_file(broken).id
    told, headers = receiver.next(hook["secret"])
    assert told["type"] == "transcription.failed"
    assert told["data"]["id"] == failed
    assert told["data"]["code"] == "not_audio"
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "A" * 32).verify(b"{}", headers)
    until(lambda: [each["state"] for each in deliveries(telling, hook)] == ["delivered"] * 2, "both are noted")
    assert api(telling, "DELETE", f"/webhooks/{hook['id']}").status_code == 204


@pytest.mark.parametrize("refusal", [500, 302])
def test_a_message_that_was_not_taken_comes_again_with_the_same_id(
    telling: Farm, receiver: Receiver, speak: Speak, refusal: int
) -> None:
    """A redirect is not followed: it is a refusal like others."""
    receiver.statuses = [refusal]
    hook = hooked(telling, receiver.url)
    telling.submit(speak())
    first, first_headers = receiver.next(hook["secret"])
    again, again_headers = receiver.next(hook["secret"])
    assert first == again
    assert first_headers["webhook-id"] == again_headers["webhook-id"]
    until(lambda: [each["state"] for each in deliveries(telling, hook)] == ["delivered"], "it is noted")
    assert [each["tries"] for each in deliveries(telling, hook)] == [2]
    assert receiver.got.empty()
    api(telling, "DELETE", f"/webhooks/{hook['id']}")


NO_NAME = "x" * 64 + ".example"
"""No resolver is asked for a name as long as that."""


@pytest.mark.parametrize("place", ["/webhooks", "/feeds"])
@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:9/x", "127.0.0.1 is no public address; WHISPER_FARM_PRIVATE_NETWORKS may allow it."),
        (f"https://{NO_NAME}/x", f"There is no host {NO_NAME}; check the address."),
    ],
)
def test_an_address_that_leads_nowhere_or_inside_is_refused_when_it_is_added(
    tones_farm: Farm, place: str, url: str, why: str
) -> None:
    refused = api(tones_farm, "POST", place, json={"url": url})
    assert refused.status_code == 422
    assert (refused.json()["error"]["code"], refused.json()["error"]["message"]) == ("address_refused", why)


def test_webhooks_are_their_owners_and_addresses_are_checked(telling: Farm, receiver: Receiver) -> None:
    tokens = [
        api(telling, "POST", "/tokens", json={"name": "key", "scope": "user", "owner": owner}).json()["token"]
        for owner in ("ann", "bob")
    ]
    hook = hooked(telling, receiver.url, tokens[0])
    assert api(telling, "GET", "/webhooks", tokens[1]).json() == {"webhooks": []}
    (shown,) = api(telling, "GET", "/webhooks", tokens[0]).json()["webhooks"]
    assert shown == {**hook, "secret": None}
    place = f"/webhooks/{hook['id']}"
    message = api(telling, "POST", f"{place}/test", tokens[0]).json()["id"]
    calls = [("DELETE", place), ("GET", f"{place}/deliveries"), ("POST", f"{place}/test")]
    for method, path in (*calls, ("POST", f"{place}/deliveries/{message}/redeliver")):
        assert api(telling, method, path, tokens[1]).status_code == 404
    refused = api(telling, "POST", "/webhooks", tokens[0], json={"url": "file:///etc/passwd"})
    assert refused.json()["error"]["code"] == "address_refused"
    assert api(telling, "DELETE", f"/webhooks/{hook['id']}", tokens[0]).status_code == 204


def test_progress_is_told_at_each_tenth_and_never_twice(telling: Farm, receiver: Receiver, speak: Speak) -> None:
    """Of some fifty chunks there are nine messages at most; the last message is the end's."""
    hook = hooked(telling, receiver.url, progress=True)
    made = telling.submit(speak(400), model="x20", chunk_seconds=1.5)
    told = [receiver.next(hook["secret"])[0]]
    while told[-1]["type"] == "transcription.progress":
        told.append(receiver.next(hook["secret"])[0])
    shares = sorted(one["data"]["done_seconds"] / one["data"]["duration_seconds"] for one in told[:-1])
    assert 1 <= len(shares) <= 9
    assert [int(share * 10) for share in shares] == sorted({int(share * 10) for share in shares})
    assert all(0.1 <= share <= 1 for share in shares)
    assert {one["data"]["id"] for one in told} == {made}
    assert told[-1]["type"] == "transcription.done"
    assert len(telling.jobs(made)) > 40
    telling.client.remove_webhook(hook["id"])


def test_an_address_is_tried_and_a_message_is_sent_again_when_asked(
    telling: Farm, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """As people do it who set one up: with the command line."""

    def farm(*words: str) -> tuple[int, str]:
        code = outcome(["webhook", *words, "--server", telling.url, "--token", telling.token])
        return code, capsys.readouterr().out

    code, made = farm("add", receiver.url)
    assert code == 0
    hook, secret = made.split()
    receiver.statuses = [500]
    code, shown = farm("test", hook)
    assert code == 1
    assert "failed" in shown
    assert "answered with 500" in shown
    told, first = receiver.next(secret)
    assert (told["type"], told["data"]) == ("webhook.test", {"id": hook})
    code, shown = farm("test", hook)
    assert code == 0
    message = receiver.next(secret)[1]["webhook-id"]
    assert message != first["webhook-id"]
    assert message in shown
    assert "delivered" in shown
    code, shown = farm("redeliver", hook, message)
    assert code == 0
    again, headers = receiver.next(secret)
    assert again["data"] == {"id": hook}
    assert headers["webhook-id"] == message
    code, shown = farm("log", hook)
    assert shown.count("webhook.test") == 1, "a test takes the place of the one before"
    assert receiver.url in farm("list")[1]
    assert farm("redeliver", hook, "msg_none")[0] == 1
    assert farm("remove", hook) == (0, f"{hook}  removed\n")
    assert farm("test", hook)[0] == 1
    assert receiver.got.empty()


def test_the_tries_go_on_for_a_day() -> None:
    assert 0.9 < sum(service.WAIT_SECONDS) / 86_400 <= 1
