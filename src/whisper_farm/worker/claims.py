"""Asking for work: one long poll for chunks to recognise, one for a recording to cut.

Promises: this never asks for more than there is room for. A call whose answer got lost is repeated with its request id,
so no claim is stranded. When the worker stops asking, what an unanswered call may have claimed is looked up
(`recover`). A refusal that may not last is told, and the farm is asked again later. Completions carry the next claim
with them (`to_go_along`) unless a call is under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from typing import NamedTuple

from whisper_farm.errors import FarmError
from whisper_farm.protocol.wire import MAX_BATCH, JobKind
from whisper_farm.protocol.worker import Claim, ClaimAnswer, ClaimRequest
from whisper_farm.worker.api import FATAL, WorkerApi
from whisper_farm.worker.notices import Notice, Tell
from whisper_farm.worker.tasks import Wakeup, now

WAIT_SECONDS = 20.0
"""How long the server may hold a call that finds no work."""
CUTS_AT_ONCE, CUTS_OF_ONE_OWNER = 3, 2
"""Recordings that are cut at a time: whoever sends what takes for ever holds up no other owner."""
MOST_CUTS = 6
"""With those of owners of whom nothing is cut here yet: such an owner need not wait until a place comes free."""
_QUICK_SECONDS = 1.0
_RECOVER_SECONDS = 1.0
_REFUSED_SECONDS = 5.0


class Room(NamedTuple):
    """How many more jobs of a kind fit, and how many of one owner this worker may then hold."""

    jobs: int
    of_one_owner: int | None = None


def room_to_cut(held: int) -> Room:
    """For recordings, so many being in hand."""
    if held < CUTS_AT_ONCE:
        return Room(CUTS_AT_ONCE - held, CUTS_OF_ONE_OWNER)
    return Room(MOST_CUTS - held, 1)


class ClaimCalls:
    """The calls for work of one worker. `room` says how many more jobs of a kind fit; `taken` receives each claim."""

    def __init__(
        self,
        api: WorkerApi,
        room: Callable[[JobKind], Room],
        taken: Callable[[Claim], None],
        told_to_go: Callable[[bool], None],
        tell: Tell,
    ) -> None:
        self.changed = Wakeup()
        """Notify it when there may be more room."""
        self._api, self._room = api, room
        self._taken, self._told_to_go, self._tell = taken, told_to_go, tell
        self._asking: dict[JobKind, str] = {}

    async def run(self, kind: JobKind) -> None:
        """Ask for jobs of this kind, whenever there is room, until cancelled."""
        while True:
            while (room := self._room(kind)).jobs <= 0 or kind in self._asking:
                await self.changed.wait(_QUICK_SECONDS)
            request = self._request(kind, room, WAIT_SECONDS)
            began = now()
            answer = await self._answer(request)
            del self._asking[kind]
            self.take(answer.claims, answer.drain)
            if not answer.claims and now() < began + _QUICK_SECONDS:
                await asyncio.sleep(_QUICK_SECONDS)

    async def _answer(self, request: ClaimRequest) -> ClaimAnswer:
        """What the farm gives; nothing, after a pause, if it refuses for a reason that may pass."""
        try:
            return await self._api.claim(request)
        except FATAL:
            raise
        except FarmError as refusal:
            self._tell(Notice("refused", f"The farm gives no work: {refusal.message}", {"code": refusal.code}))
            await asyncio.sleep(_REFUSED_SECONDS)
            return ClaimAnswer(claims=())

    def to_go_along(self) -> ClaimRequest | None:
        """A claim to send with completions, if there is room and no call under way. Follow with `came_along`."""
        room = self._room("transcribe")
        return None if room.jobs <= 0 or "transcribe" in self._asking else self._request("transcribe", room, 0)

    def came_along(self) -> None:
        """The claim that went along is answered, or lost."""
        self._asking.pop("transcribe", None)
        self.changed.notify_all()

    def take(self, claims: tuple[Claim, ...], drain: bool) -> None:
        """Pass claims on."""
        for claim in claims:
            self._taken(claim)
        if drain:
            self._told_to_go(False)

    async def recover(self) -> None:
        """After `run` was cancelled: find out what the calls under way claimed, and take it (to be handed back)."""
        for request_id in tuple(self._asking.values()):
            again = ClaimRequest(worker_id=self._api.worker_id, request_id=request_id)
            with contextlib.suppress(FarmError):
                answer: ClaimAnswer = await self._api.claim(again, _RECOVER_SECONDS)
                self.take(answer.claims, False)

    def _request(self, kind: JobKind, room: Room, wait_seconds: float) -> ClaimRequest:
        self._asking[kind] = secrets.token_hex(12)
        return ClaimRequest(
            worker_id=self._api.worker_id,
            request_id=self._asking[kind],
            jobs={kind: min(room.jobs, MAX_BATCH)},
            most_of_one_owner=room.of_one_owner,
            wait_seconds=wait_seconds,
        )
