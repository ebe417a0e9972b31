"""Join codes, for administrators: make one, see which workers wait, let them in or send them away."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.answers.openapi import ID
from whisper_farm.coordinator.coordinator import Farm
from whisper_farm.coordinator.dialect import routes_for
from whisper_farm.coordinator.layers.auth import Admin
from whisper_farm.errors import NotFound
from whisper_farm.protocol.client import JoinCode, JoinCodes
from whisper_farm.store import join_codes

router = routes_for("workers", "/join-codes")
JoinId = Annotated[str, Path(pattern=ID)]


@router.post("", status_code=201)
async def create_join_code(caller: Admin, farm: Farm) -> JoinCode:
    """Make a code by which one worker joins, within 15 minutes. It is in this answer and nowhere else."""
    row, code = await farm.store.write(lambda tx: join_codes.make_code(tx, caller.owner, caller.token_id))
    return JoinCode.of(row, code=code)


@router.get("")
async def list_join_codes(caller: Admin, farm: Farm) -> JoinCodes:
    """The codes that work, and with a name the workers that wait to be let in."""
    rows = await farm.store.read(join_codes.join_codes)
    return JoinCodes(codes=tuple(JoinCode.of(row) for row in rows))


@router.post("/{join_id}/approve", status_code=204, responses=documented(NotFound))
async def approve_worker(join_id: JoinId, caller: Admin, farm: Farm) -> None:
    """Let a waiting worker in: from now on its token is valid."""
    await farm.store.write(lambda tx: join_codes.approve(tx, join_id, farm.settings.max_tokens))
    farm.tokens.forget()
    farm.log.info("a worker was let in", action="worker_let_in", join_id=join_id, owner=caller.owner)


@router.delete("/{join_id}", status_code=204, responses=documented(NotFound))
async def remove_join_code(join_id: JoinId, caller: Admin, farm: Farm) -> None:
    """Remove a code, or send away the worker that waits."""
    await farm.store.write(lambda tx: join_codes.refuse(tx, join_id))
