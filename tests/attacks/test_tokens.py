"""Wrong tokens are told to wait, by the address they come from, and nobody else is."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from argon2 import PasswordHasher
from support.served_farm import ServedFarm, refused

from whisper_farm.client.farm import FarmClient
from whisper_farm.coordinator.layers import auth
from whisper_farm.coordinator.layers.auth import WRONG_TOKENS
from whisper_farm.coordinator.layers.quotas import REMEMBERED, TRIES, FailedTries, address_of
from whisper_farm.coordinator.routes import web
from whisper_farm.errors import FarmError, StorageError, TooManyTries, Unauthorized
from whisper_farm.store.database import Transaction
from whisper_farm.store.tokens import TokenRow


def test_whoever_guesses_tokens_is_told_to_wait_and_shares_no_fate_with_his_neighbours(farm: ServedFarm) -> None:
    ann, work = farm.user("ann"), "/api/work/claim"
    for number in range(WRONG_TOKENS):
        assert refused(farm.client(f"wf_user_{number}").get("/api/tokens")) == (401, "unauthorized")
    for path in ("/api/tokens", "/v1/models"):
        answer = farm.client("wf_user_more").get(path)
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) > 0
    assert farm.client("wf_worker_more").post(work, headers={"Whisper-Farm-Protocol": "1"}).status_code == 429
    assert ann.get("/api/tokens").is_success
    assert farm.user("bob").get("/api/tokens").is_success, "a new one from the same address as well"
    assert farm.client("").get("/api/tokens").status_code == 401, "without a token nobody is guessing"


def test_whoever_guesses_tokens_makes_the_farm_look_few_times_a_second(
    farm: ServedFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, looks = farm.coordinator.tokens._find, list[int]()

    def counted(tx: Transaction, digests: Collection[str]) -> Sequence[TokenRow]:
        looks.append(len(digests))
        return find(tx, digests)

    guessers = [farm.client(f"wf_user_{number}") for number in range(WRONG_TOKENS + 60)]
    for guesser in guessers[:WRONG_TOKENS]:
        guesser.get("/api/tokens")
    monkeypatch.setattr(farm.coordinator.tokens, "_find", counted)
    monkeypatch.setattr(auth, "LOOK_SECONDS", 2.0)
    begun = time.monotonic()
    with ThreadPoolExecutor(60) as pool:
        answers = list(pool.map(lambda guesser: guesser.get("/api/tokens").status_code, guessers[WRONG_TOKENS:]))
    assert set(answers) == {429}
    assert sum(looks) == 60
    turns = 1 + (time.monotonic() - begun) / auth.LOOK_SECONDS
    assert len(looks) <= 2 * turns, "they are looked up together, at the next turn"


def test_what_is_remembered_of_failures_is_bounded() -> None:
    failures = FailedTries(3)
    for number in range(2 * REMEMBERED):
        failures.failed(f"address {number}")
    assert len(failures._failures) == REMEMBERED


def test_passwords_that_are_guessed_at_once_are_no_more_than_one_after_the_other(
    farm: ServedFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each costs a processor and 64 MiB: nobody without an account may have a hundred looked at, nor two at a time."""
    two = threading.Barrier(2)
    met: list[int] = []

    class Cheap(PasswordHasher):
        def __init__(self) -> None:
            super().__init__(time_cost=1, memory_cost=64)

        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            with suppress(threading.BrokenBarrierError):
                met.append(two.wait(0.5))
            return super().hash(password, salt=salt)

    def guess(number: int) -> int:
        body = {"name": f"somebody {number}", "password": "guess"}
        return farm.client("").post("/app/session", json=body, headers={"whisper-farm-app": "1"}).status_code

    monkeypatch.setattr(web, "PasswordHasher", Cheap)
    monkeypatch.setattr(web, "nobodys_hash", cache(web.nobodys_hash.__wrapped__))
    with ThreadPoolExecutor(40) as pool:
        answers = Counter(pool.map(guess, range(40)))
    assert answers == {401: TRIES, 429: 40 - TRIES}
    assert met == [], "what nobody's password is held against is made once"


def test_of_several_who_sign_in_at_once_none_counts_as_failed() -> None:
    tries = FailedTries(2)
    for _ in range(5):
        with tries.one_try("ann"), tries.one_try("ann"), pytest.raises(TooManyTries), tries.one_try("ann"):
            pass
    for error in (StorageError, Unauthorized, Unauthorized):
        with pytest.raises(error), tries.one_try("ann"):
            raise error
    with pytest.raises(TooManyTries):
        tries.check("ann")


def test_no_token_follows_a_redirect(farm: ServedFarm) -> None:
    """Whoever listens at the address that somebody typed wrong, or at a port that was the farm's, may send one."""
    asked: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(307)
            self.send_header("Location", f"{farm.url}/api/tokens")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with (
        HTTPServer(("127.0.0.1", 0), Elsewhere) as server,
        FarmClient(f"http://127.0.0.1:{server.server_port}", farm.token) as client,
    ):
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with pytest.raises(FarmError, match="307"):
            client.tokens()
        server.shutdown()
        thread.join()
    assert asked == ["/api/tokens"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:0:1::5", "2001:db8:0:1:ffff::9", True),
        ("2001:db8:0:1::5", "2001:db8:0:2::5", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_a_house_with_many_addresses_has_no_more_tries(one: str, other: str, same: bool) -> None:
    assert (address_of({"client": (one, 1)}) == address_of({"client": (other, 1)})) == same
