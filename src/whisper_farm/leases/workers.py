"""Who claims: workers present themselves, are told to leave, and are asked who of them could take a job."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, func, insert, or_, select, update

from whisper_farm.errors import Forbidden, NotFound, WorkerUnknown, WrongState
from whisper_farm.leases.rules import stretched
from whisper_farm.protocol.events import WorkerDismissed, WorkerDraining, WorkerGone, WorkerJoined
from whisper_farm.protocol.worker import RegisterAnswer, RegisterRequest
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.prepared import Prepared
from whisper_farm.store.rows import among
from whisper_farm.store.tables import literally, profiles, workers


@dataclass(frozen=True, slots=True)
class Offers:
    """What a worker can run."""

    id: str
    cuts: bool
    engines: list[dict[str, Any]]

    def serves(self, engine: str | None, model: str | None) -> bool:
        """Whether it could take a job of that engine and model; no engine stands for cutting."""
        if engine is None:
            return self.cuts
        mine = (offer["models"] for offer in self.engines if offer["engine"] == engine)
        return any(models is None or model in models for models in mine)

    @property
    def of_profiles(self) -> ColumnElement[bool]:
        """The same as a condition on `profiles`."""
        mine = [profiles.c.kind == "chunk"] if self.cuts else []
        for offer in self.engines:
            models = offer["models"]
            named = profiles.c.model.is_not(None) if models is None else profiles.c.model.in_(models)
            mine.append(and_(profiles.c.engine == offer["engine"], named))
        return or_(*mine) if mine else profiles.c.id.is_(None)

    def has_loaded(self, engine: str | None, model: str | None) -> bool:
        """Whether the model is ready in its memory."""
        return any(offer["engine"] == engine and model in offer["loaded"] for offer in self.engines)


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker the farm counts on; `present` counts all of them."""

    id: str
    owner: str
    name: str
    state: str
    last_beat_at: float
    offers: Offers
    present: int

    @property
    def drains(self) -> bool:
        """Whether it was told to finish what it holds and leave."""
        return self.state in ("draining", "dismissed")


_others = workers.alias("others")
_PRESENT = select(func.count().label("workers")).select_from(_others).where(_others.c.state != literally("gone"))
EVERY = select(workers, _PRESENT.scalar_subquery().label("present"))
_COUNT = Prepared(_PRESENT)
_PROFILE = Prepared(select(profiles.c.engine, profiles.c.model).where(profiles.c.id == bindparam("profile")))
ONE = Prepared(EVERY.where(workers.c.id == bindparam("me")))
_LIVE = Prepared(
    select(workers.c.id, workers.c.cuts, workers.c.engines).where(
        workers.c.state != literally("gone"),
        workers.c.state == literally("live"),
        ~workers.c.reserved | (workers.c.reserved == bindparam("reserved")),
        (workers.c.last_seen_at > bindparam("since")) | among(workers.c.id, "here"),
    )
)


def register_worker(
    tx: Transaction, request: RegisterRequest, owner: str, policy: Policy, server_version: str
) -> RegisterAnswer:
    """Take a worker in, or take in what it says anew; one that was told to leave, ever, is told so again."""
    known = tx.first(ONE, {"me": request.worker_id})
    if known is not None and known.owner != owner:
        raise Forbidden(f"The worker {request.worker_id} belongs to someone else.")
    told = request.model_dump(mode="json", exclude={"worker_id"})
    row = told | {"owner": owner, "last_seen_at": tx.now}
    if known is None:
        new = {"id": request.worker_id, "state": "live", "registered_at": tx.now, "last_beat_at": tx.now}
        tx.change(insert(workers), row | new)
    else:
        row |= {"state": known.told or "live"} if known.state == "gone" else {}
        tx.change(update(workers).where(workers.c.id == request.worker_id).values(row))
    if known is None or known.state == "gone":
        emit(tx, WorkerJoined(worker_id=request.worker_id, name=request.name), owner=owner)
    now = stretched(policy, present_workers(tx))
    return RegisterAnswer(
        lease_seconds=now.lease_seconds, heartbeat_seconds=now.heartbeat_seconds, server_version=server_version
    )


def present_workers(tx: Transaction) -> int:
    """How many workers are not gone."""
    return int(tx.first(_COUNT, {}).workers)


def known_worker(tx: Transaction, worker_id: str) -> Worker:
    """The worker of that id; raises `WorkerUnknown` if there is none or it has been given up."""
    return as_worker(worker_id, tx.first(ONE, {"me": worker_id}))


def as_worker(worker_id: str, row: Any) -> Worker:
    """A row of `ONE`, or None, as a worker; raises `WorkerUnknown` as `known_worker` does."""
    if row is None or row.state == "gone":
        raise WorkerUnknown(f"The farm does not know the worker {worker_id}; register again.")
    offers = Offers(row.id, row.cuts, row.engines)
    return Worker(row.id, row.owner, row.name, row.state, row.last_beat_at, offers, row.present)


class Fleet:
    """Who could take a job: the live workers seen within a lease, read when first asked for."""

    def __init__(self, tx: Transaction, policy: Policy, here: Collection[str] = (), reserved: bool = False) -> None:
        """With `reserved` also those count that ask for certain recordings only, though perhaps for others."""
        self._tx, self._policy, self._here, self._reserved = tx, policy, here, reserved
        self._profiles: dict[str, tuple[str | None, str | None]] = {}

    @cached_property
    def offers(self) -> list[Offers]:
        """What the live workers can run; those whose calls these are count as seen."""
        since = self._tx.now - stretched(self._policy, present_workers(self._tx)).lease_seconds
        asked = {"since": since, "here": list(self._here), "reserved": self._reserved}
        return [Offers(*row) for row in self._tx.rows(_LIVE, asked)]

    def serves(self, profile_id: str, but: Collection[str] = ()) -> bool:
        """Whether a live worker, other than those, could take jobs of that profile."""
        if profile_id not in self._profiles:
            self._profiles[profile_id] = self._tx.first(_PROFILE, {"profile": profile_id})
        return any(offer.id not in but and offer.serves(*self._profiles[profile_id]) for offer in self.offers)

    def has_spent(self, policy: Policy, profile_id: str, charged: int, culprits: Collection[str]) -> bool:
        """Whether a job with so many charged attempts, by those, has had its share.

        Where somebody else could take it, it is tried on two workers, but never more than twice as often.
        """
        if charged < policy.max_attempts:
            return False
        enough = len(culprits) >= 2 or charged >= 2 * policy.max_attempts
        return enough or not self.serves(profile_id, but=culprits)


def drain(tx: Transaction, worker_id: str) -> None:
    """Tell a worker, by its next answer, to finish what it holds and leave; told again, nothing changes."""
    _tell(tx, worker_id, "draining", WorkerDraining, before=("live",))


def dismiss(tx: Transaction, worker_id: str) -> None:
    """Tell a worker, by its next answer, to hand everything back and leave at once."""
    _tell(tx, worker_id, "dismissed", WorkerDismissed, before=("live", "draining"))


def _tell(
    tx: Transaction,
    worker_id: str,
    state: str,
    event: type[WorkerDraining | WorkerDismissed],
    before: Collection[str],
) -> None:
    row = tx.first(ONE, {"me": worker_id})
    if row is None:
        raise NotFound(f"There is no worker {worker_id}.")
    if row.state == "gone":
        raise WrongState(f"The worker {worker_id} is gone already.")
    if row.state in before:
        tx.change(update(workers).where(workers.c.id == worker_id).values(state=state, told=state))
        emit(tx, event(worker_id=worker_id, name=row.name), owner=row.owner)


def give_up(tx: Transaction, which: ColumnElement[bool]) -> int:
    """Say of the workers this condition chooses that they are gone; returns how many."""
    there = update(workers).where(workers.c.state != literally("gone"), which).values(state="gone")
    gone = tx.connection.execute(there.returning(workers.c.id, workers.c.owner, workers.c.name)).all()
    for row in sorted(gone):
        emit(tx, WorkerGone(worker_id=row.id, name=row.name), owner=row.owner)
    return len(gone)
