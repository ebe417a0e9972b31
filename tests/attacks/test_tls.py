"""A server speaks HTTPS itself, and says which file is wrong when it cannot."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from support.certificates import certificate
from support.hand_worker import HandWorker
from support.served_farm import StartFarm, eventually
from support.submitting import submit

from whisper_farm.cli.main import outcome
from whisper_farm.coordinator import tls
from whisper_farm.coordinator.tls import tls_context
from whisper_farm.errors import FarmError

Captured = pytest.CaptureFixture[str]


def test_a_recording_is_transcribed_over_https_alone(start_farm: StartFarm, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path / "tls")
    farm = start_farm(tls_cert=cert, tls_key=key)
    assert farm.url.startswith("https://127.0.0.1:")
    assert (farm.data / "server-address").read_text().strip() == farm.url
    trusting = ssl.create_default_context(cafile=str(cert))
    assert httpx.get(f"{farm.url}/healthz", verify=trusting, trust_env=False, timeout=60).is_success
    with pytest.raises(httpx.HTTPError):
        httpx.get(farm.url.replace("https", "http") + "/healthz", trust_env=False)
    made = submit(farm.admin)
    worker = HandWorker(farm.url, farm.token)
    worker.register()
    worker.work_off()
    worker.close()
    place = f"/api/transcriptions/{made['id']}"
    eventually(lambda: farm.admin.get(place).json()["state"] == "done", "the transcript")


def test_the_command_line_trusts_a_certificate_that_is_named(
    start_farm: StartFarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    cert, key = certificate(tmp_path / "tls")
    farm = start_farm(tls_cert=cert, tls_key=key)
    status = ["status", "--server", farm.url, "--token", farm.token]
    assert outcome(status) != 0
    assert "certificate" in capsys.readouterr().err.lower()
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    assert outcome(status) == 0


def test_one_that_never_greets_holds_up_nobody(start_farm: StartFarm, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path / "tls")
    farm = start_farm(tls_cert=cert, tls_key=key)
    silent = [socket.create_connection(("127.0.0.1", httpx.URL(farm.url).port or 0)) for _ in range(50)]
    try:
        assert farm.admin.get("/healthz").is_success
    finally:
        for one in silent:
            one.close()


@pytest.mark.parametrize("half", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_a_handshake_that_is_not_finished_is_ended_like_a_slow_head(
    start_farm: StartFarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: bytes
) -> None:
    monkeypatch.setattr(tls, "HEAD_SECONDS", 0.5)
    cert, key = certificate(tmp_path / "tls")
    farm = start_farm(tls_cert=cert, tls_key=key)
    with socket.create_connection(("127.0.0.1", httpx.URL(farm.url).port or 0)) as silent:
        silent.sendall(half)
        silent.settimeout(10)
        with suppress(ConnectionError):
            assert silent.recv(1) == b""


def test_with_too_many_handshakes_the_oldest_ends(
    start_farm: StartFarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "MOST_HANDSHAKES", 20)
    monkeypatch.setattr(tls, "HEAD_SECONDS", 600)  # none ends for its slowness
    cert, key = certificate(tmp_path / "tls")
    farm = start_farm(tls_cert=cert, tls_key=key)
    place = "127.0.0.1", httpx.URL(farm.url).port or 0
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(place, timeout=10)) for _ in range(40)]
        for one in silent[:15]:
            with suppress(ConnectionError):
                assert one.recv(1) == b""
        assert farm.client("").get("/healthz").is_success
        for one in silent[-15:]:
            one.setblocking(False)
            with pytest.raises(BlockingIOError):
                one.recv(1)


def test_it_is_said_which_file_is_wrong(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path / "one")
    _, other = certificate(tmp_path / "other")
    _, locked = certificate(tmp_path / "locked", password=b"secret")
    text = tmp_path / "text"
    text.write_text("nothing")
    wrong = {
        "cannot be read": (tmp_path / "missing", key),
        "does not belong": (cert, other),
        "locked": (locked.with_name("cert.pem"), locked),
        "no certificate": (text, None),
        "--tls_cert": (None, key),
    }
    for said, files in wrong.items():
        with pytest.raises(FarmError, match=said):
            tls_context(*files)
    whole = tmp_path / "whole.pem"
    whole.write_bytes(key.read_bytes() + cert.read_bytes())
    assert tls_context(whole, None)


def test_a_worker_beside_the_server_needs_the_name_in_the_certificate(tmp_path: Path, capsys: Captured) -> None:
    cert, key = certificate(tmp_path / "tls")
    files = ["--tls_cert", str(cert), "--tls_key", str(key)]
    assert outcome(["serve", "--worker", *files, "--data", str(tmp_path / "data")]) == 2
    assert "--public_url" in capsys.readouterr().err
