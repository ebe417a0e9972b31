"""Access tokens: make, list, revoke. A user has user tokens; an admin makes any, for anybody."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.answers.openapi import IdInPath
from whisper_farm.coordinator.coordinator import Farm
from whisper_farm.coordinator.dialect import routes_for
from whisper_farm.coordinator.layers.auth import AnyCaller
from whisper_farm.errors import Forbidden, NotFound
from whisper_farm.protocol.administration import NewToken, TokenList, TokenView
from whisper_farm.protocol.events import SettingsChanged
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.tokens import TokenRow, list_tokens, mint_token, must_have_room, revoke_token

router = routes_for("tokens", "/tokens")


@router.post("", status_code=201)
async def create_token(body: NewToken, caller: AnyCaller, farm: Farm) -> TokenView:
    """Make a token. Its secret is in this answer and nowhere else."""
    owner = body.owner or caller.owner
    if caller.scope != "admin" and (body.scope != "user" or owner != caller.owner):
        raise Forbidden("Only an admin makes tokens for others, or for workers (they hear everybody's recordings).")

    def mint(tx: Transaction) -> tuple[TokenRow, str]:
        must_have_room(tx, owner, farm.settings.max_tokens)
        emit(tx, SettingsChanged(what="tokens"), owner=owner)
        return mint_token(tx, body.name, owner, body.scope, caller.token_id, body.days)

    row, secret = await farm.store.write(mint)
    farm.log.info("a token was made", action="token_created", token_id=row.id, owner=owner, scope=body.scope)
    return TokenView.of(row, token=secret)


@router.get("")
async def get_tokens(caller: AnyCaller, farm: Farm) -> TokenList:
    """The tokens that are valid, without their secrets: the own user tokens, or for an admin all."""
    rows = await farm.store.read(lambda tx: list_tokens(tx, caller.sees))
    return TokenList(tokens=tuple(TokenView.of(row) for row in rows))


@router.delete("/{token_id}", status_code=204, responses=documented(NotFound))
async def delete_token(
    token_id: IdInPath,
    caller: AnyCaller,
    farm: Farm,
    only: Annotated[bool, Query(description="Keep the tokens that were made with it.")] = False,
) -> None:
    """Revoke a token and all that were made with it: at once here, within seconds on other coordinators."""
    if not await farm.store.write(lambda tx: revoke_token(tx, token_id, caller.sees, only)):
        raise NotFound(f"There is no token {token_id}.")
    farm.tokens.forget()
    farm.log.info("a token was revoked", action="token_revoked", token_id=token_id)
