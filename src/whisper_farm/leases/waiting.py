"""Who is next: the queued jobs in order, read once for all claims of a transaction, and the owners, who take turns.

The owner who was given least while others waited goes first, whatever priority the others have. Nobody has a claim on
what was idle before: whoever comes anew starts where the owner stood that was served last. Where one owner waits alone,
nothing is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from whisper_farm.leases.attempts import FROM_JOBS, JOB, Job
from whisper_farm.store.database import Transaction
from whisper_farm.store.statements import Change, Query

MOST_AT_ONCE = 32
"""Jobs of one flow that are read at once, however many are asked for."""
ORDER = "jobs.priority DESC, jobs.turn, jobs.position, jobs.created_at, jobs.id"
CLAIMABLE = """jobs.state = 'queued' AND jobs.available_at <= :now
       AND (jobs.left_by IS NULL OR jobs.left_by <> :me OR jobs.available_at <= :lately)"""
"""Queued jobs whose time has come, but for those that this worker leaves to others."""
FIRST_IDS = f"SELECT jobs.id FROM jobs WHERE jobs.flow = waiting.flow AND {CLAIMABLE} ORDER BY {ORDER} LIMIT :most"
HOPS = """
    WITH RECURSIVE waiting (flow) AS (
        SELECT min(flow) FROM jobs WHERE state = 'queued'
         UNION ALL
        SELECT (SELECT min(flow) FROM jobs WHERE state = 'queued' AND jobs.flow > waiting.flow)
          FROM waiting WHERE waiting.flow IS NOT NULL)"""
BY_ID = f"""JOIN jobs ON jobs.id = one.value JOIN transcriptions ON transcriptions.id = jobs.transcription_id
     ORDER BY {ORDER}"""
FIRST = Query[Job](
    f"""{HOPS}
    SELECT {JOB} FROM waiting JOIN json_each((SELECT json_group_array(id) FROM ({FIRST_IDS}))) AS one {BY_ID}
    """,
    postgres=f"""{HOPS}
    SELECT {JOB} FROM waiting CROSS JOIN LATERAL unnest(ARRAY({FIRST_IDS})) AS one (value) {BY_ID}
    """,
)
"""The first claimable jobs of each flow, by hops along `ix_jobs_heads`, however long the queue is."""
NEXT = Query[Job](f"""
    SELECT {JOB} {FROM_JOBS}
     WHERE jobs.profile_id = :profile AND jobs.flow = :flow AND {CLAIMABLE}
     ORDER BY {ORDER} LIMIT :limit
""")
"""The next jobs of one profile and owner: a walk along `ix_jobs_queued`, stopped by the limit."""
MOMENTS = Query[tuple[float | None, float | None]]("""
    SELECT (SELECT min(lease_until) FROM attempts WHERE state = 'live' AND lease_until > :now) AS lapse,
           (SELECT min(available_at) FROM jobs
             WHERE state = 'queued' AND available_at > 0 AND available_at > :now) AS retry
""")
FIRST_TURN = Query[int]("""
    SELECT turn FROM jobs
     WHERE state = 'queued' AND flow = :flow AND priority = :priority AND available_at <= :now
     ORDER BY turn LIMIT 1
""")
FARM_TURN = Query[int]("SELECT turn FROM farm")
THE_FARM = ""
"""Stands for the owner who was served last."""
SERVED = Query[tuple[str, int]](f"""
    SELECT name, served FROM owners WHERE name IN :owners UNION ALL SELECT '{THE_FARM}', served FROM farm
""")
GIVEN = Change("""
    INSERT INTO owners (name, served) VALUES (:owner, :served)
    ON CONFLICT (name) DO UPDATE SET served = excluded.served
""")
ADVANCE = Change("UPDATE farm SET served = :served WHERE served < :served")


@dataclass
class Waiting:
    """What waits for a worker that leaves jobs to others (`me`), or for all who leave none.

    No claim asks for more than `most` jobs of a kind, nor do all together. `taken` wait no longer.
    """

    tx: Transaction
    most: int
    lately: float
    me: str = ""
    taken: set[str] = field(default_factory=set)

    def but_left_by(self, worker_id: str) -> Waiting:
        """The same for a worker that leaves some of it to others."""
        return replace(self, me=worker_id)

    def heads(self) -> list[Job]:
        """The next job of each flow."""
        if any(len(jobs) == self._at_once and not self._free(flow) for flow, jobs in self._first.items()):
            del self._first  # there may be more behind them
        return [free[0] for flow in self._first if (free := self._free(flow))]

    def next(self, profile: str, flow: str, limit: int) -> list[Job]:
        """The next jobs of one profile in a flow."""
        found = [job for job in self._free(flow) if job.profile_id == profile][:limit]
        if len(found) == limit or len(self._first.get(flow, ())) < self._at_once:
            return found
        asked = {"me": self.me, "lately": self.lately, "profile": profile, "flow": flow, "limit": limit}
        return self.tx.rows(NEXT, asked)

    @property
    def _at_once(self) -> int:
        return min(self.most, MOST_AT_ONCE)

    @cached_property
    def _first(self) -> dict[str, list[Job]]:
        """The first jobs of each flow."""
        found: dict[str, list[Job]] = {}
        for job in self.tx.rows(FIRST, {"me": self.me, "lately": self.lately, "most": self._at_once}):
            found.setdefault(job.flow, []).append(job)
        return found

    def _free(self, flow: str) -> list[Job]:
        return [job for job in self._first.get(flow, ()) if job.job_id not in self.taken]


class Shares:
    """What the owners who wait were given."""

    def __init__(self, tx: Transaction, owners: Collection[str]) -> None:
        self._tx = tx
        self._had: dict[str, int] = {}
        if len(owners) > 1:
            known = dict(tx.rows(SERVED, {"owners": sorted(owners)}))
            self._had = {owner: max(known.get(owner, 0), known[THE_FARM]) for owner in owners}

    def of(self, owner: str) -> int:
        """How many jobs this owner had; 0 where it waits alone."""
        return self._had.get(owner, 0)

    def count(self, jobs: Sequence[Job]) -> None:
        """Note who was given these, while others waited."""
        if not (self._had and jobs):
            return
        given = Counter(job.owner for job in jobs)
        self._had |= {owner: self._had[owner] + count for owner, count in given.items()}
        self._tx.change(ADVANCE, {"served": self._had[jobs[-1].owner] - 1})
        self._tx.change(GIVEN, [{"owner": owner, "served": self._had[owner]} for owner in sorted(given)])


def next_due(tx: Transaction) -> float | None:
    """Seconds until the next lapse or the end of the next back-off: both come in silence. None: nothing pending.

    What grows old slowly has no moment of its own: a job that may be hedged, or is left to others no longer. Claims
    that wait are tried every few seconds anyway.
    """
    moments = [at for row in tx.rows(MOMENTS) for at in row if at is not None]
    return min(moments) - tx.now if moments else None


def present_turn(tx: Transaction, flow: str, priority: int) -> int:
    """The turn at which work of that flow and priority is being handed out."""
    turn = tx.first(FIRST_TURN, {"flow": flow, "priority": priority})
    return farm_turn(tx) or 0 if turn is None else turn


def farm_turn(tx: Transaction) -> int | None:
    """The largest turn handed out so far; None before the first transcription."""
    return tx.first(FARM_TURN)
