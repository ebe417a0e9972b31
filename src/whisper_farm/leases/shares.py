"""Owners take turns: whoever was given least while others waited goes first, whatever priority the others have.

Nobody has a claim on what was idle before: whoever comes anew starts where the owner stood that was served last. Where
one owner waits alone, nothing is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from whisper_farm.leases.attempts import Job
from whisper_farm.store.database import Transaction
from whisper_farm.store.statements import Change, Query

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
