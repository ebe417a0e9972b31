"""A worker joins a farm by a code: it makes its token, has it let in, and keeps it for the next start."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from whisper_farm.errors import Unauthorized
from whisper_farm.protocol.worker import JoinRequest, digest_of
from whisper_farm.settings import data_folder
from whisper_farm.whole_files import write_secret
from whisper_farm.worker.api import WorkerApi

PATIENCE_SECONDS = 60.0
ASK_SECONDS = 2.0
WAIT_SECONDS = 3600.0


def token_file(server: str) -> Path:
    """Where the token for this server is kept. It goes to no other."""
    name = hashlib.sha256(server.rstrip("/").encode()).hexdigest()[:16]
    return data_folder() / "joined" / name


def joined_token(server: str) -> str | None:
    """The token with which this machine has joined this server, if it has."""
    with suppress(OSError, UnicodeDecodeError):
        return token_file(server).read_text(encoding="utf-8").strip() or None
    return None


async def join(server: str, code: str, name: str, say: Callable[[str], None]) -> str:
    """Join by this code; returns the token. Raises `Unauthorized` if the code does not work, or nobody lets us in."""
    token = f"wf_worker_{secrets.token_urlsafe(32)}"
    request = JoinRequest(code=code, name=name, token_hash=digest_of(token.encode()))
    api = WorkerApi(server, token, PATIENCE_SECONDS / 4, told=lambda _, line: say(line))
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            answer = await api.join(request, PATIENCE_SECONDS)
            if answer.state == "waiting":
                say(f"{name} waits until an administrator lets it in, on the farm page of {server}.")
            while answer.state == "waiting":
                await asyncio.sleep(ASK_SECONDS)
                answer = await api.join(request, PATIENCE_SECONDS)
    except TimeoutError as error:
        raise Unauthorized("Nobody has let this worker in within an hour; ask for another code.") from error
    finally:
        await api.close()
    write_secret(token_file(server), token)
    return token
