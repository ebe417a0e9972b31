"""Who claims: workers present themselves, are told to leave, and are asked who of them could take a job.

A worker with a label works on transcriptions with that label and on no others; one without on those without.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal, TypedDict, TypeVar

from whisper_farm import __version__
from whisper_farm.errors import Forbidden, QuotaReached, TooLarge, WorkerUnknown, WrongState
from whisper_farm.leases.rules import LeaseTiming, stretched
from whisper_farm.protocol import events
from whisper_farm.protocol.worker import RegisterAnswer, RegisterRequest
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.statements import Change, Json, Query, columns

MAX_OFFERS_LENGTH = 32 << 10
"""Every claim reads what all workers offer."""
NAMED = 3
"""Workers that a warning names."""
WorkerState = Literal["live", "draining", "dismissed", "gone"]


class Offer(TypedDict):
    """An engine that a worker runs; no `models` means any but those that rest."""

    engine: str
    models: list[str] | None
    loaded: list[str]
    resting: list[str]
    options: list[str] | None


@dataclass(frozen=True, slots=True)
class Offers:
    """What a worker can run."""

    id: str
    name: str
    label: str
    cuts: bool
    engines: list[Offer]
    token_id: str | None

    @property
    def rests(self) -> bool:
        """Whether it offers nothing: it is outside of its working hours."""
        return not self.engines and not self.cuts

    def serves(self, needs: str) -> bool:
        """Whether it could take a job that needs that. Who cuts recordings does whatever needs no engine."""
        label, _, what = needs.partition(":")
        if label != self.label or " " not in what:
            return label == self.label and self.cuts
        engine, _, model = what.partition(" ")
        return any(model not in offer["resting"] for offer in self._running(engine, model))

    def lacks(self, engine: str, model: str) -> bool:
        """Whether it would run that model, and cannot have it for now."""
        return any(model in offer["resting"] for offer in self._running(engine, model))

    def _running(self, engine: str, model: str) -> list[Offer]:
        mine = [offer for offer in self.engines if offer["engine"] == engine]
        return [offer for offer in mine if offer["models"] is None or model in offer["models"]]

    def unheeded(self, engine: str, options: Collection[str]) -> list[str]:
        """Those of these options that the engine here does not heed, as far as is known."""
        mine = next(offer for offer in self.engines if offer["engine"] == engine)
        heeded = mine.get("options")
        return [] if heeded is None else [name for name in options if name not in heeded]

    def has_loaded(self, needs: str) -> bool:
        """Whether the model is ready in its memory."""
        engine, _, model = needs.partition(":")[2].partition(" ")
        return any(offer["engine"] == engine and model in offer["loaded"] for offer in self.engines)


@dataclass(frozen=True, slots=True)
class Worker(Offers):
    """A worker; `present` counts all that are not gone."""

    owner: str
    state: WorkerState
    told: WorkerState | None
    paused: bool
    last_beat_at: float
    wanted_hours: str | None
    present: int

    @property
    def drains(self) -> bool:
        """Whether it was told to finish what it holds and leave."""
        return self.state in ("draining", "dismissed")


W = TypeVar("W")
WORKER = f"""{columns(Offers)}, owner, state, told, paused, last_beat_at,
    (SELECT hours FROM working_hours WHERE working_hours.name = workers.name) AS wanted_hours,
    (SELECT count(*) FROM workers WHERE state <> 'gone') AS present"""
FIND = Query[Worker](f"SELECT {WORKER} FROM workers WHERE id = :me")
OF_TOKEN = Query[int]("SELECT count(*) AS present FROM workers WHERE state <> 'gone' AND token_id = :token")
PRESENT = Query[int]("SELECT count(*) AS present FROM workers WHERE state <> 'gone'")
LIVE = Query[Offers](f"""
    SELECT {columns(Offers)} FROM workers
     WHERE state <> 'gone' AND state = 'live' AND NOT paused AND (last_seen_at > :since OR id = :asking)
""")
REGISTER = Change("""
    INSERT INTO workers (id, owner, name, version, platform, slots, engines, cuts, label, machine, hours, state,
                         token_id, registered_at, last_seen_at, last_beat_at)
    VALUES (:worker_id, :owner, :name, :version, :platform, :slots, :engines, :cuts, :label, :machine, :hours, 'live',
            :token_id, :now, :now, :now)
    ON CONFLICT (id) DO UPDATE
       SET name = excluded.name, version = excluded.version, platform = excluded.platform, slots = excluded.slots,
           engines = excluded.engines, cuts = excluded.cuts, label = excluded.label, machine = excluded.machine,
           hours = excluded.hours,
           last_seen_at = excluded.last_seen_at,
           state = CASE WHEN workers.state = 'gone' THEN COALESCE(workers.told, 'live') ELSE workers.state END
""")
TELL = Change("UPDATE workers SET state = :state, told = :state WHERE id = :me")
WANTED_HOURS = Query[str]("SELECT hours FROM working_hours WHERE name = :name")
WANT_HOURS = Change("""
    INSERT INTO working_hours (name, hours) VALUES (:name, :hours)
    ON CONFLICT (name) DO UPDATE SET hours = excluded.hours
""")
FORGET_HOURS = Change("DELETE FROM working_hours WHERE name = :name")
PAUSE = Change("UPDATE workers SET paused = :paused WHERE id = :me")
GO = "UPDATE workers SET state = 'gone' WHERE state <> 'gone'"
LEAVE = Query[tuple[str, str, str]](f"{GO} AND id = :me RETURNING id, owner, name")
GIVE_UP = Query[tuple[str, str, str]](f"{GO} AND last_seen_at < :before RETURNING id, owner, name")
UNSERVED = Query[tuple[str, str]]("""
    SELECT transcriptions.id, transcriptions.owner
      FROM jobs JOIN transcriptions ON transcriptions.id = jobs.transcription_id
     WHERE jobs.state = 'queued' AND jobs.needs = :needs
       AND jobs.profile_id IN (SELECT id FROM profiles WHERE engine = :engine AND model = :model)
     UNION
    SELECT transcriptions.id, transcriptions.owner
      FROM attempts JOIN jobs ON jobs.id = attempts.job_id
           JOIN transcriptions ON transcriptions.id = jobs.transcription_id
     WHERE attempts.state = 'live' AND attempts.worker_id = :me AND jobs.needs = :needs
     ORDER BY 1 LIMIT 1000
""")
"""The transcriptions that wait for what a worker cannot do any more, also those whose chunks it is about to fail."""
LEAVE_NOTHING = Change("UPDATE jobs SET left_by = NULL WHERE state = 'queued' AND left_by IS NOT NULL")
"""What was left to others may be tried again by those who are there, for one of the others is gone."""


def register_worker(
    tx: Transaction,
    request: RegisterRequest,
    owner: str,
    policy: Policy,
    token_id: str = "",
    max_workers: int | None = None,
) -> RegisterAnswer:
    """Take a worker in, or take in what it says anew; one that was told to leave, ever, is told so again.

    It is bound to the token that presents it first. One token may have so many workers, and no offers of any length.
    """
    known = tx.first(FIND, {"me": request.worker_id})
    if known is not None and (known.owner, known.token_id) != (owner, token_id):
        raise Forbidden(f"The worker {request.worker_id} was registered with another token.")
    comes = known is None or known.state == "gone"
    if comes and max_workers is not None and (tx.first(OF_TOKEN, {"token": token_id}) or 0) >= max_workers:
        raise QuotaReached(f"{max_workers} workers use this token, the most here; give the others another one.")
    told = request.model_dump(mode="json")
    if len(json.dumps(told["engines"])) > MAX_OFFERS_LENGTH:
        raise TooLarge(f"What this worker offers is longer than {MAX_OFFERS_LENGTH} letters; name fewer models.")
    machine = told["machine"] and Json(told["machine"])
    more = {"engines": Json(told["engines"]), "machine": machine, "owner": owner, "token_id": token_id}
    tx.change(REGISTER, told | more)
    if known is None or known.state == "gone" or known.rests:
        emit(tx, events.WorkerJoined(worker_id=request.worker_id, name=request.name), owner=owner)
    if known is not None:
        for offer in request.engines:
            for model in offer.resting:
                _cannot_serve(tx, known, offer.engine, model, policy)
    hours = tx.first(WANTED_HOURS, {"name": request.name})
    return RegisterAnswer(**asdict(timing(tx, policy)), server_version=__version__, hours=hours)


def _cannot_serve(tx: Transaction, before: Worker, engine: str, model: str, policy: Policy) -> None:
    """A model rests on a worker: whoever waits for it and has nobody else is told so, once."""
    needs = f"{before.label}:{engine} {model}"
    if before.serves(needs) and not LiveWorkers(tx, policy, asking=before.id).serves(needs):
        lacking = LiveWorkers(tx, policy, asking=before.id).lacking(before.label, engine, model)
        said = events.TranscriptionUnserved(message=nobody_runs(engine, model, lacking))
        for transcription_id, owner in tx.rows(
            UNSERVED, {"needs": needs, "me": before.id, "engine": engine, "model": model}
        ):
            emit(tx, said, transcription_id, owner)


def nobody_runs(engine: str, model: str, lacking: Sequence[str] = ()) -> str:
    """What is said of a transcription that no live worker can serve; those would that are lacking the model."""
    if lacking:
        return (
            f"{', '.join(lacking[:NAMED])} cannot have the model {model} of {engine} for now; the log there says why."
            " Check the model's name, and the way to the model hub."
        )
    return f"No live worker runs {engine} with the model {model}; start one that does, or check the model's name."


def silent_since(tx: Transaction, policy: Policy) -> float:
    """Workers that were last seen before that are not counted on: they have been silent for a lease."""
    return tx.now - timing(tx, policy).lease_seconds


def timing(tx: Transaction, policy: Policy) -> LeaseTiming:
    """How long leases last now, with so many workers as are not gone."""
    return stretched(policy, tx.first(PRESENT) or 0)


def known_worker(tx: Transaction, worker_id: str) -> Worker:
    """The worker of that id; raises `WorkerUnknown` if there is none or it has been given up."""
    worker = tx.first(FIND, {"me": worker_id})
    return must_be_there(worker_id, None if worker is None or worker.state == "gone" else worker)


def must_be_there(worker_id: str, found: W | None) -> W:
    """What was found of that worker; raises `WorkerUnknown` if it is nothing."""
    if found is None:
        raise WorkerUnknown(f"The farm does not know the worker {worker_id}; register again.")
    return found


class LiveWorkers:
    """Who could take a job: the live workers seen within a lease, read when first asked for."""

    def __init__(self, tx: Transaction, policy: Policy, asking: str | None = None) -> None:
        """`asking` names the worker whose call this is: it counts as seen."""
        self._tx, self._policy, self._asking = tx, policy, asking

    @cached_property
    def offers(self) -> list[Offers]:
        """What the live workers can run; those outside of their hours run nothing."""
        asked = {"since": silent_since(self._tx, self._policy), "asking": self._asking or ""}
        found = self._tx.rows(LIVE, asked)
        return [one for one in found if not one.rests]

    def serves(self, needs: str, but: Collection[str] = ()) -> bool:
        """Whether a live worker, other than those, could take a job that needs that."""
        return any(offers.id not in but and offers.serves(needs) for offers in self.offers)

    def lacking(self, label: str, engine: str, model: str) -> list[str]:
        """The names of those who would run that model, and cannot have it for now."""
        return sorted({one.name for one in self.offers if one.label == label and one.lacks(engine, model)})

    def unheeded(self, needs: str, options: Collection[str]) -> list[str]:
        """Those of these options that none of them heeds who could do it; nothing if there is nobody."""
        engine = needs.partition(":")[2].partition(" ")[0]
        each = [offers.unheeded(engine, options) for offers in self.offers if offers.serves(needs)]
        return min(each, key=len, default=[])

    def has_another_word(self, needs: str, culprits: Collection[str], tokens: Mapping[str, str | None]) -> bool:
        """Whether a job that these have failed needs the word of somebody who is there: a second worker, or token."""
        spoken = {tokens[culprit] for culprit in culprits}
        others = [one for one in self.offers if one.id not in culprits and one.serves(needs)]
        return any(len(culprits) < 2 or (len(spoken) < 2 and one.token_id not in spoken) for one in others)

    def has_spent(self, needs: str, charged: int, culprits: Collection[str], tokens: Mapping[str, str | None]) -> bool:
        """Whether a job with so many charged attempts, by those, has had its share.

        Where somebody else could take it, it is tried on two workers, but never more than twice as often.
        """
        most = self._policy.max_attempts
        if charged < most:
            return False
        return charged >= 2 * most or not self.has_another_word(needs, culprits, tokens)


def drain(tx: Transaction, worker_id: str) -> None:
    """Tell a worker, by its next answer, to finish what it holds and leave; told again, nothing changes."""
    _tell(tx, worker_id, "draining", ("live",), events.WorkerDraining)


def dismiss(tx: Transaction, worker_id: str) -> None:
    """Tell a worker, by its next answer, to hand everything back and leave at once."""
    _tell(tx, worker_id, "dismissed", ("live", "draining"), events.WorkerDismissed)


def pause(tx: Transaction, worker_id: str, paused: bool = True) -> None:
    """Give a worker no more jobs, or some again; it stays, and finishes what it holds."""
    worker = _present(tx, worker_id)
    if worker.paused != paused:
        tx.change(PAUSE, {"me": worker_id, "paused": paused})
        said = events.WorkerPaused if paused else events.WorkerResumed
        emit(tx, said(worker_id=worker_id, name=worker.name), owner=worker.owner)


def want_hours(tx: Transaction, worker_id: str, hours: str | None, author: str) -> None:
    """Have all workers of this one's name work in these hours; empty is any, None as they were started."""
    worker = _present(tx, worker_id)
    if hours is None:
        tx.change(FORGET_HOURS, {"name": worker.name})
    else:
        tx.change(WANT_HOURS, {"name": worker.name, "hours": hours})
    said = events.WorkerHoursChanged(worker_id=worker_id, name=worker.name, hours=hours, author=author)
    emit(tx, said, owner=worker.owner)


def _tell(
    tx: Transaction, worker_id: str, state: WorkerState, before: Collection[str],
    said: type[events.WorkerDraining | events.WorkerDismissed],
) -> None:  # fmt: skip
    worker = _present(tx, worker_id)
    if worker.state in before:
        tx.change(TELL, {"me": worker_id, "state": state})
        emit(tx, said(worker_id=worker_id, name=worker.name), owner=worker.owner)


def _present(tx: Transaction, worker_id: str) -> Worker:
    worker = tx.one(FIND, {"me": worker_id}, f"worker {worker_id}")
    if worker.state == "gone":
        raise WrongState(f"The worker {worker_id} is gone already.")
    return worker


def leave(tx: Transaction, worker_id: str) -> None:
    """Say of this worker that it is gone."""
    _gone(tx, tx.rows(LEAVE, {"me": worker_id}))


def give_up_silent(tx: Transaction, before: float) -> int:
    """Say of all workers not seen since then that they are gone; returns how many."""
    return _gone(tx, tx.rows(GIVE_UP, {"before": before}))


def _gone(tx: Transaction, workers: Sequence[tuple[str, str, str]]) -> int:
    if workers:
        tx.change(LEAVE_NOTHING)
    for worker_id, owner, name in sorted(workers):
        emit(tx, events.WorkerGone(worker_id=worker_id, name=name), owner=owner)
    return len(workers)
